//! The exact cache, the semantic cache through its seam, collapsing, and what clients may ask of them.

use super::*;

fn semantic() -> AiDirectives {
    AiDirectives { cache: Some(CacheMode::Semantic), ..AiDirectives::default() }
}

#[tokio::test]
async fn an_equal_request_is_answered_without_the_provider() {
    let (w, p) = small_world([good()]).await;
    w.ask(&ask_with("auto", "hi", "")).await;
    w.clock.advance(Duration::from_secs(90));
    let hit = w.ask(&ask_with("auto", "hi", r#", "user":"u2""#)).await;
    assert_eq!((p.calls(), hit.source, hit.status), (1, Source::AiExact, 200));
    assert_eq!(hit.text, fixture("answer.json"));
    assert_eq!((hit.header("cache-status"), hit.header("age")), ("sluicegate; hit; detail=exact", "90"));
    assert_eq!((hit.header("x-sluicegate-entry").len(), hit.header("x-sluicegate-cost-usd")), (16, "0.000000000"));
    let saved = hit.call.saved.unwrap();
    assert_eq!((saved.input_tokens, saved.output_tokens, saved.cost.unwrap().nano_usd), (20, 10, 40_000));
    assert_eq!(hit.call.usage, None, "nothing was billed");
}

#[tokio::test]
async fn a_stored_answer_serves_streams_and_a_stored_stream_serves_json() {
    let (w, p) = small_world([good()]).await;
    w.ask(&ask_with("a", "hi", "")).await;
    let hit = w.ask(&ask_with("a", "hi", r#","stream":true,"stream_options":{"include_usage":true}"#)).await;
    assert_eq!((p.calls(), hit.header("content-type")), (1, "text/event-stream; charset=utf-8"));
    assert!(hit.text.contains("chatcmpl-fixture-1") && hit.text.ends_with("data: [DONE]\n\n"));
    assert!(hit.text.contains("\"prompt_tokens\":20"));
    let plain = w.ask(&ask_with("a", "hi", r#","stream":true"#)).await;
    assert!(!plain.text.contains("prompt_tokens"));

    let (w, p) =
        small_world([Act::Say(vec![format!("{SSE_HEAD}{}0\r\n\r\n", chunked(&[&fixture("tools.sse")]))])]).await;
    let live = w.ask(&ask_with("a", "hi", r#","stream":true"#)).await;
    assert!(live.clean && live.call.stored, "{} {:?}", live.text, live.call);
    let hit = w.ask(&ask_with("a", "hi", "")).await;
    let want: serde_json::Value = serde_json::from_str(&fixture("tools.json")).unwrap();
    assert_eq!((p.calls(), hit.json()), (1, want));
}

#[tokio::test]
async fn an_entry_ends_with_its_time_to_live() {
    let (w, p) = small_world([good()]).await;
    let short = AiDirectives { ttl: Some(Duration::from_secs(10)), ..exact_only() };
    let body = ask_with("a", "hi", "");
    for (wait, calls) in [(0, 1), (9, 1), (2, 2)] {
        w.clock.advance(Duration::from_secs(wait));
        w.ask_as(&body, &short, &w.context).await;
        assert_eq!(p.calls(), calls, "after {wait} more seconds");
    }
}

#[tokio::test]
async fn tenants_routes_policies_and_targets_share_nothing() {
    let (w, p) = small_world([good()]).await;
    let body = ask_with("a", "hi", "");
    w.ask_as(&body, &semantic(), &w.context).await;
    until("the answer is filed", || w.semantic.stored.lock().unwrap().len() == 1).await;
    let (mut tenant, mut route, mut policy) = (w.context.clone(), w.context.clone(), w.context.clone());
    tenant.tenant = "t2".into();
    route.route = "other".into();
    policy.policy = "r2".into();
    for (i, context) in [tenant, route, policy].iter().enumerate() {
        assert_eq!(w.ask_as(&body, &semantic(), context).await.source, Source::Provider);
        assert_eq!(p.calls(), i + 2);
    }
    assert_eq!(w.ask_as(&ask_with("cheap", "hi", ""), &semantic(), &w.context).await.source, Source::Provider);
}

#[tokio::test]
async fn a_paraphrase_is_answered_by_the_semantic_cache() {
    let (w, p) = small_world([good()]).await;
    let miss = w.ask_as(&ask_with("a", "boiling point of water", ""), &semantic(), &w.context).await;
    assert_eq!(miss.source, Source::Provider);
    until("the answer is filed", || w.semantic.stored.lock().unwrap().len() == 1).await;
    let hit = w.ask_as(&ask_with("a", "when does water boil", ""), &semantic(), &w.context).await;
    assert_eq!((hit.source, p.calls(), hit.text.clone()), (Source::AiSemantic, 1, fixture("answer.json")));
    assert_eq!(hit.headers["cache-status"], "sluicegate; hit; detail=semantic");
    assert_eq!((hit.header("x-sluicegate-score"), hit.header("age")), ("0.9300", "7"));
    assert_eq!((hit.header("x-sluicegate-entry"), hit.header("x-sluicegate-provider")), ("e1", "pa"));
    assert_eq!(hit.call.saved.unwrap().cost.unwrap().nano_usd, 40_000);
    let q = w.semantic.queries.lock().unwrap()[1].clone();
    assert_eq!((q.text.as_str(), q.model.as_str(), q.threshold), ("when does water boil", "a", 0.9));
}

#[tokio::test]
async fn answers_that_must_not_be_shared_are_not_filed() {
    let filtered = fixture("answer.json").replace("\"stop\"", "\"content_filter\"");
    for (answer, exact) in [(fixture("tools.json"), true), (filtered, false)] {
        let (w, p) = small_world([json_reply(200, &answer)]).await;
        let body = ask_with("a", "hi", "");
        w.ask_as(&body, &semantic(), &w.context).await;
        w.ask_as(&body, &semantic(), &w.context).await;
        assert_eq!(p.calls(), if exact { 1 } else { 2 });
        assert!(w.semantic.stored.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn clients_can_narrow_the_caches_and_ask_for_a_fresh_answer() {
    let (w, p) = small_world([good()]).await;
    let body = ask_with("a", "hi", "");
    let none = AiDirectives { cache: Some(CacheMode::None), ..AiDirectives::default() };
    let cases = [
        (w.with_header("x-sluicegate-cache", "off"), semantic(), "sluicegate; fwd=bypass; detail=client"),
        (w.with_header("cache-control", "max-age=0, No-Store"), semantic(), "sluicegate; fwd=bypass; detail=client"),
        (w.with_header("x-sluicegate-cache", "semantic"), none, "sluicegate; fwd=bypass; detail=policy"),
        (w.with_route(|r| r.cache = None), semantic(), "sluicegate; fwd=bypass; detail=no_cache"),
        (w.with_header("x-sluicegate-cache", "exact"), semantic(), "sluicegate; fwd=miss; stored"),
        (w.with_header("cache-control", "no-cache"), semantic(), "sluicegate; fwd=request; stored"),
        (w.with_header("x-sluicegate-cache", "refresh"), semantic(), "sluicegate; fwd=request; stored"),
    ];
    for (i, (context, directives, status)) in cases.iter().enumerate() {
        let seen = w.ask_as(&body, directives, context).await;
        assert_eq!((seen.header("cache-status"), p.calls()), (*status, i + 1));
    }
    assert!(w.semantic.queries.lock().unwrap().is_empty());
    let bad = w.ask_as(&body, &semantic(), &w.with_header("x-sluicegate-cache", "no")).await;
    assert_eq!((bad.status, p.calls()), (400, cases.len()));
}

#[tokio::test]
async fn a_refresh_replaces_the_semantic_entry_too() {
    let newer = fixture("answer.json").replace("chatcmpl-fixture-1", "chatcmpl-newer");
    let (w, p) = small_world([good(), json_reply(200, &newer)]).await;
    let body = ask_with("a", "boiling point of water", "");
    w.ask_as(&body, &semantic(), &w.context).await;
    w.in_flight.filings.settled().await;
    let refresh = w.with_header("x-sluicegate-cache", "refresh");
    let fresh = w.ask_as(&body, &semantic(), &refresh).await;
    assert_eq!((fresh.source, fresh.header("cache-status")), (Source::Provider, "sluicegate; fwd=request; stored"));
    w.in_flight.filings.settled().await;
    assert_eq!(w.semantic.queries.lock().unwrap().len(), 1, "a refresh looks nothing up");
    assert_eq!(w.semantic.stored.lock().unwrap().len(), 1, "and leaves no second entry");
    let hit = w.ask_as(&ask_with("a", "when does water boil", ""), &semantic(), &w.context).await;
    assert_eq!((hit.source, hit.text, p.calls()), (Source::AiSemantic, newer, 2));
}

#[tokio::test]
async fn a_script_can_only_tighten_the_threshold() {
    let (w, _p) = small_world([good()]).await;
    for (script, used) in [(0.5, 0.9), (0.97, 0.97), (f32::NAN, 0.9)] {
        let directives = AiDirectives { threshold: Some(script), ..semantic() };
        w.ask_as(&ask_with("a", &format!("what is {script}"), ""), &directives, &w.context).await;
        assert_eq!(w.semantic.queries.lock().unwrap().pop().unwrap().threshold, used, "{script}");
    }
}

#[tokio::test]
async fn another_openai_beta_is_another_request() {
    let (w, p) = small_world([good()]).await;
    let body = ask_with("a", "hi", "");
    let beta = w.with_header("openai-beta", "assistants=v2");
    for (context, calls) in [(&w.context, 1), (&beta, 2), (&beta, 2), (&w.context, 2)] {
        w.ask_as(&body, &exact_only(), context).await;
        assert_eq!(p.calls(), calls);
    }
}

#[tokio::test]
async fn settled_waits_for_what_is_being_filed() {
    let (w, _p) = small_world([good()]).await;
    let gate = Arc::new(Notify::new());
    *w.semantic.gate.lock().unwrap() = Some(gate.clone());
    let cache = AnswerCache { exact: None, semantic: None, in_flight: w.in_flight.clone() };
    cache.settled().await;
    w.ask_as(&ask_with("a", "hi", ""), &semantic(), &w.context).await;
    let mut settled = std::pin::pin!(cache.settled());
    assert!(tokio::time::timeout(Duration::from_millis(50), settled.as_mut()).await.is_err());
    assert_eq!((w.in_flight.filings.pending(), w.semantic.stored.lock().unwrap().len()), (1, 0));
    gate.notify_one();
    settled.await;
    assert_eq!((w.in_flight.filings.pending(), w.semantic.stored.lock().unwrap().len()), (0, 1));
}
