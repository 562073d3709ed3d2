//! A request whose body is sent while it comes in: as fast as the server takes it, never held as a whole.

use super::error::{FetchError, Stage};
use super::{Endpoint, Fetched, Fetcher, Framing, answer_header, request_head};
use crate::base::reply::Chunks;
use http::{HeaderMap, Method, header};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use tokio::time::timeout;

/// A body that is not all there yet. Its source limits its own pauses; a source that ends with an error ends the call.
pub struct Upload {
    /// The pieces, pulled one at a time: the next is not asked for before the server has taken the one before.
    pub chunks: Box<dyn Chunks>,
    /// Its length in bytes, where known (sent as `Content-Length`); else HTTP/1.1 is sent chunks.
    pub length: Option<u64>,
}

impl Fetcher {
    /// Sends a request whose body streams, and waits for the response header. Each write may take `ep.between_bytes`,
    /// the header `ep.first_byte` from the end of the body. The connection is a new one: what has been sent cannot be
    /// sent again if a kept one turns out to be dead.
    #[expect(clippy::too_many_arguments, reason = "the parts of one request; a struct would only rename them")]
    pub async fn send_streaming(
        &self,
        ep: &Endpoint,
        method: Method,
        path_and_query: &str,
        headers: HeaderMap,
        mut body: Upload,
    ) -> Result<Fetched, FetchError> {
        let framing = body.length.map_or(Framing::Chunked, Framing::Length);
        let head = request_head(ep, method, path_and_query, headers, framing)?;
        let addresses = self.addresses(ep).await?;
        let (mut session, peer, _) = self.session(ep, &addresses, true).await?;
        let whole = upload(&mut session, head, &mut body, ep).await?;
        let answered = timeout(ep.first_byte, answer_header(&mut session, ep)).await;
        match answered {
            Ok(Ok(())) => {}
            Ok(Err((e, _))) => return Err(e),
            Err(_) => return Err(FetchError::Timeout(Stage::FirstByte)),
        }
        let mut fetched = Fetched::new(session, peer, self.inner.connector.clone(), ep.between_bytes)?;
        if !whole {
            // The server would take the next request for the rest of this one's body.
            fetched.never_again();
        }
        Ok(fetched)
    }
}

/// Sends head and body; false when the server took only a part of it: it may have answered (401, 413) before it had
/// read the body, and its answer counts, not our failed write.
async fn upload(
    session: &mut HttpSession,
    mut head: RequestHeader,
    body: &mut Upload,
    ep: &Endpoint,
) -> Result<bool, FetchError> {
    session.set_read_timeout(Some(ep.first_byte));
    session.set_write_timeout(Some(ep.between_bytes));
    if session.as_http2().is_some() {
        head.remove_header(&header::TRANSFER_ENCODING);
    }
    let cut = |e: &pingora::BError| FetchError::talking(e, Stage::BetweenBytes);
    session.write_request_header(Box::new(head)).await.map_err(|e| cut(&e))?;
    let mut sent: u64 = 0;
    while let Some(piece) = body.chunks.next().await {
        let piece = piece.map_err(|e| FetchError::Body(e.to_string()))?;
        sent = sent.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if body.length.is_some_and(|length| sent > length) {
            return Err(FetchError::Body("it is longer than announced".to_owned()));
        }
        if piece.is_empty() {
            continue;
        }
        // Pingora limits the time of a single write on HTTP/1 only until it is buffered.
        match timeout(ep.between_bytes, session.write_request_body(piece, false)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Ok(false),
        }
    }
    if body.length.is_some_and(|length| sent < length) {
        return Err(FetchError::Body("it is shorter than announced".to_owned()));
    }
    Ok(session.finish_request_body().await.is_ok())
}
