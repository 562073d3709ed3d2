//! The client's side of a connection as Pingora sees it: clear text or TLS, a look-ahead buffer of our own in front, a
//! small write buffer behind, both given back while the connection is idle.

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
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Small writes are gathered up to this many bytes: a header and a 1 KiB body leave in one packet train.
const WRITE_BUFFER: usize = 4096;
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
        ClientIo { transport, ahead: BytesMut::new(), out: BytesMut::new(), window: Window::All, eof: false, h2: false }
    }

    /// Whether ALPN chose HTTP/2.
    pub fn is_h2(&self) -> bool {
        self.h2
    }

    /// Says that the HTTP/2 preface was seen on a clear-text connection.
    pub fn set_h2(&mut self) {
        self.h2 = true;
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
        }
        Poll::Ready(Ok(()))
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
        if self.out.len() + buf.len() <= WRITE_BUFFER {
            self.out.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        if self.out.is_empty() {
            return self.inner().poll_write(cx, buf);
        }
        let this = &mut *self;
        if let Transport::Clear(s) = &mut this.transport {
            let n = ready!(Pin::new(s).poll_write_vectored(cx, &[io::IoSlice::new(&this.out), io::IoSlice::new(buf)]))?;
            let own = n.min(this.out.len());
            this.out.advance(own);
            if n > own {
                return Poll::Ready(Ok(n - own));
            }
        }
        ready!(this.poll_drain(cx))?;
        this.inner().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        self.inner().poll_shutdown(cx)
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
