//! Serving stale: while it is refreshed, when the origin errs, and when it is out of reach (RFC 5861, RFC 9111 §4.2.4).
//! What is stale at once (`max-age=60` at the age of 61) needs no waiting.

use super::{gateway, pair, pair_with, told};
use crate::harness::client::{Client, Response, request};
use crate::harness::edge::{Edge, Setup};
use crate::harness::origin::{Gate, Origin, Seen, Step, gate, reply};
use crate::harness::secure::{Certificate, H2, tls};
use crate::harness::wait_until;

const AGED: (&str, &str) = ("age", "61");
const TAG: (&str, &str) = ("etag", "\"1\"");

/// Stale at once with this `Cache-Control`; every later answer waits for the gate and is fresh.
fn renewed(control: &'static str, door: Gate) -> impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static {
    move |seen| match seen.number {
        0 => reply(200, &[("cache-control", control), AGED, TAG], "old"),
        _ => {
            let mut steps = vec![Step::Wait(door.clone())];
            steps.extend(reply(200, &[("cache-control", "max-age=60")], "new"));
            steps
        }
    }
}

async fn assert_refreshed_behind(edge: &Edge, origin: &Origin, door: &Gate) {
    assert_eq!(edge.get("/").await.text(), "old");
    let stale = edge.get("/").await;
    assert_eq!((stale.status, stale.text().as_str(), stale.source()), (200, "old", "http_cache"));
    assert!(told(&stale).contains("detail=stale_while_revalidate") && told(&stale).contains("ttl=-"), "{stale:?}");
    assert!(stale.header("age").parse::<u64>().unwrap() >= 61, "the age tells that it is stale: {stale:?}");
    wait_until("the refresh", async || origin.hits() == 2).await;
    assert_eq!(edge.get("/").await.text(), "old", "nobody waits");
    door.add_permits(1);
    wait_until("the new answer", async || edge.get("/").await.text() == "new").await;
    assert_eq!(origin.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc5861_3_stale_while_revalidate_by_the_origin() {
    let door = gate();
    let (origin, edge) = pair(renewed("max-age=60, stale-while-revalidate=600", door.clone())).await;
    assert_refreshed_behind(&edge, &origin, &door).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc5861_3_stale_while_revalidate_by_the_route() {
    let door = gate();
    let (origin, edge) = pair_with("{ stale_while_revalidate: 10m }", renewed("max-age=60", door.clone())).await;
    assert_refreshed_behind(&edge, &origin, &door).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc5861_3_stale_while_revalidate_by_the_script() {
    let door = gate();
    let origin = Origin::start(renewed("max-age=60", door.clone())).await;
    let edge = scripted(&origin, "fn on_origin_response(req, resp) { next().stale_while_revalidate(\"10m\") }").await;
    assert_refreshed_behind(&edge, &origin, &door).await;
}

async fn scripted(origin: &Origin, script: &str) -> Edge {
    let yaml = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 16MiB } } }
policy: { script: policy.rhai }
routes: [ { upstream: app, cache: true, policy: true } ]
";
    Setup::new(yaml).put("ORIGIN", origin.address).file("policy.rhai", script).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc5861_3_after_the_window_the_client_waits() {
    let (origin, edge) = pair(|seen| match seen.number {
        0 => reply(200, &[("cache-control", "max-age=60, stale-while-revalidate=5"), ("age", "80"), TAG], "old"),
        _ => reply(200, &[("cache-control", "max-age=60")], "new"),
    })
    .await;
    assert_eq!(edge.get("/").await.text(), "old");
    assert_eq!((edge.get("/").await.text().as_str(), origin.hits()), ("new", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_requests_at_once_make_one_refresh() {
    let door = gate();
    let (origin, edge) = pair(renewed("max-age=60, stale-while-revalidate=600", door.clone())).await;
    edge.get("/").await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = Client::connect(edge.web()).await;
        client.send(request("GET", "/", &[], b"")).await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.response(false).await.text(), "old");
    }
    wait_until("the refresh", async || origin.hits() == 2).await;
    door.add_permits(50);
    wait_until("the new answer", async || edge.get("/").await.text() == "new").await;
    assert_eq!(origin.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_clients_get_the_stale_answer_at_once_and_one_refresh_follows() {
    let door = gate();
    let origin = Origin::start(renewed("max-age=60, stale-while-revalidate=600", door.clone())).await;
    let dir = tempfile::tempdir().unwrap();
    let shop = Certificate::write(dir.path(), "shop", &["shop.test"]);
    let yaml = "
version: 1
server: { threads: 2, admin: { listen: \"127.0.0.1:0\" } }
listeners:
  web: { address: \"127.0.0.1:0\" }
  safe: { address: \"127.0.0.1:0\", tls: { certificates: [shop] } }
certificates: { shop: { cert: \"$DIR/shop.crt\", key: \"$DIR/shop.key\" } }
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 16MiB } } }
routes: [ { upstream: app, cache: true } ]
";
    let edge = Setup::bare(yaml).put("ORIGIN", origin.address).start_in(dir).await.unwrap();
    let client = H2::over(tls(edge.at("safe"), "shop.test", &[&shop], &["h2"]).await).await;
    let url = "https://shop.test/page?a=1";
    for _ in 0..5 {
        let answer = client.get(url).await;
        assert_eq!((answer.head.status.as_u16(), answer.body.as_slice()), (200, &b"old"[..]), "{:?}", answer.head);
    }
    wait_until("the refresh", async || origin.hits() == 2).await;
    let asked = origin.last();
    assert_eq!((asked.target.as_str(), asked.header("host"), asked.count("host")), ("/page?a=1", "shop.test", 1));
    assert_eq!((asked.header("x-forwarded-proto"), asked.header("if-none-match")), ("https", "\"1\""));
    door.add_permits(5);
    wait_until("the new answer", async || client.get(url).await.body == b"new").await;
    assert_eq!(origin.hits(), 2);
}

/// Stale at once with this `Cache-Control`; then the origin fails in this way.
fn failing(control: &'static str, how: &'static str) -> impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static {
    move |seen| match (seen.number, how) {
        (0, _) => reply(200, &[("cache-control", control), AGED, TAG], "old"),
        (_, "cut") => vec![Step::Cut],
        (_, "garbage") => vec![Step::Send(b"\x16\x03\x01\r\n\r\n".to_vec()), Step::Cut],
        (_, "half") => vec![Step::Send(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec()), Step::Cut],
        _ => reply(503, &[], "sorry"),
    }
}

async fn after_failure(cache: &str, control: &'static str, how: &'static str) -> Response {
    let (_, edge) = pair_with(cache, failing(control, how)).await;
    assert_eq!(edge.get("/").await.text(), "old");
    edge.get("/").await
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc5861_4_stale_if_error_by_the_origin_and_by_the_route() {
    for (cache, control) in [("true", "max-age=60, stale-if-error=600"), ("{ stale_if_error: 10m }", "max-age=60")] {
        for how in ["5xx", "cut", "garbage"] {
            let answer = after_failure(cache, control, how).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "old"), "{control} {how}");
            assert!(told(&answer).contains("detail=stale_if_error"), "{answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc5861_4_stale_if_error_by_the_script() {
    let origin = Origin::start(failing("max-age=60", "5xx")).await;
    let script =
        "fn on_origin_response(req, resp) { if resp.status == 200 { return next().stale_if_error(\"1h\"); } next() }";
    let edge = scripted(&origin, script).await;
    assert_eq!(edge.get("/").await.text(), "old");
    let answer = edge.get("/").await;
    assert_eq!((answer.status, answer.text().as_str(), origin.hits()), (200, "old", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_2_4_an_origin_out_of_reach_leaves_stale_for_a_minute() {
    for how in ["cut", "half"] {
        let answer = after_failure("true", "max-age=60", how).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "old"), "{how}");
        assert!(told(&answer).contains("detail=stale_if_unreachable"), "{answer:?}");
        assert_eq!(answer.header("connection"), "close", "the connection is closed after a failure, and says so");
    }
    let late = pair(|seen| match seen.number {
        0 => reply(200, &[("cache-control", "max-age=60"), ("age", "121"), TAG], "old"),
        _ => vec![Step::Cut],
    });
    let (_, edge) = late.await;
    edge.get("/").await;
    assert_eq!(edge.get("/").await.status, 502, "61 s after its end it is too old");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_2_4_an_origin_that_answers_is_not_out_of_reach() {
    assert_eq!(after_failure("true", "max-age=60", "5xx").await.status, 503);
    assert_eq!(after_failure("true", "max-age=60, stale-if-error=0", "garbage").await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_2_4_directives_that_forbid_it() {
    for control in [
        "max-age=60, must-revalidate",
        "max-age=60, proxy-revalidate",
        "max-age=60, s-maxage=60",
        "max-age=60, no-cache",
        "max-age=60, must-revalidate, stale-if-error=600",
    ] {
        let cache = "{ stale_while_revalidate: 10m, stale_if_error: 10m, stale_if_unreachable: 10m }";
        assert_eq!(after_failure(cache, control, "cut").await.status, 502, "{control}");
        assert_eq!(after_failure(cache, control, "5xx").await.status, 503, "{control}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_if_unreachable_can_be_switched_off() {
    assert_eq!(after_failure("{ stale_if_unreachable: 0s }", "max-age=60", "cut").await.status, 502);
    assert_eq!(after_failure("true", "max-age=60, stale-if-error=0", "cut").await.status, 502, "the origin's own word");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_5_2_1_4_a_client_that_wants_it_confirmed_gets_no_stale() {
    let (_, edge) = pair(failing("max-age=60, stale-if-error=600", "cut")).await;
    edge.get("/").await;
    let answer = edge.ask("GET", "/", &[("Cache-Control", "no-cache")], b"").await;
    assert_eq!(answer.status, 502);
    assert_eq!(edge.get("/").await.status, 200, "others do");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_2_4_nobody_listens_any_more() {
    let origin = Origin::start(failing("max-age=60", "cut")).await;
    let edge = gateway(&origin, "true").await;
    edge.get("/").await;
    let yaml = std::fs::read_to_string(edge.path("sluicegate.yaml")).unwrap();
    let before = edge.status().await;
    let gone = crate::harness::origin::nobody().to_string();
    edge.write("sluicegate.yaml", &yaml.replace(&origin.address.to_string(), &gone));
    crate::harness::client::post(edge.admin(), "/reload", &[], &serde_json::json!({})).await;
    edge.reloaded_since(&before).await;
    let answer = edge.get("/").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "old"));
    assert_eq!(edge.get("/other").await.status, 502);
}
