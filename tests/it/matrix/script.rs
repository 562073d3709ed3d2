//! What the clients say and what every scripted provider answers: one script, in words common to all dialects.

use super::asked::{Asked, Piece, Read};
use serde_json::{Value, json};

/// The instructions of the scenario `chat`.
const SYSTEM: &str = "Answer briefly. Grüße an \"alle\" ✓";
/// What the client sends as an image: one pixel.
const IMAGE: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
/// What the tools return.
const RESULTS: [&str; 2] = ["{\"temperature\": 21, \"sky\": \"🌦️\"}", "12:30 \"sharp\"\n"];
/// Tokens in, of them read from the provider's cache, and out.
pub const USAGE: (u64, u64, u64) = (20, 8, 9);

/// What is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// The calls behind it: tool, and arguments as JSON text.
    pub calls: Vec<(&'static str, &'static str)>,
    /// What becomes of it.
    pub play: Play,
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Play {
    /// It comes whole.
    Whole,
    /// Instead of it comes an error with this status.
    Fail(u16),
    /// Its stream is cut after the first texts.
    Cut,
    /// Its stream has an error after the first texts.
    Break,
    /// Its stream says no more after the first texts.
    Stall,
}

/// The schema of the scenario `schema`.
fn schema() -> Value {
    json!({
        "type": "object",
        "properties": { "city": { "type": "string" }, "people": { "type": "integer" } },
        "required": ["city", "people"],
        "additionalProperties": false,
    })
}

/// The tools of the scenarios `tools` and `tools_stream`.
fn tools() -> Value {
    json!([
        {
            "name": "weather",
            "description": "Tells the weather: \"now\" & später",
            "schema": {
                "type": "object",
                "properties": {
                    "city": { "type": "string", "description": "the city's name" },
                    "days": { "type": "array", "items": { "type": "integer" } },
                    "how": { "type": "object", "properties": { "unit": { "type": "string", "enum": ["C", "F"] } } },
                },
                "required": ["city"],
            },
        },
        {
            "name": "clock",
            "description": "Tells the time",
            "schema": { "type": "object", "properties": { "zone": { "type": "string" } } },
        },
    ])
}

/// The calls that are made: tool and arguments.
const CALLS: [(&str, &str); 2] = [
    ("weather", r#"{"city": "Z\u00fcrich \"Altstadt\" \\ \ud83c\udf26 🌦️\n", "days": [1, 2], "how": {"unit": "C"}}"#),
    ("clock", r#"{"zone":"Europe/Zürich"}"#),
];

fn calls() -> Value {
    CALLS.iter().map(|(name, arguments)| json!([name, serde_json::from_str::<Value>(arguments).unwrap()])).collect()
}

/// What the SDK sessions must know, as JSON.
pub fn spec() -> Value {
    json!({
        "system": SYSTEM, "image": IMAGE, "schema": schema(), "tools": tools(), "calls": calls(), "results": RESULTS,
        "usage": [USAGE.0, USAGE.1, USAGE.2],
        "says": says("{model}"), "reads": reads("{model}"), "sees": sees("{model}"), "refuses": refuses("{model}"),
        "formed": formed("{model}"),
    })
}

fn says(provider: &str) -> String {
    format!("{provider} says: Grüße, 世界! 🚪 \"quoted\" \\ and\na second line.")
}

fn reads(provider: &str) -> String {
    format!("{provider} read: {} | {}", RESULTS[0], RESULTS[1])
}

fn sees(provider: &str) -> String {
    format!("{provider} sees one pixel of red.")
}

/// What a provider's errors say.
pub fn refuses(provider: &str) -> String {
    format!("{provider} says no: \"quoted\" ✗")
}

fn formed(provider: &str) -> String {
    json!({ "city": format!("{provider}-Stadt"), "people": 42 }).to_string()
}

/// A word of the user's last text, such as `chat` of `scenario:chat`.
pub fn word(text: &str, name: &str) -> Read<String> {
    let found = text.split_whitespace().find_map(|w| w.strip_prefix(name)?.strip_prefix(':'));
    found.map(str::to_owned).ok_or_else(|| format!("no {name}:… in the user's last text {text:?}"))
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, want: &T) -> Read<()> {
    if got == want { Ok(()) } else { Err(format!("{what}: got {got:?}, want {want:?}")) }
}

/// A text in pieces of so many characters.
pub fn pieces(text: &str, chars: usize) -> Vec<String> {
    let all: Vec<char> = text.chars().collect();
    all.chunks(chars).map(|c| c.iter().collect()).collect()
}

impl Answer {
    /// The text as a stream tells it: not all of it when the stream does not end well.
    pub fn streamed(&self) -> Vec<String> {
        let mut all = pieces(&self.text, 7);
        if self.play != Play::Whole {
            all.truncate(2);
        }
        all
    }
}

/// Checks that a provider was asked what the scenario's client said, and tells what it answers.
pub fn answer(provider: &str, asked: &Asked) -> Read<Answer> {
    asked.check_turns()?;
    same("model", &asked.model.as_str(), &format!("up-{provider}").as_str())?;
    let scenario = word(asked.last_text(), "scenario")?;
    let plain = |text: String| Answer { text, calls: Vec::new(), play: Play::Whole };
    let streams = ["stream", "tools_stream", "cut", "break", "cancel"].contains(&scenario.as_str());
    same("stream", &asked.stream, &streams)?;
    if !scenario.starts_with("tools") {
        same("tools", &asked.tools.len(), &0)?;
    }
    match scenario.as_str() {
        "chat" | "stream" => chat(provider, asked).map(plain),
        "tools" | "tools_stream" => tools_turn(provider, asked),
        "vision" => vision(asked).map(|()| plain(sees(provider))),
        "schema" => {
            same("schema", &asked.schema, &Some(schema()))?;
            Ok(plain(formed(provider)))
        }
        "cut" => Ok(Answer { play: Play::Cut, ..plain(says(provider)) }),
        "break" => Ok(Answer { play: Play::Break, ..plain(says(provider)) }),
        "cancel" => Ok(Answer { play: Play::Stall, ..plain(says(provider)) }),
        other => match other.strip_prefix("fail_").and_then(|s| s.parse().ok()) {
            Some(status) => Ok(Answer { play: Play::Fail(status), ..plain(refuses(provider)) }),
            None => Err(format!("no such scenario: {other}")),
        },
    }
}

/// Three turns with instructions and every common parameter.
fn chat(provider: &str, asked: &Asked) -> Read<String> {
    same("system", &asked.system.as_str(), &SYSTEM)?;
    same("turns", &asked.turns.len(), &3)?;
    same("turn 0", &asked.text_of(0).as_str(), &"Remember 17 & \"ä\".")?;
    same("turn 1", &asked.text_of(1).as_str(), &"Noted: 17.")?;
    same("max_tokens", &asked.max_tokens, &Some(300))?;
    same("temperature", &asked.temperature, &Some(0.5))?;
    // The Responses API has no stop texts: its clients cannot send any, and none are sent to its providers.
    let none = provider == "responses" || word(asked.last_text(), "run")?.contains("responses");
    let want = if none { Vec::new() } else { vec!["###".to_owned(), "Ende".to_owned()] };
    same("stop", &asked.stop, &want)?;
    Ok(says(provider))
}

fn vision(asked: &Asked) -> Read<()> {
    let pieces = &asked.turns[0].pieces;
    let images: Vec<&Piece> = pieces.iter().filter(|p| matches!(p, Piece::Image(..))).collect();
    same("images", &images, &vec![&Piece::Image("image/png".to_owned(), IMAGE.to_owned())])
}

/// The first turn asks for two tools at once; the second has read what they returned.
fn tools_turn(provider: &str, asked: &Asked) -> Read<Answer> {
    let offered: Vec<Value> =
        asked.tools.iter().map(|(n, d, s)| json!({ "name": n, "description": d, "schema": s })).collect();
    same("tools", &Value::from(offered), &tools())?;
    let wanted = calls();
    if asked.turns.len() == 1 {
        same("tool choice", &asked.must_call, &Some(true))?;
        return Ok(Answer { text: "Let me look. ".to_owned(), calls: CALLS.to_vec(), play: Play::Whole });
    }
    same("turns", &asked.turns.len(), &3)?;
    if asked.must_call == Some(true) {
        return Err("tool choice: the second turn leaves it to the model".to_owned());
    }
    let made = asked.turns[1].pieces.iter().filter_map(|p| match p {
        Piece::Call(_, name, arguments) => Some(json!([name, arguments])),
        _ => None,
    });
    same("calls", &Value::from(made.collect::<Vec<_>>()), &wanted)?;
    same("words before the calls", &asked.text_of(1).trim(), &"Let me look.")?;
    let ids = asked.turns[1].pieces.iter().filter_map(|p| if let Piece::Call(id, ..) = p { Some(id) } else { None });
    let mut got = Vec::new();
    for id in ids {
        let outcome = asked.turns[2].pieces.iter().find_map(|p| match p {
            Piece::Outcome(of, text) if of == id => Some(text.clone()),
            _ => None,
        });
        got.push(outcome.unwrap_or_default());
    }
    same("results", &got, &RESULTS.map(str::to_owned).to_vec())?;
    Ok(Answer { text: reads(provider), calls: Vec::new(), play: Play::Whole })
}
