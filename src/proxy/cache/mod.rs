//! The HTTP cache station: Pingora's cache hooks as calls into the cache organ. The hot path stands in `hot`, what is
//! made of an origin's answer in `origin`, what is said about it in `tell`.

mod hot;
mod origin;
mod range;
mod stale;
mod tags;
mod tell;

pub use hot::{Found, allowed, find, serve_hot};
pub use origin::{from_origin, invalidate, may_store};
pub use range::{not_modified, range};
pub use stale::{as_it_was, may_be_stale};
pub use tell::tell;

use super::ctx::Ctx;
use crate::cache::judge::{self, Asks, HitVerdict};
use crate::cache::key::{Key, Place};
use crate::cache::once::Waiter;
use crate::cache::purge::tags::{Tags, TooMany};
use crate::cache::purge::{Filed, Gate};
use crate::cache::rules::Bypass;
use crate::cache::status::Fwd;
use crate::cache::{Directives, once, vary as variance};
use crate::plan::RouteStore;
use http::header;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};
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
    /// Since when an answer has been wanted that was not there.
    pub since: Option<SystemTime>,
    /// One word more about what the cache did, as `Cache-Status` has it; empty for none.
    pub detail: &'static str,
    /// It was known beforehand that the answer would not be stored.
    pub predicted: bool,
    /// The answer was had from another request's fetch, under `share: once`.
    pub shared: bool,
    /// The origin's answer is kept for those who wait for it, under `share: once`.
    pub for_waiters: bool,
    /// Stale is sent because the origin could not be reached.
    pub unreachable: bool,
    /// The request head is dressed as HTTP/1 at the moment.
    pub was_h2: bool,
    /// And has a `Host` that its client did not send.
    pub lent: bool,
    /// The purge generation under which the origin's answer is filed.
    pub generation: u64,
    /// The answer's tags, where it gave any.
    pub tags: Option<Result<Tags, TooMany>>,
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
    match &ctx.directives.key_query {
        Some(names) => Key::of(&place, &cache.rules.key.only(names), &req.headers, &vary),
        None => Key::of(&place, &cache.rules.key, &req.headers, &vary),
    }
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
    session.cache.enable(adapter, None, Some(&cache.store.known), Some(lock), Some(overrides));
    ctx.cache.since = Some(SystemTime::now());
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
pub fn judge(session: &mut Session, meta: &CacheMeta, ctx: &mut Ctx) -> Option<ForcedFreshness> {
    let now = SystemTime::now();
    let verdict = judge::judge(&ctx.cache.asks, meta, now);
    if verdict == HitVerdict::Revalidate {
        ctx.cache.why = Some(Fwd::Request);
    }
    let share = store(ctx).is_some_and(|c| c.rules.share_once);
    if session.cache.lock_duration().is_some() && verdict != HitVerdict::Fresh {
        let authorized = authorized(session, ctx);
        let waiter = Waiter { since: ctx.cache.since.unwrap_or(now), asks: &ctx.cache.asks, authorized };
        if share && verdict == HitVerdict::Stale && waiter.may_have(meta) {
            ctx.cache.shared = true;
            return Some(ForcedFreshness::ForceFresh);
        }
        if waiter.was_answered(meta, now) && !meta.serve_stale_while_revalidate(now) {
            // What it waited for is not for it. Waiting again would make a queue of all who wait: it asks for itself.
            // (Where the fetch failed, a new one is waited for, lest all of them run at a failing origin.)
            session.cache.set_cache_lock(None, None);
        }
    } else if verdict != HitVerdict::Fresh {
        ctx.cache.since = Some(now);
    }
    if share { once::for_others(verdict, meta) } else { verdict.to_pingora() }
}

/// Whether the answer may be one client's own. Credentials may come as a cookie or a parameter too: what counts is that
/// the route asks for them.
fn authorized(session: &Session, ctx: &Ctx) -> bool {
    session.req_header().headers.contains_key(header::AUTHORIZATION)
        || ctx.route.as_ref().is_some_and(|r| r.auth.is_some())
}

/// The last gate before the origin: `only-if-cached` goes no further (RFC 9111 §5.2.1.7).
pub fn may_ask_origin(session: &Session, ctx: &mut Ctx) -> Result<bool> {
    if ctx.cache.asks.only_if_cached && !ctx.background {
        return Err(Error::explain(ErrorType::HTTPStatus(504), "only-if-cached"));
    }
    ctx.cache.asked = Some(Instant::now());
    if let Some(cache) = store(ctx) {
        let generation = cache.store.book().generation();
        // Purged since the look-up: a 304 must not bring back what is void, so it is filed under what it was.
        let void = purged(session, ctx).then(|| filed(session).map_or(0, |f| f.generation));
        ctx.cache.generation = void.unwrap_or(generation);
    }
    Ok(true)
}

fn filed(session: &Session) -> Option<&Filed> {
    session.cache.maybe_cache_meta()?.extensions().get::<Filed>()
}

/// Whether what the look-up found has become void since.
fn purged(session: &Session, ctx: &Ctx) -> bool {
    let (Some(cache), Some(key), Some(filed)) = (store(ctx), &ctx.cache.key, filed(session)) else { return false };
    cache.store.book().gate_of(filed, key.bytes()) == Gate::Void
}

/// Which variant a request wants (RFC 9111 §4.1).
pub fn vary(meta: &CacheMeta, req: &RequestHeader) -> Option<HashBinary> {
    variance::of(meta.headers(), &req.headers)
}
