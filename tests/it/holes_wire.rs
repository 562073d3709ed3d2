//! Faults on the wire that were found in review, each shut for good.

use crate::harness::client::{Client, request};
use crate::harness::edge::{Edge, Setup};
use crate::harness::origin::{Origin, Step, chunk, chunked, gate, reply};
use crate::harness::wait_until;

const PLAIN: &str = "
server: { trusted_proxies: [127.0.0.0/8], threads: 2, grace_period: 100ms, io_timeout: 1s, admin: { listen: \"127.0.0.1:0\" } }
version: 1
listeners: { web: { address: \"127.0.0.1:0\" } }
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 32MiB } } }
routes:
  - { match: { path: /cached/* }, upstream: app, cache: { share: once, lock_timeout: 60s } }
  - { match: { path: /old/* }, redirect: { to: \"/new/{path}\", status: 301 } }
  - { upstream: app }
";

async fn edge(origin: &Origin) -> Edge {
    Setup::bare(PLAIN).put("ORIGIN", origin.address).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9112_6_1_a_client_of_http10_gets_no_chunks() {
    let origin = Origin::start(|_| {
        vec![chunked(200, &[("cache-control", "max-age=60")]), chunk("one "), chunk("two"), chunk("")]
    })
    .await;
    let edge = edge(&origin).await;
    for target in ["/plain", "/cached/first", "/cached/first"] {
        let mut client = Client::connect(edge.web()).await;
        client.send(format!("GET {target} HTTP/1.0\r\nHost: a.test\r\nConnection: close\r\n\r\n")).await;
        let text = String::from_utf8(client.rest().await).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
        assert_eq!(body, "one two", "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_cannot_erase_what_the_proxy_before_us_says_about_it() {
    let origin = Origin::fixed("x").await;
    let edge = edge(&origin).await;
    for name in ["X-Forwarded-For", "x-forwarded-proto", "Forwarded", "X-Request-Id"] {
        let connection = format!("keep-alive, {name}");
        let fields = [("connection", connection.as_str()), ("x-forwarded-for", "203.0.113.7")];
        assert_eq!(edge.ask("GET", "/", &fields, b"").await.status, 400, "{name}");
    }
    assert_eq!(origin.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_no_headers_is_left() {
    let origin = Origin::fixed("x").await;
    let edge = edge(&origin).await;
    let mut client = Client::connect(edge.web()).await;
    let one = request("GET", &format!("/old/{}", "x".repeat(8000)), &[], b"");
    // Answers without bodies pile up until the connection takes no more; then the client is given up, not waited for.
    wait_until("the gateway to leave", async || !client.try_send(&one).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_gets_is_not_shared_with_those_who_wait() {
    let door = gate();
    let behind = door.clone();
    let origin = Origin::start(move |seen| {
        let mut steps = vec![Step::Wait(behind.clone())];
        steps.extend(reply(
            200,
            &[("cache-control", "max-age=0"), ("content-type", "image/png")],
            seen.header("cookie"),
        ));
        steps
    })
    .await;
    let edge = edge(&origin).await;
    let mut clients = Vec::new();
    for who in ["sid=a", "sid=b"] {
        let mut client = Client::connect(edge.web()).await;
        client.send(request("GET", "/cached/avatar", &[("cookie", who)], b"")).await;
        clients.push((who, client));
        wait_until("it to be looked for", async || edge.metric("sluicegate_cache_misses", &[]).await >= 1.0).await;
    }
    wait_until("both to be looked for", async || edge.metric("sluicegate_cache_misses", &[]).await >= 2.0).await;
    door.add_permits(2);
    for (who, client) in &mut clients {
        assert_eq!(client.response(false).await.text(), *who);
    }
}
