//! `share: once`: an answer that is fresh for no time, given to those who waited for it and to nobody else.
//!
//! Varnish 8's rule: what comes of a fetch counts as validated for every request that was waiting for it, since the
//! origin gave it after they had asked. So even `no-cache` and `max-age=0` allow this one use; what makes an answer one
//! client's own (`private`, `no-store`, `Set-Cookie`, credentials) does not.

use super::cc::CacheControl;
use super::judge::{Asks, HitVerdict};
use super::rules::{self, Answer, NoStore};
use super::armor::{self, Asked};
use super::{fresh, merge, targeted};
use http::header;
use pingora_cache::{CacheMeta, ForcedFreshness};
use std::time::{Duration, SystemTime};

/// As [`rules::decide`]; where the route shares, an answer without any lifetime is kept for those who wait. True says
/// that it is kept for them alone.
pub fn decide(answer: &Answer<'_>, asked: &Asked<'_>) -> Result<(CacheMeta, bool), NoStore> {
    match rules::decide(answer) {
        Err(NoStore::Stale | NoStore::Policy) if may_share(answer, asked) => for_waiters(answer).map(|meta| (meta, true)),
        decided => decided.map(|meta| (meta, false)),
    }
}

fn may_share(answer: &Answer<'_>, asked: &Asked<'_>) -> bool {
    answer.route.share_once && !answer.authorized && !answer.script.pass && !armor::is_personal(asked, answer)
}

/// Metadata of an answer that has just gone stale: its last fresh moment says when the origin gave it.
fn for_waiters(answer: &Answer<'_>) -> Result<CacheMeta, NoStore> {
    let headers = &answer.header.headers;
    let cc = targeted::of(headers).unwrap_or_else(|| CacheControl::of(headers));
    let age = fresh::initial_age(headers, answer.now, answer.waited);
    let until = answer.now.checked_sub(Duration::from_nanos(1)).ok_or(NoStore::NoFreshness)?;
    let mut meta = CacheMeta::new(until, answer.now, 0, 0, merge::storable(answer.header, &cc));
    meta.set_epoch_override(answer.now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH));
    Ok(meta)
}

/// Someone who waited for a fetch, and what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Waiter<'a> {
    /// Since when it has wanted an answer.
    pub since: SystemTime,
    /// What it asks of the cache.
    pub asks: &'a Asks,
    /// It came with credentials.
    pub authorized: bool,
}

impl Waiter<'_> {
    /// Whether it may have this answer once: the origin gave it after this client had asked, and the client has no wishes
    /// of its own.
    pub fn may_have(&self, meta: &CacheMeta) -> bool {
        self.asks.is_plain() && !self.authorized && meta.fresh_until() >= self.since
    }
}

/// What is made of a stale object on a route that shares once, by one who has not waited for it: an object that was kept
/// for waiters alone is as good as none. The same goes for any other that can neither be validated nor served stale.
pub fn for_others(verdict: HitVerdict, meta: &CacheMeta) -> Option<ForcedFreshness> {
    let windows = meta.stale_while_revalidate_sec() > 0 || meta.stale_if_error_sec() > 0;
    let headers = meta.headers();
    let has_validator = headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
    match verdict {
        HitVerdict::Stale | HitVerdict::StaleOk if !windows && !has_validator => Some(ForcedFreshness::ForceMiss),
        other => other.to_pingora(),
    }
}
