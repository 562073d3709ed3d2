//! Reload: what an edit changes, what a refused one leaves alone, and which edits are seen.

use crate::harness::client::{Client, ask, get, post, request};
use crate::harness::edge::{Edge, Setup};
use crate::harness::origin::Origin;
use crate::harness::wait_until;
use serde_json::json;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const ROUTES: &str = "routes: [ { respond: { body: $BODY } } ]\n";

/// A port that was free a moment ago.
fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A configuration with an admin port and these listeners.
fn with(listeners: &str) -> String {
    let server = "server: { threads: 2, grace_period: 100ms, admin: { listen: \"127.0.0.1:0\" } }";
    format!("version: 1\n{server}\nlisteners: {{ {listeners} }}\n{ROUTES}").replace("$BODY", "ok")
}

async fn open(at: SocketAddr) -> bool {
    tokio::net::TcpStream::connect(at).await.is_ok()
}

async fn reload(edge: &Edge) -> (u16, String) {
    let answer = post(edge.admin(), "/reload", &[], &json!({})).await;
    (answer.status, answer.text())
}

async fn reloaded(edge: &Edge) {
    let (status, text) = reload(edge).await;
    assert_eq!(status, 200, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_adds_moves_and_removes_listeners_and_the_watcher_goes_on() {
    let edge = Setup::bare(&with("web: { address: \"127.0.0.1:0\" }")).start().await;
    let (old, more, moved) = (edge.web(), free(), free());
    let second = with(&format!("web: {{ address: \"127.0.0.1:0\" }}, more: {{ address: \"{more}\" }}"));
    edge.write("sluicegate.yaml", &second);
    wait_until("the new listener", async || open(more).await).await;
    assert_eq!(get(more, "/").await.text(), "ok");
    assert_eq!(edge.web(), old, "the other one stays");
    edge.write("sluicegate.yaml", &second.replace(&more.to_string(), &moved.to_string()));
    wait_until("the listener at its new place", async || open(moved).await).await;
    wait_until("the old place to close", async || !open(more).await).await;
    assert_eq!(edge.status().await["last_reload"]["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_renamed_and_two_that_swap_keep_their_sockets() {
    let (one, two) = (free(), free());
    let both = |a: &str, b: &str| with(&format!("{a}: {{ address: \"{one}\" }}, {b}: {{ address: \"{two}\" }}"));
    let edge = Setup::bare(&both("a", "b")).start().await;
    for (first, second) in [("b", "a"), ("c", "a"), ("a", "c")] {
        edge.write("sluicegate.yaml", &both(first, second));
        reloaded(&edge).await;
        assert_eq!((edge.at(first), edge.at(second)), (one, two));
        for at in [one, two] {
            assert_eq!(get(at, "/").await.text(), "ok");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_refuses_the_reload_and_nothing_of_it_is_ever_seen() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let edge = Setup::bare(&with("web: { address: \"127.0.0.1:0\" }")).start().await;
    let bad = format!("web: {{ address: \"127.0.0.1:0\" }}, x: {{ address: \"{}\" }}", taken.local_addr().unwrap());
    edge.write("sluicegate.yaml", &with(&bad).replace("body: ok", "body: never"));
    let web = edge.web();
    let asking = tokio::spawn(async move {
        for _ in 0..200 {
            assert_eq!(get(web, "/").await.text(), "ok");
        }
    });
    while !asking.is_finished() {
        let (status, text) = reload(&edge).await;
        assert_eq!(status, 422, "{text}");
        assert!(text.contains("listeners.x.address") && text.contains("in use"), "{text}");
    }
    asking.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_reload_keeps_the_caches_and_a_changed_one_starts_empty() {
    let origin = Origin::fixed("hello").await;
    let yaml = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 16MiB } } }
routes: [ { upstream: app, cache: { ttl: { default: 1h } } } ]
";
    let edge = Setup::new(yaml).put("ORIGIN", origin.address).start().await;
    edge.get("/").await;
    assert_eq!(edge.get("/").await.source(), "http_cache");
    edge.edit("sluicegate.yaml", "16MiB } } }", "32MiB } } }\nauth: { a: { jwt: {} } }");
    assert_eq!(reload(&edge).await.0, 422);
    edge.edit("sluicegate.yaml", "32MiB } } }\nauth: { a: { jwt: {} } }", "16MiB } } }");
    reloaded(&edge).await;
    assert_eq!(edge.get("/").await.source(), "http_cache", "the refused one had another size");
    edge.edit("sluicegate.yaml", "main: {", "other: {");
    reloaded(&edge).await;
    assert_eq!(edge.get("/").await.source(), "origin");
    let metrics = edge.metrics().await;
    assert!(!metrics.contains("cache=\"main\""), "told about a cache that is gone:\n{metrics}");
    assert!(metrics.contains("sluicegate_cache_misses{cache=\"other\"} "), "{metrics}");
    edge.edit("sluicegate.yaml", "other: {", "main: {");
    reloaded(&edge).await;
    assert_eq!(edge.get("/").await.source(), "origin", "what comes back is empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_includes_and_files_named_by_a_reload_are_watched() {
    let yaml = format!("include: [\"conf.d/*.yaml\"]\n{}", with("web: { address: \"127.0.0.1:0\" }"));
    let edge = Setup::bare(&yaml).start().await;
    let route = |path: &str| format!("routes: [ {{ match: {{ path: {path} }}, respond: {{ body: more }} }} ]\n");
    std::fs::create_dir(edge.path("conf.d")).unwrap();
    std::fs::write(edge.path("conf.d/a.yaml"), route("/a")).unwrap();
    wait_until("the first include", async || edge.get("/a").await.text() == "more").await;
    std::fs::write(edge.path("conf.d/b.yaml"), route("/b")).unwrap();
    wait_until("the second include", async || edge.get("/b").await.text() == "more").await;
    std::fs::remove_file(edge.path("conf.d/a.yaml")).unwrap();
    wait_until("its end", async || edge.get("/a").await.text() == "ok").await;
    std::fs::create_dir(edge.path("scripts")).unwrap();
    std::fs::write(edge.path("scripts/p.rhai"), "fn on_request(req) {").unwrap();
    edge.write(
        "sluicegate.yaml",
        &format!("{yaml}policy: {{ script: scripts/p.rhai }}\n").replace("respond: {", "policy: true, respond: {"),
    );
    wait_until("the refusal", async || edge.status().await["last_reload"]["ok"] == false).await;
    std::fs::write(edge.path("scripts/p.rhai"), "fn on_request(req) { respond(200, \"one\", \"text/plain\") }")
        .unwrap();
    wait_until("the mended script", async || edge.get("/").await.text() == "one").await;
    assert!(edge.metric("sluicegate_reloads_total", &["result=\"failed\""]).await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_behind_a_swapped_link_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = with("web: { address: \"127.0.0.1:0\" }");
    for (version, body) in [("v1", "ok"), ("v2", "new")] {
        std::fs::create_dir(dir.path().join(version)).unwrap();
        std::fs::write(dir.path().join(version).join("r.yaml"), ROUTES.replace("$BODY", body)).unwrap();
    }
    std::os::unix::fs::symlink("v1", dir.path().join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/r.yaml", dir.path().join("r.yaml")).unwrap();
    let yaml = yaml.replace(&ROUTES.replace("$BODY", "ok"), "include: [r.yaml]\n");
    let edge = Setup::bare(&yaml).start_in(dir).await.unwrap();
    assert_eq!(edge.get("/").await.text(), "ok");
    std::os::unix::fs::symlink("v2", edge.path("..new")).unwrap();
    std::fs::rename(edge.path("..new"), edge.path("..data")).unwrap();
    wait_until("the new version", async || edge.get("/").await.text() == "new").await;
}

const SCRIPTED: &str = "policy: { script: p.rhai }\nroutes: [ { policy: true, respond: { body: ok } } ]\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_never_rests_is_reloaded_all_the_same() {
    let edge = Setup::new(SCRIPTED).file("p.rhai", "fn on_request(req) { next() }").start().await;
    let started = Instant::now();
    let mut n = 0;
    wait_until("any version of it", async || {
        n += 1;
        edge.write("p.rhai", &format!("fn on_request(req) {{ respond(200, \"v{n}\", \"text/plain\") }}"));
        edge.get("/").await.text().starts_with('v')
    })
    .await;
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    wait_until("the metric", async || {
        edge.metric("sluicegate_reloads_total", &["what=\"policy\"", "result=\"ok\""]).await >= 1.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_answers_while_a_reload_runs() {
    let edge = Setup::new(SCRIPTED).file("p.rhai", "fn on_request(req) { next() }").start().await;
    // Whoever reads a pipe waits for somebody who writes.
    let pipe = edge.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::rename(&pipe, edge.path("p.rhai")).unwrap();
    let path = edge.path("p.rhai");
    let writer = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(path));
    let mut writer = writer.await.unwrap().unwrap();
    // The pipe could be opened for writing, so a reload is reading it now.
    let status = tokio::time::timeout(Duration::from_secs(5), edge.status()).await;
    assert!(status.is_ok(), "the status waits for the reload");
    assert_eq!(status.unwrap()["last_reload"]["why"], "start");
    std::io::Write::write_all(&mut writer, b"fn on_request(req) { next() }").unwrap();
    drop(writer);
    wait_until("the reload", async || edge.status().await["last_reload"]["why"] == "file changed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_web_pages_are_turned_away() {
    let edge = Setup::bare(&with("web: { address: \"127.0.0.1:0\" }")).start().await;
    for page in [("Origin", "http://evil.example"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")] {
        assert_eq!(ask(edge.admin(), "POST", "/reload", &[page], b"").await.status, 403, "{page:?}");
    }
    assert_eq!(ask(edge.admin(), "POST", "/reload", &[("Sec-Fetch-Site", "none")], b"").await.status, 200);
    assert_eq!(ask(edge.admin(), "GET", "/status", &[("Sec-Fetch-Site", "cross-site")], b"").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_port_closes_with_the_gateway() {
    let edge = Setup::bare(&with("web: { address: \"127.0.0.1:0\" }")).start().await;
    let (admin, web) = (edge.admin(), edge.web());
    let mut client = Client::connect(admin).await;
    assert!(client.try_send(request("GET", "/healthz", &[], b"")).await);
    let _dir = edge.stop().await;
    for at in [web, admin] {
        wait_until("the port to close", async || !open(at).await).await;
    }
}
