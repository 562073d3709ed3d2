//! `Cache-Status` (RFC 9211): what the cache did, in one field.

use super::key::readable;
use http::HeaderValue;
use pingora_cache::{CacheMeta, CachePhase, NoCacheReason};
use std::fmt::Write;
use std::time::SystemTime;

/// Why a request went on to the origin (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fwd {
    /// The cache was told not to handle the request.
    Bypass,
    /// The method is not served from the cache.
    Method,
    /// Nothing is stored under the URL.
    UriMiss,
    /// Something is, but not this variant.
    VaryMiss,
    /// The request's own directives did not allow the stored answer.
    Request,
    /// The stored answer was stale.
    Stale,
    /// The stored answer was only a part.
    Partial,
}

impl Fwd {
    /// The registered token.
    pub fn as_str(self) -> &'static str {
        match self {
            Fwd::Bypass => "bypass",
            Fwd::Method => "method",
            Fwd::UriMiss => "uri-miss",
            Fwd::VaryMiss => "vary-miss",
            Fwd::Request => "request",
            Fwd::Stale => "stale",
            Fwd::Partial => "partial",
        }
    }
}

/// Answered from the cache or from the origin; the RFC lets a member say only one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// Without asking the origin.
    Hit,
    /// The origin was asked.
    Forwarded {
        /// Why.
        why: Fwd,
        /// What status it answered.
        status: Option<u16>,
        /// Whether its answer was stored.
        stored: bool,
        /// Whether the request waited for another one's fetch.
        collapsed: bool,
    },
}

/// One member of the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStatus {
    /// Hit or not.
    pub handled: Handled,
    /// Freshness left in seconds, negative when stale.
    pub ttl: Option<i64>,
    /// One snake_case word more; empty for none.
    pub detail: &'static str,
}

impl CacheStatus {
    /// A hit with its remaining freshness in seconds.
    pub fn hit(ttl: i64) -> Self {
        CacheStatus { handled: Handled::Hit, ttl: Some(ttl), detail: "" }
    }

    /// Past the cache, for a reason of ours.
    pub fn bypass(why: Fwd, detail: &'static str) -> Self {
        let handled = Handled::Forwarded { why, status: None, stored: false, collapsed: false };
        CacheStatus { handled, ttl: None, detail }
    }

    /// From where Pingora's state machine ended. `why` is the reason the spine knows better than the phase
    /// ([`Fwd::VaryMiss`], [`Fwd::Request`]); `ttl` and `status` are left out where they mean nothing.
    pub fn of_phase(phase: CachePhase, why: Option<Fwd>, status: Option<u16>, ttl: Option<i64>) -> Self {
        let forwarded = |why, stored| Handled::Forwarded { why, status, stored, collapsed: false };
        let (handled, detail) = match phase {
            CachePhase::Hit => (Handled::Hit, ""),
            CachePhase::Stale => (Handled::Hit, "stale_if_error"),
            CachePhase::StaleUpdating => (Handled::Hit, "stale_while_revalidate"),
            CachePhase::Miss => (forwarded(why.unwrap_or(Fwd::UriMiss), true), ""),
            CachePhase::Expired | CachePhase::Revalidated => (forwarded(why.unwrap_or(Fwd::Stale), true), ""),
            CachePhase::RevalidatedNoCache(r) => (forwarded(why.unwrap_or(Fwd::Stale), false), detail_of(r)),
            CachePhase::Disabled(r) => (forwarded(why.unwrap_or(Fwd::UriMiss), false), detail_of(r)),
            CachePhase::Bypass | CachePhase::Uninit | CachePhase::CacheKey => {
                (forwarded(why.unwrap_or(Fwd::Bypass), false), "")
            }
        };
        let keeps_ttl = handled == Handled::Hit || matches!(handled, Handled::Forwarded { stored: true, .. });
        CacheStatus { handled, ttl: ttl.filter(|_| keeps_ttl), detail }
    }

    /// Says that it waited for another request's fetch.
    pub fn collapsed(mut self, yes: bool) -> Self {
        if let Handled::Forwarded { collapsed, .. } = &mut self.handled {
            *collapsed = yes;
        }
        self
    }

    /// The member, named `sluicegate`.
    pub fn render(&self) -> HeaderValue {
        let mut out = String::with_capacity(64);
        out.push_str("sluicegate");
        // Writing to a String cannot fail.
        let _ = match self.handled {
            Handled::Hit => write!(out, "; hit"),
            Handled::Forwarded { why, .. } => write!(out, "; fwd={}", why.as_str()),
        };
        if let Handled::Forwarded { status: Some(status), .. } = self.handled {
            let _ = write!(out, "; fwd-status={status}");
        }
        if let Some(ttl) = self.ttl {
            let _ = write!(out, "; ttl={ttl}");
        }
        if let Handled::Forwarded { stored, collapsed, .. } = self.handled {
            out.push_str(if stored { "; stored" } else { "" });
            out.push_str(if collapsed { "; collapsed" } else { "" });
        }
        if !self.detail.is_empty() {
            let _ = write!(out, "; detail={}", self.detail);
        }
        HeaderValue::try_from(out).unwrap_or_else(|_| HeaderValue::from_static("sluicegate"))
    }
}

/// The member with the cache key added (RFC 9211 §2.8), for clients that may see it.
pub fn with_key(member: &HeaderValue, framed: &[u8]) -> HeaderValue {
    let mut out = member.to_str().unwrap_or("sluicegate").to_owned();
    out.push_str("; key=\"");
    let start = out.len();
    for c in readable(framed).chars() {
        if out.len() - start >= KEY_BYTES_SHOWN_MAX {
            break;
        }
        // A Structured Fields string is printable ASCII (RFC 9651 §3.3.3).
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => out.push('?'),
        }
    }
    out.push('"');
    HeaderValue::try_from(out).unwrap_or_else(|_| member.clone())
}

/// No more of a key is shown, in bytes.
const KEY_BYTES_SHOWN_MAX: usize = 1024;

/// Freshness left in seconds, negative by as much as it is stale.
pub fn ttl_secs(meta: &CacheMeta, now: SystemTime) -> i64 {
    let secs = |d: std::time::Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
    match meta.fresh_until().duration_since(now) {
        Ok(left) => secs(left),
        Err(over) => -secs(over.duration()),
    }
}

/// Our words for Pingora's reasons.
fn detail_of(reason: NoCacheReason) -> &'static str {
    match reason {
        NoCacheReason::NeverEnabled => "not_enabled",
        NoCacheReason::OriginNotCache => "origin_not_cacheable",
        NoCacheReason::ResponseTooLarge => "too_large",
        NoCacheReason::PredictedResponseTooLarge => "predicted_too_large",
        NoCacheReason::StorageError => "store_error",
        NoCacheReason::InternalError => "internal_error",
        NoCacheReason::Deferred => "deferred",
        NoCacheReason::DeclinedToUpstream => "declined",
        NoCacheReason::UpstreamError => "origin_error",
        NoCacheReason::CacheLockGiveUp => "lock_give_up",
        NoCacheReason::CacheLockTimeout => "lock_timeout",
        NoCacheReason::CacheLockRetryLimit => "lock_retry_limit",
        NoCacheReason::Custom(word) => word,
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::{Key, KeyRules, Place};
    use super::*;
    use http::HeaderMap;

    #[test]
    fn rfc9211_2_8_the_key_is_a_bounded_string() {
        let member = CacheStatus::hit(5).render();
        let key = |target: &str| {
            let place = Place::of(true, "a.test", target.as_bytes());
            let key = Key::of(&place, &KeyRules::default(), &HeaderMap::new(), &[("k".into(), "\"\\\u{e9}\n".into())]);
            with_key(&member, key.bytes()).to_str().unwrap().to_owned()
        };
        assert_eq!(key("/x?y=1"), r#"sluicegate; hit; ttl=5; key="https://a.test:443/x?y=1 p:k=\"\\??""#);
        assert!(key(&format!("/{}", "x".repeat(5000))).len() < KEY_BYTES_SHOWN_MAX + 64);
    }
}
