//! The AI gateway: calls, streams, fallback, failures, costs.

use crate::harness::client::{Client, Response, request};
use crate::harness::edge::{Edge, Setup};
use crate::harness::llm::{Llm, Play, answer_text, chat, streamed};
use crate::harness::origin::{self, gate};
use crate::harness::wait_until;
use serde_json::{Value, json};

pub const CHAT: &str = "/v1/chat/completions";

const YAML: &str = "
ai:
  max_body: 64KiB
  providers:
    one: { dialect: openai, base_url: \"$ONE\", timeouts: { connect: 500ms, first_byte: 700ms, between_bytes: 700ms } }
    two: { dialect: openai, base_url: \"$TWO\" }
  models:
    first: { provider: one, model: first-1, price: { input: 1.0, output: 2.0 } }
    second: { provider: two, model: second-1, price: { input: 10.0, output: 20.0 } }
  tiers: { standard: [first, second], alone: [first] }
routes: [ { match: { path: /v1/* }, ai: { tier: standard } } ]
";

/// A gateway in front of two providers; the second says `from the second`.
async fn pair(first: &Llm) -> (Llm, Edge) {
    let second = Llm::saying("from the second").await;
    let edge = Setup::new(YAML).put("ONE", first.url()).put("TWO", second.url()).start().await;
    (second, edge)
}

async fn call(edge: &Edge, body: &Value) -> Response {
    edge.post(CHAT, &[], body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_answered_and_priced() {
    let llm = Llm::saying("one two three").await;
    let (_, edge) = pair(&llm).await;
    let answer = call(&edge, &chat("auto", "hello")).await;
    assert_eq!((answer.status, answer.source()), (200, "provider"), "{}", answer.text());
    assert_eq!(answer_text(&answer.json()), "one two three");
    assert_eq!((answer.header("x-sluicegate-model"), answer.header("x-sluicegate-tier")), ("first", "standard"));
    // 10 tokens in at 1 USD and 3 out at 2 USD per million
    let cost: f64 = answer.header("x-sluicegate-cost-usd").parse().expect("a cost");
    assert!((cost - 16e-6).abs() < 1e-9, "{cost}");
    assert_eq!(llm.last().json()["model"], "first-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_or_a_tier_can_be_asked_for_by_name() {
    let llm = Llm::saying("hi").await;
    let (second, edge) = pair(&llm).await;
    for (asked, model) in [("second", "second"), ("alone", "first"), ("standard", "first")] {
        let answer = call(&edge, &chat(asked, "hello")).await;
        assert_eq!((answer.status, answer.header("x-sluicegate-model")), (200, model), "{asked}: {}", answer.text());
    }
    assert_eq!((llm.calls(), second.calls()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_passes_frame_by_frame() {
    let door = gate();
    let held = door.clone();
    let llm = Llm::start(move |_, _| Play::Gated("one two three".to_owned(), held.clone())).await;
    let (_, edge) = pair(&llm).await;
    let mut client = Client::connect(edge.web()).await;
    let body = streamed("auto", "hello").to_string();
    client.send(request("POST", CHAT, &[("Content-Type", "application/json")], body.as_bytes())).await;
    let head = client.head().await.unwrap();
    assert_eq!((head.status, head.source()), (200, "provider"));
    assert!(head.header("content-type").starts_with("text/event-stream"), "{head:?}");
    let mut text = String::new();
    for word in ["one ", "two ", "three"] {
        while !text.contains(&format!("\"{word}\"")) {
            text += &String::from_utf8(client.chunk().await.expect("the stream goes on")).unwrap();
        }
        assert!(!text.contains("[DONE]"));
        door.add_permits(1);
    }
    while !text.contains("[DONE]") {
        let piece = client.chunk().await.expect("the stream ends cleanly");
        text += &String::from_utf8(piece).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_streamed_only_to_those_who_asked() {
    let llm = Llm::saying("one two").await;
    let (_, edge) = pair(&llm).await;
    let plain = call(&edge, &streamed("auto", "hello")).await;
    assert_eq!(plain.streamed_text(), "one two");
    assert!(plain.events().iter().all(|e| e["usage"].is_null()), "{}", plain.text());
    let mut body = streamed("auto", "hello");
    body["stream_options"] = json!({ "include_usage": true });
    let asked = call(&edge, &body).await;
    assert_eq!(asked.events().last().unwrap()["usage"]["completion_tokens"], 2, "{}", asked.text());
    assert!(asked.text().trim_end().ends_with("data: [DONE]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_model_is_replaced_by_the_next() {
    for play in [Play::Fail(500), Play::Fail(503), Play::Fail(429), Play::Hang, Play::Garbage] {
        let failing = play.clone();
        let llm = Llm::start(move |_, _| failing.clone()).await;
        let (second, edge) = pair(&llm).await;
        let answer = call(&edge, &chat("auto", "hello")).await;
        assert_eq!((answer.status, answer.header("x-sluicegate-model")), (200, "second"), "{}", answer.text());
        assert_eq!((llm.calls(), second.calls()), (1, 1));
        let stream = call(&edge, &streamed("auto", "hello")).await;
        if !matches!(play, Play::Garbage) {
            assert_eq!(stream.streamed_text(), "from the second");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_not_there_is_replaced_by_the_next() {
    let second = Llm::saying("from the second").await;
    let url = format!("http://{}/v1", origin::nobody());
    let edge = Setup::new(YAML).put("ONE", url).put("TWO", second.url()).start().await;
    assert_eq!(answer_text(&call(&edge, &chat("auto", "hello")).await.json()), "from the second");
    let alone = call(&edge, &chat("alone", "hello")).await;
    assert_eq!(alone.status, 502, "{}", alone.text());
    assert!(alone.json()["error"]["message"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_fault_is_not_retried_elsewhere() {
    let llm = Llm::start(|_, _| Play::Fail(400)).await;
    let (second, edge) = pair(&llm).await;
    let answer = call(&edge, &chat("auto", "hello")).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(answer.json()["error"]["message"], "scripted failure");
    assert_eq!((llm.calls(), second.calls()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_never_looks_finished() {
    let llm = Llm::start(|_, _| Play::CutAfter("one two three four".to_owned(), 2)).await;
    let (second, edge) = pair(&llm).await;
    let answer = call(&edge, &streamed("auto", "hello")).await;
    let text = answer.text();
    assert!(!text.contains("[DONE]"), "{text}");
    assert!(!answer.complete || text.contains("\"error\""), "cut without a sign: {text}");
    assert_eq!(second.calls(), 0, "no replay after the first word");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_call() {
    let door = gate();
    let llm = Llm::start(move |_, _| Play::Gated("one two three".to_owned(), door.clone())).await;
    let (_, edge) = pair(&llm).await;
    let mut client = Client::connect(edge.web()).await;
    let body = streamed("auto", "hello").to_string();
    client.send(request("POST", CHAT, &[], body.as_bytes())).await;
    client.head().await.unwrap();
    client.chunk().await.unwrap();
    drop(client);
    wait_until("the provider to notice", async || llm.abandoned() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_calls_are_refused_in_the_dialect_and_reach_no_provider() {
    let llm = Llm::saying("hi").await;
    let (second, edge) = pair(&llm).await;
    let post = async |body: &[u8]| edge.ask("POST", CHAT, &[("Content-Type", "application/json")], body).await;
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let big = chat("auto", &"x".repeat(70_000)).to_string();
    for (what, body, status) in [
        ("no JSON", b"{\"model\": ".to_vec(), 400),
        ("nothing", b" ".to_vec(), 400),
        ("a list", b"[]".to_vec(), 400),
        ("no messages", b"{\"model\": \"auto\"}".to_vec(), 400),
        ("no model", b"{\"messages\": []}".to_vec(), 400),
        ("messages of a wrong kind", br#"{"model": "auto", "messages": "hello"}"#.to_vec(), 400),
        (
            "a stream flag of a wrong kind",
            br#"{"model": "auto", "stream": "yes", "messages": [{"role": "user", "content": "x"}]}"#.to_vec(),
            400,
        ),
        ("an unknown model", chat("gpt-99", "hi").to_string().into_bytes(), 404),
        (
            "deep nesting",
            format!(
                "{{\"model\": \"auto\", \"messages\": [{{\"role\": \"user\", \"content\": \"x\"}}], \"x\": {deep}}}"
            )
            .into_bytes(),
            400,
        ),
        ("too many bytes", big.into_bytes(), 413),
        (
            "bytes that are no text",
            b"{\"model\": \"auto\", \"messages\": [{\"role\": \"user\", \"content\": \"\xff\xfe\"}]}".to_vec(),
            400,
        ),
    ] {
        let answer = post(&body).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        let error = answer.json()["error"].clone();
        assert!(
            error["message"].as_str().is_some_and(|m| !m.is_empty()) && error["type"].is_string(),
            "{what}: {error}"
        );
    }
    assert_eq!(edge.get(CHAT).await.status, 405);
    assert_eq!(call(&edge, &chat("gpt-99", "hi")).await.json()["error"]["code"], "model_not_found");
    assert_eq!((llm.calls(), second.calls()), (0, 0));
    assert_eq!(call(&edge, &chat("auto", "hi")).await.status, 200, "the process lives");
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_and_the_model_list() {
    let llm = Llm::saying("hi").await;
    let (_, edge) = pair(&llm).await;
    let answer = edge.post("/v1/embeddings", &[], &json!({ "model": "first", "input": ["a", "b"] })).await;
    assert_eq!(answer.json()["data"].as_array().map(Vec::len), Some(2), "{}", answer.text());
    let models = edge.get("/v1/models").await.json();
    let ids: Vec<&str> = models["data"].as_array().unwrap().iter().filter_map(|m| m["id"].as_str()).collect();
    assert!(ids.contains(&"first") && ids.contains(&"second"), "{models}");
    assert_eq!(models["object"], "list");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_reach_the_provider_untouched() {
    let llm = Llm::saying("hi").await;
    let (_, edge) = pair(&llm).await;
    let mut body = chat("auto", "hello");
    body["reasoning_effort"] = json!("low");
    body["x_future"] = json!({ "deep": [1, 2.5, null] });
    call(&edge, &body).await;
    let got = llm.last().json();
    assert_eq!((&got["reasoning_effort"], &got["x_future"]), (&body["reasoning_effort"], &body["x_future"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_providers_key_goes_to_the_provider_and_the_clients_does_not() {
    let llm = Llm::saying("hi").await;
    let yaml = YAML.replace("base_url: \"$ONE\",", "base_url: \"$ONE\", api_key: \"file:$DIR/key\",");
    let edge = Setup::new(&yaml).put("ONE", llm.url()).put("TWO", llm.url()).file("key", "sk-provider\n").start().await;
    let answer =
        edge.post(CHAT, &[("Authorization", "Bearer sk-client"), ("Cookie", "a=1")], &chat("auto", "hi")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = llm.last();
    assert_eq!(seen.header("authorization"), "Bearer sk-provider");
    assert!(!seen.raw.contains("sk-client") && seen.count("cookie") == 0, "{}", seen.raw);
    let told = format!("{answer:?} {} {}", edge.metrics().await, edge.status().await);
    assert!(!told.contains("sk-provider"));
}
