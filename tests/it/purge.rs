//! Purges over the admin port: by URL, prefix, host, tag and all, hard and soft; and that nothing older than a purge is
//! served after it.

use crate::harness::client::{Client, Response, ask, get_host, post};
use crate::harness::edge::{Edge, Setup};
use crate::harness::origin::{Origin, Step, chunk, chunked, gate, reply};
use crate::harness::wait_until;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub const CACHING: &str = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 32MiB } } }
routes: [ { upstream: app, cache: $CACHE } ]
";

pub async fn edge(origin: &Origin, cache: &str) -> Edge {
    Setup::new(CACHING).put("ORIGIN", origin.address).put("CACHE", cache).start().await
}

/// Every answer storable, with the number of the request as its body, an ETag, and as tags the parts of the path.
pub async fn numbered() -> Origin {
    Origin::start(|seen| {
        let tags = seen.target.trim_start_matches('/').replace('/', " ");
        let fields = [("cache-control", "max-age=600"), ("etag", "\"1\""), ("surrogate-key", tags.as_str())];
        if seen.header("if-none-match") == "\"1\"" {
            return reply(304, &[("cache-control", "max-age=600"), ("etag", "\"1\"")], "");
        }
        reply(200, &fields, seen.number.to_string())
    })
    .await
}

pub async fn purge(edge: &Edge, body: Value) -> Response {
    post(edge.admin(), "/purge", &[], &body).await
}

pub async fn from(edge: &Edge, host: &str, target: &str) -> String {
    get_host(edge.web(), host, target).await.source().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_hard_and_soft_concerns_what_it_names() {
    let origin = numbered().await;
    let edge = edge(&origin, "true").await;
    let pages = [("a.test", "/x/1"), ("a.test", "/x/2"), ("a.test", "/y/1"), ("b.test", "/x/1")];
    let kinds = [
        (json!({ "url": "http://a.test/x/1" }), vec![0]),
        (json!({ "prefix": "http://a.test/x/" }), vec![0, 1]),
        (json!({ "prefix": "a.test/x/" }), vec![0, 1]),
        (json!({ "prefix": "https://a.test/x/" }), vec![]),
        (json!({ "host": "a.test" }), vec![0, 1, 2]),
        (json!({ "tag": "x" }), vec![0, 1, 3]),
        (json!({ "tags": ["y", "2"] }), vec![1, 2]),
        (json!({ "all": true, "store": "main" }), vec![0, 1, 2, 3]),
    ];
    for soft in [false, true] {
        for (wish, concerned) in &kinds {
            for (host, target) in pages {
                get_host(edge.web(), host, target).await;
                assert_eq!(from(&edge, host, target).await, "http_cache");
            }
            let (mut wish, asked) = (wish.clone(), origin.hits());
            wish["soft"] = json!(soft);
            let answer = purge(&edge, wish.clone()).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(answer.json()["stores"]["main"]["generation"].as_u64() > Some(1), "{}", answer.text());
            for (i, (host, target)) in pages.into_iter().enumerate() {
                let answer = get_host(edge.web(), host, target).await;
                let fresh = answer.header("cache-status").contains("; hit");
                assert_eq!(fresh, !concerned.contains(&i), "{wish} on {host}{target}: {answer:?}");
                // What was purged softly is still there, so the origin is only asked whether it is good.
                assert!(answer.text().parse::<usize>().is_ok() && answer.count("surrogate-key") == 0, "{answer:?}");
            }
            let seen = origin.seen().split_off(asked);
            assert_eq!(seen.len(), concerned.len());
            assert!(seen.iter().all(|s| (s.header("if-none-match") == "\"1\"") == soft), "{wish}");
        }
    }
    assert_eq!(
        edge.metric("sluicegate_purges_total", &["kind=\"prefix\"", "by=\"admin\"", "result=\"ok\""]).await,
        6.0
    );
    assert!(edge.metric("sluicegate_purge_rules", &["cache=\"main\""]).await > 5.0);
    assert!(edge.status().await["http_caches"]["main"]["purge"]["generation"].as_u64() > Some(16));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_carried_out_whole_or_not_at_all() {
    let origin = numbered().await;
    let edge = edge(&origin, "true").await;
    get_host(edge.web(), "a.test", "/x").await;
    let bad = [
        (json!({ "purges": [{ "tag": "x" }, { "url": "/x" }] }), "purges[1]: \"/x\" is not a URL"),
        (json!({ "purges": [{ "tag": "x" }, { "tag": "x", "host": "a" }] }), "purges[1]: give exactly one"),
        (json!({ "purges": [{ "tag": "x", "sotf": true }] }), "purges[0]: unknown field `sotf`"),
        (json!({ "purges": [{ "tag": "x", "store": "man" }] }), "did you mean \"main\"?"),
        (json!({ "purges": [{ "tag": "x" }], "soft": true }), "unknown field `soft`"),
        (json!({ "purges": [] }), "1 to 1000 entries"),
        (json!({ "purges": vec![json!({ "tag": "x" }); 1001] }), "1 to 1000 entries, not 1001"),
        (json!({ "all": false }), "only true"),
        (json!({ "tags": [] }), "at least one"),
        (json!({ "host": "a.test:80" }), "not a host"),
        (json!({ "prefix": "a.test/?q" }), "not a prefix"),
        (json!({ "tag": "a b" }), "not a tag"),
    ];
    for (body, said) in bad {
        let answer = purge(&edge, body.clone()).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.json()["error"].as_str().unwrap().contains(said), "{body}: {}", answer.text());
    }
    let twice = ask(edge.admin(), "POST", "/purge", &[], br#"{"tag":"x","tag":"y"}"#).await;
    assert!(twice.status == 400 && twice.text().contains("twice"), "{}", twice.text());
    assert_eq!(from(&edge, "a.test", "/x").await, "http_cache", "nothing of a refused batch was purged");
    let batch: Vec<Value> =
        (0..999).map(|i| json!({ "tag": format!("t{i}") })).chain([json!({ "tag": "x" })]).collect();
    let answer = purge(&edge, json!({ "purges": batch })).await;
    assert_eq!(answer.json()["purged"]["tag"], 1000, "{}", answer.text());
    assert_eq!(from(&edge, "a.test", "/x").await, "origin");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_purge_lets_stale_answers_help_and_a_hard_one_does_not() {
    let up = Arc::new(AtomicBool::new(true));
    let works = Arc::clone(&up);
    let origin = Origin::start(move |seen| {
        let status = if works.load(Ordering::SeqCst) { 200 } else { 500 };
        reply(status, &[("cache-control", "max-age=600"), ("cache-tag", "t, u")], seen.number.to_string())
    })
    .await;
    let edge = edge(&origin, "{ stale_if_error: 1h }").await;
    edge.get("/").await;
    up.store(false, Ordering::SeqCst);
    purge(&edge, json!({ "tag": "t", "soft": true })).await;
    let answer = edge.get("/").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "0"), "{answer:?}");
    purge(&edge, json!({ "tag": "u" })).await;
    assert_eq!(edge.get("/").await.status, 500, "void is void, even when the origin fails");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_purge_while_the_origin_is_asked_forbids_the_stale_answer_too() {
    let door = gate();
    let held = door.clone();
    let origin = Origin::start(move |seen| match seen.number {
        0 => reply(200, &[("cache-control", "max-age=600"), ("cache-tag", "t")], "old"),
        _ => [vec![Step::Wait(held.clone())], reply(500, &[], "broken")].concat(),
    })
    .await;
    let edge = edge(&origin, "{ stale_if_error: 1h }").await;
    edge.get("/").await;
    purge(&edge, json!({ "tag": "t", "soft": true })).await;
    let web = edge.web();
    let waiting = tokio::spawn(async move { get_host(web, "test", "/").await });
    wait_until("the origin is asked", async || origin.hits() == 2).await;
    purge(&edge, json!({ "tag": "t" })).await;
    door.add_permits(1);
    assert_eq!(waiting.await.unwrap().status, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_while_revalidate_serves_what_was_purged_softly_once_more() {
    let origin = numbered().await;
    let edge = edge(&origin, "{ stale_while_revalidate: 1h }").await;
    edge.get("/t").await;
    purge(&edge, json!({ "tag": "t", "soft": true })).await;
    let answer = edge.get("/t").await;
    assert_eq!((answer.source(), answer.text().as_str()), ("http_cache", "0"), "{answer:?}");
    wait_until("the refresh", async || edge.get("/t").await.header("cache-status").contains("; hit")).await;
    assert_eq!(origin.hits(), 2);
    // A 304 without tags left those that were there.
    purge(&edge, json!({ "tag": "t" })).await;
    assert_eq!(edge.get("/t").await.source(), "origin");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_in_flight_from_before_a_purge_is_neither_followed_nor_stored() {
    let door = gate();
    let held = door.clone();
    let origin = Origin::start(move |seen| {
        let fields = [("cache-control", "max-age=600"), ("surrogate-key", "t")];
        match seen.number {
            0 => vec![chunked(200, &fields), chunk("old "), Step::Wait(held.clone()), chunk("old"), chunk("")],
            _ => reply(200, &fields, "new"),
        }
    })
    .await;
    let edge = edge(&origin, "true").await;
    let mut early = Client::connect(edge.web()).await;
    early.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    early.head().await.unwrap();
    assert_eq!(early.chunk().await.unwrap(), b"old ");
    purge(&edge, json!({ "tag": "t" })).await;
    assert_eq!(edge.get("/").await.text(), "new");
    door.add_permits(1);
    assert_eq!(early.chunk().await.unwrap(), b"old", "who came before goes on to the end");
    assert!(early.chunk().await.unwrap().is_empty());
    let answer = edge.get("/").await;
    assert_eq!((answer.text().as_str(), answer.source()), ("new", "http_cache"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_4_an_answer_asked_for_before_a_post_is_not_stored_after_it() {
    let door = gate();
    let held = door.clone();
    let origin = Origin::start(move |seen| match (seen.method.as_str(), seen.number) {
        ("GET", 0) => [vec![Step::Wait(held.clone())], reply(200, &[("cache-control", "max-age=600")], "old")].concat(),
        _ => reply(200, &[("cache-control", "max-age=600")], "new"),
    })
    .await;
    let edge = edge(&origin, "true").await;
    let web = edge.web();
    let early = tokio::spawn(async move { get_host(web, "test", "/").await });
    wait_until("the origin is asked", async || origin.hits() == 1).await;
    assert_eq!(edge.ask("POST", "/", &[], b"x").await.status, 200);
    door.add_permits(1);
    assert_eq!(early.await.unwrap().text(), "old");
    assert_eq!(edge.get("/").await.text(), "new");
    assert_eq!(edge.metric("sluicegate_purges_total", &["by=\"unsafe_method\""]).await, 1.0);
}

/// Answers with the version at the time it was asked, often slowly: fills that a purge overtakes.
async fn versioned(version: &Arc<AtomicU64>) -> Origin {
    let stamp = Arc::clone(version);
    Origin::start(move |seen| {
        let fields = [("cache-control", "max-age=600"), ("cache-tag", "news"), ("vary", "x-arm")];
        let stamp = stamp.load(Ordering::SeqCst).to_string();
        let pause = Step::Pause(Duration::from_millis(4));
        match seen.number % 3 {
            0 => reply(200, &fields, stamp),
            1 => [vec![pause], reply(200, &fields, stamp)].concat(),
            _ => vec![chunked(200, &fields), pause.clone(), chunk(stamp), pause, chunk("")],
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_nothing_stored_before_a_purge_is_served_after_it() {
    let version = Arc::new(AtomicU64::new(0));
    let origin = versioned(&version).await;
    let edge = Arc::new(edge(&origin, "true").await);
    let floor = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let hits = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..12)
        .map(|n| {
            let (web, floor, stop, hits) = (edge.web(), Arc::clone(&floor), Arc::clone(&stop), Arc::clone(&hits));
            tokio::spawn(async move {
                let mut client = Client::connect(web).await;
                let mut all = 0;
                while !stop.load(Ordering::SeqCst) {
                    let least = floor.load(Ordering::SeqCst);
                    let target = format!("/p/{}", (n + all) % 3);
                    let arm = if all % 2 == 0 { "red" } else { "blue" };
                    let answer = client.ask("GET", &target, &[("X-Arm", arm)], b"").await;
                    let got: u64 = answer.text().parse().unwrap();
                    assert!(got >= least, "{got} served after the purge of everything before {least}: {answer:?}");
                    all += 1;
                    hits.fetch_add(u64::from(answer.source() == "http_cache"), Ordering::SeqCst);
                }
            })
        })
        .collect();
    for round in 1..=60_u64 {
        let (asked, served) = (origin.hits(), hits.load(Ordering::SeqCst));
        version.store(round, Ordering::SeqCst);
        let soft = round % 2 == 0;
        let wish = match round % 5 {
            0 => json!({ "all": true, "soft": soft }),
            1 => json!({ "tag": "news", "soft": soft }),
            2 => json!({ "prefix": "test/p/", "soft": soft }),
            3 => json!({ "host": "test", "soft": soft }),
            _ => {
                let urls = (0..3).map(|i| json!({ "url": format!("http://test/p/{i}"), "soft": soft }));
                json!({ "purges": urls.collect::<Vec<_>>() })
            }
        };
        assert_eq!(purge(&edge, wish).await.status, 200);
        floor.store(round, Ordering::SeqCst);
        wait_until("every page is fetched again, and served from the cache", async || {
            origin.hits() >= asked + 3 && hits.load(Ordering::SeqCst) >= served + 20
        })
        .await;
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
}
