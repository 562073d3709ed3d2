//! The client's side of a connection as Pingora sees it: clear text or TLS, a look-ahead buffer of our own in front, a
//! small write buffer behind, both given back while the connection is idle.

use super::cork::Cork;
use super::plain::Plain;
use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::tls::{SslDigest, TlsStream};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

/// Small writes are gathered up to this many bytes: a header and a 1 KiB body leave in one packet train.
const WRITE_BUFFER: usize = 4096;
/// The same for HTTP/2, whose frames of 16 KiB and less would each be a write and a TLS record or two of its own.
const FRAMES_BUFFER: usize = 64 * 1024;
/// Most pieces that one write takes from its caller.
const PIECES_MAX: usize = 16;
/// Bytes taken in at once while a header is awaited.
const HEAD_CHUNK: usize = 4096;
/// How much of a pipelined successor is kept while the present request is answered.
const PIPELINE_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
enum Transport {
    Clear(Plain),
    Tls(Box<TlsStream<Plain>>),
}

/// What the HTTP session may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Exactly so many body bytes; what follows belongs to the next request and stays in the look-ahead buffer.
    Bytes(u64),
    /// Everything (chunked bodies, upgraded connections, HTTP/2).
    All,
}

/// A client connection.
#[derive(Debug)]
pub struct ClientIo {
    transport: Transport,
    ahead: BytesMut,
    out: BytesMut,
    window: Window,
    eof: bool,
    h2: bool,
    cork: Cork,
    /// Longest time that the client may take nothing of what is written, and the timer of such a pause.
    pause: Option<Duration>,
    stuck: Option<Pin<Box<Sleep>>>,
}

impl ClientIo {
    /// A clear-text connection.
    pub fn clear(plain: Plain) -> Self {
        Self::over(Transport::Clear(plain))
    }

    /// A connection after its TLS handshake.
    pub fn tls(stream: TlsStream<Plain>) -> Self {
        let h2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        ClientIo { h2, ..Self::over(Transport::Tls(Box::new(stream))) }
    }

    fn over(transport: Transport) -> Self {
        ClientIo {
            transport,
            ahead: BytesMut::new(),
            out: BytesMut::new(),
            window: Window::All,
            eof: false,
            h2: false,
            cork: Cork::default(),
            pause: None,
            stuck: None,
        }
    }

    /// Every write fails once the client has taken nothing for so long. Pingora limits bodies only: headers, and answers
    /// that are nothing else, would wait for ever.
    pub fn set_pause(&mut self, pause: Duration) {
        self.pause = Some(pause);
    }

    /// What a write came to, under the limit.
    fn within<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stuck = None;
            return polled;
        }
        let Some(pause) = self.pause else { return Poll::Pending };
        let timer = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        ready!(timer.as_mut().poll(cx));
        self.stuck = None;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Whether ALPN chose HTTP/2.
    pub fn is_h2(&self) -> bool {
        self.h2
    }

    /// Says that the HTTP/2 preface was seen on a clear-text connection.
    pub fn set_h2(&mut self) {
        self.h2 = true;
    }

    /// The cork of this connection.
    pub fn cork(&self) -> Cork {
        self.cork.clone()
    }

    /// Whether what is written is encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    /// The look-ahead buffer.
    pub fn ahead(&mut self) -> &mut BytesMut {
        &mut self.ahead
    }

    /// Sets what the HTTP session may read from now on.
    pub fn set_window(&mut self, window: Window) {
        self.window = window;
    }

    /// Reads more into the look-ahead buffer; 0 at the end of the stream.
    pub async fn fill(&mut self) -> io::Result<usize> {
        if self.eof {
            return Ok(0);
        }
        self.ahead.reserve(HEAD_CHUNK);
        let n = match &mut self.transport {
            Transport::Clear(s) => s.read_buf(&mut self.ahead).await?,
            Transport::Tls(s) => s.read_buf(&mut self.ahead).await?,
        };
        self.eof = n == 0;
        Ok(n)
    }

    /// Waits until there is something to read, without holding a buffer meanwhile where the transport allows it.
    pub async fn readable(&mut self) -> io::Result<()> {
        self.out = BytesMut::new();
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
            if let Transport::Clear(s) = &mut self.transport {
                return s.readable().await;
            }
            self.fill().await?;
        }
        Ok(())
    }

    /// Writes an answer of our own and closes the sending side.
    pub async fn close_with(&mut self, answer: &[u8]) {
        // The client may be gone already; there is nobody to tell.
        let _ = self.write_all(answer).await;
        let _ = self.flush().await;
        let _ = AsyncWriteExt::shutdown(self).await;
    }

    fn inner(&mut self) -> Pin<&mut (dyn Inner + Send + Unpin)> {
        match &mut self.transport {
            Transport::Clear(s) => Pin::new(s),
            Transport::Tls(s) => Pin::new(s.as_mut()),
        }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let n = match &mut self.transport {
                Transport::Clear(s) => ready!(Pin::new(s).poll_write(cx, &self.out))?,
                Transport::Tls(s) => ready!(Pin::new(s.as_mut()).poll_write(cx, &self.out))?,
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(n);
            self.stuck = None;
        }
        Poll::Ready(Ok(()))
    }

    /// Passes on what was gathered and then `bufs`; how much of `bufs` was taken.
    fn poll_through(&mut self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        while !self.out.is_empty() {
            let mut pieces = [io::IoSlice::new(&[]); PIECES_MAX];
            let all = std::iter::once(io::IoSlice::new(&self.out)).chain(bufs.iter().copied());
            pieces.iter_mut().zip(all).for_each(|(p, b)| *p = b);
            let n = match &mut self.transport {
                Transport::Clear(s) => ready!(Pin::new(s).poll_write_vectored(cx, &pieces))?,
                Transport::Tls(s) => ready!(Pin::new(s.as_mut()).poll_write_vectored(cx, &pieces))?,
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let own = n.min(self.out.len());
            self.out.advance(own);
            if n > own {
                return Poll::Ready(Ok(n - own));
            }
        }
        self.inner().poll_write_vectored(cx, bufs)
    }

    /// Copies as much of `bufs` as there is room for.
    fn gather(&mut self, bufs: &[io::IoSlice<'_>]) -> usize {
        let mut taken = 0;
        for buf in bufs {
            let room = FRAMES_BUFFER.saturating_sub(self.out.len());
            let part = buf.get(..room.min(buf.len())).unwrap_or_default();
            self.out.extend_from_slice(part);
            taken += part.len();
        }
        taken
    }

    /// Reads when the present request has no more body: only the end of the stream is of interest, early bytes of
    /// the next request are put aside.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0u8; 1024];
        while self.ahead.len() < PIPELINE_BYTES_MAX {
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(self.inner().poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                self.eof = true;
                // A client that sent its last request and closed its side still waits for the answer.
                return if self.ahead.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            self.ahead.extend_from_slice(buf.filled());
        }
        Poll::Pending
    }
}

trait Inner: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> Inner for T {}

impl AsyncRead for ClientIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let limit = match self.window {
            Window::Bytes(0) => return self.poll_idle(cx),
            Window::Bytes(n) => usize::try_from(n).unwrap_or(usize::MAX),
            Window::All => usize::MAX,
        };
        let want = limit.min(buf.remaining());
        let got = if !self.ahead.is_empty() {
            let n = want.min(self.ahead.len());
            buf.put_slice(&self.ahead.split_to(n));
            n
        } else if want == buf.remaining() {
            let before = buf.filled().len();
            ready!(self.inner().poll_read(cx, buf))?;
            buf.filled().len() - before
        } else {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(want));
            ready!(self.inner().poll_read(cx, &mut part))?;
            let n = part.filled().len();
            buf.advance(n);
            n
        };
        if let Window::Bytes(left) = &mut self.window {
            *left = left.saturating_sub(got as u64);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.h2 && self.out.is_empty() && buf.len() > WRITE_BUFFER {
            let polled = self.inner().poll_write(cx, buf);
            return self.within(cx, polled);
        }
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len: usize = bufs.iter().map(|b| b.len()).sum();
        if self.h2 {
            if self.out.len() >= FRAMES_BUFFER {
                let polled = self.poll_drain(cx);
                ready!(self.within(cx, polled))?;
            }
            return Poll::Ready(Ok(self.gather(bufs)));
        }
        if self.out.len() + len <= WRITE_BUFFER {
            bufs.iter().for_each(|b| self.out.extend_from_slice(b));
            return Poll::Ready(Ok(len));
        }
        let polled = self.poll_through(cx, bufs);
        self.within(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cork.is_in() {
            return Poll::Ready(Ok(()));
        }
        let polled = self.poll_drain(cx);
        ready!(self.within(cx, polled))?;
        if self.h2 {
            // Between two rounds an HTTP/2 connection holds no buffer either.
            self.out = BytesMut::new();
        }
        let polled = self.inner().poll_flush(cx);
        self.within(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.poll_drain(cx);
        ready!(self.within(cx, polled))?;
        let polled = self.inner().poll_shutdown(cx);
        self.within(cx, polled)
    }
}

#[async_trait]
impl Shutdown for ClientIo {
    async fn shutdown(&mut self) {
        // The peer may have closed first.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for ClientIo {
    fn id(&self) -> UniqueIDType {
        match &self.transport {
            Transport::Clear(s) => s.id(),
            Transport::Tls(s) => s.id(),
        }
    }
}

impl Ssl for ClientIo {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        match &self.transport {
            Transport::Clear(_) => None,
            Transport::Tls(s) => s.get_ssl_digest(),
        }
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.h2.then_some(ALPN::H2)
    }
}

impl GetTimingDigest for ClientIo {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for ClientIo {
    fn get_proxy_digest(&self) -> Option<Arc<pingora::protocols::raw_connect::ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for ClientIo {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        match &self.transport {
            Transport::Clear(s) => s.get_socket_digest(),
            Transport::Tls(s) => s.get_socket_digest(),
        }
    }
}

impl Peek for ClientIo {}

#[cfg(test)]
mod tests;
