//! OpenAI's chat completions: <https://platform.openai.com/docs/api-reference/chat>.

pub mod answer;
pub mod completions;
pub mod read;
pub mod stream_in;
pub mod stream_out;
pub mod write;

use super::super::error::{AiError, error_json};
use super::super::facts::{self, Facts, flag};
use super::super::prompt::Operation;
use super::super::record::has_content;
use super::super::sse::{DONE, Frame};
use super::super::usage::Usage;
use super::chat::{Answer, Dropped, Fault, Fields, Request, Stop, Unsupported};
use super::wire::{self, Reader, Seen, Wire};
use super::{Garbage, Target};
use crate::config::secret::Secret;
use http::{HeaderName, StatusCode};
use serde_json::Value;
use std::borrow::Cow;

/// Header fields of clients that select a version or a beta.
pub static FORWARDED: [HeaderName; 1] = [HeaderName::from_static("openai-beta")];

/// Members that do not change the answer.
pub const NEUTRAL: [&str; 10] = [
    "model",
    "stream",
    "stream_options",
    "user",
    "metadata",
    "store",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
];

/// The dialect.
pub struct OpenaiChat;

impl Wire for OpenaiChat {
    fn path(&self, operation: Operation, _model: &str, _stream: bool) -> Option<Cow<'static, str>> {
        match operation {
            _ if operation.is_chat() => Some("/chat/completions".into()),
            Operation::Embeddings => Some("/embeddings".into()),
            _ => None,
        }
    }

    fn credential(&self, key: &Secret) -> (HeaderName, String) {
        wire::bearer(key)
    }

    fn forwarded(&self) -> &'static [HeaderName] {
        &FORWARDED
    }

    fn look(&self, frame: &Frame) -> Seen {
        if frame.data.as_deref() == Some(DONE) { Seen::End(Value::Null) } else { wire::look(frame) }
    }

    fn begins(&self, chunk: &Value) -> bool {
        let choices = chunk.get("choices").and_then(Value::as_array);
        choices.into_iter().flatten().filter_map(Value::as_object).any(has_content)
    }

    fn is_answer(&self, json: &Value) -> bool {
        json.get("choices").is_some_and(Value::is_array)
    }

    fn usage(&self, json: &Value) -> Option<Usage> {
        Usage::from_openai(json.get("usage")?)
    }

    fn write_request(&self, r: &Request, target: &Target<'_>, dropped: &mut Dropped) -> Result<Value, Unsupported> {
        write::request(r, target, dropped)
    }

    fn read_answer(&self, json: &Value, dropped: &mut Dropped) -> Result<Answer, Garbage> {
        answer::read(json, dropped)
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(stream_in::Reader::default())
    }

    fn read_request(&self, fields: &Fields, dropped: &mut Dropped) -> Result<Request, Unsupported> {
        read::request(fields, dropped)
    }
}

/// The facts of a chat request.
pub fn facts(fields: &Fields) -> Result<Facts, AiError> {
    settings(fields, facts::chat(fields, |_| true)?)
}

/// The facts with what stands beside the prompt in all of the older dialects.
fn settings(fields: &Fields, mut facts: Facts) -> Result<Facts, AiError> {
    facts.stream = flag(fields.get("stream"), "stream")?;
    facts.temperature = fields.get("temperature").and_then(Value::as_f64);
    let options = fields.get("stream_options").and_then(|o| o.get("include_usage"));
    facts.wants_usage = flag(options, "stream_options.include_usage")?;
    let limit = fields.get("max_completion_tokens").or_else(|| fields.get("max_tokens"));
    facts.max_tokens = limit.and_then(Value::as_u64);
    facts.n = fields.get("n").and_then(Value::as_u64).unwrap_or(1);
    Ok(facts)
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
