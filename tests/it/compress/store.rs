//! Coded forms in the store: one object for all of them, counted, refreshed and purged with it.

use super::{CODINGS, FRESH, ROUTES, TAG, TEXT, ask, decoded, edge_for, is_coded, is_plain, styles, text};
use crate::harness::client::{Client, request};
use crate::harness::edge::Setup;
use crate::harness::origin::{Origin, reply};
use crate::harness::wait_until;

#[tokio::test(flavor = "multi_thread")]
async fn one_origin_request_and_one_object_serve_three_codings() {
    let origin = styles().await;
    let edge = edge_for(&origin).await;
    let miss = ask(&edge, "GET", "/a.css", "zstd").await;
    is_coded(&miss, "zstd", &text());
    assert_eq!((miss.source(), miss.header("etag")), ("origin", "W/\"v1\""));
    assert_eq!(origin.last().header("accept-encoding"), "identity");
    for coding in CODINGS.iter().chain(&CODINGS) {
        let hit = ask(&edge, "GET", "/a.css", coding).await;
        is_coded(&hit, coding, &text());
        assert_eq!((hit.source(), hit.header("etag")), ("http_cache", "W/\"v1\""));
        assert_eq!(hit.header("content-length"), hit.body.len().to_string(), "made once, so its length is known");
        assert!(hit.header("age").parse::<u64>().is_ok() && hit.header("cache-status").contains("; hit"), "{hit:?}");
    }
    for (coding, times) in [("zstd", 3.0), ("br", 2.0), ("gzip", 2.0)] {
        let label = format!("coding=\"{coding}\"");
        wait_until("the count", async || edge.metric("sluicegate_coded_total", &[&label]).await == times).await;
    }
    for none in ["", "identity", "gzip;q=0", "deflate"] {
        let plain = ask(&edge, "GET", "/a.css", none).await;
        is_plain(&plain, &text());
        assert_eq!((plain.header("etag"), plain.header("vary")), ("\"v1\"", "Accept-Encoding"));
    }
    assert_eq!(origin.hits(), 1);
    assert_eq!(edge.metric("sluicegate_cache_objects", &[]).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_says_vary_accept_encoding_fills_one_object_all_the_same() {
    let vary = ("vary", "Accept-Encoding, Accept-Language");
    let origin = Origin::start(move |_| reply(200, &[FRESH, TEXT, vary], text())).await;
    let edge = edge_for(&origin).await;
    for coding in CODINGS {
        let answer = ask(&edge, "GET", "/", coding).await;
        assert_eq!(decoded(coding, &answer.body), text());
        let vary: Vec<_> = answer.headers.iter().filter(|(n, _)| n == "vary").map(|(_, v)| v.as_str()).collect();
        assert_eq!(vary, ["Accept-Language", "Accept-Encoding"]);
    }
    assert_eq!(origin.hits(), 1);
    edge.ask("GET", "/", &[("Accept-Language", "de"), ("Accept-Encoding", "br")], b"").await;
    assert_eq!(origin.hits(), 2, "what else it varies on still counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_saves_nothing_is_sent_plain_from_the_store() {
    let noise: Vec<u8> = (0..40_000u64).map(|i| (xorshift(i + 1) >> 32) as u8).collect();
    let body = noise.clone();
    let origin = Origin::start(move |_| reply(200, &[FRESH, TEXT, TAG], &body)).await;
    let edge = edge_for(&origin).await;
    edge.get("/").await;
    let before = edge.metric("sluicegate_cache_bytes", &[]).await;
    for _ in 0..2 {
        let hit = ask(&edge, "GET", "/", "br").await;
        assert_eq!((hit.count("content-encoding"), hit.header("vary")), (0, "Accept-Encoding"));
        assert_eq!((hit.header("etag"), hit.body == noise), ("\"v1\"", true));
    }
    assert_eq!(edge.metric("sluicegate_cache_bytes", &[]).await, before);
}

fn xorshift(seed: u64) -> u64 {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for _ in 0..3 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    x
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_drops_the_coded_forms_and_their_bytes() {
    let origin = Origin::start(|seen| reply(200, &[FRESH, TEXT], format!("{} {}", seen.number, text()))).await;
    let edge = edge_for(&origin).await;
    edge.ask("GET", "/", &[("Host", "shop.test")], b"").await;
    let plain = edge.metric("sluicegate_cache_bytes", &[]).await;
    let mut held = plain;
    for coding in CODINGS {
        let hit = edge.ask("GET", "/", &[("Host", "shop.test"), ("Accept-Encoding", coding)], b"").await;
        let now = edge.metric("sluicegate_cache_bytes", &[]).await;
        assert!(now >= held + hit.body.len() as f64, "{coding}: {held} then {now} with {} more", hit.body.len());
        assert!(decoded(coding, &hit.body).starts_with("0 "));
        held = now;
    }
    assert_eq!(edge.purge("http://shop.test/").await.status, 200);
    wait_until("the bytes to be given back", async || edge.metric("sluicegate_cache_bytes", &[]).await == 0.0).await;
    for coding in CODINGS {
        let answer = edge.ask("GET", "/", &[("Host", "shop.test"), ("Accept-Encoding", coding)], b"").await;
        assert!(decoded(coding, &answer.body).starts_with("1 "), "{coding}");
    }
    assert_eq!(origin.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_3_4_a_refresh_keeps_the_coded_forms_under_the_new_header() {
    let origin = Origin::start(|seen| {
        if seen.header("if-none-match") == "\"v1\"" {
            return reply(304, &[FRESH, TAG, ("x-new", "1"), ("vary", "accept-encoding")], "");
        }
        reply(200, &[("cache-control", "max-age=1"), TEXT, TAG], text())
    })
    .await;
    let edge = edge_for(&origin).await;
    ask(&edge, "GET", "/", "br").await;
    is_coded(&ask(&edge, "GET", "/", "br").await, "br", &text());
    wait_until("the object to be validated", async || {
        is_coded(&ask(&edge, "GET", "/", "br").await, "br", &text());
        origin.hits() == 2
    })
    .await;
    let bytes = edge.metric("sluicegate_cache_bytes", &[]).await;
    let hit = ask(&edge, "GET", "/", "br").await;
    is_coded(&hit, "br", &text());
    assert_eq!((hit.source(), hit.header("x-new")), ("http_cache", "1"));
    assert_eq!(hit.header("content-length"), hit.body.len().to_string());
    assert_eq!(edge.metric("sluicegate_cache_bytes", &[]).await, bytes, "nothing was coded again");
    assert_eq!(origin.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn coded_forms_count_against_the_bound_of_the_store() {
    let body = text().repeat(4);
    let origin = Origin::start(move |_| reply(200, &[FRESH, TEXT], &body)).await;
    let yaml = ROUTES.replace("32MiB", "3MiB");
    let edge = Setup::new(&yaml).put("ORIGIN", origin.address).put("PAGE", "x").start().await;
    for i in 0..40 {
        for coding in ["identity", "zstd", "br", "gzip"] {
            ask(&edge, "GET", &format!("/{i}"), coding).await;
        }
        let held = edge.metric("sluicegate_cache_bytes", &[]).await;
        assert!(held <= f64::from(3 << 20), "{held} after {i}");
    }
    assert!(edge.metric("sluicegate_cache_evictions", &[]).await > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_wants_a_new_form_at_once_gets_it_right() {
    let origin = styles().await;
    let edge = edge_for(&origin).await;
    edge.get("/").await;
    let mut clients = Vec::new();
    for i in 0..24 {
        let mut client = Client::connect(edge.web()).await;
        client.send(request("GET", "/", &[("Accept-Encoding", CODINGS[i % 3])], b"")).await;
        clients.push(client);
    }
    for (i, client) in clients.iter_mut().enumerate() {
        let answer = client.response(false).await;
        match answer.header("content-encoding") {
            // All cores were busy with other forms.
            "" => is_plain(&answer, &text()),
            _ => is_coded(&answer, CODINGS[i % 3], &text()),
        }
    }
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_too_large_for_coded_forms_is_coded_on_its_way() {
    let body = text().repeat(60);
    let want = body.clone();
    let origin = Origin::start(move |_| reply(200, &[FRESH, TEXT, TAG], &body)).await;
    let edge = edge_for(&origin).await;
    for coding in CODINGS.iter().chain(&CODINGS) {
        let answer = ask(&edge, "GET", "/large", coding).await;
        is_coded(&answer, coding, &want);
        assert_eq!((answer.header("transfer-encoding"), answer.header("etag")), ("chunked", "W/\"v1\""));
    }
    assert_eq!(origin.hits(), 1);
}
