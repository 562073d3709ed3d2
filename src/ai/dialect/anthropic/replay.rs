//! Plays a stored complete message back as the stream a client asked for. It is the inverse of `record`.

use super::super::Dialect;
use super::super::chat::{Fields, text_in};
use crate::ai::replay::pieces;
use serde_json::{Value, json};

/// The whole stream; `None` when `answer` is no message.
pub fn stream(answer: &Value) -> Option<String> {
    let mut message = answer.as_object()?.clone();
    let content = message.get("content")?.as_array()?.clone();
    let usage = message.get("usage").cloned().unwrap_or_else(|| json!({}));
    let mut out = Events(String::new());
    let mut delta = Fields::new();
    for name in ["stop_reason", "stop_sequence", "stop_details", "container"] {
        if let Some(value) = message.get_mut(name) {
            delta.insert(name.to_owned(), value.take());
        }
    }
    message.insert("content".to_owned(), json!([]));
    out.push(&json!({ "type": "message_start", "message": message }));
    for (index, block) in content.iter().enumerate() {
        out.block(index, block);
    }
    out.push(&json!({ "type": "message_delta", "delta": delta, "usage": usage }));
    out.push(&json!({ "type": "message_stop" }));
    Some(out.0)
}

struct Events(String);

impl Events {
    fn push(&mut self, event: &Value) {
        self.0.push_str(&Dialect::Anthropic.wire().framed(event));
    }

    fn delta(&mut self, index: usize, delta: &Value) {
        self.push(&json!({ "type": "content_block_delta", "index": index, "delta": delta }));
    }

    /// A block's start holds what does not grow; the rest follows in deltas.
    fn block(&mut self, index: usize, block: &Value) {
        let (mut start, mut deltas) = (block.clone(), Vec::new());
        let mut grow = |name: &str, empty: Value| start.get_mut(name).map(|v| std::mem::replace(v, empty));
        let kind = text_in(block, "type").unwrap_or_default();
        let text = |v: &Option<Value>| v.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        match kind {
            "text" => {
                let said = text(&grow("text", "".into()));
                deltas.extend(pieces(&said).into_iter().map(|p| json!({ "type": "text_delta", "text": p })));
            }
            "thinking" => {
                let (thought, signature) = (text(&grow("thinking", "".into())), text(&grow("signature", "".into())));
                deltas.extend(pieces(&thought).into_iter().map(|p| json!({ "type": "thinking_delta", "thinking": p })));
                if !signature.is_empty() {
                    deltas.push(json!({ "type": "signature_delta", "signature": signature }));
                }
            }
            "tool_use" | "server_tool_use" => {
                let input = grow("input", json!({})).filter(|i| i.as_object().is_some_and(|o| !o.is_empty()));
                deltas.extend(input.map(|i| json!({ "type": "input_json_delta", "partial_json": i.to_string() })));
            }
            _ => {}
        }
        self.push(&json!({ "type": "content_block_start", "index": index, "content_block": start }));
        for delta in &deltas {
            self.delta(index, delta);
        }
        self.push(&json!({ "type": "content_block_stop", "index": index }));
    }
}
