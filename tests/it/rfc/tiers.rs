//! Two of our own nodes, one behind the other: what is stale at the shield is never fresh at the edge.

use super::{gateway, told};
use crate::harness::client::Response;
use crate::harness::edge::{Edge, Setup};
use crate::harness::origin::{Gate, Origin, Seen, Step, gate, reply};
use crate::harness::wait_until;

const YAML: &str = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 32MiB } } }
routes: [ { upstream: app, cache: $CACHE } ]
";

/// An edge in front of a shield in front of an origin.
async fn tiers(
    at_edge: &str,
    at_shield: &str,
    script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
) -> (Origin, Edge, Edge) {
    let origin = Origin::start(script).await;
    let shield = gateway(&origin, at_shield).await;
    let edge = Setup::new(YAML).put("ORIGIN", shield.web()).put("CACHE", at_edge).start().await;
    (origin, shield, edge)
}

fn ttl(answer: &Response) -> i64 {
    told(answer).split("; ttl=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9211_2_each_node_adds_its_own_word() {
    let (origin, _shield, edge) = tiers("true", "true", |_| reply(200, &[("cache-control", "max-age=60")], "x")).await;
    let first = edge.get("/").await;
    assert_eq!(first.count("cache-status"), 2, "{first:?}");
    assert_eq!(edge.get("/").await.source(), "http_cache");
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_2_3_age_goes_through_both() {
    let (_, shield, edge) =
        tiers("true", "true", |_| reply(200, &[("cache-control", "max-age=60"), ("age", "40")], "x")).await;
    shield.get("/").await;
    let hosts: Vec<Response> = vec![edge.get("/").await, edge.get("/").await];
    for answer in &hosts {
        assert!((40..60).contains(&answer.header("age").parse::<u64>().unwrap()), "{answer:?}");
        assert_eq!(answer.count("age"), 1);
        assert!(ttl(answer) < 20, "{answer:?}");
    }
}

/// Stale at once, with a window to refresh it behind the client's back; later answers wait for the gate.
fn stale_at_once(door: Gate) -> impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static {
    move |seen| match seen.number {
        0 => reply(
            200,
            &[("cache-control", "max-age=60, stale-while-revalidate=600"), ("age", "65"), ("etag", "\"1\"")],
            "old",
        ),
        _ => {
            let mut steps = vec![Step::Wait(door.clone())];
            steps.extend(reply(200, &[("cache-control", "max-age=60")], "new"));
            steps
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_object_of_the_shield_is_stale_at_the_edge_and_both_refresh() {
    let door = gate();
    let (origin, _shield, edge) = tiers("true", "true", stale_at_once(door.clone())).await;
    for _ in 0..4 {
        let answer = edge.get("/").await;
        assert_eq!(answer.text(), "old");
        assert!(answer.header("age").parse::<u64>().unwrap() >= 65, "no client takes it for fresh: {answer:?}");
        if answer.source() == "http_cache" {
            assert!(ttl(&answer) <= -5 && told(&answer).contains("stale_while_revalidate"), "{answer:?}");
        }
    }
    wait_until("the shield's refresh", async || origin.hits() == 2).await;
    door.add_permits(9);
    wait_until("the new answer", async || edge.get("/").await.text() == "new").await;
    assert_eq!(origin.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn not_even_the_edges_own_lifetime_makes_it_fresh() {
    let door = gate();
    let (_, shield, edge) = tiers("{ ttl: { default: 5m } }", "true", stale_at_once(door)).await;
    shield.get("/").await;
    for _ in 0..3 {
        let answer = edge.get("/").await;
        assert_eq!(answer.text(), "old");
        if answer.source() == "http_cache" {
            assert!(ttl(&answer) <= -5, "{answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_edge_keeps_nothing_longer_than_the_shield() {
    let (_, shield, edge) =
        tiers("{ ttl: { default: 1h } }", "{ ttl: { default: 30s } }", |_| reply(200, &[], "x")).await;
    shield.get("/").await;
    edge.get("/").await;
    let hit = edge.get("/").await;
    assert_eq!(hit.source(), "http_cache");
    assert!((0..=30).contains(&ttl(&hit)), "{hit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_if_error_of_the_shield_is_stale_at_the_edge() {
    let (origin, _shield, edge) =
        tiers("{ ttl: { default: 5m } }", "{ stale_if_error: 1h }", |seen| match seen.number {
            0 => reply(200, &[("cache-control", "max-age=60"), ("age", "65"), ("etag", "\"1\"")], "old"),
            _ => reply(500, &[], ""),
        })
        .await;
    for _ in 0..3 {
        let answer = edge.get("/").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "old"));
    }
    assert!(origin.hits() >= 3, "each time the edge asks the shield, and that one its origin: {}", origin.hits());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shield_that_recovers_makes_the_edge_fresh_again() {
    let (origin, _shield, edge) = tiers("true", "true", |seen| match seen.number {
        0 => reply(200, &[("cache-control", "max-age=60"), ("age", "65"), ("etag", "\"1\"")], "body"),
        _ => reply(304, &[("cache-control", "max-age=60"), ("etag", "\"1\"")], ""),
    })
    .await;
    edge.get("/").await;
    edge.get("/").await;
    let hit = edge.get("/").await;
    assert_eq!((hit.source(), hit.text().as_str(), origin.hits()), ("http_cache", "body", 2));
    assert!(ttl(&hit) > 50, "the word of the stale answer is gone with it: {hit:?}");
}
