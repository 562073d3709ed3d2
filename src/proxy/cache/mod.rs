//! The HTTP cache station: Pingora's cache hooks as calls into the cache organ. The hot path stands in `hot`, what is
//! made of an origin's answer in `origin`, what is said about it in `tell`.

mod hot;
mod origin;
mod tell;

pub use hot::{Found, allowed, find, serve_hot};
pub use origin::{from_origin, invalidate, may_store};
pub use tell::tell;

use super::ctx::Ctx;
use crate::cache::judge::{self, Asks, HitVerdict};
use crate::cache::key::{Key, Place};
use crate::cache::rules::Bypass;
use crate::cache::status::Fwd;
use crate::cache::{Directives, vary as variance};
use crate::plan::RouteStore;
use http::Version;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_cache::key::HashBinary;
use pingora_cache::{CacheKey, CacheMeta, CacheOptionOverrides, ForcedFreshness};
use pingora_proxy::Session;
use std::time::{Duration, Instant, SystemTime};

/// The cache's part in one request.
#[derive(Default)]
pub struct CacheState {
    /// The key, once it was needed.
    pub key: Option<Key>,
    /// Age of what is sent, when it comes from the cache.
    pub age: Option<Duration>,
    /// Why the cache takes no part.
    pub bypass: Option<Bypass>,
    /// What the script said.
    pub script: Directives,
    /// Why the origin is asked, where that is known better than Pingora's phase tells.
    pub why: Option<Fwd>,
    /// What the request's own `Cache-Control` asks.
    pub asks: Asks,
    /// When the origin was asked.
    pub asked: Option<Instant>,
    /// The header of a 304, whole.
    pub update: Option<ResponseHeader>,
    outcome: &'static str,
}

impl CacheState {
    /// One word for the script: `hit`, `miss`, `stale`, `bypass`; empty without a cache.
    pub fn outcome(&self) -> &'static str {
        self.outcome
    }
}

fn store(ctx: &Ctx) -> Option<&RouteStore> {
    ctx.route.as_ref()?.cache.as_ref()
}

fn key_of(req: &RequestHeader, ctx: &Ctx, cache: &RouteStore) -> Key {
    let place = Place::of(ctx.tls, &ctx.authority, req.raw_path());
    // Two routes may share a URL (a header or a method tells them apart), and a script may choose another upstream:
    // their answers are different objects. A purge by URL finds them all.
    let mut vary = ctx.directives.vary.clone();
    vary.push(("route".to_owned(), ctx.route_name().to_owned()));
    vary.extend(ctx.directives.upstream.iter().map(|u| ("upstream".to_owned(), u.clone())));
    Key::of(&place, &cache.rules.key, &req.headers, &vary)
}

/// Switches Pingora's cache on, where the route has one and the request may use it.
pub fn enable(session: &mut Session, ctx: &mut Ctx) {
    let Some(cache) = store(ctx) else { return };
    if ctx.cache.bypass.is_some() {
        return;
    }
    let (adapter, lock) = (&cache.store.adapter, cache.store.lock.as_ref());
    let mut overrides = CacheOptionOverrides::default();
    overrides.wait_timeout = Some(cache.rules.lock_timeout);
    // No size limit here: Pingora would abort chunked bodies; the store itself stops keeping what is too large.
    session.cache.enable(adapter, None, None, Some(lock), Some(overrides));
    ctx.cache.asks = Asks::of(&session.req_header().headers);
}

/// The key for Pingora.
pub fn key(session: &Session, ctx: &Ctx) -> Result<CacheKey> {
    if let Some(k) = &ctx.cache.key {
        return Ok(k.to_pingora());
    }
    let cache = store(ctx).ok_or_else(|| Error::explain(ErrorType::InternalError, "no cache on this route"))?;
    Ok(key_of(session.req_header(), ctx, cache).to_pingora())
}

/// Something stored: may it be used for this request?
pub fn judge(meta: &CacheMeta, ctx: &mut Ctx) -> Option<ForcedFreshness> {
    let verdict = judge::judge(&ctx.cache.asks, meta, SystemTime::now());
    if verdict == HitVerdict::Revalidate {
        ctx.cache.why = Some(Fwd::Request);
    }
    verdict.to_pingora()
}

/// The last gate before the origin: `only-if-cached` goes no further (RFC 9111 §5.2.1.7).
pub fn may_ask_origin(ctx: &mut Ctx) -> Result<bool> {
    if ctx.cache.asks.only_if_cached && !ctx.background {
        return Err(Error::explain(ErrorType::HTTPStatus(504), "only-if-cached"));
    }
    ctx.cache.asked = Some(Instant::now());
    Ok(true)
}

/// Which variant a request wants (RFC 9111 §4.1).
pub fn vary(meta: &CacheMeta, req: &RequestHeader) -> Option<HashBinary> {
    variance::of(meta.headers(), &req.headers)
}

/// May something stale be sent: while it is refreshed (`error` is none), or because the origin failed? Pingora has
/// checked the windows of the stored object.
pub fn may_be_stale(session: &Session, ctx: &mut Ctx, error: Option<&Error>) -> bool {
    match error {
        // Pingora writes the refresh of an HTTP/2 request in a form that its own parser refuses: those wait instead.
        None => !ctx.background && session.req_header().version != Version::HTTP_2,
        Some(e) => {
            ctx.error = Some(format!("{:?}", e.etype()));
            *e.esource() == ErrorSource::Upstream
        }
    }
}
