//! The items of a response and the response around them, as clients get them.

use super::super::chat::{Call, Part, Stop, object, text_in};
use super::status;
use crate::ai::usage::Usage;
use serde_json::{Value, json};

/// What stands before a signature of OpenAI's wherever a client of another dialect keeps it, followed by the id of its
/// item: no other provider can read it.
pub const SIGNED: &str = "openai:";
/// What stands before another provider's signature where a client of this dialect keeps it.
const SEALED: &str = "sluicegate:";
/// The same before thinking that only its provider can read.
const REDACTED: &str = "sluicegate-redacted:";

/// The beginning of a JSON string that is either.
pub const MARKED: &str = "\"sluicegate";

/// What ids of responses begin with.
const RESPONSE: &str = "resp_";

/// Parts of a summary are paragraphs.
pub const PARAGRAPH: &str = "\n\n";

/// What all events of one response have in common.
pub struct Head {
    pub id: String,
    pub model: String,
    /// Seconds since 1970.
    pub created: u64,
}

impl Head {
    /// A provider's answer in this dialect's words.
    pub fn new(id: &str, model: &str, created: u64) -> Head {
        let prefix = if id.starts_with(RESPONSE) { "" } else { RESPONSE };
        Head { id: format!("{prefix}{id}"), model: model.to_owned(), created }
    }

    /// The id of the item at this place: the same whether the answer is streamed or not.
    pub fn item_id(&self, prefix: &str, index: usize) -> String {
        format!("{prefix}_{}_{index}", self.id.strip_prefix(RESPONSE).unwrap_or(&self.id))
    }

    /// A response that has ended so, or is under way. What it would repeat of the request is left at its default: the
    /// client knows what it asked.
    pub fn response(&self, stop: Option<&Stop>, output: Vec<Value>, usage: Option<&Usage>) -> Value {
        let (status, why) = stop.map_or(("in_progress", None), status);
        Value::Object(object([
            ("id", self.id.clone().into()),
            ("object", "response".into()),
            ("created_at", self.created.into()),
            ("status", status.into()),
            ("error", Value::Null),
            ("incomplete_details", why.map_or(Value::Null, |reason| json!({ "reason": reason }))),
            ("instructions", Value::Null),
            ("metadata", json!({})),
            ("model", self.model.clone().into()),
            ("output", output.into()),
            ("parallel_tool_calls", true.into()),
            ("temperature", Value::Null),
            ("tool_choice", "auto".into()),
            ("tools", json!([])),
            ("top_p", Value::Null),
            ("store", false.into()),
            ("usage", usage.map_or(Value::Null, Usage::to_responses)),
        ]))
    }
}

/// A message of the model's.
pub fn message(id: &str, parts: &[Value], status: &str) -> Value {
    json!({ "id": id, "type": "message", "status": status, "role": "assistant", "content": parts })
}

/// A part of it.
pub fn text_part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

/// A tool call.
pub fn call(id: &str, call: &Call, status: &str) -> Value {
    json!({
        "id": id, "type": "function_call", "status": status,
        "call_id": call.id, "name": call.name, "arguments": call.arguments,
    })
}

/// A part of a summary of the model's thinking.
pub fn summary_part(text: &str) -> Value {
    json!({ "type": "summary_text", "text": text })
}

/// The model's thinking, with its signature sealed.
pub fn reasoning(id: &str, text: &str, sealed: Option<&str>) -> Value {
    let summary: Vec<Value> = Some(text).filter(|t| !t.is_empty()).map(summary_part).into_iter().collect();
    let mut out = object([("id", id.into()), ("type", "reasoning".into()), ("summary", summary.into())]);
    out.extend(sealed.map(|s| ("encrypted_content".to_owned(), s.into())));
    Value::Object(out)
}

/// Arguments are JSON here also where there are none, which elsewhere may be no text at all.
pub fn no_arguments(arguments: &str) -> Option<&'static str> {
    arguments.trim().is_empty().then_some("{}")
}

/// A signature as clients of this dialect keep it.
pub fn seal(signature: &str) -> String {
    format!("{SEALED}{signature}")
}

/// Unreadable thinking as clients of this dialect keep it.
pub fn seal_redacted(data: &str) -> String {
    format!("{REDACTED}{data}")
}

/// A reasoning item as thinking; `None` when it says nothing. A provider's own signature goes with the item's id,
/// which it wants back.
pub fn thought(item: &Value) -> Option<Part> {
    let text = thought_text(item);
    let Some(sealed) = text_in(item, "encrypted_content").filter(|s| !s.is_empty()) else {
        return (!text.is_empty()).then_some(Part::Reasoning(text, None));
    };
    if let Some(data) = sealed.strip_prefix(REDACTED) {
        return Some(Part::Redacted(data.to_owned()));
    }
    let signature = sealed.strip_prefix(SEALED).map_or_else(|| signature(item, sealed), str::to_owned);
    Some(Part::Reasoning(text, Some(signature)))
}

/// Whether an item of a request holds what another provider signed, which OpenAI would refuse.
pub fn is_foreign(item: &Value) -> bool {
    let sealed = text_in(item, "encrypted_content").unwrap_or_default();
    sealed.starts_with(SEALED) || sealed.starts_with(REDACTED)
}

fn signature(item: &Value, encrypted: &str) -> String {
    format!("{SIGNED}{}:{encrypted}", text_in(item, "id").unwrap_or_default())
}

/// The words of a reasoning item: the thinking itself where a server tells it, else its summary.
pub fn thought_text(item: &Value) -> String {
    let texts = |name: &str| {
        let parts = item.get(name).and_then(Value::as_array);
        let all: Vec<&str> = parts.into_iter().flatten().filter_map(|p| text_in(p, "text")).collect();
        Some(all.join(PARAGRAPH)).filter(|text| !text.is_empty())
    };
    texts("content").or_else(|| texts("summary")).unwrap_or_default()
}

/// The reasoning item that a signature of OpenAI's came from; `None` for another provider's.
pub fn unsigned(text: &str, signature: &str) -> Option<Value> {
    let (id, encrypted) = signature.strip_prefix(SIGNED)?.split_once(':')?;
    Some(reasoning(id, text, Some(encrypted)))
}
