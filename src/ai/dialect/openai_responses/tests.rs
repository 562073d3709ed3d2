//! Tests of what is particular to this dialect; the golden tables stand beside the others'.

use super::super::Dialect;
use super::super::chat::{Call, Event, Fault};
use super::*;
use crate::ai::sse::Parser;
use http::StatusCode;
use proptest::prelude::*;
use std::collections::BTreeMap;

const WANTED: Wanted = Wanted { created: 1_767_225_600, usage: false };

fn fixture(name: &str) -> String {
    let path = format!("{}/tests/fixtures/ai/openai_responses/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// What the frames of a stream are.
fn seen(stream: &str) -> Vec<Seen> {
    let mut parser = Parser::default();
    parser.push(stream.as_bytes()).unwrap().iter().map(look).collect()
}

/// What holds of every stream that ends: numbers in order, items and parts that begin and end once around their
/// deltas, wholes that are the sum of their pieces, and a response of exactly the items told.
fn well_formed(events: &[Value]) -> Result<(), String> {
    let (mut open, mut whole, mut grown) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::<String, String>::new());
    let text = |v: &Value, name: &str| v[name].as_str().unwrap_or_default().to_owned();
    for (i, e) in events.iter().enumerate() {
        let check = |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("{what}: {i}: {e}")) };
        check(e["sequence_number"] == i, "number")?;
        let (index, kind) = (e["output_index"].as_u64(), text(e, "type"));
        let place = format!("{kind} {:?} {} {}", index, e["content_index"], e["summary_index"]);
        match kind.rsplit_once('.').unwrap() {
            ("response", "created" | "in_progress") => check(i < 2, "begin")?,
            ("response", "completed" | "incomplete") => {
                check(i + 1 == events.len() && open.is_empty(), "end")?;
                let told: Vec<Value> = whole.values().cloned().collect();
                check(e["response"]["output"] == json!(told), "output")?;
            }
            ("response.output_item", "added") => {
                check(index == Some((open.len() + whole.len()) as u64), "index")?;
                open.insert(index, e["item"].clone());
            }
            ("response.output_item", "done") => {
                let begun = open.remove(&index);
                check(begun.is_some_and(|b| (&b["id"], &b["type"]) == (&e["item"]["id"], &e["item"]["type"])), "item")?;
                whole.insert(index, e["item"].clone());
            }
            (what, "delta") => {
                check(open.get(&index).is_some_and(|item| item["id"] == e["item_id"]), "open")?;
                *grown.entry(place.replace(&format!("{what}.delta"), what)).or_default() += &text(e, "delta");
            }
            (what, "done") if what != "response.content_part" && what != "response.reasoning_summary_part" => {
                let all = grown.remove(&place.replace(&format!("{what}.done"), what)).unwrap_or_default();
                let member = ["text", "arguments", "refusal"].into_iter().find(|m| e.get(m).is_some()).unwrap();
                check(all == text(e, member), "sum")?;
            }
            _ => check(open.contains_key(&index), "part")?,
        }
    }
    if grown.is_empty() { Ok(()) } else { Err(format!("without an end: {grown:?}")) }
}

#[test]
fn a_replayed_response_is_well_formed_and_spells_the_same_response() {
    for name in ["text", "tools", "thoughts", "incomplete", "filtered", "refusal"] {
        let answer: Value = serde_json::from_str(&fixture(&format!("answer-{name}.json"))).unwrap();
        let (mut recorder, mut events) = (OpenaiResponses.recorder(1 << 20), Vec::new());
        for seen in seen(&OpenaiResponses.replay(&answer, false).unwrap()) {
            match seen {
                Seen::Data(event) | Seen::End(event) => {
                    recorder.add(&event, 1);
                    events.push(event);
                }
                other => panic!("{other:?}"),
            }
        }
        well_formed(&events).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(recorder.answer().unwrap(), answer, "{name}");
    }
    assert_eq!(OpenaiResponses.replay(&json!({ "object": "list" }), false), None);
}

#[test]
fn a_response_is_recorded_although_its_last_event_leaves_out_the_items() {
    let mut recorder = OpenaiResponses.recorder(1 << 20);
    for seen in seen(&fixture("stream-tools.sse")) {
        let (Seen::Data(mut event) | Seen::End(mut event)) = seen else { panic!() };
        if let Some(output) = event.pointer_mut("/response/output") {
            *output = json!([]);
        }
        recorder.add(&event, 1);
    }
    let kinds: Vec<String> = recorder.answer().unwrap()["output"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call", "function_call"]);
}

#[test]
fn a_stream_that_is_too_long_to_record_is_followed_to_its_end() {
    let mut recorder = record::Recorder::new(10);
    for seen in seen(&fixture("stream-text.sse")) {
        let (Seen::Data(event) | Seen::End(event)) = seen else { panic!() };
        recorder.add(&event, 9);
    }
    assert!(recorder.finished() && recorder.has_content() && recorder.next_number().is_some());
    assert_eq!(recorder.usage().unwrap().output(), 30);
    assert_eq!(Box::new(recorder).answer(), None);
}

#[test]
fn errors_are_found_wherever_a_stream_tells_them() {
    let told = |event: Value| match &seen(&crate::ai::sse::event(&event.to_string()))[..] {
        [Seen::Error(e)] => e["error"].clone(),
        other => panic!("{other:?}"),
    };
    let failed =
        json!({ "type": "response.failed", "response": { "error": { "code": "server_error", "message": "m" } } });
    assert_eq!(told(failed), json!({ "type": "api_error", "code": "server_error", "param": null, "message": "m" }));
    let bare =
        json!({ "type": "error", "code": "rate_limit_exceeded", "message": "m", "param": "p", "sequence_number": 3 });
    let limited = json!({ "type": "rate_limit_error", "code": "rate_limit_exceeded", "param": "p", "message": "m" });
    assert_eq!(told(bare), limited);
    let within = json!({ "type": "error", "error": { "type": "invalid_request_error", "message": "m" } });
    assert_eq!(told(within)["type"], "invalid_request_error");
    // A failure without a word is one, too.
    assert_eq!(told(json!({ "type": "response.failed", "response": { "error": null } })).get("message"), None);
    assert!(matches!(seen("data: {}\n\n")[0], Seen::Garbage));
    assert!(matches!(seen("data: [DONE]\n\n")[0], Seen::Blank));
}

#[test]
fn an_error_object_is_an_event_in_a_stream() {
    let fault = Fault { message: "m".into(), code: Some("c".into()), ..Fault::default() };
    let mut error = OpenaiResponses.error(StatusCode::BAD_GATEWAY, &fault);
    assert_eq!(error["error"]["message"], "m");
    error["sequence_number"] = json!(7);
    let text = OpenaiResponses.framed(&error);
    let event: Value = serde_json::from_str(text.strip_prefix("event: error\ndata: ").unwrap()).unwrap();
    assert_eq!((&event["type"], &event["sequence_number"], &event["code"]), (&json!("error"), &json!(7), &json!("c")));
    assert_eq!((&event["message"], &event["error"]["message"]), (&json!("m"), &json!("m")));
}

#[test]
fn what_may_be_kept_and_shared() {
    let may = |name: &str| {
        let json = serde_json::from_str(&fixture(&format!("answer-{name}.json"))).unwrap();
        (OpenaiResponses.may_keep(&json), OpenaiResponses.may_share(&json))
    };
    assert_eq!(may("text"), (true, true));
    assert_eq!(may("thoughts"), (true, true));
    assert_eq!(may("tools"), (true, false));
    assert_eq!(may("refusal"), (true, false));
    assert_eq!(may("incomplete"), (true, false));
    assert_eq!(may("filtered"), (false, false));
    assert_eq!(may("garbage_status"), (false, false));
}

#[test]
fn what_another_provider_keeps_or_runs_is_stateful() {
    let stateful = |v: Value| OpenaiResponses.is_stateful(v.as_object().unwrap());
    assert!(stateful(json!({ "conversation": "c" })) && stateful(json!({ "background": true })));
    assert!(stateful(json!({ "prompt": { "id": "p" } })));
    assert!(!stateful(json!({ "background": false, "conversation": null, "previous_response_id": "resp_1" })));
}

#[test]
fn signatures_come_back_as_they_were_given() {
    let mut item = items::reasoning("rs_1", "Hm.", Some(&items::seal("gemini:c2ln")));
    assert_eq!(
        items::thought(&item),
        Some(super::super::chat::Part::Reasoning("Hm.".into(), Some("gemini:c2ln".into())))
    );
    item["encrypted_content"] = json!("gA:AA");
    let Some(super::super::chat::Part::Reasoning(text, Some(signature))) = items::thought(&item) else { panic!() };
    assert_eq!(signature, "openai:rs_1:gA:AA");
    assert_eq!(items::unsigned(&text, &signature), Some(item));
    assert_eq!(items::unsigned("", "c2ln"), None);
}

fn any_event() -> impl Strategy<Value = Vec<Event>> {
    let piece = || "\\PC{1,8}";
    let call = |k: usize| Call { id: format!("call_{k}"), name: "f".into(), arguments: String::new() };
    prop_oneof![
        piece().prop_map(|t| vec![Event::Text(t)]),
        piece().prop_map(|t| vec![Event::Reasoning(t)]),
        piece().prop_map(|t| vec![Event::Signature(t)]),
        piece().prop_map(|t| vec![Event::Redacted(t)]),
        (0usize..4, "[{}\":a\\\\]{0,8}").prop_map(|(k, t)| vec![Event::Arguments(k, t)]),
        (0usize..4).prop_map(move |k| vec![Event::Call(k, call(k).id, call(k).name)]),
        Just(vec![Event::Break]),
        Just(vec![Event::Ping]),
    ]
}

proptest! {
    #[test]
    fn every_written_stream_is_well_formed(told in prop::collection::vec(any_event(), 0..24), stop in 0usize..3) {
        let stop = [Stop::End, Stop::Length, Stop::Filtered][stop].clone();
        let mut writer = stream_out::Writer::new(WANTED);
        let mut events = Vec::new();
        let start = Event::Start("x".into(), "m".into(), None);
        let mut begun = [false; 4];
        for event in std::iter::once(start).chain(told.into_iter().flatten()) {
            // A call begins once.
            if let Event::Call(k, ..) = &event && std::mem::replace(&mut begun[*k], true) {
                continue;
            }
            writer.write(event, &mut events);
        }
        for event in [Event::Finish(stop), Event::Usage(Usage::default()), Event::End] {
            writer.write(event, &mut events);
        }
        prop_assert_eq!(well_formed(&events), Ok(()));
        let ended = events.last().unwrap()["response"].clone();
        prop_assert!(ended["usage"].is_object() && stop_of(&ended));
    }

    #[test]
    fn no_event_makes_the_reader_panic(kind in "[a-z_.]{0,40}", n in any::<u64>(), text in "\\PC{0,20}") {
        let kinds = ["response.output_text.delta", "response.output_item.done", "response.completed", "response.refusal.done", kind.as_str()];
        let odd = [json!(text), json!(n), json!(null), json!([text]), json!({ "type": "message", "content": [{ "text": text }] })];
        for kind in kinds {
            for v in &odd {
                let event = json!({
                    "type": kind, "output_index": n, "content_index": v, "delta": v, "text": v, "item": v,
                    "response": { "output": [v], "status": v, "id": v, "usage": v }, "sequence_number": n,
                });
                let mut reader = OpenaiResponses.reader();
                for _ in 0..2 {
                    let _ = reader.read(&event, &mut Vec::new());
                }
                let mut recorder = OpenaiResponses.recorder(1 << 10);
                recorder.add(&event, 1);
                let _ = recorder.answer();
                let _ = OpenaiResponses.replay(&json!({ "output": [v, { "type": "message", "content": v }] }), false);
                let _ = (OpenaiResponses.may_share(&event["response"]), OpenaiResponses.begins(&event));
            }
        }
    }
}

fn stop_of(response: &Value) -> bool {
    stop(response).is_some() && Dialect::Responses.wire().is_answer(response)
}
