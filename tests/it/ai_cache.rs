//! The caches of model answers: exact, semantic with real vectors, tenants apart, calls in flight shared.

use crate::ai::CHAT;
use crate::harness::client::{self, Client, Response, request};
use crate::harness::edge::{Edge, Setup};
use crate::harness::llm::{Llm, Play, answer_text, chat, streamed};
use crate::harness::origin::gate;
use crate::harness::process::Process;
use crate::harness::token::{AUTH, SECRET, bearer};
use crate::harness::wait_until;
use serde_json::{Value, json};

const YAML: &str = "
ai:
  providers: { p: { dialect: openai, base_url: \"$LLM\" } }
  models: { small: { provider: p, model: small-1, price: { input: 1.0, output: 2.0 } }, large: { provider: p, model: large-1 } }
  tiers: { cheap: [small], best: [large] }
  vector_stores: { disk: { edge: { path: \"$DIR/vectors\" } } }
  caches:
    exact: { exact: { ttl: 1h } }
    both: { exact: { ttl: 1h }, semantic: { store: disk, threshold: 0.9, ttl: 1h } }
routes:
  - { match: { path: /v1/* }, ai: { tier: cheap, cache: $CACHE } $MORE }
";

fn setup(llm: &Llm, cache: &str) -> Setup {
    Setup::new(YAML).put("LLM", llm.url()).put("CACHE", cache).put("MORE", "")
}

async fn call(edge: &Edge, body: &Value) -> Response {
    let answer = edge.post(CHAT, &[], body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

/// Asks until the answer comes from `source`: what is learnt from an answer is stored after it was sent.
async fn until_source(edge: &Edge, body: &Value, source: &str) -> Response {
    let mut last = None;
    wait_until(&format!("an answer from {source}"), async || {
        let answer = edge.post(CHAT, &[], body).await;
        let there = answer.source() == source;
        last = Some(answer);
        there
    })
    .await;
    last.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_question_again_is_answered_exactly() {
    let llm = Llm::echo().await;
    let edge = setup(&llm, "exact").start().await;
    let first = call(&edge, &chat("auto", "hello")).await;
    let again = until_source(&edge, &chat("auto", "hello"), "ai_exact").await;
    assert_eq!(answer_text(&again.json()), answer_text(&first.json()));
    assert!(again.header("cache-status").contains("hit"), "{again:?}");
    assert_eq!(llm.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hit_saved_is_counted() {
    let llm = Llm::saying("one two three").await;
    let edge = setup(&llm, "exact").start().await;
    call(&edge, &chat("auto", "hello")).await;
    // 10 tokens in at 1 USD and 3 out at 2 USD per million; counted once the answer is out
    wait_until("the cost", async || edge.metric("sluicegate_ai_cost_nano_usd_total", &[]).await == 16_000.0).await;
    let tokens = edge.metric("gen_ai_client_token_usage_sum", &["gen_ai_operation_name=\"chat\""]).await;
    assert_eq!(tokens, 13.0);
    assert_eq!(
        edge.metric("gen_ai_client_operation_duration_seconds_count", &["gen_ai_request_model=\"small\""]).await,
        1.0
    );
    until_source(&edge, &chat("auto", "hello"), "ai_exact").await;
    wait_until("the saving", async || edge.metric("sluicegate_ai_saved_nano_usd_total", &[]).await >= 16_000.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_answer_is_replayed_as_json_or_as_a_stream() {
    let llm = Llm::echo().await;
    let edge = setup(&llm, "exact").start().await;
    assert_eq!(call(&edge, &streamed("auto", "hello")).await.streamed_text(), "You said: hello");
    let whole = until_source(&edge, &chat("auto", "hello"), "ai_exact").await;
    assert_eq!(answer_text(&whole.json()), "You said: hello");
    let mut body = streamed("auto", "hello");
    body["stream_options"] = json!({ "include_usage": true });
    let stream = call(&edge, &body).await;
    assert_eq!((stream.source(), stream.streamed_text().as_str()), ("ai_exact", "You said: hello"));
    assert!(stream.text().trim_end().ends_with("data: [DONE]"));
    assert_eq!(llm.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_changes_the_answer_is_part_of_the_key() {
    let llm = Llm::echo().await;
    let edge = setup(&llm, "both").start().await;
    let base = chat("auto", "hello");
    call(&edge, &base).await;
    until_source(&edge, &base, "ai_exact").await;
    for (name, value) in [
        ("temperature", json!(0.7)),
        ("max_tokens", json!(5)),
        ("model", json!("best")),
        ("seed", json!(1)),
        ("stop", json!(["x"])),
        ("response_format", json!({ "type": "json_object" })),
        ("tools", json!([{ "type": "function", "function": { "name": "f", "parameters": {} } }])),
        ("messages", json!([{ "role": "system", "content": "be rude" }, { "role": "user", "content": "hello" }])),
        (
            "messages",
            json!([{ "role": "user", "content": "a" }, { "role": "assistant", "content": "b" }, { "role": "user", "content": "hello" }]),
        ),
        ("x_future", json!(1)),
    ] {
        let mut other = base.clone();
        other[name] = value;
        let before = llm.calls();
        assert_eq!(call(&edge, &other).await.source(), "provider", "{name}");
        assert_eq!(llm.calls(), before + 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_and_halves_are_never_stored() {
    let llm = Llm::start(|_, seen| match seen.number {
        0 => Play::Fail(500),
        1 => Play::Garbage,
        2 => Play::CutAfter("half an answer".to_owned(), 1),
        _ => Play::Say("whole".to_owned()),
    })
    .await;
    let edge = setup(&llm, "both").start().await;
    for _ in 0..2 {
        let failed = edge.post(CHAT, &[], &chat("auto", "hello")).await;
        assert!(failed.status >= 500, "{failed:?}");
    }
    edge.post(CHAT, &[], &streamed("auto", "hello")).await;
    let good = call(&edge, &chat("auto", "hello")).await;
    assert_eq!((good.source(), answer_text(&good.json())), ("provider", "whole"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_ask_for_a_fresh_answer() {
    let llm = Llm::start(|_, seen| Play::Say(format!("answer {}", seen.number))).await;
    let edge = setup(&llm, "exact").start().await;
    call(&edge, &chat("auto", "hello")).await;
    until_source(&edge, &chat("auto", "hello"), "ai_exact").await;
    let fresh = edge.post(CHAT, &[("Cache-Control", "no-cache")], &chat("auto", "hello")).await;
    assert_eq!((fresh.source(), llm.calls()), ("provider", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_flight_are_shared() {
    let door = gate();
    let held = door.clone();
    let llm = Llm::start(move |_, _| Play::Late("shared".to_owned(), held.clone())).await;
    let edge = setup(&llm, "exact").start().await;
    let body = chat("auto", "hello").to_string();
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(edge.web()).await;
        client.send(request("POST", CHAT, &[("Content-Type", "application/json")], body.as_bytes())).await;
        clients.push(client);
    }
    wait_until("the call", async || llm.calls() == 1).await;
    door.add_permits(20);
    let mut sources = Vec::new();
    for client in &mut clients {
        let answer = client.response(false).await;
        assert_eq!((answer.status, answer_text(&answer.json())), (200, "shared"));
        sources.push(answer.source().to_owned());
    }
    assert_eq!(llm.calls(), 1, "{sources:?}");
    assert_eq!(sources.iter().filter(|s| *s == "provider").count(), 1, "{sources:?}");
}

const ASKED: &str = "How do I reset my password?";
const PARAPHRASE: &str = "How can I reset my password?";
const OTHER: &str = "What is the capital of France?";

#[tokio::test(flavor = "multi_thread")]
async fn a_paraphrase_is_answered_from_memory_and_a_different_question_is_not() {
    let llm = Llm::echo().await;
    let edge = setup(&llm, "both").start().await;
    call(&edge, &chat("auto", ASKED)).await;
    let (mut tries, mut last) = (0, None);
    wait_until("the paraphrase to hit", async || {
        tries += 1;
        last = Some(call(&edge, &chat("auto", &worded(tries))).await);
        last.as_ref().is_some_and(|hit| hit.source() == "ai_semantic")
    })
    .await;
    let hit = last.expect("it was asked");
    assert_eq!(answer_text(&hit.json()), format!("You said: {ASKED}"));
    let score: f32 = hit.header("x-sluicegate-score").parse().expect("a score");
    assert!((0.9..=1.0).contains(&score), "{score}");
    assert!(hit.header("cache-status").contains("hit"), "{hit:?}");
    assert_eq!(call(&edge, &chat("auto", OTHER)).await.source(), "provider");
    let stream = call(&edge, &streamed("auto", PARAPHRASE)).await;
    assert_eq!(stream.streamed_text(), format!("You said: {ASKED}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_and_negations_are_never_paraphrases() {
    let llm = Llm::echo().await;
    let edge = setup(&llm, "both").start().await;
    call(&edge, &chat("auto", "Can I return an item after 30 days?")).await;
    until_source(&edge, &chat("auto", "Can I return an item after 30 days?"), "ai_exact").await;
    for near in ["Can I return an item after 90 days?", "Can I not return an item after 30 days?"] {
        let answer = call(&edge, &chat("auto", near)).await;
        assert_eq!(answer_text(&answer.json()), format!("You said: {near}"));
    }
}

/// The paraphrase, worded anew for each try: one that comes before the first answer is filed gets an exact entry of its
/// own, and asking it again would tell nothing.
fn worded(tries: usize) -> String {
    format!("{PARAPHRASE}{}", "!".repeat(tries))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_semantic_cache_survives_a_restart_and_a_kill() {
    let llm = Llm::echo().await;
    let dir = tempfile::tempdir().unwrap();
    let config = setup(&llm, "both").write_into(dir.path());
    let gateway = Process::start(&config).await;
    assert_eq!(client::post(gateway.web, CHAT, &[], &chat("auto", ASKED)).await.source(), "provider");
    let mut tries = 0;
    wait_until("the answer to be stored", async || {
        tries += 1;
        client::post(gateway.web, CHAT, &[], &chat("auto", &worded(tries))).await.source() == "ai_semantic"
    })
    .await;
    let calls = llm.calls();
    let mut last = gateway;
    for signal in ["TERM", "KILL"] {
        last.end(signal).await;
        last = Process::start(&config).await;
        // After the kill, what was filed in the last half second may be lost; this was filed long before.
        let hit = client::post(last.web, CHAT, &[], &chat("auto", &worded(0))).await;
        assert_eq!((hit.source(), llm.calls()), ("ai_semantic", calls), "after {signal}: {}", hit.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_never_share_an_answer() {
    let llm = Llm::start(|_, seen| Play::Say(format!("secret {}", seen.number))).await;
    let yaml = format!("{AUTH}{YAML}");
    let setup = Setup::new(&yaml).put("LLM", llm.url()).put("CACHE", "both").put("MORE", ", auth: main");
    let edge = setup.file("secret", SECRET).start().await;
    let ask =
        async |who: &str, text: &str| edge.post(CHAT, &[("Authorization", &bearer(who))], &chat("auto", text)).await;
    assert_eq!(ask("ada", ASKED).await.source(), "provider");
    let mut tries = 0;
    wait_until("ada's paraphrase to hit", async || {
        tries += 1;
        ask("ada", &worded(tries)).await.source() == "ai_semantic"
    })
    .await;
    for text in [ASKED, PARAPHRASE] {
        let other = ask("bob", text).await;
        assert!(!answer_text(&other.json()).contains("secret 0"), "bob got ada's answer: {}", other.text());
    }
    assert_eq!(ask("ada", ASKED).await.source(), "ai_exact");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_model_file_is_named_at_the_start() {
    let llm = Llm::echo().await;
    let yaml = YAML.replace("caches:\n", "embedders: { minilm: { models_dir: \"$DIR/nothing\" } }\n  caches:\n");
    let setup = Setup::new(&yaml).put("LLM", llm.url()).put("CACHE", "both").put("MORE", "");
    let fault = setup.try_start().await.err().expect("there is no model");
    let said = format!("{fault:#}");
    assert!(said.contains("nothing") && said.contains("setup.sh"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qdrant_that_is_not_there_slows_nothing_and_fails_nothing() {
    let llm = Llm::echo().await;
    let nobody = crate::harness::origin::nobody();
    let yaml = YAML.replace("edge: { path: \"$DIR/vectors\" }", "qdrant: { url: \"http://$NOBODY\" }");
    let setup = Setup::new(&yaml).put("LLM", llm.url()).put("CACHE", "both").put("MORE", "").put("NOBODY", nobody);
    let edge = setup.start().await;
    for text in [ASKED, PARAPHRASE] {
        assert_eq!(call(&edge, &chat("auto", text)).await.source(), "provider");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_told_by_route_key_and_model_with_what_was_saved() {
    let llm = Llm::saying("one two three").await;
    let edge = setup(&llm, "exact").start().await;
    call(&edge, &chat("auto", "hello")).await;
    until_source(&edge, &chat("auto", "hello"), "ai_exact").await;
    wait_until("the entry", async || usage(&edge, "by=model").await["total"]["saved"]["exact"]["calls"] == 1).await;
    for (by, name) in [("route", None), ("key", Some("none")), ("model", None)] {
        let told = usage(&edge, &format!("by={by}&period=2h")).await;
        let [row] = told["rows"].as_array().unwrap().as_slice() else { panic!("{told}") };
        assert!(row[by].is_string() && name.is_none_or(|n| row[by] == n), "{told}");
        assert_eq!(
            (&row["calls"], &row["tokens"]["input"], &row["tokens"]["output"]),
            (&json!(2), &json!(10), &json!(3))
        );
        // 10 tokens in at 1 USD and 3 out at 2 USD per million, spent once and spared once
        assert_eq!((&row["cost_usd"], &row["cost_nano_usd"]), (&json!("0.000016000"), &json!(16_000)), "{told}");
        assert_eq!((&row["unpriced_tokens"], &row["prices"]), (&json!(0), &json!(["config"])));
        assert_eq!((&row["saved"]["exact"]["tokens"], &row["saved"]["exact"]["usd"]), (&json!(13), &json!(0.000_016)));
        assert_eq!(row["synthetic_capacity"]["tokens"], 13);
        assert_eq!(row["synthetic_capacity"]["share_of_tokens"], 0.5);
        assert_eq!(told["total"]["cost_share"], 1.0);
    }
    for wrong in ["by=colour", "period=99y", "period=63d", "since=1"] {
        assert_eq!(client::get(edge.admin(), &format!("/ai/usage?{wrong}")).await.status, 400, "{wrong}");
    }
}

async fn usage(edge: &Edge, query: &str) -> serde_json::Value {
    client::get(edge.admin(), &format!("/ai/usage?{query}")).await.json()
}
