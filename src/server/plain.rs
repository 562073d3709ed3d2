//! A TCP connection with what was read ahead of TLS (a PROXY protocol header's leftovers) put back in front.

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

/// A TCP connection.
#[derive(Debug)]
pub struct Plain {
    tcp: TcpStream,
    ahead: BytesMut,
    digest: Arc<SocketDigest>,
}

impl Plain {
    /// Wraps an accepted connection; both addresses are known, so nobody needs to ask the kernel again.
    pub fn new(tcp: TcpStream, peer: SocketAddr, local: SocketAddr) -> Self {
        let digest = Arc::new(digest(&tcp, peer, local));
        Plain { tcp, ahead: BytesMut::new(), digest }
    }

    /// Replaces the client's address by that of a PROXY protocol header; the local one stays, it names the listener.
    pub fn set_peer(&mut self, peer: SocketAddr) {
        let local = self.digest.local_addr().and_then(|a| a.as_inet().copied()).unwrap_or(peer);
        self.digest = Arc::new(digest(&self.tcp, peer, local));
    }

    /// The client's address and our port.
    pub fn ends(&self) -> (Option<IpAddr>, Option<u16>) {
        let inet = |a: Option<&PeerAddr>| a.and_then(|a| a.as_inet().copied());
        (inet(self.digest.peer_addr()).map(|a| a.ip()), inet(self.digest.local_addr()).map(|a| a.port()))
    }

    /// Reads into the look-ahead buffer; 0 at the end of the stream.
    pub async fn fill(&mut self) -> io::Result<usize> {
        self.tcp.read_buf(&mut self.ahead).await
    }

    /// What was read ahead and not consumed yet.
    pub fn ahead(&mut self) -> &mut BytesMut {
        &mut self.ahead
    }

    /// Waits until there is something to read.
    pub async fn readable(&self) -> io::Result<()> {
        if self.ahead.is_empty() { self.tcp.readable().await } else { Ok(()) }
    }
}

fn digest(tcp: &TcpStream, peer: SocketAddr, local: SocketAddr) -> SocketDigest {
    let d = SocketDigest::from_raw_fd(tcp.as_raw_fd());
    // Fresh cells: setting them cannot fail.
    let _ = d.peer_addr.set(Some(PeerAddr::Inet(peer)));
    let _ = d.local_addr.set(Some(PeerAddr::Inet(local)));
    d
}

impl AsyncRead for Plain {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.tcp).poll_read(cx, buf);
        }
        let n = self.ahead.len().min(buf.remaining());
        buf.put_slice(self.ahead.get(..n).unwrap_or_default());
        self.ahead.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Plain {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[async_trait]
impl Shutdown for Plain {
    async fn shutdown(&mut self) {
        // The peer may have closed first.
        let _ = AsyncWriteExt::shutdown(&mut self.tcp).await;
    }
}

impl UniqueID for Plain {
    fn id(&self) -> UniqueIDType {
        self.tcp.as_raw_fd()
    }
}

impl Ssl for Plain {}

impl GetTimingDigest for Plain {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Plain {
    fn get_proxy_digest(&self) -> Option<Arc<pingora::protocols::raw_connect::ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Plain {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

impl Peek for Plain {}
