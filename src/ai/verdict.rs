//! The verdict on a provider's failure: what does it mean, and what is the client told if nothing else is tried?

use super::catalog::{Model, Peer};
use super::dialect::Dialect;
use super::dialect::chat::Fault;
use super::error::AiError;
use super::routing::cause::{self, Cause};
use super::routing::hints;
use crate::base::reply::Reply;
use crate::base::source::Source;
use crate::fetch::{FetchError, Fetched};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// The largest error body that is read and passed on.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// The reason of a failure that is about the gateway's credentials.
pub const PROVIDER_AUTH: &str = "provider_auth";
/// The reason of one that is about the request's own time.
pub const DEADLINE: &str = "deadline";
/// Error codes, types and statuses that mean the same.
const CREDENTIAL_WORDS: [&str; 7] = [
    "invalid_api_key",
    "authentication_error",
    "permission_error",
    "unauthenticated",
    "permission_denied",
    "401",
    "403",
];

/// Anthropic's error types that may stand in a stream, with their statuses.
const ANTHROPIC_TYPES: [(&str, u16); 5] = [
    ("overloaded_error", 529),
    ("api_error", 500),
    ("timeout_error", 504),
    ("rate_limit_error", 429),
    ("request_too_large", 413),
];

/// Answer fields of the provider that reach the client.
const RETURNED: [&str; 11] = [
    "openai-processing-ms",
    "openai-version",
    "retry-after",
    "retry-after-ms",
    "x-amzn-requestid",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
];

/// The beginning of the names of Anthropic's counterparts to `x-ratelimit-…`.
const ANTHROPIC_LIMITS: &str = "anthropic-ratelimit-";
/// How many of those pass.
const LIMITS_MAX: usize = 24;

/// A provider's answer that is final although it is no success: the request itself is at fault.
#[derive(Debug)]
pub struct Passed {
    /// The provider's status.
    pub status: StatusCode,
    /// Fields for the client.
    pub headers: HeaderMap,
    /// The body, an error object of the dialect below.
    pub body: Bytes,
    /// What the provider speaks.
    pub dialect: Dialect,
}

impl Passed {
    /// Status and body for a client of this dialect: as received where it is the provider's own.
    pub fn told(self, client: Dialect) -> (StatusCode, Bytes) {
        if client == self.dialect {
            return (self.status, self.body);
        }
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let status = client.wire().status(self.status);
        (status, client.wire().error(status, &self.dialect.wire().fault(&json)).to_string().into())
    }
}

/// A try that failed.
#[derive(Debug)]
pub struct Failure {
    /// The one word for the log.
    pub reason: &'static str,
    /// The provider's status, if there was one.
    pub status: Option<StatusCode>,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    /// What it means for what is done next.
    pub cause: Cause,
    /// What the client gets if nothing else is tried.
    pub passed: Box<Result<Passed, AiError>>,
}

impl Failure {
    /// The answer for a client of this dialect where nothing else is tried.
    pub fn told(self, client: Dialect) -> Reply {
        match *self.passed {
            Ok(mut passed) => {
                let headers = std::mem::take(&mut passed.headers);
                let (status, body) = passed.told(client);
                let mut reply = Reply::full(status, Source::Provider, "application/json", body);
                reply.headers.extend(headers);
                reply.because(self.reason)
            }
            Err(error) => error.reply(client),
        }
    }
}

/// The fields for the client.
pub fn returned(headers: &HeaderMap) -> HeaderMap {
    let known = RETURNED.map(HeaderName::from_static);
    let mut out: HeaderMap =
        known.into_iter().filter_map(|n| headers.get(&n).map(|v| (n.clone(), v.clone()))).collect();
    let limits = headers.iter().filter(|(n, _)| n.as_str().starts_with(ANTHROPIC_LIMITS)).take(LIMITS_MAX);
    out.extend(limits.map(|(n, v)| (n.clone(), v.clone())));
    out
}

/// A status other than 2xx.
pub async fn refused(peer: Peer<'_>, fetched: Fetched) -> Failure {
    let model = peer.model;
    let (status, fields) = (fetched.status, fetched.headers.clone());
    let headers = returned(&fields);
    let body = fetched.bytes(ERROR_BYTES_MAX).await.unwrap_or_default();
    let json: Option<Value> = serde_json::from_slice(&body).ok();
    let (status, json, body) = match peer.dialect.wire().refusal(&fields, json.as_ref()) {
        Some((told, json)) => (told.unwrap_or(status), Some(json.clone()), json.to_string().into()),
        None => (status, json, body),
    };
    let retry_after = hints::retry_after(&fields, json.as_ref(), SystemTime::now());
    let cause = match json.as_ref().is_some_and(about_credentials) {
        true => Cause::Credentials,
        false => cause::of_status(status.as_u16(), json.as_ref()),
    };
    let reason = match (cause, status.as_u16()) {
        (Cause::Credentials, _) => PROVIDER_AUTH,
        (Cause::NotFound, _) => "provider_not_found",
        (Cause::Timeout, _) => "provider_timeout",
        (Cause::RateLimit, _) => "provider_rate_limited",
        (Cause::Quota, _) => "provider_out_of_quota",
        (Cause::Server, _) => "provider_error",
        (Cause::ContextOverflow, _) => "context_overflow",
        (Cause::ContentFilter, _) => "content_filter",
        (_, 300..=399) => "provider_redirect",
        _ => "provider_refused",
    };
    let passed = match reason {
        PROVIDER_AUTH => Err(credentials_refused(model)),
        "provider_redirect" => {
            let name = &model.provider.name;
            Err(failed(format!("the provider {name:?} answered with a redirect"), false, reason))
        }
        _ => {
            let own = json.as_ref().is_some_and(has_message);
            let body = if own { body } else { wrapped(peer, status) };
            Ok(Passed { status, headers, body, dialect: peer.dialect })
        }
    };
    Failure { reason, status: Some(status), retry_after, cause, passed: Box::new(passed) }
}

/// Whether a body is an error with something to say, in the words of OpenAI and Anthropic.
pub fn has_message(json: &Value) -> bool {
    json.pointer("/error/message").is_some_and(Value::is_string)
}

/// Whether an error object is about credentials, in the words of OpenAI, Anthropic and Google. Those are the
/// gateway's: what the provider says about them (often part of the key) is none of the client's business.
pub fn about_credentials(json: &Value) -> bool {
    let mut told = ["/error/code", "/error/type", "/error/status"].into_iter().filter_map(|place| json.pointer(place));
    let invalid_key = |d: &Value| d.get("reason").and_then(Value::as_str) == Some("API_KEY_INVALID");
    let details = json.pointer("/error/details").and_then(Value::as_array);
    // Google answers a wrong key with "invalid argument".
    details.is_some_and(|all| all.iter().any(invalid_key))
        || told.any(|word| match word {
            Value::Number(n) => matches!(n.as_u64(), Some(401 | 403)),
            Value::String(s) => CREDENTIAL_WORDS.iter().any(|w| s.eq_ignore_ascii_case(w)),
            _ => false,
        })
}

fn credentials_refused(model: &Model) -> AiError {
    failed(format!("the provider {:?} refused the gateway's credentials", model.provider.name), false, PROVIDER_AUTH)
}

/// An error object for a provider that sent none.
fn wrapped(peer: Peer<'_>, status: StatusCode) -> Bytes {
    let name = &peer.model.provider.name;
    let message = format!("the provider {name:?} answered with status {}", status.as_u16());
    let fault = Fault { message, code: Some("provider_error".to_owned()), ..Fault::default() };
    let as_fault = if status.is_client_error() || status.is_server_error() { status } else { StatusCode::BAD_GATEWAY };
    peer.dialect.wire().error(as_fault, &fault).to_string().into()
}

/// A request that cannot be said in the model's provider's dialect. Another model may speak the client's own.
pub fn unsupported(message: String, param: Option<&str>) -> Failure {
    let reason = "unsupported_by_provider";
    let passed = Err(AiError::invalid(message, param, reason));
    Failure { reason, status: None, retry_after: None, cause: Cause::Unsupported, passed: Box::new(passed) }
}

/// The status that an error object within a success stands for, where it says.
pub fn status_of(json: &Value) -> Option<StatusCode> {
    let number = |place: &str| json.pointer(place).and_then(Value::as_u64);
    let told =
        number("/error/code").or_else(|| number("/error/status")).and_then(|c| u16::try_from(c).ok()).or_else(|| {
            let kind = json.pointer("/error/type").and_then(Value::as_str)?;
            ANTHROPIC_TYPES.iter().find(|(name, _)| *name == kind).map(|(_, status)| *status)
        });
    told.and_then(|c| StatusCode::from_u16(c).ok()).filter(|s| s.is_client_error() || s.is_server_error())
}

/// An error object in an answer of status 200.
pub fn error_in_success(peer: Peer<'_>, json: &Value) -> Failure {
    let told = status_of(json);
    // One that blames the request is not believed: it would have come with its status.
    let cause = match told.map_or(Cause::BadAnswer, |s| cause::of_status(s.as_u16(), Some(json))) {
        _ if about_credentials(json) => Cause::Credentials,
        Cause::Request => Cause::BadAnswer,
        cause => cause,
    };
    let retry_after = hints::retry_after(&HeaderMap::new(), Some(json), SystemTime::now());
    let status = told.unwrap_or(StatusCode::BAD_GATEWAY);
    let (reason, passed) = if about_credentials(json) {
        (PROVIDER_AUTH, Err(credentials_refused(peer.model)))
    } else {
        let dialect = peer.dialect;
        let own = || dialect.wire().error_in(json).to_string().into();
        let body = if has_message(json) { own() } else { wrapped(peer, status) };
        ("provider_error_in_success", Ok(Passed { status, headers: HeaderMap::new(), body, dialect }))
    };
    Failure { reason, status: Some(StatusCode::OK), retry_after, cause, passed: Box::new(passed) }
}

/// No answer at all.
pub fn unreachable(model: &Model, e: &FetchError) -> Failure {
    let message = format!("the provider {:?} gave no answer: {e}", model.provider.name);
    let passed = Err(failed(message, e.is_timeout(), e.as_str()));
    let cause = cause::of_fetch(e);
    Failure { reason: e.as_str(), status: None, retry_after: None, cause, passed: Box::new(passed) }
}

/// A stream that ended at its beginning, before the client had anything of it.
pub fn broken(model: &Model, reason: &'static str) -> Failure {
    let message = format!("the stream of the provider {:?} broke at its beginning: {reason}", model.provider.name);
    let timeout = reason.ends_with("timeout");
    let passed = Err(failed(message, timeout, reason));
    let cause = if timeout { Cause::Timeout } else { Cause::BadAnswer };
    Failure { reason, status: Some(StatusCode::OK), retry_after: None, cause, passed: Box::new(passed) }
}

/// The request's time was up before the answer had begun.
pub fn too_late(model: &Model) -> Failure {
    let message = format!("the provider {:?} did not answer within this request's time", model.provider.name);
    let passed = Err(failed(message, true, DEADLINE));
    Failure { reason: DEADLINE, status: None, retry_after: None, cause: Cause::Timeout, passed: Box::new(passed) }
}

/// A complete answer that the content filter took.
pub fn filtered(model: &Model) -> Failure {
    let reason = "content_filter";
    let message = format!("the content filter of the provider {:?} took the answer", model.provider.name);
    let passed = Err(failed(message, false, reason));
    let cause = Cause::ContentFilter;
    Failure { reason, status: Some(StatusCode::OK), retry_after: None, cause, passed: Box::new(passed) }
}

/// Nobody was asked, for this reason.
pub fn nobody(error: AiError) -> Failure {
    let (reason, cause) = (error.reason(), Cause::Nobody);
    Failure { reason, status: None, retry_after: None, cause, passed: Box::new(Err(error)) }
}

/// A good answer that a guard withholds.
pub fn withheld(error: AiError, next: bool) -> Failure {
    let (reason, status) = (error.reason(), Some(StatusCode::OK));
    let cause = if next { Cause::Withheld } else { Cause::Request };
    Failure { reason, status, retry_after: None, cause, passed: Box::new(Err(error)) }
}

/// An answer that is none.
pub fn garbage(model: &Model, what: &str) -> Failure {
    let reason = "provider_garbage";
    let message = format!("the provider {:?} sent {what}", model.provider.name);
    let passed = Err(failed(message, false, reason));
    Failure {
        reason,
        status: Some(StatusCode::OK),
        retry_after: None,
        cause: Cause::BadAnswer,
        passed: Box::new(passed),
    }
}

fn failed(message: String, timeout: bool, reason: &'static str) -> AiError {
    AiError::Provider { message, timeout, reason }
}
