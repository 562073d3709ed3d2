//! A scripted model provider, on top of the scripted origin: it counts calls and can misbehave. It speaks OpenAI's
//! dialect at `/v1/chat/completions`, Anthropic's at `/v1/messages` and Gemini's at `/v1/models/{model}:{method}`.

use super::origin::{Gate, Origin, Seen, Step, chunk, chunked, reply};
use super::{gemini, messages};
use serde_json::{Value, json};
use std::time::Duration;

/// Tool calls: id, name, arguments as JSON.
pub type Calls = Vec<(&'static str, &'static str, &'static str)>;

/// How the provider treats one call.
#[derive(Clone)]
pub enum Play {
    /// A good answer with this text; streamed if the call asks for it, a word per event.
    Say(String),
    /// A good answer with this text and these tool calls.
    Tools(String, Calls),
    /// A good streamed answer whose words after the first wait, one permit each.
    Gated(String, Gate),
    /// A good answer that begins only when the gate opens.
    Late(String, Gate),
    /// An error status with a body of the dialect's shape.
    Fail(u16),
    /// Status 200 and a body that is no JSON.
    Garbage,
    /// A stream cut after this many words, without an end; a whole answer cut in its middle.
    CutAfter(String, usize),
    /// No answer for a long time.
    Hang,
}

/// What is spoken.
#[derive(Clone, Copy, PartialEq)]
enum Speech {
    Openai,
    Anthropic,
    Gemini,
}

/// What is spoken where chats arrive.
fn speech(target: &str) -> Option<Speech> {
    match target {
        "/v1/chat/completions" => Some(Speech::Openai),
        "/v1/messages" => Some(Speech::Anthropic),
        _ if target.starts_with("/v1/models/") => Some(Speech::Gemini),
        _ => None,
    }
}

fn other(seen: &Seen) -> Vec<Step> {
    let (status, body) = match seen.target.as_str() {
        "/v1/messages/count_tokens" => (200, json!({ "input_tokens": 42 })),
        "/v1/embeddings" => (200, embedding(&seen.json())),
        _ => (404, error("no such endpoint")),
    };
    reply(status, &[("content-type", "application/json")], body.to_string())
}

/// The provider.
#[derive(Clone)]
pub struct Llm {
    origin: Origin,
}

impl Llm {
    /// Plays `script` for each chat call; embeddings and the model list are answered by themselves.
    pub async fn start(script: impl Fn(&Value, &Seen) -> Play + Send + Sync + 'static) -> Llm {
        let origin = Origin::start(move |seen| match speech(&seen.target) {
            Some(speech) => {
                let call = seen.json();
                let stream = call["stream"].as_bool().unwrap_or(false) || seen.target.ends_with("?alt=sse");
                steps(script(&call, seen), &call, (speech, stream))
            }
            None => other(seen),
        })
        .await;
        Llm { origin }
    }

    /// Says the same to everybody.
    pub async fn saying(text: &str) -> Llm {
        let text = text.to_owned();
        Llm::start(move |_, _| Play::Say(text.clone())).await
    }

    /// Repeats the question: a wrong answer from a cache shows at once.
    pub async fn echo() -> Llm {
        Llm::start(|call, _| Play::Say(format!("You said: {}", question(call)))).await
    }

    /// The base URL for the YAML.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.origin.address)
    }

    /// How many chat calls have arrived.
    pub fn calls(&self) -> usize {
        self.origin.seen().iter().filter(|seen| speech(&seen.target).is_some()).count()
    }

    /// How many calls the gateway gave up before they were answered.
    pub fn abandoned(&self) -> usize {
        self.origin.abandoned()
    }

    /// The last request.
    pub fn last(&self) -> Seen {
        self.origin.last()
    }
}

/// The text of the last message.
pub fn question(call: &Value) -> String {
    let all = call["messages"].as_array().or_else(|| call["contents"].as_array());
    let last = all.and_then(|m| m.last()).cloned().unwrap_or_default();
    if let Some(text) = last["parts"][0]["text"].as_str() {
        return text.to_owned();
    }
    last["content"].as_str().map_or_else(|| last["content"].to_string(), str::to_owned)
}

/// A chat call with one user message.
pub fn chat(model: &str, text: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": text }], "temperature": 0 })
}

/// The same as a stream.
pub fn streamed(model: &str, text: &str) -> Value {
    let mut call = chat(model, text);
    call["stream"] = json!(true);
    call
}

/// The text of a whole answer.
pub fn answer_text(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap_or("")
}

fn steps(play: Play, call: &Value, (speech, stream): (Speech, bool)) -> Vec<Step> {
    let json_head = [("content-type", "application/json")];
    let (text, calls, gate) = match play.clone() {
        Play::Tools(text, calls) => (text, calls, None),
        Play::Gated(text, gate) => (text, Calls::new(), Some(gate)),
        Play::Say(text) | Play::CutAfter(text, _) => (text, Calls::new(), None),
        _ => Default::default(),
    };
    let good = || match (stream, speech) {
        (true, Speech::Openai) => events(&text, &calls, call, gate.clone()),
        (true, Speech::Anthropic) => messages::events(&text, &calls, call, gate.clone()),
        (true, Speech::Gemini) => gemini::events(&text, &calls, gate.clone()),
        (false, Speech::Openai) => reply(200, &json_head, whole(&text, &calls, call).to_string()),
        (false, Speech::Anthropic) => reply(200, &json_head, messages::whole(&text, &calls, call).to_string()),
        (false, Speech::Gemini) => reply(200, &json_head, gemini::whole(&text, &calls).to_string()),
    };
    let fail = |status: u16| match speech {
        Speech::Openai => error("scripted failure"),
        Speech::Anthropic => messages::error(status, "scripted failure"),
        Speech::Gemini => gemini::error(status, "scripted failure"),
    };
    match play {
        Play::Say(_) | Play::Tools(..) | Play::Gated(..) => good(),
        Play::Late(text, gate) => [vec![Step::Wait(gate)], steps(Play::Say(text), call, (speech, stream))].concat(),
        Play::Fail(status) => reply(status, &json_head, fail(status).to_string()),
        Play::Garbage => reply(200, &json_head, "<html>this is no JSON"),
        Play::CutAfter(_, words) if stream => {
            let mut steps = good();
            // What comes before the words: the head and the role event, or the head and three events.
            steps.truncate(if speech == Speech::Anthropic { 4 } else { 2 } + words);
            steps.push(Step::Cut);
            steps
        }
        Play::CutAfter(..) => {
            let mut bytes = match good().remove(0) {
                Step::Send(bytes) => bytes,
                _ => Vec::new(),
            };
            bytes.truncate(bytes.len() - 10);
            vec![Step::Send(bytes), Step::Cut]
        }
        Play::Hang => vec![Step::Pause(Duration::from_secs(600))],
    }
}

fn usage(text: &str) -> Value {
    let words = text.split_whitespace().count();
    json!({ "prompt_tokens": 10, "completion_tokens": words, "total_tokens": 10 + words })
}

fn tool_calls(calls: &Calls) -> Vec<Value> {
    let call = |(id, name, arguments): &(&str, &str, &str)| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
    calls.iter().map(call).collect()
}

/// A complete answer in OpenAI's dialect.
pub fn whole(text: &str, calls: &Calls, call: &Value) -> Value {
    let mut message = json!({ "role": "assistant", "content": text });
    if !calls.is_empty() {
        message["tool_calls"] = tool_calls(calls).into();
    }
    let finish = if calls.is_empty() { "stop" } else { "tool_calls" };
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": call["model"],
        "choices": [{ "index": 0, "message": message, "finish_reason": finish }],
        "usage": usage(text),
    })
}

/// The same as a stream: the head and the role event, then a word per event, then the calls.
pub fn events(text: &str, calls: &Calls, call: &Value, gate: Option<Gate>) -> Vec<Step> {
    let event = |delta: Value, finish: Value| {
        let data = json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": call["model"],
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
        });
        chunk(format!("data: {data}\n\n"))
    };
    let mut steps = vec![chunked(200, &[("content-type", "text/event-stream")])];
    steps.push(event(json!({ "role": "assistant", "content": "" }), Value::Null));
    for (index, word) in text.split_inclusive(' ').enumerate() {
        if let Some(gate) = gate.as_ref().filter(|_| index > 0) {
            steps.push(Step::Wait(gate.clone()));
        }
        steps.push(event(json!({ "content": word }), Value::Null));
    }
    for (index, mut head) in tool_calls(calls).into_iter().enumerate() {
        let arguments = head["function"]["arguments"].take();
        let (a, b) = arguments.as_str().unwrap().split_at(arguments.as_str().unwrap().len() / 2);
        (head["index"], head["function"]["arguments"]) = (json!(index), json!(""));
        steps.push(event(json!({ "tool_calls": [head] }), Value::Null));
        for part in [a, b] {
            let fragment = json!({ "index": index, "function": { "arguments": part } });
            steps.push(event(json!({ "tool_calls": [fragment] }), Value::Null));
        }
    }
    steps.push(event(json!({}), json!(if calls.is_empty() { "stop" } else { "tool_calls" })));
    if call["stream_options"]["include_usage"] == json!(true) {
        let data = json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": call["model"],
            "choices": [], "usage": usage(text),
        });
        steps.push(chunk(format!("data: {data}\n\n")));
    }
    steps.extend([chunk("data: [DONE]\n\n"), chunk("")]);
    steps
}

fn embedding(call: &Value) -> Value {
    let count = call["input"].as_array().map_or(1, Vec::len);
    let data: Vec<Value> =
        (0..count).map(|i| json!({ "object": "embedding", "index": i, "embedding": [0.5, -0.5, 0.25] })).collect();
    json!({ "object": "list", "data": data, "model": call["model"], "usage": { "prompt_tokens": 3, "total_tokens": 3 } })
}

/// An error in OpenAI's dialect.
pub fn error(message: &str) -> Value {
    json!({ "error": { "message": message, "type": "server_error", "param": null, "code": null } })
}
