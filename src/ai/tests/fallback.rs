//! Which model answers, what makes the next one be tried, and what the client sees when none does.

use super::*;
use serde_json::json;

const Q: &str = r#"{"model":"auto","messages":[{"role":"user","content":"hi"}]}"#;

#[tokio::test]
async fn a_call_passes_with_only_the_model_replaced_and_the_gateways_key() {
    let p = Provider::start([good()]).await;
    let w = world(&p, &p);
    let mut context = w.with_header("authorization", "Bearer client-secret");
    for (name, value) in [("openai-beta", "x=1"), ("openai-organization", "org-evil"), ("cookie", "c")] {
        context.headers.insert(name, HeaderValue::from_static(value));
    }
    let seen = w.ask_as(&Q.replace("auto", "b"), &exact_only(), &context).await;
    assert_eq!((seen.status, seen.source), (200, Source::Provider));
    assert_eq!(seen.text, fixture("answer.json"), "the answer passes byte for byte");
    let sent = &p.seen()[0];
    assert_eq!(body_of(sent), Q.replace("auto", "up-b"));
    let head = sent.to_ascii_lowercase();
    assert!(
        head.starts_with("post /v1/chat/completions http/1.1\r\n")
            && head.contains("authorization: bearer sk-canary\r\n")
    );
    assert!(head.contains("openai-beta: x=1\r\n"));
    assert!(!head.contains("client-secret") && !head.contains("org-evil") && !head.contains("cookie"));
    assert_eq!((seen.header("x-sluicegate-model"), seen.header("x-sluicegate-provider")), ("b", "pb"));
    assert_eq!(seen.header("x-sluicegate-cost-usd"), "", "an unknown price is never 0");
    assert_eq!(seen.call.cost, None);
}

#[tokio::test]
async fn usage_and_cost_are_counted() {
    let (w, _p) = small_world([good()]).await;
    let seen = w.ask(Q).await;
    assert_eq!(seen.call.usage.unwrap().input(), 20);
    assert_eq!(seen.header("x-sluicegate-cost-usd"), "0.000040000");
    assert_eq!((seen.header("x-sluicegate-tier"), seen.header("x-sluicegate-model")), ("cheap", "a"));
    assert_eq!(seen.header("cache-status"), "sluicegate; fwd=miss; stored");
    assert_eq!(seen.call.ending, Ending::Complete);
}

#[tokio::test]
async fn the_next_model_of_a_tier_is_tried_after_every_kind_of_failure() {
    let error = r#"{"error":{"message":"no","code":429}}"#;
    let text = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
    let short = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{}";
    let cases = [
        (Act::Close, "cut"),
        (Act::Silent, "first_byte_timeout"),
        (Act::Say(vec!["garbage\r\n\r\n".into()]), "bad_answer"),
        (Act::Say(vec![text.into()]), "provider_garbage"),
        (Act::Say(vec![short.into()]), "cut"),
        (json_reply(200, "{not json"), "provider_garbage"),
        (json_reply(200, "{}"), "provider_garbage"),
        (json_reply(200, error), "provider_error_in_success"),
        (json_reply(302, ""), "provider_redirect"),
        (json_reply(401, ""), "provider_auth"),
        (json_reply(404, ""), "provider_not_found"),
        (json_reply(408, ""), "provider_timeout"),
        (json_reply(429, error), "provider_rate_limited"),
        (json_reply(500, ""), "provider_error"),
        (json_reply(529, ""), "provider_error"),
    ];
    for (act, reason) in cases {
        let (bad, fine) = (Provider::start([act]).await, Provider::start([good()]).await);
        let w = world(&bad, &fine);
        let seen = w.ask(Q).await;
        assert_eq!(seen.status, 200, "{reason}: {}", seen.text);
        assert_eq!((bad.calls(), fine.calls()), (1, 1), "{reason}");
        let outcomes: Vec<_> = seen.call.attempts.iter().map(|a| (a.model.as_str(), a.outcome)).collect();
        assert_eq!(outcomes, [("a", reason), ("b", "ok")]);
        assert_eq!(seen.header("x-sluicegate-model"), "b");
    }
}

#[tokio::test]
async fn a_refused_connection_goes_to_the_next_model() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let dead = Provider { url: format!("http://{gone}/v1"), seen: Arc::default() };
    let fine = Provider::start([good()]).await;
    let seen = world(&dead, &fine).ask(Q).await;
    assert_eq!((seen.status, seen.call.attempts[0].outcome), (200, "connect_failed"));
}

#[tokio::test]
async fn a_fault_of_the_request_is_final_and_passes_through() {
    let error = r#"{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;
    let (bad, fine) = (Provider::start([json_reply(400, error)]).await, Provider::start([good()]).await);
    let w = world(&bad, &fine);
    let seen = w.ask(Q).await;
    assert_eq!((seen.status, seen.text.as_str(), seen.source), (400, error, Source::Provider));
    assert_eq!(fine.calls(), 0);
    assert_eq!(w.ask(Q).await.status, 400);
    assert_eq!(bad.calls(), 2, "an error is never cached");
}

#[tokio::test]
async fn when_all_fail_the_last_error_is_told_without_secrets() {
    let limited = r#"{"error":{"message":"slow down","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#;
    let with_header = format!(
        "HTTP/1.1 429 X\r\ncontent-type: application/json\r\nretry-after: 7\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{limited}",
        limited.len()
    );
    let canary = r#"{"error":{"message":"Incorrect API key provided: sk-canary"}}"#;
    let cases = [
        (Act::Say(vec![with_header]), 429, "slow down"),
        (json_reply(503, "<html>"), 503, "answered with status 503"),
        (json_reply(401, canary), 502, "refused the gateway's credentials"),
        (Act::Close, 502, "gave no answer"),
        (json_reply(200, "[]"), 502, "that is no answer"),
    ];
    for (act, status, says) in cases {
        let (w, p) = small_world([act]).await;
        let seen = w.ask(Q).await;
        assert_eq!(seen.status, status, "{}", seen.text);
        let message = seen.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(says), "{message}");
        let all = format!("{}{:?}{:?}", seen.text, seen.headers, seen.call);
        assert!(!all.contains("canary") && !all.contains(&p.url), "{all}");
        assert_eq!(seen.call.attempts.len(), 2);
        assert!(matches!(seen.call.ending, Ending::Failed(_)));
        if status == 429 {
            assert_eq!(seen.header("retry-after"), "7");
            assert_eq!(seen.call.attempts[1].retry_after, Some(Duration::from_secs(7)));
        }
    }
}

#[tokio::test]
async fn a_provider_that_never_answers_is_a_504() {
    let p = Provider::start([Act::Silent]).await;
    let seen = world(&p, &p).ask(&Q.replace("auto", "a")).await;
    assert_eq!((seen.status, seen.call.attempts.len()), (504, 1));
    assert_eq!(seen.json()["error"]["code"], json!("first_byte_timeout"));
}

#[tokio::test]
async fn fallback_tiers_come_after_the_chosen_one_and_are_not_stored() {
    let (bad, fine) = (Provider::start([Act::Close]).await, Provider::start([good()]).await);
    let w = world(&bad, &fine);
    let context = w.with_route(|r| r.fallback = vec!["best".into()]);
    let body = Q.replace("auto", "a");
    let seen = w.ask_as(&body, &exact_only(), &context).await;
    assert_eq!((seen.status, seen.header("x-sluicegate-tier")), (200, "best"));
    assert!(!seen.call.stored);
    w.ask_as(&body, &exact_only(), &context).await;
    assert_eq!((bad.calls(), fine.calls()), (2, 2), "the outage is not remembered by the cache");
}

#[tokio::test]
async fn the_script_wins_over_the_client_and_model_over_tier() {
    let (a, b) = (Provider::start([good()]).await, Provider::start([good()]).await);
    let w = world(&a, &b);
    let tier = AiDirectives { tier: Some("best".into()), ..exact_only() };
    assert_eq!(w.ask_as(Q, &tier, &w.context).await.header("x-sluicegate-model"), "b");
    let model = AiDirectives { model: Some("a".into()), ..tier };
    assert_eq!(w.ask_as(Q, &model, &w.context).await.header("x-sluicegate-model"), "a");
}

#[tokio::test]
async fn unknown_and_disallowed_models_are_404_with_a_suggestion() {
    let (w, p) = small_world([good()]).await;
    let seen = w.ask(&Q.replace("auto", "cheep")).await;
    assert_eq!((seen.status, &seen.json()["error"]["code"]), (404, &json!("model_not_found")));
    assert!(seen.text.contains(r#"Did you mean \"cheap\"?"#), "{}", seen.text);
    let context = w.with_route(|r| r.models = vec!["b".into()]);
    let seen = w.ask_as(&Q.replace("auto", "a"), &exact_only(), &context).await;
    assert_eq!((seen.status, &seen.json()["error"]["param"]), (404, &json!("model")));
    let context = w.with_route(|r| r.tier = None);
    assert_eq!(w.ask_as(Q, &exact_only(), &context).await.status, 404);
    assert_eq!(p.calls(), 0);
}

#[tokio::test]
async fn models_lists_what_the_route_offers() {
    let (w, _p) = small_world([good()]).await;
    let list = prompt::parse(Operation::Models, Bytes::new(), 0).unwrap();
    let seen = read(w.reply_as(list, &AiDirectives::default(), &w.context).await).await;
    let json = seen.json();
    let ids: Vec<_> = json["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!((json["object"].as_str().unwrap(), ids), ("list", vec!["a", "b", "best", "cheap", "auto"]));
    assert_eq!(json["data"][0]["owned_by"], json!("pa"));
}

#[tokio::test]
async fn embeddings_pass_and_are_cached() {
    let answer = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":3,"total_tokens":3}}"#;
    let (w, p) = small_world([json_reply(200, answer)]).await;
    let ask = || prompt::parse(Operation::Embeddings, Bytes::from(r#"{"model":"a","input":"x"}"#), 999).unwrap();
    let first = read(w.reply_as(ask(), &AiDirectives::default(), &w.context).await).await;
    let again = read(w.reply_as(ask(), &AiDirectives::default(), &w.context).await).await;
    assert_eq!((first.text.as_str(), again.text.as_str()), (answer, answer));
    assert_eq!((first.source, again.source, p.calls()), (Source::Provider, Source::AiExact, 1));
    assert!(p.seen()[0].starts_with("POST /v1/embeddings") && body_of(&p.seen()[0]).contains("up-a"));
    assert!(w.semantic.queries.lock().unwrap().is_empty());
    assert_eq!(first.call.cost.unwrap().nano_usd, 3000);
}

#[test]
fn faults_of_the_section_are_all_reported_with_path_and_suggestion() {
    let ai: Ai = serde_yaml::from_str(
        "
providers: { p: { dialect: openai, base_url: 'ftp://x' }, q: { dialect: openai, base_url: 'http://x' } }
models: { m: { provider: quu, model: x }, n: { provider: q, model: x, price: { input: -1 } }, auto: { provider: q, model: x } }
tiers: { cheap: [mm], empty: [] }",
    )
    .unwrap();
    let faults = Catalog::compile(&ai, &PriceList::default(), &BTreeMap::new()).err().unwrap();
    let paths: Vec<_> = faults.iter().map(|f| f.path.as_str()).collect();
    let want = ["ai.providers.p.base_url", "ai.models.auto", "ai.models.m.provider", "ai.models.n.price"];
    assert_eq!(paths[..4], want);
    assert_eq!(paths[4..], ["ai.tiers.cheap[0]", "ai.tiers.empty"]);
    let ai: Ai = serde_yaml::from_str("{ providers: { q: { dialect: openai, base_url: 'http://x' } }, models: { m: { provider: q, model: x } }, tiers: { cheap: [m] } }").unwrap();
    let catalog = Catalog::compile(&ai, &PriceList::default(), &BTreeMap::new()).unwrap();
    let route = AiRoute { tier: Some("chaep".into()), ..AiRoute::default() };
    assert_eq!(catalog.check_route(&route)[0].message, "there is no tier \"chaep\"; did you mean \"cheap\"?");
}
