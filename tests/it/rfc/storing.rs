//! What may be stored, and what of it (RFC 9111 §3, §4.1).

use super::{is_reused, is_reused_with, pair, pair_with};
use crate::harness::client::Client;
use crate::harness::origin::{Step, chunk, chunked, reply};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_3_explicit_freshness_makes_any_final_status_storable() {
    for status in [200, 203, 299, 301, 302, 303, 307, 308, 404, 410, 451, 499, 500, 502, 503, 504, 599] {
        assert!(is_reused(status, "cache-control: max-age=60").await, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_5_2_2_no_store_and_private_forbid() {
    for forbidden in ["no-store", "private", "no-store=x", "PRIVATE", "max-age=1, private=\"\""] {
        let fields = format!("cache-control: max-age=60, {forbidden}");
        assert!(!is_reused(200, fields.leak()).await, "{forbidden}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_5_2_2_3_must_understand() {
    assert!(is_reused(200, "cache-control: max-age=60, no-store, must-understand").await);
    assert!(!is_reused(599, "cache-control: max-age=60, no-store, must-understand").await);
    assert!(!is_reused(599, "cache-control: max-age=60, must-understand").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_5_2_2_4_no_cache_is_stored_but_never_used_unasked() {
    let (origin, edge) = pair(|seen| {
        if seen.header("if-none-match") == "\"1\"" {
            return reply(304, &[("etag", "\"1\"")], "");
        }
        reply(200, &[("cache-control", "no-cache"), ("etag", "\"1\"")], "body")
    })
    .await;
    for _ in 0..3 {
        assert_eq!(edge.get("/").await.text(), "body");
    }
    assert_eq!((origin.hits(), origin.last().header("if-none-match")), (3, "\"1\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_5_2_2_4_named_fields_are_not_stored() {
    for directive in ["max-age=60, no-cache=\"x-mine, x-too\"", "max-age=60, private=\"X-Mine, x-too\""] {
        let (_, edge) = pair(move |_| {
            reply(200, &[("cache-control", directive), ("x-mine", "1"), ("x-too", "2"), ("x-all", "3")], "")
        })
        .await;
        let (first, hit) = (edge.get("/").await, edge.get("/").await);
        assert_eq!((hit.source(), hit.header("x-all")), ("http_cache", "3"), "{directive}");
        assert_eq!((hit.count("x-mine"), hit.count("x-too")), (0, 0), "{directive}");
        assert_eq!(first.header("x-all"), "3");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_3_5_answers_to_authorization_need_permission() {
    let user: &[(&str, &str)] = &[("Authorization", "Basic dTpw")];
    assert!(!is_reused_with(200, "cache-control: max-age=60", user).await);
    for permits in ["public, max-age=60", "s-maxage=60", "max-age=60, must-revalidate"] {
        assert!(is_reused_with(200, format!("cache-control: {permits}").leak(), user).await, "{permits}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_3_1_fields_of_the_connection_are_not_stored() {
    let (_, edge) = pair(|_| {
        let hop = [("connection", "x-hop, keep-alive"), ("x-hop", "1"), ("keep-alive", "timeout=9"), ("x-end", "2")];
        let proxy = [("proxy-authenticate", "Basic"), ("proxy-connection", "close"), FRESH];
        reply(200, &[&hop[..], &proxy].concat(), "x")
    })
    .await;
    edge.get("/").await;
    let hit = edge.get("/").await;
    assert_eq!((hit.source(), hit.header("x-end")), ("http_cache", "2"));
    for gone in ["x-hop", "keep-alive", "proxy-authenticate", "proxy-connection"] {
        assert_eq!(hit.count(gone), 0, "{gone}: {hit:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_3_1_a_content_range_on_a_200_is_a_field_like_any_other() {
    assert!(is_reused(200, "cache-control: max-age=60\ncontent-range: bytes 0-0/1").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_with_set_cookie_are_not_stored() {
    assert!(!is_reused(200, "cache-control: public, max-age=60\nset-cookie: a=b").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_1_vary_star_never_matches() {
    assert!(!is_reused(200, "cache-control: max-age=60\nvary: *").await);
    assert!(!is_reused(200, "cache-control: max-age=60\nvary: accept\nvary: x, *").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_1_every_field_of_a_list_and_of_several_lines_counts() {
    let (origin, edge) = pair(|seen| {
        let vary = [FRESH, ("vary", "X-A, x-b"), ("vary", "x-c")];
        reply(200, &vary, format!("{}{}{}", seen.header("x-a"), seen.header("x-b"), seen.header("x-c")))
    })
    .await;
    let all: [&[(&str, &str)]; 5] = [
        &[("x-a", "1"), ("x-b", "2"), ("x-c", "3")],
        &[("x-a", "0"), ("x-b", "2"), ("x-c", "3")],
        &[("x-a", "1"), ("x-b", "0"), ("x-c", "3")],
        &[("x-a", "1"), ("x-b", "2"), ("x-c", "0")],
        &[("x-a", "1"), ("x-b", "2")],
    ];
    for round in 0..2 {
        for (i, asks) in all.iter().enumerate() {
            let answer = edge.ask("GET", "/", asks, b"").await;
            assert_eq!(answer.text(), asks.iter().map(|(_, v)| *v).collect::<String>());
            assert_eq!(origin.hits(), if round == 0 { i + 1 } else { 5 });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_1_equal_meanings_share_a_variant() {
    for (name, one, same, other) in [
        ("accept-encoding", "gzip, br", "BR;q=0.9,gzip", "gzip"),
        ("accept-language", "en, de", "de,EN", "fr"),
        ("x-list", "1,2", "1, 2", "1,2,3"),
        ("x-list", "\"a,b\", c", "\"a,b\",c", "\"a, b\",c"),
        ("x-empty", "", "", "x"),
    ] {
        let (origin, edge) = pair(move |_| reply(200, &[FRESH, ("vary", name)], "x")).await;
        for (value, hits) in [(one, 1), (same, 1), (other, 2), (one, 2)] {
            edge.ask("GET", "/", &[(name, value)], b"").await;
            assert_eq!(origin.hits(), hits, "{name}: {value}");
        }
        edge.get("/").await;
        assert_eq!(origin.hits(), 3, "{name}: a missing field is no empty one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_1_values_that_are_no_lists_are_compared_as_they_are() {
    let (origin, edge) = pair(|_| reply(200, &[FRESH, ("vary", "cookie")], "x")).await;
    for (cookie, hits) in [("id=a, b", 1), ("id=a,b", 2), ("id=a, b", 2)] {
        edge.ask("GET", "/", &[("Cookie", cookie)], b"").await;
        assert_eq!(origin.hits(), hits, "{cookie}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_a_client_may_provoke_is_stored_only_after_a_plain_request() {
    assert!(is_reused(400, "cache-control: max-age=60").await, "the origin's own word");
    assert!(is_reused(414, "expires: Thu, 18 Aug 2050 02:01:18 GMT").await);
    assert!(!is_reused(400, "last-modified: Thu, 01 Jan 1998 00:00:00 GMT\ncache-control: public").await);
    let long = "x".repeat(600);
    for odd in
        [("x-long", long.as_str()), ("x-meta", "a\tb"), ("x-http-method-override", "DELETE"), ("range", "bytes=0-0")]
    {
        assert!(!is_reused_with(400, "cache-control: max-age=60", &[odd]).await, "{}", odd.0);
    }
    for status in [401, 407, 412, 413, 416, 429, 431] {
        assert!(!is_reused(status, "cache-control: max-age=60").await, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_a_client_may_provoke_is_fresh_for_seconds_only() {
    let (_, edge) = pair(|_| reply(400, &[("cache-control", "max-age=3600")], "x")).await;
    edge.get("/").await;
    let hit = edge.get("/").await;
    let ttl: i64 = super::told(&hit).split("ttl=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    assert!((0..=10).contains(&ttl), "{hit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_3_3_incomplete_answers_are_never_stored() {
    let (origin, edge) = pair(|seen| match (seen.number, seen.target.as_str()) {
        (0, _) => vec![chunked(200, &[FRESH]), chunk("12345"), Step::Cut],
        _ => reply(200, &[FRESH], "1234567890"),
    })
    .await;
    let mut client = Client::connect(edge.web()).await;
    client.send(crate::harness::client::request("GET", "/", &[], b"")).await;
    if let Some(cut) = client.try_response(false).await {
        assert!(!cut.complete || cut.status == 502, "{cut:?}");
    }
    assert_eq!(edge.get("/").await.text(), "1234567890");
    assert_eq!(edge.get("/").await.source(), "http_cache");
    assert_eq!(origin.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_3_3_a_206_of_the_origin_is_passed_on_and_not_stored() {
    let (origin, edge) =
        pair(|_| reply(206, &[FRESH, ("content-range", "bytes 0-4/10"), ("etag", "\"1\"")], "01234")).await;
    for _ in 0..2 {
        let answer = edge.get("/").await;
        assert_eq!((answer.status, answer.text().as_str(), answer.source()), (206, "01234", "origin"));
    }
    assert_eq!(origin.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_15_2_interim_answers_pass_and_are_not_stored() {
    let script = |seen: &crate::harness::origin::Seen| {
        let mut steps =
            vec![Step::Send(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nx-hint: 1\r\n\r\n".to_vec())];
        steps.extend(reply(200, &[FRESH], &seen.target));
        if let [Step::Send(a), Step::Send(b)] = &steps[..] {
            return vec![Step::Send([a.as_slice(), b].concat())];
        }
        steps
    };
    let (origin, edge) = pair(script).await;
    let mut client = Client::connect(edge.web()).await;
    client.send(crate::harness::client::request("GET", "/a", &[], b"")).await;
    let hint = client.head().await.unwrap();
    assert_eq!((hint.status, hint.header("x-hint")), (103, "1"), "in one piece with the final header");
    let page = client.response(false).await;
    assert_eq!((page.status, page.text().as_str(), page.count("x-hint")), (200, "/a", 0));
    client.send(crate::harness::client::request("GET", "/a", &[], b"")).await;
    let hit = client.head().await.unwrap();
    assert_eq!((hit.status, hit.source(), hit.count("x-hint"), origin.hits()), (200, "http_cache", 0, 1));
    // HTTP/1.0 knows no interim answers.
    let mut old = Client::connect(edge.web()).await;
    old.send("GET /b HTTP/1.0\r\nHost: test\r\n\r\n").await;
    assert_eq!(old.head().await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_2_an_answer_given_while_it_is_fetched_is_whole_for_all() {
    let (origin, edge) = pair_with("{ lock_timeout: 10s }", |_| reply(200, &[FRESH], "x".repeat(300_000))).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = Client::connect(edge.web()).await;
        client.send(crate::harness::client::request("GET", "/big", &[], b"")).await;
        clients.push(client);
    }
    for client in &mut clients {
        let answer = client.response(false).await;
        assert_eq!((answer.complete, answer.body.len()), (true, 300_000));
    }
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_15_2_an_interim_answer_is_followed_by_a_final_one_even_when_the_origin_dies() {
    let hint = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n".to_vec();
    let (_, edge) = pair(move |_| vec![Step::Send(hint.clone()), Step::Cut]).await;
    let mut client = Client::connect(edge.web()).await;
    client.send(crate::harness::client::request("GET", "/", &[], b"")).await;
    let first = client.head().await.unwrap();
    let last = if first.status == 103 { client.response(false).await } else { first };
    assert_eq!(last.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_cannot_send_interim_answers_without_end() {
    let (_, edge) = pair(|_| {
        let mut all = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(40);
        all.extend(b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 1\r\n\r\nx");
        vec![Step::Send(all)]
    })
    .await;
    let mut client = Client::connect(edge.web()).await;
    client.send(crate::harness::client::request("GET", "/", &[], b"")).await;
    let mut hints = 0;
    while client.head().await.unwrap().status == 103 {
        hints += 1;
    }
    assert_eq!(hints, 8);
}
