//! Header fields of an AI answer, and the request fields by which a client narrows the use of the caches.

use super::call::{CacheOutcome, Call};
use super::error::AiError;
use crate::base::reply::Reply;
use crate::base::units::Money;
use http::{HeaderMap, HeaderName, header};
use std::time::Duration;

/// `off | exact | semantic | refresh`.
pub const CACHE: HeaderName = HeaderName::from_static("x-sluicegate-cache");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const MODEL: HeaderName = HeaderName::from_static("x-sluicegate-model");
const TIER: HeaderName = HeaderName::from_static("x-sluicegate-tier");
const PROVIDER: HeaderName = HeaderName::from_static("x-sluicegate-provider");
const COST: HeaderName = HeaderName::from_static("x-sluicegate-cost-usd");
const ENTRY: HeaderName = HeaderName::from_static("x-sluicegate-entry");
const DROPPED: HeaderName = HeaderName::from_static("x-sluicegate-dropped");
const GUARD: HeaderName = HeaderName::from_static("x-sluicegate-guard");
const SCORE: HeaderName = HeaderName::from_static("x-sluicegate-score");

/// How far the caches may be used, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheMode {
    /// Not at all.
    None,
    /// For equal requests.
    Exact,
    /// For equal requests and for the same question in other words.
    Semantic,
}

/// What a client wants of the caches. It can only narrow what route and policy allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientWish {
    /// The most it wants used.
    pub at_most: Option<CacheMode>,
    /// It wants a new answer, which may then be stored.
    pub refresh: bool,
}

impl ClientWish {
    /// Reads `x-sluicegate-cache` and `cache-control` (RFC 9111 §5.2.1.4 and §5.2.1.5).
    pub fn read(headers: &HeaderMap) -> Result<ClientWish, AiError> {
        let mut wish = ClientWish::default();
        for value in headers.get_all(header::CACHE_CONTROL).iter().filter_map(|v| v.to_str().ok()) {
            for directive in value.split(',').map(str::trim) {
                wish.refresh |= directive.eq_ignore_ascii_case("no-cache");
                if directive.eq_ignore_ascii_case("no-store") {
                    wish.at_most = Some(CacheMode::None);
                }
            }
        }
        let mode = match headers.get(CACHE).map(|v| v.as_bytes().to_ascii_lowercase()) {
            None => return Ok(wish),
            Some(v) => match v.as_slice() {
                b"off" => CacheMode::None,
                b"exact" => CacheMode::Exact,
                b"semantic" => CacheMode::Semantic,
                b"refresh" => {
                    wish.refresh = true;
                    return Ok(wish);
                }
                _ => {
                    let message = "x-sluicegate-cache must be off, exact, semantic or refresh";
                    return Err(AiError::invalid(message, Some("x-sluicegate-cache"), "invalid_value"));
                }
            },
        };
        wish.at_most = Some(wish.at_most.map_or(mode, |other| other.min(mode)));
        Ok(wish)
    }
}

/// Adds the fields that tell how the answer came about. `age` is that of a stored answer.
pub fn dress(mut reply: Reply, call: &Call, age: Option<Duration>) -> Reply {
    reply = reply.with(CACHE_STATUS, &cache_status(call));
    if let Some(age) = age {
        reply = reply.with(header::AGE, &age.as_secs().to_string());
    }
    let score = call.score.map(|s| format!("{s:.4}"));
    // A stream's cost is not known before its end.
    let cost = (call.took.is_some() || !call.stream).then_some(call.cost).flatten().map(exact_usd);
    let fields = [
        (MODEL, &call.model),
        (TIER, &call.tier),
        (PROVIDER, &call.provider),
        (ENTRY, &call.entry),
        (SCORE, &score),
        (COST, &cost),
        (DROPPED, &call.dropped.told()),
        (GUARD, &call.guard.told()),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            reply = reply.with(name, value);
        }
    }
    reply
}

/// All nine decimals: a single call often costs less than a millionth of a dollar.
fn exact_usd(cost: Money) -> String {
    format!("{}.{:09}", cost.nano_usd / 1_000_000_000, cost.nano_usd % 1_000_000_000)
}

/// RFC 9211.
fn cache_status(call: &Call) -> String {
    let mut out = match call.cache {
        CacheOutcome::Exact => "sluicegate; hit; detail=exact".to_owned(),
        CacheOutcome::Semantic => "sluicegate; hit; detail=semantic".to_owned(),
        CacheOutcome::Collapsed => "sluicegate; fwd=miss; collapsed".to_owned(),
        CacheOutcome::Miss => "sluicegate; fwd=miss".to_owned(),
        CacheOutcome::Refresh => "sluicegate; fwd=request".to_owned(),
        CacheOutcome::Bypass => "sluicegate; fwd=bypass".to_owned(),
    };
    if call.stored {
        out.push_str("; stored");
    }
    let hit = matches!(call.cache, CacheOutcome::Exact | CacheOutcome::Semantic);
    if !hit && !call.cache_reason.is_empty() {
        out.push_str("; detail=");
        out.push_str(call.cache_reason);
    }
    out
}
