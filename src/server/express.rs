//! The express lane on an HTTP/1 connection: a judged head becomes values without a session, and what answers it is
//! written straight to the connection, header and body in as few writes as they fit in.

use super::h1guard;
use super::io::ClientIo;
use super::quiet::by;
use crate::proxy::Edge;
use crate::proxy::accept::Wire;
use crate::proxy::express::{Ending, try_answer};
use bytes::{Buf, Bytes};
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use pingora::http::RequestHeader;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

/// Most pieces in one write: the header and 2 MiB of body fill any socket's buffer.
const PIECES_MAX: usize = 9;

/// After so many bytes other connections get their turn, even where the client takes more at once.
const STINT_BYTES: usize = 2 << 20;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// It goes the ordinary way.
    Aside,
    /// Answered; the connection goes on.
    Keep,
    /// Answered or broken off; the connection ends.
    Close,
}

/// What a lane needs to know beside the request.
pub struct Site<'a> {
    /// Who answers.
    pub edge: &'a Edge,
    /// The connection.
    pub wire: &'a Wire,
    /// Longest pause while the client takes nothing.
    pub pause: Duration,
    /// The process drains: no connection goes on.
    pub leaving: bool,
}

/// Tries to answer the request with this judged head, which has no body.
pub async fn answer(site: &Site<'_>, io: &mut ClientIo, head: &[u8]) -> Lane {
    let Some((mut req, keep)) = read(head) else { return Lane::Aside };
    let Some(mut answer) = try_answer(site.edge, &mut req, site.wire) else { return Lane::Aside };
    let keep = keep && !site.leaving;
    let Some(bytes) = answer.head_bytes(keep) else { return Lane::Aside };
    let (sent, ending) = write(io, &bytes, answer.body(), site.pause).await;
    answer.log(site.edge, &req, sent, ending);
    if keep && ending == Ending::Whole { Lane::Keep } else { Lane::Close }
}

/// The head as values, and whether the client keeps the connection; none for what this lane leaves alone: other methods,
/// expectations, upgrades, and connection options beyond the two that everyone sends.
fn read(head: &[u8]) -> Option<(RequestHeader, bool)> {
    if !head.starts_with(b"GET ") && !head.starts_with(b"HEAD ") {
        return None;
    }
    // One copy that all fields share: the bytes themselves are still needed if the request goes the ordinary way.
    let shared = Bytes::copy_from_slice(head);
    let mut fields = [const { MaybeUninit::uninit() }; h1guard::FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    if !parsed.parse_with_uninit_headers(&shared, &mut fields).ok()?.is_complete() {
        return None;
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = if parsed.method? == "GET" { Method::GET } else { Method::HEAD };
    parts.version = if parsed.version? == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    parts.uri = Uri::from_maybe_shared(shared.slice_ref(parsed.path?.as_bytes())).ok()?;
    let mut keep = None;
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        if name == header::EXPECT || name == header::UPGRADE {
            return None;
        }
        if name == header::CONNECTION {
            let goes_on = field.value.eq_ignore_ascii_case(b"keep-alive");
            if keep.is_some() || !(goes_on || field.value.eq_ignore_ascii_case(b"close")) {
                return None;
            }
            keep = Some(goes_on);
        }
        let value = HeaderValue::from_maybe_shared(shared.slice_ref(field.value)).ok()?;
        parts.headers.try_append(name, value).ok()?;
    }
    let keep = keep.unwrap_or(parts.version == Version::HTTP_11);
    Some((parts.into(), keep))
}

/// Writes header and body; how many body bytes went out, and how it ended.
async fn write(io: &mut ClientIo, head: &[u8], body: &[Bytes], pause: Duration) -> (u64, Ending) {
    let mut left = Left { head, first: Bytes::new(), body };
    let (mut sent, mut stint) = (0, 0);
    while !left.is_empty() {
        // TLS takes 64 KiB at a time: the header must not travel alone, but beyond the first piece more is no use to it.
        let most = match (io.is_tls(), left.head.is_empty()) {
            (false, _) => PIECES_MAX,
            (true, false) => 2,
            (true, true) => 1,
        };
        let step = poll_fn(|cx| {
            let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
            let n = left.pieces(&mut pieces).min(most);
            Pin::new(&mut *io).poll_write_vectored(cx, pieces.get(..n).unwrap_or_default())
        });
        match by(|| Instant::now() + pause, step).await {
            Err(_) => return (sent, Ending::Slow),
            Ok(Err(e)) => return (sent, ending(&e)),
            Ok(Ok(0)) => return (sent, Ending::Gone),
            Ok(Ok(n)) => {
                sent += left.advance(n);
                stint += n;
            }
        }
        if stint > STINT_BYTES {
            stint = 0;
            tokio::task::yield_now().await;
        }
    }
    match by(|| Instant::now() + pause, io.flush()).await {
        Err(_) => (sent, Ending::Slow),
        Ok(Err(e)) => (sent, ending(&e)),
        Ok(Ok(())) => (sent, Ending::Whole),
    }
}

/// The connection's own limit may be the first to run out.
fn ending(e: &io::Error) -> Ending {
    if e.kind() == io::ErrorKind::TimedOut { Ending::Slow } else { Ending::Gone }
}

/// What is still to be written.
struct Left<'a> {
    head: &'a [u8],
    /// The rest of the piece that was written in part.
    first: Bytes,
    body: &'a [Bytes],
}

impl Left<'_> {
    fn pieces<'s>(&'s self, out: &mut [IoSlice<'s>]) -> usize {
        let all = [self.head, &self.first].into_iter().chain(self.body.iter().map(|b| &**b)).filter(|b| !b.is_empty());
        let mut n = 0;
        for (slot, piece) in out.iter_mut().zip(all) {
            *slot = IoSlice::new(piece);
            n += 1;
        }
        n
    }

    /// Takes away what was written; how much of it was body.
    fn advance(&mut self, mut n: usize) -> u64 {
        let of_head = n.min(self.head.len());
        self.head = self.head.get(of_head..).unwrap_or_default();
        n -= of_head;
        let body = n as u64;
        while n > 0 {
            if self.first.is_empty() {
                let Some((next, rest)) = self.body.split_first() else { break };
                (self.first, self.body) = (next.clone(), rest);
            }
            let part = n.min(self.first.len());
            self.first.advance(part);
            n -= part;
            if part == 0 && self.body.is_empty() {
                break;
            }
        }
        body
    }

    fn is_empty(&self) -> bool {
        self.head.is_empty() && self.first.is_empty() && self.body.iter().all(Bytes::is_empty)
    }
}

#[cfg(test)]
mod tests;
