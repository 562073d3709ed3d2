//! Retries, models left alone, larger contexts, filtered answers, and a second model asked beside a slow one.

use super::*;
use call::Try;
use serde_json::json;

/// Models `a` and `b` (tier `cheap`), `c` (tier `big`), each at a provider of its own.
pub fn three(a: &Provider, b: &Provider, c: &Provider, more: &str) -> World {
    let limits = "timeouts: { connect: 1s, first_byte: 5s, between_bytes: 5s }";
    world_of(&format!(
        "
providers:
  pa: {{ dialect: openai, base_url: '{}', {limits} }}
  pb: {{ dialect: openai, base_url: '{}', {limits} }}
  pc: {{ dialect: anthropic, base_url: '{}', {limits} }}
models:
  a: {{ provider: pa, model: up-a, price: {{ input: 1, output: 2 }}, context_tokens: 100 }}
  b: {{ provider: pb, model: up-b, price: {{ input: 1, output: 2 }} }}
  c: {{ provider: pc, model: up-c, price: {{ input: 1, output: 2 }}, context_tokens: 1000 }}
{more}",
        a.url, b.url, c.url
    ))
}

fn question(model: &str) -> String {
    ask_with(model, "hi", "")
}

/// An answer with these fields beside the usual ones.
fn reply_with(status: u16, fields: &str, body: &str) -> Act {
    let length = body.len();
    Act::Say(vec![format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{fields}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )])
}

fn outcomes(seen: &Seen) -> Vec<(&str, &str, Try)> {
    seen.call.attempts.iter().map(|a| (a.model.as_str(), a.outcome, a.kind)).collect()
}

const TIERS: &str = "tiers: { cheap: [a, b], big: [a, b, c] }\n";
const AGAIN: &str = "retry: { attempts: 3, backoff: { base: 1ms, max: 200ms } }";

#[tokio::test]
async fn the_same_model_is_asked_again_within_its_attempts() {
    let (a, b) = (Provider::start([json_reply(500, ""), Act::Close, good()]).await, Provider::start([good()]).await);
    let w = three(&a, &b, &b, &format!("{TIERS}{AGAIN}"));
    let context = w.with_header("idempotency-key", "k1");
    let seen = w.ask_as(&question("auto"), &exact_only(), &context).await;
    assert_eq!(seen.status, 200, "{}", seen.text);
    assert_eq!(
        outcomes(&seen),
        [("a", "provider_error", Try::Turn), ("a", "cut", Try::Again), ("a", "ok", Try::Again)]
    );
    assert!(a.seen().iter().all(|s| s.contains("idempotency-key: k1")), "a repetition is one");
    assert_eq!((a.calls(), b.calls()), (3, 0));
}

#[tokio::test]
async fn an_empty_purse_and_a_bad_request_are_not_asked_again() {
    let quota = r#"{"error":{"message":"pay","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;
    for (act, word, next) in [
        (json_reply(429, quota), "provider_out_of_quota", 1),
        (json_reply(401, "{}"), "provider_auth", 1),
        (json_reply(200, "{"), "provider_garbage", 1),
        (json_reply(400, "{}"), "provider_refused", 0),
    ] {
        let (a, b) = (Provider::start([act]).await, Provider::start([good()]).await);
        let w = three(&a, &b, &b, &format!("{TIERS}{AGAIN}"));
        let seen = w.ask(&question("auto")).await;
        assert_eq!((a.calls(), b.calls(), seen.call.attempts[0].outcome), (1, next, word));
    }
}

#[tokio::test]
async fn a_short_wish_is_waited_for_and_a_long_one_sends_to_the_next() {
    let soon = reply_with(429, "retry-after-ms: 120\r\n", "{}");
    let (a, b) = (Provider::start([soon, good()]).await, Provider::start([good()]).await);
    let w = three(&a, &b, &b, &format!("{TIERS}{AGAIN}"));
    let began = std::time::Instant::now();
    let seen = w.ask(&question("auto")).await;
    assert!(began.elapsed() >= Duration::from_millis(120));
    assert_eq!((seen.header("x-sluicegate-model"), a.calls()), ("a", 2));
    let late = reply_with(429, "retry-after: 1\r\n", "{}");
    let (a, b) = (Provider::start([late, good()]).await, Provider::start([good()]).await);
    let w = three(&a, &b, &b, &format!("{TIERS}{AGAIN}"));
    assert_eq!(w.ask(&question("auto")).await.header("x-sluicegate-model"), "b");
    assert_eq!(w.ask(&ask_with("auto", "other", "")).await.call.skipped, [("a".to_owned(), "pa".to_owned())]);
    assert_eq!((a.calls(), b.calls()), (1, 2), "it asked to be left alone");
    w.clock.advance(Duration::from_secs(2));
    assert_eq!(w.ask(&ask_with("auto", "third", "")).await.header("x-sluicegate-model"), "a");
}

#[tokio::test]
async fn everything_happens_within_the_deadline() {
    let (a, b) = (Provider::start([Act::Silent]).await, Provider::start([good()]).await);
    let w = three(&a, &b, &b, &format!("{TIERS}retry: {{ deadline: 150ms }}"));
    let seen = w.ask(&question("auto")).await;
    assert_eq!((seen.status, &seen.json()["error"]["code"]), (504, &json!("deadline")));
    assert_eq!((outcomes(&seen), b.calls()), (vec![("a", "deadline", Try::Turn)], 0));
}

#[tokio::test]
async fn a_failing_model_is_left_alone_and_tried_again_later() {
    let (a, b) = (Provider::start([json_reply(500, "")]).await, Provider::start([good()]).await);
    let w = three(&a, &b, &b, &format!("{TIERS}health: {{ failures: 2, cool_down: 5s }}"));
    for i in 0..6 {
        assert_eq!(w.ask(&ask_with("auto", &i.to_string(), "")).await.header("x-sluicegate-model"), "b");
    }
    assert_eq!((a.calls(), b.calls()), (2, 6));
    w.clock.advance(Duration::from_secs(6));
    w.ask(&ask_with("auto", "later", "")).await;
    w.ask(&ask_with("auto", "right after", "")).await;
    assert_eq!(a.calls(), 3, "one trial");
}

#[tokio::test]
async fn streams_that_break_count_against_their_model() {
    let text = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
    let (a, b) = (Provider::start([sse_reply(&[text])]).await, Provider::start([good()]).await);
    let w = three(&a, &b, &b, &format!("{TIERS}health: {{ failures: 2 }}"));
    for i in 0..4 {
        w.ask(&ask_with("auto", &i.to_string(), r#","stream":true"#)).await;
    }
    assert_eq!((a.calls(), b.calls()), (2, 2));
}

#[tokio::test]
async fn where_all_rest_by_wish_the_client_is_told_when_to_come_back() {
    let p = Provider::start([reply_with(429, "retry-after: 7\r\n", r#"{"error":{"message":"slow down"}}"#)]).await;
    let w = three(&p, &p, &p, TIERS);
    assert_eq!(w.ask(&question("a")).await.status, 429);
    let seen = w.ask(&question("a")).await;
    assert_eq!((seen.status, seen.source, p.calls()), (429, Source::Gateway, 1), "{}", seen.text);
    assert_eq!(seen.header("retry-after"), "7");
    assert_eq!((&seen.json()["error"]["code"], seen.call.attempts.len()), (&json!("models_resting"), 0));
    let prompt = prompt::parse(
        Operation::Messages,
        Bytes::from(r#"{"model":"a","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#),
        9999,
    );
    let told = read(w.reply_as(prompt.unwrap(), &exact_only(), &w.context).await).await;
    assert_eq!(
        (told.status, &told.json()["type"], &told.json()["error"]["type"]),
        (429, &json!("error"), &json!("rate_limit_error"))
    );
    assert_eq!(p.calls(), 1);
}

#[tokio::test]
async fn faults_of_requests_leave_a_model_in_use() {
    let p = Provider::start([json_reply(400, "{}"), json_reply(404, "{}"), json_reply(422, "{}"), good()]).await;
    let w = three(&p, &p, &p, &format!("{TIERS}health: {{ failures: 1 }}"));
    for (i, status) in [400, 404, 422, 200].into_iter().enumerate() {
        assert_eq!(w.ask(&ask_with("a", &i.to_string(), "")).await.status, status);
    }
}

#[tokio::test]
async fn a_prompt_that_is_too_long_goes_to_a_larger_context_and_nowhere_else() {
    let long = r#"{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;
    let answer =
        std::fs::read_to_string(format!("{}/tests/fixtures/ai/anthropic/answer-text.json", env!("CARGO_MANIFEST_DIR")));
    let (a, b) = (Provider::start([json_reply(400, long)]).await, Provider::start([good()]).await);
    let c = Provider::start([json_reply(200, &answer.unwrap())]).await;
    let w = three(&a, &b, &c, TIERS);
    let context = w.with_route(|r| r.tier = Some("big".into()));
    let seen = w.ask_as(&question("auto"), &exact_only(), &context).await;
    assert_eq!((seen.status, seen.header("x-sluicegate-model"), b.calls()), (200, "c", 0), "{}", seen.text);
    let seen = w.ask(&question("auto")).await;
    assert_eq!((seen.status, seen.text.as_str(), b.calls()), (400, long, 0), "b does not say how much it holds");
    let context = w.with_route(|r| (r.tier, r.fallback_on) = (Some("big".into()), Some(Vec::new())));
    assert_eq!(w.ask_as(&ask_with("auto", "no fallback", ""), &exact_only(), &context).await.status, 400);
}

#[tokio::test]
async fn a_filtered_answer_is_final_unless_the_route_says_otherwise_and_billed_in_any_case() {
    let taken = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":null},"finish_reason":"content_filter"}],"usage":{"prompt_tokens":20,"completion_tokens":1}}"#;
    let refused = r#"{"error":{"message":"no","code":"content_filter"}}"#;
    for act in [json_reply(200, taken), json_reply(400, refused)] {
        let (a, b) = (Provider::start([act]).await, Provider::start([good()]).await);
        let w = three(&a, &b, &b, TIERS);
        let seen = w.ask(&question("auto")).await;
        assert!(b.calls() == 0 && seen.text.contains("content_filter"), "{}", seen.text);
        let context = w.with_route(|r| r.fallback_on = Some(vec![crate::config::ai::FallbackOn::ContentFilter]));
        let seen = w.ask_as(&ask_with("auto", "more", ""), &exact_only(), &context).await;
        assert_eq!((seen.header("x-sluicegate-model"), seen.call.attempts[0].outcome), ("b", "content_filter"));
        let lost: Vec<_> = seen.call.lost.iter().map(|l| (l.model.as_str(), l.cost.unwrap().nano_usd)).collect();
        let billed = if seen.call.attempts[0].status.unwrap() == 200 { vec![("a", 22_000)] } else { vec![] };
        assert_eq!(lost, billed);
    }
}

const HEDGED: &str = "tiers: { cheap: { models: [a, b], hedge: { after: 60ms, max_share: 100% } } }";

#[tokio::test]
async fn a_second_model_is_asked_beside_a_slow_one_which_is_cancelled() {
    let (gone, mut left) = mpsc::unbounded_channel();
    let (a, b) = (Provider::start([Act::Hang(vec![], gone)]).await, Provider::start([good()]).await);
    let w = three(&a, &b, &b, HEDGED);
    let seen = w.ask(&question("auto")).await;
    assert_eq!((seen.status, seen.header("x-sluicegate-model")), (200, "b"));
    left.recv().await.unwrap();
    assert_eq!(outcomes(&seen), [("b", "ok", Try::Hedge), ("a", "hedged", Try::Turn)]);
    assert_eq!(w.ask(&question("auto")).await.source, Source::AiExact, "an answer of the tier like any other");
    let context = w.with_header("idempotency-key", "k");
    let held = async {
        tokio::time::timeout(Duration::from_millis(300), w.ask_as(&ask_with("auto", "2", ""), &exact_only(), &context))
            .await
    };
    assert!(held.await.is_err(), "who names the call wants it made once");
    assert_eq!((a.calls(), b.calls()), (2, 1));
}

#[tokio::test]
async fn a_quick_answer_is_not_hedged_and_a_failing_second_harms_nobody() {
    let (a, b) = (Provider::start([good()]).await, Provider::start([good()]).await);
    let w = three(&a, &b, &b, "tiers: { cheap: { models: [a, b], hedge: { after: 3s } } }");
    assert_eq!(w.ask(&question("auto")).await.call.attempts.len(), 1);
    let gate = Arc::new(Notify::new());
    let Act::Say(pieces) = good() else { panic!() };
    let (a, b) =
        (Provider::start([Act::Gated(gate.clone(), pieces)]).await, Provider::start([json_reply(500, "")]).await);
    let w = three(&a, &b, &b, HEDGED);
    let body = question("auto");
    let (seen, ()) = tokio::join!(w.ask(&body), async {
        until("the second is asked", || b.calls() == 1).await;
        gate.notify_one();
    });
    assert_eq!(
        (seen.status, outcomes(&seen)),
        (200, vec![("b", "provider_error", Try::Hedge), ("a", "ok", Try::Turn)])
    );
}

#[tokio::test]
async fn what_the_beaten_one_has_counted_is_billed() {
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"x\",\"content\":[],\"usage\":{\"input_tokens\":30,\"output_tokens\":1}}}\n\n";
    let (gone, mut left) = mpsc::unbounded_channel();
    let slow = Provider::start([Act::Hang(vec![format!("{SSE_HEAD}{}", chunked(&[start]))], gone)]).await;
    let quick = Provider::start([good()]).await;
    let tier = "tiers: { cheap: { models: [c, b], hedge: { after: 60ms, max_share: 100% } } }";
    let w = three(&quick, &quick, &slow, tier);
    let seen = w.ask(&ask_with("auto", "hi", r#","stream":true"#)).await;
    left.recv().await.unwrap();
    assert!(seen.clean && seen.header("x-sluicegate-model") == "b");
    let lost: Vec<_> =
        seen.call.lost.iter().map(|l| (l.model.as_str(), l.usage.input(), l.cost.unwrap().nano_usd)).collect();
    assert_eq!(lost, [("c", 30, 32_000)]);
    assert_eq!(seen.call.usage.unwrap().input(), 20, "beside the answer's own");
}
