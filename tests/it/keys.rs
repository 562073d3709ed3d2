//! The cache key, and what no client may do to what the cache stores: poisoning and deception.

use crate::harness::client::{Client, get_host, request};
use crate::harness::edge::{Edge, Setup};
use crate::harness::origin::{Origin, Seen, Step, reply};
use crate::harness::secure::H2;
use crate::harness::wait_until;

const CACHED: &str = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 32MiB } } }
routes: [ { upstream: app, cache: $CACHE } ]
";
const STORABLE: (&str, &str) = ("cache-control", "max-age=60");
const HTML: (&str, &str) = ("content-type", "text/html");

async fn caching(origin: &Origin, cache: &str) -> Edge {
    Setup::new(CACHED).put("ORIGIN", origin.address).put("CACHE", cache).start().await
}

/// Until the cache has given this reason so often.
async fn counted(edge: &Edge, reason: &str, times: f64) {
    let labels = ["source=\"http_cache\"", &format!("reason=\"{reason}\"")];
    wait_until(reason, async || edge.metric("sluicegate_reasons_total", &labels).await == times).await;
}

/// An origin that believes every field and says so in its page.
fn gullible(seen: &Seen) -> Vec<Step> {
    let fields: Vec<_> = seen.headers.iter().map(|(n, v)| format!("{n}={v}")).collect();
    reply(200, &[STORABLE, HTML], format!("{} {} {}", seen.method, seen.target, fields.join("\n")))
}

#[tokio::test(flavor = "multi_thread")]
async fn d30_unkeyed_fields_poison_nothing() {
    let origin = Origin::start(gullible).await;
    let edge = caching(&origin, "true").await;
    let fields = [
        "X-Forwarded-Host",
        "X-Forwarded-Server",
        "X-Forwarded-Scheme",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Path",
        "X-Forwarded",
        "X_Forwarded_Host",
        "X-Original-URL",
        "X-Original-Host",
        "X-Rewrite-URL",
        "X-Host",
        "X-HTTP-Host-Override",
        "X-Invoke-Path",
        "X-Url-Scheme",
        "X-Middleware-Prefetch",
        "Forwarded",
        "Front-End-Https",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
    ];
    for (i, field) in fields.iter().enumerate() {
        let target = format!("/page/{i}");
        let poison = edge.ask("GET", &target, &[(field, "evil.test")], b"").await;
        assert!(!poison.text().contains("evil"), "{field} reached the origin");
        assert!(!edge.get(&target).await.text().contains("evil"), "{field} was stored");
    }
    let client = H2::clear(edge.web()).await;
    let poison = http::Request::get("http://test/h2").header("x-forwarded-host", "evil.test").body(()).unwrap();
    assert!(!String::from_utf8_lossy(&client.ask(poison, b"").await.body).contains("evil"));
}

#[tokio::test(flavor = "multi_thread")]
async fn d30_a_method_override_goes_past_the_cache_and_serves_apis_all_the_same() {
    let origin = Origin::start(gullible).await;
    let edge = caching(&origin, "true").await;
    let sly = edge.ask("GET", "/a", &[("X-HTTP-Method-Override", "DELETE")], b"").await;
    assert_eq!(sly.header("cache-status"), "sluicegate; fwd=bypass; detail=method_override");
    assert_eq!(origin.last().count("x-http-method-override"), 0);
    assert_eq!(edge.get("/a").await.source(), "origin", "nothing was stored");
    // What is answered to other methods is never stored, and some clients can send nothing but POST.
    edge.ask("POST", "/a", &[("X-HTTP-Method-Override", "PATCH")], b"x").await;
    assert_eq!(origin.last().header("x-http-method-override"), "PATCH");
}

#[tokio::test(flavor = "multi_thread")]
async fn d30_the_port_of_the_host_is_keyed() {
    let origin =
        Origin::start(|seen| reply(302, &[STORABLE, ("location", &format!("http://{}/x", seen.header("host")))], ""))
            .await;
    let edge = caching(&origin, "true").await;
    assert_eq!(get_host(edge.web(), "a.test:1", "/").await.header("location"), "http://a.test:1/x");
    assert_eq!(get_host(edge.web(), "a.test", "/").await.header("location"), "http://a.test/x");
}

#[tokio::test(flavor = "multi_thread")]
async fn d30_no_parameter_hides_behind_an_excluded_one() {
    // An origin that splits at `;` as well, and takes the last `id`.
    let origin = Origin::start(|seen| {
        let query = seen.target.split_once('?').map_or("", |(_, q)| q);
        let id = query.split(['&', ';']).filter_map(|p| p.strip_prefix("id=")).next_back();
        reply(200, &[STORABLE], format!("id {}", id.unwrap_or("none")))
    })
    .await;
    let edge = caching(&origin, "{ key: { query: { exclude: [\"utm_*\"], sort: true } } }").await;
    for (evil, plain, right) in [
        ("/a?id=1&utm_x=1;id=evil", "/a?id=1", "id 1"),
        ("/b?id=1&a=1;id=evil", "/b?a=1;id=evil&id=1", "id 1"),
        ("/c?id=1&id=evil", "/c?id=evil&id=1", "id 1"),
        ("/d?utm_x=1;id=evil", "/d", "id none"),
    ] {
        edge.get(evil).await;
        assert_eq!(edge.get(plain).await.text(), right, "{plain} after {evil}");
    }
    let hit = edge.get("/a?utm_source=mail&id=1").await;
    assert_eq!(hit.source(), "http_cache", "the rule itself works: {hit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn d30_a_fat_get_is_neither_stored_nor_answered_from_the_store() {
    let origin = Origin::start(|seen| reply(200, &[STORABLE], String::from_utf8_lossy(&seen.body).as_bytes())).await;
    let edge = caching(&origin, "true").await;
    let fat = edge.ask("GET", "/h1", &[], b"evil").await;
    assert_eq!(fat.header("cache-status"), "sluicegate; fwd=bypass; detail=request_body");
    assert_eq!(edge.get("/h1").await.text(), "");
    let client = H2::clear(edge.web()).await;
    let fat = client.ask(http::Request::get("http://test/h2").body(()).unwrap(), b"evil").await;
    assert_eq!(fat.body, b"evil");
    assert_eq!(edge.get("/h2").await.text(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn d30_an_error_that_an_oversized_header_provoked_is_not_stored() {
    let origin = Origin::start(|seen| {
        let fields = &[("cache-control", "public, max-age=60")];
        if seen.header("x-big").len() > 4096 {
            reply(503, fields, "too much for me")
        } else {
            reply(200, fields, "page")
        }
    })
    .await;
    let edge = caching(&origin, "true").await;
    let broken = edge.ask("GET", "/", &[("X-Big", &"x".repeat(5000))], b"").await;
    assert_eq!(broken.status, 503);
    assert!(broken.header("cache-status").ends_with("detail=oversized_request"), "{broken:?}");
    assert_eq!(edge.get("/").await.text(), "page");
    assert_eq!(edge.get("/").await.source(), "http_cache");
    counted(&edge, "oversized_request", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d30_errors_that_a_client_can_provoke_are_not_stored_by_guess() {
    let origin = Origin::start(|seen| {
        let status = seen.target.trim_start_matches('/').parse().unwrap();
        reply(status, &[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"), ("cache-control", "public")], "no")
    })
    .await;
    let edge = caching(&origin, "true").await;
    for status in [400, 405, 413, 414, 416, 417, 431, 501] {
        for _ in 0..2 {
            let answer = edge.get(&format!("/{status}")).await;
            assert_eq!((answer.status, answer.source()), (status, "origin"), "{answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d30_a_page_is_not_stored_under_the_name_of_a_file() {
    let origin = Origin::start(|seen| reply(200, &[HTML], format!("account of {}", seen.header("cookie")))).await;
    let edge = caching(&origin, "{ ttl: { default: 5m } }").await;
    for target in [
        "/account/x.css",
        "/account;x.css",
        "/account%0ax.css",
        "/account%2fx.png",
        "/account%3bx.js",
        "/account%23x.jpg",
        "/account/x.css?y=1",
    ] {
        let victim = edge.ask("GET", target, &[("Cookie", "user=alice")], b"").await;
        assert!(victim.header("cache-status").ends_with("detail=deception"), "{target}: {victim:?}");
        assert_eq!(edge.get(target).await.text(), "account of ", "{target}");
    }
    // What hides dots or a NUL has no single meaning and goes no further.
    let before = origin.hits();
    for target in ["/static/..%2faccount", "/account%00x.css", "/static/%2e%2e%2faccount/x.css"] {
        assert_eq!(edge.get(target).await.status, 400, "{target}");
    }
    assert_eq!(origin.hits(), before);
    let page = edge.get("/about").await;
    assert_eq!((page.text().as_str(), edge.get("/about").await.source()), ("account of ", "http_cache"));
    counted(&edge, "deception", 14.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d30_a_page_of_a_session_is_not_kept_by_the_routes_ttl() {
    let origin = Origin::start(|seen| reply(200, &[HTML], format!("cookie {}", seen.header("cookie")))).await;
    let edge = caching(&origin, "{ ttl: { default: 5m } }").await;
    let mine = edge.ask("GET", "/", &[("Cookie", "PHPSESSID=alice")], b"").await;
    assert!(mine.header("cache-status").ends_with("detail=session_cookie"), "{mine:?}");
    assert_eq!(edge.get("/").await.text(), "cookie ");
    let shared = edge.ask("GET", "/", &[("Cookie", "PHPSESSID=bob")], b"").await;
    assert_eq!((shared.text().as_str(), shared.source()), ("cookie ", "http_cache"), "who is not alone may read");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_armor_can_be_taken_off() {
    let origin = Origin::start(|_| reply(200, &[HTML], "generated")).await;
    let edge = caching(&origin, "{ ttl: { default: 5m }, deception_armor: false }").await;
    edge.get("/odd.css").await;
    assert_eq!(edge.get("/odd.css").await.source(), "http_cache");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_beyond_its_bound_goes_past_the_cache() {
    let origin = Origin::fixed("x").await;
    let edge = caching(&origin, "{ key: { headers: [x-k] } }").await;
    let long = "k".repeat(17_000);
    for _ in 0..2 {
        let answer = edge.ask("GET", "/", &[("X-K", &long)], b"").await;
        assert_eq!(answer.header("cache-status"), "sluicegate; fwd=bypass; detail=key_too_long");
    }
    assert_eq!(origin.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_chooses_the_query_parameters_of_the_key() {
    let origin = Origin::start(|seen| reply(200, &[STORABLE], &seen.target)).await;
    let yaml =
        format!("{CACHED}policy: {{ script: policy.rhai }}\n").replace("cache: $CACHE", "cache: true, policy: true");
    let script = r#"fn on_request(req) { if req.path == "/search" { next().key_query(["q", "page"]) } }"#;
    let edge = Setup::new(&yaml).put("ORIGIN", origin.address).file("policy.rhai", script).start().await;
    assert_eq!(edge.get("/search?q=a&click=1").await.text(), "/search?q=a&click=1");
    assert_eq!(edge.get("/search?click=2&q=a").await.text(), "/search?q=a&click=1");
    assert_eq!(edge.get("/search?q=b").await.text(), "/search?q=b");
    assert_eq!(edge.get("/search?q=a&page=2").await.text(), "/search?q=a&page=2");
    assert_eq!(edge.get("/other?click=1").await.text(), "/other?click=1");
    assert_eq!(edge.get("/other?click=2").await.text(), "/other?click=2");
    // An unsafe request is filed by the same rule (RFC 9111 §4.4).
    edge.ask("POST", "/search?q=a&click=3", &[], b"").await;
    assert_eq!(edge.get("/search?q=a").await.source(), "origin");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9211_2_8_only_allowed_clients_are_told_the_key() {
    let origin = Origin::fixed("x").await;
    let yaml = format!("{CACHED}observability: {{ access_log: false, cache_key_for: [127.0.0.0/8] }}\n");
    let edge = Setup::new(&yaml).put("ORIGIN", origin.address).put("CACHE", "true").start().await;
    for kind in ["fwd=uri-miss", "hit"] {
        let answer = edge.get("/a?b=1").await;
        let told = answer.header("cache-status");
        assert!(told.contains(kind) && told.ends_with(r#"; key="http://test:80/a?b=1 p:route=route-0""#), "{told}");
    }
    // Whatever a client puts into the key, the field stays a valid one: the harness reads each strictly.
    let odd = edge.ask("GET", "/%22?\\\"'", &[("Host", "test")], b"").await;
    assert!(odd.status == 400 || odd.header("cache-status").contains("key="), "{odd:?}");
    let closed = caching(&origin, "true").await;
    assert!(!closed.get("/a").await.header("cache-status").contains("key="));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9211_2_an_answer_of_our_own_has_no_cache_status() {
    let origin = Origin::fixed("x").await;
    let yaml =
        format!("{CACHED}policy: {{ script: policy.rhai }}\n").replace("cache: $CACHE", "cache: true, policy: true");
    let script = r#"fn on_request(req) { if req.path == "/no" { deny(403, "no") } }"#;
    let edge = Setup::new(&yaml).put("ORIGIN", origin.address).file("policy.rhai", script).start().await;
    let refused = edge.get("/no").await;
    assert_eq!((refused.status, refused.count("cache-status")), (403, 0));
    let uncached = edge.ask("GET", "/x", &[("Cache-Control", "only-if-cached")], b"").await;
    assert_eq!((uncached.status, uncached.count("cache-status")), (504, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn options_without_effect_are_faults() {
    for (route, place) in [
        ("respond: { body: x }, max_body: 1MiB", "routes[0].max_body"),
        ("redirect: { to: /x }, max_body: 1MiB", "routes[0].max_body"),
        ("respond: { body: x }, headers: { request: { set: { x-a: \"1\" } } }", "routes[0].headers.request"),
        ("redirect: { to: /x }, headers: { request: { remove: [x-a] } }", "routes[0].headers.request"),
    ] {
        let fault = Setup::new(&format!("routes: [ {{ {route} }} ]\n")).try_start().await.err().expect(route);
        assert!(format!("{fault:#}").contains(place), "{route}: {fault:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn max_header_size_holds_over_http2_too() {
    let origin = Origin::fixed("x").await;
    let with = |size: &str| {
        let yaml = "
server: { threads: 2, max_header_size: $SIZE }
listeners: { web: { address: \"127.0.0.1:0\" } }
upstreams: { app: { servers: [\"$ORIGIN\"] } }
routes: [ { upstream: app } ]
";
        Setup::bare(yaml).put("SIZE", size).put("ORIGIN", origin.address)
    };
    let asked = |bytes: usize| http::Request::get("http://test/").header("x-big", "x".repeat(bytes)).body(()).unwrap();
    let small = with("8KiB").start().await;
    let client = H2::clear(small.web()).await;
    assert_eq!(client.ask(asked(9000), b"").await.head.status, 431);
    assert_eq!(client.ask(asked(7000), b"").await.head.status, 200);
    let large = with("128KiB").start().await;
    assert_eq!(H2::clear(large.web()).await.ask(asked(100_000), b"").await.head.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_log_is_asked_when_the_client_left_before_its_answer() {
    let gate = crate::harness::origin::gate();
    let origin = Origin::start(move |_| vec![Step::Wait(gate.clone())]).await;
    let yaml = format!(
        "{CACHED}policy: {{ script: policy.rhai }}\nobservability: {{ access_log: {{ output: \"$DIR/access.log\" }} }}\n"
    )
    .replace("cache: $CACHE", "policy: true");
    let script = r#"fn on_log(req, resp, entry) { keep().note("asked", `with ${resp.status}`) }"#;
    let edge = Setup::new(&yaml).put("ORIGIN", origin.address).file("policy.rhai", script).start().await;
    let mut client = Client::connect(edge.web()).await;
    client.send(request("GET", "/", &[], b"")).await;
    wait_until("the origin to be asked", async || origin.hits() == 1).await;
    drop(client);
    let log = edge.path("access.log");
    wait_until("the line", async || std::fs::read_to_string(&log).is_ok_and(|t| t.contains("with 499"))).await;
}
