//! One client connection from accept to close: PROXY header, TLS, protocol choice, then request after request, each
//! under the header deadline and the strict reader, with nothing but a socket held in between.

use super::express::{self, Lane, Site};
use super::h1guard::{self, BodyKind, Head, Refusal};
use super::h2;
use super::io::{ClientIo, Window};
use super::plain::Plain;
use super::proxy_protocol::{self, Parsed};
use super::quiet::{Quiet, by};
use crate::observe::metrics::Metrics;
use crate::plan::listener::Rules;
use crate::proxy::Edge;
use crate::proxy::accept::Wire;
use bytes::{Buf, BytesMut};
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a refused client may take to read why.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves connections with an HTTP application (the proxy, or the admin port).
pub struct Server<A> {
    /// The application.
    pub app: Arc<A>,
    /// Answers plain hits before the application is asked; none on the admin port.
    pub express: Option<Arc<Edge>>,
    /// Where refusals are counted.
    pub metrics: Arc<Metrics>,
    /// Becomes true when the process drains.
    pub shutdown: watch::Receiver<bool>,
}

impl<A> Clone for Server<A> {
    fn clone(&self) -> Self {
        let (app, metrics, shutdown) = (Arc::clone(&self.app), Arc::clone(&self.metrics), self.shutdown.clone());
        Server { app, express: self.express.clone(), metrics, shutdown }
    }
}

enum Heard {
    Head(usize),
    Preface,
    Gone,
    Refused(Refusal),
    Slow { began: bool },
}

impl<A> Server<A>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    /// Serves one accepted connection to its end.
    pub async fn serve(mut self, tcp: TcpStream, peer: SocketAddr, rules: Rules) {
        // Answers are written in whole pieces; waiting for more to send only delays them.
        let _ = tcp.set_nodelay(true);
        let Ok(local) = tcp.local_addr() else { return };
        let deadline = Instant::now() + rules.header_timeout;
        let mut plain = Plain::new(tcp, peer, local);
        if rules.proxy_protocol && !self.read_proxy_header(&mut plain, deadline).await {
            return;
        }
        let (peer, port) = plain.ends();
        let wire = Wire { peer, port, tls: rules.tls.is_some() };
        let Some(mut io) = self.handshake(plain, &rules, deadline).await else { return };
        io.set_pause(rules.io_timeout);
        if io.is_h2() {
            return self.serve_h2(io, wire, &rules, deadline).await;
        }
        let mut deadline = deadline;
        let mut keep = None;
        let mut quiet = Quiet::new(self.shutdown.clone());
        loop {
            let head = match self.hear(&mut io, &rules, deadline).await {
                Heard::Head(n) => n,
                Heard::Preface => {
                    io.set_h2();
                    return self.serve_h2(io, wire, &rules, deadline).await;
                }
                Heard::Gone => return,
                Heard::Refused(why) => return self.refuse(&mut io, why).await,
                Heard::Slow { began } => return self.too_slow(&mut io, began).await,
            };
            let bytes = io.ahead().split_to(head);
            let judged = match h1guard::inspect(&bytes) {
                Ok(judged) if rules.h1 => judged,
                Ok(_) => return self.refuse(&mut io, Refusal::Version).await,
                Err(why) => return self.refuse(&mut io, why).await,
            };
            match self.express(&mut io, &bytes, &judged, (&wire, &rules)).await {
                Lane::Keep => {}
                Lane::Close => {
                    close(&mut io).await;
                    // What the client has pipelined must not reset the answer away.
                    return linger(&mut io).await;
                }
                Lane::Aside => match self.one_request(io, (bytes, judged), &rules, keep.take()).await {
                    Some(x) => (io, keep) = x,
                    None => return,
                },
            }
            if io.ahead().is_empty() && !quiet.wait(rules.idle_timeout, io.readable()).await {
                return;
            }
            deadline = Instant::now() + rules.header_timeout;
        }
    }

    async fn read_proxy_header(&self, plain: &mut Plain, deadline: Instant) -> bool {
        loop {
            match proxy_protocol::parse(plain.ahead()) {
                Parsed::Done(n, pair) => {
                    plain.ahead().advance(n);
                    if let Some((src, _)) = pair {
                        plain.set_peer(src);
                    }
                    return true;
                }
                Parsed::More if matches!(timeout_at(deadline, plain.fill()).await, Ok(Ok(1..))) => {}
                _ => {
                    self.metrics.refused("bad_proxy_protocol");
                    return false;
                }
            }
        }
    }

    async fn handshake(&self, plain: Plain, rules: &Rules, deadline: Instant) -> Option<ClientIo> {
        let Some(acceptor) = &rules.tls else { return Some(ClientIo::clear(plain)) };
        // A connection that sends nothing costs a socket, not a TLS state.
        timeout_at(deadline, plain.readable()).await.ok()?.ok()?;
        match timeout_at(deadline, acceptor.tls_handshake(plain)).await {
            Ok(Ok(stream)) => Some(ClientIo::tls(stream)),
            Ok(Err(e)) => {
                tracing::debug!(error = %e, "tls handshake failed");
                self.metrics.refused("tls_handshake");
                None
            }
            Err(_) => {
                self.metrics.refused("tls_timeout");
                None
            }
        }
    }

    /// Waits for a request head (or an HTTP/2 preface) to be complete in the look-ahead buffer.
    async fn hear(&mut self, io: &mut ClientIo, rules: &Rules, deadline: Instant) -> Heard {
        let mut seen = 0;
        loop {
            skip_empty_lines(io.ahead());
            let buf = io.ahead();
            let probe = buf.len().min(H2_PREFACE.len());
            let preface = rules.h2 && probe > 2 && buf.get(..probe) == H2_PREFACE.get(..probe);
            if preface && probe == H2_PREFACE.len() {
                return Heard::Preface;
            }
            if !preface && let Some(n) = h1guard::end_of_head(buf, seen) {
                return if n > rules.header_bytes_max {
                    Heard::Refused(Refusal::HeaderTooLarge)
                } else {
                    Heard::Head(n)
                };
            }
            seen = buf.len();
            if seen > rules.header_bytes_max {
                return Heard::Refused(Refusal::HeaderTooLarge);
            }
            let began = seen > 0;
            let got = tokio::select! {
                biased;
                r = by(|| deadline, io.fill()) => r,
                () = drained(&mut self.shutdown), if !began => return Heard::Gone,
            };
            match got {
                Ok(Ok(0) | Err(_)) => return Heard::Gone,
                Ok(Ok(_)) => {}
                Err(_) => return Heard::Slow { began },
            }
        }
    }

    /// Answers a plain hit; a request with a body, or one whose head had to be rewritten, is none.
    async fn express(&self, io: &mut ClientIo, bytes: &[u8], head: &Head, at: (&Wire, &Rules)) -> Lane {
        let (wire, rules) = at;
        match &self.express {
            Some(edge) if head.body == BodyKind::Length(0) && head.rewritten.is_none() => {
                let leaving = *self.shutdown.borrow();
                express::answer(&Site { edge, wire, pause: rules.io_timeout, leaving }, io, bytes).await
            }
            _ => Lane::Aside,
        }
    }

    async fn one_request(
        &self,
        mut io: ClientIo,
        (bytes, judged): (BytesMut, Head),
        rules: &Rules,
        keep: Option<pingora::apps::HttpPersistentSettings>,
    ) -> Option<(ClientIo, Option<pingora::apps::HttpPersistentSettings>)> {
        io.set_window(match judged.body {
            BodyKind::Length(n) => Window::Bytes(n),
            BodyKind::Chunked | BodyKind::Upgrade => Window::All,
        });
        let mut session = ServerSession::new_http1(Box::new(io));
        match keep {
            Some(k) => k.apply_to_session(&mut session),
            None => session.set_keepalive(Some(rules.idle_timeout.as_secs())),
        }
        session.set_read_timeout(Some(rules.io_timeout));
        session.set_write_timeout(Some(rules.io_timeout));
        session.set_total_drain_timeout(Some(rules.header_timeout));
        session.set_pipelined_prefix(judged.rewritten.unwrap_or(bytes));
        let (stream, settings) = self.app.process_new_http(session, &self.shutdown).await?.consume();
        let io = stream.into_any().downcast::<ClientIo>().ok()?;
        Some((*io, settings))
    }

    async fn serve_h2(mut self, mut io: ClientIo, wire: Wire, rules: &Rules, deadline: Instant) {
        while io.ahead().len() < H2_PREFACE.len() {
            let got = tokio::select! {
                r = timeout_at(deadline, io.fill()) => r,
                () = drained(&mut self.shutdown) => return,
            };
            if !matches!(got, Ok(Ok(1..))) {
                return;
            }
        }
        io.set_window(Window::All);
        h2::serve(&self, io, wire, rules.io_timeout).await;
    }

    async fn refuse(&self, io: &mut ClientIo, why: Refusal) {
        self.metrics.refused(why.as_str());
        let status = http::StatusCode::from_u16(why.status()).unwrap_or(http::StatusCode::BAD_REQUEST);
        let allow = if why == Refusal::Method { "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n" } else { "" };
        let body = format!("{}\n", why.as_str());
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n{allow}x-sluicegate-source: gateway\r\nx-sluicegate-reason: {}\r\n\r\n{body}",
            body.len(),
            why.as_str(),
        );
        let _ = timeout(ANSWER_TIMEOUT, io.close_with(answer.as_bytes())).await;
        linger(io).await;
    }

    async fn too_slow(&self, io: &mut ClientIo, began: bool) {
        self.metrics.refused("header_timeout");
        if began {
            let answer = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = timeout(ANSWER_TIMEOUT, io.close_with(answer)).await;
        }
    }
}

/// Ends a connection after its last answer.
async fn close(io: &mut ClientIo) {
    // The client may have left already.
    let _ = timeout(ANSWER_TIMEOUT, AsyncWriteExt::shutdown(io)).await;
}

/// Reads and drops what the client still sends, for a moment: closing with unread bytes would reset the connection
/// and could take the answer away before the client has read it.
async fn linger(io: &mut ClientIo) {
    let end = Instant::now() + Duration::from_millis(500);
    let mut dropped = 0;
    while dropped < 256 * 1024 {
        *io.ahead() = BytesMut::new();
        match timeout_at(end, io.fill()).await {
            Ok(Ok(n)) if n > 0 => dropped += n,
            _ => return,
        }
    }
}

/// RFC 9112 §2.2: a server should ignore at least one empty line before a request line.
fn skip_empty_lines(buf: &mut BytesMut) {
    for _ in 0..2 {
        if buf.starts_with(b"\r\n") {
            buf.advance(2);
        }
    }
}

/// Resolves when the process drains.
pub async fn drained(shutdown: &mut watch::Receiver<bool>) {
    // The sender lives as long as the process; an error means it is gone, which is the end too.
    let _ = shutdown.wait_for(|down| *down).await;
}
