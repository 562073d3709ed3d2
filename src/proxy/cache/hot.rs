//! The hot path: a plain fresh hit answered at once, past all of Pingora's cache machinery. [`crate::proxy::express`]
//! takes the same steps before there is a session.

use super::key_of;
use super::tell::said;
use crate::base::source::Source;
use crate::cache::fast::{self, Hit};
use crate::cache::key::KEY_BYTES_MAX;
use crate::cache::rules::{self, Bypass};
use crate::cache::status::CacheStatus;
use crate::plan::{Route, RouteStore};
use crate::policy::decision::CacheUse;
use crate::proxy::coding::{self, Form};
use crate::proxy::ctx::Ctx;
use crate::proxy::response;
use bytes::Bytes;
use http::{HeaderValue, Method};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A hit, and the moment that its age and freshness are told for.
pub struct Found {
    /// The hit.
    pub hit: Hit,
    /// The moment.
    pub now: SystemTime,
    /// The coding in which it goes out.
    pub form: Form,
}

impl Found {
    /// What is said about it (RFC 9211).
    pub fn status(&self) -> CacheStatus {
        CacheStatus::hit(self.hit.object.ttl_secs(self.now))
    }

    /// The same as this client may see it.
    pub fn said(&self, ctx: &Ctx) -> HeaderValue {
        said(self.status(), ctx)
    }

    /// The body's pieces.
    pub fn chunks(&self) -> &[Bytes] {
        self.form.chunks(&self.hit)
    }

    /// The header to send, whole but for its framing.
    pub fn head(&self, ctx: &mut Ctx) -> Result<ResponseHeader> {
        let mut head = self.form.head(&self.hit, self.now);
        head.append_header("cache-status", self.said(ctx))?;
        response::finish(&mut head, ctx)?;
        Ok(head)
    }

    /// Whether nothing follows the header.
    pub fn bodyless(&self, method: &Method) -> bool {
        self.hit.not_modified || *method == Method::HEAD || self.hit.object.body_bytes() == 0
    }
}

/// Whether the request may use the cache at all; why not stays in `ctx`.
pub fn allowed(req: &RequestHeader, ctx: &mut Ctx) -> bool {
    ctx.cache.script.pass = ctx.directives.cache == CacheUse::Pass;
    match rules::may_use(req, &ctx.cache.script) {
        Ok(()) => true,
        Err(why) => {
            ctx.cache.bypass = Some(why);
            false
        }
    }
}

/// The plain fresh hit for an allowed request without a body, if there is one; the key stays in `ctx`.
pub fn find(req: &RequestHeader, ctx: &mut Ctx, cache: &RouteStore) -> Option<Found> {
    let key = key_of(req, ctx, cache);
    if key.bytes().len() > KEY_BYTES_MAX {
        ctx.cache.bypass = Some(Bypass::KeyTooLong);
        return None;
    }
    let now = SystemTime::now();
    let hit = if ctx.background { None } else { fast::try_hit(cache.store.adapter.store(), req, &key, now) };
    ctx.cache.key = Some(key);
    let hit = hit?;
    ctx.source = Source::HttpCache;
    ctx.cache.outcome = "hit";
    ctx.cache.age = Some(Duration::from_secs(hit.object.age_secs(now)));
    Some(Found { hit, now, form: Form::Plain })
}

/// Answers a plain fresh hit at once, past all of Pingora's cache machinery.
pub async fn serve_hot(session: &mut Session, ctx: &mut Ctx, route: &Arc<Route>) -> Result<bool> {
    let Some(cache) = &route.cache else { return Ok(false) };
    if !allowed(session.req_header(), ctx) {
        return Ok(false);
    }
    if !session.as_downstream_mut().is_body_empty() {
        // An HTTP/2 GET can have a body without saying so in its header.
        ctx.cache.bypass = Some(Bypass::Body);
        return Ok(false);
    }
    let Some(mut found) = find(session.req_header(), ctx, cache) else { return Ok(false) };
    found.form = coding::form(session, ctx, cache, &found.hit).await;
    if matches!(found.form, Form::Streamed) {
        (ctx.source, ctx.cache.outcome, ctx.cache.age) = (Source::Origin, "", None);
        return Ok(false);
    }
    let bodyless = found.bodyless(&session.req_header().method);
    let head = found.head(ctx)?;
    session.write_response_header(Box::new(head), bodyless).await?;
    if bodyless {
        return Ok(true);
    }
    let chunks = found.chunks();
    for (i, piece) in chunks.iter().enumerate() {
        session.write_response_body(Some(piece.clone()), i + 1 == chunks.len()).await?;
    }
    Ok(true)
}
