//! The express lane against the ordinary way: one configuration, two gateways, the same requests, the same answers, log
//! lines and figures. Then what only the lane does: pieces, pipelines, slow clients.

use crate::harness::client::{Client, Response, request};
use crate::harness::edge::{Edge, Setup};
use crate::harness::origin::{Origin, Seen, Step, chunk, chunked, reply};
use crate::harness::secure::{Certificate, H2, https};
use crate::harness::token::{AUTH, SECRET};
use crate::harness::wait_until;
use serde_json::Value;
use std::time::{Duration, SystemTime};

const YAML: &str = "
version: 1
server: { threads: 2, grace_period: 100ms, admin: { listen: \"127.0.0.1:0\" }, trusted_proxies: [\"127.0.0.1\"] }
listeners:
  web: { address: \"127.0.0.1:0\" }
  sent: { address: \"127.0.0.1:0\", redirect_to_https: true }
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 64MiB } } }
policy: { script: policy.rhai }
routes:
  - match: { path: /changed/* }
    upstream: app
    cache: true
    headers: { response: { set: { x-frame-options: DENY, x-own: changed }, remove: [x-absent] } }
  - match: { path: /added/* }
    upstream: app
    cache: true
    headers: { response: { set: { x-frame-options: DENY, strict-transport-security: max-age=1 }, remove: [x-absent] } }
  - { match: { path: /auth/* }, upstream: app, cache: true, auth: main }
  - { match: { path: /script/* }, upstream: app, cache: true, policy: true }
  - { match: { path: /plain/* }, upstream: app }
  - { match: { path: /keyed/* }, upstream: app, cache: { key: { headers: [x-kind], cookies: [group] } } }
  - { match: { path: /open/*, headers: { x-special: \"*\" } }, upstream: app, cache: true }
  - { match: { path: /open/*, query: { route: other } }, upstream: app, cache: true }
  - { match: { path: /open/* }, upstream: app, cache: true }
observability: { access_log: { format: json, output: \"$DIR/access.log\" } }
";

const SCRIPT: &str = r#"fn on_response(req, resp) { next().set_header("x-seen", resp.source) }"#;

/// A day's freshness and a `Date` ten minutes ago: what sends it on unchanged is the lane.
fn page(seen: &Seen) -> Vec<Step> {
    let then = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(600));
    let path = seen.target.split('?').next().unwrap_or("");
    let mut fields = vec![("cache-control", "max-age=86400"), ("x-own", "origin"), ("date", &then)];
    match path.rsplit('/').next().unwrap_or("") {
        "tagged" => fields.extend([("etag", "\"v1\""), ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")]),
        "varied" => fields.push(("vary", "Accept-Language")),
        "named" => fields.extend([("x-request-id", "the-origin's"), ("cache-status", "inner; hit"), ("server", "app")]),
        "undated" => drop(fields.pop()),
        "gone" => return reply(404, &fields, "no such thing"),
        "empty" => return reply(204, &fields, ""),
        "chunked" => return vec![chunked(200, &fields), chunk("in "), chunk("pieces"), chunk("")],
        "large" => return reply(200, &fields, vec![b'l'; 700_000]),
        _ => {}
    }
    reply(200, &fields, format!("{} {}", seen.target, seen.header("accept-language")))
}

async fn gateway(origin: &Origin, express: bool) -> Edge {
    let setup = Setup::bare(&format!("{YAML}{AUTH}")).put("ORIGIN", origin.address);
    let setup = setup.file("secret", SECRET).file("policy.rhai", SCRIPT);
    if express { setup.start().await } else { setup.ordinary().start().await }
}

type Fields = &'static [(&'static str, &'static str)];

const TARGETS: &[&str] = &[
    "/open/page",
    "/open/page?b=2&a=1",
    "/open/page?route=other",
    "/open//page",
    "/open/./%70age",
    "/open/../open/page",
    "/open/tagged",
    "/open/varied",
    "/open/named",
    "/open/undated",
    "/open/gone",
    "/open/empty",
    "/open/chunked",
    "/open/large",
    "/changed/tagged",
    "/added/page",
    "/keyed/page",
    "/auth/page",
    "/script/page",
    "/plain/page",
    "/nowhere",
    "/open/%00",
    "/../open/page",
];

const FIELDS: &[Fields] = &[
    &[],
    &[("Connection", "keep-alive"), ("User-Agent", "test/1.0"), ("Referer", "https://a.test/b?secret=1")],
    &[("Connection", "close")],
    &[("Connection", "x-special"), ("X-Special", "1")],
    &[("X-Special", "1")],
    &[("Host", "Other.Test.:80")],
    &[("If-None-Match", "\"v0\", W/\"v1\"")],
    &[("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")],
    &[("Range", "bytes=0-3")],
    &[("Cache-Control", "no-store")],
    &[("Cache-Control", "max-age=1")],
    &[("Cache-Control", "max-stale=5, min-fresh=10, only-if-cached")],
    &[("Accept-Language", "de"), ("Cookie", "a=b; group=7"), ("X-Kind", "k")],
    &[("X-Forwarded-For", "203.0.113.9, 127.0.0.1"), ("X-Request-Id", "given-by-the-proxy")],
    &[("X-Forwarded-Proto", "https")],
    &[("Content-Length", "0")],
];

/// What may differ from one gateway to the other: ids, dates, and seconds that passed.
fn comparable(r: &Response) -> (u16, Vec<(String, String)>, Vec<u8>, bool) {
    let mut headers: Vec<(String, String)> = r.headers.clone();
    headers.retain(|(n, v)| n != "date" && (n != "x-request-id" || v == "given-by-the-proxy"));
    for (name, value) in &mut headers {
        if name == "age" || name == "cache-status" {
            *value = value.replace(|c: char| c.is_ascii_digit(), "");
        }
    }
    headers.sort();
    (r.status, headers, r.body.clone(), r.complete)
}

/// One request on a connection of its own; then whether the connection went on.
async fn outcome(edge: &Edge, listener: &str, bytes: &[u8], head_only: bool) -> (Response, bool) {
    let mut client = Client::connect(edge.at(listener)).await;
    client.send(bytes).await;
    let answer = client.response(head_only).await;
    let goes_on = client.try_send(request("GET", "/plain/again", &[("Connection", "close")], b"")).await
        && client.try_response(false).await.is_some();
    (answer, goes_on)
}

/// Log lines without what differs from run to run, in a fixed order.
async fn lines(edge: &Edge, count: usize) -> Vec<String> {
    let log = edge.path("access.log");
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("all log lines", async || read().lines().count() >= count).await;
    let plain = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        for name in ["time", "id", "duration_ms", "upstream"] {
            line.as_object_mut().unwrap().remove(name);
        }
        line.to_string().replace(|c: char| c.is_ascii_digit(), "")
    };
    let mut lines: Vec<String> = read().lines().map(plain).collect();
    lines.sort();
    lines
}

async fn figures(edge: &Edge) -> Vec<String> {
    let wanted = ["requests_total", "response_bytes_total", "reasons_total", "request_seconds_count", "refused_total"];
    let text = edge.metrics().await;
    let mut all: Vec<String> = text
        .lines()
        .filter(|l| wanted.iter().any(|w| l.starts_with(&format!("sluicegate_{w}"))))
        .map(str::to_owned)
        .collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lane_and_the_ordinary_way_answer_log_and_count_alike() {
    let origin = Origin::start(page).await;
    let (lane, ordinary) = (gateway(&origin, true).await, gateway(&origin, false).await);
    let (mut asked, mut express) = (0, 0);
    for target in TARGETS {
        for fields in FIELDS {
            for (method, version) in [("GET", "1.1"), ("HEAD", "1.1"), ("GET", "1.0"), ("GET", "1.1")] {
                let text = String::from_utf8(request(method, target, fields, b"")).unwrap();
                let bytes = text.replacen("HTTP/1.1", &format!("HTTP/{version}"), 1).into_bytes();
                let what = || format!("{method} {target} HTTP/{version} {fields:?}");
                let (a, a_goes_on) = outcome(&lane, "web", &bytes, method == "HEAD").await;
                let (b, b_goes_on) = outcome(&ordinary, "web", &bytes, method == "HEAD").await;
                assert_eq!(comparable(&a), comparable(&b), "{}", what());
                assert_eq!(a_goes_on, b_goes_on, "{}", what());
                asked += 1 + usize::from(a_goes_on);
                let date = httpdate::parse_http_date(a.header("date")).unwrap();
                express += usize::from(date.elapsed().unwrap_or_default() > Duration::from_secs(300));
            }
        }
    }
    assert!(express > 400, "too few answers came by the lane: {express} of {asked}");
    same(&lines(&lane, asked).await, &lines(&ordinary, asked).await);
    same(&figures(&lane).await, &figures(&ordinary).await);
    assert!(figures(&lane).await.iter().any(|l| l.contains("source=\"http_cache\"")));
}

fn same(a: &[String], b: &[String]) {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).for_each(|(a, b)| assert_eq!(a, b));
}

async fn over_h2(h2: &H2, (method, target, fields): (&str, &str, Fields)) -> Response {
    let mut r = http::Request::builder().method(method).uri(format!("http://test{target}"));
    for (n, v) in fields {
        r = r.header(*n, *v);
    }
    let answer = h2.ask(r.body(()).unwrap(), b"").await;
    let field = |(n, v): (&http::HeaderName, &http::HeaderValue)| {
        (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned())
    };
    let headers = answer.head.headers.iter().map(field).collect();
    Response { status: answer.head.status.as_u16(), headers, body: answer.body, complete: true }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lane_and_the_ordinary_way_agree_over_http2() {
    let origin = Origin::start(page).await;
    let (lane, ordinary) = (gateway(&origin, true).await, gateway(&origin, false).await);
    let (a, b) = (H2::clear(lane.web()).await, H2::clear(ordinary.web()).await);
    let mut asked = 0;
    for target in TARGETS.iter().filter(|t| !t.contains("..")) {
        for fields in FIELDS.iter().filter(|f| f.iter().all(|(n, _)| *n != "Connection" && *n != "Host")) {
            for method in &["GET", "HEAD", "GET"] {
                let what = (*method, *target, *fields);
                let (x, y) = (over_h2(&a, what).await, over_h2(&b, what).await);
                assert_eq!(comparable(&x), comparable(&y), "{what:?}");
                asked += 1;
            }
        }
    }
    same(&lines(&lane, asked).await, &lines(&ordinary, asked).await);
    same(&figures(&lane).await, &figures(&ordinary).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lane_never_overtakes_a_refusal_a_redirect_auth_or_the_script() {
    let origin = Origin::start(page).await;
    let edge = gateway(&origin, true).await;
    for _ in 0..2 {
        assert_eq!(edge.get("/auth/page").await.status, 401);
        assert_eq!(edge.get("/open/page").await.status, 200);
        let sent = outcome(&edge, "sent", &request("GET", "/open/page", &[], b""), false).await.0;
        assert_eq!((sent.status, sent.reason()), (308, "redirect_to_https"));
        assert!(!edge.get("/script/page").await.header("x-seen").is_empty());
        assert_eq!(edge.get("/open/%2e%2e%2f").await.status, 400);
        assert_eq!(edge.ask("POST", "/open/page", &[], b"x").await.source(), "origin");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_6_6_1_a_hit_keeps_the_date_and_gets_one_where_there_was_none() {
    let origin = Origin::start(page).await;
    let edge = gateway(&origin, true).await;
    edge.get("/open/page").await;
    edge.get("/open/undated").await;
    let age = |r: &Response| httpdate::parse_http_date(r.header("date")).unwrap().elapsed().unwrap_or_default();
    let (kept, made) = (edge.get("/open/page").await, edge.get("/open/undated").await);
    assert!((600..700).contains(&age(&kept).as_secs()), "{kept:?}");
    assert!(kept.header("age").parse::<u64>().unwrap() >= 600, "{kept:?}");
    assert!((made.count("date"), age(&made).as_secs() < 100) == (1, true), "{made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_and_misses_of_one_pipeline_come_in_order_on_one_connection() {
    let origin = Origin::start(page).await;
    let edge = gateway(&origin, true).await;
    edge.get("/open/page").await;
    edge.get("/open/large").await;
    let targets = ["/open/page", "/open/large", "/plain/a", "/open/page", "/open/miss", "/open/large", "/open/page"];
    let mut client = Client::connect(edge.web()).await;
    let all: Vec<u8> = targets.iter().flat_map(|t| request("GET", t, &[], b"")).collect();
    let (first, second) = all.split_at(all.len() / 2);
    client.send(first).await;
    client.send(second).await;
    for target in targets {
        let answer = client.response(false).await;
        let want = if target == "/open/large" { vec![b'l'; 700_000] } else { format!("{target} ").into_bytes() };
        assert!((answer.status, answer.complete) == (200, true) && answer.body == want, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_hits_are_whole_over_tls_and_http2() {
    let origin = Origin::start(page).await;
    let dir = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(dir.path(), "site", &["site.test"]);
    let yaml = "
version: 1
listeners: { safe: { address: \"127.0.0.1:0\", tls: { certificates: [site] } } }
certificates: { site: { cert: \"$DIR/site.crt\", key: \"$DIR/site.key\" } }
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 64MiB } } }
routes: [ { upstream: app, cache: true } ]
";
    let edge = Setup::bare(yaml).put("ORIGIN", origin.address).start_in(dir).await.unwrap();
    let mut client = https(edge.at("safe"), "site.test", &certificate).await;
    let stream = crate::harness::secure::tls(edge.at("safe"), "site.test", &[&certificate], &["h2"]).await;
    let h2 = H2::over(stream).await;
    for _ in 0..3 {
        for (target, size) in [("/large", 700_000), ("/page", 6)] {
            let answer = client.ask("GET", target, &[("Host", "site.test")], b"").await;
            assert_eq!((answer.status, answer.body.len(), answer.complete), (200, size, true));
            let answer = h2.get(&format!("https://site.test{target}")).await;
            assert_eq!((answer.head.status.as_u16(), answer.body.len()), (200, size));
        }
    }
    let many =
        (0..40).map(|i| {
            let h2 = &h2;
            async move {
                h2.get(if i % 4 == 0 { "https://site.test/large" } else { "https://site.test/page" }).await.body.len()
            }
        });
    let mut sizes: Vec<usize> = Vec::new();
    let mut set = Vec::new();
    for answer in many {
        set.push(Box::pin(answer));
    }
    for answer in set {
        sizes.push(answer.await);
    }
    assert_eq!(sizes.iter().sum::<usize>(), 10 * 700_000 + 30 * 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_left_and_logged() {
    let origin = Origin::start(|_| reply(200, &[("cache-control", "max-age=60")], vec![b'x'; 24 << 20])).await;
    let yaml = "
version: 1
server: { io_timeout: 300ms, admin: { listen: \"127.0.0.1:0\" } }
listeners: { web: { address: \"127.0.0.1:0\" } }
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 64MiB } } }
routes: [ { upstream: app, cache: true } ]
";
    let edge = Setup::bare(yaml).put("ORIGIN", origin.address).start().await;
    assert_eq!(edge.get("/").await.body.len(), 24 << 20);
    let mut deaf = Client::connect(edge.web()).await;
    deaf.send(request("GET", "/", &[], b"")).await;
    let slow = async || edge.metric("sluicegate_reasons_total", &["client_too_slow", "http_cache"]).await;
    wait_until("the deaf client to be left", async || slow().await == 1.0).await;
    assert!(!deaf.response(false).await.complete);
    assert_eq!(origin.hits(), 1);
}
