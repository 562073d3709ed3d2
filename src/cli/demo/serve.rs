//! The little server under both demo parts: Pingora's HTTP session below, a function from request to reply above.

use crate::base::reply::{Body, Reply};
use crate::base::source::Source;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, header};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream, ServerApp};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::server::ShutdownWatch;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The most of a request body that a demo part reads, in bytes.
const REQUEST_BODY_BYTES_MAX: usize = 4 << 20;
/// How long an idle connection is kept, in seconds.
const KEEPALIVE_SECS: u64 = 60;
/// The pause after a failed accept (out of descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One request, whole.
pub struct Asked {
    /// The method.
    pub method: Method,
    /// The path, as sent.
    pub path: String,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Asked {
    /// A field's value as text; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }
}

/// A demo part: a function from request to reply.
#[async_trait]
pub trait Site: Send + Sync + 'static {
    /// The reply to one request.
    async fn answer(&self, asked: Asked) -> Reply;
}

/// A site as Pingora's kind of application.
pub struct Host<S>(pub S);

/// Accepts connections for ever, each served by a task of its own.
pub async fn accept<S: Site>(listener: TcpListener, host: Arc<Host<S>>) -> anyhow::Result<()> {
    // The sender must outlive the loop: a closed channel would read as "shutting down".
    let (_open, shutdown) = watch::channel(false);
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Streamed tokens are small writes: without this each would wait for the previous one's acknowledgement.
        let _ = socket.set_nodelay(true);
        let (host, shutdown) = (host.clone(), shutdown.clone());
        tokio::spawn(async move {
            host.process_new(Box::new(L4Stream::from(socket)), &shutdown).await;
        });
    }
}

#[async_trait]
impl<S: Site> HttpServerApp for Host<S> {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !session.read_request().await.ok()? {
            return None;
        }
        session.set_keepalive(Some(KEEPALIVE_SECS));
        let reply = match read(&mut session).await? {
            Ok(asked) => self.0.answer(asked).await,
            Err(refusal) => refusal,
        };
        write(&mut session, reply).await?;
        let settings = HttpPersistentSettings::for_session(&session);
        let reusable = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
    }
}

/// Reads the request; `None` when the client went away, the refusal when the body is too large.
async fn read(session: &mut ServerSession) -> Option<Result<Asked, Reply>> {
    let mut body = BytesMut::new();
    while let Some(piece) = session.read_request_body().await.ok()? {
        if body.len() + piece.len() > REQUEST_BODY_BYTES_MAX {
            session.set_keepalive(None);
            return Some(Err(Reply::text(StatusCode::PAYLOAD_TOO_LARGE, Source::Origin, "too large\n")));
        }
        body.extend_from_slice(&piece);
    }
    let head = session.req_header();
    Some(Ok(Asked {
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        headers: head.headers.clone(),
        body: body.freeze(),
    }))
}

/// Writes the reply; `None` when the client went away or the stream broke, either of which ends the connection.
async fn write(session: &mut ServerSession, reply: Reply) -> Option<()> {
    let head_only = session.req_header().method == Method::HEAD || reply.status == StatusCode::NOT_MODIFIED;
    let mut head = ResponseHeader::build(reply.status, Some(reply.headers.len() + 2)).ok()?;
    for (name, value) in &reply.headers {
        head.append_header(name, value).ok()?;
    }
    match &reply.body {
        Body::Empty if reply.status != StatusCode::NOT_MODIFIED => {
            head.insert_header(header::CONTENT_LENGTH, 0).ok()?;
        }
        Body::Full(whole) => head.insert_header(header::CONTENT_LENGTH, whole.len()).ok()?,
        Body::Stream(_) => head.insert_header(header::TRANSFER_ENCODING, "chunked").ok()?,
        Body::Empty => {}
    }
    session.write_response_header(Box::new(head)).await.ok()?;
    match reply.body {
        Body::Full(whole) if !head_only => session.write_response_body(whole, true).await.ok()?,
        Body::Stream(mut pieces) if !head_only => {
            while let Some(piece) = pieces.next().await {
                session.write_response_body(piece.ok()?, false).await.ok()?;
            }
            session.finish_body().await.ok()?;
        }
        _ => session.finish_body().await.ok()?,
    }
    Some(())
}
