//! Anthropic's Messages: <https://platform.claude.com/docs/en/api/messages>.

pub mod answer;
pub mod read;
pub mod record;
pub mod replay;
pub mod stream_in;
pub mod stream_out;
pub mod write;

use super::chat::{Fault, Stop, text_in};
use http::{HeaderName, StatusCode};
use serde_json::{Value, json};

/// The version of the API that is spoken where the client names none.
pub const VERSION: &str = "2023-06-01";

/// The field for keys.
pub const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The field for the API's version.
pub const VERSION_FIELD: HeaderName = HeaderName::from_static("anthropic-version");
/// The field for betas.
pub const BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// Whether an event carries more than the start of a message or of an empty text.
pub fn begins(event: &Value) -> bool {
    match text_in(event, "type") {
        Some("content_block_delta" | "message_delta") => true,
        Some("content_block_start") => {
            event.pointer("/content_block/type").and_then(Value::as_str).is_some_and(|t| t != "text" && t != "thinking")
        }
        _ => false,
    }
}

/// The error object. Its type follows the status, as clients of this dialect go by both.
pub fn error(status: StatusCode, fault: &Fault) -> Value {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        408 | 504 => "timeout_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    // The field at fault has no member of its own here.
    let message = match &fault.param {
        Some(param) if !fault.message.contains(param.as_str()) => format!("{param}: {}", fault.message),
        _ => fault.message.clone(),
    };
    json!({ "type": "error", "error": { "type": kind, "message": message } })
}

/// The word for an end.
pub fn stop_reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::End => "end_turn",
        Stop::Sequence(_) => "stop_sequence",
        Stop::Length => "max_tokens",
        Stop::ContextFull => "model_context_window_exceeded",
        Stop::Calls => "tool_use",
        Stop::Pause => "pause_turn",
        Stop::Filtered => "refusal",
    }
}

/// The end behind the word; an unknown word is an ordinary end.
pub fn stop(reason: &str, sequence: Option<&str>) -> Stop {
    match reason {
        "stop_sequence" => Stop::Sequence(sequence.map(str::to_owned)),
        "max_tokens" => Stop::Length,
        "model_context_window_exceeded" => Stop::ContextFull,
        "tool_use" => Stop::Calls,
        "pause_turn" => Stop::Pause,
        "refusal" => Stop::Filtered,
        _ => Stop::End,
    }
}

/// Whether an answer may be served to an equal request: it ended, was not refused and is not to be continued.
pub fn may_keep(json: &Value) -> bool {
    text_in(json, "stop_reason").is_some_and(|r| r != "refusal" && r != "pause_turn")
}

/// Whether an answer may be served to a similar question: text and nothing else, ended by itself.
pub fn may_share(json: &Value) -> bool {
    let blocks = json.get("content").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let ended = matches!(text_in(json, "stop_reason"), Some("end_turn" | "stop_sequence"));
    let only_text = blocks.iter().all(|b| text_in(b, "type") == Some("text"));
    ended && only_text && blocks.iter().any(|b| text_in(b, "text").is_some_and(|t| !t.trim().is_empty()))
}
