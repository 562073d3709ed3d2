//! Clients that speak Gemini's dialect: bytes that pass, streams of other dialects, what is stored, counts, errors.

use super::super::dialect::Dialect;
use super::crossing::{ask, dribbling, golden, mixed};
use super::*;
use serde_json::{Value, json};

fn generate(model: &str, stream: bool, body: &str) -> Prompt {
    let operation = if stream { Operation::StreamGenerate } else { Operation::Generate };
    at(operation, model, body)
}

fn at(operation: Operation, model: &str, body: &str) -> Prompt {
    let body = Bytes::copy_from_slice(body.as_bytes());
    prompt::parse_at(operation, Some(model.to_owned()), body, 1 << 20).unwrap()
}

const HI: &str = r#"{ "contents": [ {"parts":[{"text":"hi"}]} ], "generationConfig":{"temperature":0.10} }"#;

fn events(text: &str) -> Vec<Value> {
    text.lines().filter_map(|l| l.strip_prefix("data: ")).map(|d| serde_json::from_str(d).unwrap()).collect()
}

#[tokio::test]
async fn within_geminis_dialect_bytes_pass_and_the_path_names_the_model() {
    let p = Provider::start([json_reply(200, &golden(Dialect::Gemini, "answer-tools.json"))]).await;
    let w = mixed(&p);
    let seen = ask(&w, generate("gem", false, HI)).await;
    assert_eq!((seen.status, seen.text), (200, golden(Dialect::Gemini, "answer-tools.json")));
    assert_eq!(body_of(&p.seen()[0]), HI, "to the last blank");
    assert!(p.seen()[0].starts_with("POST /v1/models/up-g:generateContent HTTP/1.1\r\n"), "{}", p.seen()[0]);
    assert_eq!(seen.call.usage.unwrap().input(), 5);
}

#[tokio::test]
async fn a_model_in_the_body_follows_the_one_in_the_path() {
    let p = Provider::start([json_reply(200, &golden(Dialect::Gemini, "answer-text.json"))]).await;
    let w = mixed(&p);
    ask(&w, generate("gem", false, r#"{"model" : "models/gem","contents":[{"parts":[{"text":"hi"}]}]}"#)).await;
    assert_eq!(body_of(&p.seen()[0]), r#"{"model" : "models/up-g","contents":[{"parts":[{"text":"hi"}]}]}"#);
}

#[tokio::test]
async fn what_another_provider_signed_is_kept_from_google() {
    let p = Provider::start([json_reply(200, &golden(Dialect::Gemini, "answer-text.json"))]).await;
    let w = mixed(&p);
    // `sluicegate:sign:x` and `sluicegate:seal:y`, and a signature of Google's own.
    let body = r#"{"contents":[{"role":"model","parts":[{"thought":true,"text":"","thoughtSignature":"c2x1aWNlZ2F0ZTpzaWduOng="},{"thought":true,"text":"","thoughtSignature":"c2x1aWNlZ2F0ZTpzZWFsOnk="},{"text":"a","thoughtSignature":"c2ln"}]},{"parts":[{"text":"hi"}]}]}"#;
    ask(&w, generate("gem", false, body)).await;
    let want = body
        .replace("c2x1aWNlZ2F0ZTpzaWduOng=", "skip_thought_signature_validator")
        .replace("c2x1aWNlZ2F0ZTpzZWFsOnk=", "skip_thought_signature_validator");
    assert_eq!(body_of(&p.seen()[0]), want);
}

#[tokio::test]
async fn within_geminis_dialect_frames_pass_and_the_recorded_stream_is_served_again() {
    for name in ["stream-text", "stream-tools"] {
        let stream = golden(Dialect::Gemini, &format!("{name}.sse"));
        let p = dribbling(&stream).await;
        let w = mixed(&p);
        let seen = ask(&w, generate("gem", true, HI)).await;
        assert_eq!((seen.text.as_str(), seen.clean, seen.call.stored), (stream.as_str(), true, true), "{name}");
        assert_eq!(seen.call.cost.unwrap().nano_usd, 120_000 + 18_000 + 450_000);
        let whole = ask(&w, generate("gem", false, HI)).await;
        assert_eq!((whole.source, p.calls()), (Source::AiExact, 1), "{name}");
        assert_eq!(whole.json()["candidates"][0]["finishReason"], "STOP");
        assert_eq!(whole.json()["usageMetadata"]["candidatesTokenCount"], 10);
        let again = ask(&w, generate("gem", true, HI)).await;
        assert_eq!(again.source, Source::AiExact);
        assert_eq!(events(&again.text).last().unwrap()["candidates"][0]["finishReason"], "STOP");
    }
}

#[tokio::test]
async fn streams_of_other_dialects_reach_geminis_clients_byte_by_byte() {
    for (from, model) in [(Dialect::Openai, "gpt"), (Dialect::Anthropic, "claude")] {
        for name in ["stream-text", "stream-tools"] {
            let p = dribbling(&golden(from, &format!("{name}.sse"))).await;
            let w = mixed(&p);
            let seen = ask(&w, generate(model, true, HI)).await;
            let told = seen.text.replace("\n\n\n", "\n\n");
            assert_eq!(told.trim_start(), golden(from, &format!("{name}.gemini.sse")), "{from:?} {name}");
            assert!(seen.clean && seen.call.stored && seen.call.first_content.is_some());
            let whole = ask(&w, generate(model, false, HI)).await;
            assert_eq!((whole.source, p.calls()), (Source::AiExact, 1));
        }
    }
}

#[tokio::test]
async fn a_cut_stream_ends_in_googles_words_and_is_not_stored() {
    for (from, model) in [(Dialect::Openai, "gpt"), (Dialect::Anthropic, "claude"), (Dialect::Gemini, "gem")] {
        let p = dribbling(&golden(from, "stream-cut.sse")).await;
        let seen = ask(&mixed(&p), generate(model, true, HI)).await;
        let told = events(&seen.text);
        assert_eq!((seen.clean, seen.call.stored), (false, false), "{from:?}");
        assert_eq!(told.last().unwrap()["error"]["status"], "UNAVAILABLE", "{from:?}: {}", seen.text);
        assert!(!seen.text.contains("finishReason"), "{}", seen.text);
    }
}

#[tokio::test]
async fn arguments_that_are_no_object_are_told_as_a_spoilt_call() {
    let chunk = |delta: Value, end: Value| {
        format!("data: {}\n\n", json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": end }] }))
    };
    let call =
        json!({ "tool_calls": [{ "index": 0, "id": "c", "function": { "name": "f", "arguments": "{\"a\":" } }] });
    let text = format!("{}{}data: [DONE]\n\n", chunk(call, Value::Null), chunk(json!({}), "tool_calls".into()));
    let p = Provider::start([sse_reply(&[&text])]).await;
    let seen = ask(&mixed(&p), generate("gpt", true, HI)).await;
    assert_eq!(events(&seen.text).last().unwrap()["candidates"][0]["finishReason"], "MALFORMED_FUNCTION_CALL");
    assert!(!seen.call.stored && !seen.text.contains("functionCall"), "{}", seen.text);
}

#[tokio::test]
async fn faults_are_told_in_googles_words() {
    let p = Provider::start([json_reply(400, r#"{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#)]).await;
    let w = mixed(&p);
    let seen = ask(&w, generate("gpt", false, HI)).await;
    let error = &seen.json()["error"];
    assert_eq!((seen.status, &error["code"], &error["status"]), (400, &json!(400), &json!("INVALID_ARGUMENT")));
    assert_eq!(error["details"][0]["reason"], "CONTEXT_LENGTH_EXCEEDED");
    let unknown = ask(&w, generate("gmp", false, HI)).await;
    assert_eq!((unknown.status, &unknown.json()["error"]["status"]), (404, &json!("NOT_FOUND")));
    let refused = r#"{"contents":[{"parts":[{"text":"hi"}]}],"tools":[{"googleSearch":{}}]}"#;
    let refused = ask(&w, generate("gpt", false, refused)).await;
    assert_eq!((refused.status, p.calls()), (400, 1));
    assert_eq!(refused.json()["error"]["details"][0]["metadata"]["field"], "tools[0].googleSearch");
    for (bad, field) in [("{}", "contents"), (r#"{"contents":[]}"#, "contents")] {
        let fault = prompt::parse_at(Operation::Generate, Some("gem".into()), Bytes::from(bad), 1 << 20).unwrap_err();
        assert!(matches!(&fault, AiError::Invalid { param: Some(p), .. } if p == field), "{fault:?}");
    }
}

#[tokio::test]
async fn a_count_goes_to_a_provider_that_counts_and_is_an_estimate_elsewhere() {
    let p = Provider::start([json_reply(200, r#"{"totalTokens":17}"#)]).await;
    let w = mixed(&p);
    let wrapped = r#"{"generateContentRequest":{"model":"models/gem","contents":[{"parts":[{"text":"hi"}]}]}}"#;
    let counted = ask(&w, at(Operation::CountContents, "gem", wrapped)).await;
    assert_eq!((counted.status, &counted.json()["totalTokens"]), (200, &json!(17)));
    assert_eq!(body_of(&p.seen()[0]), wrapped.replace("models/gem", "models/up-g"));
    assert!(p.seen()[0].starts_with("POST /v1/models/up-g:countTokens HTTP/1.1\r\n"));
    let text = r#"{"contents":[{"parts":[{"text":"twelve bytes"}]}]}"#;
    let estimated = ask(&w, at(Operation::CountContents, "claude", text)).await;
    assert_eq!((estimated.header("x-sluicegate-estimated"), p.calls()), ("totalTokens", 1));
    assert!(estimated.json()["totalTokens"].as_u64().unwrap() > 4, "{}", estimated.text);
}

#[tokio::test]
async fn similar_questions_of_geminis_clients_share_an_answer() {
    let p = Provider::start([json_reply(200, &golden(Dialect::Gemini, "answer-text.json"))]).await;
    let w = mixed(&p);
    let semantic = AiDirectives { cache: Some(CacheMode::Semantic), ..AiDirectives::default() };
    let say = async |contents: &str| {
        let prompt = generate("gem", false, &format!(r#"{{"contents":{contents}}}"#));
        read(w.reply_as(prompt, &semantic, &w.context).await).await
    };
    assert_eq!(say(r#"[{"role":"user","parts":[{"text":"how far is the moon"}]}]"#).await.source, Source::Provider);
    w.in_flight.filings.settled().await;
    let hit = say(r#"[{"role":"user","parts":[{"text":"the moon, how far"}]}]"#).await;
    assert_eq!((hit.source, hit.text), (Source::AiSemantic, golden(Dialect::Gemini, "answer-text.json")));
    // An image beside the text is another question, and a conversation with calls is none for this cache.
    let image =
        r#"[{"role":"user","parts":[{"text":"how far"},{"inlineData":{"mimeType":"image/png","data":"AA=="}}]}]"#;
    assert_eq!(say(image).await.source, Source::Provider);
    let called =
        r#"[{"role":"model","parts":[{"functionCall":{"name":"f"}}]},{"role":"user","parts":[{"text":"go on"}]}]"#;
    assert_eq!(say(called).await.call.cache_reason, "tools_in_history");
}

#[test]
fn the_paths_of_googles_api_are_understood() {
    use http::Method;
    let of = |path| Operation::of(&Method::POST, path).map_err(|e| e.reason());
    assert_eq!(of("/v1beta/models/gem:generateContent"), Ok(Operation::Generate));
    assert_eq!(of("/g/v1beta/models/a/b:c:streamGenerateContent"), Ok(Operation::StreamGenerate));
    assert_eq!(of("/v1beta/models/gem:countTokens"), Ok(Operation::CountContents));
    assert_eq!(of("/v1beta/models/gem:embedContent"), Err("no_endpoint"));
    assert_eq!(of("/v1beta/models/llama:8b"), Err("method_not_allowed"));
    assert_eq!(prompt::model_in("/v1beta/models/a%20b:8b:generateContent").as_deref(), Some("a b:8b"));
    assert_eq!(prompt::model_in("/v1/models/llama:8b").as_deref(), Some("llama:8b"));
    let speaks = |path, name: Option<&'static str>| {
        let field = name.map(|n| (http::HeaderName::from_static(n), HeaderValue::from_static("k")));
        Dialect::of_client(path, &field.into_iter().collect())
    };
    assert_eq!(speaks("/v1beta/models", None), Dialect::Gemini);
    assert_eq!(speaks("/v1/models", Some("x-goog-api-key")), Dialect::Gemini);
    assert_eq!(speaks("/v1/models", None), Dialect::Openai);
    assert_eq!(speaks("/v1beta/openai/models", None), Dialect::Openai);
    assert_eq!(speaks("/v1/models/llama:8b", None), Dialect::Openai);
    assert_eq!(speaks("/v1/models", Some("anthropic-version")), Dialect::Anthropic);
}
