//! Google's Gemini API, as a provider: <https://ai.google.dev/api/generate-content>.

pub mod answer;
pub mod stream_in;
pub mod write;

use super::chat::{Stop, text_in};
use http::HeaderName;
use serde_json::Value;

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

/// A call's id: its own, else one that is the same whether the answer is streamed or not.
fn call_id(part: &Value, answer: &str, k: usize) -> String {
    let own = part.pointer("/functionCall/id").and_then(Value::as_str).filter(|id| !id.is_empty());
    own.map_or_else(|| format!("call_{answer}_{k}"), str::to_owned)
}

/// A part's signature in the form in which clients keep it.
fn signature(part: &Value) -> Option<String> {
    text_in(part, "thoughtSignature").map(|s| format!("{SIGNED}{s}"))
}
