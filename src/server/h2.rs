//! HTTP/2 connections: streams are accepted here, so that a plain fresh hit is answered where it was read, without a
//! task, a session or a write of its own; every other stream is a task of the application.

use super::conn::{Server, drained};
use super::io::ClientIo;
use crate::proxy::Edge;
use crate::proxy::accept::Wire;
use crate::proxy::express::{Answer, Ending, try_answer};
use crate::proxy::log::Sent;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, HttpSession, handshake};
use pingora::protocols::{Digest, GetSocketDigest, Ssl};
use pingora::{ErrorType, Result};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;

/// Streams of one connection that may be malformed before it is closed: refusing them is work too.
const MALFORMED_MAX: usize = 32;

/// What all streams of a connection have in common.
struct Connection<'a, A> {
    server: &'a Server<A>,
    wire: Wire,
    io_timeout: Duration,
    streams: Arc<Streams>,
}

/// Serves a connection on which HTTP/2 has been chosen.
pub async fn serve<A>(server: &Server<A>, io: ClientIo, wire: Wire, io_timeout: Duration)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let cork = io.cork();
    let digest = Arc::new(Digest {
        ssl_digest: io.get_ssl_digest(),
        timing_digest: Vec::new(),
        proxy_digest: None,
        socket_digest: io.get_socket_digest(),
    });
    let idle = server.app.server_options().and_then(|o| o.h2_idle_timeout).unwrap_or(Duration::MAX);
    let Ok(mut conn) = handshake(Box::new(io), server.app.h2_options()).await else { return };
    let here = Connection { server, wire, io_timeout, streams: Arc::default() };
    let (mut shutdown, mut leaving, mut malformed) = (server.shutdown.clone(), false, 0);
    loop {
        let next = tokio::select! {
            biased;
            () = drained(&mut shutdown), if !leaving => {
                // GOAWAY: streams under way, and those the client opens before it reads this, still end.
                conn.graceful_shutdown();
                leaving = true;
                continue;
            }
            next = cork.around(HttpSession::from_h2_conn(&mut conn, Arc::clone(&digest))) => next,
            () = here.streams.idle(idle), if !leaving => return,
        };
        match next {
            Ok(Some(H2Accept::Session(session))) => here.stream(session).await,
            Ok(Some(H2Accept::Rejected)) if malformed + 1 < MALFORMED_MAX => malformed += 1,
            // Closed, broken, or past patience.
            _ => return,
        }
    }
}

impl<A> Connection<'_, A>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    async fn stream(&self, mut session: HttpSession) {
        let place = Arc::clone(&self.streams).enter();
        let lane = self.server.express.as_ref().filter(|_| session.is_body_empty());
        let answer = lane.and_then(|edge| Some((edge, try_answer(edge, session.req_header_mut(), &self.wire)?)));
        let Some((edge, answer)) = answer else {
            let (app, shutdown) = (Arc::clone(&self.server.app), self.server.shutdown.clone());
            tokio::spawn(async move {
                app.process_new_http(ServerSession::new_http2(session), &shutdown).await;
                drop(place);
            });
            return;
        };
        session.set_write_timeout(Some(self.io_timeout));
        let mut work = Box::pin(write(Arc::clone(edge), session, answer));
        // A small answer is whole at once; one that waits for the client's window must not hold up the others.
        let done = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_ready())).await;
        if !done {
            tokio::spawn(async move {
                work.await;
                drop(place);
            });
        }
    }
}

async fn write(edge: Arc<Edge>, mut session: HttpSession, mut answer: Answer) {
    let ending = match send(&mut session, &mut answer).await {
        Ok(()) => Ending::Whole,
        Err(e) if *e.etype() == ErrorType::WriteTimedout => Ending::Slow,
        Err(_) => Ending::Gone,
    };
    let sent = Sent::new(session.req_header(), session.response_written(), session.body_bytes_sent());
    answer.log_sent(&edge, &sent, ending);
}

/// Written under one time limit, in bytes.
const PART_BYTES: usize = 64 << 10;

async fn send(session: &mut HttpSession, answer: &mut Answer) -> Result<()> {
    let head = answer.head()?;
    let body = answer.body();
    session.write_response_header(Box::new(head), body.is_empty())?;
    for (i, piece) in body.iter().enumerate() {
        // The time limit is for each part that the client's window has to take, not for a whole piece.
        let mut rest = piece.clone();
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(PART_BYTES));
            let last = rest.is_empty() && i + 1 == body.len();
            session.write_body(part, last).await?;
        }
    }
    Ok(())
}

/// Counts the streams of a connection that are being answered.
#[derive(Default)]
struct Streams {
    open: AtomicUsize,
    ended: Notify,
}

/// One stream; dropping it counts it out.
struct Place(Arc<Streams>);

impl Streams {
    fn enter(self: Arc<Self>) -> Place {
        self.open.fetch_add(1, Ordering::Relaxed);
        Place(self)
    }

    /// Resolves when no stream has been open for so long.
    async fn idle(&self, patience: Duration) {
        while self.open.load(Ordering::Relaxed) > 0 {
            self.ended.notified().await;
        }
        tokio::time::sleep(patience).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.ended.notify_one();
        }
    }
}
