//! Why a model gave no answer, as far as it matters for what is done next: pure judgement of statuses and error bodies.

use super::breaker::Went;
use crate::config::ai::FallbackOn;
use crate::fetch::FetchError;
use serde_json::Value;
use std::time::Duration;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No connection, or none that lasted until the answer.
    Connect,
    /// A time limit.
    Timeout,
    /// Status 409 or 425.
    Conflict,
    /// Too many calls.
    RateLimit,
    /// Too little money: asking again does not help.
    Quota,
    /// The provider's own fault.
    Server,
    /// What came is no answer.
    BadAnswer,
    /// A good answer that a guard withholds: another model may keep to the rules.
    Withheld,
    /// The gateway's key is refused.
    Credentials,
    /// The provider does not know the model, or what the request refers to.
    NotFound,
    /// The prompt is too long for the model.
    ContextOverflow,
    /// The request has no words in the model's dialect.
    Unsupported,
    /// The content filter.
    ContentFilter,
    /// The request is at fault: whoever is asked, the answer is the same.
    Request,
    /// Nobody was asked: all models rest, or the time is up.
    Nobody,
}

impl Cause {
    /// The failure's name in `fallback_on`; none for failures that are always final.
    pub fn name(self) -> Option<FallbackOn> {
        Some(match self {
            Cause::Connect => FallbackOn::ConnectError,
            Cause::Timeout => FallbackOn::Timeout,
            Cause::Conflict => FallbackOn::Conflict,
            Cause::RateLimit | Cause::Quota => FallbackOn::RateLimit,
            Cause::Server => FallbackOn::ServerError,
            Cause::BadAnswer | Cause::Withheld => FallbackOn::BadAnswer,
            Cause::Credentials => FallbackOn::Credentials,
            Cause::NotFound => FallbackOn::NotFound,
            Cause::ContextOverflow => FallbackOn::ContextOverflow,
            Cause::Unsupported => FallbackOn::Unsupported,
            Cause::ContentFilter => FallbackOn::ContentFilter,
            Cause::Request | Cause::Nobody => return None,
        })
    }

    /// Whether the same model may do better on a second try.
    pub fn passes(self) -> bool {
        matches!(self, Cause::Connect | Cause::RateLimit | Cause::Server)
    }

    /// What it says about the model's health; nothing, where the model was not asked or the request is at fault in a
    /// way that says nothing about it.
    pub fn went(self, retry_after: Option<Duration>) -> Option<Went> {
        match (self, retry_after) {
            (Cause::RateLimit | Cause::Quota | Cause::Server, Some(wait)) if !wait.is_zero() => Some(Went::Told(wait)),
            (Cause::Connect | Cause::Timeout | Cause::RateLimit | Cause::Server | Cause::BadAnswer, _) => {
                Some(Went::Badly)
            }
            // Money does not come back by itself: rest as for a refused key.
            (Cause::Quota | Cause::Credentials, _) => Some(Went::Refused),
            (Cause::ContextOverflow | Cause::ContentFilter | Cause::Withheld | Cause::Request, _) => Some(Went::Well),
            (Cause::Conflict | Cause::NotFound | Cause::Unsupported | Cause::Nobody, _) => None,
        }
    }
}

/// An error status of a provider, with its body.
pub fn of_status(status: u16, body: Option<&Value>) -> Cause {
    let word = |place: &str| body.and_then(|b| b.pointer(place)).and_then(Value::as_str).unwrap_or_default();
    let says = |words: &[&str]| {
        ["/error/code", "/error/type", "/error/innererror/code", "/code", "/__type"]
            .iter()
            .any(|p| words.contains(&word(p)))
    };
    match status {
        401 | 403 => Cause::Credentials,
        404 => Cause::NotFound,
        408 => Cause::Timeout,
        409 | 425 => Cause::Conflict,
        402 => Cause::Quota,
        429 if says(&["insufficient_quota", "billing_hard_limit_reached"]) => Cause::Quota,
        429 => Cause::RateLimit,
        // A model that failed, in Bedrock's words.
        424 | 500..=599 => Cause::Server,
        300..=399 => Cause::BadAnswer,
        400 | 413 | 422 if says(&OVERFLOW_CODES) || overflows(message(body)) => Cause::ContextOverflow,
        400 | 422 if says(&FILTER_CODES) => Cause::ContentFilter,
        _ => Cause::Request,
    }
}

const OVERFLOW_CODES: [&str; 3] = ["context_length_exceeded", "exceed_context_size_error", "string_above_max_length"];
const FILTER_CODES: [&str; 4] =
    ["content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation", "guardrail_intervened"];
/// What providers say of a prompt that is too long, in lower case: Anthropic, Gemini, Bedrock (two), vLLM, Mistral.
const OVERFLOW_WORDS: [&str; 6] = [
    "prompt is too long",
    "exceeds the maximum number of tokens allowed",
    "input is too long",
    "too many input tokens",
    "maximum context length",
    "too large for model with",
];
/// Characters of a message that are looked at.
const MESSAGE_CHARS_MAX: usize = 2000;

fn message(body: Option<&Value>) -> &str {
    let at = |place: &str| body.and_then(|b| b.pointer(place)).and_then(Value::as_str);
    at("/error/message").or_else(|| at("/message")).unwrap_or_default()
}

fn overflows(message: &str) -> bool {
    let message: String = message.chars().take(MESSAGE_CHARS_MAX).flat_map(char::to_lowercase).collect();
    OVERFLOW_WORDS.iter().any(|w| message.contains(w))
}

/// A call that brought no complete answer.
pub fn of_fetch(e: &FetchError) -> Cause {
    match e {
        FetchError::Resolve(_) | FetchError::Connect(_) | FetchError::Cut => Cause::Connect,
        FetchError::Timeout(_) => Cause::Timeout,
        FetchError::Protocol(_) | FetchError::TooLarge { .. } => Cause::BadAnswer,
        FetchError::Request(_) => Cause::Unsupported,
        FetchError::Body(_) => Cause::Request,
    }
}

/// Whether the content filter took (part of) a complete answer, in the words of OpenAI, Anthropic, Bedrock and Google.
pub fn filtered(answer: &Value) -> bool {
    let word = |place: &str| answer.pointer(place).and_then(Value::as_str);
    let blocked = ["SAFETY", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "RECITATION"];
    word("/choices/0/finish_reason") == Some("content_filter")
        || word("/incomplete_details/reason") == Some("content_filter")
        || word("/stop_reason") == Some("refusal")
        || matches!(word("/stopReason"), Some("guardrail_intervened" | "content_filtered"))
        || answer.pointer("/promptFeedback/blockReason").is_some()
        || word("/candidates/0/finishReason").is_some_and(|r| blocked.contains(&r))
}
