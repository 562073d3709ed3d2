//! The caching standard clause by clause, over HTTP: a scripted origin, the gateway, a raw client.

mod conditions;
mod freshness;
mod methods;
mod ranges;
mod stale;
mod storing;
mod tiers;

use crate::harness::client::Response;
use crate::harness::edge::{Edge, Setup};
use crate::harness::origin::{Origin, Seen, Step, reply};

const CACHED: &str = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 32MiB } } }
routes: [ { upstream: app, cache: $CACHE } ]
";

/// A gateway with one caching route in front of `origin`; `cache` is the route's `cache:`.
async fn gateway(origin: &Origin, cache: &str) -> Edge {
    Setup::new(CACHED).put("ORIGIN", origin.address).put("CACHE", cache).start().await
}

/// An origin and a gateway with the default rules.
async fn pair(script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> (Origin, Edge) {
    pair_with("true", script).await
}

/// An origin and a gateway with rules of its own.
async fn pair_with(cache: &str, script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> (Origin, Edge) {
    let origin = Origin::start(script).await;
    let edge = gateway(&origin, cache).await;
    (origin, edge)
}

/// Asks twice for a page whose answer has these fields (`name: value`, one per line); true when the second came from the
/// cache. The body tells the answers apart.
async fn is_reused(status: u16, fields: &'static str) -> bool {
    is_reused_with(status, fields, &[]).await
}

async fn is_reused_with(status: u16, fields: &'static str, asks: &[(&str, &str)]) -> bool {
    let (origin, edge) = pair(move |seen| reply(status, &lines(fields), seen.number.to_string())).await;
    let first = edge.ask("GET", "/", asks, b"").await;
    let second = edge.ask("GET", "/", asks, b"").await;
    assert_eq!((first.status, first.text().as_str()), (status, "0"), "{fields}");
    // A stale answer may have asked the origin a second time by now, in the background.
    let hit = second.text() == "0";
    assert!(hit || (second.text() == "1" && origin.hits() == 2), "{fields}");
    assert_eq!(second.source(), if hit { "http_cache" } else { "origin" }, "{fields}");
    hit
}

fn lines(fields: &'static str) -> Vec<(&'static str, &'static str)> {
    fields.lines().filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.trim(), v)).collect()
}

/// `Cache-Status` of the gateway asked, the last of the members.
fn told(answer: &Response) -> &str {
    answer.headers.iter().rfind(|(n, _)| n == "cache-status").map_or("", |(_, v)| v)
}
