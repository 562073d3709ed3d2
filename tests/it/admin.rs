//! The operators' port: metrics, status, purge, reload, and who may ask.

use crate::harness::client::{ask, get, post};
use crate::harness::edge::{Edge, Setup};
use crate::harness::llm::{Llm, chat};
use crate::harness::origin::Origin;
use crate::harness::wait_until;
use serde_json::json;

async fn busy() -> (Origin, Llm, Edge) {
    let origin = Origin::fixed("hello").await;
    let llm = Llm::saying("hi there").await;
    let yaml = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 16MiB } } }
policy: { script: policy.rhai }
ai:
  providers: { p: { dialect: openai, base_url: \"$LLM\" } }
  models: { small: { provider: p, model: small-1, price: { input: 1.0, output: 2.0 } } }
  tiers: { cheap: [small] }
  caches: { answers: { exact: {} } }
routes:
  - { upstream: app, cache: true, policy: true }
  - { match: { path: /v1/* }, ai: { tier: cheap, cache: answers }, policy: true }
";
    let script = "fn on_request(req) { if req.path == \"/no\" { deny(403, \"no\") } else { next() } }";
    let setup = Setup::new(yaml).put("ORIGIN", origin.address).put("LLM", llm.url());
    (origin, llm, setup.file("policy.rhai", script).start().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_decision_shows_in_the_metrics() {
    let (_origin, _llm, edge) = busy().await;
    for target in ["/", "/", "/no"] {
        edge.get(target).await;
    }
    for _ in 0..2 {
        assert_eq!(edge.post("/v1/chat/completions", &[], &chat("auto", "hello")).await.status, 200);
    }
    post(edge.admin(), "/reload", &[], &json!({})).await;
    let text = edge.metrics().await;
    for source in ["origin", "http_cache", "policy", "provider", "ai_exact"] {
        assert!(text.contains(&format!("source=\"{source}\"")), "no sample of source {source}:\n{text}");
    }
    for kind in ["counter", "gauge", "histogram"] {
        assert!(text.contains(&format!(" {kind}\n")), "no {kind} in\n{text}");
    }
    for family in ["request", "cache", "ai", "policy", "reload"] {
        assert!(
            text.lines().any(|l| l.starts_with("# HELP sluicegate_") && l.contains(family)),
            "no family of {family}:\n{text}"
        );
    }
    for line in text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok() || value == "+Inf", "no sample: {line}");
        let known = ["sluicegate_", "process_", "gen_ai_"].iter().any(|begin| line.starts_with(begin));
        assert!(known, "a foreign family: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_what_runs_and_what_was_saved() {
    let (_origin, _llm, edge) = busy().await;
    for _ in 0..3 {
        edge.post("/v1/chat/completions", &[], &chat("auto", "hello")).await;
    }
    let status = edge.status().await;
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["last_reload"]["ok"], true, "{status}");
    assert!(status.to_string().contains("saved"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_open_and_unknown_doors_are_not_there() {
    let (_origin, _llm, edge) = busy().await;
    assert_eq!(get(edge.admin(), "/healthz").await.status, 200);
    assert_eq!(get(edge.admin(), "/nowhere").await.status, 404);
    assert_eq!(get(edge.admin(), "/purge").await.status, 405);
    assert_eq!(edge.get("/metrics").await.text(), "hello", "the admin port's paths are not on the listener");
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_refuses_what_is_no_url() {
    let (_origin, _llm, edge) = busy().await;
    for body in [json!({}), json!({ "url": "" }), json!({ "url": "/path" }), json!({ "urls": [] }), json!([])] {
        let answer = post(edge.admin(), "/purge", &[], &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    }
    let answer = ask(edge.admin(), "POST", "/purge", &[], b"{").await;
    assert_eq!(answer.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_everything_but_health() {
    let yaml = "
server: { admin: { listen: \"127.0.0.1:0\", token: \"file:$DIR/token\" } }
listeners: { web: { address: \"127.0.0.1:0\" } }
routes: [ { respond: { body: ok } } ]
";
    let edge = Setup::bare(yaml).file("token", "open-sesame\n").start().await;
    for target in ["/metrics", "/status"] {
        assert_eq!(get(edge.admin(), target).await.status, 401, "{target}");
        let wrong = ask(edge.admin(), "GET", target, &[("Authorization", "Bearer open-sesam")], b"").await;
        assert_eq!(wrong.status, 401);
        let right = ask(edge.admin(), "GET", target, &[("Authorization", "Bearer open-sesame")], b"").await;
        assert_eq!(right.status, 200, "{target}");
    }
    for target in ["/purge", "/reload"] {
        assert_eq!(post(edge.admin(), target, &[], &json!({ "url": "http://a/" })).await.status, 401);
    }
    assert_eq!(get(edge.admin(), "/healthz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_can_be_asked_for_and_says_how_it_went() {
    let (_origin, _llm, edge) = busy().await;
    let before = edge.status().await;
    let answer = post(edge.admin(), "/reload", &[], &json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    edge.reloaded_since(&before).await;
    std::fs::write(edge.path("sluicegate.yaml"), "listeners: {}\nroute: []\n").unwrap();
    wait_until("the refusal", async || {
        let answer = post(edge.admin(), "/reload", &[], &json!({})).await;
        answer.status >= 400 && answer.text().contains("routes")
    })
    .await;
    assert_eq!(edge.get("/").await.status, 200);
}
