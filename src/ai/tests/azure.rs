//! Azure OpenAI: its paths and credentials, its first chunk, its filter.

use super::crossing::{ask, messages};
use super::*;
use serde_json::json;

fn azure(p: &Provider, options: &str) -> World {
    world_of(&format!(
        "
providers: {{ pb: {{ dialect: openai, base_url: '{}', api_key: env:X, azure: {options} }} }}
models: {{ gpt: {{ provider: pb, model: my-gpt.4_1, price: {{ input: 1, output: 2 }} }} }}
tiers: {{ cheap: [gpt] }}",
        p.url.trim_end_matches("/v1")
    ))
}

#[tokio::test]
async fn the_deployment_stands_in_the_path_and_the_key_in_azures_field() {
    let p = Provider::start([good()]).await;
    let dated = azure(&p, "{ api_version: 2024-10-21 }");
    assert_eq!(dated.ask(&ask_with("gpt", "hi", "")).await.status, 200);
    let undated = azure(&p, "{ auth: bearer }");
    assert_eq!(undated.ask(&ask_with("gpt", "hi", "")).await.status, 200);
    let embeddings = prompt::parse(Operation::Embeddings, Bytes::from(r#"{"model":"gpt","input":"x"}"#), 1 << 20);
    ask(&dated, embeddings.unwrap()).await;
    let seen = p.seen();
    let chat = "/openai/deployments/my-gpt.4_1/chat/completions?api-version=2024-10-21";
    assert!(seen[0].starts_with(&format!("POST {chat} HTTP/1.1\r\n")), "{}", seen[0]);
    assert!(seen[0].contains("api-key: sk-canary\r\n") && !seen[0].contains("authorization:"), "{}", seen[0]);
    assert!(seen[1].starts_with("POST /openai/v1/chat/completions HTTP/1.1\r\n"), "{}", seen[1]);
    assert!(seen[1].contains("authorization: Bearer sk-canary\r\n") && !seen[1].contains("api-key:"), "{}", seen[1]);
    assert_eq!(body_of(&seen[1]), ask_with("my-gpt.4_1", "hi", ""), "and the deployment is the model");
    assert!(
        seen[2].starts_with("POST /openai/deployments/my-gpt.4_1/embeddings?api-version=2024-10-21 "),
        "{}",
        seen[2]
    );
}

const FIRST: &str = r#"{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}"#;

fn chunk(delta: &str, end: &str) -> String {
    format!(
        r#"{{"choices":[{{"content_filter_results":{{"hate":{{"filtered":false,"severity":"safe"}}}},"delta":{delta},"finish_reason":{end},"index":0,"logprobs":null}}],"created":1,"id":"chatcmpl-1","model":"gpt-x","object":"chat.completion.chunk"}}"#
    )
}

#[tokio::test]
async fn a_stream_that_begins_with_filter_results_is_read_and_recorded() {
    let text: String = [
        FIRST.to_owned(),
        chunk(r#"{"role":"assistant","content":""}"#, "null"),
        chunk(r#"{"content":"Hel"}"#, "null"),
        chunk(r#"{"content":"lo"}"#, "null"),
        chunk("{}", "\"stop\""),
        r#"{"choices":[],"id":"chatcmpl-1","usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}"#
            .to_owned(),
        "[DONE]".to_owned(),
    ]
    .iter()
    .map(|data| format!("data: {data}\n\n"))
    .collect();
    let p = Provider::start([sse_reply(&[&text])]).await;
    let w = azure(&p, "{ api_version: 2024-10-21 }");
    let streamed = w.ask(&ask_with("gpt", "hi", r#","stream":true"#)).await;
    assert!(streamed.text.starts_with(&format!("data: {FIRST}\n\n")) && streamed.text.ends_with("data: [DONE]\n\n"));
    assert_eq!((streamed.call.cost.unwrap().nano_usd, streamed.call.stored), (14_000, true));
    let whole = w.ask(&ask_with("gpt", "hi", "")).await;
    assert_eq!((whole.source, &whole.json()["id"]), (Source::AiExact, &json!("chatcmpl-1")));
    let choice = &whole.json()["choices"][0];
    assert_eq!(choice["message"]["content"], "Hello");
    assert_eq!(choice["content_filter_results"]["hate"]["severity"], "safe", "told once, not once per chunk");
    let other = ask(&w, messages("gpt", r#","stream":true"#)).await;
    assert!(other.text.contains(r#""text":"Hel""#) && other.text.ends_with("\"message_stop\"}\n\n"), "{}", other.text);
}

#[tokio::test]
async fn the_content_filter_is_told_to_clients_of_every_dialect() {
    let refused = json!({ "error": {
        "message": "The response was filtered.", "type": null, "param": "prompt", "code": "content_filter", "status": 400,
        "innererror": { "code": "ResponsibleAIPolicyViolation", "content_filter_result": { "jailbreak": { "filtered": true } } },
    } });
    let p = Provider::start([json_reply(400, &refused.to_string())]).await;
    let w = azure(&p, "{ api_version: 2024-10-21 }");
    let own = w.ask(&ask_with("gpt", "hi", "")).await;
    assert_eq!((own.status, own.json()), (400, refused));
    let anthropic = ask(&w, messages("gpt", "")).await;
    assert_eq!((anthropic.status, &anthropic.json()["error"]["type"]), (400, &json!("invalid_request_error")));
    let body = Bytes::from(r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#);
    let gemini = ask(&w, prompt::parse_at(Operation::Generate, Some("gpt".into()), body, 1 << 20).unwrap()).await;
    assert_eq!(gemini.json()["error"]["details"][0]["reason"], "CONTENT_FILTER", "the word, not the number 400");
}

#[test]
fn what_azure_cannot_be_told_is_a_fault_with_its_place() {
    let faults = |provider: &str, model: &str| {
        let yaml = format!(
            "{{ providers: {{ p: {{ base_url: 'https://x', {provider} }} }}, models: {{ m: {{ provider: p, model: {model} }} }} }}"
        );
        let ai: Ai = serde_yaml::from_str(&yaml).unwrap();
        let faults = Catalog::compile(&ai, &PriceList::default(), &BTreeMap::new()).err().unwrap_or_default();
        faults.into_iter().map(|f| f.path).collect::<Vec<_>>()
    };
    assert_eq!(faults("dialect: openai, azure: {}", "gpt-4.1"), Vec::<String>::new());
    assert_eq!(faults("dialect: openai, azure: {}", "a/../b"), ["ai.models.m.model"]);
    assert_eq!(faults("dialect: openai, azure: { api_version: '1&x=y' }", "a"), ["ai.providers.p.azure.api_version"]);
    assert_eq!(faults("dialect: anthropic, azure: {}", "a"), ["ai.providers.p.azure"]);
    assert_eq!(faults("dialect: gemini, compat: vllm", "a"), ["ai.providers.p.compat"]);
    assert_eq!(faults("dialect: gemini, quirks: { string_content: true }", "a"), ["ai.providers.p.quirks"]);
}
