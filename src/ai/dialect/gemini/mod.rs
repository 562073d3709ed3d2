//! Google's Gemini API, as a provider: <https://ai.google.dev/api/generate-content>.

pub mod answer;
pub mod stream_in;
pub mod write;

use super::chat::{Answer, Dropped, Request, Stop, Unsupported, text_in};
use super::wire::{self, Reader, Seen, Wire};
use super::{Garbage, Target};
use crate::ai::prompt::Operation;
use crate::ai::sse::Frame;
use crate::ai::usage::Usage;
use crate::config::secret::Secret;
use http::HeaderName;
use serde_json::Value;
use std::borrow::Cow;

/// The field for keys.
pub const API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
/// What stands before a thought signature of Gemini's wherever a client keeps it: no other provider can read it.
pub const SIGNED: &str = "gemini:";

/// The dialect.
pub struct Gemini;

impl Wire for Gemini {
    fn path(&self, operation: Operation, model: &str, stream: bool) -> Option<Cow<'static, str>> {
        operation.is_chat().then(|| path(model, stream).into())
    }

    fn credential(&self, key: &Secret) -> (HeaderName, String) {
        (API_KEY, key.expose().to_owned())
    }

    fn look(&self, frame: &Frame) -> Seen {
        wire::look(frame)
    }

    fn begins(&self, event: &Value) -> bool {
        !parts(event).is_empty() || finish_reason(event).is_some()
    }

    /// Candidates, or the word that there are none.
    fn is_answer(&self, json: &Value) -> bool {
        json.get("candidates").is_some_and(Value::is_array) || finish_reason(json).is_some()
    }

    fn usage(&self, json: &Value) -> Option<Usage> {
        Usage::from_gemini(json.get("usageMetadata")?)
    }

    fn write_request(&self, r: &Request, _target: &Target<'_>, dropped: &mut Dropped) -> Result<Value, Unsupported> {
        write::request(r, dropped)
    }

    fn read_answer(&self, json: &Value, dropped: &mut Dropped) -> Result<Answer, Garbage> {
        answer::read(json, dropped)
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(stream_in::Reader::default())
    }
}

/// Where a chat goes, below the base URL.
fn path(model: &str, stream: bool) -> String {
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
