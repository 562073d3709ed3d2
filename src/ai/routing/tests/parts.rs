//! Orders, breaker, pace, budget, hints and causes, each by itself.

use crate::ai::routing::breaker::{Admit, Breaker, Went, Why};
use crate::ai::routing::cause::{self, Cause};
use crate::ai::routing::dice::Dice;
use crate::ai::routing::hints::retry_after;
use crate::ai::routing::pace::Pace;
use crate::ai::routing::purse::Purse;
use crate::ai::routing::strategy::{Known, order};
use crate::base::units::{Dur, Share};
use crate::config::ai::{Health, Strategy};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::json;
use std::time::{Duration, SystemTime};

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn known(weight: u32, in_flight: u32, latency: Option<f64>, cost: Option<u64>) -> Known {
    Known { weight, in_flight, latency: latency.map(s), cost }
}

#[test]
fn each_strategy_orders_by_what_it_is_named_for() {
    let dice = Dice::seeded(1);
    let all = [known(1, 3, Some(0.2), None), known(4, 8, Some(0.1), Some(9)), known(1, 2, Some(0.3), Some(4))];
    assert_eq!(order(Strategy::Order, &all, &dice), [0, 1, 2]);
    assert_eq!(order(Strategy::LeastBusy, &all, &dice), [1, 2, 0], "2 and 2 calls for their weight, then 3");
    assert_eq!(order(Strategy::LowestLatency, &all, &dice), [1, 0, 2]);
    assert_eq!(order(Strategy::Cheapest, &all, &dice), [2, 1, 0], "an unknown price comes last");
    assert!(order(Strategy::Weighted, &[], &dice).is_empty());
}

#[test]
fn a_model_without_a_measurement_is_tried_by_one_call_at_a_time() {
    let dice = Dice::seeded(1);
    let fresh = |in_flight| [known(1, 5, Some(0.1), None), known(1, in_flight, None, None)];
    assert_eq!(order(Strategy::LowestLatency, &fresh(0), &dice), [1, 0]);
    assert_eq!(order(Strategy::LowestLatency, &fresh(1), &dice), [0, 1]);
}

#[test]
fn draws_follow_the_weights_and_repeat_from_a_seed() {
    let all = [known(1, 0, None, None), known(3, 0, None, None), known(6, 0, None, None)];
    let draw = |seed| {
        let dice = Dice::seeded(seed);
        (0..10_000).map(|_| order(Strategy::Weighted, &all, &dice)).collect::<Vec<_>>()
    };
    let drawn = draw(7);
    assert_eq!(drawn, draw(7));
    let first = |i| drawn.iter().filter(|o| o[0] == i).count();
    for (i, want) in [(0, 1000), (1, 3000), (2, 6000)] {
        assert!(first(i).abs_diff(want) < 200, "{i}: {}", first(i));
    }
    // Of the two that were not drawn first, the heavier is the likelier second: 3 of 4 where the third came first.
    let second = drawn.iter().filter(|o| o[0] == 2 && o[1] == 1).count() as f64 / first(2) as f64;
    assert!((second - 0.75).abs() < 0.03, "{second}");
}

proptest! {
    #[test]
    fn an_order_has_everybody_once(weights in prop::collection::vec(0u32..5, 0..9), seed: u64) {
        let all: Vec<Known> = weights.iter().map(|w| known(*w, *w, Some(f64::from(*w)), Some(1))).collect();
        for strategy in [Strategy::Order, Strategy::Weighted, Strategy::LeastBusy, Strategy::LowestLatency, Strategy::Cheapest] {
            let mut places = order(strategy, &all, &Dice::seeded(seed));
            places.sort_unstable();
            prop_assert_eq!(places, (0..all.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_draw_is_above_nothing_and_at_most_one(seed: u64) {
        let dice = Dice::seeded(seed);
        for _ in 0..50 {
            let drawn = dice.draw();
            prop_assert!(drawn > 0.0 && drawn <= 1.0);
        }
    }
}

fn health() -> Health {
    let (cool_down, cool_down_max) = (Dur::secs(5), Dur::secs(30));
    Health { failures: 3, share: Share(0.5), window: Dur::secs(80), cool_down, cool_down_max }
}

#[test]
fn failures_in_a_row_open_it_for_a_time_that_doubles_with_each_failed_trial() {
    let (mut b, h) = (Breaker::default(), health());
    for _ in 0..3 {
        assert_eq!(b.admit(s(1.0), &h), Admit::Go);
        b.report(Went::Badly, false, s(1.0), &h);
    }
    let mut now = s(1.0);
    for pause in [5.0, 10.0, 20.0, 30.0, 30.0] {
        assert_eq!(b.admit(now, &h), Admit::Cooling(now + s(pause), Why::Failures));
        assert_eq!(b.cooling(now), Some((s(pause), Why::Failures)));
        now += s(pause);
        assert!(b.half_open(now) && b.cooling(now).is_none());
        assert_eq!(b.admit(now, &h), Admit::Trial);
        assert!(matches!(b.admit(now, &h), Admit::Cooling(..)), "one trial and no second beside it");
        b.report(Went::Badly, true, now, &h);
    }
    now += s(30.0);
    assert_eq!(b.admit(now, &h), Admit::Trial);
    b.report(Went::Well, true, now, &h);
    for _ in 0..3 {
        assert_eq!(b.admit(now, &h), Admit::Go);
        b.report(Went::Badly, false, now, &h);
    }
    assert_eq!(b.cooling(now), Some((s(5.0), Why::Failures)), "a good call has made it forget");
}

#[test]
fn the_share_of_failures_counts_once_there_are_ten_calls_and_forgets_with_the_window() {
    let h = Health { failures: 100, ..health() };
    let alternate = |b: &mut Breaker, n: usize, now: Duration| {
        for i in 0..n {
            b.report(if i % 2 == 0 { Went::Well } else { Went::Badly }, false, now, &h);
        }
    };
    let mut b = Breaker::default();
    alternate(&mut b, 9, s(1.0));
    assert_eq!(b.admit(s(1.0), &h), Admit::Go);
    b.report(Went::Badly, false, s(1.0), &h);
    assert!(b.cooling(s(1.0)).is_some(), "five of ten");
    let mut b = Breaker::default();
    alternate(&mut b, 8, s(1.0));
    b.report(Went::Badly, false, s(100.0), &h);
    b.report(Went::Badly, false, s(100.0), &h);
    assert_eq!(b.admit(s(100.0), &h), Admit::Go, "what the window has forgotten does not count");
}

#[test]
fn a_trial_that_nobody_waited_for_makes_room_for_the_next() {
    let (mut b, h) = (Breaker::default(), health());
    (0..3).for_each(|_| b.report(Went::Badly, false, s(0.0), &h));
    assert_eq!(b.admit(s(5.0), &h), Admit::Trial);
    b.abandon(s(6.0));
    assert_eq!(b.admit(s(6.0), &h), Admit::Trial);
    b.began(true, &h);
    assert_eq!(b.admit(s(6.0), &h), Admit::Go, "its answer has begun");
    b.report(Went::Badly, false, s(7.0), &h);
    assert_eq!(b.cooling(s(7.0)), Some((s(10.0), Why::Failures)), "but the next failure counts as the trial's");
}

#[test]
fn the_providers_wish_is_obeyed_up_to_the_cap_and_ends_without_a_trial() {
    let (mut b, h) = (Breaker::default(), health());
    b.report(Went::Told(s(7.0)), false, s(0.0), &h);
    b.report(Went::Told(s(2.0)), false, s(0.0), &h);
    assert_eq!(b.admit(s(1.0), &h), Admit::Cooling(s(7.0), Why::Told), "a shorter wish does not end a longer rest");
    assert_eq!(b.admit_last(s(1.0), &h), Admit::Cooling(s(7.0), Why::Told), "not even where nobody else is left");
    assert_eq!(b.admit(s(7.0), &h), Admit::Go);
    b.report(Went::Told(s(9e9)), false, s(8.0), &h);
    assert_eq!(b.cooling(s(8.0)), Some((s(30.0), Why::Told)));
}

#[test]
fn a_refused_key_rests_for_the_longest_time_and_is_tried_where_nobody_else_is_left() {
    let (mut b, h) = (Breaker::default(), health());
    b.report(Went::Refused, false, s(0.0), &h);
    assert_eq!(b.admit(s(29.0), &h), Admit::Cooling(s(30.0), Why::Credentials));
    assert_eq!(b.admit_last(s(1.0), &h), Admit::Trial);
    assert!(matches!(b.admit_last(s(1.0), &h), Admit::Cooling(..)), "by one call at a time");
    b.report(Went::Well, true, s(2.0), &h);
    assert_eq!(b.admit(s(2.0), &h), Admit::Go);
}

#[test]
fn calls_that_began_before_it_opened_change_nothing() {
    let (mut b, h) = (Breaker::default(), health());
    (0..3).for_each(|_| b.report(Went::Badly, false, s(0.0), &h));
    b.report(Went::Well, false, s(1.0), &h);
    b.report(Went::Badly, false, s(2.0), &h);
    assert_eq!(b.admit(s(4.0), &h), Admit::Cooling(s(5.0), Why::Failures));
}

#[test]
fn the_pace_forgets_by_time_and_has_quantiles_after_twenty() {
    let mut p = Pace::default();
    assert_eq!((p.average(s(0.0)), p.quantile(0.95)), (None, None));
    p.add(s(1.0), s(0.0));
    assert_eq!(p.average(s(1.0)), Some(s(1.0)));
    p.add(s(2.0), s(0.0));
    assert_eq!(p.average(s(0.0)), Some(s(1.1)), "right after, a tenth");
    p.add(s(3.0), s(299.0));
    assert!(p.average(s(299.0)).unwrap() > s(2.98), "much later, nearly all");
    assert_eq!(p.average(s(599.5)), None, "too old to say anything");
    let mut p = Pace::default();
    (1..=100).for_each(|i| p.add(s(f64::from(i)), s(0.0)));
    let near = |share: f64, want: f64| (p.quantile(share).unwrap().as_secs_f64() - want).abs() < 1.01;
    assert!(near(0.95, 95.0) && near(0.5, 50.0) && near(1.0, 100.0));
    (0..128).for_each(|_| p.add(s(7.0), s(0.0)));
    assert_eq!(p.quantile(0.99), Some(s(7.0)), "only the last count");
}

#[test]
fn extra_calls_stay_a_share_of_the_ordinary_ones() {
    let purse = Purse::new(2, 10);
    let taken = |n: usize| (0..n).filter(|_| purse.take()).count();
    assert_eq!(taken(5), 2);
    (0..20).for_each(|_| purse.pay(0.05));
    assert_eq!(taken(5), 1, "twenty calls at a twentieth");
    (0..1000).for_each(|_| purse.pay(0.2));
    assert_eq!(taken(50), 10, "what is saved up has a limit");
}

fn wish(fields: &[(&'static str, &'static str)], body: serde_json::Value) -> Option<Duration> {
    let map = fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
    let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:30 GMT").unwrap();
    retry_after(&map.collect::<HeaderMap>(), Some(&body), now)
}

#[test]
fn every_providers_wish_is_understood() {
    let none = json!({});
    for (fields, want) in [
        (&[("retry-after", "7")][..], Some(7.0)),
        (&[("retry-after", "1.5")], Some(1.5)),
        (&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], Some(7.0)),
        (&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")], Some(0.0)),
        (&[("retry-after", "soon")], None),
        (&[("retry-after", "-3")], None),
        (&[("retry-after-ms", "250"), ("retry-after", "1")], Some(0.25)),
        (&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6m0.5s")], Some(360.5)),
        (&[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "20ms")], Some(0.02)),
        (&[("x-ratelimit-remaining-requests", "3"), ("x-ratelimit-reset-requests", "20ms")], None),
        (
            &[
                ("anthropic-ratelimit-tokens-remaining", "0"),
                ("anthropic-ratelimit-tokens-reset", "1994-11-06T08:49:40Z"),
            ],
            Some(10.0),
        ),
        (&[], None),
    ] {
        assert_eq!(wish(fields, none.clone()), want.map(s), "{fields:?}");
    }
    let info = json!({ "error": { "details": [{ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3.5s" }] } });
    assert_eq!(wish(&[], info), Some(s(3.5)));
}

proptest! {
    #[test]
    fn no_header_makes_a_hint_panic(text in "[ -~]{0,40}") {
        let value = HeaderValue::from_str(&text).unwrap();
        for name in ["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens", "anthropic-ratelimit-tokens-reset"] {
            let mut map = HeaderMap::new();
            map.insert("x-ratelimit-remaining-tokens", HeaderValue::from_static("0"));
            map.insert("anthropic-ratelimit-tokens-remaining", HeaderValue::from_static("0"));
            map.insert(name, value.clone());
            retry_after(&map, None, SystemTime::now());
        }
    }
}

#[test]
fn errors_are_judged_in_each_providers_words() {
    let error =
        |code: &str, kind: &str, message: &str| json!({ "error": { "code": code, "type": kind, "message": message } });
    let plain = error("", "", "no");
    let overflows = [
        error("context_length_exceeded", "invalid_request_error", "too long"),
        error("", "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        error("", "", "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
        json!({ "message": "Input is too long for requested model." }),
        error("", "BadRequestError", "This model's maximum context length is 4096 tokens."),
        error("", "exceed_context_size_error", "the request exceeds the available context size"),
    ];
    for body in &overflows {
        assert_eq!(cause::of_status(400, Some(body)), Cause::ContextOverflow, "{body}");
    }
    let filtered =
        json!({ "error": { "code": "content_filter", "innererror": { "code": "ResponsibleAIPolicyViolation" } } });
    for (status, body, want) in [
        (401, &plain, Cause::Credentials),
        (403, &plain, Cause::Credentials),
        (404, &plain, Cause::NotFound),
        (408, &plain, Cause::Timeout),
        (409, &plain, Cause::Conflict),
        (425, &plain, Cause::Conflict),
        (429, &plain, Cause::RateLimit),
        (429, &error("insufficient_quota", "insufficient_quota", "pay"), Cause::Quota),
        (500, &plain, Cause::Server),
        (529, &plain, Cause::Server),
        (302, &plain, Cause::BadAnswer),
        (400, &plain, Cause::Request),
        (400, &filtered, Cause::ContentFilter),
        (413, &plain, Cause::Request),
        (422, &plain, Cause::Request),
        (418, &overflows[0], Cause::Request),
    ] {
        assert_eq!(cause::of_status(status, Some(body)), want, "{status} {body}");
    }
    assert_eq!(cause::of_status(400, None), Cause::Request);
}

#[test]
fn faults_of_the_client_never_count_against_a_model() {
    for cause in [Cause::Request, Cause::ContextOverflow, Cause::ContentFilter] {
        assert_eq!(cause.went(None), Some(Went::Well));
    }
    for cause in [Cause::NotFound, Cause::Conflict, Cause::Unsupported, Cause::Nobody] {
        assert_eq!(cause.went(Some(s(9.0))), None);
    }
    assert_eq!(Cause::RateLimit.went(Some(s(9.0))), Some(Went::Told(s(9.0))));
    assert_eq!(Cause::RateLimit.went(None), Some(Went::Badly));
    assert_eq!(Cause::Credentials.went(Some(s(9.0))), Some(Went::Refused));
    assert!(!Cause::Quota.passes() && !Cause::Timeout.passes() && Cause::Server.passes());
}

#[test]
fn a_filtered_answer_is_known_in_every_dialect() {
    for answer in [
        json!({ "choices": [{ "finish_reason": "content_filter" }] }),
        json!({ "stop_reason": "refusal" }),
        json!({ "stopReason": "guardrail_intervened" }),
        json!({ "promptFeedback": { "blockReason": "SAFETY" } }),
        json!({ "candidates": [{ "finishReason": "PROHIBITED_CONTENT" }] }),
        json!({ "status": "incomplete", "incomplete_details": { "reason": "content_filter" } }),
    ] {
        assert!(cause::filtered(&answer), "{answer}");
    }
    for answer in [json!({ "choices": [{ "finish_reason": "stop" }] }), json!({ "stop_reason": "end_turn" }), json!({})]
    {
        assert!(!cause::filtered(&answer), "{answer}");
    }
}
