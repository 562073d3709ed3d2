//! What callers may ask of the caches, end to end, and where prompts go by themselves: auto, cascades, bonds, marks.

use super::routing::three;
use super::*;
use serde_json::{Value, json};

const TIERS: &str = "tiers: { cheap: [a], standard: [b], big: [c], both: { models: [a, b], strategy: weighted } }\n";

fn answer(text: &str) -> Act {
    let message = json!({ "role": "assistant", "content": text });
    let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
    let usage = json!({ "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 });
    let body = json!({ "id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage });
    json_reply(200, &body.to_string())
}

fn anthropic_answer(text: &str) -> String {
    let usage = json!({ "input_tokens": 10, "output_tokens": 5 });
    let content = json!([{ "type": "text", "text": text }]);
    json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content,
        "stop_reason": "end_turn", "stop_sequence": null, "usage": usage })
    .to_string()
}

fn stream(text: &str) -> Act {
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
        let chunk =
            json!({ "id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice] });
        format!("data: {chunk}\n\n")
    };
    let said = chunk(json!({ "role": "assistant", "content": text }), Value::Null);
    let end = chunk(json!({}), json!("stop"));
    let usage = json!({ "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 });
    let usage = json!({ "id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage });
    let usage = format!("data: {usage}\n\n");
    Act::Say(vec![format!("{SSE_HEAD}{}0\r\n\r\n", chunked(&[&said, &end, &usage, "data: [DONE]\n\n"]))])
}

fn outcomes(seen: &Seen) -> Vec<(&str, &str)> {
    seen.call.attempts.iter().map(|a| (a.model.as_str(), a.outcome)).collect()
}

#[tokio::test]
async fn what_the_body_says_to_the_gateway_never_reaches_the_provider() {
    let (w, p) = small_world([good()]).await;
    let body = r#"{"model":"a", "sluicegate": {"cache": {"mode": "exact"}},"x":[1, 2], "cache":{"ttl":5},"messages":[{"role":"user","content":"hi"}] }"#;
    w.ask(body).await;
    assert_eq!(body_of(&p.seen()[0]), r#"{"model":"up-a", "x":[1, 2], "messages":[{"role":"user","content":"hi"}] }"#);
    // And it does not change the key.
    let plain = r#"{"model":"a","x":[1,2],"messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(w.ask(plain).await.source, Source::AiExact);
}

#[tokio::test]
async fn a_client_shortens_lives_and_never_lengthens_them() {
    let (w, p) = small_world([good()]).await;
    let body = ask_with("a", "hi", "");
    let short = AiDirectives { ttl: Some(Duration::from_secs(10)), ..exact_only() };
    w.ask_as(&body, &short, &w.with_header("x-sluicegate-cache-ttl", "1h")).await;
    w.clock.advance(Duration::from_secs(11));
    w.ask_as(&body, &short, &w.context).await;
    assert_eq!(p.calls(), 2, "an hour was asked for, ten seconds are allowed");
    w.clock.advance(Duration::from_secs(5));
    assert_eq!(w.ask_as(&body, &short, &w.context).await.source, Source::AiExact);
    let young = w.with_header("x-sluicegate-cache-ttl", "4");
    assert_eq!(w.ask_as(&body, &short, &young).await.source, Source::Provider, "five seconds are too old for it");
    w.clock.advance(Duration::from_secs(4));
    assert_eq!(w.ask_as(&body, &short, &w.context).await.source, Source::Provider, "it is kept for four seconds");
}

#[tokio::test]
async fn a_namespace_shares_with_itself_alone_and_stays_within_the_tenant() {
    let (w, p) = small_world([good()]).await;
    let body = ask_with("a", "hi", "");
    let inside = w.with_header("x-sluicegate-cache-namespace", "n");
    let mut stranger = inside.clone();
    stranger.tenant = "t2".into();
    for (context, calls) in [(&w.context, 1), (&inside, 2), (&inside, 2), (&stranger, 3), (&w.context, 3)] {
        w.ask_as(&body, &exact_only(), context).await;
        assert_eq!(p.calls(), calls);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_to_be_stored_is_not_but_a_stored_one_is_served() {
    let (w, p) = small_world([good()]).await;
    let body = ask_with("a", "hi", "");
    let shy = w.with_header("x-bf-cache-no-store", "true");
    assert!(!w.ask_as(&body, &exact_only(), &shy).await.call.stored);
    assert!(w.ask(&body).await.call.stored);
    assert_eq!((w.ask_as(&body, &exact_only(), &shy).await.source, p.calls()), (Source::AiExact, 2));
}

#[tokio::test]
async fn a_threshold_of_the_clients_only_tightens() {
    let (w, _) = small_world([good()]).await;
    let semantic = AiDirectives { cache: Some(CacheMode::Semantic), ..AiDirectives::default() };
    for (asked, counts) in [("0.5", 0.9), ("0.97", 0.97)] {
        let body =
            ask_with("a", "hi", &format!(r#","sluicegate":{{"cache":{{"threshold":{asked},"namespace":"{asked}"}}}}"#));
        w.ask_as(&body, &semantic, &w.context).await;
        assert_eq!(w.semantic.queries.lock().unwrap().last().unwrap().threshold, counts, "{asked}");
    }
}

#[tokio::test]
async fn a_purge_by_tag_finds_stored_answers_and_those_under_way() {
    let gate = Arc::new(Notify::new());
    let body = answer("late");
    let Act::Say(late) = body else { unreachable!() };
    let (w, p) = small_world([answer("one"), answer("two"), Act::Gated(gate.clone(), late)]).await;
    let semantic = AiDirectives { cache: Some(CacheMode::Semantic), ..AiDirectives::default() };
    let tagged = w.with_header("x-sluicegate-cache-tags", "docs, v2");
    let other = ask_with("a", "other", "");
    let seen = w.ask_as(&ask_with("a", "hi", ""), &semantic, &tagged).await;
    assert_eq!((seen.call.stored, seen.call.cache_reason), (true, "tagged"), "semantic caches know no tags");
    w.ask(&other).await;
    assert_eq!(w.gateway.purge_tag("docs"), BTreeMap::from([("prompts".to_owned(), 1)]));
    assert_eq!(w.ask(&other).await.source, Source::AiExact, "what has no tag stays");
    let (late, exact) = (ask_with("a", "hi", ""), exact_only());
    let (asked, ()) = tokio::join!(w.ask_as(&late, &exact, &tagged), async {
        until("the provider is asked", || p.calls() == 3).await;
        w.clock.advance(Duration::from_secs(1));
        w.gateway.purge_tag("v2");
        gate.notify_one();
    });
    assert_eq!((asked.status, asked.call.stored), (200, false), "it was asked for before the purge");
}

#[tokio::test]
async fn peers_find_their_header_fields_where_they_are_wanted() {
    let p = Provider::start([good()]).await;
    let w = three(&p, &p, &p, &format!("{TIERS}compat_headers: [litellm, portkey, cloudflare]"));
    let told = |s: &Seen| [s.header("x-portkey-cache-status").to_owned(), s.header("cf-aig-cache-status").to_owned()];
    let miss = w.ask(&ask_with("a", "hi", "")).await;
    assert_eq!((told(&miss), miss.header("x-litellm-cache-key")), (["MISS".into(), "MISS".into()], ""));
    let hit = w.ask(&ask_with("a", "hi", "")).await;
    assert_eq!(told(&hit), ["HIT", "HIT"]);
    assert_eq!(hit.header("x-litellm-cache-key"), hit.header("x-sluicegate-entry"));
    let (plain, _) = small_world([good()]).await;
    assert_eq!(told(&plain.ask(&ask_with("a", "hi", "")).await), ["", ""], "off by default");
}

#[tokio::test]
async fn auto_sends_the_hard_ones_up() {
    let (a, b) = (Provider::start([answer("x")]).await, Provider::start([answer("y")]).await);
    let auto = "auto: { tiers: [ {tier: cheap, below: 0.35}, {tier: standard} ] }";
    let w = three(&a, &b, &b, &format!("{TIERS}{auto}"));
    let route = w.with_route(|r| r.tier = Some("auto".into()));
    let easy = w.ask_as(&ask_with("auto", "What is the capital of France?", ""), &exact_only(), &route).await;
    let hard = "Prove that there are infinitely many primes, and justify each step of the proof.";
    let hard = w.ask_as(&ask_with("auto", hard, ""), &exact_only(), &route).await;
    assert_eq!((easy.header("x-sluicegate-tier"), hard.header("x-sluicegate-tier")), ("cheap", "standard"));
    let score = |s: &Seen| s.header("x-sluicegate-complexity").parse::<f64>().unwrap();
    assert!(score(&easy) < 0.35 && score(&hard) > 0.7, "{} {}", score(&easy), score(&hard));
    // The script may leave it to the score on a route that does not; who names a model gets it.
    let script = AiDirectives { tier: Some("auto".into()), ..exact_only() };
    assert_eq!(w.ask_as(&ask_with("b", "hi", ""), &script, &w.context).await.call.tier.as_deref(), Some("cheap"));
    assert_eq!(w.ask_as(&ask_with("b", "hi", ""), &exact_only(), &route).await.call.complexity, None);
}

fn cascade(w: &World, more: &str) -> Context {
    let rules = serde_yaml::from_str(&format!("{{ tiers: [cheap, standard, big]{more} }}")).unwrap();
    w.with_route(|r| r.cascade = Some(rules))
}

#[tokio::test]
async fn a_cascade_goes_up_until_the_answer_is_good_and_bills_all_of_them() {
    let a = Provider::start([answer("I'm sorry, but I can't help with that.")]).await;
    let b = Provider::start([answer("I don't know.")]).await;
    let c = Provider::start([json_reply(200, &anthropic_answer("Forty-two."))]).await;
    let w = three(&a, &b, &c, TIERS);
    let seen = w.ask_as(&ask_with("auto", "hi", ""), &exact_only(), &cascade(&w, "")).await;
    assert_eq!(outcomes(&seen), [("a", "escalated_refusal"), ("b", "escalated_low_confidence"), ("c", "ok")]);
    assert_eq!(seen.json()["choices"][0]["message"]["content"], "Forty-two.");
    let lost: Vec<_> = seen.call.lost.iter().map(|l| (l.model.as_str(), l.cost.unwrap().nano_usd)).collect();
    assert_eq!(lost, [("a", 20_000), ("b", 20_000)], "10 tokens in at 1, 5 out at 2 dollars a million");
    let again = w.ask_as(&ask_with("auto", "hi", ""), &exact_only(), &cascade(&w, "")).await;
    assert_eq!(
        (again.source, again.json()["choices"][0]["message"]["content"].as_str()),
        (Source::AiExact, Some("Forty-two."))
    );
}

#[tokio::test]
async fn a_good_cheap_answer_is_the_answer() {
    let p = Provider::start([answer("Paris.")]).await;
    let w = three(&p, &p, &p, TIERS);
    let seen = w.ask_as(&ask_with("auto", "hi", ""), &exact_only(), &cascade(&w, "")).await;
    assert_eq!((outcomes(&seen).len(), seen.call.lost.len(), seen.header("x-sluicegate-tier")), (1, 0, "cheap"));
}

#[tokio::test]
async fn when_nothing_better_answers_the_first_answer_is_given_billed_once_and_not_kept() {
    let a = Provider::start([answer("I'm not sure.")]).await;
    let b = Provider::start([json_reply(500, "")]).await;
    let w = three(&a, &b, &b, TIERS);
    let seen = w.ask_as(&ask_with("auto", "hi", ""), &exact_only(), &cascade(&w, "")).await;
    assert_eq!((seen.status, seen.json()["choices"][0]["message"]["content"].as_str()), (200, Some("I'm not sure.")));
    assert_eq!((seen.call.lost.len(), seen.call.cost.unwrap().nano_usd, seen.call.stored), (0, 20_000, false));
}

#[tokio::test]
async fn streams_are_held_until_judged_or_passed_by_option() {
    let a = Provider::start([stream("I cannot help with that.")]).await;
    let b = Provider::start([stream("Of course.")]).await;
    let w = three(&a, &b, &b, TIERS);
    let body = ask_with("auto", "hi", r#","stream":true"#);
    let seen = w.ask_as(&body, &exact_only(), &cascade(&w, "")).await;
    assert!(seen.clean && seen.text.contains("Of course.") && !seen.text.contains("cannot"), "{}", seen.text);
    assert_eq!(outcomes(&seen), [("a", "escalated_refusal"), ("b", "ok")]);
    assert_eq!(seen.call.lost[0].usage.input(), 10);
    let passed = w.ask_as(&body, &exact_only(), &cascade(&w, ", streams: pass")).await;
    assert_eq!(passed.source, Source::AiExact, "the better answer is stored");
    let fresh = ask_with("auto", "hello", r#","stream":true"#);
    let passed = w.ask_as(&fresh, &exact_only(), &cascade(&w, ", streams: pass")).await;
    assert!(passed.text.contains("cannot help") && passed.clean);
    let small = ask_with("auto", "hey", r#","stream":true"#);
    let unheard = w.ask_as(&small, &exact_only(), &cascade(&w, ", hold_max: 10B")).await;
    assert!(unheard.text.contains("cannot help") && unheard.clean, "too long to be held");
}

#[tokio::test]
async fn json_that_was_asked_for_and_did_not_come_escalates() {
    let a = Provider::start([answer("Sure! {\\\"city\\\": 1}")]).await;
    let b = Provider::start([answer(r#"{"city":"Rome"}"#)]).await;
    let w = three(&a, &b, &b, TIERS);
    let schema = r#","response_format":{"type":"json_schema","json_schema":{"name":"c","schema":{"type":"object","required":["city"]}}}"#;
    let seen = w.ask_as(&ask_with("auto", "hi", schema), &exact_only(), &cascade(&w, "")).await;
    assert_eq!(outcomes(&seen), [("a", "escalated_schema_failure"), ("b", "ok")]);
}

#[tokio::test]
async fn a_conversation_stays_with_its_model_while_that_is_well() {
    let (a, b) = (Provider::start([answer("a")]).await, Provider::start([answer("b")]).await);
    let w = three(&a, &b, &b, &format!("{TIERS}sticky: {{ by: conversation }}"));
    let off = AiDirectives { cache: Some(CacheMode::None), tier: Some("both".into()), ..AiDirectives::default() };
    for i in 0..12 {
        let question = format!("conversation {i}");
        let first = w.ask_as(&ask_with("a", &question, ""), &off, &w.context).await;
        assert_eq!(first.call.sticky, Some("new"));
        for _ in 0..3 {
            let more = format!(
                r#"{{"model":"a","messages":[{{"role":"user","content":"{question}"}},{{"role":"assistant","content":"x"}},{{"role":"user","content":"more"}}]}}"#
            );
            let next = w.ask_as(&more, &off, &w.context).await;
            assert_eq!((&next.call.model, next.call.sticky), (&first.call.model, Some("kept")));
        }
    }
    assert!(a.calls() > 0 && b.calls() > 0, "the draw of new ones goes on");
    w.clock.advance(Duration::from_secs(601));
    assert_eq!(w.ask_as(&ask_with("a", "conversation 0", ""), &off, &w.context).await.call.sticky, Some("new"));
}

#[tokio::test]
async fn a_bond_moves_when_its_model_fails() {
    let (a, b) = (Provider::start([answer("a"), json_reply(500, "")]).await, Provider::start([answer("b")]).await);
    let w = three(&a, &b, &b, "tiers: { cheap: [a, b] }\nsticky: { by: user }\nretry: { attempts: 1 }");
    let off = AiDirectives { cache: Some(CacheMode::None), ..AiDirectives::default() };
    let mut told = Vec::new();
    for _ in 0..3 {
        let call = w.ask_as(&ask_with("auto", "hi", r#","user":"u""#), &off, &w.context).await.call;
        told.push((call.model.unwrap(), call.sticky.unwrap()));
    }
    assert_eq!(told, [("a".into(), "new"), ("b".into(), "moved"), ("b".into(), "kept")]);
}

#[tokio::test]
async fn long_prefixes_are_marked_where_configured() {
    let (a, c) =
        (Provider::start([answer("x")]).await, Provider::start([json_reply(200, &anthropic_answer("y"))]).await);
    let w = three(&a, &a, &c, &format!("{TIERS}prompt_cache: {{ auto: true, min_tokens: 10, ttl: 1h }}"));
    let system = "be kind ".repeat(20);
    let body = |model: &str| {
        let messages = json!([{ "role": "system", "content": system }, { "role": "user", "content": "hi" }]);
        json!({ "model": model, "messages": messages }).to_string()
    };
    w.ask(&body("a")).await;
    w.ask(&body("c")).await;
    let sent: Value = serde_json::from_str(body_of(&a.seen()[0])).unwrap();
    let name = sent["prompt_cache_key"].as_str().unwrap();
    assert!(name.starts_with("sg-") && name.len() == 27 && !name.contains("t1"), "{name}");
    let sent: Value = serde_json::from_str(body_of(&c.seen()[0])).unwrap();
    assert_eq!(sent["system"][0]["cache_control"], json!({ "type": "ephemeral", "ttl": "1h" }));
    let off = w.with_route(|r| r.prompt_cache = Some(serde_yaml::from_str("{ auto: false }").unwrap()));
    w.ask_as(&ask_with("a", &system, ""), &exact_only(), &off).await;
    assert!(!body_of(&a.seen()[1]).contains("prompt_cache_key"));
}
