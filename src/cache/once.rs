//! `share: once`: an answer that is fresh for no time, given to those who waited for it and to nobody else.
//!
//! Varnish 8's rule: what comes of a fetch counts as validated for every request that was waiting for it, since the
//! origin gave it after they had asked. So even `no-cache` and `max-age=0` allow this one use; what makes an answer one
//! client's own (`private`, `no-store`, `Set-Cookie`, credentials) does not.

use super::armor::{self, Asked};
use super::cc::CacheControl;
use super::judge::{Asks, HitVerdict};
use super::rules::{self, Answer, NoStore};
use super::{fresh, merge, targeted};
use http::header;
use pingora_cache::{CacheMeta, ForcedFreshness};
use std::time::{Duration, SystemTime};

/// As [`rules::decide`]; where the route shares, an answer without any lifetime is kept for those who wait. True says
/// that it is kept for them alone.
pub fn decide(answer: &Answer<'_>, asked: &Asked<'_>) -> Result<(CacheMeta, bool), NoStore> {
    match rules::decide(answer) {
        Err(NoStore::Stale | NoStore::Policy) if may_share(answer, asked) => {
            for_waiters(answer).map(|meta| (meta, true))
        }
        // What can be validated stays for others too; without a stale window nothing else counts from its last moment.
        Ok(meta) if !meta.is_fresh(answer.now) && !has_windows(&meta) && may_share(answer, asked) => {
            for_waiters(answer).map(|meta| (meta, false))
        }
        decided => decided.map(|meta| (meta, false)),
    }
}

/// Whether somebody wanted it served stale. The window for an origin that cannot be reached does not count: every answer
/// has that.
fn has_windows(meta: &CacheMeta) -> bool {
    meta.stale_while_revalidate_sec() > 0 || fresh::OnFailure::of(meta).error_secs > 0
}

fn may_share(answer: &Answer<'_>, asked: &Asked<'_>) -> bool {
    // Nobody may know what an answer of any kind to a session is, unless the origin says that it is for all.
    let personal = armor::has_session(asked, answer) && !armor::meant_for_all(answer);
    answer.route.share_once && !answer.authorized && !answer.script.pass && !personal
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
    /// Whether what is stored has come since it began to wait: the fetch it waited for did not fail.
    pub fn was_answered(&self, meta: &CacheMeta, now: SystemTime) -> bool {
        meta.epoch() >= self.since || (meta.fresh_until() >= self.since && !meta.is_fresh(now))
    }

    /// Whether it may have this answer once: the origin gave it after this client had asked, and the client has no wishes
    /// of its own.
    pub fn may_have(&self, meta: &CacheMeta) -> bool {
        self.asks.is_plain() && !self.authorized && meta.fresh_until() >= self.since
    }
}

/// What is made of a stale object on a route that shares once, by one who has not waited for it: an object that was kept
/// for waiters alone is as good as none. The same goes for any other that can neither be validated nor served stale.
pub fn for_others(verdict: HitVerdict, meta: &CacheMeta) -> Option<ForcedFreshness> {
    let headers = meta.headers();
    let has_validator = headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
    match verdict {
        HitVerdict::Stale | HitVerdict::StaleOk if !has_windows(meta) && !has_validator => {
            Some(ForcedFreshness::ForceMiss)
        }
        other => other.to_pingora(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Directives, RouteCache};
    use super::*;
    use crate::config::cache as config;
    use http::HeaderMap;
    use pingora::http::ResponseHeader;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    fn decided(
        yaml: &str,
        authorized: bool,
        cookie: &str,
        fields: &[(&'static str, &str)],
    ) -> Result<(CacheMeta, bool), NoStore> {
        let route = RouteCache::compile(&serde_yaml::from_str::<config::RouteCache>(yaml).unwrap()).unwrap().unwrap();
        let mut header = ResponseHeader::build(200, None).unwrap();
        fields.iter().for_each(|(n, v)| {
            header.append_header(*n, *v).unwrap();
        });
        let mut headers = HeaderMap::new();
        headers.insert("cookie", cookie.parse().unwrap());
        let script = Directives::default();
        let answer = Answer {
            header: &header,
            authorized,
            plain: true,
            now: now(),
            waited: Duration::ZERO,
            route: &route,
            script: &script,
            object_bytes_max: 1000,
        };
        decide(&answer, &Asked { target: b"/", headers: &headers })
    }

    const ONCE: &str = "{ share: once }";

    #[test]
    fn what_is_fresh_for_no_time_is_kept_for_waiters_alone() {
        for cc in ["max-age=0", "s-maxage=0", "no-cache", "max-age=0, must-revalidate", "public, max-age=0"] {
            let (meta, for_waiters) = decided(ONCE, false, "", &[("cache-control", cc), ("age", "7")]).unwrap();
            assert!(for_waiters && !meta.is_fresh(now()), "{cc}");
            assert_eq!((meta.stale_while_revalidate_sec(), meta.stale_if_error_sec()), (0, 0));
            assert_eq!(now().duration_since(meta.epoch()).unwrap().as_secs(), 7, "its age stays true");
            assert_eq!(decided("true", false, "", &[("cache-control", cc)]).err(), Some(NoStore::Stale), "{cc}");
        }
        assert!(decided("{ share: once, ttl: { default: 0s } }", false, "", &[]).unwrap().1);
        assert!(!decided(ONCE, false, "", &[("cache-control", "max-age=9")]).unwrap().1);
    }

    #[test]
    fn what_is_one_clients_own_is_never_shared() {
        let zero = ("cache-control", "max-age=0");
        assert_eq!(decided(ONCE, false, "", &[("cache-control", "max-age=0, private")]).err(), Some(NoStore::Private));
        assert_eq!(decided(ONCE, false, "", &[("cache-control", "no-store, no-cache")]).err(), Some(NoStore::NoStore));
        assert_eq!(decided(ONCE, false, "", &[zero, ("set-cookie", "a=1")]).err(), Some(NoStore::SetCookie));
        assert_eq!(decided(ONCE, false, "", &[zero, ("vary", "*")]).err(), Some(NoStore::VaryStar));
        for cc in ["max-age=0", "s-maxage=0"] {
            assert!(decided(ONCE, true, "", &[("cache-control", cc)]).is_err(), "credentials, {cc}");
        }
        assert_eq!(decided(ONCE, false, "sid=1", &[zero]).err(), Some(NoStore::Stale), "a session");
        assert_eq!(decided(ONCE, false, "", &[]).err(), Some(NoStore::NoFreshness), "nobody said 0");
    }

    #[test]
    fn only_who_asked_before_the_answer_came_may_have_it() {
        let (meta, _) = decided(ONCE, false, "", &[("cache-control", "max-age=0")]).unwrap();
        let (before, after) = (now() - Duration::from_millis(1), now() + Duration::from_millis(1));
        let plain = Asks::default();
        let wishes = Asks { no_cache: true, ..plain };
        let waiter = |since, asks, authorized| Waiter { since, asks, authorized }.may_have(&meta);
        assert!(waiter(before, &plain, false));
        let skewed = [("cache-control", "max-age=0"), ("etag", "\"v\""), ("age", "9")];
        let (kept, for_waiters) = decided(ONCE, false, "", &skewed).unwrap();
        assert!(!for_waiters && Waiter { since: before, asks: &plain, authorized: false }.may_have(&kept));
        assert!(!waiter(after, &plain, false));
        assert!(!waiter(before, &wishes, false));
        assert!(!waiter(before, &plain, true));
        let answered = |since, meta| Waiter { since, asks: &plain, authorized: false }.was_answered(meta, now());
        assert!(answered(before, &meta) && !answered(after, &meta), "the fetch it waits for has not ended, or failed");
        for verdict in [HitVerdict::Stale, HitVerdict::StaleOk] {
            assert_eq!(for_others(verdict, &meta), Some(ForcedFreshness::ForceMiss));
        }
    }
}
