//! Servers of OpenAI's dialect with quirks: what is edited out of a request, to the byte, and what is read.

use super::super::compat::Quirks;
use super::crossing::{ask, messages};
use super::*;
use crate::config::ai as yaml;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::borrow::Cow;

fn server(p: &Provider, options: &str) -> World {
    world_of(&format!(
        "
providers: {{ pa: {{ dialect: openai, base_url: '{}', {options} }} }}
models: {{ m: {{ provider: pa, model: up }} }}
tiers: {{ cheap: [m] }}",
        p.url
    ))
}

fn quirks(told: &str) -> Quirks {
    Quirks::of(None, &serde_yaml::from_str(told).unwrap())
}

#[test]
fn only_what_a_quirk_demands_is_edited() {
    for (told, body, want) in [
        (
            "{ max_tokens_only: true }",
            r#"{ "max_completion_tokens" : 5, "a":1.0 }"#,
            r#"{ "max_tokens" : 5, "a":1.0 }"#,
        ),
        (
            "{ max_tokens_only: true }",
            r#"{"max_tokens":1,"b":[ ], "max_completion_tokens":5}"#,
            r#"{"max_tokens":5,"b":[ ]}"#,
        ),
        ("{ max_tokens_only: true }", r#"{"max_completion_tokens":null,"max_tokens":1}"#, r#"{"max_tokens":1}"#),
        ("{ no_stream_options: true }", r#"{"stream_options":{"include_usage":true}}"#, "{}"),
        ("{ no_stream_options: true }", r#"{"a":1, "stream_options":{} , "b":2}"#, r#"{"a":1, "b":2}"#),
        (
            "{ no_stream_options: true, no_parallel_tool_calls: true }",
            r#"{"a":1,"stream_options":{},"parallel_tool_calls":false}"#,
            r#"{"a":1}"#,
        ),
        (
            "{ no_stream_options: true, no_parallel_tool_calls: true }",
            r#"{"stream_options":{},"a":1,"parallel_tool_calls":false}"#,
            r#"{"a":1}"#,
        ),
        (
            "{ no_developer_role: true }",
            r#"{"messages":[ {"role":"developer","content":"developer"},{"content":"x" , "role" : "user"} ]}"#,
            r#"{"messages":[ {"role":"system","content":"developer"},{"content":"x" , "role" : "user"} ]}"#,
        ),
        (
            "{ string_content: true }",
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a\"é"},{"type":"text","text":"b"}]},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u"}}]},{"role":"user","content":"s"}]}"#,
            r#"{"messages":[{"role":"user","content":"a\"é\nb"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u"}}]},{"role":"user","content":"s"}]}"#,
        ),
        (
            "{ no_json_schema: true }",
            r#"{"response_format":{"json_schema":{"name":"a","schema":{}},"type":"json_schema"} ,"x":0}"#,
            r#"{"response_format":{"type":"json_object"} ,"x":0}"#,
        ),
        (
            "{ no_json_schema: true }",
            r#"{"response_format":{"type":"text"}}"#,
            r#"{"response_format":{"type":"text"}}"#,
        ),
    ] {
        assert_eq!(quirks(told).fit(body), want, "{told} {body}");
    }
    let plain = r#"{"stream_options":{},"max_completion_tokens":1,"messages":[{"role":"developer"}]}"#;
    assert!(
        matches!(Quirks::default().fit(plain), Cow::Borrowed(_)),
        "a server that takes everything gets it as it is"
    );
}

#[test]
fn a_kind_of_server_is_a_row_that_single_settings_overrule() {
    let of = |compat: &str, told: &str| {
        let compat: yaml::Compat = serde_yaml::from_str(compat).unwrap();
        Quirks::of(Some(compat), &serde_yaml::from_str(told).unwrap())
    };
    let body = r#"{"max_completion_tokens":1,"stream_options":{}}"#;
    assert_eq!(of("mistral", "{}").fit(body), r#"{"max_tokens":1}"#);
    assert_eq!(of("mistral", "{ no_stream_options: false }").fit(body), r#"{"max_tokens":1,"stream_options":{}}"#);
    assert_eq!(of("openrouter", "{}").fit(body), body);
    assert_eq!(of("openrouter", "{ max_tokens_only: true }").fit(body), r#"{"max_tokens":1,"stream_options":{}}"#);
    for name in ["vllm", "ollama", "llamacpp", "groq", "mistral", "deepseek", "xai", "together", "openrouter"] {
        let told = of(name, "{}").fit(r#"{"messages":[{"role":"developer","content":"x"}]}"#).contains("developer");
        assert_eq!(told, matches!(name, "xai" | "openrouter"), "{name}");
    }
}

#[tokio::test]
async fn requests_fit_the_server_within_a_dialect_and_across() {
    let p = Provider::start([good()]).await;
    let w = server(&p, "compat: deepseek");
    let more = r#","max_completion_tokens":9,"parallel_tool_calls":false,"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"object"}}}"#;
    let seen = w.ask(&ask_with("m", "hi", more)).await;
    assert_eq!(
        (seen.status, seen.header("x-sluicegate-dropped")),
        (200, "response_format.json_schema,parallel_tool_calls")
    );
    let want = ask_with("up", "hi", r#","max_tokens":9,"response_format":{"type":"json_object"}"#);
    assert_eq!(body_of(&p.seen()[0]), want);
    let again = w.ask(&ask_with("m", "hi", more)).await;
    assert_eq!(
        (again.source, again.header("x-sluicegate-dropped")),
        (Source::AiExact, seen.header("x-sluicegate-dropped"))
    );
    let tools = r#","tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"auto","disable_parallel_tool_use":true}"#;
    let crossed = ask(&w, messages("m", tools)).await;
    assert_eq!(crossed.header("x-sluicegate-dropped"), "parallel_tool_calls");
    let sent: Value = serde_json::from_str(body_of(&p.seen()[1])).unwrap();
    assert_eq!((&sent["max_tokens"], sent.get("max_completion_tokens")), (&json!(9), None));
}

#[tokio::test]
async fn a_stream_is_not_asked_for_usage_where_that_is_an_error() {
    let last = r#"data: {"id":"x","choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":4,"prompt_cache_hit_tokens":6}}

"#;
    let first = "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"reasoning\":\"Hm.\"}}]}\n\ndata: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let text = format!("{first}{last}");
    let p = Provider::start([sse_reply(&[&text])]).await;
    let w = server(&p, "compat: mistral");
    let body = ask_with("m", "hi", r#","stream":true"#);
    let seen = w.ask(&body).await;
    assert_eq!(body_of(&p.seen()[0]), body.replace("\"m\"", "\"up\""), "and nothing else was changed");
    // The usage stands in the last chunk of content, and no mark of the end follows.
    assert_eq!(seen.text, format!("{text}data: [DONE]\n\n"));
    let usage = seen.call.usage.unwrap();
    assert_eq!((usage.uncached_in, usage.cache_read, usage.out_text, seen.clean), (4, 6, 4, true));
    let crossed = ask(&w, messages("m", r#","stream":true"#)).await;
    assert!(crossed.text.contains(r#"{"type":"thinking_delta","thinking":"Hm."}"#), "{}", crossed.text);
    assert!(crossed.text.contains(r#""cache_read_input_tokens":6"#), "{}", crossed.text);
}

#[tokio::test]
async fn thinking_among_the_parts_of_a_content_is_read() {
    let content = json!([{ "type": "thinking", "thinking": [{ "type": "text", "text": "Hm." }] }, { "type": "text", "text": "hi" }]);
    let body = json!({ "id": "x", "model": "m", "choices": [{ "index": 0, "message": { "role": "assistant", "content": content }, "finish_reason": "stop" }] });
    let p = Provider::start([json_reply(200, &body.to_string())]).await;
    let crossed = ask(&server(&p, "compat: mistral"), messages("m", "")).await;
    assert_eq!(crossed.json()["content"][0]["thinking"], "Hm.");
    assert_eq!(crossed.json()["content"][1], json!({ "type": "text", "text": "hi" }));
}

#[test]
fn a_server_with_other_quirks_is_another_target_of_the_cache() {
    let digest = |more: &str| {
        let yaml = format!(
            "{{ providers: {{ p: {{ dialect: openai, base_url: 'http://x'{more} }} }}, models: {{ m: {{ provider: p, model: x }} }} }}"
        );
        let ai: Ai = serde_yaml::from_str(&yaml).unwrap();
        let catalog = Catalog::compile(&ai, &PriceList::default(), &BTreeMap::new()).unwrap();
        catalog.models().next().unwrap().provider.digest.clone()
    };
    assert_eq!(digest(""), digest(", compat: xai"));
    assert_ne!(digest(""), digest(", compat: deepseek"));
    assert_ne!(digest(""), digest(", azure: {}"));
}

proptest! {
    /// Whatever members there are, in whatever order: taking some out leaves the JSON of the others.
    #[test]
    fn taking_members_out_leaves_the_others(names in prop::collection::vec("[abcd\"é ]{0,2}|stream_options|parallel_tool_calls", 0..6), gap in "[ \n]{0,2}") {
        let names: std::collections::BTreeSet<String> = names.into_iter().collect();
        let members: Vec<String> = names.iter().map(|n| format!("{gap}{}{gap}:{gap}[\"{{,\"]{gap}", Value::from(n.as_str()))).collect();
        let body = format!("{{{gap}{}}}", members.join(","));
        let all = quirks("{ no_stream_options: true, no_parallel_tool_calls: true }");
        let got: Value = serde_json::from_str(&all.fit(&body)).unwrap();
        let mut want: Value = serde_json::from_str(&body).unwrap();
        want.as_object_mut().unwrap().retain(|k, _| k != "stream_options" && k != "parallel_tool_calls");
        prop_assert_eq!(got, want);
    }

    #[test]
    fn no_body_makes_the_edits_panic(body in "[{}\\[\\]\":,a-z ]{0,60}") {
        let all = quirks("{ max_tokens_only: true, no_stream_options: true, no_developer_role: true, string_content: true, no_parallel_tool_calls: true, no_json_schema: true }");
        let _ = all.fit(&body);
    }
}
