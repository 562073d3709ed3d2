//! The HTTP cache station: the hot path, and Pingora's cache hooks as calls into the cache organ.

use super::ctx::Ctx;
use super::{policy, response};
use crate::base::source::Source;
use crate::cache::judge::{self, Asks, HitVerdict};
use crate::cache::key::{Key, Place};
use crate::cache::rules::{self, Answer, Bypass};
use crate::cache::status::{CacheStatus, Fwd, ttl_secs};
use crate::cache::store::{Purge, Store, Target};
use crate::cache::{Directives, fast, merge, vary as variance};
use crate::plan::{Route, RouteStore};
use crate::policy::decision::{CacheUse, Storing};
use http::{Method, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_cache::key::HashBinary;
use pingora_cache::{
    CacheKey, CacheMeta, CacheOptionOverrides, CachePhase, ForcedFreshness, NoCacheReason, RespCacheable,
};
use pingora_proxy::Session;
use std::sync::Arc;
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

/// Answers a plain fresh hit at once, past all of Pingora's cache machinery.
pub async fn serve_hot(session: &mut Session, ctx: &mut Ctx, route: &Arc<Route>) -> Result<bool> {
    let Some(cache) = &route.cache else { return Ok(false) };
    ctx.cache.script.pass = ctx.directives.cache == CacheUse::Pass;
    if let Err(why) = rules::may_use(session.req_header(), &ctx.cache.script) {
        ctx.cache.bypass = Some(why);
        return Ok(false);
    }
    if !session.as_downstream_mut().is_body_empty() {
        // An HTTP/2 GET can have a body without saying so in its header.
        ctx.cache.bypass = Some(Bypass::Body);
        return Ok(false);
    }
    let key = key_of(session, ctx, cache);
    let now = SystemTime::now();
    let hit =
        if ctx.background { None } else { fast::try_hit(cache.store.adapter.store(), session.req_header(), &key, now) };
    ctx.cache.key = Some(key);
    let Some(hit) = hit else { return Ok(false) };
    ctx.source = Source::HttpCache;
    ctx.cache.outcome = "hit";
    ctx.cache.age = Some(Duration::from_secs(hit.object.age_secs(now)));
    let mut head = hit.response(now);
    head.append_header("cache-status", CacheStatus::hit(hit.object.ttl_secs(now)).render())?;
    response::finish(&mut head, ctx)?;
    let bodyless = hit.not_modified || session.req_header().method == Method::HEAD || hit.object.body_bytes() == 0;
    session.write_response_header(Box::new(head), bodyless).await?;
    if bodyless {
        return Ok(true);
    }
    let chunks = hit.object.chunks();
    for (i, piece) in chunks.iter().enumerate() {
        session.write_response_body(Some(piece.clone()), i + 1 == chunks.len()).await?;
    }
    Ok(true)
}

fn key_of(session: &Session, ctx: &Ctx, cache: &RouteStore) -> Key {
    let req = session.req_header();
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
    Ok(key_of(session, ctx, cache).to_pingora())
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

/// An origin's header, before anything is stored: the script's say. A 304 is kept whole, for the merge.
pub fn from_origin(resp: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    if resp.status.is_informational() {
        return Ok(());
    }
    if resp.status == StatusCode::NOT_MODIFIED {
        ctx.cache.update = Some(resp.clone());
        return Ok(());
    }
    let d = policy::on_origin_response(resp, ctx)?;
    ctx.notes.extend(d.notes);
    ctx.cache.script.pass |= d.store == Storing::Never;
    ctx.cache.script.ttl = d.ttl;
    ctx.cache.script.stale_while_revalidate = d.stale_while_revalidate;
    ctx.cache.script.stale_if_error = d.stale_if_error;
    if !d.tags.is_empty() {
        resp.insert_header("surrogate-key", d.tags.join(" "))?;
    }
    response::apply(resp, &d.headers)
}

/// RFC 9111 §4.4: a successful unsafe request makes what is stored for its URL, and for the URLs of the same host that
/// its answer names, invalid.
pub async fn invalidate(session: &Session, resp: &ResponseHeader, ctx: &Ctx) {
    let Some(cache) = store(ctx) else { return };
    let req = session.req_header();
    let safe = matches!(req.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    if safe || !(resp.status.is_success() || resp.status.is_redirection()) {
        return;
    }
    let mut targets = vec![req.raw_path().to_vec()];
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        targets.extend(resp.headers.get(name).and_then(|v| same_host(v.as_bytes(), ctx)));
    }
    for target in targets {
        let place = Place::of(ctx.tls, &ctx.authority, &target);
        let key = Key::of_url(&place, &cache.rules.key);
        let target = Target::Url(*key.hash(), key.url_bytes());
        if let Err(error) = cache.store.adapter.store().purge(&target, Purge::Hard).await {
            tracing::warn!(%error, "could not invalidate");
        }
    }
}

/// Path and query of a URL reference that stays on this host.
fn same_host(reference: &[u8], ctx: &Ctx) -> Option<Vec<u8>> {
    if reference.starts_with(b"/") && !reference.starts_with(b"//") {
        return Some(reference.to_vec());
    }
    let uri: http::Uri = std::str::from_utf8(reference).ok()?.parse().ok()?;
    let same = uri.authority()?.as_str().eq_ignore_ascii_case(&ctx.authority) && uri.scheme_str()? == ctx.scheme();
    same.then(|| uri.path_and_query().map_or(b"/".to_vec(), |p| p.as_str().as_bytes().to_vec()))
}

/// May this answer be stored, and for how long? A 304 updates every field of what is stored (RFC 9111 §3.2); Pingora's
/// own merge of five fields is done again from the stored header.
pub fn may_store(session: &Session, resp: &ResponseHeader, ctx: &mut Ctx) -> Result<RespCacheable> {
    let update = ctx.cache.update.take();
    let merged = match (update, session.cache.maybe_cache_meta()) {
        (Some(update), Some(meta)) => match merge::merge_304(meta.response_header(), &update) {
            Ok(header) => Some(header),
            Err(why) => return Ok(RespCacheable::Uncacheable(why.to_pingora())),
        },
        _ => None,
    };
    if let Some(header) = &merged {
        // The stored form has been asked about once; its lifetime is asked for again.
        let d = policy::on_origin_response(header, ctx)?;
        ctx.cache.script.pass |= d.store == Storing::Never;
        ctx.cache.script.ttl = d.ttl;
        ctx.cache.script.stale_while_revalidate = d.stale_while_revalidate;
        ctx.cache.script.stale_if_error = d.stale_if_error;
    }
    let Some(cache) = store(ctx) else { return Ok(RespCacheable::Uncacheable(NoCacheReason::Custom("no_cache_rule"))) };
    let answer = Answer {
        header: merged.as_ref().unwrap_or(resp),
        // Credentials may come as a cookie or a parameter too: what counts is that the route asks for them.
        authorized: session.req_header().headers.contains_key(header::AUTHORIZATION)
            || ctx.route.as_ref().is_some_and(|r| r.auth.is_some()),
        now: SystemTime::now(),
        waited: ctx.cache.asked.map_or(Duration::ZERO, |a| a.elapsed()),
        route: &cache.rules,
        script: &ctx.cache.script,
        object_bytes_max: cache.store.adapter.store().limits().object_bytes_max,
    };
    Ok(match rules::decide(&answer) {
        Ok(meta) => RespCacheable::Cacheable(meta),
        Err(why) => RespCacheable::Uncacheable(why.to_pingora()),
    })
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

/// Says on the answer what the cache did (RFC 9211), and where it came from.
pub fn tell(session: &Session, resp: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    if store(ctx).is_none() || resp.status.is_informational() {
        return Ok(());
    }
    let status = match ctx.cache.bypass {
        Some(why) => {
            ctx.cache.outcome = "bypass";
            CacheStatus::bypass(bypass_word(why), why.as_str())
        }
        None => phase_status(session, resp, ctx),
    };
    // A cache behind us may have said its part; ours comes after it (RFC 9211 §2).
    resp.append_header("cache-status", status.render()).map(|_| ())
}

fn bypass_word(why: Bypass) -> Fwd {
    match why {
        Bypass::Method => Fwd::Method,
        _ => Fwd::Bypass,
    }
}

fn phase_status(session: &Session, resp: &ResponseHeader, ctx: &mut Ctx) -> CacheStatus {
    let phase = session.cache.phase();
    let now = SystemTime::now();
    let meta = session.cache.maybe_cache_meta();
    let ttl = meta.map(|m| ttl_secs(m, now));
    let from_cache = matches!(phase, CachePhase::Hit | CachePhase::Stale | CachePhase::StaleUpdating);
    ctx.cache.outcome = match phase {
        CachePhase::Hit => "hit",
        CachePhase::Stale | CachePhase::StaleUpdating => "stale",
        CachePhase::Disabled(_) | CachePhase::Bypass => "bypass",
        _ => "miss",
    };
    if from_cache {
        ctx.source = Source::HttpCache;
        ctx.cache.age = meta.map(CacheMeta::age);
    }
    let status = (!from_cache).then(|| resp.status.as_u16());
    let waited = session.cache.lock_duration().is_some();
    let other_variant = session.cache.maybe_cache_key().is_some_and(|k| k.get_variance_key().is_some());
    let missed = matches!(phase, CachePhase::Miss | CachePhase::Disabled(_));
    let why = ctx.cache.why.or((other_variant && missed).then_some(Fwd::VaryMiss));
    CacheStatus::of_phase(phase, why, status, ttl).collapsed(waited)
}
