//! Writes a `Reply` to the client: the only place that does.

use super::ctx::Ctx;
use super::{coding, response};
use crate::base::reply::{Body, Chunks, Reply};
use bytes::Bytes;
use http::{Method, Version, header};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType};
use pingora_proxy::Session;

/// Sends the whole answer. A stream that breaks aborts the connection (HTTP/1) or the stream (HTTP/2).
pub async fn send(session: &mut Session, ctx: &mut Ctx, mut reply: Reply) -> pingora::Result<()> {
    ctx.source = reply.source;
    ctx.reason = reply.reason;
    let mut head = ResponseHeader::build(reply.status, Some(reply.headers.len() + 8))?;
    for (n, v) in &reply.headers {
        head.append_header(n.clone(), v.clone())?;
    }
    coding::reply(session, &mut head, &mut reply, ctx).await;
    let is_head = session.req_header().method == Method::HEAD;
    let bodyless = reply.status.is_informational() || matches!(reply.status.as_u16(), 204 | 304);
    match &reply.body {
        _ if bodyless => {}
        Body::Empty => head.insert_header(header::CONTENT_LENGTH, "0")?,
        Body::Full(b) => head.insert_header(header::CONTENT_LENGTH, b.len())?,
        Body::Stream(_) if session.req_header().version == Version::HTTP_11 => {
            head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
        }
        // HTTP/2 frames bodies itself; HTTP/1.0 ends them by closing.
        Body::Stream(_) => {}
    }
    response::finish(&mut head, ctx)?;
    let nothing = is_head || bodyless || matches!(&reply.body, Body::Empty);
    session.write_response_header(Box::new(head), nothing).await?;
    match reply.body {
        _ if nothing => Ok(()),
        Body::Empty => Ok(()),
        Body::Full(b) => session.write_response_body(Some(b), true).await,
        Body::Stream(chunks) => stream(session, ctx, chunks).await,
    }
}

async fn stream(session: &mut Session, ctx: &mut Ctx, mut chunks: Box<dyn Chunks>) -> pingora::Result<()> {
    loop {
        let next = tokio::select! {
            biased;
            next = chunks.next() => next,
            gone = client_gone(session) => {
                // Dropping the stream here cancels whatever feeds it.
                ctx.reason = "client_gone";
                return Err(gone);
            }
        };
        match next {
            Some(Ok(piece)) if piece.is_empty() => {}
            Some(Ok(piece)) => session.write_response_body(Some(piece), false).await?,
            None => return session.write_response_body(Some(Bytes::new()), true).await,
            Some(Err(broken)) => {
                ctx.error = Some(broken.to_string());
                return Err(Error::explain(ErrorType::InternalError, "the stream broke off"));
            }
        }
    }
}

/// Resolves with an error when the client has closed; never when it is just waiting.
pub async fn client_gone(session: &mut Session) -> Box<Error> {
    match session.downstream_session.read_body_or_idle(true).await {
        Err(e) => e.into_down(),
        // Bytes after the end of the request are the next request's: the client is there.
        Ok(_) => std::future::pending().await,
    }
}
