//! The HTTP cache as clients and origins see it.

use crate::harness::client::{Client, get_host, request};
use crate::harness::edge::{Edge, Setup};
use crate::harness::origin::{Origin, Step, chunk, chunked, gate, reply};
use crate::harness::wait_until;

const CACHED: &str = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 32MiB } } }
routes: [ { upstream: app, cache: true } ]
";
const STORABLE: (&str, &str) = ("cache-control", "max-age=60");

async fn caching(origin: &Origin) -> Edge {
    Setup::new(CACHED).put("ORIGIN", origin.address).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_request_is_a_hit_and_says_so() {
    let origin = Origin::fixed("hello").await;
    let edge = caching(&origin).await;
    let first = edge.get("/page").await;
    assert_eq!((first.status, first.text().as_str(), first.source()), (200, "hello", "origin"));
    assert!(first.header("cache-status").contains("fwd="), "{first:?}");
    let second = edge.get("/page").await;
    assert_eq!((second.status, second.text().as_str(), second.source()), (200, "hello", "http_cache"));
    assert!(second.header("cache-status").contains("; hit"), "rfc9211_2_1_hit: {second:?}");
    assert!(second.header("age").parse::<u64>().is_ok(), "rfc9111_5_1_age: {second:?}");
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_never_share_an_object() {
    let origin = Origin::start(|seen| reply(200, &[STORABLE], format!("I am {}", seen.header("host")))).await;
    let edge = caching(&origin).await;
    for _ in 0..2 {
        for host in ["a.test", "b.test", "a.test:8443"] {
            assert_eq!(get_host(edge.web(), host, "/").await.text(), format!("I am {host}"));
        }
    }
    assert_eq!(origin.hits(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn path_and_query_are_part_of_the_key() {
    let origin = Origin::start(|seen| reply(200, &[STORABLE], &seen.target)).await;
    let edge = caching(&origin).await;
    for target in ["/a", "/A", "/a?", "/a?x=1", "/a?x=2", "/a/", "/a%2Fb"] {
        let answer = edge.get(target).await.text();
        assert!(answer.trim_end_matches('?') == target.trim_end_matches('?'), "{target} got {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_1_vary_keeps_variants_apart() {
    let origin = Origin::start(|seen| {
        reply(200, &[STORABLE, ("vary", "Accept-Language")], format!("in {}", seen.header("accept-language")))
    })
    .await;
    let edge = caching(&origin).await;
    for _ in 0..2 {
        for language in ["de", "fr"] {
            let answer = edge.ask("GET", "/", &[("Accept-Language", language)], b"").await;
            assert_eq!(answer.text(), format!("in {language}"));
        }
    }
    assert_eq!(origin.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_13_a_conditional_request_is_answered_from_the_hit() {
    let origin = Origin::start(|_| {
        let modified = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
        reply(200, &[STORABLE, ("etag", "\"v1\""), modified], "hello")
    })
    .await;
    let edge = caching(&origin).await;
    edge.get("/").await;
    let same = edge.ask("GET", "/", &[("If-None-Match", "\"v0\", W/\"v1\"")], b"").await;
    assert_eq!((same.status, same.header("etag"), same.source()), (304, "\"v1\"", "http_cache"));
    let since = edge.ask("GET", "/", &[("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")], b"").await;
    assert_eq!(since.status, 304);
    let other = edge.ask("GET", "/", &[("If-None-Match", "\"v2\"")], b"").await;
    assert_eq!((other.status, other.text().as_str()), (200, "hello"));
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_14_a_range_is_cut_from_the_hit() {
    let origin = Origin::fixed("0123456789").await;
    let edge = caching(&origin).await;
    edge.get("/").await;
    for (range, content_range, body) in
        [("bytes=2-4", "bytes 2-4/10", "234"), ("bytes=7-", "bytes 7-9/10", "789"), ("bytes=-2", "bytes 8-9/10", "89")]
    {
        let answer = edge.ask("GET", "/", &[("Range", range)], b"").await;
        assert_eq!((answer.status, answer.header("content-range"), answer.text().as_str()), (206, content_range, body));
    }
    assert_eq!(edge.ask("GET", "/", &[("Range", "bytes=20-30")], b"").await.status, 416);
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_requests_at_once_make_one_origin_call() {
    let door = gate();
    let opened = door.clone();
    let origin = Origin::start(move |_| {
        let mut steps = vec![Step::Wait(door.clone())];
        steps.extend(reply(200, &[STORABLE], "shared"));
        steps
    })
    .await;
    let edge = caching(&origin).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = Client::connect(edge.web()).await;
        client.send(request("GET", "/hot", &[], b"")).await;
        clients.push(client);
    }
    wait_until("the first call", async || origin.hits() == 1).await;
    opened.add_permits(50);
    for client in &mut clients {
        assert_eq!(client.response(false).await.text(), "shared");
    }
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_object_is_fetched_again_and_others_stay() {
    let origin = Origin::fixed("hello").await;
    let edge = caching(&origin).await;
    for target in ["/a", "/b"] {
        get_host(edge.web(), "shop.test", target).await;
    }
    let purge = edge.purge("http://shop.test/a").await;
    assert_eq!(purge.status, 200, "{}", purge.text());
    assert_eq!(get_host(edge.web(), "shop.test", "/a").await.source(), "origin");
    assert_eq!(get_host(edge.web(), "shop.test", "/b").await.source(), "http_cache");
    assert_eq!(origin.hits(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_body_is_never_stored_and_never_looks_whole() {
    let origin = Origin::start(|seen| match (seen.number, seen.target.as_str()) {
        (0 | 1, "/length") => {
            vec![
                Step::Send(b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 10\r\n\r\n12345".to_vec()),
                Step::Cut,
            ]
        }
        (0 | 1, _) => vec![chunked(200, &[STORABLE]), chunk("12345"), Step::Cut],
        _ => reply(200, &[STORABLE], "1234567890"),
    })
    .await;
    let edge = caching(&origin).await;
    for target in ["/length", "/chunked"] {
        let mut client = Client::connect(edge.web()).await;
        client.send(request("GET", target, &[], b"")).await;
        // Cut before anything was sent on, it may also be an honest 502.
        if let Some(cut) = client.try_response(false).await {
            assert!(!cut.complete || cut.status == 502, "{target}: {cut:?}");
        }
    }
    for target in ["/length", "/chunked"] {
        let good = edge.get(target).await;
        assert_eq!((good.status, good.text().as_str(), good.source()), (200, "1234567890", "origin"), "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_answered_from_the_object_of_a_get() {
    let origin = Origin::fixed("hello").await;
    let edge = caching(&origin).await;
    edge.get("/").await;
    let mut client = Client::connect(edge.web()).await;
    let head = client.ask("HEAD", "/", &[], b"").await;
    assert_eq!((head.status, head.header("content-length"), head.source()), (200, "5", "http_cache"));
    // the connection is in order: nothing of a body follows
    assert_eq!(client.ask("GET", "/", &[], b"").await.text(), "hello");
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_shared_is_never_stored() {
    let origin = Origin::start(|seen| {
        let fields: &[(&str, &str)] = match seen.target.as_str() {
            "/no-store" => &[("cache-control", "no-store")],
            "/private" => &[("cache-control", "private, max-age=60")],
            "/cookie" => &[STORABLE, ("set-cookie", "session=1")],
            "/vary-all" => &[STORABLE, ("vary", "*")],
            "/part" => return reply(206, &[STORABLE, ("content-range", "bytes 0-0/9")], "1"),
            "/error" => return reply(500, &[("x-what", "no freshness")], "oops"),
            _ => &[STORABLE],
        };
        reply(200, fields, seen.number.to_string())
    })
    .await;
    let edge = caching(&origin).await;
    for target in ["/no-store", "/private", "/cookie", "/vary-all", "/part", "/error"] {
        let before = origin.hits();
        for _ in 0..2 {
            assert_eq!(edge.get(target).await.source(), "origin", "{target}");
        }
        assert_eq!(origin.hits(), before + 2, "{target} was stored");
    }
    let before = origin.hits();
    for user in ["Bearer a", "Bearer b"] {
        edge.ask("GET", "/mine", &[("Authorization", user)], b"").await;
    }
    assert_eq!(origin.hits(), before + 2, "rfc9111_3_5_authorization");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_3_a_stale_object_is_validated_and_lives_on() {
    let origin = Origin::start(|seen| {
        if seen.header("if-none-match") == "\"v1\"" {
            return reply(304, &[("cache-control", "max-age=60"), ("etag", "\"v1\"")], "");
        }
        reply(200, &[("cache-control", "max-age=1"), ("etag", "\"v1\"")], "hello")
    })
    .await;
    let edge = caching(&origin).await;
    edge.get("/").await;
    wait_until("the object to be validated", async || {
        let answer = edge.get("/").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        origin.hits() == 2
    })
    .await;
    assert_eq!(edge.get("/").await.source(), "http_cache");
    assert_eq!(origin.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_over_the_limit_is_passed_on_whole_and_not_stored() {
    let origin = Origin::start(|_| reply(200, &[STORABLE], vec![b'x'; 200_000])).await;
    let yaml = CACHED.replace("{ size: 32MiB }", "{ size: 32MiB }, max_object_size: 64KiB");
    let edge = Setup::new(&yaml).put("ORIGIN", origin.address).start().await;
    for _ in 0..2 {
        let answer = edge.get("/big").await;
        assert_eq!((answer.body.len(), answer.complete, answer.source()), (200_000, true, "origin"));
    }
}
