//! How long an answer is fresh, how old it already is, and how long it may be served stale (RFC 9111 §4.2).

use super::cc::{CacheControl, Delta, Fields, Flags, SECS_MAX};
use super::rules::{Answer, NoStore};
use super::targeted;
use crate::config::cache::Ttl;
use http::{HeaderMap, HeaderName, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora_cache::CacheMeta;
use std::time::{Duration, SystemTime};

/// Where a lifetime came from: one word for log and `explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The policy script.
    Script,
    /// The route's `ttl` table.
    Route,
    /// `s-maxage`.
    SMaxAge,
    /// `max-age`.
    MaxAge,
    /// `Expires` minus `Date`.
    Expires,
    /// A tenth of the time since `Last-Modified`.
    Heuristic,
    /// `no-cache`: stored, but never used without asking.
    NoCache,
}

impl From {
    /// The one spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            From::Script => "script",
            From::Route => "route",
            From::SMaxAge => "s_maxage",
            From::MaxAge => "max_age",
            From::Expires => "expires",
            From::Heuristic => "heuristic",
            From::NoCache => "no_cache",
        }
    }
}

/// The times of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Freshness lifetime, counted from when the origin made the answer.
    pub lifetime: Duration,
    /// How old it was when it came here (§4.2.3 `corrected_initial_age`).
    pub initial_age: Duration,
    /// Serve stale that long while fetching anew.
    pub stale_while_revalidate: Duration,
    /// Serve stale that long when the origin fails.
    pub stale_if_error: Duration,
    /// Where the lifetime came from.
    pub from: From,
}

/// Works out the times of a storable answer, or why it is of no use to store it.
pub fn freshness(answer: &Answer<'_>, cc: &CacheControl) -> Result<Freshness, NoStore> {
    let headers = &answer.header.headers;
    let initial_age = initial_age(headers, answer.now, answer.waited);
    let (lifetime, from) = match fixed(answer, cc)? {
        // A lifetime chosen here counts from now, however long the answer has travelled.
        Some((ttl, from)) => (initial_age.saturating_add(ttl), from),
        None => of_origin(answer, cc).ok_or(NoStore::NoFreshness)?,
    };
    let (stale_while_revalidate, stale_if_error) = stale_windows(answer, cc);
    let f = Freshness { lifetime, initial_age, stale_while_revalidate, stale_if_error, from };
    let has_validator = headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
    let stale_max = f.lifetime.saturating_add(f.stale_while_revalidate.max(f.stale_if_error));
    if stale_max <= f.initial_age && !has_validator { Err(NoStore::Stale) } else { Ok(f) }
}

/// The script's or the route's own lifetime.
fn fixed(answer: &Answer<'_>, cc: &CacheControl) -> Result<Option<(Duration, From)>, NoStore> {
    let status = answer.header.status;
    let table = &answer.route.ttl;
    let chosen = match (answer.script.ttl, table.by_status.get(&status.as_u16()), table.default) {
        (Some(ttl), _, _) => Some((ttl, From::Script)),
        (None, Some(Ttl::Fixed(d)), _) => Some((d.0, From::Route)),
        (None, None, Ttl::Fixed(d)) if heuristic_status(status) => Some((d.0, From::Route)),
        _ => None,
    };
    match chosen {
        Some((ttl, _)) if ttl.is_zero() => Err(NoStore::Policy),
        Some(_) if cc.no_cache == Fields::All => Ok(None),
        other => Ok(other),
    }
}

/// §4.2.1, in its order of precedence. What is there but invalid makes the answer stale instead of falling through.
fn of_origin(answer: &Answer<'_>, cc: &CacheControl) -> Option<(Duration, From)> {
    let headers = &answer.header.headers;
    let secs = |d: Delta| Duration::from_secs(d.secs().unwrap_or(0).into());
    if cc.no_cache == Fields::All {
        return Some((Duration::ZERO, From::NoCache));
    }
    if cc.s_maxage != Delta::Absent {
        return Some((secs(cc.s_maxage), From::SMaxAge));
    }
    if cc.max_age != Delta::Absent {
        return Some((secs(cc.max_age), From::MaxAge));
    }
    let date = http_date(headers, &header::DATE).unwrap_or(answer.now);
    if headers.contains_key(header::EXPIRES) && targeted::of(headers).is_none() {
        let until = http_date(headers, &header::EXPIRES).unwrap_or(SystemTime::UNIX_EPOCH);
        return Some((until.duration_since(date).unwrap_or_default(), From::Expires));
    }
    if !heuristic_status(answer.header.status) && (!cc.has(Flags::PUBLIC) || provoked(answer.header.status)) {
        return None;
    }
    let unchanged = date.duration_since(http_date(headers, &header::LAST_MODIFIED)?).unwrap_or_default();
    Some(((unchanged / 10).min(HEURISTIC_MAX), From::Heuristic))
}

/// A day: the age from which §4.2.2 used to want a warning.
const HEURISTIC_MAX: Duration = Duration::from_secs(86_400);

/// Heuristically cacheable (RFC 9110 §15.1) minus 206 (never stored whole) and 405, 414, 501 (a client can provoke them).
fn heuristic_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 410 | 451)
}

/// Heuristically cacheable by the RFC, but a client can provoke them: stored only where somebody says for how long.
fn provoked(status: StatusCode) -> bool {
    matches!(status.as_u16(), 405 | 501)
}

/// §4.2.3. Clocks a second apart are taken as equal: `Date` has no finer grain.
pub(super) fn initial_age(headers: &HeaderMap, now: SystemTime, waited: Duration) -> Duration {
    let apparent = match http_date(headers, &header::DATE) {
        Some(date) => now.duration_since(date).unwrap_or_default(),
        None => Duration::ZERO,
    };
    let apparent = if apparent < Duration::from_secs(2) { Duration::ZERO } else { apparent };
    let said = age_value(headers);
    let corrected = if said.is_zero() { Duration::ZERO } else { said + waited };
    apparent.max(corrected)
}

/// The `Age` field: its first value counts, an unreadable one is ignored (§5.1).
fn age_value(headers: &HeaderMap) -> Duration {
    let first = headers.get(header::AGE).and_then(|v| v.as_bytes().split(|b| *b == b',').next());
    let digits = first.and_then(|v| std::str::from_utf8(v).ok()).unwrap_or("").trim();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Duration::ZERO;
    }
    Duration::from_secs(digits.parse::<u32>().unwrap_or(SECS_MAX).min(SECS_MAX).into())
}

/// A date field; lines that differ, or are no dates, give nothing.
pub fn http_date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    if lines.any(|other| other != first) {
        return None;
    }
    httpdate::parse_http_date(first.to_str().ok()?.trim()).ok()
}

/// RFC 5861 windows. The origin's prohibition beats everybody; the script beats the origin's times; the route speaks
/// where the origin is silent, and not where `s-maxage` implies proxy-revalidate (§5.2.2.10).
fn stale_windows(answer: &Answer<'_>, cc: &CacheControl) -> (Duration, Duration) {
    if forbids_stale(cc) {
        return (Duration::ZERO, Duration::ZERO);
    }
    let pick = |script: Option<Duration>, origin: Delta, route: Duration| match (script, origin) {
        (Some(d), _) => d,
        (None, Delta::Secs(s)) => Duration::from_secs(s.into()),
        (None, Delta::Invalid) => Duration::ZERO,
        (None, Delta::Absent) if cc.s_maxage != Delta::Absent => Duration::ZERO,
        (None, Delta::Absent) => route,
    };
    let (script, route) = (answer.script, answer.route);
    (
        pick(script.stale_while_revalidate, cc.stale_while_revalidate, route.stale_while_revalidate),
        pick(script.stale_if_error, cc.stale_if_error, route.stale_if_error),
    )
}

/// §4.2.4: directives under which a stale answer is never served, whatever a client or an operator would accept.
pub fn forbids_stale(cc: &CacheControl) -> bool {
    cc.has(Flags::MUST_REVALIDATE) || cc.has(Flags::PROXY_REVALIDATE) || cc.no_cache == Fields::All
}

impl Freshness {
    /// Pingora's form. Its age starts at the origin's making of the answer, so that `Age` on hits and the end of the
    /// lifetime count what went by upstream.
    pub fn into_meta(self, now: SystemTime, header: ResponseHeader) -> Result<CacheMeta, NoStore> {
        let epoch = now.checked_sub(self.initial_age).unwrap_or(SystemTime::UNIX_EPOCH);
        // Fresh means lifetime > age; Pingora asks fresh_until >= now, hence the nanosecond.
        let until = epoch.checked_add(self.lifetime).and_then(|t| t.checked_sub(Duration::from_nanos(1)));
        let secs = |d: Duration| u32::try_from(d.as_secs()).unwrap_or(SECS_MAX).min(SECS_MAX);
        let (swr, sie) = (secs(self.stale_while_revalidate), secs(self.stale_if_error));
        let mut meta = CacheMeta::new(until.ok_or(NoStore::NoFreshness)?, now, swr, sie, header);
        meta.set_epoch_override(epoch);
        Ok(meta)
    }
}
