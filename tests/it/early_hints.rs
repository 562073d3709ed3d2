//! `103 Early Hints` as browsers see them.

use crate::harness::client::{Client, request};
use crate::harness::edge::{Edge, Setup};
use crate::harness::origin::{Origin, Step, gate, reply};

const HINTED: &str = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 32MiB } } }
routes:
  - { match: { path: /off }, upstream: app, cache: true }
  - { upstream: app, cache: true, early_hints: true }
";
const STYLE: &str = "</a.css>; rel=preload; as=style";
const LINKS: (&str, &str) = ("link", "</a.css>; rel=preload; as=style, </next>; rel=next");
const NAVIGATE: (&str, &str) = ("Sec-Fetch-Mode", "navigate");

async fn edge_for(origin: &Origin) -> Edge {
    Setup::new(HINTED).put("ORIGIN", origin.address).start().await
}

/// The statuses of one answer, interim ones included, and the links of the first.
async fn statuses(edge: &Edge, target: &str, fields: &[(&str, &str)]) -> (Vec<u16>, Vec<String>) {
    let mut client = Client::connect(edge.web()).await;
    client.send(request("GET", target, fields, b"")).await;
    let (mut all, mut links) = (Vec::new(), None);
    loop {
        let head = client.head().await.expect("an answer");
        all.push(head.status);
        let named = head.headers.iter().filter(|(n, _)| n == "link").map(|(_, v)| v.clone());
        links.get_or_insert_with(|| named.collect());
        if head.status >= 200 {
            return (all, links.unwrap_or_default());
        }
        assert!(head.headers.iter().all(|(n, _)| n == "link"), "nothing else goes early: {head:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8297_2_a_browser_gets_the_links_before_the_origin_answers() {
    let door = gate();
    let opened = door.clone();
    let origin = Origin::start(move |seen| {
        let mut steps = if seen.number == 0 { vec![] } else { vec![Step::Wait(door.clone())] };
        // Stale at once and without a validator: the page itself is never stored.
        steps.extend(reply(200, &[("cache-control", "max-age=0"), LINKS], "page"));
        steps
    })
    .await;
    let edge = edge_for(&origin).await;
    assert_eq!(statuses(&edge, "/", &[NAVIGATE]).await.0, [200], "nothing is known yet");
    let mut client = Client::connect(edge.web()).await;
    client.send(request("GET", "/", &[NAVIGATE], b"")).await;
    // The origin is still silent.
    let early = client.head().await.unwrap();
    assert_eq!((early.status, early.header("link"), early.count("link")), (103, STYLE, 1));
    opened.add_permits(1);
    let answer = client.response(false).await;
    assert_eq!((answer.status, answer.text().as_str(), answer.header("link")), (200, "page", LINKS.1));
    // The connection is in order.
    opened.add_permits(1);
    assert_eq!(client.ask("GET", "/", &[], b"").await.text(), "page");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_browsers_that_navigate_over_http_1_1_get_hints() {
    let origin = Origin::start(|_| reply(200, &[("cache-control", "max-age=0"), LINKS], "page")).await;
    let edge = edge_for(&origin).await;
    for _ in 0..2 {
        for fields in [&[][..], &[("Sec-Fetch-Mode", "cors")]] {
            assert_eq!(statuses(&edge, "/", fields).await.0, [200]);
        }
    }
    let mut old = Client::connect(edge.web()).await;
    old.send("GET / HTTP/1.0\r\nHost: test\r\nSec-Fetch-Mode: navigate\r\n\r\n").await;
    assert_eq!(old.head().await.unwrap().status, 200);
    for _ in 0..2 {
        assert_eq!(statuses(&edge, "/off", &[NAVIGATE]).await.0, [200], "not switched on there");
    }
    assert_eq!(edge.metric("sluicegate_early_hints_total", &[]).await, 0.0);
    assert_eq!(statuses(&edge, "/", &[NAVIGATE]).await, (vec![103, 200], vec![STYLE.to_owned()]));
    assert_eq!(edge.metric("sluicegate_early_hints_total", &["route=\"route-1\""]).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_page_that_must_be_validated_hints_with_its_own_links() {
    let origin = Origin::start(|seen| {
        let fields = [("cache-control", "no-cache"), ("etag", "\"v1\""), LINKS];
        if seen.header("if-none-match") == "\"v1\"" { reply(304, &fields, "") } else { reply(200, &fields, "page") }
    })
    .await;
    let edge = edge_for(&origin).await;
    edge.get("/").await;
    assert_eq!(statuses(&edge, "/", &[NAVIGATE]).await, (vec![103, 200], vec![STYLE.to_owned()]));
    assert_eq!(origin.last().header("if-none-match"), "\"v1\"");
    assert_eq!(origin.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_never_reach_another_host_variant_or_user() {
    let origin = Origin::start(|seen| {
        let fields: &[(&str, &str)] = match seen.target.as_str() {
            "/private" => &[("cache-control", "private, max-age=60"), LINKS],
            "/no-store" => &[("cache-control", "no-store"), LINKS],
            "/login" => &[("cache-control", "max-age=0"), ("set-cookie", "s=1"), LINKS],
            "/varies" => &[("cache-control", "max-age=0"), ("etag", "\"v\""), ("vary", "cookie"), LINKS],
            "/silent" => &[LINKS],
            _ => &[("cache-control", "max-age=0"), LINKS],
        };
        reply(200, fields, "page")
    })
    .await;
    let edge = edge_for(&origin).await;
    let cookie = ("Cookie", "user=1");
    for target in ["/private", "/no-store", "/login", "/varies", "/silent", "/host"] {
        statuses(&edge, target, &[NAVIGATE, cookie]).await;
        let other = [NAVIGATE, ("Host", if target == "/host" { "other.test" } else { "test" })];
        assert_eq!(statuses(&edge, target, &other).await.0, [200], "{target}");
    }
    for target in ["/mine", "/mine"] {
        let fields = [NAVIGATE, ("Authorization", "Bearer a")];
        assert_eq!(statuses(&edge, target, &fields).await.0, [200], "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_becomes_private_is_forgotten() {
    let origin = Origin::start(|seen| {
        let rule = if seen.number == 0 { "max-age=0" } else { "private" };
        reply(200, &[("cache-control", rule), LINKS], "page")
    })
    .await;
    let edge = edge_for(&origin).await;
    assert_eq!(statuses(&edge, "/", &[NAVIGATE]).await.0, [200]);
    assert_eq!(statuses(&edge, "/", &[NAVIGATE]).await.0, [103, 200]);
    assert_eq!(statuses(&edge, "/", &[NAVIGATE]).await.0, [200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_fails_after_the_hints_is_answered_for() {
    let origin = Origin::start(|seen| match seen.number {
        0 => reply(200, &[("cache-control", "max-age=0"), LINKS], "page"),
        _ => vec![Step::Cut],
    })
    .await;
    let edge = edge_for(&origin).await;
    edge.get("/").await;
    assert_eq!(statuses(&edge, "/", &[NAVIGATE]).await.0, [103, 502]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc5861_4_a_page_that_may_be_served_stale_gets_no_hints_but_is_served() {
    let origin = Origin::start(|seen| match seen.number {
        0 => reply(200, &[("cache-control", "max-age=0, stale-if-error=600"), ("etag", "\"v\""), LINKS], "page"),
        _ => vec![Step::Cut],
    })
    .await;
    let edge = edge_for(&origin).await;
    edge.get("/").await;
    assert_eq!(statuses(&edge, "/", &[NAVIGATE]).await.0, [200]);
}
