//! Clients of Gemini's API in front of a provider of another dialect: paths, keys, the list of models, refusals.

use crate::harness::edge::{Edge, Setup};
use crate::harness::llm::Llm;
use serde_json::{Value, json};

const YAML: &str = "
ai:
  providers: { p: { dialect: openai, base_url: \"$LLM\" }, q: { dialect: gemini, base_url: \"$LLM\" } }
  models: { small: { provider: p, model: small-1 }, gem: { provider: q, model: gem-1 } }
  tiers: { cheap: [small] }
  caches: { exact: { exact: { ttl: 1h } } }
routes: [ { match: { path: /* }, ai: { tier: cheap, cache: exact } } ]
";

async fn edge(llm: &Llm) -> Edge {
    Setup::new(YAML).put("LLM", llm.url()).start().await
}

fn hello() -> Value {
    json!({ "contents": [{ "role": "user", "parts": [{ "text": "hello" }] }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_query_keeps_tenants_apart_and_stays_here() {
    let llm = Llm::saying("one two").await;
    let edge = edge(&llm).await;
    let ask = async |target: &str, headers: &[(&str, &str)]| edge.post(target, headers, &hello()).await;
    for model in ["small", "gem"] {
        let before = llm.calls();
        let path = format!("/v1beta/models/{model}:generateContent");
        let first = ask(&format!("{path}?key=one-canary"), &[]).await;
        assert_eq!((first.status, first.source()), (200, "provider"), "{}", first.text());
        assert_eq!(first.json()["candidates"][0]["content"]["parts"][0]["text"], "one two");
        assert!(!format!("{:?}", llm.last()).contains("canary"), "{:?}", llm.last());
        assert_eq!(ask(&format!("{path}?x=y&key=one-canary"), &[]).await.source(), "ai_exact");
        assert_eq!(ask(&path, &[("x-goog-api-key", "one-canary")]).await.source(), "ai_exact", "the same key");
        assert_eq!(ask(&path, &[("x-goog-api-key", "two-canary")]).await.source(), "provider", "another's");
        assert_eq!(ask(&path, &[]).await.source(), "provider");
        assert_eq!(llm.calls() - before, 3);
        assert!(!format!("{:?}", llm.last()).contains("canary"), "{:?}", llm.last());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_come_as_events_and_the_other_form_is_refused() {
    let llm = Llm::saying("one two three").await;
    let edge = edge(&llm).await;
    let path = "/v1beta/models/auto:streamGenerateContent";
    let stream = edge.post(&format!("{path}?alt=sse"), &[], &hello()).await;
    assert!(stream.header("content-type").starts_with("text/event-stream"), "{}", stream.header("content-type"));
    let events = stream.events();
    let said = |e: &Value| e["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap_or_default().to_owned();
    assert_eq!(events.iter().map(said).collect::<String>(), "one two three", "{}", stream.text());
    let last = events.last().unwrap();
    assert_eq!(
        (&last["candidates"][0]["finishReason"], &last["usageMetadata"]["promptTokenCount"]),
        (&json!("STOP"), &json!(10))
    );
    let list = edge.post(path, &[], &hello()).await;
    assert_eq!((list.status, list.json()["error"]["status"].as_str()), (400, Some("INVALID_ARGUMENT")));
    assert!(list.json()["error"]["message"].as_str().unwrap().contains("?alt=sse"), "{}", list.text());
    assert_eq!(llm.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_counts_and_refusals_are_in_googles_form() {
    let llm = Llm::saying("hi").await;
    let edge = edge(&llm).await;
    let list = edge.get("/v1beta/models?pageSize=50").await;
    let names: Vec<Value> = list.json()["models"].as_array().unwrap().iter().map(|m| m["name"].clone()).collect();
    assert!(names.contains(&json!("models/small")) && names.contains(&json!("models/auto")), "{}", list.text());
    assert_eq!(edge.get("/v1beta/models/small").await.json()["name"], "models/small");
    let unknown = edge.get("/v1beta/models/smal").await;
    assert_eq!((unknown.status, unknown.json()["error"]["status"].as_str()), (404, Some("NOT_FOUND")));
    let counted = edge.post("/v1beta/models/small:countTokens", &[], &hello()).await;
    assert_eq!((counted.status, counted.header("x-sluicegate-estimated")), (200, "totalTokens"), "{}", counted.text());
    let refused = edge.post("/v1beta/models/small:embedContent", &[], &json!({ "content": {} })).await;
    assert_eq!((refused.status, refused.json()["error"]["status"].as_str()), (404, Some("NOT_FOUND")));
    let get = edge.get("/v1beta/models/small:generateContent").await;
    assert_eq!((get.status, get.header("allow")), (405, "POST"));
    let bad = edge.post("/v1beta/models/small:generateContent", &[], &json!({ "contents": "hello" })).await;
    assert_eq!((bad.status, bad.json()["error"]["details"][0]["metadata"]["field"].as_str()), (400, Some("contents")));
    assert_eq!(llm.calls(), 0);
}
