//! Accounts: periods, reservations at once, and what a restart leaves of them.

use super::*;
use crate::base::clock::Clock;
use crate::kv::{Kv, Options};
use std::time::Duration;

fn budget(limit: u64, period: Period) -> Budget {
    Budget {
        name: "b".into(),
        limit: Money { nano_usd: limit },
        period,
        key: BudgetKey::ApiKey,
        on_exhausted: OnExhausted::Refuse,
        unpriced: Unpriced::Refuse,
    }
}

fn book() -> (Arc<Book>, Clock) {
    let clock = Clock::manual();
    (Book::new(Arc::new(Kv::memory()), clock.clone()), clock)
}

fn spent(account: &Account, period: Period, clock: &Clock) -> (u64, u64) {
    let b = account.balance(period, clock.unix_secs());
    (b.spent.nano_usd, b.reserved.nano_usd)
}

/// Seconds since 1970.
fn at(text: &str) -> u64 {
    let t = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).unwrap();
    t.unix_timestamp().try_into().unwrap()
}

#[test]
fn periods_begin_at_midnight_on_mondays_and_on_the_first_in_utc() {
    for (period, now, from, until) in [
        (Period::Day, "2026-03-01T23:59:59Z", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"),
        (Period::Day, "2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"),
        (Period::Week, "2026-11-22T12:00:00Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
        (Period::Week, "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
        (Period::Week, "2027-01-01T00:00:00Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"),
        (Period::Month, "2028-02-29T10:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        (Period::Month, "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        (Period::Month, "2026-01-31T00:00:00Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
    ] {
        let want = Span { from: at(from), until: Some(at(until)) };
        assert_eq!(span(period, at(now)), want, "{period:?} {now}");
    }
    assert_eq!(span(Period::Total, at("2026-01-31T00:00:00Z")), Span { from: 0, until: None });
    assert_eq!(span(Period::Day, u64::MAX).until, None, "beyond the calendar nothing panics");
}

#[test]
fn a_budget_is_exceeded_by_one_reservation_at_most_however_many_come_at_once() {
    let (book, clock) = book();
    let b = budget(1000, Period::Total);
    let account = book.account(&b, "key:a").unwrap();
    let now = clock.unix_secs();
    let admitted: usize = std::thread::scope(|s| {
        let work = || (0..500).filter(|_| account.reserve((b.period, now), 300, (1000, false))).count();
        let workers: Vec<_> = (0..8).map(|_| s.spawn(work)).collect();
        workers.into_iter().map(|w| w.join().unwrap()).sum()
    });
    // 0, 300, 600 and 900 are less than 1000.
    assert_eq!(admitted, 4);
    assert_eq!(spent(&account, b.period, &clock), (0, 1200));
}

#[test]
fn a_new_period_begins_with_nothing_spent_and_calls_in_flight_are_paid_from_it() {
    let (book, clock) = book();
    let b = budget(1000, Period::Day);
    let account = book.account(&b, "key:a").unwrap();
    let now = || (b.period, clock.unix_secs());
    assert!(account.reserve(now(), 10, (1000, false)));
    assert!(account.reserve(now(), 10, (1000, false)));
    account.settle(now(), 10, 2000);
    assert!(!account.reserve(now(), 10, (1000, false)));
    clock.advance(Duration::from_secs(86_400));
    assert_eq!(spent(&account, b.period, &clock), (0, 10));
    account.settle(now(), 10, 7);
    assert_eq!(spent(&account, b.period, &clock), (7, 0));
}

#[test]
fn a_clock_that_goes_back_does_not_give_a_period_back() {
    let (book, clock) = book();
    let b = budget(1000, Period::Day);
    let account = book.account(&b, "key:a").unwrap();
    let today = clock.unix_secs();
    account.settle((b.period, today), 0, 500);
    assert_eq!(account.balance(b.period, today - 2 * 86_400).spent.nano_usd, 500);
}

#[test]
fn subjects_and_budgets_have_accounts_of_their_own_and_a_long_subject_is_one() {
    let (book, clock) = book();
    let (b, other) = (budget(10, Period::Total), Budget { name: "c".into(), ..budget(10, Period::Total) });
    let long = format!("user:{}", "x".repeat(100_000));
    for (budget, subject) in [(&b, "key:a"), (&b, "key:b"), (&other, "key:a"), (&b, long.as_str())] {
        let account = book.account(budget, subject).unwrap();
        assert_eq!(spent(&account, budget.period, &clock), (0, 0), "{subject:.20}");
        account.settle((budget.period, clock.unix_secs()), 0, 5);
        assert_eq!(spent(&book.account(budget, subject).unwrap(), budget.period, &clock), (5, 0));
    }
}

#[test]
fn spending_survives_a_restart_and_an_old_period_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { folder: dir.path().to_owned(), sync: false };
    let clock = Clock::manual();
    let open = || Book::new(Arc::new(Kv::open(&options).unwrap()), clock.clone());
    let (day, total) = (budget(10, Period::Day), Budget { name: "t".into(), ..budget(10, Period::Total) });
    let first = open();
    for b in [&day, &total] {
        first.account(b, "key:a").unwrap().settle((b.period, clock.unix_secs()), 0, 5);
    }
    assert!(first.kv().close(Duration::from_secs(5)));
    let second = open();
    let of = |book: &Arc<Book>, b: &Budget| spent(&book.account(b, "key:a").unwrap(), b.period, &clock).0;
    assert_eq!((of(&second, &day), of(&second, &total)), (5, 5));
    clock.advance(Duration::from_secs(86_400));
    assert_eq!((of(&second, &day), of(&second, &total)), (0, 5));
}

#[test]
fn a_reset_begins_one_account_or_all_anew() {
    let (book, clock) = book();
    let b = Arc::new(budget(10, Period::Month));
    for subject in ["key:a", "key:b"] {
        book.account(&b, subject).unwrap().settle((b.period, clock.unix_secs()), 0, 5);
    }
    let budgets = Budgets::from([("b".to_owned(), b.clone())]);
    let told = || book.lines(&budgets).into_iter().map(|l| (l.subject, l.balance.spent.nano_usd)).collect::<Vec<_>>();
    assert_eq!(told(), [("key:a".to_owned(), 5), ("key:b".to_owned(), 5)]);
    assert_eq!(book.reset(&b, Some("key:a")), 1);
    assert_eq!(told(), [("key:a".to_owned(), 0), ("key:b".to_owned(), 5)]);
    assert_eq!((book.reset(&b, None), book.reset(&b, Some("key:z"))), (2, 0));
    assert_eq!(told()[1].1, 0);
}

#[test]
fn accounts_of_a_period_that_is_over_make_room() {
    let (book, clock) = book();
    let b = budget(10, Period::Day);
    drop(book.account(&b, "key:a").unwrap());
    book.account(&b, "key:a").unwrap().settle((b.period, clock.unix_secs()), 0, 5);
    let held = book.account(&b, "key:held").unwrap();
    assert!(held.reserve((b.period, clock.unix_secs()), 1, (10, false)));
    clock.advance(Duration::from_secs(40 * 86_400));
    book.forget_old();
    let budgets = Budgets::from([("b".to_owned(), Arc::new(b))]);
    assert_eq!(book.lines(&budgets).len(), 1, "the one with a call in flight");
}

#[test]
fn faults_of_budgets_name_their_place() {
    let ai = |yaml: &str| serde_yaml::from_str::<yaml::Ai>(yaml).unwrap();
    let faults = compile(&ai(
        "{ tiers: { cheap: [] }, budgets: { 'a b': { limit_usd: -1, period: day, on_exhausted: 'tier:chaep' } } }",
    ));
    let places: Vec<_> = faults.unwrap_err().into_iter().map(|f| f.path).collect();
    assert_eq!(places, ["ai.budgets.a b", "ai.budgets.a b.limit_usd", "ai.budgets.a b.on_exhausted"]);
}
