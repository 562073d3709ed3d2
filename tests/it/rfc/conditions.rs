//! Conditional requests, to the cache and by the cache (RFC 9110 §13, RFC 9111 §3.2, §4.3).

use super::{pair, told};
use crate::harness::origin::reply;

const FRESH: (&str, &str) = ("cache-control", "max-age=60");
const V1: (&str, &str) = ("etag", "\"v1\"");
const MODIFIED: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_13_1_2_if_none_match_is_compared_weakly() {
    let (origin, edge) = pair(|_| reply(200, &[FRESH, V1], "x")).await;
    edge.get("/").await;
    for (tags, status) in [
        ("\"v1\"", 304),
        ("W/\"v1\"", 304),
        ("\"a\", \"v1\"", 304),
        ("*", 304),
        ("\"v2\"", 200),
        ("\"a,\\\"v1\\\"\"", 200),
        ("\"V1\"", 200),
    ] {
        let answer = edge.ask("GET", "/", &[("If-None-Match", tags)], b"").await;
        assert_eq!((answer.status, answer.source()), (status, "http_cache"), "{tags}");
    }
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_15_4_5_a_304_carries_validators_and_no_body() {
    let (_, edge) = pair(|_| reply(200, &[FRESH, V1, MODIFIED, ("vary", "x"), ("content-location", "/y")], "x")).await;
    edge.get("/").await;
    let same = edge.ask("GET", "/", &[("If-None-Match", "\"v1\"")], b"").await;
    assert_eq!((same.status, same.header("etag"), same.header("cache-control")), (304, V1.1, FRESH.1));
    assert_eq!((same.header("vary"), same.header("content-location")), ("x", "/y"));
    assert!(same.body.is_empty() && same.count("content-type") == 0, "{same:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_13_1_3_if_modified_since_in_every_form() {
    let (origin, edge) = pair(|_| reply(200, &[FRESH, MODIFIED], "x")).await;
    edge.get("/").await;
    for (since, status) in [
        (MODIFIED.1, 304),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 304),
        ("Sun Nov  6 08:49:38 1994", 304),
        ("Sun, 06 Nov 1994 08:49:36 GMT", 200),
        ("yesterday", 200),
    ] {
        assert_eq!(edge.ask("GET", "/", &[("If-Modified-Since", since)], b"").await.status, status, "{since}");
    }
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_13_2_2_if_none_match_switches_if_modified_since_off() {
    let (_, edge) = pair(|_| reply(200, &[FRESH, V1, MODIFIED], "x")).await;
    edge.get("/").await;
    let asks = [("If-None-Match", "\"other\""), ("If-Modified-Since", MODIFIED.1)];
    assert_eq!(edge.ask("GET", "/", &asks, b"").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_3_2_date_stands_in_for_last_modified() {
    let made = "Sun, 06 Nov 1994 08:49:37 GMT";
    let (_, edge) =
        pair(move |_| reply(200, &[("cdn-cache-control", "max-age=4000000000"), ("date", made)], "x")).await;
    edge.get("/").await;
    for (since, status) in [(made, 304), ("Sun, 06 Nov 1994 08:49:36 GMT", 200)] {
        assert_eq!(edge.ask("GET", "/", &[("If-Modified-Since", since)], b"").await.status, status, "{since}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_3_2_a_miss_is_fetched_whole_and_answered_304() {
    let (origin, edge) = pair(|_| reply(200, &[FRESH, V1], "whole")).await;
    assert_eq!(edge.ask("GET", "/", &[("If-None-Match", "\"v1\"")], b"").await.status, 304);
    assert_eq!(origin.last().count("if-none-match"), 0, "the store wants the whole answer");
    assert_eq!(edge.get("/").await.text(), "whole");
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_3_2_if_match_and_if_unmodified_since_are_the_origins() {
    let (origin, edge) = pair(|seen| {
        let fails = seen.header("if-match") == "\"old\"" || !seen.header("if-unmodified-since").is_empty();
        if fails { reply(412, &[FRESH], "") } else { reply(200, &[FRESH, V1, MODIFIED], "x") }
    })
    .await;
    edge.get("/").await;
    let good = edge.ask("GET", "/", &[("If-Match", "\"v1\"")], b"").await;
    assert_eq!((good.status, good.text().as_str(), origin.hits()), (200, "x", 2));
    assert!(told(&good).contains("fwd=bypass") && told(&good).contains("detail=precondition"), "{good:?}");
    assert_eq!(edge.ask("GET", "/", &[("If-Match", "\"old\"")], b"").await.status, 412);
    let since = ("If-Unmodified-Since", "Sun, 06 Nov 1993 08:49:37 GMT");
    assert_eq!(edge.ask("GET", "/", &[since], b"").await.status, 412);
    assert_eq!(edge.get("/").await.status, 200, "a 412 is never stored");
    assert_eq!(origin.hits(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_3_1_both_validators_are_sent() {
    let (origin, edge) = pair(|seen| match seen.number {
        0 => reply(200, &[("cache-control", "max-age=60"), ("age", "61"), V1, MODIFIED], "x"),
        _ => reply(304, &[V1], ""),
    })
    .await;
    edge.get("/").await;
    edge.ask("GET", "/", &[("If-None-Match", "\"mine\""), ("Range", "bytes=0-0")], b"").await;
    let asked = origin.last();
    assert_eq!((asked.header("if-none-match"), asked.header("if-modified-since")), (V1.1, MODIFIED.1));
    assert_eq!((asked.count("if-none-match"), asked.count("range")), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_3_2_a_304_updates_every_stored_field() {
    let (origin, edge) = pair(|seen| match seen.number {
        0 => reply(200, &[("cache-control", "max-age=60"), ("age", "61"), V1, ("x-a", "old"), ("x-b", "kept")], "body"),
        _ => reply(304, &[("cache-control", "max-age=90"), V1, ("x-a", "new"), ("x-c", "more"), MODIFIED], ""),
    })
    .await;
    edge.get("/").await;
    for source in ["origin", "http_cache"] {
        let now = edge.get("/").await;
        assert_eq!((now.status, now.text().as_str(), now.source()), (200, "body", source), "{now:?}");
        if source == "http_cache" {
            let fields = [now.header("x-a"), now.header("x-b"), now.header("x-c"), now.header("last-modified")];
            assert_eq!(fields, ["new", "kept", "more", MODIFIED.1]);
            assert_eq!((now.header("cache-control"), now.header("content-length")), ("max-age=90", "4"));
        }
    }
    assert_eq!(origin.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_3_4_a_304_for_another_tag_updates_nothing() {
    let (origin, edge) = pair(|seen| match seen.number {
        0 => reply(200, &[("cache-control", "max-age=60"), ("age", "61"), V1], "body"),
        _ => reply(304, &[("cache-control", "max-age=60"), ("etag", "\"v2\"")], ""),
    })
    .await;
    for _ in 0..3 {
        assert_eq!(edge.get("/").await.text(), "body");
    }
    assert_eq!(origin.hits(), 3, "it stays stale");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_3_3_a_200_replaces_the_stored_answer() {
    let (origin, edge) = pair(|seen| match seen.number {
        0 => reply(200, &[("cache-control", "max-age=60"), ("age", "61"), V1], "old"),
        _ => reply(200, &[FRESH, ("etag", "\"v2\"")], "new"),
    })
    .await;
    assert_eq!(edge.get("/").await.text(), "old");
    for _ in 0..2 {
        assert_eq!(edge.get("/").await.text(), "new");
    }
    assert_eq!((origin.hits(), edge.get("/").await.header("etag")), (2, "\"v2\""));
}
