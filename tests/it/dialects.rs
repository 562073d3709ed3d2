//! Clients and providers of different dialects: whatever the client speaks, it gets whole answers, streams, errors and
//! cached answers in its own words.

use crate::harness::client::{Client, Response, request};
use crate::harness::edge::{Edge, Setup};
use crate::harness::llm::{Llm, Play, chat, streamed};
use crate::harness::origin::gate;
use crate::harness::wait_until;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

const YAML: &str = "
ai:
  providers:
    oa: { dialect: openai, base_url: \"$LLM\", timeouts: { connect: 500ms, first_byte: 700ms, between_bytes: 700ms } }
    an:
      dialect: anthropic
      base_url: \"$LLM\"
      api_key: \"file:$DIR/key\"
      timeouts: { connect: 500ms, first_byte: 700ms, between_bytes: 700ms }
    ge:
      dialect: gemini
      base_url: \"$LLM\"
      api_key: \"file:$DIR/key\"
      timeouts: { connect: 500ms, first_byte: 700ms, between_bytes: 700ms }
  models:
    gem: { provider: ge, model: gem-1, price: { input: 100.0, output: 200.0 } }
    gpt: { provider: oa, model: gpt-1, price: { input: 1.0, output: 2.0 } }
    claude: { provider: an, model: claude-1, max_tokens: 777, price: { input: 10.0, output: 20.0 } }
  tiers: { mixed: [claude, gpt], other: [gpt, claude] }
  caches: { answers: { exact: {} } }
routes:
  - { name: cached, match: { path: /cached/* }, ai: { tier: mixed, cache: answers } }
  - { name: plain, match: { path: /v1/* }, ai: { tier: mixed } }
";

async fn edge(llm: &Llm) -> Edge {
    Setup::new(YAML).put("LLM", llm.url()).file("key", "sk-provider\n").start().await
}

fn message(model: &str, text: &str) -> Value {
    json!({ "model": model, "max_tokens": 100, "messages": [{ "role": "user", "content": text }] })
}

fn streamed_message(model: &str, text: &str) -> Value {
    let mut m = message(model, text);
    m["stream"] = json!(true);
    m
}

/// A call as a client of this endpoint makes it.
fn call(endpoint: &str, model: &str, text: &str, stream: bool) -> Value {
    match (endpoint, stream) {
        (CHAT, false) => chat(model, text),
        (CHAT, true) => streamed(model, text),
        (_, false) => message(model, text),
        (_, true) => streamed_message(model, text),
    }
}

/// The text of a whole or streamed answer of either dialect.
fn said(endpoint: &str, answer: &Response, stream: bool) -> String {
    match (endpoint, stream) {
        (CHAT, true) => answer.streamed_text(),
        (CHAT, false) => answer.json()["choices"][0]["message"]["content"].as_str().unwrap_or("").to_owned(),
        (_, false) => answer.json()["content"][0]["text"].as_str().unwrap_or("").to_owned(),
        (_, true) => answer.events().iter().filter_map(|e| e["delta"]["text"].as_str()).collect(),
    }
}

fn ended(endpoint: &str, answer: &Response) -> bool {
    let text = answer.text();
    text.ends_with(if endpoint == CHAT { "data: [DONE]\n\n" } else { "{\"type\":\"message_stop\"}\n\n" })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_reads_every_provider() {
    let llm = Llm::echo().await;
    let edge = edge(&llm).await;
    for endpoint in [CHAT, MESSAGES] {
        for (model, own) in [("gpt", CHAT), ("claude", MESSAGES), ("gem", "/v1/models/gem-1:")] {
            for stream in [false, true] {
                let answer = edge.post(endpoint, &[], &call(endpoint, model, "hello there", stream)).await;
                let what = format!("{endpoint} to {model}, stream {stream}: {}", answer.text());
                assert_eq!((answer.status, answer.header("x-sluicegate-model")), (200, model), "{what}");
                assert!(said(endpoint, &answer, stream).starts_with("You said: "), "{what}");
                assert!(said(endpoint, &answer, stream).contains("hello there"), "{what}");
                assert!(!stream || ended(endpoint, &answer), "{what}");
                let seen = llm.last();
                assert!(seen.target.starts_with(own), "{what}");
                if model == "gem" {
                    let method = if stream { ":streamGenerateContent?alt=sse" } else { ":generateContent" };
                    assert!(seen.target.ends_with(method) && seen.header("x-goog-api-key") == "sk-provider", "{what}");
                } else {
                    assert_eq!(seen.json()["model"], if model == "gpt" { "gpt-1" } else { "claude-1" });
                }
                if (endpoint, own) == (CHAT, MESSAGES) {
                    assert_eq!(seen.json()["max_tokens"], 777, "a client that sets no limit gets the model's");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_dialect_passes_byte_for_byte() {
    let llm = Llm::saying("one two").await;
    let edge = edge(&llm).await;
    let body = b"{ \"max_tokens\": 9,\t\"model\": \"claude\",  \"x_future\": 1.50, \"messages\":[{\"role\":\"user\",\"content\":\"\\u00e9\"}] }";
    let fields = [
        ("Content-Type", "application/json"),
        ("x-api-key", "sk-client"),
        ("anthropic-version", "2099-01-01"),
        ("anthropic-beta", "b-1"),
    ];
    let answer = edge.ask("POST", MESSAGES, &fields, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = llm.last();
    assert_eq!(seen.body, String::from_utf8_lossy(body).replace("\"claude\"", "\"claude-1\"").into_bytes());
    assert_eq!((seen.header("x-api-key"), seen.header("authorization")), ("sk-provider", ""));
    assert_eq!((seen.header("anthropic-version"), seen.header("anthropic-beta")), ("2099-01-01", "b-1"));
    // Across dialects neither version nor beta of the client's API means anything, and the key is never passed.
    edge.ask("POST", MESSAGES, &fields, message("gpt", "x").to_string().as_bytes()).await;
    let seen = llm.last();
    assert_eq!(seen.count("anthropic-beta") + seen.count("anthropic-version") + seen.count("x-api-key"), 0);
    edge.post(CHAT, &[("openai-beta", "x")], &chat("claude", "x")).await;
    let seen = llm.last();
    assert_eq!((seen.header("anthropic-version"), seen.count("openai-beta")), ("2023-06-01", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_target_is_told() {
    let llm = Llm::saying("hi").await;
    let edge = edge(&llm).await;
    let mut body = chat("claude", "x");
    (body["n"], body["logprobs"], body["x_next"]) = (json!(2), json!(true), json!(1));
    for stream in [false, true] {
        body["stream"] = json!(stream);
        let answer = edge.post(CHAT, &[], &body).await;
        assert_eq!((answer.status, answer.header("x-sluicegate-dropped")), (200, "n,logprobs,x_next"));
        assert!(llm.last().json().get("n").is_none());
    }
    body["stream"] = json!(false);
    let own = edge
        .post(CHAT, &[], &{
            let mut b = body.clone();
            b["model"] = json!("gpt");
            b
        })
        .await;
    assert_eq!((own.count("x-sluicegate-dropped"), &llm.last().json()["n"]), (0, &json!(2)));
    let first = edge.post("/cached/v1/chat/completions", &[], &body).await;
    let again = edge.post("/cached/v1/chat/completions", &[], &body).await;
    assert_eq!((first.source(), again.source()), ("provider", "ai_exact"));
    assert_eq!(again.header("x-sluicegate-dropped"), "n,logprobs,x_next", "an answer from a cache tells it, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_said_goes_to_a_model_that_understands_it_or_is_refused() {
    let llm = Llm::saying("hi").await;
    let edge = edge(&llm).await;
    let mut body = chat("claude", "x");
    body["messages"][0]["content"] = json!([{ "type": "input_audio", "input_audio": { "data": "", "format": "wav" } }]);
    let refused = edge.post(CHAT, &[], &body).await;
    assert_eq!((refused.status, llm.calls()), (400, 0), "{}", refused.text());
    assert_eq!(refused.json()["error"]["code"], "unsupported_by_provider");
    assert_eq!(refused.json()["error"]["param"], "messages[0].content[0]");
    body["model"] = json!("mixed");
    let answer = edge.post(CHAT, &[], &body).await;
    assert_eq!((answer.status, answer.header("x-sluicegate-model"), llm.calls()), (200, "gpt", 1));
    let mut body = message("gpt", "x");
    body["tools"] = json!([{ "type": "web_search_20250305", "name": "web_search" }]);
    let refused = edge.post(MESSAGES, &[], &body).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(
        (&refused.json()["type"], &refused.json()["error"]["type"]),
        (&json!("error"), &json!("invalid_request_error"))
    );
    let embeddings = edge.post("/v1/embeddings", &[], &json!({ "model": "claude", "input": "x" })).await;
    assert_eq!(embeddings.status, 400, "{}", embeddings.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_are_called_in_parallel_whoever_asks_whom() {
    let calls = vec![("call_1", "weather", "{\"city\":\"Oslo\"}"), ("call_2", "clock", "{}")];
    let llm = Llm::start(move |_, _| Play::Tools("Let me look. ".to_owned(), calls.clone())).await;
    let edge = edge(&llm).await;
    for model in ["gpt", "claude", "gem"] {
        let openai = edge.post(CHAT, &[], &chat(model, "x")).await.json();
        let message = &openai["choices"][0]["message"];
        assert_eq!(openai["choices"][0]["finish_reason"], "tool_calls", "{openai}");
        assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"city\":\"Oslo\"}", "{openai}");
        assert_eq!(message["tool_calls"][1]["id"], "call_2");
        let anthropic = edge.post(MESSAGES, &[], &self::message(model, "x")).await.json();
        assert_eq!(anthropic["stop_reason"], "tool_use", "{anthropic}");
        let uses: Vec<&Value> =
            anthropic["content"].as_array().unwrap().iter().filter(|b| b["type"] == "tool_use").collect();
        assert_eq!(uses[0]["input"], json!({ "city": "Oslo" }), "{anthropic}");
        assert_eq!((uses.len(), &uses[1]["name"]), (2, &json!("clock")), "{anthropic}");
        let stream = edge.post(MESSAGES, &[], &streamed_message(model, "x")).await;
        let events = stream.events();
        let first = events.iter().find(|e| e["content_block"]["name"] == "weather").unwrap()["index"].clone();
        let fragments: String =
            events.iter().filter(|e| e["index"] == first).filter_map(|e| e["delta"]["partial_json"].as_str()).collect();
        assert_eq!(fragments, "{\"city\":\"Oslo\"}", "{}", stream.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_cached_for_the_dialect_that_asked() {
    let llm = Llm::saying("one two three").await;
    let edge = edge(&llm).await;
    for model in ["gpt", "claude", "gem"] {
        let before = llm.calls();
        for (endpoint, n) in [(CHAT, 1), (MESSAGES, 2)] {
            let path = format!("/cached{endpoint}");
            let first = edge.post(&path, &[], &call(endpoint, model, "q", true)).await;
            assert_eq!((first.source(), llm.calls() - before), ("provider", n), "{}", first.text());
            for stream in [false, true] {
                let again = edge.post(&path, &[], &call(endpoint, model, "q", stream)).await;
                assert_eq!((again.source(), llm.calls() - before), ("ai_exact", n), "{}", again.text());
                assert_eq!(said(endpoint, &again, stream), "one two three", "{}", again.text());
                assert!(!stream || ended(endpoint, &again), "{}", again.text());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_costs_the_same_in_every_dialect() {
    let llm = Llm::saying("one two three").await;
    let edge = edge(&llm).await;
    for endpoint in [CHAT, MESSAGES] {
        for (model, cost) in [("gpt", "0.000016000"), ("claude", "0.000160000"), ("gem", "0.001600000")] {
            let answer = edge.post(endpoint, &[], &call(endpoint, model, "q", false)).await;
            assert_eq!(answer.header("x-sluicegate-cost-usd"), cost, "{endpoint} {model}");
            let usage = answer.json()["usage"].clone();
            let told = if endpoint == CHAT {
                ["prompt_tokens", "completion_tokens"]
            } else {
                ["input_tokens", "output_tokens"]
            };
            assert_eq!((&usage[told[0]], &usage[told[1]]), (&json!(10), &json!(3)), "{usage}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_worded_for_the_client() {
    for (status, openai, anthropic) in [
        (400, (400, "invalid_request_error"), (400, "invalid_request_error")),
        (429, (429, "rate_limit_error"), (429, "rate_limit_error")),
        (500, (500, "api_error"), (500, "api_error")),
        (529, (503, "api_error"), (529, "overloaded_error")),
    ] {
        let llm = Llm::start(move |_, _| Play::Fail(status)).await;
        let edge = edge(&llm).await;
        for (endpoint, model) in [(CHAT, "gem"), (MESSAGES, "gem")] {
            let answer = edge.post(endpoint, &[], &call(endpoint, model, "q", false)).await;
            let want = if endpoint == CHAT { openai } else { anthropic };
            assert_eq!((answer.status, answer.json()["error"]["type"].as_str().unwrap()), want, "{}", answer.text());
        }
        for (endpoint, model, want) in
            [(CHAT, "claude", openai), (MESSAGES, "gpt", anthropic), (MESSAGES, "claude", anthropic)]
        {
            let answer = edge.post(endpoint, &[], &call(endpoint, model, "q", false)).await;
            let error = &answer.json()["error"];
            assert_eq!((answer.status, error["type"].as_str().unwrap()), want, "{endpoint} {model}: {error}");
            assert_eq!(error["message"], "scripted failure");
            assert_eq!(answer.json()["type"] == "error", endpoint == MESSAGES);
        }
    }
    let llm = Llm::saying("x").await;
    let edge = edge(&llm).await;
    for (body, status, kind) in [
        ("{", 400, "invalid_request_error"),
        (
            "{\"model\":\"nope\",\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
            404,
            "not_found_error",
        ),
    ] {
        let answer = edge.ask("POST", MESSAGES, &[], body.as_bytes()).await;
        assert_eq!(
            (answer.status, answer.json()["error"]["type"].as_str().unwrap()),
            (status, kind),
            "{}",
            answer.text()
        );
    }
    assert_eq!(edge.get(MESSAGES).await.json()["type"], "error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_stream_ends_in_an_error_of_the_clients_dialect() {
    let llm = Llm::start(|_, _| Play::CutAfter("one two three".to_owned(), 2)).await;
    let edge = edge(&llm).await;
    for endpoint in [CHAT, MESSAGES] {
        for model in ["gpt", "claude", "gem"] {
            let path = format!("/cached{endpoint}");
            let answer = edge.post(&path, &[], &call(endpoint, model, "q", true)).await;
            let text = answer.text();
            assert!(text.contains("two ") && !ended(endpoint, &answer) && !answer.complete, "{text}");
            assert!(!text.contains("message_stop") && !text.contains("[DONE]"), "{text}");
            let last = answer.events().pop().unwrap();
            assert_eq!(last["type"] == "error", endpoint == MESSAGES, "{last}");
            assert!(last["error"]["message"].as_str().unwrap().contains("broke"), "{last}");
            let before = llm.calls();
            edge.post(&path, &[], &call(endpoint, model, "q", true)).await;
            assert_eq!(llm.calls(), before + 1, "nothing was stored");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_provider_is_replaced_by_one_of_another_dialect() {
    for play in [Play::Fail(500), Play::Fail(429), Play::Fail(529), Play::Fail(401), Play::Garbage, Play::Hang] {
        for bad in [MESSAGES, CHAT] {
            let failing = play.clone();
            let llm = Llm::start(move |_, seen| match seen.target == bad {
                true => failing.clone(),
                false => Play::Say("from the other".to_owned()),
            })
            .await;
            let edge = edge(&llm).await;
            let tier = if bad == MESSAGES { "mixed" } else { "other" };
            for endpoint in [CHAT, MESSAGES] {
                let stream = endpoint == CHAT;
                let answer = edge.post(endpoint, &[], &call(endpoint, tier, "q", stream)).await;
                assert_eq!(said(endpoint, &answer, stream), "from the other", "{}", answer.text());
                assert!(!stream || ended(endpoint, &answer), "{}", answer.text());
            }
            // Who refuses the key is not asked a second time.
            let calls = if matches!(play, Play::Fail(401)) { 3 } else { 4 };
            assert_eq!(llm.calls(), calls, "each provider is asked once per call");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_translated_stream_passes_word_by_word_and_ends_with_its_client() {
    let door = gate();
    let held = door.clone();
    let llm = Llm::start(move |_, _| Play::Gated("one two three".to_owned(), held.clone())).await;
    let edge = edge(&llm).await;
    let mut client = Client::connect(edge.web()).await;
    let body = streamed_message("gpt", "hello").to_string();
    client.send(request("POST", MESSAGES, &[("Content-Type", "application/json")], body.as_bytes())).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    let mut text = String::new();
    for word in ["one ", "two "] {
        while !text.contains(&format!("\"{word}\"")) {
            text += &String::from_utf8(client.chunk().await.expect("the stream goes on")).unwrap();
        }
        if word == "one " {
            door.add_permits(1);
        }
    }
    drop(client);
    wait_until("the provider to notice", async || llm.abandoned() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_counted_by_a_provider_that_can_and_estimated_with_a_mark_otherwise() {
    let llm = Llm::saying("x").await;
    let edge = edge(&llm).await;
    let count = async |model: &str| {
        let answer = edge.post("/v1/messages/count_tokens", &[], &message(model, &"word ".repeat(80))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        (answer.json()["input_tokens"].as_u64().unwrap(), answer.header("x-sluicegate-estimated").to_owned())
    };
    assert_eq!(count("claude").await, (42, String::new()));
    assert_eq!(llm.last().json()["model"], "claude-1");
    let (tokens, mark) = count("gpt").await;
    assert!((90..130).contains(&tokens), "{tokens}");
    assert_eq!((mark.as_str(), llm.calls()), ("input_tokens", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_in_the_clients_form() {
    let llm = Llm::saying("x").await;
    let edge = edge(&llm).await;
    let version = [("anthropic-version", "2023-06-01")];
    let list = edge.ask("GET", "/v1/models", &version, b"").await.json();
    assert_eq!((&list["data"][0]["type"], &list["has_more"]), (&json!("model"), &json!(false)), "{list}");
    let one = edge.ask("GET", "/v1/models/claude", &version, b"").await.json();
    assert_eq!((&one["id"], &one["type"]), (&json!("claude"), &json!("model")));
    assert_eq!(edge.ask("GET", "/v1/models/nope", &version, b"").await.json()["type"], "error");
    assert_eq!(edge.get("/v1/models").await.json()["object"], "list");
}
