//! Clients and providers of OpenAI's Responses and legacy completions in the pipeline.

use super::super::dialect::Dialect;
use super::crossing::{dribbling, golden};
use super::*;
use http::Method;
use serde_json::{Value, json};

/// One provider address behind four dialects; `both` takes chat completions and Responses.
fn several(p: &Provider) -> World {
    let price = "{ input: 3, output: 15, cache_read: 0.3, cache_write: 3.75 }";
    world_of(&format!(
        "
providers:
  pa: {{ dialect: openai, base_url: '{0}' }}
  pb: {{ dialect: anthropic, base_url: '{0}', api_key: env:X }}
  pr: {{ dialect: openai_responses, base_url: '{0}' }}
  po: {{ dialect: openai, base_url: '{0}', responses: true }}
  pg: {{ dialect: gemini, base_url: '{0}' }}
models:
  gpt: {{ provider: pa, model: up-a, price: {price} }}
  claude: {{ provider: pb, model: up-b, price: {price} }}
  new: {{ provider: pr, model: up-r, price: {price} }}
  both: {{ provider: po, model: up-o, price: {price} }}
  gem: {{ provider: pg, model: up-g, price: {price} }}
tiers: {{ cheap: [gpt] }}",
        p.url
    ))
}

fn asking(operation: Operation, body: String) -> Prompt {
    prompt::parse(operation, Bytes::from(body), 1 << 20).unwrap()
}

fn responses(model: &str, more: &str) -> Prompt {
    asking(Operation::Responses, format!(r#"{{"model":"{model}","input":"hi"{more}}}"#))
}

fn completions(model: &str, more: &str) -> Prompt {
    asking(Operation::Completions, format!(r#"{{"model":"{model}","prompt":"hi"{more}}}"#))
}

async fn ask(w: &World, prompt: Prompt) -> Seen {
    read(w.reply_as(prompt, &exact_only(), &w.context).await).await
}

/// The data of the stream's last event.
fn last(text: &str) -> Value {
    serde_json::from_str(text.trim_end().rsplit("data: ").next().unwrap()).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[tokio::test]
async fn within_the_dialect_bytes_pass_with_only_the_model_replaced() {
    let answer = golden(Dialect::Responses, "answer-tools.json");
    for model in ["new", "both"] {
        let p = Provider::start([json_reply(200, &answer)]).await;
        let w = several(&p);
        let body = format!(
            r#"{{ "input" : "hi", "x":[ 1 ], "model":"{model}", "previous_response_id": "resp_0", "tools":[{{"type":"web_search"}}] }}"#
        );
        let seen = ask(&w, asking(Operation::Responses, body.clone())).await;
        assert_eq!((seen.status, seen.text.as_str(), seen.header("x-sluicegate-dropped")), (200, answer.as_str(), ""));
        assert!(p.seen()[0].starts_with("POST /v1/responses HTTP/1.1\r\n"));
        let upstream = if model == "new" { "up-r" } else { "up-o" };
        assert_eq!(body_of(&p.seen()[0]), body.replace(&format!("\"{model}\""), &format!("\"{upstream}\"")));
        // 30 at 3, 60 at 0.3, 10 written at 3.75 and 30 out at 15 dollars per million.
        assert_eq!(seen.call.cost.unwrap().nano_usd, 90_000 + 18_000 + 37_500 + 450_000);
        assert_eq!(seen.call.usage.unwrap().out_reasoning, 20);
    }
}

#[tokio::test]
async fn within_the_dialect_a_stream_passes_as_it_came_and_is_stored_whole() {
    let stream = golden(Dialect::Responses, "stream-tools.sse");
    let p = dribbling(&stream).await;
    let w = several(&p);
    let seen = ask(&w, responses("both", r#","stream":true"#)).await;
    assert_eq!((seen.text.as_str(), seen.clean, seen.call.stored), (stream.as_str(), true, true));
    assert_eq!(seen.call.cost.unwrap().nano_usd, 90_000 + 18_000 + 37_500 + 450_000);
    let whole = ask(&w, responses("both", "")).await;
    assert_eq!((whole.source, p.calls()), (Source::AiExact, 1));
    assert_eq!(whole.json(), last(&stream)["response"]);
    let replayed = ask(&w, responses("both", r#","stream":true"#)).await;
    assert_eq!((replayed.source, p.calls()), (Source::AiExact, 1));
    assert!(replayed.text.starts_with("event: response.created\n") && !replayed.text.contains("[DONE]"));
    assert_eq!(last(&replayed.text)["response"], whole.json());
    // A client of chat completions is spoken to in its own words by a provider that has both.
    assert_eq!(ask(&w, chat(&ask_with("both", "hi", ""))).await.status, 502);
    assert!(p.seen()[1].starts_with("POST /v1/chat/completions HTTP/1.1\r\n"));
}

#[tokio::test]
async fn streams_of_every_provider_cross_byte_by_byte() {
    for (from, model, name) in [
        (Dialect::Anthropic, "claude", "stream-tools"),
        (Dialect::Openai, "gpt", "stream-interleaved"),
        (Dialect::Gemini, "gem", "stream-tools"),
    ] {
        let p = dribbling(&golden(from, &format!("{name}.sse"))).await;
        let w = several(&p);
        let seen = ask(&w, responses(model, r#","stream":true"#)).await;
        let want = last(&golden(from, &format!("{name}.openai_responses.sse")))["response"].clone();
        let told = last(&seen.text)["response"].clone();
        assert_eq!((&told["output"], &told["usage"]), (&want["output"], &want["usage"]), "{model}");
        assert!(seen.clean && seen.call.stored, "{model}");
        let again = ask(&w, responses(model, "")).await;
        assert_eq!((again.source, again.json()), (Source::AiExact, told), "{model}");
    }
    for name in ["stream-tools", "stream-wholes", "stream-at_once", "stream-length"] {
        let p = dribbling(&golden(Dialect::Responses, &format!("{name}.sse"))).await;
        let w = several(&p);
        let body = ask_with("new", "hi", r#","stream":true,"stream_options":{"include_usage":true}"#);
        let seen = ask(&w, chat(&body)).await;
        assert!(seen.clean && seen.call.stored && seen.text.ends_with("data: [DONE]\n\n"), "{name}: {}", seen.text);
        assert_eq!(seen.call.cost.unwrap().nano_usd, 90_000 + 18_000 + 37_500 + 450_000, "{name}");
        let told = seen.text.trim_end_matches("data: [DONE]\n\n");
        assert_eq!(last(told)["usage"]["prompt_tokens_details"]["cached_tokens"], 60, "{name}");
        let request: Value = serde_json::from_str(body_of(&p.seen()[0])).unwrap();
        assert_eq!((&request["store"], &request["stream"]), (&json!(false), &json!(true)));
    }
}

#[tokio::test]
async fn broken_streams_end_in_an_error_event_with_the_next_number_and_are_never_stored() {
    for (from, model, name, reason) in [
        (Dialect::Anthropic, "claude", "stream-cut", "cut"),
        (Dialect::Anthropic, "claude", "stream-error", "provider_error_in_stream"),
        (Dialect::Openai, "gpt", "stream-endless", "provider_garbage"),
        (Dialect::Responses, "new", "stream-cut", "cut"),
        (Dialect::Responses, "new", "stream-error", "provider_error_in_stream"),
        (Dialect::Responses, "new", "stream-error_event", "provider_error_in_stream"),
    ] {
        let p = dribbling(&golden(from, &format!("{name}.sse"))).await;
        let w = several(&p);
        let seen = ask(&w, responses(model, r#","stream":true"#)).await;
        assert_eq!((seen.call.ending, seen.clean, seen.call.stored), (Ending::Failed(reason), false, false), "{name}");
        assert!(!seen.text.contains("event: response.completed"), "{}", seen.text);
        let end = last(&seen.text);
        let numbers: Vec<u64> = seen
            .text
            .lines()
            .filter_map(|l| serde_json::from_str::<Value>(l.strip_prefix("data: ")?).ok()?["sequence_number"].as_u64())
            .collect();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "{name}");
        assert_eq!(end["sequence_number"].as_u64(), Some(numbers.len() as u64 - 1), "{name}");
        // What the provider itself says passes; what the gateway says has the form that SDKs raise.
        let passed = from == Dialect::Responses && name != "stream-cut";
        assert_eq!(end["error"]["message"].is_string(), !passed, "{end}");
        // A chat client of the same provider is told, too; within chat completions a mark of the end is believed.
        if from == Dialect::Openai {
            continue;
        }
        let other = ask(&w, chat(&ask_with(model, "hi", r#","stream":true"#))).await;
        assert!(!other.clean && !other.text.contains("[DONE]"), "{}", other.text);
    }
}

#[tokio::test]
async fn an_error_before_any_content_lets_the_next_model_answer() {
    let failed = r#"{"type":"response.failed","response":{"id":"r","error":{"code":"server_error","message":"no"}}}"#;
    let created = r#"{"type":"response.created","response":{"id":"r","output":[]}}"#;
    let bad = Provider::start([sse_reply(&[&format!("data: {created}\n\n"), &format!("data: {failed}\n\n")])]).await;
    let good = dribbling(&golden(Dialect::Anthropic, "stream-text.sse")).await;
    let w = world_of(&format!(
        "
providers:
  pr: {{ dialect: openai_responses, base_url: '{}' }}
  pb: {{ dialect: anthropic, base_url: '{}', api_key: env:X }}
models: {{ new: {{ provider: pr, model: r }}, claude: {{ provider: pb, model: c }} }}
tiers: {{ cheap: [new, claude] }}",
        bad.url, good.url
    ));
    let seen = ask(&w, responses("cheap", r#","stream":true"#)).await;
    assert!(seen.clean && seen.text.contains("event: response.completed"), "{}", seen.text);
    assert_eq!((bad.calls(), good.calls()), (1, 1));
    // What cannot be said to the second model is told with its place when the first fails.
    let refused = ask(&w, responses("cheap", r#","previous_response_id":"resp_1""#)).await;
    assert_eq!((refused.status, good.calls()), (400, 1));
    assert_eq!(refused.json()["error"]["param"], "previous_response_id");
}

#[tokio::test]
async fn what_a_provider_keeps_is_never_answered_from_a_cache() {
    let answer = golden(Dialect::Responses, "answer-text.json");
    let p = Provider::start([json_reply(200, &answer)]).await;
    let w = several(&p);
    for more in [r#","conversation":"conv_1""#, r#","background":true"#, r#","prompt":{"id":"p"}"#] {
        for _ in 0..2 {
            let seen = ask(&w, responses("new", more)).await;
            assert_eq!((seen.source, seen.call.cache_reason), (Source::Provider, "stateful"), "{more}");
        }
    }
    assert_eq!(p.calls(), 6);
    // A stored response can be continued, one that is not cannot: the two are different answers.
    assert_eq!(ask(&w, responses("new", r#","store":false"#)).await.source, Source::Provider);
    assert_eq!(ask(&w, responses("new", "")).await.source, Source::Provider);
    assert_eq!(ask(&w, responses("new", r#","user":"u","metadata":{"a":"b"}"#)).await.source, Source::AiExact);
}

#[tokio::test]
async fn similar_questions_share_answers() {
    let p = Provider::start([json_reply(200, &golden(Dialect::Responses, "answer-text.json"))]).await;
    let w = several(&p);
    let semantic = AiDirectives { cache: Some(CacheMode::Semantic), ..AiDirectives::default() };
    let say = async |input: &str| {
        let prompt = asking(Operation::Responses, format!(r#"{{"model":"new","input":{input}}}"#));
        let seen = read(w.reply_as(prompt, &semantic, &w.context).await).await;
        w.in_flight.filings.settled().await;
        (seen.source, seen.call.cache_reason)
    };
    assert_eq!(say(r#""how far is the moon""#).await.0, Source::Provider);
    assert_eq!(say(r#""the moon, how far""#).await.0, Source::AiSemantic);
    let message = |text: &str| format!(r#"[{{"role":"user","content":[{{"type":"input_text","text":"{text}"}}]}}]"#);
    assert_eq!(say(&message("how far is the moon")).await.0, Source::Provider);
    assert_eq!(say(&message("the moon, how far")).await.0, Source::AiSemantic);
    let called = r#"[{"type":"function_call_output","call_id":"c","output":"x"},{"role":"user","content":"and?"}]"#;
    assert_eq!(say(called).await, (Source::Provider, "tools_in_history"));
    assert_eq!(say(r#"[{"role":"assistant","content":"x"}]"#).await, (Source::Provider, "last_role_not_user"));
}

#[tokio::test]
async fn a_conversation_that_others_led_goes_on_at_openai_without_their_signatures() {
    let p = Provider::start([json_reply(200, &golden(Dialect::Responses, "answer-text.json"))]).await;
    let w = several(&p);
    let own = r#"{"type":"reasoning","id":"rs_2","summary":[],"encrypted_content":"gAAAA"}"#;
    let foreign = r#"{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"sluicegate:c2ln"}"#;
    let user = r#"{"role":"user","content":"sluicegate: hi"}"#;
    let body = |items: &str| format!(r#"{{"model":"new", "input":[{items}],  "x":1}}"#);
    let prompt = asking(Operation::Responses, body(&format!("{foreign}, {own}, {user}")));
    assert_eq!(ask(&w, prompt).await.status, 200);
    assert_eq!(body_of(&p.seen()[0]), body(&format!("{own},{user}")).replace("\"new\"", "\"up-r\""));
    // Words alone are no signature.
    let prompt = asking(Operation::Responses, body(&format!("{own},  {user}")));
    assert_eq!(ask(&w, prompt).await.status, 200);
    assert_eq!(body_of(&p.seen()[1]), body(&format!("{own},  {user}")).replace("\"new\"", "\"up-r\""));
}

#[tokio::test]
async fn the_facts_of_a_responses_request() {
    let body = r#"{"model":"m","instructions":"Be brief.","input":[{"role":"developer","content":"Kind."},
        {"role":"user","content":[{"type":"input_text","text":"one"},{"type":"input_image","image_url":"x"}]},
        {"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"four"},
        {"role":"user","content":"two"}],"tools":[{}],"max_output_tokens":7,"temperature":0.5,"stream":true}"#;
    let f = asking(Operation::Responses, body.to_owned()).facts;
    assert_eq!((f.text.as_str(), f.system.as_str(), f.chars), ("two", "Be brief.\nKind.", 9 + 5 + 3 + 4 + 3));
    assert_eq!((f.turns, f.messages, f.tools, f.parts, f.stream), (2, 5, 1, 1, true));
    assert_eq!((f.max_tokens, f.temperature, f.n), (Some(7), Some(0.5), 1));
    for bad in [r#"{"model":"m"}"#, r#"{"model":"m","input":[]}"#, r#"{"model":"m","input":4}"#, r#"{"input":"x"}"#] {
        assert!(prompt::parse(Operation::Responses, Bytes::from_static(bad.as_bytes()), 999).is_err(), "{bad}");
    }
    let continued = r#"{"model":"m","previous_response_id":"resp_1"}"#;
    assert!(prompt::parse(Operation::Responses, Bytes::from_static(continued.as_bytes()), 999).is_ok());
    let f = completions("m", r#","n":2,"max_tokens":5,"stream":true,"stream_options":{"include_usage":true}"#).facts;
    assert_eq!((f.text.as_str(), f.n, f.max_tokens, f.stream, f.wants_usage), ("hi", 2, Some(5), true, true));
}

const COMPLETION: &str = r#"{"id":"cmpl-1","object":"text_completion","created":7,"model":"x","choices":[{"text":"One two three.","index":0,"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}}"#;

#[tokio::test]
async fn completions_pass_to_a_provider_of_openais_and_are_stored_and_replayed() {
    let p = Provider::start([json_reply(200, COMPLETION)]).await;
    let w = several(&p);
    let seen = ask(&w, completions("gpt", r#","echo":true"#)).await;
    assert_eq!((seen.text.as_str(), seen.call.cost.unwrap().nano_usd), (COMPLETION, 15_000 + 45_000));
    assert!(p.seen()[0].starts_with("POST /v1/completions HTTP/1.1\r\n"));
    assert_eq!(body_of(&p.seen()[0]), r#"{"model":"up-a","prompt":"hi","echo":true}"#);
    let more = r#","echo":true,"stream":true,"stream_options":{"include_usage":true}"#;
    let replayed = ask(&w, completions("gpt", more)).await;
    assert_eq!((replayed.source, p.calls()), (Source::AiExact, 1));
    assert!(replayed.text.ends_with("data: [DONE]\n\n"));
    let mut recorder = Dialect::Completions.wire().recorder(1 << 20);
    for line in replayed.text.lines().filter_map(|l| serde_json::from_str(l.strip_prefix("data: ")?).ok()) {
        recorder.add(&line, 1);
    }
    assert_eq!(recorder.answer().unwrap(), serde_json::from_str::<Value>(COMPLETION).unwrap());
}

#[tokio::test]
async fn a_stream_of_completions_passes_and_is_billed_although_usage_was_not_asked_for() {
    let chunk = |text: &str, more: &str| {
        format!(
            r#"data: {{"id":"cmpl-1","object":"text_completion","created":7,"model":"x","choices":[{{"text":"{text}","index":0,"logprobs":null,"finish_reason":{more}}}]}}"#
        ) + "\n\n"
    };
    let usage = "data: {\"id\":\"cmpl-1\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":3}}\n\n";
    let (a, b) = (chunk("One ", "null"), chunk("two.", "\"stop\""));
    let p = dribbling(&format!("{a}{b}{usage}data: [DONE]\n\n")).await;
    let w = several(&p);
    let seen = ask(&w, completions("gpt", r#","stream":true"#)).await;
    assert_eq!((seen.text, seen.clean, seen.call.stored), (format!("{a}{b}data: [DONE]\n\n"), true, true));
    assert_eq!(seen.call.cost.unwrap().nano_usd, 15_000 + 45_000);
    let request: Value = serde_json::from_str(body_of(&p.seen()[0])).unwrap();
    assert_eq!(request["stream_options"]["include_usage"], true);
    let whole = ask(&w, completions("gpt", "")).await;
    assert_eq!((whole.source, &whole.json()["choices"][0]["text"]), (Source::AiExact, &json!("One two.")));
    assert_eq!((&whole.json()["object"], whole.json()["choices"][0].get("message")), (&json!("text_completion"), None));
}

#[tokio::test]
async fn completions_reach_other_providers_as_one_question() {
    let p = dribbling(&golden(Dialect::Anthropic, "stream-text.sse")).await;
    let w = several(&p);
    let seen = ask(&w, completions("claude", r#","best_of":3,"stream":true"#)).await;
    assert!(seen.clean && seen.text.ends_with("data: [DONE]\n\n"), "{}", seen.text);
    assert_eq!(seen.header("x-sluicegate-dropped"), "best_of");
    let request: Value = serde_json::from_str(body_of(&p.seen()[0])).unwrap();
    assert_eq!(request["messages"], json!([{ "role": "user", "content": [{ "type": "text", "text": "hi" }] }]));
    let whole = ask(&w, completions("claude", r#","best_of":3"#)).await;
    assert_eq!((whole.source, &whole.json()["object"]), (Source::AiExact, &json!("text_completion")));
    let refused = ask(&w, completions("claude", r#","suffix":"x""#)).await;
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("suffix")));
}

#[test]
fn the_key_for_responses_is_for_openais_dialect() {
    let faults = |yaml: &str| {
        let ai: Ai = serde_yaml::from_str(yaml).unwrap();
        Catalog::compile(&ai, &PriceList::default(), &BTreeMap::new()).err().map(|f| f[0].path.clone())
    };
    let of = |dialect: &str| {
        format!("{{ providers: {{ p: {{ dialect: {dialect}, base_url: 'http://x', responses: true }} }} }}")
    };
    assert_eq!(faults(&of("openai")), None);
    for other in ["anthropic", "openai_responses"] {
        assert_eq!(faults(&of(other)).as_deref(), Some("ai.providers.p.responses"));
    }
}

#[test]
fn the_paths_of_responses_and_completions() {
    let of = |path: &str| Operation::of(&Method::POST, path).ok();
    assert_eq!(of("/v1/responses"), Some(Operation::Responses));
    assert_eq!(of("/x/v1/completions/"), Some(Operation::Completions));
    assert_eq!(of("/v1/chat/completions"), Some(Operation::Chat));
    assert_eq!(of("/v1/responses/resp_1"), None);
}
