//! What the cache did, said on the answer (RFC 9211).

use super::store;
use crate::base::source::Source;
use crate::cache::rules::Bypass;
use crate::cache::status::{CacheStatus, Fwd, Handled, ttl_secs, with_key};
use crate::proxy::ctx::Ctx;
use http::HeaderValue;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_cache::{CacheMeta, CachePhase};
use pingora_proxy::Session;
use std::time::SystemTime;

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
    ctx.cache.detail = status.detail;
    // A cache behind us may have said its part; ours comes after it (RFC 9211 §2).
    resp.append_header("cache-status", said(status, ctx)).map(|_| ())
}

/// The member as this client may see it: with the key where the operator allows it.
pub fn said(status: CacheStatus, ctx: &Ctx) -> HeaderValue {
    let member = status.render();
    match &ctx.cache.key {
        Some(key) if ctx.plan.cache_key_for.iter().any(|n| n.contains(&ctx.client)) => with_key(&member, key.bytes()),
        _ => member,
    }
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
    // Known beforehand not to be storable, it went past the cache: nothing was looked up.
    let predicted = session.cache.predicted_uncacheable_reason().is_some();
    ctx.cache.predicted = predicted;
    let why = if predicted { Some(Fwd::Bypass) } else { why };
    let told = CacheStatus::of_phase(phase, why, status, ttl).collapsed(waited);
    if ctx.cache.shared || ctx.cache.for_waiters { shared_once(told, why) } else { told }
}

/// RFC 9211 §2.6: who shared the answer of another's fetch was forwarded and collapsed with it; nothing stays stored.
fn shared_once(told: CacheStatus, why: Option<Fwd>) -> CacheStatus {
    let handled = match told.handled {
        Handled::Hit => {
            Handled::Forwarded { why: why.unwrap_or(Fwd::UriMiss), status: None, stored: false, collapsed: true }
        }
        Handled::Forwarded { why, status, collapsed, .. } => {
            Handled::Forwarded { why, status, stored: false, collapsed }
        }
    };
    CacheStatus { handled, ttl: None, detail: "share_once" }
}
