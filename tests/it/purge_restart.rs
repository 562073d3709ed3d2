//! Purges and what they leave, over a restart: both are on the disk level.

use crate::harness::edge::Setup;
use crate::harness::wait_until;
use crate::purge::{numbered, purge};
use serde_json::json;

const OVER_DISK: &str = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 4MiB }, disk: { path: cache, size: 64MiB, admission: always } } }
routes: [ { upstream: app, cache: true } ]
";

#[tokio::test(flavor = "multi_thread")]
async fn tags_and_purges_survive_a_restart() {
    let origin = numbered().await;
    let setup = || Setup::new(OVER_DISK).put("ORIGIN", origin.address);
    let edge = setup().start().await;
    let pages = ["/hard/1", "/soft/1", "/live/1", "/later/1"];
    for page in pages {
        edge.get(page).await;
    }
    assert_eq!(origin.hits(), 4);
    wait_until("all to be written", async || {
        edge.status().await["http_caches"]["main"]["disk"]["objects"].as_u64() == Some(4)
    })
    .await;
    assert_eq!(purge(&edge, json!({ "tag": "hard" })).await.status, 200);
    assert_eq!(purge(&edge, json!({ "tag": "soft", "soft": true })).await.status, 200);

    // What was purged before stays purged, and what was not is there without its origin.
    let edge = setup().start_in(edge.stop().await).await.unwrap();
    assert_eq!(edge.get("/live/1").await.source(), "http_cache");
    assert_eq!(edge.get("/hard/1").await.source(), "origin");
    assert_eq!(origin.hits(), 5, "the whole of it, for nothing is left to validate");
    let soft = edge.get("/soft/1").await;
    assert_eq!((origin.hits(), soft.text().as_str()), (6, "1"), "validated, and the body of before");

    // Tags come back from disk too.
    assert_eq!(purge(&edge, json!({ "tag": "later" })).await.status, 200);
    assert_eq!(edge.get("/later/1").await.source(), "origin");
    assert_eq!(origin.hits(), 7);
}
