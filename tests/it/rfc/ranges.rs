//! Ranges cut from whole objects (RFC 9110 §14, RFC 9111 §3.3, §3.4).

use super::{pair, told};
use crate::harness::client::Response;
use crate::harness::edge::Edge;
use crate::harness::origin::{Origin, chunk, chunked, reply};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

async fn digits() -> (Origin, Edge) {
    let both = pair(|_| reply(200, &[FRESH, ("etag", "\"v1\""), ("content-type", "text/plain")], "0123456789")).await;
    both.1.get("/").await;
    both
}

async fn range(edge: &Edge, range: &str) -> Response {
    edge.ask("GET", "/", &[("Range", range)], b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_14_1_2_single_open_and_suffix_ranges() {
    let (origin, edge) = digits().await;
    for (asked, part, body) in [
        ("bytes=2-4", "bytes 2-4/10", "234"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=-2", "bytes 8-9/10", "89"),
        ("bytes=-20", "bytes 0-9/10", "0123456789"),
        ("bytes=9-99", "bytes 9-9/10", "9"),
    ] {
        let answer = range(&edge, asked).await;
        assert_eq!(
            (answer.status, answer.header("content-range"), answer.text().as_str()),
            (206, part, body),
            "{asked}"
        );
        assert_eq!(
            (answer.header("etag"), answer.header("content-type"), answer.source()),
            ("\"v1\"", "text/plain", "http_cache")
        );
    }
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_14_6_several_ranges_are_multipart() {
    let (_, edge) = digits().await;
    let answer = range(&edge, "bytes=0-1, 4-5,-1").await;
    let boundary = answer.header("content-type").split("multipart/byteranges; boundary=").nth(1).unwrap().to_owned();
    let part = |range: &str, body: &str| {
        format!("\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {range}/10\r\n\r\n{body}")
    };
    let whole = [part("0-1", "01"), part("4-5", "45"), part("9-9", "9"), format!("\r\n--{boundary}--\r\n")].concat();
    assert_eq!((answer.status, answer.count("content-range")), (206, 0));
    assert_eq!((answer.complete, answer.text()), (true, whole));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_14_6_multipart_over_many_chunks() {
    let body: Vec<u8> = (0..900_000u32).map(|i| (i % 251) as u8).collect();
    let sent = body.clone();
    let (_, edge) = pair(move |_| reply(200, &[FRESH], &sent)).await;
    edge.get("/").await;
    let answer = range(&edge, "bytes=0-9,262140-262150,899990-").await;
    assert_eq!((answer.status, answer.complete), (206, true));
    for part in [&body[0..10], &body[262_140..262_151], &body[899_990..]] {
        assert!(answer.body.windows(part.len()).any(|w| w == part));
    }
    assert!(answer.body.len() < 1000, "{}", answer.body.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_15_5_17_a_range_past_the_end_is_416() {
    let (_, edge) = digits().await;
    for asked in ["bytes=10-", "bytes=20-30", "bytes=-0", "bytes=10-11,12-"] {
        let answer = range(&edge, asked).await;
        assert_eq!((answer.status, answer.header("content-range")), (416, "bytes */10"), "{asked}");
        assert!(answer.body.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suffix_of_an_empty_body_was_no_sound_range() {
    let (_, edge) = pair(|_| reply(200, &[FRESH], "")).await;
    edge.get("/").await;
    let answer = range(&edge, "bytes=-5").await;
    assert_eq!((answer.status, answer.header("content-range")), (416, "bytes */0"));
    assert_eq!(edge.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_14_2_what_is_no_range_is_answered_whole() {
    let (_, edge) = digits().await;
    for asked in ["bytes=5-1", "lines=0-1", "bytes=", "bytes=a-b", "bytes=0-1;2-3"] {
        let answer = range(&edge, asked).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "0123456789"), "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_17_15_overlapping_or_too_many_ranges_get_the_whole() {
    let (_, edge) = digits().await;
    let many = format!("bytes={}", vec!["0-0"; 300].join(","));
    for asked in ["bytes=0-5,3-8", "bytes=5-6,0-1", "bytes=0-,-10", &many] {
        assert_eq!(range(&edge, asked).await.status, 200, "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_13_1_5_if_range_keeps_or_drops_the_range() {
    let (origin, edge) = digits().await;
    for (condition, status) in
        [("\"v1\"", 206), ("\"v2\"", 200), ("W/\"v1\"", 200), ("Sun, 06 Nov 1994 08:49:37 GMT", 200)]
    {
        let answer = edge.ask("GET", "/", &[("Range", "bytes=0-1"), ("If-Range", condition)], b"").await;
        assert_eq!(answer.status, status, "{condition}");
    }
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_13_2_2_conditions_come_before_ranges() {
    let (_, edge) = digits().await;
    let answer = edge.ask("GET", "/", &[("Range", "bytes=0-1"), ("If-None-Match", "\"v1\"")], b"").await;
    assert_eq!(answer.status, 304);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_14_2_head_has_no_ranges() {
    let (_, edge) = digits().await;
    let answer = edge.ask("HEAD", "/", &[("Range", "bytes=0-1")], b"").await;
    assert_eq!((answer.status, answer.header("content-length")), (200, "10"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_3_3_a_missed_range_is_fetched_whole_and_stored() {
    let (origin, edge) = pair(|seen| {
        assert!(seen.header("range").is_empty());
        reply(200, &[FRESH], "0123456789")
    })
    .await;
    let first = range(&edge, "bytes=3-4").await;
    assert_eq!((first.status, first.text().as_str(), first.source()), (206, "34", "origin"));
    assert!(told(&first).contains("stored"), "{first:?}");
    assert_eq!(range(&edge, "bytes=0-0,9-9").await.status, 206);
    assert_eq!(edge.get("/").await.text(), "0123456789");
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_14_a_body_of_unknown_length_has_ranges_once_it_is_whole() {
    let (origin, edge) = pair(|_| vec![chunked(200, &[FRESH]), chunk("01234"), chunk("56789"), chunk("")]).await;
    assert_eq!(range(&edge, "bytes=3-4").await.status, 200, "its end is not known yet");
    let hit = range(&edge, "bytes=3-6").await;
    assert_eq!((hit.status, hit.text().as_str(), hit.header("content-range")), (206, "3456", "bytes 3-6/10"));
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_14_only_a_200_has_ranges() {
    let (_, edge) = pair(|_| reply(404, &[FRESH], "0123456789")).await;
    edge.get("/").await;
    assert_eq!(range(&edge, "bytes=0-1").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_a_stale_object_is_cut_after_it_was_validated() {
    let (origin, edge) = pair(|seen| match seen.number {
        0 => reply(200, &[FRESH, ("age", "61"), ("etag", "\"v1\"")], "0123456789"),
        _ => reply(304, &[FRESH, ("etag", "\"v1\"")], ""),
    })
    .await;
    edge.get("/").await;
    for asked in ["bytes=2-3", "bytes=0-0,5-6"] {
        assert_eq!(range(&edge, asked).await.status, 206, "{asked}");
    }
    assert_eq!(origin.hits(), 2);
}
