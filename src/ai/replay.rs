//! Plays a stored complete answer back as the stream a client asked for: role, text in word-like pieces, tool calls,
//! finish, usage, `[DONE]`. It is the inverse of `record`.

use super::sse;
use serde_json::{Map, Value, json};

/// Pieces per text: long answers come in larger pieces, so that a replay is never thousands of events.
const PIECES_MAX: usize = 256;
/// Bytes after which text without spaces is cut anyway.
const PIECE_BYTES_MAX: usize = 24;

/// The whole stream; `None` when `answer` is no chat completion.
pub fn stream(answer: &Value, wants_usage: bool) -> Option<String> {
    let fields = answer.as_object()?;
    let choices = fields.get("choices")?.as_array()?;
    let mut chunks = Chunks { template: template(fields, wants_usage), out: String::new() };
    for choice in choices.iter().filter_map(Value::as_object) {
        chunks.choice(choice);
    }
    let usage = fields.get("usage").filter(|u| !u.is_null());
    if let (true, Some(usage)) = (wants_usage, usage) {
        chunks.template.insert("usage".to_owned(), usage.clone());
        chunks.push(Vec::new());
    }
    chunks.out.push_str(&sse::event(sse::DONE));
    Some(chunks.out)
}

/// What every chunk repeats: id, time, model and whatever else stands beside the choices.
fn template(fields: &Map<String, Value>, wants_usage: bool) -> Map<String, Value> {
    let mut out: Map<String, Value> =
        fields.iter().filter(|(k, _)| *k != "choices" && *k != "usage").map(|(k, v)| (k.clone(), v.clone())).collect();
    out.insert("object".to_owned(), "chat.completion.chunk".into());
    if wants_usage {
        out.insert("usage".to_owned(), Value::Null);
    }
    out
}

struct Chunks {
    template: Map<String, Value>,
    out: String,
}

impl Chunks {
    fn push(&mut self, choices: Vec<Value>) {
        self.template.insert("choices".to_owned(), Value::Array(choices));
        // A map of JSON values always serialises.
        let text = serde_json::to_string(&self.template).unwrap_or_default();
        self.out.push_str(&sse::event(&text));
    }

    fn delta(&mut self, index: &Value, delta: Value) {
        self.push(vec![json!({ "index": index, "delta": delta, "finish_reason": null })]);
    }

    fn choice(&mut self, choice: &Map<String, Value>) {
        let index = choice.get("index").cloned().unwrap_or_else(|| 0.into());
        let empty = Map::new();
        let message = choice.get("message").and_then(Value::as_object).unwrap_or(&empty);
        let first: Map<String, Value> = message.iter().filter_map(opening).collect();
        self.delta(&index, Value::Object(first));
        for key in ["content", "refusal"] {
            for piece in message.get(key).and_then(Value::as_str).map(pieces).unwrap_or_default() {
                self.delta(&index, json!({ key: piece }));
            }
        }
        let calls = message.get("tool_calls").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (i, call) in calls.iter().enumerate() {
            self.tool_call(&index, i, call);
        }
        let mut last = choice.clone();
        last.shift_remove("message");
        last.insert("index".to_owned(), index);
        last.insert("delta".to_owned(), json!({}));
        self.push(vec![Value::Object(last)]);
    }

    /// A call's head with empty arguments, then the arguments.
    fn tool_call(&mut self, choice: &Value, i: usize, call: &Value) {
        let mut head = call.clone();
        let mut arguments = String::new();
        if let Some(Value::String(text)) = head.pointer_mut("/function/arguments") {
            arguments = std::mem::take(text);
        }
        if let Some(fields) = head.as_object_mut() {
            fields.insert("index".to_owned(), i.into());
        }
        self.delta(choice, json!({ "tool_calls": [head] }));
        if !arguments.is_empty() {
            self.delta(choice, json!({ "tool_calls": [{ "index": i, "function": { "arguments": arguments } }] }));
        }
    }
}

/// A message's member in the first chunk: text starts empty, tool calls come later, the rest comes at once.
fn opening((key, value): (&String, &Value)) -> Option<(String, Value)> {
    let value = match (key.as_str(), value) {
        ("content" | "refusal", Value::String(_)) => Value::from(""),
        ("tool_calls", Value::Array(calls)) if !calls.is_empty() => return None,
        _ => value.clone(),
    };
    Some((key.clone(), value))
}

/// Cuts text after white space, as models emit it: words with their spaces.
pub(super) fn pieces(text: &str) -> Vec<&str> {
    let least = text.len() / PIECES_MAX + 1;
    let mut out = Vec::new();
    let mut start = 0;
    for (at, c) in text.char_indices() {
        let end = at + c.len_utf8();
        let long = end - start;
        if (c.is_whitespace() && long > least) || long >= least + PIECE_BYTES_MAX {
            out.extend(text.get(start..end));
            start = end;
        }
    }
    out.extend(text.get(start..).filter(|rest| !rest.is_empty()));
    out
}
