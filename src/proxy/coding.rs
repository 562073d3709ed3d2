//! Content codings on the way out: which one the client gets, and the body coded piece by piece, whole, or taken from
//! the store. What may be coded and how is the compress organ's; here it meets requests and sessions.

use super::ctx::Ctx;
use crate::base::coding::Coding;
use crate::base::reply::{Body, Reply};
use crate::cache::fast::Hit;
use crate::cache::key::Key;
use crate::cache::store::{Object, Rendition};
use crate::compress::encoder::{Effort, Encoder, encoder};
use crate::compress::whole::{self, Precoded};
use crate::compress::{Head, choose, header as coded};
use crate::plan::{HttpStore, RouteStore};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::{HttpModule, HttpModuleBuilder, Module};
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::OwnedSemaphorePermit;

/// Whether the origin is asked for the plain form only: one object is stored for all codings.
///
/// An origin that sends a coded body all the same does not look at `Accept-Encoding`; asking it again for another client
/// would bring the same bytes. So they are stored once and passed on as they are, as without a gateway.
pub fn stores_plain(ctx: &Ctx) -> bool {
    let Some(route) = &ctx.route else { return false };
    route.compress.is_some() && route.cache.is_some() && ctx.cache.bypass.is_none()
}

/// How a plain hit goes out.
pub enum Form {
    /// As it is stored.
    Plain,
    /// A 304 about a coded form.
    Weak,
    /// From a coded form in the store.
    Coded(Coding, Arc<Rendition>),
    /// Too large to keep coded forms of: coded on its way, by the ordinary path.
    Streamed,
}

/// A hit waits so long for a coded form in the making before it goes out plain.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// Objects larger than this part of a store get no coded forms there.
const KEPT_SHARE: u64 = 16;

/// Chooses the form of a plain hit; the coding, where a form in it has still to be made.
pub fn ready(req: &RequestHeader, ctx: &mut Ctx, hit: &Hit) -> std::result::Result<Form, Coding> {
    let Some(rule) = ctx.route.as_ref().and_then(|r| r.compress.clone()) else { return Ok(Form::Plain) };
    let object = &hit.object;
    let stored = &object.head().header;
    let answer = Head { status: stored.status, headers: &stored.headers, body_bytes: Some(object.body_bytes()) };
    let choice = choose(&req.headers, req.version, &rule, &answer);
    ctx.varies_by_coding = choice.varies;
    match choice.coding {
        None => Ok(Form::Plain),
        Some(_) if hit.not_modified => Ok(Form::Weak),
        Some(coding) if object.renditions().get(coding).is_none() => Err(coding),
        Some(coding) => Ok(kept(object, coding, ctx)),
    }
}

/// From the form in the store, plain where there is none.
fn kept(object: &Object, coding: Coding, ctx: &mut Ctx) -> Form {
    match object.rendition(coding) {
        Some(rendition) => {
            ctx.coding = Some(coding);
            Form::Coded(coding, Arc::clone(rendition))
        }
        None => Form::Plain,
    }
}

/// Chooses the form of a plain hit, and has the coded form made where it is the first that wants it.
pub async fn form(session: &Session, ctx: &mut Ctx, cache: &RouteStore, hit: &Hit) -> Form {
    let coding = match ready(session.req_header(), ctx, hit) {
        Ok(form) => return form,
        Err(coding) => coding,
    };
    let object = &hit.object;
    let capacity = cache.store.adapter.store().limits().capacity_bytes;
    if object.body_bytes() > capacity / KEPT_SHARE {
        return Form::Streamed;
    }
    let Some(key) = ctx.cache.key.clone() else { return Form::Plain };
    let making = tokio::spawn(make(cache.store, key, Arc::clone(object), coding));
    // When it takes longer, the work goes on for those who come later.
    let _ = tokio::time::timeout(WAIT_MAX, making).await;
    kept(object, coding, ctx)
}

/// Makes a coded form of a stored body and puts it on the store's count. A task of its own, so that a client that leaves
/// does not undo what others wait for.
async fn make(store: &'static HttpStore, key: Key, object: Arc<Object>, coding: Coding) {
    let body = Arc::clone(&object);
    let work = move || async move {
        // With every core coding already, this one goes out plain, and a later hit tries again.
        let _leave = store.coders.try_acquire().map_err(|_| "busy")?;
        let job = move || {
            whole::encode(coding, Effort::Kept, body.chunks()).map(|made| made.map(|pieces| Rendition::new(&pieces)))
        };
        tokio::task::spawn_blocking(job).await.map_err(|_| "cut")?.map_err(|_| "failed")
    };
    match object.renditions().make(coding, work).await {
        Ok(true) => drop(store.adapter.store().weigh(&key, &object)),
        Ok(false) => {}
        Err(why) => tracing::debug!(coding = coding.as_str(), why, "no coded form was made"),
    }
}

impl Form {
    /// The header of the answer.
    pub fn head(&self, hit: &Hit, now: SystemTime) -> ResponseHeader {
        match self {
            Form::Coded(coding, rendition) => hit.object.coded_response(*coding, now, |head| {
                coded::coded(head, *coding, Some(rendition.body_bytes()));
                coded::vary(head);
            }),
            Form::Weak => {
                let mut head = hit.response(now);
                coded::weaken(&mut head);
                head
            }
            Form::Plain | Form::Streamed => hit.response(now),
        }
    }

    /// The body of the answer.
    pub fn chunks<'a>(&'a self, hit: &'a Hit) -> &'a [Bytes] {
        match self {
            Form::Coded(_, rendition) => rendition.chunks(),
            _ => hit.object.chunks(),
        }
    }
}

/// Codes an answer that passes through Pingora: sets its header and readies the encoder for its body.
pub fn response(session: &mut Session, resp: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    let Some(rule) = ctx.route.as_ref().and_then(|r| r.compress.clone()) else { return Ok(()) };
    if ctx.background || resp.status.is_informational() {
        return Ok(());
    }
    let req = session.req_header();
    // Pingora cuts ranges and makes 304s before this hook: what they were made of is with the stored header.
    let made_of = matches!(resp.status.as_u16(), 206 | 304 | 416).then(|| session.cache.maybe_cache_meta());
    let choice = match made_of {
        None => choose(&req.headers, req.version, &rule, &Head::of(resp.status, &resp.headers)),
        Some(Some(meta)) => {
            let stored = meta.response_header();
            let choice = choose(&req.headers, req.version, &rule, &Head::of(stored.status, &stored.headers));
            if resp.status == StatusCode::NOT_MODIFIED && choice.coding.is_some() {
                coded::weaken(resp);
            }
            choice
        }
        Some(None) => {
            // The origin's own 304 does not say what it is about; the client does.
            ctx.varies_by_coding = resp.status == StatusCode::NOT_MODIFIED;
            if ctx.varies_by_coding && coded::client_has_weak(&req.headers, resp) {
                coded::weaken(resp);
            }
            return Ok(());
        }
    };
    ctx.varies_by_coding = choice.varies;
    match choice.coding {
        Some(coding) if made_of.is_none() => start(session, resp, coding, ctx),
        _ => Ok(()),
    }
}

fn start(session: &mut Session, resp: &mut ResponseHeader, coding: Coding, ctx: &mut Ctx) -> Result<()> {
    let (is_head, version) = (session.req_header().method == Method::HEAD, session.req_header().version);
    let length = Head::of(resp.status, &resp.headers).body_bytes;
    if !is_head {
        let Some(module) = session.downstream_modules_ctx.get_mut::<Coder>() else { return Ok(()) };
        // With as many under way as memory is meant for, this one goes out plain.
        let Ok(leave) = Arc::clone(&ctx.plan.coders).try_acquire_owned() else { return Ok(()) };
        let Ok(encoder) = encoder(coding, Effort::Sent, length) else { return Ok(()) };
        // A body without a stated length may be made while it is sent: what there is must not wait for what will be.
        *module = Coder { encoder: Some(encoder), flush: length.is_none(), _leave: Some(leave) };
    }
    ctx.coding = Some(coding);
    coded::coded(resp, coding, None);
    if !is_head && version == Version::HTTP_11 {
        resp.set_version(Version::HTTP_11);
        resp.insert_header(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
    }
    Ok(())
}

/// The last word on `Vary`, after route and script have changed the header: without it a cache on the way would hand one
/// client's coding to another.
pub fn seal(resp: &mut ResponseHeader, ctx: &Ctx) {
    if ctx.varies_by_coding {
        coded::vary(resp);
    }
}

/// Bodies longer than this are coded off the threads that serve connections.
const INLINE_BYTES_MAX: usize = 32 << 10;

/// Codes a reply that has a whole body. Streams of events are left alone.
pub async fn reply(session: &mut Session, head: &mut ResponseHeader, reply: &mut Reply, ctx: &mut Ctx) {
    // An answer that broke off before its header was sent may have readied the encoder.
    if let Some(module) = session.downstream_modules_ctx.get_mut::<Coder>() {
        *module = Coder::default();
    }
    (ctx.coding, ctx.varies_by_coding) = (None, false);
    let Some(rule) = ctx.route.as_ref().and_then(|r| r.compress.as_ref()) else { return };
    let Body::Full(body) = &reply.body else { return };
    let req = session.req_header();
    let answer = Head { status: head.status, headers: &head.headers, body_bytes: Some(body.len() as u64) };
    let choice = choose(&req.headers, req.version, rule, &answer);
    ctx.varies_by_coding = choice.varies;
    let Some(coding) = choice.coding else { return };
    let made = match reply.extensions.get::<Arc<Precoded>>() {
        Some(precoded) => precoded.get(coding).cloned(),
        None => code(coding, body.clone()).await,
    };
    if let Some(made) = made {
        ctx.coding = Some(coding);
        coded::coded(head, coding, None);
        reply.body = Body::Full(made);
    }
}

async fn code(coding: Coding, body: Bytes) -> Option<Bytes> {
    let large = body.len() > INLINE_BYTES_MAX;
    let job = move || whole::encode(coding, Effort::Sent, std::slice::from_ref(&body));
    let made = if large { tokio::task::spawn_blocking(job).await.ok()? } else { job() };
    // What cannot be coded goes out plain.
    made.ok().flatten().map(|pieces| pieces.concat().into())
}

/// Gives every session its [`Coder`].
pub struct Builder;

impl HttpModuleBuilder for Builder {
    fn init(&self) -> Module {
        Box::new(Coder::default())
    }
}

/// The encoder of one answer, as a module of Pingora: only modules see the end of every body, whichever way it came.
#[derive(Default)]
struct Coder {
    encoder: Option<Box<dyn Encoder>>,
    flush: bool,
    _leave: Option<OwnedSemaphorePermit>,
}

fn failed(e: std::io::Error) -> Box<Error> {
    Error::because(ErrorType::InternalError, "coding the body", e)
}

#[async_trait]
impl HttpModule for Coder {
    async fn response_header_filter(&mut self, resp: &mut ResponseHeader, end: bool) -> Result<()> {
        if end && !resp.status.is_informational() && self.encoder.take().is_some() {
            // No body comes after all, and no bytes at all are no coded body.
            resp.remove_header(&header::CONTENT_ENCODING);
        }
        Ok(())
    }

    fn response_body_filter(&mut self, body: &mut Option<Bytes>, end: bool) -> Result<()> {
        let Some(mut encoder) = self.encoder.take() else { return Ok(()) };
        let data = body.take().unwrap_or_default();
        let ready = encoder.push(&data, self.flush && !end && !data.is_empty()).map_err(failed)?;
        if end {
            let mut all = BytesMut::from(ready);
            all.extend_from_slice(&encoder.finish().map_err(failed)?);
            *body = Some(all.freeze());
        } else {
            // An empty piece would end a chunked body.
            *body = Some(ready).filter(|r| !r.is_empty());
            self.encoder = Some(encoder);
        }
        Ok(())
    }

    fn response_trailer_filter(&mut self, _: &mut Option<Box<http::HeaderMap>>) -> Result<Option<Bytes>> {
        // The trailers of a coded body are lost: Pingora has one place for its last bytes or for them.
        self.response_done_filter()
    }

    fn response_done_filter(&mut self) -> Result<Option<Bytes>> {
        let Some(encoder) = self.encoder.take() else { return Ok(None) };
        encoder.finish().map(Some).map_err(failed)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
