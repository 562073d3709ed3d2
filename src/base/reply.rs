//! A reply as a value: organs make it, `proxy/reply.rs` alone writes it to a client.

use super::source::Source;
use async_trait::async_trait;
use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// A stream that ended badly: the client sees an aborted body, never a made-up clean end.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// A body produced piece by piece. It is pulled, so dropping it cancels whatever feeds it.
#[async_trait]
pub trait Chunks: Send {
    /// The next piece, `None` at a clean end.
    async fn next(&mut self) -> Option<Result<Bytes, Broken>>;
}

/// What follows the header.
pub enum Body {
    /// Nothing.
    Empty,
    /// All of it.
    Full(Bytes),
    /// Pieces, each flushed to the client as it comes.
    Stream(Box<dyn Chunks>),
}

/// A whole answer.
pub struct Reply {
    /// The status code.
    pub status: StatusCode,
    /// Header fields; framing fields (`Content-Length`, `Transfer-Encoding`) are the writer's business.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// Who made it.
    pub source: Source,
    /// Why, as one snake_case word for log, metric and header (`no_route`, `jwt_expired` …); empty when there is nothing to say.
    pub reason: &'static str,
    /// Facts for the log that only the maker knows (the AI organ leaves its call record here).
    pub extensions: Extensions,
}

impl Reply {
    /// An empty reply.
    pub fn new(status: StatusCode, source: Source) -> Self {
        Reply {
            status,
            headers: HeaderMap::new(),
            body: Body::Empty,
            source,
            reason: "",
            extensions: Extensions::new(),
        }
    }

    /// A reply with a whole body of the given media type.
    pub fn full(status: StatusCode, source: Source, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut r = Reply::new(status, source);
        r.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        r.body = Body::Full(body.into());
        r
    }

    /// A short plain-text answer.
    pub fn text(status: StatusCode, source: Source, body: impl Into<String>) -> Self {
        Reply::full(status, source, "text/plain; charset=utf-8", body.into())
    }

    /// A JSON answer.
    pub fn json(status: StatusCode, source: Source, body: &serde_json::Value) -> Self {
        Reply::full(status, source, "application/json", body.to_string())
    }

    /// Says why.
    pub fn because(mut self, reason: &'static str) -> Self {
        self.reason = reason;
        self
    }

    /// Sets a field from a computed value; a value that is no valid field value is left out.
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(v) = HeaderValue::from_str(value) {
            self.headers.insert(name, v);
        }
        self
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = match &self.body {
            Body::Empty => "empty".to_owned(),
            Body::Full(b) => format!("{} bytes", b.len()),
            Body::Stream(_) => "stream".to_owned(),
        };
        f.debug_struct("Reply")
            .field("status", &self.status)
            .field("source", &self.source.as_str())
            .field("reason", &self.reason)
            .field("body", &body)
            .finish_non_exhaustive()
    }
}
