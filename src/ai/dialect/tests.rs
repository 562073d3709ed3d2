//! Golden tables of every dialect (`tests/fixtures/ai/<dialect>/`), and what must hold of any translation.
//!
//! Inputs are what a client or a provider of the folder's dialect says; beside each stands what the other dialect makes
//! of it. `SLUICEGATE_UPDATE=1` writes the expectations anew; read them before you keep them.

mod tables;

use super::chat::{Dropped, Event};
use super::*;
use crate::ai::eventstream::tests::encoded;
use crate::ai::framing::Framing;
use crate::ai::sse::{Frame, Parser};
use proptest::prelude::*;
use serde_json::json;
use std::path::{Path, PathBuf};
use tables::{ANSWERS, REQUESTS};

const WANTED: Wanted = Wanted { created: 1_767_225_600, usage: true };
/// Where arguments may be any text, and where an answer cannot be told to end at one.
const FREE_ARGUMENTS: [Dialect; 2] = [Dialect::Responses, Dialect::Completions];

fn folder(dialect: Dialect) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ai").join(dialect.as_str())
}

/// The inputs of a dialect whose names begin so.
fn inputs(dialect: Dialect, begin: &str) -> Vec<(PathBuf, String)> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder(dialect)).unwrap().map(|e| e.unwrap().path()).collect();
    found.sort();
    let name = |p: &PathBuf| p.file_name().unwrap().to_str().unwrap().to_owned();
    found.retain(|p| name(p).starts_with(begin) && name(p).matches('.').count() == 1);
    assert!(found.len() > 1, "{begin} of {dialect:?}: {found:?}");
    found.into_iter().map(|p| (p.clone(), std::fs::read_to_string(p).unwrap())).collect()
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Compares with what stands beside the input.
fn golden(input: &Path, to: Dialect, got: &str) {
    let kind = input.extension().unwrap().to_str().unwrap().replace("jsonl", "sse");
    let beside = input.with_extension(format!("{}.{kind}", to.as_str()));
    if std::env::var_os("SLUICEGATE_UPDATE").is_some() {
        std::fs::write(&beside, got).unwrap();
    }
    let want = std::fs::read_to_string(&beside).unwrap_or_default();
    assert_eq!(got, want, "{}", beside.display());
}

fn pretty(v: &Value) -> String {
    serde_json::to_string_pretty(v).unwrap() + "\n"
}

fn target(thinking: yaml::Thinking) -> Target<'static> {
    Target { model: "up-1", max_tokens: 8192, thinking }
}

/// What the gateway adds to answers without a name.
fn named(from: Dialect, mut answer: Value) -> Value {
    from.wire().name(&mut answer, &Identity { id: "req-1".to_owned(), model: "best".to_owned() });
    answer
}

/// A stream as its provider sends it.
fn bytes_of(from: Dialect, text: &str) -> Vec<u8> {
    if from == Dialect::Bedrock { encoded(text) } else { text.as_bytes().to_vec() }
}

fn fields(v: &Value) -> Fields {
    v.as_object().unwrap().clone()
}

#[test]
fn requests_are_translated_as_the_tables_say() {
    for pair in REQUESTS {
        for (path, text) in inputs(pair.0, "request-") {
            // The names of Bedrock's models tell who made them, and that decides on some of the words.
            let model = if pair.1 == Dialect::Bedrock { "eu.anthropic.up-1" } else { "up-1" };
            let target = Target { model, ..target(yaml::Thinking::Adaptive) };
            let got = match request(pair, &fields(&json_of(&text)), &target) {
                Ok((body, dropped)) => json!({ "dropped": dropped.told(), "body": body }),
                Err(e) => json!({ "refused": format!("{} {}", e.param, e.message) }),
            };
            let refused = path.to_str().unwrap().contains("request-refused");
            // Gemini and Bedrock take no picture by URL, Responses no text that ends an answer.
            let by_url = matches!(pair.1, Dialect::Gemini | Dialect::Bedrock) && text.contains("https://example.com/");
            let stops = pair.1 == Dialect::Responses && (text.contains("\"stop\":") || text.contains("stop_sequences"));
            let free = FREE_ARGUMENTS.contains(&pair.1) && path.to_str().unwrap().contains("refused_arguments");
            assert_eq!(
                got.get("refused").is_some(),
                (refused && !free) || by_url || stops,
                "{}: {got}",
                path.display()
            );
            golden(&path, pair.1, &pretty(&got));
        }
    }
}

#[test]
fn answers_are_translated_as_the_tables_say() {
    for pair in ANSWERS {
        for (path, text) in inputs(pair.0, "answer-") {
            let mut dropped = Dropped::default();
            let got = match answer(pair, &named(pair.0, json_of(&text)), WANTED, &mut dropped) {
                Ok(body) => json!({ "dropped": dropped.told(), "body": body }),
                Err(Garbage) => json!({ "garbage": true }),
            };
            let free = FREE_ARGUMENTS.contains(&pair.1) && path.to_str().unwrap().contains("garbage_arguments");
            let garbage = path.to_str().unwrap().contains("garbage") && !free;
            assert_eq!(got.get("garbage").is_some(), garbage, "{}", path.display());
            golden(&path, pair.1, &pretty(&got));
        }
    }
}

#[test]
fn errors_are_translated_as_the_tables_say() {
    for (from, to) in ANSWERS {
        for (path, text) in inputs(from, "error-") {
            let told = json_of(&text);
            let status = StatusCode::from_u16(u16::try_from(told["status"].as_u64().unwrap()).unwrap()).unwrap();
            let fields = told["headers"].as_object().into_iter().flatten();
            let headers = fields.map(|(n, v)| (n.parse().unwrap(), v.as_str().unwrap().parse().unwrap())).collect();
            let (status, body) = match from.wire().refusal(&headers, Some(&told["body"])) {
                Some((known, body)) => (known.unwrap_or(status), body),
                None => (status, told["body"].clone()),
            };
            let status = to.wire().status(status);
            let body = to.wire().error(status, &from.wire().fault(&body));
            golden(&path, to, &pretty(&json!({ "status": status.as_u16(), "body": body })));
        }
    }
}

/// The frames that a provider's bytes spell, however they are cut.
fn frames(from: Dialect, parts: &[&[u8]]) -> Vec<Frame> {
    let mut parser = Framing::of(from.wire().stream_type());
    let mut frames: Vec<_> = parts.iter().flat_map(|p| parser.push(p).unwrap()).collect();
    frames.extend(parser.finish().unwrap_or_else(|e| panic!("{e}")));
    frames
}

/// A provider's bytes as the client's, and the answer that they spell. A stream that makes no sense ends in `GARBAGE`,
/// one that is cut in `CUT`: what stands before must be the same.
fn translated((from, to): (Dialect, Dialect), parts: &[&[u8]]) -> (String, Option<Value>) {
    let (mut reader, mut writer) = (from.wire().reader(), to.wire().writer(WANTED));
    let mut recorder = to.wire().recorder(1 << 20);
    let mut out = String::new();
    for frame in frames(from, parts) {
        let mut events = Vec::new();
        let seen = match from.wire().look(&frame) {
            Seen::Data(chunk) => Seen::Data(named(from, chunk)),
            other => other,
        };
        let sense = match &seen {
            Seen::Blank => continue,
            Seen::Data(chunk) => reader.read(chunk, &mut events),
            Seen::End(mark) => reader.read(mark, &mut events).and_then(|()| reader.end(&mut events)),
            Seen::Error(e) => {
                out += &to.wire().framed(&to.wire().error(StatusCode::BAD_GATEWAY, &from.wire().fault(e)));
                return (out + "CUT", None);
            }
            Seen::Garbage => Err(Garbage),
        };
        let mut chunks = Vec::new();
        events.into_iter().filter(|e| *e != Event::Ping).for_each(|e| writer.write(e, &mut chunks));
        for chunk in &chunks {
            recorder.add(chunk, 1);
            out += &to.wire().framed(chunk);
        }
        match (sense, seen) {
            (Err(Garbage), _) => return (out + "GARBAGE", None),
            (Ok(()), Seen::End(_)) => return (out + to.wire().close(), recorder.answer()),
            _ => {}
        }
    }
    let mut events = Vec::new();
    // A stream without a mark of its end has ended when its answer has.
    if reader.may_end() && reader.end(&mut events).is_ok() {
        let mut chunks = Vec::new();
        events.into_iter().for_each(|e| writer.write(e, &mut chunks));
        for chunk in &chunks {
            recorder.add(chunk, 1);
            out += &to.wire().framed(chunk);
        }
        return (out + to.wire().close(), recorder.answer());
    }
    (out + "CUT", None)
}

#[test]
fn streams_are_translated_as_the_tables_say_however_the_bytes_are_cut() {
    for pair in ANSWERS {
        for (path, text) in inputs(pair.0, "stream-") {
            let bytes = bytes_of(pair.0, &text);
            let (whole, recorded) = translated(pair, &[&bytes]);
            golden(&path, pair.1, &whole);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(translated(pair, &single).0, whole, "byte by byte: {}", path.display());
            let uncut = frames(pair.0, &[&bytes]);
            for at in 0..bytes.len() {
                let (a, b) = bytes.split_at(at);
                assert_eq!(frames(pair.0, &[a, b]), uncut, "cut at {at}: {}", path.display());
            }
            let last = whole.trim_end().rsplit("\n\n").next().unwrap();
            let clean = match pair.1 {
                Dialect::Anthropic => last.starts_with("event: message_stop\n"),
                Dialect::Responses => {
                    ["completed", "incomplete"].iter().any(|w| last.contains(&format!("event: response.{w}\n")))
                }
                Dialect::Gemini => whole.ends_with("}\n\n") && whole.contains("\"finishReason\""),
                _ => last == "data: [DONE]",
            };
            let broken = ["cut", "error", "endless"].iter().any(|w| path.to_str().unwrap().contains(w));
            assert_eq!((clean, recorded.is_some()), (!broken, !broken), "{}", path.display());
        }
    }
}

/// A stream says the same as the whole answer that it spells: recorded in the provider's dialect and translated, or
/// translated and recorded in the client's.
#[test]
fn a_stream_and_a_whole_answer_are_translated_alike() {
    for (from, to) in ANSWERS {
        for (path, text) in inputs(from, "stream-") {
            let (_, Some(recorded)) = translated((from, to), &[&bytes_of(from, &text)]) else { continue };
            let mut recorder = from.wire().recorder(1 << 20);
            let mut parser = Parser::default();
            for frame in parser.push(text.as_bytes()).unwrap() {
                if let Seen::Data(chunk) | Seen::End(chunk) = from.wire().look(&frame) {
                    recorder.add(&chunk, 1);
                }
            }
            let own = match from {
                // Bedrock has no clients, so nothing records its streams, but its answers of the same names say the same.
                Dialect::Bedrock => {
                    let beside = path.to_str().unwrap().replace("stream-", "answer-").replace("jsonl", "json");
                    let Ok(text) = std::fs::read_to_string(beside) else { continue };
                    named(from, json_of(&text))
                }
                _ => recorder.answer().unwrap_or_else(|| panic!("{}", path.display())),
            };
            let whole = answer((from, to), &own, WANTED, &mut Dropped::default()).unwrap();
            let plain = |mut v: Value| {
                // Streamed arguments keep the provider's white space.
                let calls = v.pointer_mut("/choices/0/message/tool_calls").and_then(Value::as_array_mut);
                for arguments in calls.into_iter().flatten().filter_map(|c| c.pointer_mut("/function/arguments")) {
                    *arguments = json_of(arguments.as_str().unwrap());
                }
                for item in v.get_mut("output").and_then(Value::as_array_mut).into_iter().flatten() {
                    if let Some(arguments) = item.get_mut("arguments") {
                        *arguments = json_of(arguments.as_str().unwrap());
                    }
                }
                // Choices of a stream may carry `logprobs: null` or not; whole answers always do.
                if let Some(choice) = v.pointer_mut("/choices/0").and_then(Value::as_object_mut) {
                    choice.remove("logprobs");
                }
                v
            };
            assert_eq!(plain(recorded), plain(whole), "{}", path.display());
        }
    }
}

#[test]
fn replaying_a_recorded_message_gives_the_same_message() {
    for dialect in [Dialect::Anthropic, Dialect::Gemini] {
        for (path, text) in inputs(dialect, "answer-") {
            let answer = json_of(&text);
            let stream = dialect.wire().replay(&answer, false).unwrap();
            let (mut recorder, mut parser) = (dialect.wire().recorder(1 << 20), Parser::default());
            for frame in parser.push(stream.as_bytes()).unwrap() {
                match dialect.wire().look(&frame) {
                    Seen::Data(chunk) | Seen::End(chunk) => recorder.add(&chunk, 1),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(recorder.answer().unwrap(), answer, "{}", path.display());
        }
    }
}

#[test]
fn an_older_model_is_told_to_think_by_a_budget_that_fits() {
    let ask = |max: u64| json!({ "model": "m", "max_tokens": max, "reasoning_effort": "high", "messages": [{ "role": "user", "content": "x" }] });
    let told = |max| {
        let pair = (Dialect::Openai, Dialect::Anthropic);
        let (body, dropped) = request(pair, &fields(&ask(max)), &target(yaml::Thinking::Budget)).unwrap();
        (body["thinking"].clone(), dropped.told())
    };
    assert_eq!(told(64_000), (json!({ "type": "enabled", "budget_tokens": 16_384 }), None));
    assert_eq!(told(4_000), (json!({ "type": "enabled", "budget_tokens": 3_999 }), None));
    assert_eq!(told(1_024), (Value::Null, Some("reasoning_effort".to_owned())), "no room for the least budget");
}

#[test]
fn names_of_dropped_fields_are_bounded_and_fit_a_header() {
    let mut d = Dropped::default();
    d.note("a\r\nx-evil: 1");
    for i in 0..100 {
        d.note(&format!("{i}{}", "x".repeat(100)));
    }
    let told = d.told().unwrap();
    assert!(told.starts_with("a??x-evil??1,0xx") && told.ends_with(",+85") && told.len() < 1000, "{told}");
    assert_eq!(Dropped::default().told(), None);
}

fn any_part() -> impl Strategy<Value = Value> {
    prop_oneof![
        "\\PC{0,12}".prop_map(|t| json!({ "content": t })),
        "\\PC{1,12}".prop_map(|t| json!({ "reasoning_content": t })),
        (0usize..3, "[a-z]{0,3}", "[a-z]{0,3}", "[{}\":a-z\\\\]{0,8}").prop_map(|(k, id, name, arguments)| {
            json!({ "tool_calls": [{ "index": k, "id": id, "function": { "name": name, "arguments": arguments } }] })
        }),
        Just(json!({ "tool_calls": [{ "index": u64::MAX }] })),
        Just(json!({ "content": null })),
    ]
}

proptest! {
    /// Whatever a provider streams: every block that begins ends once, deltas go to open blocks, and the message ends
    /// after all of them or not at all.
    #[test]
    fn blocks_of_a_written_message_are_well_formed(parts in prop::collection::vec(any_part(), 0..24)) {
        let (mut reader, mut writer) = (Dialect::Openai.wire().reader(), Dialect::Anthropic.wire().writer(WANTED));
        let (mut chunks, mut sense) = (Vec::new(), Ok(()));
        let stop = json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] });
        let all = parts.iter().map(|delta| json!({ "id": "x", "choices": [{ "index": 0, "delta": delta }] })).chain([stop]);
        for chunk in all {
            let mut events = Vec::new();
            sense = sense.and_then(|()| reader.read(&chunk, &mut events));
            events.into_iter().for_each(|e| writer.write(e, &mut chunks));
        }
        let mut events = Vec::new();
        sense = sense.and_then(|()| reader.end(&mut events));
        events.into_iter().for_each(|e| writer.write(e, &mut chunks));
        let (mut open, mut next) = (std::collections::BTreeSet::new(), 0);
        for c in &chunks {
            let index = c["index"].as_u64();
            match c["type"].as_str().unwrap() {
                "content_block_start" => {
                    prop_assert_eq!(index, Some(next));
                    next += 1;
                    open.insert(index);
                }
                "content_block_delta" => prop_assert!(open.contains(&index)),
                "content_block_stop" => prop_assert!(open.remove(&index)),
                "message_delta" | "message_stop" => prop_assert!(open.is_empty()),
                _ => {}
            }
        }
        prop_assert_eq!(sense.is_ok(), chunks.last().is_some_and(|c| c["type"] == "message_stop"));
    }

    #[test]
    fn no_request_and_no_answer_makes_a_translation_panic(text in "\\PC{0,40}", n in any::<i64>()) {
        let odd = [json!(text), json!(n), json!(null), json!([text]), json!({ "type": text, "role": text, "content": n })];
        for name in ["messages", "contents", "generationConfig", "toolConfig", "tools", "tool_choice", "system", "stop", "response_format", "output_config", "thinking"] {
            for v in &odd {
                for (pair, back) in REQUESTS.into_iter().zip(ANSWERS) {
                    for v in [v.clone(), json!([v])] {
                        let body = json!({ "model": "m", "messages": [], name: v });
                        let _ = request(pair, &fields(&body), &target(yaml::Thinking::Adaptive));
                        let told = json!({ "choices": [{ "message": v }], "content": v, "usage": v, "stop_reason": text, "candidates": v });
                        let _ = answer(back, &told, WANTED, &mut Dropped::default());
                        let mut events = Vec::new();
                        let _ = back.0.wire().reader().read(&json!({ "choices": v, "type": text, "delta": v, "candidates": v }), &mut events);
                    }
                }
            }
        }
    }
}
