//! The walk over a catalogue: who is asked in which order, who is passed over, who is asked again.

use crate::ai::catalog::{Catalog, Choice};
use crate::ai::routing::Routing;
use crate::ai::routing::board::{Board, Pass};
use crate::ai::routing::breaker::{Went, Why};
use crate::ai::routing::cause::Cause;
use crate::ai::routing::dice::Dice;
use crate::ai::routing::walk::{Errand, Next, Walk};
use crate::base::clock::Clock;
use crate::config::ai::{Ai, AiRoute, PriceList};
use crate::config::secret::Secret;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

struct World {
    ai: Ai,
    catalog: Catalog,
    board: Arc<Board>,
    clock: Clock,
    routing: Routing,
    route: AiRoute,
}

const MODELS: &str = "
providers: { p: { dialect: openai, base_url: 'http://x', api_key: env:X }, q: { dialect: openai, base_url: 'http://y' } }
models:
  a: { provider: p, model: a, context_tokens: 100, price: { input: 3 } }
  b: { provider: p, model: b, price: { input: 1, output: 9 } }
  c: { provider: q, model: c, context_tokens: 1000, price: { input: 2 } }
";

fn world(more: &str, route: &str) -> World {
    let ai: Ai = serde_yaml::from_str(&format!("{MODELS}{more}")).unwrap();
    let (board, clock) = (Arc::new(Board::with(Dice::seeded(3))), Clock::manual());
    let catalog = catalog(&ai, "sk-1");
    let routing = Routing::new(&catalog, board.clone(), &ai, clock.clone());
    World { ai, catalog, board, clock, routing, route: serde_yaml::from_str(route).unwrap() }
}

fn catalog(ai: &Ai, key: &str) -> Catalog {
    let keys = BTreeMap::from([("p".to_owned(), Secret::new(key))]);
    Catalog::compile(ai, &PriceList::default(), &keys).unwrap_or_else(|f| panic!("{f:?}"))
}

impl World {
    fn choice(&self, name: &str) -> Choice {
        self.catalog.choose(name, None, &self.route).unwrap()
    }

    fn walk(&self, choice: &Choice, tokens: u64, output: u64) -> Walk<'_> {
        let stages = std::iter::once((&choice.first, false)).chain(choice.fallback.iter().map(|s| (s, true)));
        let errand = Errand { tokens, output, stream: false };
        Walk::new(&self.routing, self.routing.way(&self.route), errand, stages, self.route.hedge)
    }

    /// The models asked when each fails in this way, and whether there was a wait before each.
    fn asked(&self, name: &str, causes: &[Cause]) -> Vec<(String, bool)> {
        let choice = self.choice(name);
        let mut walk = self.walk(&choice, 50, 10);
        let (mut out, mut causes) = (Vec::new(), causes.iter().cycle());
        while let Some(turn) = walk.turn() {
            let Some(_pass) = turn.pass.or_else(|| walk.admit(turn.at)) else { continue };
            out.push((walk.candidate(turn.at).unwrap().model.name.clone(), !turn.wait.is_zero()));
            if walk.failed(turn.at, *causes.next().unwrap(), None) == Next::Final {
                break;
            }
        }
        out
    }

    fn names(&self, name: &str, causes: &[Cause]) -> String {
        self.asked(name, causes).into_iter().map(|(n, _)| n).collect()
    }

    fn pass(&self, model: &str) -> Result<Pass, (Duration, Why)> {
        let model = self.catalog.models().find(|m| m.name == model).unwrap();
        self.routing.standing(model).unwrap().admit(&self.routing.rules, false)
    }
}

#[test]
fn every_model_is_asked_once_and_final_failures_end_it() {
    let w = world("tiers: { cheap: [a, b], best: [b, c] }", "{ fallback: [best] }");
    assert_eq!(w.names("cheap", &[Cause::Server]), "abc");
    assert_eq!(w.names("cheap", &[Cause::Timeout, Cause::Request]), "ab");
    assert_eq!(w.names("cheap", &[Cause::ContentFilter]), "a", "not by default");
    let w = world("tiers: { cheap: [a, b] }", "{ fallback_on: [content_filter, server_error] }");
    assert_eq!(w.names("cheap", &[Cause::ContentFilter]), "ab");
    assert_eq!(w.names("cheap", &[Cause::RateLimit]), "a");
}

#[test]
fn after_an_overflow_only_larger_contexts_are_asked() {
    let w = world("tiers: { cheap: [a, b, c], big: [c, a, b] }", "{}");
    assert_eq!(w.names("cheap", &[Cause::ContextOverflow]), "ac", "b does not say what it holds");
    assert_eq!(w.names("big", &[Cause::ContextOverflow]), "c");
    assert_eq!(w.names("cheap", &[Cause::Server, Cause::ContextOverflow]), "abc", "50 tokens are estimated");
}

#[test]
fn the_cheapest_is_by_this_prompts_price_and_the_fingerprint_is_the_tiers() {
    let w = world("tiers: { t: { models: [a, b, c], strategy: cheapest } }", "{}");
    let choice = w.choice("t");
    let first = |tokens, output| {
        let mut walk = w.walk(&choice, tokens, output);
        let at = walk.turn().unwrap().at;
        walk.candidate(at).unwrap().model.name.clone()
    };
    assert_eq!((first(1000, 10), first(10, 1000)), ("b".to_owned(), "c".to_owned()));
    assert_eq!(choice.fingerprint(), w.choice("t").fingerprint());
    let listed = world("tiers: { t: [a, b, c] }", "{}");
    assert_eq!(choice.fingerprint(), listed.choice("t").fingerprint(), "the order of asking is no part of it");
}

#[test]
fn draws_spread_over_the_tier() {
    let w =
        world("tiers: { t: { models: [{ model: a, weight: 1 }, { model: b, weight: 3 }], strategy: weighted } }", "{}");
    let choice = w.choice("t");
    let firsts = (0..400).filter(|_| w.walk(&choice, 1, 1).turn().unwrap().at == 0);
    let names: Vec<String> = (0..400)
        .map(|_| {
            let mut k = w.walk(&choice, 1, 1);
            let at = k.turn().unwrap().at;
            k.candidate(at).unwrap().model.name.clone()
        })
        .collect();
    assert_eq!(firsts.count(), 400, "the drawn one comes first in the walk");
    let b = names.iter().filter(|n| *n == "b").count();
    assert!((260..340).contains(&b), "{b}");
}

#[test]
fn the_least_busy_is_the_one_with_the_fewest_calls_in_flight() {
    let w = world("tiers: { t: { models: [a, b], strategy: least_busy } }", "{}");
    let held = w.pass("a").unwrap();
    assert_eq!(w.names("t", &[Cause::Request]), "b");
    drop(held);
    assert_eq!(w.names("t", &[Cause::Request]), "a");
}

#[test]
fn a_resting_model_is_passed_over_while_another_may_answer() {
    let w = world("tiers: { t: [a, b] }\nhealth: { failures: 1, cool_down: 5s, cool_down_max: 60s }", "{}");
    w.pass("a").unwrap().report(Went::Badly);
    assert_eq!(w.names("t", &[Cause::Request]), "b");
    let choice = w.choice("t");
    let mut walk = w.walk(&choice, 1, 1);
    walk.turn().unwrap();
    assert_eq!(walk.skipped().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["a"]);
    w.clock.advance(Duration::from_secs(6));
    assert_eq!(w.names("t", &[Cause::Request]), "a", "tried again");
}

#[test]
fn when_all_rest_the_least_bad_is_asked_by_one_call_at_a_time() {
    let w = world("tiers: { t: [a, b] }\nhealth: { failures: 1, cool_down: 5s, cool_down_max: 60s }", "{}");
    w.pass("a").unwrap().report(Went::Refused);
    w.pass("b").unwrap().report(Went::Badly);
    let choice = w.choice("t");
    let (mut one, mut two, mut three) = (w.walk(&choice, 1, 1), w.walk(&choice, 1, 1), w.walk(&choice, 1, 1));
    let first = one.turn().unwrap();
    assert_eq!(one.candidate(first.at).unwrap().model.name, "b", "the one that rests the shortest");
    let second = two.turn().unwrap();
    assert_eq!(two.candidate(second.at).unwrap().model.name, "a");
    assert!(three.turn().is_none() && three.resting().is_some(), "the third has to wait");
    first.pass.unwrap().report(Went::Well);
    assert!(three.turn().is_some());
}

#[test]
fn where_the_provider_forbids_it_nobody_is_asked() {
    let w = world("tiers: { t: [a, b] }", "{}");
    for (model, seconds) in [("a", 20), ("b", 7)] {
        w.pass(model).unwrap().report(Went::Told(Duration::from_secs(seconds)));
    }
    let choice = w.choice("t");
    let mut walk = w.walk(&choice, 1, 1);
    assert!(walk.turn().is_none());
    let (wait, why) = walk.resting().unwrap();
    assert!(why == Why::Told && wait <= Duration::from_secs(7) && wait > Duration::from_secs(6), "{wait:?}");
}

#[test]
fn the_same_model_is_asked_again_only_after_what_may_pass() {
    let retry = "retry: { attempts: 3, backoff: { base: 100ms, max: 1s } }\nhealth: { failures: 100 }";
    let w = world(&format!("tiers: {{ t: [a, b] }}\n{retry}"), "{}");
    let again = |name: &str, waits: bool| (name.to_owned(), waits);
    let want =
        [again("a", false), again("a", true), again("a", true), again("b", false), again("b", true), again("b", true)];
    assert_eq!(w.asked("t", &[Cause::Server]), want);
    assert_eq!(w.names("t", &[Cause::Quota]), "ab", "an empty purse does not fill by asking");
    assert_eq!(w.names("t", &[Cause::Timeout]), "ab");
    let w = world(&format!("tiers: {{ t: [a, b] }}\n{retry}"), "{ retry: { attempts: 3, total: 4 } }");
    assert_eq!(w.names("t", &[Cause::Connect]), "aaab");
}

#[test]
fn pauses_grow_and_a_long_wish_is_no_reason_to_wait() {
    let w = world(
        "tiers: { t: [a] }\nretry: { attempts: 9, backoff: { base: 100ms, max: 1s } }\nhealth: { failures: 100 }",
        "{}",
    );
    let choice = w.choice("t");
    let mut walk = w.walk(&choice, 1, 1);
    let turn = walk.turn().unwrap();
    drop(turn.pass);
    for most in [100, 200, 400, 800, 1000] {
        assert_eq!(walk.failed(0, Cause::Server, None), Next::Go);
        let wait = walk.turn().unwrap().wait;
        assert!(!wait.is_zero() && wait <= Duration::from_millis(most), "{wait:?} {most}");
        drop(walk.admit(0).unwrap());
    }
    walk.failed(0, Cause::RateLimit, Some(Duration::from_millis(999)));
    assert!(walk.turn().unwrap().wait >= Duration::from_millis(999));
    walk.failed(0, Cause::RateLimit, Some(Duration::from_millis(1001)));
    assert!(walk.turn().is_none(), "longer than the longest pause");
}

#[test]
fn repeated_calls_stay_a_share_of_the_providers_calls() {
    let w = world(
        "tiers: { t: [a] }\nretry: { attempts: 5, budget: 10%, backoff: { base: 1ms, max: 2ms } }\nhealth: { failures: 10000, share: 100%, window: 1ms }",
        "{}",
    );
    let calls: usize = (0..200).map(|_| w.asked("t", &[Cause::Connect]).len()).sum();
    assert!((200..=230).contains(&calls), "a burst of 10 and a tenth of 200: {calls}");
    assert!(calls > 220, "{calls}");
}

#[test]
fn hedges_stay_a_share_and_need_somebody_to_ask() {
    let w = world(
        "tiers: { t: { models: [a, b], hedge: { after: 10ms, max_share: 10% } }, one: { models: [a], hedge: { after: 10ms } } }",
        "{}",
    );
    let choice = w.choice("t");
    let hedged = |_: &usize| {
        let mut walk = w.walk(&choice, 1, 1);
        let turn = walk.turn().unwrap();
        assert_eq!(walk.patience(turn.at), Some(Duration::from_millis(10)));
        let second = walk.second(turn.at);
        if second.is_none() {
            walk.failed(turn.at, Cause::Server, None);
            assert!(walk.turn().is_some(), "who was not asked beside it may be asked after it");
        }
        second.is_some()
    };
    assert_eq!((0..100).filter(hedged).count(), 11, "one at first, then a tenth");
    let choice = w.choice("one");
    let mut walk = w.walk(&choice, 1, 1);
    let turn = walk.turn().unwrap();
    assert!(walk.second(turn.at).is_none());
}

#[test]
fn standings_outlive_a_reload_and_a_new_key_starts_afresh() {
    let w = world("health: { failures: 1 }", "{}");
    w.pass("a").unwrap().report(Went::Refused);
    let reloaded = |key: &str| {
        let catalog = catalog(&w.ai, key);
        let routing = Routing::new(&catalog, w.board.clone(), &w.ai, w.clock.clone());
        let model = catalog.models().find(|m| m.name == "a").unwrap();
        routing.standing(model).unwrap().admit(&routing.rules, false).map(drop)
    };
    assert!(reloaded("sk-1").is_err());
    assert!(reloaded("sk-2").is_ok());
    let shown = w.board.shown(w.clock.elapsed());
    let states: Vec<_> = shown.iter().map(|s| (s.model.as_str(), s.state, s.cooling.map(|c| c.1))).collect();
    assert_eq!(states, [("a", "open", Some("credentials")), ("b", "closed", None), ("c", "closed", None)]);
}
