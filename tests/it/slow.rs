//! Clients that take their time: every wait has an end.

use crate::harness::client::Client;
use crate::harness::edge::{Edge, Setup};
use crate::harness::soon;
use std::time::{Duration, Instant};

async fn impatient() -> Edge {
    let yaml = "
version: 1
server: { threads: 2, header_timeout: 500ms, idle_timeout: 700ms, max_header_size: 8KiB, admin: { listen: \"127.0.0.1:0\" } }
listeners: { web: { address: \"127.0.0.1:0\" } }
routes: [ { respond: { body: ok } } ]
";
    Setup::bare(yaml).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_deadline_is_a_total_and_not_reset_by_each_byte() {
    let edge = impatient().await;
    let mut client = Client::connect(edge.web()).await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\nX-Slow: ").await;
    let started = Instant::now();
    // The slow client itself: a byte every 50 ms, for as long as it is let.
    while client.try_send("a").await && started.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(started.elapsed() < Duration::from_secs(4), "still open after {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed() {
    let edge = impatient().await;
    let mut client = Client::connect(edge.web()).await;
    client.send("GET / HT").await;
    let started = Instant::now();
    let last = soon("the close", client.rest()).await;
    assert!(started.elapsed() < Duration::from_secs(4), "closed after {:?}", started.elapsed());
    let last = String::from_utf8_lossy(&last).into_owned();
    assert!(last.is_empty() || last.contains(" 408 "), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_keep_alive_connection_is_closed() {
    let edge = impatient().await;
    let mut client = Client::connect(edge.web()).await;
    for _ in 0..2 {
        assert_eq!(client.ask("GET", "/", &[], b"").await.text(), "ok");
    }
    let started = Instant::now();
    assert!(soon("the close", client.rest()).await.is_empty());
    assert!((300..4000).contains(&started.elapsed().as_millis()), "closed after {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_header_on_a_used_connection_is_cut_too() {
    let edge = impatient().await;
    let mut client = Client::connect(edge.web()).await;
    assert_eq!(client.ask("GET", "/", &[], b"").await.text(), "ok");
    client.send("GET / HTTP/1.1\r\nHo").await;
    let started = Instant::now();
    soon("the close", client.rest()).await;
    assert!(started.elapsed() < Duration::from_secs(4), "closed after {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_block_over_the_limit_is_answered_431() {
    let edge = impatient().await;
    let answer = edge.ask("GET", "/", &[("X-Big", &"x".repeat(9_000))], b"").await;
    assert_eq!(answer.status, 431, "{answer:?}");
    assert_eq!(edge.ask("GET", "/", &[("X-Big", &"x".repeat(4_000))], b"").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_parsers_read_differently_are_refused() {
    let edge = impatient().await;
    for (what, bytes) in [
        ("no Host", "GET / HTTP/1.1\r\n\r\n"),
        ("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("a Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        (
            "length and chunks",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        ("a signed length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello"),
        ("space before colon", "GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n"),
        ("a folded line", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n"),
        ("no request at all", "hello\r\n\r\n"),
    ] {
        let mut client = Client::connect(edge.web()).await;
        client.send(bytes).await;
        let answer = client.try_response(false).await;
        assert!(answer.as_ref().is_none_or(|a| (400..500).contains(&a.status)), "{what}: {answer:?}");
    }
    assert_eq!(edge.get("/").await.status, 200);
}
