//! Amazon Bedrock's Converse, as a provider:
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html> and `…_ConverseStream.html`.
//!
//! Shapes are those of the service's model in botocore 1.44. Errors carry their type in a header or in the frame and
//! have no envelope; [`error`] gives them the one that every other dialect has.

pub mod answer;
pub mod stream_in;
mod tools;
pub mod write;

#[cfg(test)]
mod tests;

use super::chat::{Answer, Dropped, Fault, Request, Stop, Unsupported, object, text_in};
use super::wire::{self, Identity, Reader, Seen, Wire};
use super::{Garbage, Target};
use crate::ai::prompt::Operation;
use crate::ai::sse::Frame;
use crate::ai::usage::Usage;
use crate::config::secret::Secret;
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::{Value, json};
use std::borrow::Cow;

/// The media type of a stream.
pub const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";
/// The field of an answer with the type of the error.
const ERROR_TYPE: &str = "x-amzn-errortype";
/// Characters of a type that are kept.
const KIND_CHARS_MAX: usize = 64;
/// How a request that does not fit into the model's context is refused.
const TOO_LONG: [&str; 5] =
    ["input is too long", "prompt is too long", "too many input tokens", "context window", "context length"];
/// Error types with their statuses, which frames do not tell. A quota that is used up is told as if the request were
/// at fault, and what is wrong with a signature sometimes too.
const STATUSES: [(&str, u16); 18] = [
    ("AccessDeniedException", 403),
    ("ExpiredTokenException", 403),
    ("IncompleteSignature", 403),
    ("IncompleteSignatureException", 403),
    ("InternalServerException", 500),
    ("InvalidSignatureException", 403),
    ("MissingAuthenticationTokenException", 403),
    ("ModelErrorException", 424),
    ("ModelNotReadyException", 429),
    ("ModelStreamErrorException", 424),
    ("ModelTimeoutException", 408),
    ("ResourceNotFoundException", 404),
    ("ServiceQuotaExceededException", 429),
    ("ServiceUnavailableException", 503),
    ("SignatureDoesNotMatch", 403),
    ("ThrottlingException", 429),
    ("UnrecognizedClientException", 403),
    ("ValidationException", 400),
];

/// The dialect.
pub struct Bedrock;

impl Wire for Bedrock {
    fn path(&self, operation: Operation, model: &str, stream: bool) -> Option<Cow<'static, str>> {
        operation.is_chat().then(|| path(model, stream).into())
    }

    /// Bedrock's own keys. Whoever has AWS credentials signs instead.
    fn credential(&self, key: &Secret) -> (HeaderName, String) {
        wire::bearer(key)
    }

    fn stream_type(&self) -> &'static str {
        EVENT_STREAM
    }

    fn refusal(&self, headers: &HeaderMap, json: Option<&Value>) -> Option<(Option<StatusCode>, Value)> {
        let json = json.unwrap_or(&Value::Null);
        if json.get("error").is_some() {
            return None;
        }
        let kind = headers.get(ERROR_TYPE).and_then(|v| v.to_str().ok()).or_else(|| text_in(json, "__type"));
        let envelope = error(kind.unwrap_or_default(), json);
        let status = envelope.pointer("/error/status").and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok());
        Some((status.and_then(|n| StatusCode::from_u16(n).ok()), envelope))
    }

    /// An answer of Converse bears neither an id nor the model's name.
    fn name(&self, json: &mut Value, identity: &Identity) {
        let start = "messageStart";
        let named = if json.get(start).is_some() { json.get_mut(start) } else { Some(json) };
        if let Some(Value::Object(members)) = named.filter(|v| v.get("role").is_some() || v.get("output").is_some()) {
            members.insert("id".to_owned(), identity.id.clone().into());
            members.insert("model".to_owned(), identity.model.clone().into());
        }
    }

    fn look(&self, frame: &Frame) -> Seen {
        wire::look(frame)
    }

    fn begins(&self, event: &Value) -> bool {
        ["contentBlockStart", "contentBlockDelta", "messageStop"].iter().any(|kind| event.get(kind).is_some())
    }

    fn is_answer(&self, json: &Value) -> bool {
        json.pointer("/output/message/content").is_some_and(Value::is_array)
    }

    fn usage(&self, json: &Value) -> Option<Usage> {
        Usage::from_bedrock(json.get("usage")?)
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

    /// The status in the envelope is for the gateway; the code is the one that has a name, or none.
    fn fault(&self, json: &Value) -> Fault {
        let word = |place: &str| json.pointer(place).and_then(Value::as_str).map(str::to_owned);
        let (message, kind) = (word("/error/message").unwrap_or_default(), word("/error/type").unwrap_or_default());
        Fault { message, kind, code: word("/error/code"), param: None }
    }
}

/// Who made a model, as far as its id tells: what Converse has no member for is asked of each in its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// Claude. Also taken for granted of ids that tell nothing (application inference profiles, provisioned models).
    Anthropic,
    /// Nova.
    Amazon,
    /// The gpt-oss models.
    Openai,
    /// Mistral.
    Mistral,
    /// Somebody else.
    Other,
}

impl Maker {
    /// The maker of the model with this id, inference profile or ARN.
    pub fn of(model: &str) -> Maker {
        let known = [
            ("anthropic.", Maker::Anthropic),
            ("amazon.nova", Maker::Amazon),
            ("openai.", Maker::Openai),
            ("mistral.", Maker::Mistral),
            (":application-inference-profile/", Maker::Anthropic),
            (":provisioned-model/", Maker::Anthropic),
        ];
        known.iter().find(|(part, _)| model.contains(part)).map_or(Maker::Other, |(_, maker)| *maker)
    }
}

/// Where a chat goes, below the base URL. Ids hold colons, and ARNs slashes, which are part of the id.
fn path(model: &str, stream: bool) -> String {
    let mut out = "/model/".to_owned();
    for b in model.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out + if stream { "/converse-stream" } else { "/converse" }
}

/// An error in the envelope that other dialects have: `{"error": {type, message, status, code}}`. The type may be that
/// of a frame (`throttlingException`) or of an answer (`ThrottlingException:http://…`, `com.amazon…#ThrottlingException`);
/// a code stands there only for a context that is too small, which everybody calls by the same name.
pub fn error(kind: &str, told: &Value) -> Value {
    let kind = kind.split(':').next().unwrap_or_default();
    let kind = kind.rsplit('#').next().unwrap_or_default();
    let mut letters = kind.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    let kind: String = first.into_iter().chain(letters).take(KIND_CHARS_MAX).collect();
    let mut out = object([("type", kind.clone().into())]);
    let said = ["message", "Message", "originalMessage"].iter().find_map(|name| text_in(told, name));
    out.extend(said.map(|m| ("message".to_owned(), m.into())));
    let status = STATUSES.iter().find(|(name, _)| *name == kind);
    out.extend(status.map(|(_, status)| ("status".to_owned(), (*status).into())));
    let lower = said.unwrap_or_default().to_ascii_lowercase();
    let too_long = kind == "ValidationException" && TOO_LONG.iter().any(|words| lower.contains(words));
    out.extend(too_long.then(|| ("code".to_owned(), "context_length_exceeded".into())));
    json!({ "error": out })
}

/// The end behind the word. What the model garbled is no answer to keep.
fn stop(reason: &str) -> Stop {
    match reason {
        "stop_sequence" => Stop::Sequence(None),
        "max_tokens" => Stop::Length,
        "model_context_window_exceeded" => Stop::ContextFull,
        "tool_use" => Stop::Calls,
        "guardrail_intervened" | "content_filtered" | "malformed_model_output" | "malformed_tool_use" => Stop::Filtered,
        _ => Stop::End,
    }
}
