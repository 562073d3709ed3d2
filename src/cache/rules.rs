//! Which requests may use the cache and which answers may be stored (RFC 9111 §3).

use super::cc::{CacheControl, Fields, Flags};
use super::{Directives, RouteCache, armor, fresh, merge, targeted, vary};
use http::{HeaderMap, Method, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_cache::{CacheMeta, NoCacheReason};
use std::time::{Duration, SystemTime};

/// Why a request goes past the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// Neither GET nor HEAD.
    Method,
    /// A GET or HEAD with a body: the key does not know the body, the origin may (RELIABILITY A12).
    Body,
    /// A protocol upgrade.
    Upgrade,
    /// `Cache-Control: no-store` in the request.
    NoStore,
    /// The policy script said `pass`.
    Policy,
    /// A field asks the origin to act as if the method were another one.
    MethodOverride,
    /// The key would be longer than [`super::key::KEY_BYTES_MAX`].
    KeyTooLong,
}

impl Bypass {
    /// The one spelling for log, metric and header.
    pub fn as_str(self) -> &'static str {
        match self {
            Bypass::Method => "method",
            Bypass::Body => "request_body",
            Bypass::Upgrade => "upgrade",
            Bypass::NoStore => "request_no_store",
            Bypass::Policy => "policy_pass",
            Bypass::MethodOverride => "method_override",
            Bypass::KeyTooLong => "key_too_long",
        }
    }
}

/// Whether the request may use the cache. `script` is what `on_request` decided.
pub fn may_use(req: &RequestHeader, script: &Directives) -> Result<(), Bypass> {
    let headers = &req.headers;
    if !matches!(req.method, Method::GET | Method::HEAD) {
        return Err(Bypass::Method);
    }
    let length_is_zero = headers.get(header::CONTENT_LENGTH).is_none_or(|l| l.as_bytes() == b"0");
    if !length_is_zero || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Bypass::Body);
    }
    if headers.contains_key(header::UPGRADE) {
        return Err(Bypass::Upgrade);
    }
    if headers.contains_key(header::CACHE_CONTROL) && CacheControl::of(headers).has(Flags::NO_STORE) {
        return Err(Bypass::NoStore);
    }
    if armor::overrides_method(headers) {
        return Err(Bypass::MethodOverride);
    }
    if script.pass { Err(Bypass::Policy) } else { Ok(()) }
}

/// Why an answer is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoStore {
    /// A status that is never stored: 1xx, 206, 304, or an error that a client can provoke by its own header fields.
    Status,
    /// `no-store`.
    NoStore,
    /// `private`.
    Private,
    /// The request was authenticated and the answer does not permit sharing (§3.5).
    Authorization,
    /// `Set-Cookie`: meant for one client.
    SetCookie,
    /// `Vary: *`.
    VaryStar,
    /// `Content-Range` outside a 206.
    ContentRange,
    /// `Content-Length` lines that disagree, or are no numbers.
    ContentLength,
    /// Longer than `max_object_size`.
    TooLarge,
    /// Nothing says how long it is fresh.
    NoFreshness,
    /// Stale on arrival and of no use: neither a validator nor a stale window.
    Stale,
    /// The route's or the script's lifetime is 0, or the script said `pass`.
    Policy,
    /// A 304 whose `Vary` differs from the stored answer's.
    VaryChanged,
    /// An error in answer to a header so large that it may have caused it.
    OversizedRequest,
    /// The media type does not fit the file extension in the URL.
    Deception,
    /// A page for a client with a session, which only the route's own `ttl` would keep.
    SessionCookie,
}

impl NoStore {
    /// The one spelling for log, metric and header.
    pub fn as_str(self) -> &'static str {
        match self {
            NoStore::Status => "status",
            NoStore::NoStore => "no_store",
            NoStore::Private => "private",
            NoStore::Authorization => "authorization",
            NoStore::SetCookie => "set_cookie",
            NoStore::VaryStar => "vary_star",
            NoStore::ContentRange => "content_range",
            NoStore::ContentLength => "content_length",
            NoStore::TooLarge => "too_large",
            NoStore::NoFreshness => "no_freshness",
            NoStore::Stale => "stale_on_arrival",
            NoStore::Policy => "policy",
            NoStore::VaryChanged => "vary_changed",
            NoStore::OversizedRequest => "oversized_request",
            NoStore::Deception => "deception",
            NoStore::SessionCookie => "session_cookie",
        }
    }

    /// Pingora's form: waiting requests are let go at once instead of queueing for the lock.
    pub fn to_pingora(self) -> NoCacheReason {
        match self {
            NoStore::TooLarge => NoCacheReason::ResponseTooLarge,
            other => NoCacheReason::Custom(other.as_str()),
        }
    }
}

/// All that decides whether and how an answer is stored.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The origin's header, hop-by-hop fields included or not.
    pub header: &'a ResponseHeader,
    /// The request carried `Authorization`.
    pub authorized: bool,
    /// When the header came.
    pub now: SystemTime,
    /// How long the origin took from request to header (RFC 9111 §4.2.3 `response_delay`).
    pub waited: Duration,
    /// The route.
    pub route: &'a RouteCache,
    /// The script.
    pub script: &'a Directives,
    /// The store's `max_object_size`.
    pub object_bytes_max: u64,
}

/// Decides about an answer: the metadata to store it with, or why not.
pub fn decide(answer: &Answer<'_>) -> Result<CacheMeta, NoStore> {
    let headers = &answer.header.headers;
    let cc = targeted::of(headers).unwrap_or_else(|| CacheControl::of(headers));
    may_store(answer, &cc)?;
    let header = merge::storable(answer.header, &cc);
    if header.headers.contains_key(header::SET_COOKIE) {
        return Err(NoStore::SetCookie);
    }
    fresh::freshness(answer, &cc)?.into_meta(answer.now, header)
}

/// Statuses that answer the sender's own header fields, length or pace. Stored, they would let one client break a page
/// for all (cache-poisoned denial of service), whatever freshness the origin gave them.
const PROVOKED: [u16; 16] = [400, 401, 406, 407, 408, 411, 412, 413, 414, 415, 416, 417, 421, 425, 429, 431];

fn may_store(answer: &Answer<'_>, cc: &CacheControl) -> Result<(), NoStore> {
    let status = answer.header.status;
    let headers = &answer.header.headers;
    if answer.script.pass {
        return Err(NoStore::Policy);
    }
    if status.is_informational() || matches!(status.as_u16(), 206 | 304) || PROVOKED.contains(&status.as_u16()) {
        return Err(NoStore::Status);
    }
    // §5.2.2.3: with must-understand a cache that knows the status ignores no-store, and one that does not, obeys.
    let understood = cc.has(Flags::MUST_UNDERSTAND) && understands(status);
    if cc.has(Flags::MUST_UNDERSTAND) && !understands(status) {
        return Err(NoStore::Status);
    }
    if cc.has(Flags::NO_STORE) && !understood {
        return Err(NoStore::NoStore);
    }
    if cc.private == Fields::All {
        return Err(NoStore::Private);
    }
    if answer.authorized && !shareable(cc) {
        return Err(NoStore::Authorization);
    }
    if vary::has_star(headers) {
        return Err(NoStore::VaryStar);
    }
    if headers.contains_key(header::CONTENT_RANGE) {
        return Err(NoStore::ContentRange);
    }
    match content_length(headers)? {
        Some(bytes) if bytes > answer.object_bytes_max => Err(NoStore::TooLarge),
        _ => Ok(()),
    }
}

/// RFC 9111 §3.5: what lets a shared cache keep an answer to an authenticated request.
fn shareable(cc: &CacheControl) -> bool {
    cc.has(Flags::PUBLIC) || cc.has(Flags::MUST_REVALIDATE) || cc.s_maxage.secs().is_some()
}

/// Final statuses whose caching rules this cache implements (RFC 9110 §15).
fn understands(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300..=303 | 307 | 308 | 403..=405 | 410 | 451 | 500..=504)
}

/// The body's length; several equal values are one (RFC 9110 §8.6).
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, NoStore> {
    let mut found = None;
    for line in headers.get_all(header::CONTENT_LENGTH) {
        for part in line.as_bytes().split(|b| *b == b',') {
            let digits = std::str::from_utf8(part.trim_ascii()).map_err(|_| NoStore::ContentLength)?;
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(NoStore::ContentLength);
            }
            let n: u64 = digits.parse().map_err(|_| NoStore::ContentLength)?;
            if found.replace(n).is_some_and(|before| before != n) {
                return Err(NoStore::ContentLength);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
