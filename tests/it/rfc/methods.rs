//! Methods: HEAD, and what unsafe ones make invalid (RFC 9111 §4, §4.3.5, §4.4).

use super::pair;
use crate::harness::client::get_host;
use crate::harness::edge::Edge;
use crate::harness::origin::{Origin, reply};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_head_is_answered_from_a_stored_get() {
    let (origin, edge) = pair(|_| reply(200, &[FRESH], "hello")).await;
    edge.get("/").await;
    let head = edge.ask("HEAD", "/", &[], b"").await;
    assert_eq!((head.status, head.header("content-length"), head.source()), (200, "5", "http_cache"));
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_3_5_a_missed_head_fetches_what_gets_can_use() {
    let (origin, edge) = pair(|_| reply(200, &[FRESH], "hello")).await;
    let head = edge.ask("HEAD", "/", &[], b"").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "5", 0));
    assert_eq!(edge.get("/").await.text(), "hello");
    assert_eq!((origin.hits(), origin.last().method.as_str()), (1, "GET"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_3_5_a_stale_object_is_freshened_by_head_too() {
    let (origin, edge) = pair(|seen| match seen.number {
        0 => reply(200, &[FRESH, ("age", "61"), ("etag", "\"1\""), ("x-a", "old")], "hello"),
        _ => reply(304, &[FRESH, ("etag", "\"1\""), ("x-a", "new")], ""),
    })
    .await;
    edge.get("/").await;
    let head = edge.ask("HEAD", "/", &[], b"").await;
    assert_eq!((head.status, head.header("x-a"), head.body.len()), (200, "new", 0));
    let hit = edge.get("/").await;
    assert_eq!((hit.source(), hit.header("x-a"), hit.text().as_str()), ("http_cache", "new", "hello"));
    assert_eq!(origin.hits(), 2);
}

async fn filled(target: &str) -> (Origin, Edge) {
    let (origin, edge) = pair(|seen| match (seen.method.as_str(), seen.target.as_str()) {
        ("GET", _) => reply(200, &[FRESH], seen.number.to_string()),
        (_, "/fails") => reply(404, &[("location", "/a")], ""),
        (_, "/moves") => reply(201, &[("location", "/a"), ("content-location", "http://shop.test/b")], ""),
        (_, "/elsewhere") => {
            reply(201, &[("location", "http://evil.test/a"), ("content-location", "//evil.test/b")], "")
        }
        (_, "/other-scheme") => reply(201, &[("location", "https://shop.test/a")], ""),
        _ => reply(303, &[], ""),
    })
    .await;
    get_host(edge.web(), "shop.test", target).await;
    (origin, edge)
}

async fn is_stored(edge: &Edge, target: &str) -> bool {
    get_host(edge.web(), "shop.test", target).await.source() == "http_cache"
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_4_unsafe_methods_invalidate_their_url() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-UNKNOWN"] {
        let (_, edge) = filled("/a").await;
        assert!(is_stored(&edge, "/a").await);
        edge.ask(method, "/a", &[("Host", "shop.test"), ("Content-Length", "0")], b"").await;
        assert!(!is_stored(&edge, "/a").await, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_4_location_and_content_location_of_the_same_origin_too() {
    let (_, edge) = filled("/a").await;
    is_stored(&edge, "/b").await;
    edge.ask("POST", "/moves", &[("Host", "shop.test"), ("Content-Length", "0")], b"").await;
    assert!(!is_stored(&edge, "/a").await && !is_stored(&edge, "/b").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_4_not_those_of_other_origins_nor_after_failures() {
    for target in ["/fails", "/elsewhere", "/other-scheme"] {
        let (_, edge) = filled("/a").await;
        get_host(edge.web(), "evil.test", "/a").await;
        edge.ask("POST", target, &[("Host", "shop.test"), ("Content-Length", "0")], b"").await;
        assert!(is_stored(&edge, "/a").await, "{target}");
        assert_eq!(get_host(edge.web(), "evil.test", "/a").await.source(), "http_cache", "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_4_safe_methods_invalidate_nothing() {
    let (_, edge) = filled("/a").await;
    for method in ["OPTIONS", "HEAD", "GET"] {
        edge.ask(method, "/a", &[("Host", "shop.test")], b"").await;
        assert!(is_stored(&edge, "/a").await, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_3_answers_to_other_methods_are_not_stored() {
    let (origin, edge) = pair(|_| reply(200, &[FRESH, ("content-location", "/a")], "x")).await;
    for method in ["POST", "PUT", "OPTIONS"] {
        edge.ask(method, "/a", &[("Content-Length", "0")], b"").await;
        edge.ask(method, "/a", &[("Content-Length", "0")], b"").await;
    }
    assert_eq!(origin.hits(), 6);
    edge.get("/a").await;
    assert_eq!(origin.hits(), 7);
}
