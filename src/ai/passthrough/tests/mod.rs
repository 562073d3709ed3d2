//! Tests of what passes through: paths, the look at a body, what an answer costs.

mod bodies;

use super::bill::Tap;
use super::endpoint::{Asks, Place, at, parameter};
use crate::config::ai::passthrough::Endpoint;
use http::Method;
use proptest::prelude::*;

fn path_of(method: Method, path: &str, query: Option<&str>) -> Option<(Endpoint, String)> {
    match at(&method, path, query) {
        Place::Called(c) => Some((c.name, c.path)),
        _ => None,
    }
}

#[test]
fn every_endpoint_is_found_below_any_prefix() {
    for (method, path, name, there) in [
        (Method::POST, "/v1/images/generations", Endpoint::Images, "/images/generations"),
        (Method::POST, "/team/a/v1/audio/transcriptions/", Endpoint::Audio, "/audio/transcriptions"),
        (Method::POST, "/v1/moderations", Endpoint::Moderations, "/moderations"),
        (Method::POST, "/v2/rerank", Endpoint::Rerank, "/rerank"),
        (Method::GET, "/v1/files", Endpoint::Files, "/files"),
        (Method::GET, "/v1/files/file-abc_1/content", Endpoint::Files, "/files/file-abc_1/content"),
        (Method::DELETE, "/v1/files/file-abc", Endpoint::Files, "/files/file-abc"),
        (Method::POST, "/v1/batches/batch_1/cancel", Endpoint::Batches, "/batches/batch_1/cancel"),
        (Method::GET, "/v1/responses/resp_1/input_items", Endpoint::Responses, "/responses/resp_1/input_items"),
        (Method::POST, "/v1/messages/batches", Endpoint::MessageBatches, "/messages/batches"),
        (Method::GET, "/v1/messages/batches/b1/results", Endpoint::MessageBatches, "/messages/batches/b1/results"),
        (Method::GET, "/v1/realtime", Endpoint::Realtime, "/realtime"),
    ] {
        assert_eq!(path_of(method, path, None), Some((name, there.to_owned())), "{path}");
    }
}

#[test]
fn an_id_cannot_lead_anywhere_else() {
    for id in ["..", ".", "a%2f..", "a.b", "%2e%2e", "", "a b", &"x".repeat(129)] {
        let path = format!("/v1/files/{id}/content");
        assert_eq!(at(&Method::GET, &path, None), Place::None, "{path}");
    }
    assert_eq!(at(&Method::GET, "files", None), Place::None, "no slash before it");
    assert_eq!(at(&Method::GET, "/v1/profiles", None), Place::None);
}

#[test]
fn a_wrong_method_is_told_the_right_one() {
    assert_eq!(at(&Method::GET, "/v1/images/edits", None), Place::Method(Method::POST));
    assert_eq!(at(&Method::PUT, "/v1/files/f", None), Place::Method(Method::GET));
}

#[test]
fn of_a_query_only_what_is_known_passes() {
    let query = Some("limit=2&api_key=canary&after=file-1&key=canary&include%5B%5D=x&limit=a\"b&access_token=canary");
    let (_, path) = path_of(Method::GET, "/v1/files", query).unwrap();
    assert_eq!(path, "/files?limit=2&after=file-1&include%5B%5D=x");
    assert_eq!(parameter("a=1&model=gpt%20x", "model").unwrap(), "gpt x");
    let Place::Called(realtime) = at(&Method::GET, "/v1/realtime", Some("model=x&stream=1")) else { panic!() };
    assert_eq!((realtime.asks, realtime.path.as_str()), (Asks::Model, "/realtime"));
}

/// Input (audio of it), output.
fn told(content_type: &str, body: &str, at: usize) -> Option<(u64, u64, u64)> {
    let mut tap = Tap::new(content_type);
    let (a, b) = body.as_bytes().split_at(at.min(body.len()));
    tap.feed(a);
    tap.feed(b);
    tap.usage().map(|u| (u.input(), u.audio_in, u.output()))
}

#[test]
fn the_cost_of_an_answer_is_read_wherever_its_provider_tells_it() {
    let image = r#"{"created":1,"data":[{"b64_json":"AAAA","usage":{"input_tokens":9}}],"usage":{"input_tokens":50,"output_tokens":100,"total_tokens":150,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}}"#;
    let speech = r#"{"text":"hi","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"audio_tokens":10,"text_tokens":4},"output_tokens":5}}"#;
    let events = "event: x\ndata: {\"type\":\"transcript.text.delta\",\"delta\":\"a\"}\n\ndata: {\"type\":\"transcript.text.done\",\"usage\":{\"input_tokens\":7,\"output_tokens\":3}}\n\n: {\"usage\":{\"input_tokens\":99}}\n\n";
    for (kind, body, expected) in [
        ("application/json; charset=utf-8", image, (50, 0, 100)),
        ("application/json", speech, (14, 10, 5)),
        ("application/json", r#"{"results":[],"usage":{"total_tokens":42}}"#, (42, 0, 0)),
        ("application/json", r#"{"usage":{"prompt_tokens":6,"total_tokens":6},"results":[]}"#, (6, 0, 0)),
        ("application/json", r#"{"results":[],"meta":{"tokens":{"input_tokens":8,"output_tokens":0}}}"#, (8, 0, 0)),
        ("text/event-stream", events, (7, 0, 3)),
        (
            "text/event-stream; charset=utf-8",
            events.trim_end_matches("\n\n: {\"usage\":{\"input_tokens\":99}}\n\n"),
            (7, 0, 3),
        ),
    ] {
        for at in 0..=body.len() {
            assert_eq!(told(kind, body, at), Some(expected), "{kind} {body} cut at {at}");
        }
    }
}

#[test]
fn an_answer_that_tells_no_tokens_costs_none_that_are_known() {
    for (kind, body) in [
        ("application/json", r#"{"usage":{"type":"duration","seconds":3}}"#),
        ("application/json", r#"{"results":[{"usage":{"input_tokens":9}}]}"#),
        ("application/json", "not json \"usage\":{\"input_tokens\":9}"),
        ("audio/mpeg", r#"{"usage":{"input_tokens":9}}"#),
    ] {
        assert_eq!(told(kind, body, 3), None, "{body}");
    }
}

proptest! {
    #[test]
    fn whatever_comes_the_tap_survives(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
        for kind in ["application/json", "text/event-stream"] {
            let mut tap = Tap::new(kind);
            pieces.iter().for_each(|p| tap.feed(p));
            let _ = tap.usage();
        }
    }
}
