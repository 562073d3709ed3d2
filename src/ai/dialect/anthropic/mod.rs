//! Anthropic's Messages: <https://platform.claude.com/docs/en/api/messages>.

pub mod answer;
pub mod read;
pub mod record;
pub mod replay;
pub mod stream_in;
pub mod stream_out;
pub mod write;

use super::chat::{Answer, Dropped, Fault, Fields, Request, Stop, Unsupported, text_in};
use super::wire::{self, Reader, Record, Seen, Wire, Writer};
use super::{Garbage, Target, Wanted};
use crate::ai::error::AiError;
use crate::ai::facts::{self, Facts};
use crate::ai::prompt::Operation;
use crate::ai::sse::{self, Frame};
use crate::ai::usage::Usage;
use crate::config::secret::Secret;
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::{Value, json};
use std::borrow::Cow;

/// The version of the API that is spoken where the client names none.
pub const VERSION: &str = "2023-06-01";

/// The field for keys.
pub const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The field for the API's version.
pub const VERSION_FIELD: HeaderName = HeaderName::from_static("anthropic-version");
/// The field for betas.
pub const BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// Header fields of clients that select a version or a beta.
pub static FORWARDED: [HeaderName; 2] = [VERSION_FIELD, BETA];

/// The dialect.
pub struct Anthropic;

impl Wire for Anthropic {
    fn path(&self, operation: Operation, _model: &str, _stream: bool) -> Option<Cow<'static, str>> {
        match operation {
            _ if operation.is_chat() => Some("/messages".into()),
            Operation::CountTokens => Some("/messages/count_tokens".into()),
            _ => None,
        }
    }

    fn credential(&self, key: &Secret) -> (HeaderName, String) {
        (API_KEY, key.expose().to_owned())
    }

    fn forwarded(&self) -> &'static [HeaderName] {
        &FORWARDED
    }

    fn required(&self, headers: &mut HeaderMap) {
        wire::default_field(headers, VERSION_FIELD, VERSION);
    }

    fn look(&self, frame: &Frame) -> Seen {
        match wire::look(frame) {
            Seen::Data(chunk) => match text_in(&chunk, "type") {
                Some("message_stop") => Seen::End(chunk),
                None | Some("error") => Seen::Garbage,
                _ => Seen::Data(chunk),
            },
            other => other,
        }
    }

    /// Whether an event carries more than the start of a message or of an empty text.
    fn begins(&self, event: &Value) -> bool {
        match text_in(event, "type") {
            Some("content_block_delta" | "message_delta") => true,
            Some("content_block_start") => {
                let kind = event.pointer("/content_block/type").and_then(Value::as_str);
                kind.is_some_and(|t| t != "text" && t != "thinking")
            }
            _ => false,
        }
    }

    fn is_answer(&self, json: &Value) -> bool {
        json.get("content").is_some_and(Value::is_array)
    }

    fn usage(&self, json: &Value) -> Option<Usage> {
        Usage::from_anthropic(json.get("usage")?)
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

    fn error_in(&self, json: &Value) -> Value {
        json.clone()
    }

    /// A user's message of nothing but tool results is no turn of the user's.
    fn facts(&self, fields: &Fields) -> Result<Facts, AiError> {
        let mut facts = facts::chat(fields, |message| !only_results(message))?;
        facts.max_tokens = fields.get("max_tokens").and_then(Value::as_u64);
        Ok(facts)
    }

    fn neutral(&self) -> &'static [&'static str] {
        &["model", "stream", "metadata", "cache_control"]
    }

    fn read_request(&self, fields: &Fields, dropped: &mut Dropped) -> Result<Request, Unsupported> {
        read::request(fields, dropped)
    }

    fn write_answer(&self, answer: &Answer, _wanted: Wanted) -> Result<Value, Garbage> {
        answer::write(answer)
    }

    fn writer(&self, _wanted: Wanted) -> Box<dyn Writer> {
        Box::new(stream_out::Writer::default())
    }

    fn recorder(&self, bytes_max: usize) -> Box<dyn Record> {
        Box::new(record::Recorder::new(bytes_max))
    }

    fn replay(&self, answer: &Value, _wants_usage: bool) -> Option<String> {
        replay::stream(answer)
    }

    fn framed(&self, event: &Value) -> String {
        let data = sse::event(&event.to_string());
        text_in(event, "type").map_or_else(|| data.clone(), |kind| format!("event: {kind}\n{data}"))
    }

    fn close(&self) -> &'static str {
        ""
    }

    fn ping(&self) -> &'static str {
        "event: ping\ndata: {\"type\": \"ping\"}\n\n"
    }

    fn error(&self, status: StatusCode, fault: &Fault) -> Value {
        error(status, fault)
    }

    fn status(&self, status: StatusCode) -> StatusCode {
        if status.as_u16() == 424 { StatusCode::BAD_GATEWAY } else { status }
    }

    fn may_keep(&self, json: &Value) -> bool {
        may_keep(json)
    }

    fn may_share(&self, json: &Value) -> bool {
        may_share(json)
    }
}

fn only_results(message: &Value) -> bool {
    let blocks = message.get("content").and_then(Value::as_array);
    blocks.is_some_and(|all| !all.is_empty() && all.iter().all(|b| text_in(b, "type") == Some("tool_result")))
}

/// The error object. Its type follows the status, as clients of this dialect go by both.
fn error(status: StatusCode, fault: &Fault) -> Value {
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
fn may_keep(json: &Value) -> bool {
    text_in(json, "stop_reason").is_some_and(|r| r != "refusal" && r != "pause_turn")
}

/// Whether an answer may be served to a similar question: text and nothing else, ended by itself.
fn may_share(json: &Value) -> bool {
    let blocks = json.get("content").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let ended = matches!(text_in(json, "stop_reason"), Some("end_turn" | "stop_sequence"));
    let only_text = blocks.iter().all(|b| text_in(b, "type") == Some("text"));
    ended && only_text && blocks.iter().any(|b| text_in(b, "text").is_some_and(|t| !t.trim().is_empty()))
}
