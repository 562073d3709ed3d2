//! How long an answer is fresh, how old it already is, and how long it may be served stale (RFC 9111 §4.2).

use super::cc::{CacheControl, Delta, Fields, Flags, SECS_MAX};
use super::rules::{Answer, NoStore};
use super::{behind, date, provoked, targeted};
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
    /// What a cache behind this one said is left (`Cache-Status: ...; ttl`).
    Behind,
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
            From::Behind => "behind",
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
    /// How long it may be served stale.
    pub stale: Stale,
    /// Where the lifetime came from.
    pub from: From,
}

/// How long an answer may be served after its freshness has ended (§4.2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// While a fresh one is fetched.
    pub while_revalidate: Duration,
    /// When the origin answers with an error, or not at all.
    pub if_error: Duration,
    /// When the origin cannot be reached or closes without an answer.
    pub if_unreachable: Duration,
}

/// The windows for failures, in seconds. They travel as an extension of Pingora's metadata, which knows only one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnFailure {
    /// When the origin answers with an error, or not at all.
    pub error_secs: u32,
    /// When the origin cannot be reached or closes without an answer.
    pub unreachable_secs: u32,
}

/// Works out the times of a storable answer, or why it is of no use to store it.
pub fn freshness(answer: &Answer<'_>, cc: &CacheControl) -> Result<Freshness, NoStore> {
    let headers = &answer.header.headers;
    let initial_age = initial_age(headers, answer.now, answer.waited);
    let (lifetime, from) = match fixed(answer, cc)? {
        // A lifetime chosen here counts from now, however long the answer has travelled.
        Some((ttl, from)) => (initial_age.saturating_add(ttl), from),
        None => {
            let (lifetime, from) = of_origin(answer, cc).ok_or(NoStore::NoFreshness)?;
            match provoked::care(answer.header.status.as_u16()) {
                provoked::Care::Bounded => (lifetime.min(initial_age.saturating_add(provoked::LIFETIME_MAX)), from),
                _ => (lifetime, from),
            }
        }
    };
    let (lifetime, from) = within(behind::left(headers), initial_age, (lifetime, from));
    let f = Freshness { lifetime, initial_age, stale: stale_windows(answer, cc), from };
    let has_validator = headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
    let stale_max = f.lifetime.saturating_add(f.stale.while_revalidate.max(f.stale.if_error));
    if stale_max <= f.initial_age && !has_validator { Err(NoStore::Stale) } else { Ok(f) }
}

/// No lifetime, not even one chosen here, goes beyond what a cache behind this one has left: what is stale there is stale
/// here.
fn within(left: Option<behind::Left>, initial_age: Duration, chosen: (Duration, From)) -> (Duration, From) {
    let end = match left {
        None => return chosen,
        Some(behind::Left::Fresh(d)) => initial_age.saturating_add(d),
        Some(behind::Left::Stale(d)) => initial_age.saturating_sub(d),
    };
    if end < chosen.0 { (end, From::Behind) } else { chosen }
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
    date::parse(first.to_str().ok()?)
}

/// RFC 5861 windows, and the one for an origin out of reach (§4.2.4 "disconnected"). The origin's prohibition beats
/// everybody; the script beats the origin's times; the route speaks where the origin is silent, and not where `s-maxage`
/// implies proxy-revalidate (§5.2.2.10). An error that a client can provoke does not outlive its freshness.
fn stale_windows(answer: &Answer<'_>, cc: &CacheControl) -> Stale {
    if forbids_stale(cc) || provoked::care(answer.header.status.as_u16()) != provoked::Care::None {
        return Stale::default();
    }
    let pick = |script: Option<Duration>, origin: Delta, route: Duration| match (script, origin) {
        (Some(d), _) => d,
        (None, Delta::Secs(s)) => Duration::from_secs(s.into()),
        (None, Delta::Invalid) => Duration::ZERO,
        (None, Delta::Absent) if cc.s_maxage != Delta::Absent => Duration::ZERO,
        (None, Delta::Absent) => route,
    };
    let (script, route) = (answer.script, answer.route);
    Stale {
        while_revalidate: pick(script.stale_while_revalidate, cc.stale_while_revalidate, route.stale_while_revalidate),
        if_error: pick(script.stale_if_error, cc.stale_if_error, route.stale_if_error),
        // Out of reach is an error too: who has named a time for errors has named it for this.
        if_unreachable: pick(script.stale_if_error, cc.stale_if_error, route.stale_if_unreachable),
    }
}

/// §4.2.4: directives under which a stale answer is never served, whatever a client or an operator would accept.
pub fn forbids_stale(cc: &CacheControl) -> bool {
    cc.has(Flags::MUST_REVALIDATE) || cc.has(Flags::PROXY_REVALIDATE) || cc.no_cache == Fields::All
}

impl OnFailure {
    /// Of metadata that came from a store or from [`Freshness::into_meta`].
    pub fn of(meta: &CacheMeta) -> Self {
        let only = OnFailure { error_secs: meta.stale_if_error_sec(), unreachable_secs: 0 };
        meta.extensions().get().copied().unwrap_or(only)
    }

    /// The window that Pingora is told: it asks before it says what failed.
    pub fn longest_secs(self) -> u32 {
        self.error_secs.max(self.unreachable_secs)
    }
}

impl Freshness {
    /// Pingora's form. Its age starts at the origin's making of the answer, so that `Age` on hits and the end of the
    /// lifetime count what went by upstream.
    pub fn into_meta(self, now: SystemTime, header: ResponseHeader) -> Result<CacheMeta, NoStore> {
        let epoch = now.checked_sub(self.initial_age).unwrap_or(SystemTime::UNIX_EPOCH);
        // Fresh means lifetime > age; Pingora asks fresh_until >= now, hence the nanosecond.
        let until = epoch.checked_add(self.lifetime).and_then(|t| t.checked_sub(Duration::from_nanos(1)));
        let secs = |d: Duration| u32::try_from(d.as_secs()).unwrap_or(SECS_MAX).min(SECS_MAX);
        let on_failure =
            OnFailure { error_secs: secs(self.stale.if_error), unreachable_secs: secs(self.stale.if_unreachable) };
        let swr = secs(self.stale.while_revalidate);
        let mut meta = CacheMeta::new(until.ok_or(NoStore::NoFreshness)?, now, swr, on_failure.longest_secs(), header);
        meta.set_epoch_override(epoch);
        meta.extensions_mut().insert(on_failure);
        Ok(meta)
    }
}
