//! `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers) and `Retry-After` (RFC 9110 §10.2.3).

use super::Standing;
use http::{HeaderName, HeaderValue};
use std::fmt::Write;
use std::time::Duration;

/// The policies that apply.
pub const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Where the client stands within them.
pub const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Whole seconds, rounded up: a client that waits so long waits long enough.
pub fn seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// The two fields' values; `None` where no rate applies.
pub fn values(standings: &[Standing]) -> Option<(HeaderValue, HeaderValue)> {
    let (mut policy, mut limit) = (String::new(), String::new());
    for s in standings {
        let Some(rate) = s.rate else { continue };
        if !policy.is_empty() {
            policy.push_str(", ");
            limit.push_str(", ");
        }
        let name = name(s);
        // Writing to a String cannot fail.
        let _ = write!(policy, "\"{name}\";q={};w={}", rate.count, seconds(rate.period));
        let _ = write!(limit, "\"{name}\";r={};t={}", s.remaining, seconds(s.reset));
    }
    if policy.is_empty() {
        return None;
    }
    Some((HeaderValue::from_str(&policy).ok()?, HeaderValue::from_str(&limit).ok()?))
}

/// A string of RFC 8941 takes printable ASCII; quotes and backslashes would have to be escaped.
fn name(s: &Standing) -> String {
    let plain = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
    let name: String = s.rule.chars().filter(plain).collect();
    if s.tokens { format!("{name}-tokens") } else { name }
}
