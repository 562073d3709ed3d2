//! Reading requests, splicing bodies, parsing event streams, prices and usage.

use super::super::dialect::{Dialect, Record};
use super::super::json::{Edit, splice};
use super::super::price::{Rate, parse_list};
use super::super::prompt::parse;
use super::super::record::Recorder;
use super::super::sse::{Frame, Parser};
use super::super::{replay, usage::Usage};
use super::*;
use crate::config::ai::Price;
use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

fn refused(body: &str) -> (u16, Value) {
    let e = parse(Operation::Chat, Bytes::copy_from_slice(body.as_bytes()), 1000).unwrap_err();
    let Body::Full(text) = e.reply(Dialect::Openai).body else { panic!() };
    (e.status().as_u16(), serde_json::from_slice(&text).unwrap())
}

#[test]
fn faults_in_the_body_are_named_with_their_place() {
    let cases = [
        ("{\"model\": \"m\",\n \"messages\": [}", 400, "line 2 column 15"),
        ("[]", 400, "must be a JSON object"),
        ("{}", 400, "model must be"),
        (r#"{"model":"m"}"#, 400, "messages must be"),
        (r#"{"model":"m","messages":[]}"#, 400, "at least one"),
        (r#"{"model":"m","messages":[{}]}"#, 400, "messages[0].role"),
        (r#"{"model":"m","messages":[{"role":"user"}],"stream":"yes"}"#, 400, "stream must be true or false"),
        (r#"{"model":"m","mod\u0065l":"x","messages":[{"role":"user"}]}"#, 400, "\"model\" is given twice"),
        (r#"{"model":"m","messages":[{"role":"user","role":"system"}]}"#, 400, "\"role\" is given twice"),
    ];
    for (body, status, says) in cases {
        let (got, json) = refused(body);
        let message = json["error"]["message"].as_str().unwrap();
        assert_eq!(got, status, "{body}");
        assert!(message.contains(says), "{body}: {message}");
        assert!(json["error"]["type"].is_string() && json["error"].get("param").is_some(), "{json}");
    }
    assert_eq!(refused(&"x".repeat(1001)).0, 413);
    let deep = format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    assert!(refused(&deep).1["error"]["message"].as_str().unwrap().contains("nested too deep"));
}

#[test]
fn facts_are_what_the_request_says() {
    let p = chat(
        r#"{"model":"auto","stream":true,"temperature":0.2,"max_completion_tokens":9,"tools":[{},{}],"messages":[
        {"role":"system","content":"S"},{"role":"user","content":"one"},{"role":"assistant","content":null},
        {"role":"user","content":[{"type":"text","text":"two"},{"type":"image_url"},{"type":"text","text":"2"}]}]}"#,
    );
    let f = &p.facts;
    assert_eq!((f.model.as_str(), f.text.as_str(), f.system.as_str()), ("auto", "two\n2", "S"));
    assert_eq!((f.turns, f.messages, f.tools, f.parts, f.chars, f.n), (2, 4, 2, 1, 9, 1));
    assert_eq!((f.stream, f.wants_usage, f.temperature, f.max_tokens), (true, false, Some(0.2), Some(9)));
}

#[test]
fn facts_of_a_message_request_are_read_in_its_own_terms() {
    let body = r#"{"model":"auto","max_tokens":9,"stream":true,"temperature":0.2,"tools":[{}],
        "system":[{"type":"text","text":"S"},{"type":"text","text":"T"}],"messages":[
        {"role":"user","content":[{"type":"text","text":"one"},{"type":"image"}]},
        {"role":"assistant","content":[{"type":"tool_use","id":"t"}]},{"role":"system","content":"U"},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"r"}]}]}"#;
    let f = parse(Operation::Messages, Bytes::from(body), 1000).unwrap().facts;
    assert_eq!((f.model.as_str(), f.text.as_str(), f.system.as_str()), ("auto", "one", "S\nT\nU"));
    assert_eq!((f.turns, f.messages, f.tools, f.parts, f.chars), (1, 4, 1, 3, 7));
    assert_eq!((f.stream, f.temperature, f.max_tokens), (true, Some(0.2), Some(9)));
    let used = parse(Operation::Messages, Bytes::from(body), 1000).unwrap();
    assert_eq!(super::super::seam::unfit(&used), Some("tools_in_history"));
    assert_eq!(Operation::of(&Method::POST, "/v1/messages"), Ok(Operation::Messages));
    assert_eq!(Operation::of(&Method::POST, "/v1/messages/count_tokens"), Ok(Operation::CountTokens));
    assert_eq!(Operation::of(&Method::GET, "/v1/messages").unwrap_err().status().as_u16(), 405);
}

#[test]
fn operations_are_found_by_path_and_method() {
    assert_eq!(Operation::of(&Method::POST, "/v1/chat/completions"), Ok(Operation::Chat));
    assert_eq!(Operation::of(&Method::POST, "/embeddings/"), Ok(Operation::Embeddings));
    assert_eq!(Operation::of(&Method::GET, "/x/v1/models"), Ok(Operation::Models));
    assert_eq!(Operation::of(&Method::GET, "/v1/embeddings").unwrap_err().status().as_u16(), 405);
    assert_eq!(Operation::of(&Method::POST, "/v1/images").unwrap_err().status().as_u16(), 404);
}

#[test]
fn only_the_model_changes_in_the_body() {
    let body = "{ \"messages\":[{\"role\":\"user\",\"content\":\"\\u00e9 \\\"model\\\": 1\"}],  \"model\" :\t\"auto\" , \"x\":1.50 }";
    let sent = chat(body).body_for("up\"a");
    assert_eq!(sent, body.replace("\"auto\"", "\"up\\\"a\""));
    assert_eq!(chat(body).body_for("auto"), body);
}

#[test]
fn a_stream_asks_for_usage_by_a_splice() {
    let with = |options: &str| {
        let body = format!(r#"{{"model":"m","stream":true{options},"messages":[{{"role":"user","content":""}}]}}"#);
        let sent = String::from_utf8(chat(&body).body_for("m").to_vec()).unwrap();
        let v: Value = serde_json::from_str(&sent).unwrap();
        assert_eq!(v["stream_options"]["include_usage"], json!(true), "{sent}");
        (body, sent, v)
    };
    let (body, sent, _) = with("");
    assert_eq!(sent, body.replacen('{', "{\"stream_options\":{\"include_usage\":true},", 1));
    with(r#","stream_options":null"#);
    with(r#","stream_options":{}"#);
    with(r#","stream_options": { "include_usage" : false }"#);
    assert_eq!(with(r#","stream_options":{"x":1}"#).2["stream_options"]["x"], json!(1));
    let (body, sent, _) = with(r#","stream_options":{"include_usage":true}"#);
    assert_eq!(body, sent);
}

#[test]
fn usage_buckets_are_disjoint() {
    let answer: Value = serde_json::from_str(&fixture("answer.json")).unwrap();
    let u = Usage::from_openai(&answer["usage"]).unwrap();
    assert_eq!((u.uncached_in, u.cache_read, u.out_text, u.out_reasoning), (12, 8, 6, 4));
    assert_eq!((u.input(), u.output()), (20, 10));
    let deepseek = Usage::from_openai(&json!({ "prompt_tokens": 9, "prompt_cache_hit_tokens": 5 })).unwrap();
    assert_eq!((deepseek.uncached_in, deepseek.cache_read), (4, 5));
    let absurd = json!({ "prompt_tokens": 1, "prompt_tokens_details": { "cached_tokens": 99 } });
    assert_eq!(Usage::from_openai(&absurd).unwrap().input(), 1);
    assert_eq!(Usage::from_openai(&json!({})), None);
}

#[test]
fn costs_are_exact_and_the_shipped_price_list_is_valid() {
    let rate = Rate::new(&Price { input: 0.4, output: 1.6, cache_read: Some(0.0375), ..Price::default() }).unwrap();
    let u = Usage { uncached_in: 1000, cache_read: 1000, out_text: 90, out_reasoning: 10, ..Usage::default() };
    assert_eq!(rate.cost(&u).nano_usd, 400_000 + 37_500 + 160_000);
    assert!(Rate::new(&Price { input: -1.0, ..Price::default() }).is_none());
    assert!(Rate::new(&Price { input: f64::NAN, ..Price::default() }).is_none());
    let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/prices.yaml")).unwrap();
    assert!(parse_list(&shipped).unwrap().models.contains_key("gpt-4.1-mini"));
    assert!(parse_list("{ version: x, models: { m: { input: -1 } } }").unwrap_err().to_string().contains("price of m"));
}

#[test]
fn every_bucket_has_its_own_price() {
    let all = "{ input: 3, output: 15, cache_read: 0.3, cache_write: 3.75, cache_write_1h: 6, reasoning: 20, audio_input: 32, audio_output: 64 }";
    let u = Usage {
        uncached_in: 1_000,
        cache_read: 200_000,
        cache_write: 3_000,
        cache_write_1h: 400,
        audio_in: 50,
        out_text: 600,
        out_reasoning: 70,
        audio_out: 8,
        ..Usage::default()
    };
    // Micro-dollars: 3,000 + 60,000 + 11,250 + 2,400 + 1,600 + 9,000 + 1,400 + 512.
    assert_eq!(Rate::new(&serde_yaml::from_str(all).unwrap()).unwrap().cost(&u).nano_usd, 89_162_000);
    // Left out, the kinds cost what their totals cost, and an hour costs what five minutes cost.
    let plain = Rate::new(&serde_yaml::from_str("{ input: 3, output: 15, cache_write: 3.75 }").unwrap()).unwrap();
    assert_eq!(plain.cost(&u).nano_usd, (1_050 + 200_000) * 3_000 + 3_400 * 3_750 + 678 * 15_000);
}

#[test]
fn anthropics_usage_is_disjoint_already_and_keeps_its_lifetimes() {
    let u = Usage::from_anthropic(&json!({
        "input_tokens": 5, "cache_read_input_tokens": 70, "cache_creation_input_tokens": 30,
        "cache_creation": { "ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20 },
        "output_tokens": 9, "output_tokens_details": { "thinking_tokens": 4 }, "service_tier": "standard",
    }))
    .unwrap();
    assert_eq!((u.uncached_in, u.cache_read, u.cache_write, u.cache_write_1h), (5, 70, 10, 20));
    assert_eq!((u.out_text, u.out_reasoning, u.input(), u.output()), (5, 4, 105, 9));
    let old = json!({ "input_tokens": 5, "cache_creation_input_tokens": 30, "output_tokens": 1 });
    assert_eq!(Usage::from_anthropic(&old).unwrap().cache_write, 30);
    assert_eq!(Usage::from_anthropic(&json!({ "service_tier": "x" })), None);
    let openai = u.to_openai();
    assert_eq!((&openai["prompt_tokens"], &openai["total_tokens"]), (&json!(105), &json!(114)));
    assert_eq!(openai["prompt_tokens_details"]["cached_tokens"], 70);
}

#[test]
fn geminis_usage_has_thoughts_beside_the_candidates() {
    let u = Usage::from_gemini(&json!({
        "promptTokenCount": 100, "cachedContentTokenCount": 60, "toolUsePromptTokenCount": 5,
        "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": 70 }, { "modality": "AUDIO", "tokenCount": 30 }],
        "candidatesTokenCount": 10, "thoughtsTokenCount": 20, "totalTokenCount": 135,
        "candidatesTokensDetails": [{ "modality": "AUDIO", "tokenCount": 4 }],
    }))
    .unwrap();
    assert_eq!((u.uncached_in, u.cache_read, u.audio_in), (15, 60, 30));
    assert_eq!((u.out_text, u.out_reasoning, u.audio_out, u.input() + u.output()), (6, 20, 4, 135));
    assert_eq!(Usage::from_gemini(&json!({})), None);
}

fn all_frames(parts: &[&[u8]]) -> Vec<Frame> {
    let mut p = Parser::default();
    let mut out: Vec<Frame> = parts.iter().flat_map(|b| p.push(b).unwrap()).collect();
    out.extend(p.finish());
    out
}

#[test]
fn event_streams_are_read_as_the_standard_says() {
    let text = ": hi\n\ndata: a\ndata:b\n\nevent: x\r\ndata:  c\r\n\r\ndata\r\rid: 1\n\ndata: [DONE]";
    let frames = all_frames(&[text.as_bytes()]);
    let data: Vec<_> = frames.iter().map(|f| f.data.as_deref()).collect();
    assert_eq!(data, [None, Some("a\nb"), Some(" c"), Some(""), None, Some("[DONE]")]);
    let raw: Vec<u8> = frames.iter().flat_map(|f| f.raw.to_vec()).collect();
    assert_eq!(raw, format!("{text}\n\n").as_bytes());
}

/// The recording of a replay, as a parser and a recorder see it.
fn record_of(stream: &str) -> Option<Value> {
    let mut r = Box::new(Recorder::new(1 << 20));
    for f in all_frames(&[stream.as_bytes()]) {
        let data = f.data.unwrap();
        if data != "[DONE]" {
            r.add(&serde_json::from_str(&data).unwrap(), data.len());
        }
    }
    r.answer()
}

#[test]
fn a_recorded_stream_is_the_complete_answer_and_replays_as_itself() {
    for name in ["answer.json", "tools.json"] {
        let answer: Value = serde_json::from_str(&fixture(name)).unwrap();
        let stream = replay::stream(&answer, true).unwrap();
        assert!(stream.ends_with("data: [DONE]\n\n"));
        assert_eq!(record_of(&stream).unwrap(), answer, "{name}");
    }
    let tools: Value = serde_json::from_str(&fixture("tools.json")).unwrap();
    assert_eq!(record_of(&fixture("tools.sse")).unwrap(), tools);
}

#[test]
fn an_unfinished_or_oversized_recording_is_no_answer() {
    let mut r = Box::new(Recorder::new(100));
    r.add(&json!({ "choices": [{ "index": 0, "delta": { "content": "a" } }] }), 10);
    assert!(!r.finished());
    r.add(&json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }), 200);
    assert!(r.finished() && r.answer().is_none());
    let mut r = Box::new(Recorder::new(1000));
    let far = json!({ "tool_calls": [{ "index": 4_000_000_000u64, "id": "x" }] });
    r.add(&json!({ "choices": [{ "index": 0, "delta": far, "finish_reason": "stop" }] }), 10);
    assert!(r.answer().is_none());
}

fn any_message() -> impl Strategy<Value = Value> {
    let text = "[\\PC \n]{0,120}";
    let call = ("[a-z0-9_]{1,9}", "[a-z_]{1,9}", text).prop_map(
        |(id, name, arguments)| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } }),
    );
    let maybe = prop::option::of(text);
    (maybe.clone(), maybe, prop::collection::vec(call, 0..3), any::<bool>()).prop_map(
        |(content, refusal, calls, more)| {
            let mut m = json!({ "role": "assistant", "content": content, "refusal": refusal });
            if !calls.is_empty() {
                m["tool_calls"] = calls.into();
            }
            if more {
                m["reasoning_content"] = "because".into();
                m["annotations"] = json!([{ "type": "url_citation", "url_citation": { "start_index": 1 } }]);
            }
            m
        },
    )
}

proptest! {
    #[test]
    fn record_undoes_replay(messages in prop::collection::vec(any_message(), 1..4), usage in any::<Option<u32>>()) {
        let choices: Vec<Value> = messages.into_iter().enumerate().map(|(i, m)| {
            json!({ "index": i, "message": m, "logprobs": { "content": [{ "token": "a" }] }, "finish_reason": "stop" })
        }).collect();
        let mut answer = json!({ "id": "x", "object": "chat.completion", "created": 5, "model": "m",
            "service_tier": null, "choices": choices });
        if let Some(n) = usage {
            answer["usage"] = json!({ "prompt_tokens": n });
        }
        prop_assert_eq!(record_of(&replay::stream(&answer, true).unwrap()).unwrap(), answer);
    }

    #[test]
    fn any_split_of_an_event_stream_gives_the_same_frames(
        text in "(data: ?[a-z{}\\PC]{0,6}|: ?|event:x|\r|\n|\r\n|\n\n|\r\n\r\n|\r\r){0,24}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let bytes = text.as_bytes();
        let mut at: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let parts: Vec<&[u8]> = at.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
        prop_assert_eq!(all_frames(&parts), all_frames(&[bytes]));
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(all_frames(&single), all_frames(&[bytes]));
    }

    #[test]
    fn a_view_of_usage_read_back_counts_the_same(parts in prop::array::uniform10(0u64..1_000_000)) {
        let [uncached_in, cache_read, cache_write, cache_write_1h, audio_in, out_text, out_reasoning, audio_out, image_in, image_out] =
            parts;
        let u = Usage {
            uncached_in, cache_read, cache_write, cache_write_1h, audio_in, out_text, out_reasoning, audio_out, image_in,
            image_out,
        };
        let openai = Usage::from_openai(&u.to_openai()).unwrap();
        // OpenAI has no word for how long a cache lives nor for images, Anthropic none for audio either.
        let imageless = Usage {
            uncached_in: uncached_in + image_in, image_in: 0, out_text: out_text + image_out, image_out: 0, ..u
        };
        let short = Usage { cache_write: cache_write + cache_write_1h, cache_write_1h: 0, ..imageless };
        prop_assert_eq!(openai, short);
        let silent = Usage {
            uncached_in: uncached_in + audio_in + image_in, audio_in: 0,
            out_text: out_text + audio_out + image_out, audio_out: 0, ..imageless
        };
        // Gemini tells modalities of the whole prompt, and nothing of what was written to a cache.
        let gemini = Usage::from_gemini(&u.to_gemini()).unwrap();
        prop_assert_eq!((gemini.input(), gemini.output()), (u.input(), u.output()));
        prop_assert_eq!((gemini.audio_in, gemini.image_in, gemini.image_out), (audio_in, image_in, image_out));
        prop_assert_eq!(Usage::from_anthropic(&u.to_anthropic()).unwrap(), silent);
    }

    #[test]
    fn a_splice_changes_nothing_outside_its_spans(text in "\\PC{1,40}", at in any::<prop::sample::Index>(), new in "[a-z]{0,5}") {
        let places: Vec<usize> = text.char_indices().map(|(i, _)| i).collect();
        let start = places[at.index(places.len())];
        let out = splice(&text, vec![Edit { span: start..start, text: new.clone() }]);
        prop_assert_eq!(out, format!("{}{}{}", &text[..start], new, &text[start..]));
    }

    #[test]
    fn parsing_never_panics_on_any_bytes(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(Operation::Chat, body.clone().into(), 1000);
        let mut p = Parser::default();
        let _ = p.push(&body);
        p.finish();
    }
}
