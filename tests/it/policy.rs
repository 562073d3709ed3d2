//! The policy script at work: every hook, its failures, and its replacement while requests are running.

use crate::harness::client::{Client, Response};
use crate::harness::edge::{Edge, Setup};
use crate::harness::llm::{Llm, chat};
use crate::harness::origin::{Origin, reply};
use crate::harness::wait_until;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const YAML: &str = "
upstreams: { app: { servers: [\"$ORIGIN\"] }, other: { servers: [\"$OTHER\"] } }
caches: { main: { memory: { size: 16MiB } } }
policy: { script: policy.rhai }
routes: [ { upstream: app, cache: true, policy: true } ]
";

async fn with_script(origin: &Origin, script: &str) -> Edge {
    Setup::new(YAML)
        .put("ORIGIN", origin.address)
        .put("OTHER", origin.address)
        .file("policy.rhai", script)
        .start()
        .await
}

async fn plain_origin() -> Origin {
    Origin::start(|seen| reply(200, &[("cache-control", "max-age=60"), ("x-powered-by", "php")], &seen.raw)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn on_request_can_answer_refuse_and_redirect() {
    let origin = plain_origin().await;
    let script = r#"
        fn on_request(req) {
            switch req.path {
                "/deny" => deny(451, "not here"),
                "/respond" => respond(203, "<b>hi</b>", "text/html"),
                "/redirect" => redirect(307, "/elsewhere?" + req.query),
                "/secret" => unauthorized("Basic realm=x"),
                _ => next()
            }
        }"#;
    let edge = with_script(&origin, script).await;
    let denied = edge.get("/deny").await;
    assert_eq!((denied.status, denied.source(), denied.reason()), (451, "policy", "policy_deny"));
    assert!(denied.text().contains("not here"));
    let answered = edge.get("/respond").await;
    assert_eq!(
        (answered.status, answered.header("content-type"), answered.text().as_str()),
        (203, "text/html", "<b>hi</b>")
    );
    let moved = edge.get("/redirect?a=1").await;
    assert_eq!((moved.status, moved.header("location")), (307, "/elsewhere?a=1"));
    let secret = edge.get("/secret").await;
    assert_eq!((secret.status, secret.header("www-authenticate")), (401, "Basic realm=x"));
    assert_eq!(origin.hits(), 0);
    assert_eq!(edge.get("/").await.source(), "origin");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_request_steers_upstream_cache_and_headers() {
    let origin = plain_origin().await;
    let other = Origin::fixed("the other").await;
    let script = r#"
        fn on_request(req) {
            if req.path == "/other" { return next().upstream("other"); }
            if req.path == "/pass" { return pass(); }
            if req.path == "/vary" { return next().vary_on("lang", req.header("x-lang")); }
            next().set_request_header("x-from-policy", req.method + " " + req.host).remove_request_header("x-debug")
        }"#;
    let setup = Setup::new(YAML).put("ORIGIN", origin.address).put("OTHER", other.address);
    let edge = setup.file("policy.rhai", script).start().await;
    assert_eq!(edge.get("/other").await.text(), "the other");
    for _ in 0..2 {
        assert_eq!(edge.get("/pass").await.source(), "origin");
    }
    for (lang, source) in [("de", "origin"), ("fr", "origin"), ("de", "http_cache")] {
        assert_eq!(edge.ask("GET", "/vary", &[("X-Lang", lang)], b"").await.source(), source, "{lang}");
    }
    edge.ask("GET", "/", &[("X-Debug", "1")], b"").await;
    assert_eq!((origin.last().header("x-from-policy"), origin.last().count("x-debug")), ("GET test", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_origin_response_shapes_what_is_stored() {
    let origin = Origin::start(|seen| match seen.target.as_str() {
        "/missing" => reply(404, &[], "gone"),
        _ => reply(200, &[("x-powered-by", "php"), ("cache-control", "max-age=60")], "ok"),
    })
    .await;
    let script = r#"
        fn on_origin_response(req, resp) {
            if resp.status == 404 { return next().ttl("30s"); }
            if req.path == "/never" { return next().no_store(); }
            next().remove_header("x-powered-by").set_header("x-stored", resp.header("x-powered-by"))
        }"#;
    let edge = with_script(&origin, script).await;
    for source in ["origin", "http_cache"] {
        let answer = edge.get("/").await;
        assert_eq!((answer.source(), answer.count("x-powered-by"), answer.header("x-stored")), (source, 0, "php"));
        assert_eq!((edge.get("/missing").await.status, edge.get("/missing").await.source()), (404, "http_cache"));
        assert_eq!(edge.get("/never").await.source(), "origin");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_response_shapes_what_is_sent_hits_too() {
    let origin = plain_origin().await;
    let script = r#"fn on_response(req, resp) { next().set_header("x-seen", resp.source + " " + resp.status) }"#;
    let edge = with_script(&origin, script).await;
    assert_eq!(edge.get("/").await.header("x-seen"), "origin 200");
    assert_eq!(edge.get("/").await.header("x-seen"), "http_cache 200");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_log_decides_which_lines_are_kept_and_notes_reach_them() {
    let origin = plain_origin().await;
    let script = r#"
        fn on_request(req) { next().note("team", "blue") }
        fn on_log(req, resp, entry) { if req.path == "/noise" { skip() } else { keep() } }"#;
    let yaml = format!("{YAML}observability: {{ access_log: {{ format: json, output: \"$DIR/access.log\" }} }}\n");
    let setup = Setup::new(&yaml).put("ORIGIN", origin.address).put("OTHER", origin.address);
    let edge = setup.file("policy.rhai", script).start().await;
    edge.get("/noise").await;
    edge.get("/signal").await;
    let log = edge.path("access.log");
    let lines = async || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("the line of /signal", async || lines().await.contains("/signal")).await;
    let text = lines().await;
    assert!(!text.contains("/noise"), "{text}");
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert!(line.to_string().contains("blue"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_prompt_chooses_the_tier_and_can_refuse() {
    let llm = Llm::echo().await;
    let yaml = "
policy: { script: policy.rhai }
ai:
  providers: { p: { dialect: openai, base_url: \"$LLM\" } }
  models: { small: { provider: p, model: small-1 }, large: { provider: p, model: large-1 } }
  tiers: { cheap: [small], standard: [large] }
routes: [ { match: { path: /v1/* }, ai: { tier: standard }, policy: true } ]
";
    let script = r#"
        fn on_prompt(req, prompt) {
            if prompt.text.contains("weapon") { return deny(400, "not allowed here"); }
            if prompt.chars < 20 { next().tier("cheap") } else { next() }
        }"#;
    let edge = Setup::new(yaml).put("LLM", llm.url()).file("policy.rhai", script).start().await;
    let short = edge.post("/v1/chat/completions", &[], &chat("auto", "hi")).await;
    assert_eq!((short.status, short.header("x-sluicegate-tier")), (200, "cheap"), "{}", short.text());
    assert_eq!(llm.last().json()["model"], "small-1");
    let long = edge.post("/v1/chat/completions", &[], &chat("auto", "a question of some length")).await;
    assert_eq!(long.header("x-sluicegate-tier"), "standard");
    assert_eq!(llm.last().json()["model"], "large-1");
    let refused = edge.post("/v1/chat/completions", &[], &chat("auto", "how to build a weapon")).await;
    assert_eq!((refused.status, refused.source()), (400, "policy"));
    assert_eq!(refused.json()["error"]["message"], "not allowed here", "{}", refused.text());
    assert_eq!(llm.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_script_closes_or_opens_as_the_route_says() {
    let origin = plain_origin().await;
    let yaml = YAML.replace(
        "routes: [",
        "routes: [ { match: { path: /open/* }, upstream: app, policy: { on_error: fail_open } }, ",
    );
    let script = r#"fn on_request(req) { if req.path.ends_with("loop") { loop {} } throw "broken"; }"#;
    let setup = Setup::new(&yaml).put("ORIGIN", origin.address).put("OTHER", origin.address);
    let edge = setup.file("policy.rhai", script).start().await;
    for target in ["/throw", "/loop"] {
        let closed = edge.get(target).await;
        assert_eq!((closed.status, closed.source()), (500, "policy"), "{target}: {closed:?}");
        assert!(!closed.text().contains("broken"), "tells the client about the script");
        assert_eq!(edge.get(&format!("/open{target}")).await.status, 200, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_with_a_wrong_name_does_not_start() {
    let origin = plain_origin().await;
    for (script, place) in [
        ("fn on_request(req) {\n    next().upstrem(\"app\")\n}", "policy.rhai:2"),
        ("fn on_request(req) {\n\n    next().upstream(\"ap\")\n}", "policy.rhai:3"),
        ("fn on_request(req) {", "policy.rhai:1"),
    ] {
        let setup = Setup::new(YAML).put("ORIGIN", origin.address).put("OTHER", origin.address);
        let fault = setup.file("policy.rhai", script).try_start().await.err().expect("it must not start");
        assert!(format!("{fault:#}").contains(place), "{fault:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_edit_keeps_the_old_script_and_is_reported() {
    let origin = plain_origin().await;
    let edge = with_script(&origin, r#"fn on_response(req, resp) { next().set_header("x-version", "1") }"#).await;
    edge.write("policy.rhai", "fn on_response(req, resp) { next().set_heder(\"x-version\", \"2\") }");
    wait_until("the fault in the status", async || edge.status().await["last_reload"]["ok"] == false).await;
    let status = edge.status().await;
    assert!(status["last_reload"]["faults"].to_string().contains("set_heder"), "{status}");
    assert_eq!(edge.get("/").await.header("x-version"), "1");
    edge.write("policy.rhai", "fn on_response(req, resp) { next().set_header(\"x-version\", \"3\") }");
    wait_until("the third version", async || edge.get("/").await.header("x-version") == "3").await;
    assert_eq!(edge.status().await["last_reload"]["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_seen_beside_a_log_that_never_rests() {
    let origin = plain_origin().await;
    let yaml = format!("{YAML}observability: {{ access_log: {{ output: \"$DIR/access.log\" }} }}\n");
    let setup = Setup::new(&yaml).put("ORIGIN", origin.address).put("OTHER", origin.address);
    let script = r#"fn on_response(req, resp) { next().set_header("x-version", "1") }"#;
    let edge = setup.file("policy.rhai", script).start().await;
    edge.write("policy.rhai", &script.replace("\"1\"", "\"2\""));
    let edited = Instant::now();
    // every one of these requests writes to a file in the folder that is watched
    wait_until("the new version", async || edge.get("/").await.header("x-version") == "2").await;
    assert!(edited.elapsed() < Duration::from_secs(1), "live after {:?}", edited.elapsed());
}

/// Answers of the load below, per version of the script.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    good: AtomicUsize,
    bad: Mutex<Vec<String>>,
    new: AtomicUsize,
}

impl Tally {
    fn count(&self, answer: Option<&Response>) {
        match answer {
            Some(a) if a.status == 200 && a.complete => {
                self.good.fetch_add(1, Ordering::SeqCst);
                self.new.fetch_add(usize::from(a.header("x-version") == "2"), Ordering::SeqCst);
            }
            other => {
                self.bad.lock().unwrap().push(format!("{other:?}"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_edit_is_live_within_a_second_under_64_connections_and_fails_none() {
    let origin = plain_origin().await;
    let edge = with_script(&origin, r#"fn on_response(req, resp) { next().set_header("x-version", "1") }"#).await;
    let tally = Arc::new(Tally::default());
    let web = edge.web();
    let loads: Vec<_> = (0..64)
        .map(|number| {
            let tally = tally.clone();
            tokio::spawn(async move {
                let mut client = Client::connect(web).await;
                while !tally.stop.load(Ordering::SeqCst) {
                    let target = format!("/{}", number % 8);
                    let sent = client.try_send(crate::harness::client::request("GET", &target, &[], b"")).await;
                    let answer = if sent { client.try_response(false).await } else { None };
                    tally.count(answer.as_ref());
                    if answer.is_none() {
                        return;
                    }
                }
            })
        })
        .collect();
    wait_until("the load to run", async || tally.good.load(Ordering::SeqCst) > 200).await;
    let edited = Instant::now();
    edge.write("policy.rhai", r#"fn on_response(req, resp) { next().set_header("x-version", "2") }"#);
    wait_until("the new decision", async || tally.new.load(Ordering::SeqCst) > 0).await;
    let took = edited.elapsed();
    tally.stop.store(true, Ordering::SeqCst);
    for load in loads {
        load.await.unwrap();
    }
    let bad = tally.bad.lock().unwrap().clone();
    assert!(bad.is_empty(), "{} requests failed:\n{}", bad.len(), bad.join("\n"));
    assert!(took < Duration::from_secs(1), "live after {took:?}");
}
