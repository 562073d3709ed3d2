//! Google's Gemini API: <https://ai.google.dev/api/generate-content>.

pub mod answer;
mod content;
pub mod facts;
mod members;
pub mod read;
pub mod record;
pub mod replay;
mod schema;
pub mod sign;
pub mod stream_in;
pub mod stream_out;
pub mod write;

#[cfg(test)]
mod tests;

use super::chat::{Fault, Stop, text_in};
use http::{HeaderName, StatusCode};
use serde_json::{Value, json};

/// The field for keys.
pub const API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
/// What stands before a thought signature of Gemini's wherever a client keeps it: no other provider can read it.
pub const SIGNED: &str = "gemini:";

/// Where a chat goes, below the base URL.
pub fn path(model: &str, stream: bool) -> String {
    let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
    format!("/models/{model}:{method}")
}

/// The first candidate's parts.
fn parts(json: &Value) -> &[Value] {
    json.pointer("/candidates/0/content/parts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice)
}

/// Why the answer ended, if it has. A prompt that was blocked has no candidate at all.
fn finish_reason(json: &Value) -> Option<&str> {
    let blocked = json.pointer("/promptFeedback/blockReason").and_then(Value::as_str);
    json.pointer("/candidates/0/finishReason").and_then(Value::as_str).or(blocked)
}

/// Whether JSON is an answer: candidates, or the word that there are none.
pub fn is_answer(json: &Value) -> bool {
    json.get("candidates").is_some_and(Value::is_array) || finish_reason(json).is_some()
}

/// Whether an event carries something of the answer itself.
pub fn begins(event: &Value) -> bool {
    !parts(event).is_empty() || finish_reason(event).is_some()
}

/// The end behind the word; it is `STOP` also where tools are to be called.
fn stop(reason: &str) -> Stop {
    match reason {
        "STOP" | "FINISH_REASON_UNSPECIFIED" | "OTHER" => Stop::End,
        "MAX_TOKENS" => Stop::Length,
        "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" => Stop::Calls,
        // SAFETY, RECITATION, BLOCKLIST, PROHIBITED_CONTENT, SPII, LANGUAGE, MALFORMED_FUNCTION_CALL …
        _ => Stop::Filtered,
    }
}

/// The word for an end.
pub fn reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Sequence(_) | Stop::Pause | Stop::Calls => "STOP",
        Stop::Length | Stop::ContextFull => "MAX_TOKENS",
        Stop::Filtered => "SAFETY",
    }
}

/// What Google calls an error of this status: <https://cloud.google.com/apis/design/errors>.
fn canonical(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        402 | 429 => "RESOURCE_EXHAUSTED",
        409 => "ABORTED",
        408 | 504 => "DEADLINE_EXCEEDED",
        501 => "UNIMPLEMENTED",
        502 | 503 | 529 => "UNAVAILABLE",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}

/// The error object. The provider's or the gateway's own word stands where Google tells its reason, in its capitals;
/// the field at fault among what goes with it.
pub fn error(status: StatusCode, fault: &Fault) -> Value {
    let word = fault.code.as_deref().or(Some(fault.kind.as_str())).filter(|w| !w.is_empty());
    let mut error = json!({ "code": status.as_u16(), "message": fault.message, "status": canonical(status) });
    if let (Some(word), Some(members)) = (word, error.as_object_mut()) {
        let mut info = json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": word.to_ascii_uppercase(),
            "domain": "sluicegate",
        });
        if let (Some(param), Some(info)) = (&fault.param, info.as_object_mut()) {
            info.insert("metadata".to_owned(), json!({ "field": param }));
        }
        members.insert("details".to_owned(), json!([info]));
    }
    json!({ "error": error })
}

/// The finish reasons of the candidates, in order.
fn finish_reasons(json: &Value) -> impl Iterator<Item = Option<&str>> {
    let candidates = json.get("candidates").and_then(Value::as_array);
    candidates.into_iter().flatten().map(|c| text_in(c, "finishReason"))
}

/// Whether an answer may be served to an equal request: every candidate ended, and none was filtered away or spoilt.
pub fn may_keep(json: &Value) -> bool {
    let mut reasons = finish_reasons(json).peekable();
    reasons.peek().is_some() && reasons.all(|r| matches!(r, Some("STOP" | "MAX_TOKENS")))
}

/// Whether an answer may be served to a similar question: one complete text and thoughts, nothing else.
pub fn may_share(json: &Value) -> bool {
    let is_text = |p: &Value| p.get("text").is_some_and(Value::is_string);
    let says = |p: &Value| {
        p.get("thought").and_then(Value::as_bool) != Some(true)
            && text_in(p, "text").is_some_and(|t| !t.trim().is_empty())
    };
    finish_reasons(json).eq([Some("STOP")]) && parts(json).iter().all(is_text) && parts(json).iter().any(says)
}

/// A call's id: its own, else one that is the same whether the answer is streamed or not.
fn call_id(part: &Value, answer: &str, k: usize) -> String {
    let own = part.pointer("/functionCall/id").and_then(Value::as_str).filter(|id| !id.is_empty());
    own.map_or_else(|| format!("call_{answer}_{k}"), str::to_owned)
}

/// A part's signature in the form in which clients keep it.
fn signature(part: &Value) -> Option<String> {
    text_in(part, "thoughtSignature").map(|s| format!("{SIGNED}{s}"))
}
