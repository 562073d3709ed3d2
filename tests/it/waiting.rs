//! Requests that wait for one another: `share: once`, and URLs for which nobody waits.

use crate::harness::client::{Client, Response, request};
use crate::harness::edge::{Edge, Setup};
use crate::harness::origin::{Gate, Origin, Step, gate, reply};
use crate::harness::wait_until;
use std::collections::BTreeSet;

/// Nobody may get away by giving up: the lock outlasts the test's patience.
const CACHED: &str = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 32MiB } } }
routes: [ { upstream: app, cache: { lock_timeout: 60s, $MORE } } ]
";

async fn caching(origin: &Origin, more: &str) -> Edge {
    Setup::new(CACHED).put("ORIGIN", origin.address).put("MORE", more).start().await
}

/// An origin behind a door; each answer has its own number.
async fn slow(door: &Gate, fields: &'static [(&'static str, &'static str)]) -> Origin {
    let door = door.clone();
    Origin::start(move |seen| {
        let mut steps = vec![Step::Wait(door.clone())];
        if fields.iter().any(|(_, v)| *v == "\"v\"") && seen.header("if-none-match") == "\"v\"" {
            steps.extend(reply(304, fields, ""));
        } else {
            steps.extend(reply(200, fields, format!("answer {}", seen.number)));
        }
        steps
    })
    .await
}

/// `n` clients that have all sent the same request.
async fn crowd(edge: &Edge, n: usize, target: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..n {
        let mut client = Client::connect(edge.web()).await;
        client.send(request("GET", target, &[], b"")).await;
        clients.push(client);
    }
    clients
}

/// Until `n` look-ups have found nothing to use: then all but the first wait.
async fn looked_up(edge: &Edge, n: f64) {
    let lookups =
        async || edge.metric("sluicegate_cache_misses", &[]).await + edge.metric("sluicegate_cache_hits", &[]).await;
    wait_until("all to have looked", async || lookups().await >= n).await;
}

async fn answers(clients: &mut [Client]) -> Vec<Response> {
    let mut out = Vec::new();
    for client in clients {
        out.push(client.response(false).await);
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn share_once_gives_one_answer_of_no_lifetime_to_all_who_waited() {
    for control in [
        &[("cache-control", "max-age=0")][..],
        &[("cache-control", "s-maxage=0")],
        &[("cache-control", "no-cache")],
        &[("cache-control", "max-age=0"), ("etag", "\"v\"")],
    ] {
        let door = gate();
        let origin = slow(&door, control).await;
        let edge = caching(&origin, "share: once").await;
        let mut clients = crowd(&edge, 100, "/hot").await;
        looked_up(&edge, 100.0).await;
        door.add_permits(100);
        let all = answers(&mut clients).await;
        assert!(all.iter().all(|a| a.text() == "answer 0"), "{control:?}: {all:?}");
        assert_eq!(origin.hits(), 1, "{control:?}");
        let shared = "sluicegate; fwd=uri-miss; collapsed; detail=share_once";
        assert_eq!(all.iter().filter(|a| a.header("cache-status") == shared).count(), 99, "{control:?}: {all:?}");
        // It is for them alone: who comes later asks the origin, whatever he would put up with.
        let later = edge.ask("GET", "/hot", &[("Cache-Control", "max-stale=100")], b"").await;
        if control.len() == 1 {
            assert_eq!((later.text().as_str(), later.source()), ("answer 1", "origin"), "{control:?}");
        }
        edge.get("/hot").await;
        assert!(origin.hits() >= 2, "{control:?}");
        let counted = async || edge.metric("sluicegate_reasons_total", &["reason=\"share_once\""]).await;
        wait_until("all to be counted", async || counted().await >= 99.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn share_once_never_shares_what_is_one_clients_own() {
    for control in [
        &[("cache-control", "max-age=0, private")][..],
        &[("cache-control", "no-store")],
        &[("cache-control", "max-age=0"), ("set-cookie", "sid=1")],
        &[("content-type", "text/html")],
    ] {
        let door = gate();
        let origin = slow(&door, control).await;
        let edge = caching(&origin, "share: once").await;
        let mut clients = crowd(&edge, 10, "/mine").await;
        looked_up(&edge, 10.0).await;
        door.add_permits(10);
        let texts: BTreeSet<String> = answers(&mut clients).await.iter().map(Response::text).collect();
        assert_eq!((texts.len(), origin.hits()), (10, 10), "{control:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn share_once_keeps_credentials_apart() {
    let door = gate();
    let origin = slow(&door, &[("cache-control", "s-maxage=0")]).await;
    let edge = caching(&origin, "share: once").await;
    let mut clients = Vec::new();
    for user in 0..10 {
        let mut client = Client::connect(edge.web()).await;
        let token = format!("Bearer {user}");
        client.send(request("GET", "/", &[("Authorization", &token)], b"")).await;
        clients.push(client);
    }
    looked_up(&edge, 10.0).await;
    door.add_permits(10);
    let texts: BTreeSet<String> = answers(&mut clients).await.iter().map(Response::text).collect();
    assert_eq!(texts.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_1_share_once_keeps_variants_apart() {
    let door = gate();
    let at_origin = door.clone();
    let origin = Origin::start(move |seen| {
        let mut steps = vec![Step::Wait(at_origin.clone())];
        let fields = [("cache-control", "max-age=0"), ("vary", "accept-language")];
        steps.extend(reply(200, &fields, seen.header("accept-language")));
        steps
    })
    .await;
    let edge = caching(&origin, "share: once").await;
    let mut clients = Vec::new();
    for n in 0..20 {
        let language = if n % 2 == 0 { "de" } else { "fr" };
        let mut client = Client::connect(edge.web()).await;
        client.send(request("GET", "/", &[("Accept-Language", language)], b"")).await;
        clients.push((language, client));
    }
    looked_up(&edge, 20.0).await;
    door.add_permits(20);
    for (language, client) in &mut clients {
        assert_eq!(client.response(false).await.text(), *language);
    }
    assert_eq!(origin.hits(), 2, "one for each");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_share_nobody_queues_behind_an_answer_that_is_not_for_him() {
    for control in [&[("cache-control", "max-age=0")][..], &[("cache-control", "max-age=0"), ("etag", "\"v\"")]] {
        let door = gate();
        let origin = slow(&door, control).await;
        let edge = caching(&origin, "").await;
        let mut clients = crowd(&edge, 30, "/").await;
        looked_up(&edge, 30.0).await;
        assert_eq!(origin.hits(), 1, "they wait for the first");
        // One answer tells all of them that waiting is in vain: they are at the origin together.
        door.add_permits(1);
        wait_until("all at the origin at once", async || origin.hits() == 30).await;
        door.add_permits(29);
        assert!(answers(&mut clients).await.iter().all(|a| a.status == 200), "{control:?}");
        assert_eq!(origin.hits(), 30);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_failed_does_not_send_all_who_waited_at_the_origin_at_once() {
    let door = gate();
    let at_origin = door.clone();
    let origin = Origin::start(move |seen| match seen.number {
        0 => reply(200, &[("cache-control", "max-age=0"), ("etag", "\"v\"")], "old"),
        1 => vec![Step::Wait(at_origin.clone()), Step::Cut],
        _ => {
            let mut steps = vec![Step::Wait(at_origin.clone())];
            steps.extend(reply(200, &[("cache-control", "max-age=60")], "new"));
            steps
        }
    })
    .await;
    let edge = caching(&origin, "").await;
    assert_eq!(edge.get("/").await.text(), "old");
    let mut clients = crowd(&edge, 10, "/").await;
    looked_up(&edge, 11.0).await;
    assert_eq!(origin.hits(), 2);
    door.add_permits(1);
    wait_until("the next try", async || origin.hits() > 2).await;
    door.add_permits(20);
    let answers = answers(&mut clients).await;
    assert!(answers.iter().filter(|a| a.text() == "new").count() >= 9, "{answers:?}");
    assert!(origin.hits() <= 4, "{} at the origin", origin.hits());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_url_that_is_known_not_to_be_storable() {
    let door = gate();
    let origin = slow(&door, &[("cache-control", "no-store")]).await;
    let edge = caching(&origin, "").await;
    door.add_permits(1);
    edge.get("/").await;
    let mut clients = crowd(&edge, 20, "/").await;
    wait_until("all at the origin at once", async || origin.hits() == 21).await;
    door.add_permits(20);
    for answer in answers(&mut clients).await {
        assert_eq!(answer.header("cache-status"), "sluicegate; fwd=bypass; fwd-status=200; detail=no_store");
    }
    let predicted = async || edge.metric("sluicegate_reasons_total", &["reason=\"predicted\""]).await;
    wait_until("all to be counted", async || predicted().await == 20.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_becomes_storable_is_stored_with_the_first_answer() {
    let origin = Origin::start(|seen| match seen.number {
        0 => reply(200, &[("cache-control", "private")], "mine"),
        _ => reply(200, &[("cache-control", "max-age=60")], "ours"),
    })
    .await;
    let edge = caching(&origin, "").await;
    edge.get("/").await;
    let second = edge.get("/").await;
    assert!(
        second.header("cache-status").starts_with("sluicegate; fwd=bypass; fwd-status=200; ttl=59; stored"),
        "{second:?}"
    );
    assert_eq!(edge.get("/").await.source(), "http_cache");
    assert_eq!(origin.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_cannot_switch_the_cache_off_for_the_others() {
    let door = gate();
    let origin = slow(&door, &[("cache-control", "max-age=60")]).await;
    let edge = caching(&origin, "").await;
    door.add_permits(2);
    edge.ask("GET", "/", &[("Authorization", "Bearer x")], b"").await;
    edge.ask("GET", "/", &[("Cache-Control", "no-store")], b"").await;
    let mut clients = crowd(&edge, 10, "/").await;
    looked_up(&edge, 11.0).await;
    door.add_permits(10);
    assert!(answers(&mut clients).await.iter().all(|a| a.text() == "answer 2"));
    assert_eq!(origin.hits(), 3, "the ten waited for one");
}
