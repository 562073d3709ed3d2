//! Ways around a rule that were found in review, each shut for good.

use crate::harness::client::{get_host, request};
use crate::harness::edge::Setup;
use crate::harness::origin::{Origin, reply};
use crate::harness::secure::H2;
use crate::harness::token;
use crate::harness::wait_until;

const STORABLE: (&str, &str) = ("cache-control", "max-age=60");

/// A route that wants a token and, beside it, one that does not.
const GUARDED: &str = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 32MiB } } }
auth: { main: { jwt: { keys: [ { secret: \"file:secret\", algorithm: HS256 } ], token_from: { header: null, cookie: sid } } } }
routes:
  - { name: open, match: { path: /* }, upstream: app, cache: true }
  - { name: admin, match: { path: /admin/* }, upstream: app, auth: main, cache: true }
  - { name: shop, match: { host: shop.test }, upstream: app, auth: main, cache: true }
";

fn guarded(origin: &Origin) -> Setup {
    let yaml = GUARDED.replace("file:secret", "file:$DIR/secret");
    Setup::new(&yaml).put("ORIGIN", origin.address).file("secret", token::SECRET)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_walks_around_auth() {
    let origin = Origin::fixed("secret").await;
    let edge = guarded(&origin).start().await;
    for path in [
        "/admin/x",
        "/%61dmin/x",
        "/x/../admin/x",
        "/x/%2e%2e/admin/x",
        "//admin/x",
        "/./admin/x",
        "/pub/%2%65%2%65/admin/x",
        "/pub/..%2fadmin/x",
        "/pub/..%5cadmin/x",
        "/pub/..;/admin/x",
    ] {
        let answer = edge.get(path).await;
        assert!(matches!(answer.status, 400 | 401), "{path}: {answer:?}");
    }
    assert_eq!(origin.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rooted_host_is_the_same_host() {
    let origin = Origin::fixed("secret").await;
    let edge = guarded(&origin).start().await;
    for host in ["shop.test", "shop.test.", "SHOP.test.:80"] {
        assert_eq!(get_host(edge.web(), host, "/").await.status, 401, "{host}");
    }
    assert_eq!(origin.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_3_5_an_answer_for_one_user_is_not_stored_for_another() {
    let origin = Origin::start(|seen| reply(200, &[STORABLE], format!("for {}", seen.header("cookie")))).await;
    let edge = guarded(&origin).start().await;
    for user in ["alice", "bob"] {
        let cookie = format!("sid={}", token::signed(&token::claims(user)));
        let answer = edge.ask("GET", "/admin/me", &[("Cookie", &cookie)], b"").await;
        assert_eq!((answer.status, answer.text()), (200, format!("for {cookie}")), "{user}");
    }
    assert_eq!(origin.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_routes_on_one_url_never_share_an_object() {
    let (a, b) = (
        Origin::start(|_| reply(200, &[STORABLE], "stable")).await,
        Origin::start(|_| reply(200, &[STORABLE], "beta")).await,
    );
    let yaml = "
upstreams: { a: { servers: [\"$A\"] }, b: { servers: [\"$B\"] } }
caches: { main: { memory: { size: 32MiB } } }
routes:
  - { name: stable, upstream: a, cache: true }
  - { name: beta, match: { headers: { x-beta: '1' } }, upstream: b, cache: true }
";
    let edge = Setup::new(yaml).put("A", a.address).put("B", b.address).start().await;
    for _ in 0..2 {
        assert_eq!(edge.ask("GET", "/", &[("X-Beta", "1")], b"").await.text(), "beta");
        assert_eq!(edge.get("/").await.text(), "stable");
    }
    assert_eq!((a.hits(), b.hits()), (1, 1));
    // A purge by URL finds both.
    assert_eq!(edge.purge("http://test/").await.status, 200);
    assert_eq!(edge.ask("GET", "/", &[("X-Beta", "1")], b"").await.text(), "beta");
    assert_eq!(edge.get("/").await.text(), "stable");
    assert_eq!((a.hits(), b.hits()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_7_6_1_a_field_taken_from_the_origin_is_taken_from_the_key_too() {
    let origin = Origin::start(|seen| {
        reply(200, &[STORABLE, ("vary", "x-tenant")], format!("tenant {:?}", seen.header("x-tenant")))
    })
    .await;
    let yaml = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 32MiB } } }
routes: [ { upstream: app, cache: { key: { headers: [x-tenant] } } } ]
";
    let edge = Setup::new(yaml).put("ORIGIN", origin.address).start().await;
    let poison = [("X-Tenant", "t1"), ("Connection", "keep-alive, x-tenant")];
    assert_eq!(edge.ask("GET", "/", &poison, b"").await.text(), "tenant \"\"");
    assert_eq!(edge.ask("GET", "/", &[("X-Tenant", "t1")], b"").await.text(), "tenant \"t1\"");
    for vital in ["cookie", "authorization", "host", "content-length"] {
        let bad = edge.ask("GET", "/", &[("Connection", vital)], b"").await;
        assert_eq!((bad.status, bad.reason()), (400, "bad_connection"), "{vital}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overrides_do_not_reach_the_origin_of_a_cached_route() {
    let origin = Origin::fixed("x").await;
    let edge = guarded(&origin).start().await;
    let sent = [
        ("X-Original-URL", "/admin"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("X-Forwarded-Host", "evil.test"),
        ("X_Forwarded_For", "6.6.6.6"),
        ("X-Forwarded-Prefix", "/evil"),
        ("x-sluicegate-source", "policy"),
    ];
    edge.ask("GET", "/", &sent, b"").await;
    let seen = origin.last();
    for name in
        ["x-original-url", "x-http-method-override", "x_forwarded_for", "x-forwarded-prefix", "x-sluicegate-source"]
    {
        assert_eq!(seen.count(name), 0, "{name}");
    }
    assert_eq!(seen.header("x-forwarded-host"), "test");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_4_an_unsafe_request_invalidates() {
    let origin = Origin::start(|seen| match seen.method.as_str() {
        "GET" => reply(200, &[STORABLE], &seen.target),
        _ => reply(204, &[("location", "/b"), ("content-location", "http://other.test/c")], ""),
    })
    .await;
    let edge = guarded(&origin).start().await;
    for path in ["/a", "/b", "/c"] {
        edge.get(path).await;
    }
    assert_eq!(origin.hits(), 3);
    edge.ask("PUT", "/a", &[], b"new").await;
    for (path, source) in [("/a", "origin"), ("/b", "origin"), ("/c", "http_cache")] {
        assert_eq!(edge.get(path).await.source(), source, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_with_a_body_over_http2_is_not_cached() {
    let origin = Origin::start(|seen| reply(200, &[STORABLE], seen.body.len().to_string())).await;
    let edge = guarded(&origin).start().await;
    let client = H2::clear(edge.web()).await;
    let fat = client.ask(http::Request::get("http://fat.test/page").body(()).unwrap(), b"evil body").await;
    assert_eq!(fat.body, b"9");
    assert_eq!(client.get("http://fat.test/page").await.body, b"0");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9113_8_2_3_cookie_crumbs_are_joined() {
    let origin =
        Origin::start(|seen| reply(200, &[], format!("{} {}", seen.count("cookie"), seen.header("cookie")))).await;
    let edge = guarded(&origin).start().await;
    let client = H2::clear(edge.web()).await;
    let crumbs = http::Request::get("http://a.test/").header("cookie", "a=1").header("cookie", "b=2");
    assert_eq!(client.ask(crumbs.body(()).unwrap(), b"").await.body, b"1 a=1; b=2");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc5861_3_a_stale_object_is_refreshed_in_the_background_and_over_http2_too() {
    let origin = Origin::start(|seen| {
        let control = "max-age=0, stale-while-revalidate=60";
        reply(200, &[("cache-control", control)], format!("{} {}", seen.target, seen.number))
    })
    .await;
    let edge = guarded(&origin).start().await;
    assert_eq!(edge.get("/swr").await.text(), "/swr 0");
    let stale = edge.get("/swr").await;
    assert_eq!((stale.text().as_str(), stale.source()), ("/swr 0", "http_cache"));
    assert!(stale.header("cache-status").contains("stale_while_revalidate"), "{stale:?}");
    wait_until("the refresh", async || edge.get("/swr").await.text() != "/swr 0").await;
    // Over HTTP/2 nothing stays stale for ever either.
    let client = H2::clear(edge.web()).await;
    let url = "http://test/swr";
    let first = client.get(url).await.body;
    wait_until("a fresh answer over h2", async || client.get(url).await.body != first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_chain_of_addresses_is_passed_on_whole() {
    let origin = Origin::fixed("x").await;
    let yaml = "
server: { trusted_proxies: [127.0.0.0/8] }
listeners: { web: { address: \"127.0.0.1:0\" } }
upstreams: { app: { servers: [\"$ORIGIN\"] } }
routes: [ { upstream: app } ]
";
    let edge = Setup::bare(yaml).put("ORIGIN", origin.address).start().await;
    let mut raw = crate::harness::client::Client::connect(edge.web()).await;
    let lines = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "203.0.113.9")];
    raw.send(request("GET", "/", &lines, b"")).await;
    raw.response(false).await;
    assert_eq!(origin.last().header("x-forwarded-for"), "6.6.6.6, 203.0.113.9, 127.0.0.1");
    assert_eq!(origin.last().header("x-real-ip"), "203.0.113.9");
}
