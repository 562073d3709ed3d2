//! The scripted provider's answers in Gemini's dialect.

use super::llm::Calls;
use super::origin::{Gate, Step, chunk, chunked};
use serde_json::{Value, json};

fn piece(parts: Vec<Value>, finish: Option<&str>, words: usize) -> Value {
    let mut candidate = json!({ "content": { "parts": parts, "role": "model" }, "index": 0 });
    if let Some(reason) = finish {
        candidate["finishReason"] = json!(reason);
    }
    json!({
        "candidates": [candidate], "usageMetadata": { "promptTokenCount": 10, "candidatesTokenCount": words },
        "modelVersion": "gem-1", "responseId": "r1",
    })
}

fn call_parts(calls: &Calls) -> Vec<Value> {
    let part = |(i, (id, name, arguments)): (usize, &(&str, &str, &str))| {
        let args: Value = serde_json::from_str(arguments).unwrap();
        let mut part = json!({ "functionCall": { "id": id, "name": name, "args": args } });
        if i == 0 {
            part["thoughtSignature"] = json!("c2ln");
        }
        part
    };
    calls.iter().enumerate().map(part).collect()
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// A complete answer.
pub fn whole(text: &str, calls: &Calls) -> Value {
    let mut parts = call_parts(calls);
    if !text.is_empty() {
        parts.insert(0, json!({ "text": text }));
    }
    piece(parts, Some("STOP"), words(text))
}

/// An error.
pub fn error(status: u16, message: &str) -> Value {
    let word = match status {
        400 => "INVALID_ARGUMENT",
        429 => "RESOURCE_EXHAUSTED",
        _ => "INTERNAL",
    };
    json!({ "error": { "code": status, "message": message, "status": word } })
}

/// The same as a stream: the head and an event without parts, then a word per event, then the calls whole.
pub fn events(text: &str, calls: &Calls, gate: Option<Gate>) -> Vec<Step> {
    let event = |data: Value| chunk(format!("data: {data}\r\n\r\n"));
    let mut steps = vec![chunked(200, &[("content-type", "text/event-stream")]), event(piece(vec![], None, 0))];
    for (i, word) in text.split_inclusive(' ').enumerate() {
        if let Some(gate) = gate.as_ref().filter(|_| i > 0) {
            steps.push(Step::Wait(gate.clone()));
        }
        steps.push(event(piece(vec![json!({ "text": word })], None, i + 1)));
    }
    if !calls.is_empty() {
        steps.push(event(piece(call_parts(calls), None, words(text))));
    }
    steps.extend([event(piece(vec![], Some("STOP"), words(text))), chunk("")]);
    steps
}
