//! Why an outbound call failed, and how Pingora's errors map to it.

use pingora::{BError, ErrorType};

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The name look-up, the TCP connection and the TLS handshake.
    Connect,
    /// Sending the request and waiting for the response header.
    FirstByte,
    /// The pause between two pieces of the body.
    BetweenBytes,
}

/// Why an outbound call failed. Messages name hosts and sizes, never header values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The request cannot be put on the wire.
    #[error("cannot build the request: {0}")]
    Request(String),
    /// The host name has no address.
    #[error("cannot resolve {0}")]
    Resolve(String),
    /// The request's body came to no good end.
    #[error("the request's body broke off: {0}")]
    Body(String),
    /// No connection: refused, unreachable, or the TLS handshake failed.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// A time limit passed.
    #[error("timed out: {}", stage_text(.0))]
    Timeout(Stage),
    /// What came back is no valid HTTP.
    #[error("the answer is not valid HTTP: {0}")]
    Protocol(String),
    /// The connection ended before the message did.
    #[error("the connection was cut before the answer was complete")]
    Cut,
    /// The answer is over a limit.
    #[error("the answer is larger than {bytes_max} bytes")]
    TooLarge {
        /// The limit that was passed.
        bytes_max: usize,
    },
}

fn stage_text(stage: &Stage) -> &'static str {
    match stage {
        Stage::Connect => "no connection within the limit",
        Stage::FirstByte => "no response header within the limit",
        Stage::BetweenBytes => "no further bytes within the limit",
    }
}

impl FetchError {
    /// The one spelling used in logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            FetchError::Request(_) => "bad_request",
            FetchError::Body(_) => "request_cut",
            FetchError::Resolve(_) => "resolve_failed",
            FetchError::Connect(_) => "connect_failed",
            FetchError::Timeout(Stage::Connect) => "connect_timeout",
            FetchError::Timeout(Stage::FirstByte) => "first_byte_timeout",
            FetchError::Timeout(Stage::BetweenBytes) => "between_bytes_timeout",
            FetchError::Protocol(_) => "bad_answer",
            FetchError::Cut => "cut",
            FetchError::TooLarge { .. } => "too_large",
        }
    }

    /// Whether a time limit was the cause.
    pub fn is_timeout(&self) -> bool {
        matches!(self, FetchError::Timeout(_))
    }

    /// From an error met while connecting.
    pub(super) fn connecting(e: &BError) -> Self {
        match e.etype() {
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => FetchError::Timeout(Stage::Connect),
            other => FetchError::Connect(other.as_str().to_owned()),
        }
    }

    /// From an error met while sending, or reading in the given stage.
    pub(super) fn talking(e: &BError, stage: Stage) -> Self {
        match e.etype() {
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => FetchError::Timeout(stage),
            ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError => FetchError::Cut,
            // The context of these errors may quote bytes of the peer: only the kind is told.
            other => FetchError::Protocol(other.as_str().to_owned()),
        }
    }
}
