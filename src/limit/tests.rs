//! What gets through, how much of it, and what is left for the others.

use super::table::SHARD_ROWS_MAX;
use super::*;
use proptest::prelude::*;

fn rate(count: u64, secs: u64, burst: u64) -> Rate {
    Rate { count, period: Duration::from_secs(secs), burst }
}

fn setup() -> (Arc<Limiter>, Clock, Arc<str>) {
    let clock = Clock::manual();
    (Limiter::new(clock.clone()), clock, "rule".into())
}

fn requests(count: u64, secs: u64, burst: u64) -> Quota {
    Quota { requests: Some(rate(count, secs, burst)), ..Quota::default() }
}

fn tokens(count: u64) -> Quota {
    Quota { tokens: Some(rate(count, 3600, count)), ..Quota::default() }
}

#[test]
fn a_burst_passes_and_then_one_at_a_time() {
    let (l, clock, rule) = setup();
    let q = requests(2, 3600, 5);
    let passed = (0..9).filter(|_| l.take(&rule, "a", &q).is_ok()).count();
    assert_eq!(passed, 5);
    let refused = l.take(&rule, "a", &q).err().unwrap();
    assert_eq!(refused.what, What::Requests);
    assert_eq!(fields::seconds(refused.retry_after), 1800);
    clock.advance(refused.retry_after + Duration::from_millis(1));
    assert!(l.take(&rule, "a", &q).is_ok());
    assert!(l.take(&rule, "a", &q).is_err());
}

#[test]
fn subjects_and_rules_do_not_share() {
    let (l, _, rule) = setup();
    let q = requests(1, 3600, 1);
    assert!(l.take(&rule, "a", &q).is_ok());
    assert!(l.take(&rule, "a", &q).is_err());
    assert!(l.take(&rule, "b", &q).is_ok());
    assert!(l.take(&"other".into(), "a", &q).is_ok());
}

#[test]
fn what_is_under_way_counts_until_it_is_dropped() {
    let (l, _, rule) = setup();
    let q = Quota { concurrency: Some(2), ..Quota::default() };
    let (a, b) = (l.take(&rule, "a", &q).ok().unwrap(), l.take(&rule, "a", &q).ok().unwrap());
    assert_eq!(l.take(&rule, "a", &q).err().unwrap().what, What::Concurrency);
    drop(a);
    let c = l.take(&rule, "a", &q);
    assert!(c.is_ok() && l.take(&rule, "a", &q).is_err());
    drop((b, c));
}

#[test]
fn a_refusal_for_concurrency_costs_no_request() {
    let (l, _, rule) = setup();
    let q = Quota { concurrency: Some(1), ..requests(2, 3600, 2) };
    let first = l.take(&rule, "a", &q).ok().unwrap();
    assert!((0..5).all(|_| l.take(&rule, "a", &q).is_err()));
    drop(first);
    assert!(l.take(&rule, "a", &q).is_ok());
}

#[test]
fn tokens_are_corrected_by_the_real_count() {
    let (l, _, rule) = setup();
    let q = tokens(1000);
    let take = || l.take(&rule, "a", &q).ok().unwrap();
    let left = || take().standings()[0].remaining;
    let mut a = take();
    a.reserve(600).unwrap();
    let mut b = take();
    assert_eq!(b.reserve(600).unwrap_err().what, What::Tokens);
    a.settle(100);
    assert!((899..=900).contains(&left()), "{}", left());
    b.reserve(600).unwrap();
    b.settle(1500);
    assert_eq!(left(), 0);
    let wait = take().reserve(1).unwrap_err().retry_after;
    // 600 tokens are owed, at 1000 an hour.
    assert!((2155..=2168).contains(&wait.as_secs()), "{wait:?}");
}

#[test]
fn a_call_over_the_whole_burst_passes_when_nothing_else_is_taken() {
    let (l, _, rule) = setup();
    let q = tokens(100);
    let mut a = l.take(&rule, "a", &q).ok().unwrap();
    a.reserve(5000).unwrap();
    assert!(l.take(&rule, "a", &q).ok().unwrap().reserve(1).is_err());
}

#[test]
fn tokens_of_a_call_without_a_count_stay_taken() {
    let (l, _, rule) = setup();
    let q = tokens(100);
    l.take(&rule, "a", &q).ok().unwrap().reserve(100).unwrap();
    assert!(l.take(&rule, "a", &q).ok().unwrap().reserve(1).is_err());
}

#[test]
fn what_is_given_back_was_never_taken() {
    let (l, _, rule) = setup();
    let q = Quota { concurrency: Some(1), tokens: tokens(10).tokens, ..requests(1, 3600, 1) };
    for _ in 0..5 {
        let mut t = l.take(&rule, "a", &q).ok().unwrap();
        t.reserve(10).unwrap();
        t.give_back();
    }
}

#[test]
fn a_flood_of_subjects_neither_fills_memory_nor_locks_others_out() {
    let (l, _, rule) = setup();
    let q = Quota { concurrency: Some(1), ..requests(1, 3600, 1) };
    let known = l.take(&rule, "known", &q).ok().unwrap();
    let max = SHARD_ROWS_MAX * 64;
    for i in 0..max + 5000 {
        assert!(l.take(&rule, &format!("flood{i}"), &q).is_ok());
    }
    assert!(l.rows() <= max);
    assert!(l.take(&rule, "known", &q).is_err(), "the one under way is not forgotten");
    drop(known);
}

#[test]
fn idle_rows_go_when_room_is_needed() {
    let (l, clock, rule) = setup();
    let q = requests(1, 1, 1);
    for round in 0..3 {
        for i in 0..SHARD_ROWS_MAX * 32 {
            let _ = l.take(&rule, &format!("{round}/{i}"), &q);
        }
        clock.advance(Duration::from_secs(10));
    }
    assert!(l.rows() <= SHARD_ROWS_MAX * 64);
}

#[test]
fn ratelimit_fields_are_those_of_the_draft() {
    let (l, _, _) = setup();
    let rule: Arc<str> = "per \"key\"".into();
    let q = Quota { tokens: tokens(5000).tokens, ..requests(60, 60, 60) };
    let taken = l.take(&rule, "a", &q).ok().unwrap();
    let (policy, limit) = fields::values(&taken.standings()).unwrap();
    assert_eq!(policy, "\"per key\";q=60;w=60, \"per key-tokens\";q=5000;w=3600");
    assert_eq!(limit, "\"per key\";r=59;t=1, \"per key-tokens\";r=5000;t=0");
    let only_at_once = l.take(&rule, "b", &Quota { concurrency: Some(3), ..Quota::default() }).ok().unwrap();
    assert!(fields::values(&only_at_once.standings()).is_none());
}

#[test]
fn a_thousand_threads_worth_of_takings_are_counted_one_by_one() {
    let (l, _, rule) = setup();
    let q = requests(1, 86400, 100);
    let passed: usize = std::thread::scope(|s| {
        let workers: Vec<_> =
            (0..8).map(|_| s.spawn(|| (0..200).filter(|_| l.take(&rule, "a", &q).is_ok()).count())).collect();
        workers.into_iter().map(|w| w.join().unwrap()).sum()
    });
    assert_eq!(passed, 100);
}

proptest! {
    /// In any stretch of time no more passes than the burst and what the rate allows for its length.
    #[test]
    fn no_stretch_of_time_lets_more_through(
        count in 1u64..50, secs in 1u64..100, burst in 1u64..20, steps in proptest::collection::vec(0u64..4000, 1..60)
    ) {
        let r = rate(count, secs, burst);
        let (mut now, mut due, mut passed) = (0u64, 0u64, Vec::new());
        for step in steps {
            now += step * 1_000_000;
            while let Ok(next) = r.take(due, now, 1) {
                due = next;
                passed.push(now);
            }
        }
        for (i, from) in passed.iter().enumerate() {
            for (j, to) in passed.iter().enumerate().skip(i) {
                let allowed = u128::from(burst) + (u128::from(to - from) * u128::from(count)) / u128::from(secs * 1_000_000_000) + 1;
                prop_assert!((j - i) as u128 <= allowed);
            }
        }
    }

    /// Correcting an estimate leads where taking the real count at once would have.
    #[test]
    fn a_correction_undoes_the_estimate(taken in 0u64..1000, real in 0u64..1000, start in 0u64..100) {
        let r = rate(1000, 1, 1_000_000);
        let now = 5_000_000_000;
        let before = now + start * 1_000_000;
        let by_estimate = r.take(before, now, taken).unwrap();
        prop_assert_eq!(r.correct(by_estimate, now, (taken, real)), r.take(before, now, real).unwrap());
    }
}
