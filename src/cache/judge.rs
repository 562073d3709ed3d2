//! What a client's own directives make of a stored answer (RFC 9111 §5.2.1).

use super::cc::{CacheControl, Delta, Fields, Flags};
use super::fresh;
use http::{HeaderMap, header};
use pingora_cache::{CacheMeta, ForcedFreshness};
use std::time::{Duration, SystemTime};

/// What the request asks of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// `no-cache`, or `Pragma: no-cache` without `Cache-Control` (§5.4).
    pub no_cache: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
    /// `max-age` in seconds.
    pub max_age: Option<u32>,
    /// `min-fresh` in seconds.
    pub min_fresh: Option<u32>,
    /// `max-stale` in seconds.
    pub max_stale: Option<u32>,
}

impl Asks {
    /// Reads the request.
    pub fn of(headers: &HeaderMap) -> Self {
        if !headers.contains_key(header::CACHE_CONTROL) {
            let pragma = headers
                .get_all(header::PRAGMA)
                .iter()
                .any(|v| v.as_bytes().split(|b| *b == b',').any(|p| p.trim_ascii().eq_ignore_ascii_case(b"no-cache")));
            return Asks { no_cache: pragma, ..Asks::default() };
        }
        let cc = CacheControl::of(headers);
        // An unreadable limit is taken the careful way: as 0 for what must not be exceeded.
        let limit = |d: Delta| if d == Delta::Invalid { Some(0) } else { d.secs() };
        Asks {
            no_cache: cc.no_cache != Fields::Absent,
            only_if_cached: cc.has(Flags::ONLY_IF_CACHED),
            max_age: limit(cc.max_age),
            min_fresh: cc.min_fresh.secs(),
            max_stale: cc.max_stale.secs(),
        }
    }

    /// Whether it asks for nothing, as most requests do.
    pub fn is_plain(&self) -> bool {
        *self == Asks::default()
    }
}

/// The times of a stored answer at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Its age.
    pub age: Duration,
    /// Time of freshness left; zero when stale.
    pub fresh_for: Duration,
    /// Time since it became stale; zero when fresh.
    pub stale_for: Duration,
    /// Neither must-revalidate nor its kin.
    pub may_be_stale: bool,
}

/// What to do with a stored answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HitVerdict {
    /// Serve it.
    Fresh,
    /// It is stale: the stale windows decide.
    Stale,
    /// The client wants it confirmed: ask the origin, serve nothing stale meanwhile.
    Revalidate,
    /// It is stale, and the client said that will do.
    StaleOk,
    /// The client wants no origin asked, and this will not do: 504.
    GatewayTimeout,
}

impl HitVerdict {
    /// The one spelling for log and header.
    pub fn as_str(self) -> &'static str {
        match self {
            HitVerdict::Fresh => "fresh",
            HitVerdict::Stale => "stale",
            HitVerdict::Revalidate => "request_revalidate",
            HitVerdict::StaleOk => "request_max_stale",
            HitVerdict::GatewayTimeout => "only_if_cached",
        }
    }

    /// What Pingora's `cache_hit_filter` returns. On `GatewayTimeout` the spine must also answer 504 in
    /// `proxy_upstream_filter`, for Pingora has no such outcome.
    pub fn to_pingora(self) -> Option<ForcedFreshness> {
        match self {
            HitVerdict::Fresh | HitVerdict::Stale => None,
            HitVerdict::Revalidate => Some(ForcedFreshness::ForceExpired),
            // Nothing stale may be served, and `proxy_upstream_filter` will give the lock back.
            HitVerdict::GatewayTimeout => Some(ForcedFreshness::ForceMiss),
            HitVerdict::StaleOk => Some(ForcedFreshness::ForceFresh),
        }
    }
}

/// Judges one stored answer.
pub fn judge_hit(asks: &Asks, stored: &Stored) -> HitVerdict {
    let over = |limit: u32, have: Duration| have > Duration::from_secs(limit.into());
    let too_old = asks.max_age.is_some_and(|m| m == 0 || over(m, stored.age));
    let too_short = asks.min_fresh.is_some_and(|m| stored.fresh_for < Duration::from_secs(m.into()));
    let fresh = !stored.fresh_for.is_zero();
    let verdict = if asks.no_cache || too_old || (fresh && too_short) {
        HitVerdict::Revalidate
    } else if fresh {
        HitVerdict::Fresh
    } else if stored.may_be_stale && asks.max_stale.is_some_and(|m| !over(m, stored.stale_for)) {
        HitVerdict::StaleOk
    } else {
        HitVerdict::Stale
    };
    match verdict {
        HitVerdict::Revalidate | HitVerdict::Stale if asks.only_if_cached => HitVerdict::GatewayTimeout,
        v => v,
    }
}

/// The same for Pingora's metadata: the one line of `cache_hit_filter`.
pub fn judge(asks: &Asks, meta: &CacheMeta, now: SystemTime) -> HitVerdict {
    let until = meta.fresh_until();
    judge_hit(
        asks,
        &Stored {
            age: now.duration_since(meta.epoch()).unwrap_or_default(),
            fresh_for: until.duration_since(now).unwrap_or_default(),
            stale_for: now.duration_since(until).unwrap_or_default(),
            may_be_stale: asks.max_stale.is_some() && may_be_stale(meta.headers()),
        },
    )
}

/// Whether a stored header lets a client accept it stale; `s-maxage` implies proxy-revalidate (§5.2.2.10).
pub fn may_be_stale(headers: &HeaderMap) -> bool {
    let cc = super::targeted::of(headers).unwrap_or_else(|| CacheControl::of(headers));
    !fresh::forbids_stale(&cc) && cc.s_maxage == Delta::Absent
}
