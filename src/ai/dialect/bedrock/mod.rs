//! Amazon Bedrock's Converse, as a provider:
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html> and `…_ConverseStream.html`.
//!
//! Shapes are those of the service's model in botocore 1.44. Errors carry their type in a header or in the frame and
//! have no envelope; [`error`] gives them the one that every other dialect has.

pub mod answer;
pub mod stream_in;
mod tools;
pub mod write;

use super::chat::{Stop, text_in};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

/// The media type of a stream.
pub const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";
/// The field of an answer with the type of the error.
const ERROR_TYPE: &str = "x-amzn-errortype";
/// How a request that does not fit into the model's context is refused.
const TOO_LONG: [&str; 5] =
    ["input is too long", "prompt is too long", "too many input tokens", "context window", "context length"];
/// Error types with the status that each has outside a stream. Two tell of a limit as if the request were at fault.
const STATUSES: [(&str, u16); 12] = [
    ("AccessDeniedException", 403),
    ("InternalServerException", 500),
    ("ModelErrorException", 424),
    ("ModelNotReadyException", 429),
    ("ModelStreamErrorException", 424),
    ("ModelTimeoutException", 408),
    ("ResourceNotFoundException", 404),
    ("ServiceQuotaExceededException", 429),
    ("ServiceUnavailableException", 503),
    ("ThrottlingException", 429),
    ("UnrecognizedClientException", 403),
    ("ValidationException", 400),
];
/// Error types that are about the signature or the key, whatever their status.
pub const CREDENTIAL_TYPES: [&str; 8] = [
    "AccessDeniedException",
    "ExpiredTokenException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "UnrecognizedClientException",
];

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
pub fn path(model: &str, stream: bool) -> String {
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

/// Whether JSON is an answer.
pub fn is_answer(json: &Value) -> bool {
    json.pointer("/output/message/content").is_some_and(Value::is_array)
}

/// Whether an event carries something of the answer itself.
pub fn begins(event: &Value) -> bool {
    ["contentBlockStart", "contentBlockDelta", "messageStop"].iter().any(|kind| event.get(kind).is_some())
}

/// The type of an error that came as a whole answer: a header tells it, for some front ends the body.
pub fn error_type<'a>(headers: &'a HeaderMap, told: &'a Value) -> &'a str {
    let header = headers.get(ERROR_TYPE).and_then(|v| v.to_str().ok());
    header.or_else(|| text_in(told, "__type")).unwrap_or_default()
}

/// An error in the envelope that other dialects have: `{"error": {type, message, code}}`. The type may be that of a
/// frame (`throttlingException`) or of an answer (`ThrottlingException:http://…`, `com.amazon…#ThrottlingException`);
/// a code stands there only for a context that is too small, which everybody calls by the same name.
pub fn error(kind: &str, told: &Value) -> Value {
    let kind = kind.split(':').next().unwrap_or_default();
    let kind = kind.rsplit('#').next().unwrap_or_default();
    let mut letters = kind.chars();
    let kind: String = letters.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(letters).take(64).collect();
    let said = ["message", "Message", "originalMessage"].iter().find_map(|name| text_in(told, name));
    let mut error = json!({ "type": kind });
    if let Some(message) = said {
        error["message"] = message.into();
        let lower = message.to_ascii_lowercase();
        if kind == "ValidationException" && TOO_LONG.iter().any(|words| lower.contains(words)) {
            error["code"] = "context_length_exceeded".into();
        }
    }
    json!({ "error": error })
}

/// The status of an error in that envelope.
pub fn status_of(json: &Value) -> Option<StatusCode> {
    let kind = json.pointer("/error/type").and_then(Value::as_str)?;
    let (_, status) = STATUSES.iter().find(|(name, _)| *name == kind)?;
    StatusCode::from_u16(*status).ok()
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
