//! OpenAI's chat completions: <https://platform.openai.com/docs/api-reference/chat>.

pub mod answer;
pub mod read;
pub mod stream_in;
pub mod stream_out;
pub mod write;

use super::super::error::error_json;
use super::super::record::has_content;
use super::chat::{Fault, Stop};
use http::StatusCode;
use serde_json::Value;

/// Whether a chunk carries more than a role.
pub fn begins(chunk: &Value) -> bool {
    let choices = chunk.get("choices").and_then(Value::as_array);
    choices.into_iter().flatten().filter_map(Value::as_object).any(has_content)
}

/// The error object. The code of another dialect's error is the one that clients of this one act upon.
pub fn error(status: StatusCode, fault: &Fault) -> Value {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let too_long = fault.message.starts_with("prompt is too long");
    let told = if fault.kind.is_empty() { "provider_error" } else { fault.kind.as_str() };
    let code = if too_long { "context_length_exceeded" } else { fault.code.as_deref().unwrap_or(told) };
    error_json(&fault.message, kind, fault.param.as_deref(), code)
}

/// The word for an end.
pub fn finish_reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Sequence(_) | Stop::Pause => "stop",
        Stop::Length | Stop::ContextFull => "length",
        Stop::Calls => "tool_calls",
        Stop::Filtered => "content_filter",
    }
}

/// The end behind the word; an unknown word is an ordinary end.
pub fn stop(finish_reason: &str) -> Stop {
    match finish_reason {
        "length" => Stop::Length,
        "tool_calls" | "function_call" => Stop::Calls,
        "content_filter" => Stop::Filtered,
        _ => Stop::End,
    }
}

fn finish_reasons(json: &Value) -> impl Iterator<Item = Option<&str>> {
    let choices = json.get("choices").and_then(Value::as_array);
    choices.into_iter().flatten().map(|c| c.get("finish_reason").and_then(Value::as_str))
}

/// Whether an answer may be served to an equal request: every choice ended, and none was filtered away. Embeddings
/// have no choices and always may.
pub fn may_keep(json: &Value) -> bool {
    if json.get("choices").is_none() {
        return json.get("data").is_some();
    }
    let mut reasons = finish_reasons(json).peekable();
    reasons.peek().is_some() && reasons.all(|r| r.is_some_and(|r| r != "content_filter" && r != "error"))
}

/// Whether an answer may be served to a similar question: one complete text, no refusal, no tool call.
pub fn may_share(json: &Value) -> bool {
    let message = json.pointer("/choices/0/message");
    let has = |key: &str| message.and_then(|m| m.get(key)).is_some_and(|v| !v.is_null() && *v != Value::Array(vec![]));
    let text = message.and_then(|m| m.get("content")).and_then(Value::as_str).is_some_and(|t| !t.trim().is_empty());
    let stopped = finish_reasons(json).eq([Some("stop")]);
    stopped && text && !has("refusal") && !has("tool_calls") && !has("function_call")
}
