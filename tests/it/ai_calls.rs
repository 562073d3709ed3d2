//! The AI station around the gateway: the script is asked for embeddings, one model is told, lost calls leave traces.

use crate::ai::CHAT;
use crate::harness::client::{Client, request};
use crate::harness::edge::{Edge, Setup};
use crate::harness::llm::{Llm, Play, chat};
use crate::harness::wait_until;
use serde_json::json;

const YAML: &str = "
ai:
  providers: { p: { dialect: openai, base_url: \"$LLM\" } }
  models: { small: { provider: p, model: small-1 }, large: { provider: p, model: large-1 } }
  tiers: { cheap: [small] }
  caches: { exact: { exact: { ttl: 1h } } }
policy: { script: policy.rhai }
routes: [ { match: { path: /v1/* }, ai: { tier: cheap, cache: exact }, policy: true } ]
";

const SCRIPT: &str = r#"
fn on_prompt(req, prompt) {
    if prompt.text.contains("secret") { return deny(403, "not that"); }
    if prompt.text.contains("private") { return pass().model("large"); }
    next().exact()
}
"#;

async fn edge(llm: &Llm) -> Edge {
    Setup::new(YAML).put("LLM", llm.url()).file("policy.rhai", SCRIPT).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn on_prompt_is_asked_for_embeddings_too() {
    let llm = Llm::saying("hi").await;
    let edge = edge(&llm).await;
    let embed = async |input| edge.post("/v1/embeddings", &[], &json!({ "model": "small", "input": input })).await;
    let denied = embed(json!(["open", "a secret"])).await;
    assert_eq!((denied.status, denied.json()["error"]["message"].as_str()), (403, Some("not that")));
    for _ in 0..2 {
        let passed = embed(json!("private")).await;
        assert_eq!((passed.source(), passed.header("x-sluicegate-model")), ("provider", "large"));
    }
    assert_eq!(embed(json!("open")).await.header("x-sluicegate-model"), "small");
    assert_eq!(embed(json!("open")).await.source(), "ai_exact");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_model_can_be_retrieved() {
    let llm = Llm::saying("hi").await;
    let edge = edge(&llm).await;
    let model = edge.get("/v1/models/small").await;
    assert_eq!(
        (model.status, model.json()["id"].as_str(), model.json()["object"].as_str()),
        (200, Some("small"), Some("model"))
    );
    let unknown = edge.get("/v1/models/smal").await;
    assert_eq!((unknown.status, unknown.json()["error"]["code"].as_str()), (404, Some("model_not_found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_client_leaves_before_the_reply_is_counted() {
    let llm = Llm::start(|_, _| Play::Hang).await;
    let edge = edge(&llm).await;
    let mut client = Client::connect(edge.web()).await;
    client.send(request("POST", CHAT, &[], chat("small", "hello").to_string().as_bytes())).await;
    wait_until("the provider to be asked", async || llm.calls() == 1).await;
    drop(client);
    let outcome = ["outcome=\"client_gone\"", "model=\"small\""];
    wait_until("the attempt", async || edge.metric("sluicegate_ai_attempts_total", &outcome).await == 1.0).await;
    assert_eq!(edge.metric("sluicegate_ai_calls_total", &["status=\"499\""]).await, 1.0);
}
