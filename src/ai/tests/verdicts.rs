//! What a provider says about the gateway's credentials stays between the two, and what a model's key covers.

use super::*;
use serde_json::json;

const CANARY: &str = "Incorrect API key provided: sk-canary";

/// Errors about credentials as different providers word them.
fn about_keys() -> Vec<String> {
    [
        json!({ "code": "invalid_api_key", "type": "invalid_request_error" }),
        json!({ "type": "authentication_error" }),
        json!({ "type": "permission_error", "code": null }),
        json!({ "code": 400, "status": "UNAUTHENTICATED" }),
        json!({ "code": 403 }),
        json!({ "code": "401" }),
    ]
    .into_iter()
    .map(|mut error| {
        error["message"] = json!(CANARY);
        json!({ "error": error }).to_string()
    })
    .collect()
}

#[tokio::test]
async fn a_refused_key_is_never_told_whatever_the_status() {
    for body in about_keys() {
        for status in [200, 400, 500] {
            let (w, p) = small_world([json_reply(status, &body)]).await;
            let seen = w.ask(&ask_with("auto", "hi", "")).await;
            assert_eq!((seen.status, p.calls()), (502, 2), "{status} {body}");
            assert!(!seen.text.contains("sk-canary"), "{}", seen.text);
            assert!(seen.text.contains("refused the gateway's credentials"), "{}", seen.text);
            assert!(seen.call.attempts.iter().all(|a| a.outcome == "provider_auth"), "{:?}", seen.call.attempts);
        }
    }
}

#[tokio::test]
async fn a_refused_key_within_a_stream_is_never_told() {
    let text = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}]}\n\n";
    for body in about_keys() {
        let error = format!("data: {body}\n\n");
        let (w, _p) = small_world([sse_reply(&[text, &error])]).await;
        let seen = w.ask(&ask_with("a", "hi", r#","stream":true"#)).await;
        assert_eq!((seen.clean, seen.call.ending), (false, Ending::Failed("provider_auth")), "{body}");
        assert!(seen.text.starts_with(text) && seen.text.contains("provider_stream_broken"), "{}", seen.text);
        assert!(!seen.text.contains("sk-canary"), "{}", seen.text);
        let (w, p) = small_world([sse_reply(&[&error])]).await;
        let first = w.ask(&ask_with("auto", "hi", r#","stream":true"#)).await;
        assert_eq!((first.status, p.calls(), first.call.attempts[0].outcome), (502, 2, "provider_auth"), "{body}");
    }
}

#[tokio::test]
async fn an_idempotency_key_is_not_repeated_to_a_second_model() {
    let (bad, fine) = (Provider::start([json_reply(500, "")]).await, Provider::start([good()]).await);
    let w = world(&bad, &fine);
    let context = w.with_header("idempotency-key", "once-only");
    assert_eq!(w.ask_as(&ask_with("auto", "hi", ""), &exact_only(), &context).await.status, 200);
    assert!(bad.seen()[0].contains("once-only"));
    assert!(!fine.seen()[0].contains("once-only"), "{}", fine.seen()[0]);
}

#[test]
fn a_deployment_is_part_of_the_fingerprint_and_its_key_is_not() {
    let print = |base_url: &str, headers: &str, key: &str| {
        let yaml = format!(
            "{{ providers: {{ p: {{ dialect: openai, base_url: '{base_url}', headers: {{ {headers} }}, api_key: env:X }} }}, models: {{ m: {{ provider: p, model: x }} }} }}"
        );
        let ai: Ai = serde_yaml::from_str(&yaml).unwrap();
        let keys = BTreeMap::from([("p".to_owned(), Secret::new(key))]);
        let catalog = Catalog::compile(&ai, &PriceList::default(), &keys).unwrap();
        catalog.choose("m", None, &AiRoute::default()).unwrap_or_else(|e| panic!("{e}")).fingerprint()
    };
    let base = print("http://x/v1", "x-org: a, x-more: b", "sk-1");
    assert_eq!(base, print("http://x:80/v1/", "x-more: b, x-org: a", "sk-2"));
    for other in [
        print("https://x/v1", "x-org: a, x-more: b", "sk-1"),
        print("http://y/v1", "x-org: a, x-more: b", "sk-1"),
        print("http://x/v2", "x-org: a, x-more: b", "sk-1"),
        print("http://x/v1", "x-org: b, x-more: b", "sk-1"),
        print("http://x/v1", "x-org: a", "sk-1"),
    ] {
        assert_ne!(base, other);
    }
    assert!(!base.contains("sk-1"));
}

#[tokio::test]
async fn one_model_is_told_or_is_404() {
    let (w, p) = small_world([good()]).await;
    let context = w.with_route(|r| r.models = vec!["a".into(), "cheap".into()]);
    for (id, status, owner) in [("a", 200, "pa"), ("cheap", 200, "sluicegate"), ("auto", 200, "sluicegate")] {
        let mut prompt = prompt::parse(Operation::Model, Bytes::new(), 0).unwrap();
        prompt.facts.model = id.to_owned();
        let seen = read(w.reply_as(prompt, &AiDirectives::default(), &context).await).await;
        let want = json!({ "id": id, "object": "model", "created": 0, "owned_by": owner });
        assert_eq!((seen.status, seen.json()), (status, want));
    }
    for id in ["b", "nope", ""] {
        let mut prompt = prompt::parse(Operation::Model, Bytes::new(), 0).unwrap();
        prompt.facts.model = id.to_owned();
        let seen = read(w.reply_as(prompt, &AiDirectives::default(), &context).await).await;
        assert_eq!((seen.status, &seen.json()["error"]["code"]), (404, &json!("model_not_found")), "{id}");
        assert_eq!(seen.json()["error"]["type"], "invalid_request_error");
    }
    assert_eq!(p.calls(), 0);
}

#[test]
fn the_path_names_the_model() {
    use http::Method;
    for (path, id) in [
        ("/v1/models/gpt-4o", Some("gpt-4o")),
        ("/v1/models/org/name/", Some("org/name")),
        ("/v1/models/org%2Fname%20x", Some("org/name x")),
        ("/v1/models/50%", Some("50%")),
        ("/v1/models/%FF", None),
        ("/v1/models", None),
    ] {
        assert_eq!(prompt::model_in(path).as_deref(), id, "{path}");
        let operation = if path.ends_with("models") { Operation::Models } else { Operation::Model };
        assert_eq!(Operation::of(&Method::GET, path).ok(), (!path.contains("FF")).then_some(operation), "{path}");
    }
    assert!(matches!(Operation::of(&Method::DELETE, "/v1/models/x"), Err(AiError::Method { .. })));
}

#[test]
fn embedding_inputs_are_joined_for_the_policy_up_to_a_bound() {
    let facts = |input: serde_json::Value| {
        let body = json!({ "model": "a", "input": input }).to_string();
        prompt::parse(Operation::Embeddings, Bytes::from(body), 1 << 20).unwrap().facts
    };
    assert_eq!(facts(json!("x")).text, "x");
    assert_eq!((facts(json!(["a", "bc"])).text.as_str(), facts(json!(["a", "bc"])).chars), ("a\nbc", 3));
    assert_eq!(facts(json!([[1, 2], [3]])).text, "");
    let long = facts(json!(["\u{e4}".repeat(10_000), "b".repeat(10_000), "c"]));
    assert_eq!((long.chars, long.text.chars().count()), (20_001, 16_385));
}
