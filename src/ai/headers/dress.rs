//! The fields by which an answer tells how it came about: ours, the standard's and, where wanted, those of peers.

use crate::ai::call::{CacheOutcome, Call};
use crate::base::reply::Reply;
use crate::base::units::Money;
use crate::config::ai::CompatHeaders;
use http::{HeaderName, header};
use std::time::Duration;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const MODEL: HeaderName = HeaderName::from_static("x-sluicegate-model");
const TIER: HeaderName = HeaderName::from_static("x-sluicegate-tier");
const PROVIDER: HeaderName = HeaderName::from_static("x-sluicegate-provider");
const COST: HeaderName = HeaderName::from_static("x-sluicegate-cost-usd");
const ENTRY: HeaderName = HeaderName::from_static("x-sluicegate-entry");
const DROPPED: HeaderName = HeaderName::from_static("x-sluicegate-dropped");
const GUARD: HeaderName = HeaderName::from_static("x-sluicegate-guard");
const SCORE: HeaderName = HeaderName::from_static("x-sluicegate-score");
const COMPLEXITY: HeaderName = HeaderName::from_static("x-sluicegate-complexity");

/// Adds the fields that tell how the answer came about. `age` is that of a stored answer.
pub fn dress(mut reply: Reply, call: &Call, age: Option<Duration>) -> Reply {
    reply = reply.with(CACHE_STATUS, &cache_status(call));
    if let Some(age) = age {
        reply = reply.with(header::AGE, &age.as_secs().to_string());
    }
    let score = call.score.map(|s| format!("{s:.4}"));
    let complexity = call.complexity.map(|c| format!("{c:.3}"));
    // A stream's cost is not known before its end.
    let cost = (call.took.is_some() || !call.stream).then_some(call.cost).flatten().map(Money::usd_exact);
    let fields = [
        (MODEL, &call.model),
        (TIER, &call.tier),
        (PROVIDER, &call.provider),
        (ENTRY, &call.entry),
        (SCORE, &score),
        (COMPLEXITY, &complexity),
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

/// Adds what clients of other gateways look for.
pub fn peers(mut reply: Reply, call: &Call, wanted: &[CompatHeaders]) -> Reply {
    let hit = matches!(call.cache, CacheOutcome::Exact | CacheOutcome::Semantic | CacheOutcome::Collapsed);
    for peer in wanted {
        let (name, value) = match (peer, call.cache) {
            (CompatHeaders::Litellm, _) => match &call.entry {
                Some(entry) => ("x-litellm-cache-key", entry.as_str()),
                None => continue,
            },
            (CompatHeaders::Portkey, CacheOutcome::Semantic) => ("x-portkey-cache-status", "SEMANTIC HIT"),
            (CompatHeaders::Portkey, CacheOutcome::Refresh) => ("x-portkey-cache-status", "REFRESH"),
            (CompatHeaders::Portkey, CacheOutcome::Bypass) => ("x-portkey-cache-status", "DISABLED"),
            (CompatHeaders::Portkey, _) => ("x-portkey-cache-status", if hit { "HIT" } else { "MISS" }),
            (CompatHeaders::Cloudflare, _) => ("cf-aig-cache-status", if hit { "HIT" } else { "MISS" }),
        };
        reply = reply.with(HeaderName::from_static(name), value);
        if let (CompatHeaders::Litellm, Some(score)) = (peer, call.score) {
            let name = HeaderName::from_static("x-litellm-semantic-similarity");
            reply = reply.with(name, &format!("{score:.4}"));
        }
    }
    reply
}
