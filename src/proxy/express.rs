//! The express lane: a plain fresh hit of an open route answered from the request head alone, before Pingora makes a
//! session of it. It takes the very steps of the stations (`accept`, `request`, `cache/hot`, `log`), over values instead
//! of a session, and steps aside wherever one of them would do anything but answer that hit: a refusal, a redirect,
//! auth, the script, a miss. What it leaves goes the ordinary way with the same bytes, and nothing has been recorded.

use super::accept::Wire;
use super::cache::Found;
use super::coding::{self, Form};
use super::ctx::Ctx;
use super::log::Sent;
use super::{Edge, accept, cache, log, request};
use crate::cache::wire;
use crate::plan::HeaderChange;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderName, Method, header};
use pingora::http::{RequestHeader, ResponseHeader};

/// An answer that only needs to be written.
pub struct Answer {
    ctx: Box<Ctx>,
    found: Found,
    bodyless: bool,
}

/// How writing an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All of it was written.
    Whole,
    /// The client left.
    Gone,
    /// The client took nothing for too long.
    Slow,
}

impl Ending {
    fn reason(self) -> &'static str {
        match self {
            Ending::Whole => "",
            Ending::Gone => "client_gone",
            Ending::Slow => "client_too_slow",
        }
    }
}

/// The answer to a request without a body, if it is one for this lane.
pub fn try_answer(edge: &Edge, req: &mut RequestHeader, wire: &Wire) -> Option<Answer> {
    let plan = edge.plan.load_full();
    if !plan.express || !matches!(req.method, Method::GET | Method::HEAD) {
        return None;
    }
    let mut ctx = Box::new(Ctx::new(plan));
    accept::head(edge, req, wire, &mut ctx);
    if ctx.refused.is_some() || request::wants_https(edge, &ctx) {
        return None;
    }
    let route = request::route(req, &mut ctx)?;
    let cache = route.cache.as_ref().filter(|_| route.is_open())?;
    if !cache::allowed(req, &mut ctx) {
        return None;
    }
    let mut found = cache::find(req, &mut ctx, cache)?;
    // A coded form that has still to be made is waited for elsewhere.
    found.form = coding::ready(req, &mut ctx, &found.hit).ok()?;
    let bodyless = found.bodyless(&req.method);
    Some(Answer { ctx, found, bodyless })
}

/// Fields that this lane writes itself.
const OWN: [HeaderName; 7] = [
    header::AGE,
    header::CONNECTION,
    header::DATE,
    HeaderName::from_static("cache-status"),
    HeaderName::from_static("x-sluicegate-source"),
    HeaderName::from_static("x-sluicegate-reason"),
    HeaderName::from_static("x-request-id"),
];

/// What is made room for beyond the stored block, in bytes.
const HEAD_ROOM_BYTES: usize = 256;

impl Answer {
    /// The status.
    pub fn status(&self) -> u16 {
        if self.found.hit.not_modified { 304 } else { self.found.hit.object.head().header.status.as_u16() }
    }

    /// The body's pieces; none where only the header is sent.
    pub fn body(&self) -> &[Bytes] {
        if self.bodyless { &[] } else { self.found.chunks() }
    }

    /// The header as a value, framing left to the writer.
    pub fn head(&mut self) -> pingora::Result<ResponseHeader> {
        self.found.head(&mut self.ctx)
    }

    /// The header as HTTP/1.1 sends it, to its empty line.
    pub fn head_bytes(&mut self, keep: bool) -> Option<BytesMut> {
        let mut out = match self.stored_block() {
            Some(block) => block,
            None => {
                let received = self.found.hit.object.head().created;
                wire::block(&self.head().ok()?, received)
            }
        };
        out.put_slice(if keep { b"Connection: keep-alive\r\n\r\n" } else { b"Connection: close\r\n\r\n" });
        Some(out)
    }

    /// The header from the block that the object keeps ready; none where a field of it has to change.
    fn stored_block(&self) -> Option<BytesMut> {
        let object = &self.found.hit.object;
        let changes = self.ctx.route.as_ref().map_or(&[][..], |r| &r.response_headers);
        let as_stored = matches!(self.found.form, Form::Plain) && !self.ctx.varies_by_coding;
        if self.found.hit.not_modified || !as_stored || !only_adds(changes, &object.head().header) {
            return None;
        }
        let block = object.block();
        let mut out = BytesMut::with_capacity(block.len() + HEAD_ROOM_BYTES);
        out.put_slice(block);
        wire::number(&mut out, "Age", object.age_secs(self.found.now));
        wire::line(&mut out, "cache-status", self.found.said(&self.ctx).as_bytes());
        wire::line(&mut out, "x-sluicegate-source", self.ctx.source.as_str().as_bytes());
        wire::line(&mut out, "x-request-id", self.ctx.id.as_bytes());
        for change in changes {
            if let HeaderChange::Set(name, value) = change {
                wire::line(&mut out, name.as_str(), value.as_bytes());
            }
        }
        Some(out)
    }

    /// The last station, for an answer written as bytes.
    pub fn log(mut self, edge: &Edge, req: &RequestHeader, bytes: u64, ending: Ending) {
        self.note(ending);
        // Rendered again only where a line may tell it.
        let cache = self.ctx.plan.log.is_some().then(|| self.found.said(&self.ctx));
        let cache = cache.as_ref().and_then(|v| v.to_str().ok());
        let sent = Sent { req, head: None, status: self.status(), bytes, cache };
        log::log(edge, &sent, &mut self.ctx);
    }

    /// The same for an answer written by a session that keeps what it sent.
    pub fn log_sent(mut self, edge: &Edge, sent: &Sent<'_>, ending: Ending) {
        self.note(ending);
        log::log(edge, sent, &mut self.ctx);
    }

    fn note(&mut self, ending: Ending) {
        self.ctx.reason = ending.reason();
        if ending != Ending::Whole {
            self.ctx.error = Some(format!("write: {}", ending.reason()));
        }
    }
}

/// Whether a route's changes leave every stored field and every field of ours as it is.
fn only_adds(changes: &[HeaderChange], stored: &ResponseHeader) -> bool {
    changes.iter().enumerate().all(|(i, change)| {
        let n = change.name();
        let again = changes.iter().take(i).any(|c| c.name() == n);
        !again && !OWN.contains(n) && !stored.headers.contains_key(n)
    })
}
