//! What of a request to Converse depends on the model, its limits, and what no table shows.

use super::super::chat::{Event, Fields};
use super::super::{Dialect, request};
use super::*;
use crate::config::ai::Thinking;
use proptest::prelude::*;

const CLAUDE: &str = "anthropic.claude-3-5-sonnet-20240620-v1:0";
const NOVA: &str = "eu.amazon.nova-pro-v1:0";
const GPT: &str = "openai.gpt-oss-120b-1:0";
const LLAMA: &str = "meta.llama3-70b-instruct-v1:0";

fn written(from: Dialect, model: &str, body: Value) -> Result<(Value, Option<String>), Unsupported> {
    let fields: Fields = body.as_object().unwrap().clone();
    let target = Target { model, max_tokens: 8192, thinking: Thinking::Budget };
    let (body, dropped) = request((from, Dialect::Bedrock), &fields, &target)?;
    Ok((body, dropped.told()))
}

fn openai(model: &str, more: Value) -> (Value, Option<String>) {
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    written(Dialect::Openai, model, body).unwrap()
}

fn anthropic(model: &str, content: Value) -> (Value, Option<String>) {
    let body = json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": content }] });
    written(Dialect::Anthropic, model, body).unwrap()
}

#[test]
fn ids_and_arns_stand_in_the_path_as_one_segment() {
    assert_eq!(path(CLAUDE, false), "/model/anthropic.claude-3-5-sonnet-20240620-v1%3A0/converse");
    let arn = "arn:aws:bedrock:eu-central-1:1:application-inference-profile/a b";
    let want = "/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A1%3Aapplication-inference-profile%2Fa%20b/converse-stream";
    assert_eq!(path(arn, true), want);
    assert_eq!(path("../é?#", false), "/model/..%2F%C3%A9%3F%23/converse");
}

#[test]
fn each_maker_is_asked_to_think_in_its_own_words_or_not_at_all() {
    let ask = json!({ "reasoning_effort": "high", "max_tokens": 20_000 });
    let more = |model| {
        let (body, dropped) = openai(model, ask.clone());
        (body["additionalModelRequestFields"].clone(), dropped)
    };
    let budget = json!({ "thinking": { "type": "enabled", "budget_tokens": 16_384 } });
    assert_eq!(more(CLAUDE), (budget.clone(), None));
    assert_eq!(more("arn:aws:bedrock:eu-central-1:1:application-inference-profile/abc"), (budget, None));
    assert_eq!(more(GPT), (json!({ "reasoning_effort": "high" }), None));
    for model in [NOVA, LLAMA] {
        assert_eq!(more(model), (Value::Null, Some("reasoning_effort".to_owned())), "{model}");
    }
}

#[test]
fn a_budget_for_thinking_is_sent_with_the_limit_that_it_must_stay_below() {
    let (body, _) = openai(CLAUDE, json!({ "reasoning_effort": "high" }));
    assert_eq!(body["inferenceConfig"]["maxTokens"], 8192);
    assert_eq!(body["additionalModelRequestFields"]["thinking"]["budget_tokens"], 8191);
    let (plain, _) = openai(CLAUDE, json!({}));
    assert_eq!(plain.get("inferenceConfig"), None, "the model's own limit holds");
}

#[test]
fn the_number_of_tokens_sampled_from_has_another_place_for_each_maker() {
    let more = |model| {
        let (body, dropped) = openai(model, json!({ "top_k": 7 }));
        (body["additionalModelRequestFields"].clone(), dropped)
    };
    assert_eq!(more(CLAUDE), (json!({ "top_k": 7 }), None));
    assert_eq!(more("mistral.mistral-large-2402-v1:0"), (json!({ "top_k": 7 }), None));
    assert_eq!(more(NOVA), (json!({ "inferenceConfig": { "topK": 7 } }), None));
    assert_eq!(more(LLAMA), (Value::Null, Some("top_k".to_owned())));
}

#[test]
fn a_temperature_above_one_is_named_and_left_out() {
    let (body, dropped) = openai(LLAMA, json!({ "temperature": 1.5, "top_p": 0.5 }));
    assert_eq!((&body["inferenceConfig"], dropped.as_deref()), (&json!({ "topP": 0.5 }), Some("temperature")));
}

#[test]
fn what_is_to_be_cached_is_marked_where_the_model_caches() {
    let marked =
        |ttl: Value| json!([{ "type": "text", "text": "long", "cache_control": ttl }, { "type": "text", "text": "x" }]);
    let told = |model, mark| {
        let (body, dropped) = anthropic(model, marked(mark));
        (body["messages"][0]["content"].clone(), dropped)
    };
    let hour = json!({ "type": "ephemeral", "ttl": "1h" });
    let point = |p: Value| json!([{ "text": "long" }, { "cachePoint": p }, { "text": "x" }]);
    assert_eq!(told(CLAUDE, hour.clone()), (point(json!({ "type": "default", "ttl": "1h" })), None));
    assert_eq!(told(CLAUDE, json!({ "type": "ephemeral", "ttl": "5m" })), (point(json!({ "type": "default" })), None));
    let without = Some("cache_control.ttl".to_owned());
    assert_eq!(told(NOVA, hour.clone()), (point(json!({ "type": "default" })), without));
    assert_eq!(told(LLAMA, hour), (json!([{ "text": "long" }, { "text": "x" }]), Some("cache_control".to_owned())));
}

#[test]
fn a_mark_within_a_result_or_on_the_request_stands_behind_it() {
    let body = json!({ "model": "m", "max_tokens": 9, "cache_control": { "type": "ephemeral" }, "messages": [
        { "role": "user", "content": "go" },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "t1", "name": "f", "input": {} }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t1", "is_error": true, "content": [
            { "type": "text", "text": "no", "cache_control": { "type": "ephemeral" } }] }] },
    ], "tools": [{ "name": "f", "input_schema": { "type": "object" }, "cache_control": { "type": "ephemeral" } }] });
    let (body, dropped) = written(Dialect::Anthropic, CLAUDE, body).unwrap();
    let point = json!({ "cachePoint": { "type": "default" } });
    let result = json!({ "toolResult": { "toolUseId": "t1", "content": [{ "text": "no" }], "status": "error" } });
    assert_eq!(body["messages"][2]["content"], json!([result, point, point]));
    assert_eq!(body["toolConfig"]["tools"][1], point);
    assert_eq!(dropped, None);
}

#[test]
fn tools_that_are_not_to_be_called_are_left_out_as_long_as_none_has_been() {
    let tools = json!([{ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } }]);
    let (body, _) = openai(CLAUDE, json!({ "tools": tools, "tool_choice": "none" }));
    assert_eq!(body.get("toolConfig"), None);
    let history = json!([
        { "role": "user", "content": "hi" },
        { "role": "assistant", "tool_calls": [{ "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{}" } }] },
        { "role": "tool", "tool_call_id": "c1", "content": "ok" },
    ]);
    let ask = json!({ "model": "m", "messages": history, "tools": tools, "tool_choice": "none" });
    assert_eq!(written(Dialect::Openai, CLAUDE, ask).unwrap_err().param, "tool_choice");
    // Without any tool offered, the one that was called is declared all the same.
    let (body, _) = openai(CLAUDE, json!({ "messages": history }));
    let declared =
        json!([{ "toolSpec": { "name": "f", "inputSchema": { "json": { "type": "object", "properties": {} } } } }]);
    assert_eq!(body["toolConfig"], json!({ "tools": declared }));
}

#[test]
fn ids_of_calls_fit_and_still_belong_together() {
    let long = format!("call_{}", "é/".repeat(60));
    let other = format!("{long}x");
    let call = |id: &str| json!({ "id": id, "type": "function", "function": { "name": "f", "arguments": "" } });
    let (body, _) = openai(
        CLAUDE,
        json!({ "messages": [
        { "role": "user", "content": "hi" },
        { "role": "assistant", "tool_calls": [call(&long), call(&other)] },
        { "role": "tool", "tool_call_id": other, "content": "2" },
        { "role": "tool", "tool_call_id": long, "content": "1" },
    ] }),
    );
    let ids = |m: usize, of: &str| -> Vec<String> {
        let content = body["messages"][m]["content"].as_array().unwrap();
        content.iter().map(|b| b[of]["toolUseId"].as_str().unwrap().to_owned()).collect()
    };
    let (calls, results) = (ids(1, "toolUse"), ids(2, "toolResult"));
    assert_eq!((&calls[0], &calls[1]), (&results[1], &results[0]));
    assert_ne!(calls[0], calls[1]);
    assert!(
        calls.iter().all(|id| id.len() == 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || "_.:-".contains(c)))
    );
}

#[test]
fn documents_bear_names_that_are_allowed_and_their_own() {
    let document = |title: &str, source: Value| json!({ "type": "document", "title": title, "source": source });
    let pdf = json!({ "type": "base64", "media_type": "application/pdf", "data": "aGk=" });
    let plain = json!({ "type": "text", "media_type": "text/plain", "data": "Grüße" });
    let content = json!([document("Q1  report_2.pdf", pdf.clone()), document("", plain), document("Q1 report 2 pdf", pdf), { "type": "text", "text": "x" }]);
    let (body, _) = anthropic(CLAUDE, content);
    let told = |i: usize| body["messages"][0]["content"][i]["document"].clone();
    assert_eq!(told(0), json!({ "format": "pdf", "name": "Q1 report 2 pdf", "source": { "bytes": "aGk=" } }));
    assert_eq!(told(1), json!({ "format": "txt", "name": "document", "source": { "bytes": "R3LDvMOfZQ==" } }));
    assert_eq!(told(2)["name"], "Q1 report 2 pdf (2)");
    let odd = json!([{ "type": "image", "source": { "type": "base64", "media_type": "image/tiff", "data": "aGk=" } }]);
    let body = json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": odd }] });
    let e = written(Dialect::Anthropic, CLAUDE, body).unwrap_err();
    assert_eq!(e.message, "the media type \"image/tiff\" has no counterpart");
}

#[test]
fn members_of_converse_pass_under_their_own_names_and_others_are_named() {
    let more = json!({ "guardrailConfig": { "guardrailIdentifier": "g", "guardrailVersion": "1" }, "top_k": 3,
        "additionalModelRequestFields": { "top_k": 5, "x": 1 }, "performanceConfig": { "latency": "optimized" }, "user": "u" });
    let (body, dropped) = openai(CLAUDE, more);
    assert_eq!(body["guardrailConfig"]["guardrailIdentifier"], "g");
    assert_eq!(body["additionalModelRequestFields"], json!({ "top_k": 5, "x": 1 }));
    assert_eq!(dropped.as_deref(), Some("user,performanceConfig"));
}

#[test]
fn turns_alternate_whatever_was_left_out_between_them() {
    let (body, dropped) = openai(
        CLAUDE,
        json!({ "messages": [
        { "role": "user", "content": "a" },
        { "role": "assistant", "content": " " },
        { "role": "user", "content": "b" },
    ] }),
    );
    assert_eq!(body["messages"], json!([{ "role": "user", "content": [{ "text": "a" }, { "text": "b" }] }]));
    assert_eq!(dropped, None);
}

#[test]
fn bytes_that_were_never_bedrocks_are_no_redacted_thinking() {
    let content = json!([{ "type": "redacted_thinking", "data": "not base64!" }, { "type": "text", "text": "x" }]);
    let (body, dropped) = anthropic(CLAUDE, content);
    assert_eq!(body["messages"][0]["content"], json!([{ "text": "x" }]));
    assert_eq!(dropped.as_deref(), Some("thinking"));
}

#[test]
fn a_refusal_in_the_common_envelope_is_left_as_it_is() {
    let (headers, own) = (HeaderMap::new(), json!({ "error": { "message": "a proxy's" } }));
    assert_eq!(Bedrock.refusal(&headers, Some(&own)), None);
    let (status, envelope) = Bedrock.refusal(&headers, None).unwrap();
    assert_eq!((status, envelope), (None, json!({ "error": { "type": "" } })));
}

fn any_event() -> impl Strategy<Value = Value> {
    let kinds =
        ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"];
    let delta = prop_oneof![
        "\\PC{0,8}".prop_map(|t| json!({ "text": t })),
        "\\PC{0,8}".prop_map(|t| json!({ "toolUse": { "input": t } })),
        "[A-Za-z=!]{0,8}".prop_map(|t| json!({ "reasoningContent": { "redactedContent": t } })),
        Just(json!([1])),
        Just(Value::Null),
    ];
    (0usize..kinds.len(), 0u64..3, delta).prop_map(move |(k, index, delta)| {
        let start = json!({ "toolUse": { "toolUseId": "t", "name": "f" } });
        json!({ kinds[k]: { "role": "assistant", "contentBlockIndex": index, "delta": delta, "start": start, "stopReason": "end_turn", "usage": delta } })
    })
}

proptest! {
    /// Whatever comes in whatever order: nothing before the start, one end, arguments only for calls that were told.
    #[test]
    fn no_order_of_events_confuses_the_reader(events in prop::collection::vec(any_event(), 0..24)) {
        let mut reader = Bedrock.reader();
        let mut out = Vec::new();
        for event in &events {
            let _ = reader.read(event, &mut out);
        }
        prop_assert!(out.first().is_none_or(|e| matches!(e, Event::Start(..))));
        prop_assert!(out.iter().filter(|e| matches!(e, Event::Finish(_))).count() <= 1);
        let mut calls = 0;
        for e in &out {
            match e {
                Event::Call(k, ..) => { prop_assert_eq!(*k, calls); calls += 1; }
                Event::Arguments(k, _) => prop_assert!(*k < calls),
                _ => {}
            }
        }
        let told = out.iter().any(|e| matches!(e, Event::Finish(_)));
        prop_assert_eq!(reader.end(&mut Vec::new()).is_ok(), told);
    }

    #[test]
    fn no_answer_makes_it_panic(text in "\\PC{0,20}", n in any::<i64>()) {
        for v in [json!(text), json!(n), json!(null), json!([text]), json!({ "text": n, "toolUse": text, "reasoningContent": n })] {
            let told = json!({ "output": { "message": { "content": [v, { "toolUse": v }, { "citationsContent": v }] } }, "stopReason": text, "usage": v });
            let _ = Bedrock.read_answer(&told, &mut Dropped::default());
            let _ = Bedrock.usage(&json!({ "usage": { "inputTokens": 1, "cacheDetails": v, "cacheWriteInputTokens": v } }));
            let _ = Bedrock.reader().read(&v, &mut Vec::new());
        }
    }
}
