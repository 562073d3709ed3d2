//! What can go wrong on an AI route, and its answer in the client's dialect: what, where, what to do.

use super::dialect::Dialect;
use super::dialect::chat::Fault;
use crate::base::reply::Reply;
use crate::base::source::Source;
use http::{Method, StatusCode};
use serde_json::json;
use std::time::Duration;

/// What the client libraries of OpenAI and Anthropic heed before they try again by themselves.
const SHOULD_RETRY: http::HeaderName = http::HeaderName::from_static("x-should-retry");

/// Why a model call was refused or failed. Messages never carry keys, header values or provider URLs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AiError {
    /// The body is not a JSON object that this endpoint takes.
    #[error("{message}")]
    Invalid {
        /// What is wrong and where.
        message: String,
        /// The field at fault.
        param: Option<String>,
        /// The machine-readable code.
        code: &'static str,
    },
    /// The body is over `ai.max_body`.
    #[error("the request body is larger than the limit of {bytes_max} bytes (ai.max_body)")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// Neither a model nor a tier.
    #[error("{0}")]
    NoModel(String),
    /// A path that is no endpoint.
    #[error(
        "no AI endpoint at {0}; there are /chat/completions, /completions, /responses, /messages, /messages/count_tokens, /embeddings, /models and /models/{{model}}:generateContent, :streamGenerateContent and :countTokens under this route"
    )]
    NoEndpoint(String),
    /// An endpoint that the route does not open.
    #[error("the endpoint {0:?} is not open on this route (ai.passthrough.endpoints)")]
    EndpointClosed(&'static str),
    /// The right path with the wrong method.
    #[error("this endpoint takes {allowed}")]
    Method {
        /// The method to use.
        allowed: Method,
    },
    /// The caller may not, or cannot pay; or a guard refused the request or withheld the answer.
    #[error("{message}")]
    Refused {
        /// The status to refuse with.
        status: StatusCode,
        /// Why, for the caller.
        message: String,
        /// The one word for log, metric and header.
        reason: &'static str,
    },
    /// Every model failed and the last provider left no answer of its own to pass on.
    #[error("{message}")]
    Provider {
        /// What happened, at which provider.
        message: String,
        /// Whether a time limit was the cause.
        timeout: bool,
        /// The reason of the last failure.
        reason: &'static str,
    },
    /// Every model that may answer is left alone for a while.
    #[error("{message}")]
    Resting {
        /// What was asked for.
        message: String,
        /// How long until the first may be asked again.
        wait: Duration,
        /// Whether its provider asked for the pause.
        limited: bool,
    },
}

impl AiError {
    /// A fault in the body.
    pub fn invalid(message: impl Into<String>, param: Option<&str>, code: &'static str) -> Self {
        AiError::Invalid { message: message.into(), param: param.map(str::to_owned), code }
    }

    /// The one word for log, metric and header.
    pub fn reason(&self) -> &'static str {
        match self {
            AiError::Invalid { code, .. } => code,
            AiError::TooLarge { .. } => "body_too_large",
            AiError::NoModel(_) => "model_not_found",
            AiError::NoEndpoint(_) => "no_endpoint",
            AiError::EndpointClosed(_) => "endpoint_closed",
            AiError::Method { .. } => "method_not_allowed",
            AiError::Provider { reason, .. } | AiError::Refused { reason, .. } => reason,
            AiError::Resting { .. } => "models_resting",
        }
    }

    /// The status that goes with it.
    pub fn status(&self) -> StatusCode {
        match self {
            AiError::Invalid { .. } => StatusCode::BAD_REQUEST,
            AiError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            AiError::NoModel(_) | AiError::NoEndpoint(_) | AiError::EndpointClosed(_) => StatusCode::NOT_FOUND,
            AiError::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            AiError::Refused { status, .. } => *status,
            AiError::Provider { timeout: true, .. } => StatusCode::GATEWAY_TIMEOUT,
            AiError::Provider { .. } => StatusCode::BAD_GATEWAY,
            AiError::Resting { limited: true, .. } => StatusCode::TOO_MANY_REQUESTS,
            AiError::Resting { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The answer for a client of this dialect.
    pub fn reply(&self, dialect: Dialect) -> Reply {
        let param = match self {
            AiError::Invalid { param, .. } => param.clone(),
            AiError::NoModel(_) => Some("model".to_owned()),
            _ => None,
        };
        let code = Some(self.reason().to_owned());
        let fault = Fault { message: self.to_string(), kind: String::new(), code, param };
        let body = dialect.wire().error(self.status(), &fault);
        let reply = Reply::json(self.status(), Source::Gateway, &body).because(self.reason());
        match self {
            AiError::Method { allowed } => reply.with(http::header::ALLOW, allowed.as_str()),
            // A budget does not fill up while a client library waits.
            AiError::Refused { status: StatusCode::TOO_MANY_REQUESTS, .. } => reply.with(SHOULD_RETRY, "false"),
            AiError::Resting { wait, .. } => {
                let seconds = wait.as_millis().div_ceil(1000).max(1);
                reply.with(http::header::RETRY_AFTER, &seconds.to_string())
            }
            _ => reply,
        }
    }
}

/// The OpenAI error object, which their SDKs turn into typed exceptions.
pub fn error_json(message: &str, kind: &str, param: Option<&str>, code: &str) -> serde_json::Value {
    json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
}
