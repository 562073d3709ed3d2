//! How long an answer is fresh (RFC 9111 §4.2, §5.3; RFC 9213) and how old it is (§4.2.3, §5.1).

use super::{is_reused, is_reused_with, pair, pair_with};
use crate::harness::origin::reply;
use std::time::{Duration, SystemTime};

fn date(secs_from_now: i64) -> String {
    let by = Duration::from_secs(secs_from_now.unsigned_abs());
    let now = SystemTime::now();
    httpdate::fmt_http_date(if secs_from_now < 0 { now - by } else { now + by })
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_5_2_2_1_max_age_makes_fresh() {
    assert!(is_reused(200, "cache-control: max-age=60").await);
    assert!(!is_reused(200, "cache-control: max-age=0").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_5_2_2_10_s_maxage_beats_max_age_and_expires() {
    assert!(is_reused(200, "cache-control: max-age=0, s-maxage=60\nexpires: 0").await);
    assert!(!is_reused(200, "cache-control: max-age=60, s-maxage=0").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_5_3_max_age_beats_expires() {
    assert!(is_reused(200, "cache-control: max-age=60\nexpires: Thu, 01 Jan 1998 00:00:00 GMT").await);
    assert!(!is_reused(200, "cache-control: max-age=0\nexpires: Thu, 18 Aug 2050 02:01:18 GMT").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_5_3_expires_counts_from_date_and_nonsense_is_the_past() {
    assert!(is_reused(200, "expires: Thu, 18 Aug 2050 02:01:18 GMT").await);
    assert!(!is_reused(200, "expires: 0").await);
    assert!(!is_reused(200, "expires: Thu, 18 Aug 2050 02:01:18 AEST").await);
    let (origin, edge) = pair(|_| {
        let (date, expires) = (date(400), date(300));
        reply(200, &[("date", date.as_str()), ("expires", expires.as_str())], "ahead of its time")
    })
    .await;
    edge.get("/").await;
    edge.get("/").await;
    assert_eq!(origin.hits(), 2, "it had expired when it was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_2_dates_of_every_form_and_letter_case() {
    for expires in [
        "expires: Thursday, 18-Aug-50 02:01:18 GMT",
        "expires: Thu Aug 18 02:01:18 2050",
        "expires: Thu Aug  8 02:01:18 2050",
        "expires: THU, 18 AUG 2050 02:01:18 gmt",
    ] {
        assert!(is_reused(200, expires).await, "{expires}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9213_2_2_cdn_cache_control_beats_cache_control() {
    assert!(is_reused(200, "cdn-cache-control: max-age=60\ncache-control: no-store\nexpires: 0").await);
    assert!(!is_reused(200, "cdn-cache-control: no-store\ncache-control: max-age=60").await);
    assert!(is_reused(200, "cdn-cache-control: MAX-AGE=\ncache-control: max-age=60").await, "unreadable: ignored");
}

#[tokio::test(flavor = "multi_thread")]
async fn surrogate_control_comes_between_the_two() {
    assert!(is_reused(200, "surrogate-control: max-age=60\ncache-control: no-store, max-age=0").await);
    assert!(!is_reused(200, "surrogate-control: no-store\ncache-control: max-age=60").await);
    assert!(!is_reused(200, "surrogate-control: max-age=60\ncdn-cache-control: no-store").await);
    assert!(is_reused(200, "surrogate-control: content=\"ESI/1.0\"\ncache-control: max-age=60").await);
    assert!(!is_reused(200, "surrogate-control: max-age=60;other\ncache-control: no-store").await, "for somebody else");
    assert!(is_reused(200, "surrogate-control: max-age=0+60\ncache-control: no-store").await, "stale while refreshed");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_2_2_heuristic_freshness_is_a_tenth() {
    let old = "last-modified: Thu, 01 Jan 1998 00:00:00 GMT";
    assert!(is_reused(200, old).await);
    assert!(is_reused(404, old).await);
    assert!(!is_reused(200, "x: nothing at all").await);
    let (origin, edge) = pair(|_| {
        let modified = date(-3);
        reply(200, &[("last-modified", modified.as_str()), ("date", date(0).as_str())], "new")
    })
    .await;
    let first = edge.get("/").await;
    assert!(super::told(&first).contains("; ttl="), "{first:?}");
    crate::harness::wait_until("its third of a second to pass", async || {
        edge.get("/").await;
        origin.hits() >= 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_2_2_statuses_without_heuristics() {
    let old = "last-modified: Thu, 01 Jan 1998 00:00:00 GMT";
    for status in [201, 202, 302, 307, 403, 405, 414, 500, 501, 502, 503] {
        assert!(!is_reused(status, old).await, "{status}");
    }
    assert!(is_reused(599, "last-modified: Thu, 01 Jan 1998 00:00:00 GMT\ncache-control: public").await, "§5.2.2.9");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_5_1_age_of_the_way_here_counts() {
    assert!(!is_reused(200, "cache-control: max-age=60\nage: 60").await);
    assert!(is_reused(200, "cache-control: max-age=60\nage: 50").await);
    let (_, edge) = pair(|_| reply(200, &[("cache-control", "max-age=60"), ("age", "50")], "x")).await;
    edge.get("/").await;
    let hit = edge.get("/").await;
    assert!((50..60).contains(&hit.header("age").parse::<u64>().unwrap()), "{hit:?}");
    assert_eq!(hit.count("age"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_2_3_apparent_age_from_date() {
    let (origin, edge) = pair(|seen| {
        let made = date(-50);
        let age = if seen.target == "/old" { "max-age=40" } else { "max-age=60" };
        reply(200, &[("cache-control", age), ("date", made.as_str())], "x")
    })
    .await;
    for target in ["/old", "/old", "/good", "/good"] {
        edge.get(target).await;
    }
    assert_eq!(origin.hits(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_5_2_1_what_requests_ask() {
    let (origin, edge) =
        pair(|_| reply(200, &[("cache-control", "max-age=60"), ("age", "30"), ("etag", "\"1\"")], "x")).await;
    edge.get("/").await;
    let mut asked = 1;
    for (directive, goes_on) in [
        ("max-age=40", false),
        ("max-age=10", true),
        ("max-age=0", true),
        ("min-fresh=10", false),
        ("min-fresh=40", true),
        ("no-cache", true),
        ("max-stale", false),
        ("only-if-cached", false),
    ] {
        let answer = edge.ask("GET", "/", &[("Cache-Control", directive)], b"").await;
        asked += usize::from(goes_on);
        assert_eq!((answer.status, origin.hits()), (200, asked), "{directive}");
    }
    let answer = edge.ask("GET", "/", &[("Pragma", "no-cache")], b"").await;
    assert_eq!((answer.status, origin.hits()), (200, asked + 1), "§5.4");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_5_2_1_2_max_stale_takes_stale_unless_forbidden() {
    let (origin, edge) = pair(|seen| {
        let more = if seen.target == "/firm" { "max-age=60, must-revalidate" } else { "max-age=60" };
        reply(200, &[("cache-control", more), ("age", "70"), ("etag", "\"1\"")], "x")
    })
    .await;
    for (target, asks, hits) in
        [("/", "max-stale", 1), ("/", "max-stale=60", 1), ("/", "max-stale=5", 2), ("/firm", "max-stale", 4)]
    {
        if origin.hits() == 0 || target == "/firm" {
            edge.get(target).await;
        }
        let answer = edge.ask("GET", target, &[("Cache-Control", asks)], b"").await;
        assert_eq!((answer.status, origin.hits()), (200, hits), "{target} {asks}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_5_2_1_7_only_if_cached_is_504_without_an_object() {
    let (origin, edge) = pair(|_| reply(200, &[("cache-control", "max-age=60")], "x")).await;
    let answer = edge.ask("GET", "/", &[("Cache-Control", "only-if-cached")], b"").await;
    assert_eq!((answer.status, origin.hits()), (504, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_5_2_1_5_a_request_with_no_store_leaves_nothing() {
    assert!(!is_reused_with(200, "cache-control: max-age=60", &[("Cache-Control", "no-store")]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_routes_own_lifetime_replaces_the_origins() {
    let (origin, edge) = pair_with("{ ttl: { default: 5m, \"404\": 30s } }", |seen| match seen.target.as_str() {
        "/gone" => reply(404, &[], "no"),
        "/private" => reply(200, &[("cache-control", "private")], "no"),
        _ => reply(200, &[("cache-control", "max-age=0"), ("age", "100")], "x"),
    })
    .await;
    for target in ["/", "/", "/gone", "/gone", "/private", "/private"] {
        edge.get(target).await;
    }
    assert_eq!(origin.hits(), 4, "but what may not be shared is not");
}
