//! Clients and providers of different dialects in the pipeline: bytes however they are cut, bills, what is stored.

use super::super::dialect::Dialect;
use super::*;
use serde_json::{Value, json};

pub fn mixed(p: &Provider) -> World {
    let price = "{ input: 3, output: 15, cache_read: 0.3, cache_write: 3.75, cache_write_1h: 6 }";
    world_of(&format!(
        "
providers:
  pa: {{ dialect: openai, base_url: '{0}' }}
  pb: {{ dialect: anthropic, base_url: '{0}', api_key: env:X }}
  pg: {{ dialect: gemini, base_url: '{0}' }}
models:
  gpt: {{ provider: pa, model: up-a, price: {price} }}
  gem: {{ provider: pg, model: up-g, price: {price} }}
  claude: {{ provider: pb, model: up-b, price: {price} }}
tiers: {{ cheap: [gpt] }}",
        p.url
    ))
}

pub fn golden(dialect: Dialect, name: &str) -> String {
    let path = format!("{}/tests/fixtures/ai/{}/{name}", env!("CARGO_MANIFEST_DIR"), dialect.as_str());
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

pub fn messages(model: &str, more: &str) -> Prompt {
    let body = format!(r#"{{"model":"{model}","max_tokens":9,"messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
    prompt::parse(Operation::Messages, Bytes::from(body), 1 << 20).unwrap()
}

pub async fn ask(w: &World, prompt: Prompt) -> Seen {
    read(w.reply_as(prompt, &exact_only(), &w.context).await).await
}

/// A provider that sends an event stream byte by byte.
pub async fn dribbling(text: &str) -> Provider {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let p = Provider { url: format!("http://{}/v1", listener.local_addr().unwrap()), seen: Arc::default() };
    let (log, text) = (p.seen.clone(), text.as_bytes().to_vec());
    tokio::spawn(async move {
        while let Ok((mut s, _)) = listener.accept().await {
            s.set_nodelay(true).unwrap();
            let Some(request) = read_request(&mut s).await else { continue };
            log.lock().unwrap().push(request);
            s.write_all(SSE_HEAD.as_bytes()).await.unwrap();
            for b in &text {
                let _ = s.write_all(&[b"1\r\n".as_slice(), &[*b], b"\r\n"].concat()).await;
            }
            let _ = s.write_all(b"0\r\n\r\n").await;
        }
    });
    p
}

/// The stream with the dates of its chunks made one.
fn undated(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        match line.strip_prefix("data: ").and_then(|d| serde_json::from_str::<Value>(d).ok()) {
            Some(mut v) => {
                if let Some(created) = v.get_mut("created") {
                    *created = json!(0);
                }
                out += &format!("data: {v}\n");
            }
            None => out += &format!("{line}\n"),
        }
    }
    out
}

#[tokio::test]
async fn streams_cross_byte_by_byte_and_are_billed_by_the_providers_count() {
    for name in ["stream-text", "stream-tools"] {
        let p = dribbling(&golden(Dialect::Anthropic, &format!("{name}.sse"))).await;
        let w = mixed(&p);
        let body = ask_with("claude", "hi", r#","stream":true,"stream_options":{"include_usage":true}"#);
        let seen = ask(&w, chat(&body)).await;
        let want = golden(Dialect::Anthropic, &format!("{name}.openai.sse"));
        let told = seen.text.replace(": ping\n\n", "");
        assert_eq!(undated(&told), undated(&want), "{name}");
        assert!(seen.clean && seen.call.stored && seen.call.first_content.is_some());
        // 30 tokens at 3, 60 at 0.3, 10 at 3.75 and 30 at 15 dollars per million.
        assert_eq!(seen.call.cost.unwrap().nano_usd, 90_000 + 18_000 + 37_500 + 450_000, "{name}");
        let again = ask(&w, chat(&body.replace(r#","stream":true,"stream_options":{"include_usage":true}"#, ""))).await;
        assert_eq!((again.source, p.calls()), (Source::AiExact, 1), "{name}");
        assert_eq!(again.json()["usage"]["prompt_tokens_details"]["cached_tokens"], 60);
    }
    for name in ["stream-text", "stream-tools", "stream-interleaved"] {
        let p = dribbling(&golden(Dialect::Openai, &format!("{name}.sse"))).await;
        let w = mixed(&p);
        let seen = ask(&w, messages("gpt", r#","stream":true"#)).await;
        let told = seen.text.replace(Dialect::Anthropic.wire().ping(), "");
        assert_eq!(told, golden(Dialect::Openai, &format!("{name}.anthropic.sse")), "{name}");
        assert!(seen.clean && seen.call.stored);
        let again = ask(&w, messages("gpt", "")).await;
        assert_eq!((again.source, &again.json()["type"]), (Source::AiExact, &json!("message")), "{name}");
    }
}

#[tokio::test]
async fn within_anthropics_dialect_frames_pass_as_they_came() {
    let stream = golden(Dialect::Anthropic, "stream-tools.sse");
    let p = dribbling(&stream).await;
    let w = mixed(&p);
    let seen = ask(&w, messages("claude", r#","stream":true"#)).await;
    assert_eq!((seen.text.as_str(), seen.clean, seen.call.stored), (stream.as_str(), true, true));
    assert_eq!(seen.call.usage.unwrap().input(), 100);
    let whole = ask(&w, messages("claude", "")).await;
    assert_eq!((whole.source, p.calls()), (Source::AiExact, 1));
    assert_eq!(whole.json()["content"][3]["input"], json!({ "city": "Oslo" }));
    assert_eq!(
        (&whole.json()["usage"]["input_tokens"], &whole.json()["usage"]["output_tokens"]),
        (&json!(30), &json!(30))
    );
    let replayed = ask(&w, messages("claude", r#","stream":true"#)).await;
    assert!(
        replayed.source == Source::AiExact && replayed.text.contains("\"type\":\"message_stop\""),
        "{}",
        replayed.text
    );
}

#[tokio::test]
async fn broken_streams_end_in_the_clients_words_and_are_never_stored() {
    for (from, name, reason) in [
        (Dialect::Anthropic, "stream-cut", "cut"),
        (Dialect::Anthropic, "stream-error", "provider_error_in_stream"),
        (Dialect::Openai, "stream-cut", "cut"),
        (Dialect::Openai, "stream-endless", "provider_garbage"),
    ] {
        let p = dribbling(&golden(from, &format!("{name}.sse"))).await;
        let w = mixed(&p);
        let model = if from == Dialect::Openai { "gpt" } else { "claude" };
        let openai = ask(&w, chat(&ask_with(model, "hi", r#","stream":true"#))).await;
        let anthropic = ask(&w, messages(model, r#","stream":true"#)).await;
        for (client, seen) in [(Dialect::Openai, openai), (Dialect::Anthropic, anthropic)] {
            // Within its own dialect a provider's end mark is believed.
            if client == from && name == "stream-endless" {
                continue;
            }
            let what = format!("{from:?} to {client:?}, {name}: {}", seen.text);
            assert_eq!(
                (seen.call.ending, seen.clean, seen.call.stored),
                (Ending::Failed(reason), false, false),
                "{what}"
            );
            assert!(!seen.text.contains("[DONE]") && !seen.text.contains("message_stop"), "{what}");
            let last: Value = serde_json::from_str(seen.text.trim_end().rsplit("data: ").next().unwrap()).unwrap();
            assert_eq!(last["type"] == "error", client == Dialect::Anthropic, "{what}");
            assert!(last["error"]["message"].is_string(), "{what}");
        }
        assert_eq!(p.calls(), 2, "{name}: nothing was stored");
    }
}

#[tokio::test]
async fn what_a_provider_says_about_its_key_stays_here_in_every_dialect() {
    let error = r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key sk-canary"}}"#;
    for act in
        [json_reply(401, error), json_reply(200, error), sse_reply(&[&format!("event: error\ndata: {error}\n\n")])]
    {
        let p = Provider::start([act]).await;
        let w = mixed(&p);
        for stream in ["", r#","stream":true"#] {
            for prompt in [messages("claude", stream), chat(&ask_with("claude", "hi", stream))] {
                let seen = ask(&w, prompt).await;
                assert_eq!((seen.status, seen.text.contains("canary")), (502, false), "{}", seen.text);
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_key_at_google_is_an_invalid_argument_and_stays_here_too() {
    let error = json!({ "error": { "code": 400, "message": "API key not valid: sk-canary", "status": "INVALID_ARGUMENT",
        "details": [{ "@type": "x", "reason": "API_KEY_INVALID" }] } });
    let p = Provider::start([json_reply(400, &error.to_string())]).await;
    let w = mixed(&p);
    for prompt in [messages("gem", ""), chat(&ask_with("gem", "hi", ""))] {
        let seen = ask(&w, prompt).await;
        assert_eq!((seen.status, seen.text.contains("canary")), (502, false), "{}", seen.text);
    }
}

#[tokio::test]
async fn geminis_streams_cross_byte_by_byte_and_end_without_a_mark() {
    for name in ["stream-text", "stream-tools"] {
        let p = dribbling(&golden(Dialect::Gemini, &format!("{name}.sse"))).await;
        let w = mixed(&p);
        let seen = ask(&w, messages("gem", r#","stream":true"#)).await;
        assert_eq!(seen.text, golden(Dialect::Gemini, &format!("{name}.anthropic.sse")), "{name}");
        assert!(seen.clean && seen.call.stored);
        // 40 tokens at 3, 60 at 0.3, 10 and 20 of thought at 15 dollars per million.
        assert_eq!(seen.call.cost.unwrap().nano_usd, 120_000 + 18_000 + 450_000);
        assert!(p.seen()[0].starts_with("POST /v1/models/up-g:streamGenerateContent?alt=sse HTTP/1.1\r\n"));
    }
    let p = dribbling(&golden(Dialect::Gemini, "stream-cut.sse")).await;
    let seen = ask(&mixed(&p), messages("gem", r#","stream":true"#)).await;
    assert_eq!((seen.clean, seen.call.stored, seen.call.ending), (false, false, Ending::Failed("cut")));
    assert!(seen.text.contains("event: error") && !seen.text.contains("message_stop"), "{}", seen.text);
}

#[tokio::test]
async fn followers_and_refreshes_stay_within_their_dialect() {
    let p = Provider::start([json_reply(200, &golden(Dialect::Anthropic, "answer-text.json"))]).await;
    let w = mixed(&p);
    let as_openai = chat(&ask_with("claude", "hi", r#","max_tokens":9"#));
    let (a, b) = tokio::join!(ask(&w, as_openai.clone()), ask(&w, messages("claude", "")));
    assert_eq!((a.json()["object"].as_str(), b.json()["type"].as_str()), (Some("chat.completion"), Some("message")));
    assert_eq!(p.calls(), 2, "a question in two dialects is two questions");
    assert_eq!(b.text, golden(Dialect::Anthropic, "answer-text.json"), "and its own dialect passes byte for byte");
    // 30 at 3, 60 at 0.3, 4 written for five minutes at 3.75, 6 for an hour at 6, 30 out at 15 dollars per million.
    for seen in [&a, &b] {
        assert_eq!(seen.call.cost.unwrap().nano_usd, 90_000 + 18_000 + 15_000 + 36_000 + 450_000);
    }
    assert_eq!(ask(&w, as_openai).await.source, Source::AiExact);
}

#[tokio::test]
async fn a_provider_that_does_not_stream_is_played_as_a_stream_of_the_clients_dialect() {
    let p = Provider::start([json_reply(200, &golden(Dialect::Anthropic, "answer-tools.json"))]).await;
    let openai = ask(&mixed(&p), chat(&ask_with("claude", "hi", r#","stream":true"#))).await;
    assert_eq!(openai.header("content-type"), "text/event-stream; charset=utf-8");
    assert!(openai.text.contains(r#""finish_reason":"tool_calls""#), "{}", openai.text);
    assert!(openai.text.ends_with("data: [DONE]\n\n") && openai.header("x-sluicegate-dropped") == "citations");
    let p = Provider::start([json_reply(200, &golden(Dialect::Openai, "answer-tools.json"))]).await;
    let anthropic = ask(&mixed(&p), messages("gpt", r#","stream":true"#)).await;
    assert!(anthropic.text.starts_with("event: message_start\n"), "{}", anthropic.text);
    assert!(anthropic.text.contains(r#"{\"city\":\"Oslo\"}"#), "{}", anthropic.text);
    assert!(
        anthropic.text.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
        "{}",
        anthropic.text
    );
    assert_eq!(anthropic.call.usage.unwrap().input(), 5);
}

#[tokio::test]
async fn similar_questions_share_answers_within_a_dialect_only() {
    let p = Provider::start([json_reply(200, &golden(Dialect::Anthropic, "answer-text.json"))]).await;
    let w = mixed(&p);
    let semantic = AiDirectives { cache: Some(CacheMode::Semantic), ..AiDirectives::default() };
    let say = async |text: &str, more: &str| {
        let body = format!(
            r#"{{"model":"claude","max_tokens":9,"messages":[{{"role":"user","content":[{{"type":"text","text":"{text}"}}]}}]{more}}}"#
        );
        let prompt = prompt::parse(Operation::Messages, Bytes::from(body), 1 << 20).unwrap();
        read(w.reply_as(prompt, &semantic, &w.context).await).await
    };
    assert_eq!(say("how far is the moon", "").await.source, Source::Provider);
    w.in_flight.filings.settled().await;
    let hit = say("what is the distance to the moon", "").await;
    assert_eq!((hit.source, &hit.json()["type"]), (Source::AiSemantic, &json!("message")));
    let streamed = say("the moon, how far", r#","stream":true"#).await;
    assert_eq!(streamed.source, Source::AiSemantic);
    assert!(streamed.text.contains("event: message_stop"), "{}", streamed.text);
    assert_eq!(say("what is the distance to the moon", r#","top_k":3"#).await.source, Source::Provider);
    let openai = w.ask_as(&ask_with("claude", "how far", r#","max_tokens":9"#), &semantic, &w.context).await;
    assert_eq!((openai.source, &openai.json()["object"]), (Source::Provider, &json!("chat.completion")));
}

#[tokio::test]
async fn a_client_that_leaves_is_billed_what_the_provider_had_told() {
    let (gone, mut left) = mpsc::unbounded_channel();
    let all = golden(Dialect::Anthropic, "stream-text.sse");
    let begun = &all[..all.find("event: content_block_stop").unwrap()];
    let p = Provider::start([Act::Hang(vec![format!("{SSE_HEAD}{}", chunked(&[begun]))], gone)]).await;
    let w = mixed(&p);
    let (reply, record) =
        w.reply_as(chat(&ask_with("claude", "hi", r#","stream":true"#)), &exact_only(), &w.context).await;
    let Body::Stream(mut stream) = reply.body else { panic!() };
    stream.next().await.unwrap().unwrap();
    drop(stream);
    left.recv().await.unwrap();
    let call = record.read();
    assert_eq!((call.ending, call.stored, call.usage.unwrap().input()), (Ending::ClientGone, false, 100));
    assert_eq!(call.cost.unwrap().nano_usd, 90_000 + 18_000 + 37_500 + 15_000);
}

#[test]
fn keys_for_one_dialect_are_faults_at_another() {
    let compile = |dialect: &str, more: &str| {
        let yaml = format!(
            "{{ providers: {{ p: {{ dialect: {dialect}, base_url: 'http://x/v1' }} }}, models: {{ m: {{ provider: p, model: x{more} }} }} }}"
        );
        let ai: Ai = serde_yaml::from_str(&yaml).unwrap();
        let faults = Catalog::compile(&ai, &PriceList::default(), &BTreeMap::new()).err().unwrap_or_default();
        faults.into_iter().map(|f| f.path).collect::<Vec<_>>()
    };
    assert_eq!(compile("anthropic", ", max_tokens: 5, thinking: budget"), Vec::<String>::new());
    assert_eq!(compile("anthropic", ", max_tokens: 0"), ["ai.models.m.max_tokens"]);
    let both = ["ai.models.m.max_tokens", "ai.models.m.thinking"];
    assert_eq!(compile("openai", ", max_tokens: 5, thinking: adaptive"), both);
}
