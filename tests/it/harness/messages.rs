//! The scripted provider's answers in Anthropic's dialect.

use super::llm::Calls;
use super::origin::{Gate, Step, chunk, chunked};
use serde_json::{Value, json};

/// A complete message.
pub fn whole(text: &str, calls: &Calls, call: &Value) -> Value {
    let mut content = Vec::new();
    if !text.is_empty() {
        content.push(json!({ "type": "text", "text": text }));
    }
    for (id, name, arguments) in calls {
        let input: Value = serde_json::from_str(arguments).unwrap();
        content.push(json!({ "type": "tool_use", "id": id, "name": name, "input": input }));
    }
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": call["model"], "content": content,
        "stop_reason": stop(calls), "stop_sequence": null, "usage": usage(text),
    })
}

fn stop(calls: &Calls) -> &'static str {
    if calls.is_empty() { "end_turn" } else { "tool_use" }
}

fn usage(text: &str) -> Value {
    json!({ "input_tokens": 10, "output_tokens": text.split_whitespace().count() })
}

/// An error.
pub fn error(status: u16, message: &str) -> Value {
    let kind = match status {
        400 => "invalid_request_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    json!({ "type": "error", "error": { "type": kind, "message": message } })
}

fn event(data: Value) -> Step {
    chunk(format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap()))
}

/// The same as a stream: the head and three events, then a word per event, then the calls with their arguments in two
/// pieces.
pub fn events(text: &str, calls: &Calls, call: &Value, gate: Option<Gate>) -> Vec<Step> {
    let mut steps = vec![chunked(200, &[("content-type", "text/event-stream")])];
    steps.push(event(json!({ "type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": call["model"], "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": { "input_tokens": 10, "output_tokens": 1 },
    } })));
    let mut index = 0;
    if !text.is_empty() {
        let block = json!({ "type": "text", "text": "" });
        steps.push(event(json!({ "type": "content_block_start", "index": 0, "content_block": block })));
        steps.push(event(json!({ "type": "ping" })));
        for (i, word) in text.split_inclusive(' ').enumerate() {
            if let Some(gate) = gate.as_ref().filter(|_| i > 0) {
                steps.push(Step::Wait(gate.clone()));
            }
            let delta = json!({ "type": "text_delta", "text": word });
            steps.push(event(json!({ "type": "content_block_delta", "index": 0, "delta": delta })));
        }
        steps.push(event(json!({ "type": "content_block_stop", "index": 0 })));
        index = 1;
    }
    for (id, name, arguments) in calls {
        let block = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
        steps.push(event(json!({ "type": "content_block_start", "index": index, "content_block": block })));
        let (a, b) = arguments.split_at(arguments.len() / 2);
        for part in [a, b] {
            let delta = json!({ "type": "input_json_delta", "partial_json": part });
            steps.push(event(json!({ "type": "content_block_delta", "index": index, "delta": delta })));
        }
        steps.push(event(json!({ "type": "content_block_stop", "index": index })));
        index += 1;
    }
    let delta = json!({ "stop_reason": stop(calls), "stop_sequence": null });
    steps.push(event(json!({ "type": "message_delta", "delta": delta, "usage": usage(text) })));
    steps.extend([event(json!({ "type": "message_stop" })), chunk("")]);
    steps
}
