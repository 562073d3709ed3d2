//! The ledger: what is counted where, how long it is kept, and that it is bounded.

use super::super::call::{Lost, Priced, Saved};
use super::*;
use crate::base::units::Money;

const NOW: u64 = 20_000 * DAY + 5 * HOUR + 7;

fn asked(model: &str, usage: Usage) -> Call {
    Call { model: Some(model.to_owned()), usage: Some(usage), ..Call::default() }
}

fn all(ledger: &Ledger, now: u64, seconds: u64) -> Cell {
    let mut sum = Cell::default();
    ledger.entries(now, seconds).iter().for_each(|e| sum.add(&e.cell));
    sum
}

#[test]
fn calls_lost_answers_and_long_prompts_have_their_places() {
    let ledger = Ledger::default();
    let usage = Usage { uncached_in: 10, cache_read: 30, out_text: 2, ..Usage::default() };
    let mut call = asked("a", usage);
    call.priced = Some(Priced { version: "v".into(), long: true, prompt_cache: Money { nano_usd: 27 } });
    call.lost = vec![Lost { model: "b".into(), usage, cost: None, long: false }];
    ledger.enter(NOW, ("r", "k"), &call);
    let mut entries = ledger.entries(NOW, HOUR);
    entries.sort_by(|a, b| a.who.model.cmp(&b.who.model));
    let [a, b] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((a.at, a.who.route.as_str(), a.who.key.as_str()), (20_000 * DAY + 5 * HOUR, "r", "k"));
    assert_eq!((a.cell.calls, a.cell.usage, a.cell.long), (1, Usage::default(), usage));
    assert_eq!(a.cell.won[3], Won { calls: 1, input_tokens: 30, nano_usd: 27, ..Won::default() });
    assert_eq!((b.cell.calls, b.cell.usage, b.cell.long), (0, usage, Usage::default()));
}

#[test]
fn a_cached_answer_spares_and_uses_nothing() {
    let ledger = Ledger::default();
    let saved = Saved { input_tokens: 5, output_tokens: 6, cost: Some(Money { nano_usd: 7 }), seconds: 1.5 };
    let call = Call { cache: CacheOutcome::Semantic, saved: Some(saved), ..Call::default() };
    ledger.enter(NOW, ("r", "k"), &call);
    let sum = all(&ledger, NOW, HOUR);
    let won = Won { calls: 1, input_tokens: 5, output_tokens: 6, nano_usd: 7, milliseconds: 1500 };
    assert_eq!(
        (sum.usage.total(), sum.won, ledger.won()),
        (0, [Won::default(), won, Won::default(), Won::default()], sum.won)
    );
}

#[test]
fn hours_and_days_are_kept_for_their_time() {
    let ledger = Ledger::default();
    let one = Usage { out_text: 1, ..Usage::default() };
    ledger.enter(NOW, ("r", "k"), &asked("a", one));
    ledger.enter(NOW + 10 * HOUR, ("r", "k"), &asked("a", one));
    ledger.enter(NOW + 60 * HOUR, ("r", "k"), &asked("a", one));
    let now = NOW + 60 * HOUR;
    assert_eq!(all(&ledger, now, HOUR).calls, 1);
    assert_eq!(all(&ledger, now, 47 * HOUR).calls, 1, "the hours of the day before yesterday are gone");
    assert_eq!(all(&ledger, now, 48 * HOUR).calls, 3, "its day is not");
    let later = NOW + DAYS_MAX * DAY;
    ledger.enter(later, ("r", "k"), &asked("a", one));
    assert_eq!(all(&ledger, later, 1000 * DAY).calls, 2, "the first day has gone");
}

#[test]
fn a_flood_of_names_is_bounded_and_nothing_is_lost_in_it() {
    let ledger = Ledger::default();
    let one = Usage { out_text: 1, ..Usage::default() };
    for i in 0..5_000 {
        ledger.enter(NOW, ("r", &format!("k{i}")), &asked("a", one));
    }
    let entries = ledger.entries(NOW, HOUR);
    assert!(entries.len() <= SHARDS * (COMBINATIONS_MAX + 1), "{}", entries.len());
    assert!(entries.iter().any(|e| e.who.key == OTHERS));
    assert_eq!((all(&ledger, NOW, HOUR).calls, all(&ledger, NOW, HOUR).usage.out_text), (5_000, 5_000));
}
