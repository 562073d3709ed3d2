//! An answer being read: pulled piece by piece; dropping it closes the connection, reading to the end keeps it.

use super::IDLE_FOR;
use super::error::{FetchError, Stage};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use pingora::connectors::http::Connector;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// An answer whose header has arrived.
pub struct Fetched {
    /// The status code; redirects are handed out, never followed.
    pub status: StatusCode,
    /// The header fields as received.
    pub headers: HeaderMap,
    session: Option<HttpSession>,
    peer: HttpPeer,
    connector: Arc<Connector>,
    between_bytes: Duration,
    /// Whether the connection may serve again.
    again: bool,
}

impl Fetched {
    pub(super) fn new(
        session: HttpSession,
        mut peer: HttpPeer,
        connector: Arc<Connector>,
        between_bytes: Duration,
    ) -> Result<Self, FetchError> {
        let head = session.response_header().ok_or(FetchError::Cut)?;
        let (status, headers) = (head.status, head.headers.clone());
        // A connection made for one request alone joins the common pool afterwards. An HTTP/2 connection is already
        // listed under its own key and stays there until it idles out.
        if session.as_http1().is_some() {
            peer.group_key = 0;
        }
        Ok(Fetched { status, headers, session: Some(session), peer, connector, between_bytes, again: true })
    }

    /// Its connection is in no state to serve another request.
    pub(super) fn never_again(&mut self) {
        self.again = false;
    }

    /// The next piece as it came from the wire; `None` only at the message's own end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let Some(session) = self.session.as_mut() else { return Ok(None) };
            let read = timeout(self.between_bytes, session.read_response_body()).await;
            match read {
                Ok(Ok(Some(piece))) if piece.is_empty() => {}
                Ok(Ok(Some(piece))) => return Ok(Some(piece)),
                Ok(Ok(None)) => {
                    self.keep().await;
                    return Ok(None);
                }
                Ok(Err(e)) => {
                    self.session = None;
                    return Err(FetchError::talking(&e, Stage::BetweenBytes));
                }
                Err(_) => {
                    self.session = None;
                    return Err(FetchError::Timeout(Stage::BetweenBytes));
                }
            }
        }
    }

    /// The whole rest of the body, which may be at most `bytes_max` long.
    pub async fn bytes(mut self, bytes_max: usize) -> Result<Bytes, FetchError> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.chunk().await? {
            if all.len() + piece.len() > bytes_max {
                return Err(FetchError::TooLarge { bytes_max });
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// Gives the connection back to the pool.
    async fn keep(&mut self) {
        if !self.again && self.session.as_ref().is_some_and(|s| s.as_http1().is_some()) {
            self.session = None;
        }
        if let Some(session) = self.session.take() {
            self.connector.release_http_session(session, &self.peer, Some(IDLE_FOR)).await;
        }
    }
}

impl Drop for Fetched {
    /// An HTTP/1 connection closes by being dropped. An HTTP/2 stream is reset, and its connection, which other
    /// streams may be using, goes back to the pool.
    fn drop(&mut self) {
        let Some(HttpSession::H2(stream)) = self.session.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (connector, peer) = (self.connector.clone(), self.peer.clone());
        runtime.spawn(async move {
            let mut session = HttpSession::H2(stream);
            session.shutdown().await;
            connector.release_http_session(session, &peer, Some(IDLE_FOR)).await;
        });
    }
}

impl std::fmt::Debug for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetched").field("status", &self.status).finish_non_exhaustive()
    }
}
