//! The verdict on a provider's failure: may the next model be tried, and what is the client told if none is?

use super::catalog::Model;
use super::error::{AiError, error_json};
use crate::fetch::{FetchError, Fetched};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde_json::Value;
use std::time::Duration;

/// The largest error body that is read and passed on.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// The reason of a failure that is about the gateway's credentials.
pub const PROVIDER_AUTH: &str = "provider_auth";
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

/// Answer fields of the provider that reach the client.
const RETURNED: [&str; 10] = [
    "openai-processing-ms",
    "openai-version",
    "retry-after",
    "retry-after-ms",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
];

/// A provider's answer that is final although it is no success: the request itself is at fault.
#[derive(Debug)]
pub struct Passed {
    /// The provider's status.
    pub status: StatusCode,
    /// Fields for the client.
    pub headers: HeaderMap,
    /// An OpenAI-shaped body.
    pub body: Bytes,
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
    /// Whether another model may be tried.
    pub next: bool,
    /// What the client gets if nothing else is tried.
    pub passed: Box<Result<Passed, AiError>>,
}

/// The fields for the client.
pub fn returned(headers: &HeaderMap) -> HeaderMap {
    let known = RETURNED.map(HeaderName::from_static);
    known.into_iter().filter_map(|n| headers.get(&n).map(|v| (n.clone(), v.clone()))).collect()
}

/// A status other than 2xx.
pub async fn refused(model: &Model, fetched: Fetched) -> Failure {
    let (status, headers) = (fetched.status, returned(&fetched.headers));
    let after = headers.get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(|v| v.trim().parse().ok());
    let body = fetched.bytes(ERROR_BYTES_MAX).await.unwrap_or_default();
    let name = &model.provider.name;
    let json: Option<Value> = serde_json::from_slice(&body).ok();
    let (reason, next) = match status.as_u16() {
        401 | 403 => (PROVIDER_AUTH, true),
        _ if json.as_ref().is_some_and(about_credentials) => (PROVIDER_AUTH, true),
        404 => ("provider_not_found", true),
        408 => ("provider_timeout", true),
        429 => ("provider_rate_limited", true),
        500..=599 => ("provider_error", true),
        300..=399 => ("provider_redirect", true),
        _ => ("provider_refused", false),
    };
    let passed = match reason {
        PROVIDER_AUTH => Err(credentials_refused(model)),
        "provider_redirect" => Err(failed(format!("the provider {name:?} answered with a redirect"), false, reason)),
        _ if json.as_ref().is_some_and(has_message) => Ok(Passed { status, headers, body }),
        _ => Ok(Passed { status, headers, body: wrapped(name, status) }),
    };
    Failure {
        reason,
        status: Some(status),
        retry_after: after.map(Duration::from_secs),
        next,
        passed: Box::new(passed),
    }
}

/// Whether a body is an OpenAI-shaped error.
pub fn has_message(json: &Value) -> bool {
    json.pointer("/error/message").is_some_and(Value::is_string)
}

/// Whether an error object is about credentials, in the words of OpenAI, Anthropic and Google. Those are the
/// gateway's: what the provider says about them (often part of the key) is none of the client's business.
pub fn about_credentials(json: &Value) -> bool {
    let mut told = ["/error/code", "/error/type", "/error/status"].into_iter().filter_map(|place| json.pointer(place));
    told.any(|word| match word {
        Value::Number(n) => matches!(n.as_u64(), Some(401 | 403)),
        Value::String(s) => CREDENTIAL_WORDS.iter().any(|w| s.eq_ignore_ascii_case(w)),
        _ => false,
    })
}

fn credentials_refused(model: &Model) -> AiError {
    failed(format!("the provider {:?} refused the gateway's credentials", model.provider.name), false, PROVIDER_AUTH)
}

fn wrapped(provider: &str, status: StatusCode) -> Bytes {
    let message = format!("the provider {provider:?} answered with status {}", status.as_u16());
    error_json(&message, "api_error", None, "provider_error").to_string().into()
}

/// An error object in an answer of status 200.
pub fn error_in_success(model: &Model, json: &Value) -> Failure {
    let code = json.pointer("/error/code").or_else(|| json.pointer("/error/status"));
    let told = code.and_then(Value::as_u64).and_then(|c| u16::try_from(c).ok());
    let status = told.and_then(|c| StatusCode::from_u16(c).ok()).filter(|s| s.is_client_error() || s.is_server_error());
    let status = status.unwrap_or(StatusCode::BAD_GATEWAY);
    let (reason, passed) = if about_credentials(json) {
        (PROVIDER_AUTH, Err(credentials_refused(model)))
    } else {
        let own = || Bytes::from(serde_json::json!({ "error": json.get("error") }).to_string());
        let body = if has_message(json) { own() } else { wrapped(&model.provider.name, status) };
        ("provider_error_in_success", Ok(Passed { status, headers: HeaderMap::new(), body }))
    };
    Failure { reason, status: Some(StatusCode::OK), retry_after: None, next: true, passed: Box::new(passed) }
}

/// No answer at all.
pub fn unreachable(model: &Model, e: &FetchError) -> Failure {
    let message = format!("the provider {:?} gave no answer: {e}", model.provider.name);
    let passed = Err(failed(message, e.is_timeout(), e.as_str()));
    Failure { reason: e.as_str(), status: None, retry_after: None, next: true, passed: Box::new(passed) }
}

/// A stream that ended before its first content.
pub fn broken(model: &Model, reason: &'static str) -> Failure {
    let message =
        format!("the stream of the provider {:?} broke before its first content: {reason}", model.provider.name);
    let passed = Err(failed(message, reason.ends_with("timeout"), reason));
    Failure { reason, status: Some(StatusCode::OK), retry_after: None, next: true, passed: Box::new(passed) }
}

/// An answer that is none.
pub fn garbage(model: &Model, what: &str) -> Failure {
    let reason = "provider_garbage";
    let message = format!("the provider {:?} sent {what}", model.provider.name);
    let passed = Err(failed(message, false, reason));
    Failure { reason, status: Some(StatusCode::OK), retry_after: None, next: true, passed: Box::new(passed) }
}

fn failed(message: String, timeout: bool, reason: &'static str) -> AiError {
    AiError::Provider { message, timeout, reason }
}
