//! The station of what passes an AI route without being understood: bodies are pumped from the client to the provider
//! as fast as that takes them; a realtime session goes on through Pingora, to a server of the provider's.

use super::ai::{Station, context, directives};
use super::ctx::Ctx;
use super::reply;
use super::upstream::is_websocket;
use crate::ai::call::CallRecord;
use crate::ai::error::AiError;
use crate::ai::passthrough::endpoint::{self, Called, Place};
use crate::ai::passthrough::look::{Look, Seen, Watched};
use crate::ai::passthrough::realtime::{self, Line};
use crate::ai::passthrough::{BODY_BYTES_MAX, Passing, open};
use crate::ai::prompt::Operation;
use crate::base::reply::{Broken, Chunks, Reply};
use crate::config::ai::passthrough::Endpoint;
use crate::policy::facts::PromptFacts;
use async_trait::async_trait;
use bytes::Bytes;
use http::header;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use pingora_proxy::Session;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Answer fields of a provider that opens a session; the rest, cookies above all, is its own.
const OPENING: [header::HeaderName; 5] = [
    header::CONNECTION,
    header::UPGRADE,
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_EXTENSIONS,
];

/// What passes at this path; `None` where it is an operation that is understood, or nothing at all.
pub fn place(session: &Session, ctx: &Ctx) -> Option<Place> {
    let req = session.req_header();
    let path = ctx.path(req.uri.path());
    if !matches!(Operation::of(&req.method, &path), Err(AiError::NoEndpoint(_))) {
        return None;
    }
    Some(endpoint::at(&req.method, &path, req.uri.query())).filter(|p| *p != Place::None)
}

/// Answers a request that passes; `None` for a realtime session, which goes on through Pingora.
pub async fn answer(
    s: &Station<'_>,
    place: Place,
    session: &mut Session,
    ctx: &mut Ctx,
) -> pingora::Result<Option<Reply>> {
    let dialect = ctx.dialect;
    let refuse = |e: &AiError| Ok(Some(e.reply(dialect)));
    let called = match place {
        Place::Called(called) => called,
        Place::Method(allowed) => return refuse(&AiError::Method { allowed }),
        Place::None => return Ok(None),
    };
    if let Err(e) = open(s.options, called.name) {
        return refuse(&e);
    }
    if called.name == Endpoint::Realtime {
        return match line(s, session, ctx).await {
            Ok(line) => {
                session.downstream_session.set_read_timeout(Some(line.idle));
                ctx.line = Some(Box::new(line));
                Ok(None)
            }
            Err(reply) => Ok(Some(*reply)),
        };
    }
    let bytes_max = bytes_max(s, ctx);
    match pass(s, called, session, (ctx, bytes_max)).await? {
        Ok(reply) => Ok(Some(reply)),
        Err(e) => {
            // What is left of the body is not worth reading.
            session.set_keepalive(None);
            refuse(&e)
        }
    }
}

/// The largest body: the endpoint's own limit, else the route's.
fn bytes_max(s: &Station<'_>, ctx: &Ctx) -> u64 {
    let own = s.options.passthrough.as_ref().and_then(|p| p.max_body).map(|size| size.0);
    own.or_else(|| ctx.route.as_ref().and_then(|r| r.body_bytes_max)).unwrap_or(BODY_BYTES_MAX)
}

type Passed = pingora::Result<Result<Reply, AiError>>;

/// A body of which the beginning was seen.
struct Begun {
    coming: Coming,
    length: Option<u64>,
    seen: Seen,
    watched: Watched,
}

/// Looks at the beginning of the body.
async fn begin(
    s: &Station<'_>,
    called: &Called,
    session: &mut Session,
    (ctx, bytes_max): (&Ctx, u64),
) -> pingora::Result<Result<Begun, AiError>> {
    let headers = &session.req_header().headers;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if headers.get(header::CONTENT_ENCODING).is_some_and(|v| v.as_bytes() != b"identity") {
        let message = "a coded request body cannot be looked at; send it plain";
        return Ok(Err(AiError::invalid(message, None, "unsupported_content_encoding")));
    }
    // Whoever asks the script must see what it decides on; without it the model is enough.
    let thorough = ctx.route.as_ref().is_some_and(|r| r.policy.is_some());
    let look = match Look::new(called, content_type, s.body_bytes_max, thorough) {
        Ok(look) => look,
        Err(e) => return Ok(Err(e)),
    };
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    let mut coming = Coming { left: bytes_max, bytes_max, pause: ctx.plan.io_timeout };
    if length.is_some_and(|n| n > bytes_max) {
        return Ok(Err(coming.too_large()));
    }
    if headers.contains_key(header::EXPECT) {
        session.downstream_session.write_continue_response().await?;
    }
    let looked = coming.look(look, session).await?;
    Ok(looked.map(|(seen, watched)| Begun { coming, length, seen, watched }))
}

async fn pass(s: &Station<'_>, called: Called, session: &mut Session, (ctx, bytes_max): (&mut Ctx, u64)) -> Passed {
    let begun = match begin(s, &called, session, (ctx, bytes_max)).await? {
        Ok(begun) => begun,
        Err(e) => return Ok(Err(e)),
    };
    let Begun { mut coming, length, seen, watched } = begun;
    let (whole, model) = (seen.whole, seen.model.as_ref().map(|(name, _)| name.clone()));
    let facts = || facts(model.unwrap_or_default(), seen.text.clone());
    let directives = match directives(ctx, Operation::Pass(called.name).dialect(), facts) {
        Ok(d) => d,
        Err(reply) => {
            if !whole {
                session.set_keepalive(None);
            }
            return Ok(Ok(*reply));
        }
    };
    let (method, context) = (session.req_header().method.clone(), context(s, session, ctx));
    let (tx, rx) = mpsc::channel(1);
    let rest = (!whole).then(|| Box::new(Pumped(rx)) as Box<dyn Chunks>);
    let passing = Passing { called, method, seen, length, rest };
    // Known before the answer is: a client that leaves must not take the traces of its call with it.
    let record = Arc::new(CallRecord::default());
    ctx.call = Some(Arc::clone(&record));
    let mut answer = std::pin::pin!(s.gateway.pass(passing, &directives, &context, record));
    if !whole {
        tokio::select! {
            biased;
            reply = &mut answer => {
                // The provider answered before it had the whole body.
                session.set_keepalive(None);
                return Ok(Ok(reply));
            }
            pumped = coming.pump(watched, session, tx) => match pumped {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return Ok(Err(e)),
                Err(gone) => return Err(left(gone, ctx)),
            }
        }
    }
    tokio::select! {
        biased;
        reply = &mut answer => Ok(Ok(reply)),
        gone = reply::client_gone(session) => Err(left(gone, ctx)),
    }
}

/// An error met while reading from the client: a body that ends too soon is a client that left.
fn of_client(e: Box<Error>) -> Box<Error> {
    if e.etype().as_str() == "PrematureBodyEnd" {
        return Error::explain(ErrorType::ConnectionClosed, "the body ended too soon").into_down();
    }
    e.into_down()
}

fn left(gone: Box<Error>, ctx: &mut Ctx) -> Box<Error> {
    ctx.reason = "client_gone";
    ctx.source = crate::base::source::Source::Gateway;
    gone
}

/// What the policy gets to see of a request that is not understood.
fn facts(model: String, text: String) -> PromptFacts {
    let chars = text.chars().count();
    let (system, tools, messages) = (String::new(), 0, 0);
    let (stream, temperature, max_tokens) = (false, None, None);
    PromptFacts { text, system, model, chars, turns: 1, tools, messages, stream, temperature, max_tokens }
}

/// A client's body.
struct Coming {
    left: u64,
    bytes_max: u64,
    pause: std::time::Duration,
}

impl Coming {
    fn too_large(&self) -> AiError {
        AiError::TooLarge { bytes_max: usize::try_from(self.bytes_max).unwrap_or(usize::MAX) }
    }

    /// The next piece, or `None` at the end.
    async fn next(&mut self, session: &mut Session) -> pingora::Result<Result<Option<Bytes>, AiError>> {
        let read = super::ai::next_piece(session, self.pause).await.map_err(of_client);
        let Some(piece) = read? else { return Ok(Ok(None)) };
        match self.left.checked_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX)) {
            Some(left) => {
                self.left = left;
                Ok(Ok(Some(piece)))
            }
            None => Ok(Err(self.too_large())),
        }
    }

    async fn look(
        &mut self,
        mut look: Look,
        session: &mut Session,
    ) -> pingora::Result<Result<(Seen, Watched), AiError>> {
        let mut whole = session.downstream_session.is_body_empty();
        while !whole && !look.enough() {
            match self.next(session).await? {
                Ok(Some(piece)) => {
                    if let Err(e) = look.take(&piece) {
                        return Ok(Err(e));
                    }
                }
                Ok(None) => whole = true,
                Err(e) => return Ok(Err(e)),
            }
        }
        Ok(look.end(whole))
    }

    /// Sends the rest of the body on, each piece when the one before is on its way. An end without an error is the
    /// body's own.
    async fn pump(
        &mut self,
        mut watched: Watched,
        session: &mut Session,
        to: mpsc::Sender<Bytes>,
    ) -> pingora::Result<Result<(), AiError>> {
        loop {
            match self.next(session).await? {
                Ok(None) => return Ok(Ok(())),
                Ok(Some(piece)) => {
                    if let Err(e) = watched.check(&piece) {
                        return Ok(Err(e));
                    }
                    if to.send(piece).await.is_err() {
                        // The provider has answered, or is gone: its answer tells.
                        std::future::pending::<()>().await;
                    }
                }
                Err(e) => return Ok(Err(e)),
            }
        }
    }
}

/// The body as the organ pulls it.
struct Pumped(mpsc::Receiver<Bytes>);

#[async_trait]
impl Chunks for Pumped {
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        self.0.recv().await.map(Ok)
    }
}

async fn line(s: &Station<'_>, session: &Session, ctx: &mut Ctx) -> Result<Line, Box<Reply>> {
    let dialect = ctx.dialect;
    let refuse = |e: &AiError| Box::new(e.reply(dialect));
    let req = session.req_header();
    if !is_websocket(req) {
        let message = "realtime is a websocket: send Upgrade: websocket over HTTP/1.1";
        return Err(refuse(&AiError::invalid(message, None, "no_websocket")));
    }
    let model = realtime::model(req.uri.query()).map_err(|e| refuse(&e))?;
    let directives = directives(ctx, dialect, || facts(model.clone(), String::new()))?;
    let context = context(s, session, ctx);
    let record = Arc::new(CallRecord::default());
    ctx.call = Some(Arc::clone(&record));
    let asked = (model.as_str(), req.uri.query());
    s.gateway.line(asked, &directives, &context, record).await.map_err(|e| refuse(&e))
}

/// The provider's server as Pingora wants it.
pub fn peer(line: &Line) -> Option<HttpPeer> {
    let address = *line.addresses.first()?;
    let mut peer = HttpPeer::new(address, line.tls, if line.tls { line.host.clone() } else { String::new() });
    peer.options.connection_timeout = Some(line.connect);
    peer.options.total_connection_timeout = Some(line.connect);
    peer.options.read_timeout = Some(line.idle);
    peer.options.write_timeout = Some(line.idle);
    peer.options.alpn = ALPN::H1;
    Some(peer)
}

/// The request for a session: nothing of the client's but what the organ let through.
pub fn request(line: &Line, req: &mut RequestHeader) -> pingora::Result<()> {
    let mut own = RequestHeader::build(http::Method::GET, line.path.as_bytes(), Some(line.headers.len()))?;
    for (name, value) in &line.headers {
        own.append_header(name.clone(), value.clone())?;
    }
    *req = own;
    Ok(())
}

/// The provider's answer: it opens the session, or there is none. What it says about credentials is about the
/// gateway's, which are none of the client's business.
pub fn opened(resp: &mut ResponseHeader) -> pingora::Result<()> {
    match resp.status.as_u16() {
        101 => {
            let unknown: Vec<_> = resp.headers.keys().filter(|n| !OPENING.contains(n)).cloned().collect();
            unknown.iter().for_each(|n| drop(resp.remove_header(n)));
            Ok(())
        }
        status @ 400..=599 if !matches!(status, 401 | 403) => {
            Err(Error::explain(ErrorType::HTTPStatus(status), "the provider refused the session"))
        }
        _ => Err(Error::explain(ErrorType::HTTPStatus(502), "the provider refused the session")),
    }
}

/// A session that has lasted long enough ends.
pub fn check(ctx: &Ctx) -> pingora::Result<()> {
    match &ctx.line {
        Some(line) if line.over() => Err(Error::explain(ErrorType::ReadTimedout, "the session is over").into_up()),
        _ => Ok(()),
    }
}
