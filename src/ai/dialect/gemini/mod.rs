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

use super::chat::{Answer, Dropped, Fault, Fields, Request, Stop, Unsupported, text_in};
use super::wire::{self, Reader, Record, Seen, Wire, Writer};
use super::{Garbage, Target, Wanted};
use crate::ai::error::AiError;
use crate::ai::facts::Facts;
use crate::ai::json::Edit;
use crate::ai::prompt::Operation;
use crate::ai::sse::Frame;
use crate::ai::usage::Usage;
use crate::config::secret::Secret;
use http::{HeaderName, StatusCode};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::ops::Range;

/// The field for keys.
pub const API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
/// What stands before a thought signature of Gemini's wherever a client keeps it: no other provider can read it.
pub const SIGNED: &str = "gemini:";

/// Members that do not change the answer: the path's model and method, who is billed.
const NEUTRAL: [&str; 3] = ["model", "stream", "labels"];

/// What Google's models are asked for, whether it is served here or not.
const METHODS: [&str; 9] = [
    "generateContent",
    "streamGenerateContent",
    "countTokens",
    "embedContent",
    "batchEmbedContents",
    "asyncBatchEmbedContent",
    "batchGenerateContent",
    "predict",
    "predictLongRunning",
];

/// Whether a path is one of Google's API: its version stands in it, or the method behind a model.
pub fn is_at(path: &str) -> bool {
    path.contains("/v1beta/models") || method_at(path).is_some()
}

/// A path `…/models/{model}:{method}` without the method, and the method. Names of models may have colons of their own.
pub fn method_at(path: &str) -> Option<(&str, &str)> {
    let (model, method) = path.trim_end_matches('/').rsplit_once(':')?;
    (model.contains("/models/") && METHODS.contains(&method)).then_some((model, method))
}

/// Whether an operation can be answered in the form that its query asks for: streams are server-sent events here, and
/// not Google's other form, one JSON list that grows.
pub fn deliverable(operation: Operation, query: Option<&str>) -> Result<(), AiError> {
    let events = query.unwrap_or_default().split('&').any(|pair| pair == "alt=sse");
    if operation == Operation::StreamGenerate && !events {
        let message = "a stream comes as server-sent events only: add ?alt=sse to the URL";
        return Err(AiError::invalid(message, Some("alt"), "invalid_value"));
    }
    Ok(())
}

/// The key that a query carries, as Google's clients may send theirs.
pub fn key_in(query: Option<&str>) -> Option<&str> {
    let pairs = query.unwrap_or_default().split('&');
    pairs.filter_map(|pair| pair.strip_prefix("key=")).find(|key| !key.is_empty())
}

/// What changes in a client's body on its way to a provider of this dialect: the path names the model, so that the body
/// need not; where it does, and where it bears what other providers signed, that is replaced.
pub fn edits(body: &str, model: &str, model_at: Option<&Range<usize>>) -> Vec<Edit> {
    let mut out = sign::foreign(body);
    let name = |span: Range<usize>| Edit { span, text: Value::from(format!("models/{model}")).to_string() };
    out.extend(model_at.cloned().map(name));
    out.extend(read::counted_model(body).map(name));
    out
}

/// The dialect.
pub struct Gemini;

impl Wire for Gemini {
    fn path(&self, operation: Operation, model: &str, stream: bool) -> Option<Cow<'static, str>> {
        match operation {
            _ if operation.is_chat() => Some(path(model, stream).into()),
            Operation::CountContents => Some(format!("/models/{model}:countTokens").into()),
            _ => None,
        }
    }

    fn credential(&self, key: &Secret) -> (HeaderName, String) {
        (API_KEY, key.expose().to_owned())
    }

    fn look(&self, frame: &Frame) -> Seen {
        wire::look(frame)
    }

    fn begins(&self, event: &Value) -> bool {
        begins(event)
    }

    fn is_answer(&self, json: &Value) -> bool {
        is_answer(json)
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

    fn facts(&self, fields: &Fields) -> Result<Facts, AiError> {
        facts::facts(fields)
    }

    fn neutral(&self) -> &'static [&'static str] {
        &NEUTRAL
    }

    fn conversation(&self) -> &'static str {
        "contents"
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

    /// There is no mark of the end: the last event bears the reason.
    fn close(&self) -> &'static str {
        ""
    }

    /// An empty line. Google's SDKs take a comment for a broken event.
    fn ping(&self) -> &'static str {
        "\n"
    }

    fn error(&self, status: StatusCode, fault: &Fault) -> Value {
        error(status, fault)
    }

    fn may_keep(&self, json: &Value) -> bool {
        may_keep(json)
    }

    fn may_share(&self, json: &Value) -> bool {
        may_share(json)
    }
}

/// Whether an event carries something of the answer itself.
fn begins(event: &Value) -> bool {
    !parts(event).is_empty() || finish_reason(event).is_some()
}

/// Candidates, or the word that there are none.
fn is_answer(json: &Value) -> bool {
    json.get("candidates").is_some_and(Value::is_array) || finish_reason(json).is_some()
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
