//! The usage ledger: tokens in disjoint buckets, and what caches spared, by route, key and model, for every hour and day.
//! Money is not added up but reckoned when it is read, from the price that held at the time, so that a corrected price
//! list corrects the past. It lives in memory and is bounded; a restart begins a new one.

use super::call::{CacheOutcome, Call};
use super::usage::Usage;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Seconds of an hour.
pub const HOUR: u64 = 3600;
/// Seconds of a day; days are those of UTC.
pub const DAY: u64 = 24 * HOUR;
/// Hours that are kept.
pub const HOURS_MAX: u64 = 48;
/// Days that are kept.
pub const DAYS_MAX: u64 = 62;
/// What stands for the routes, keys and models beyond the bound.
pub const OTHERS: &str = "(others)";

/// Locks, so that calls seldom wait for each other.
const SHARDS: usize = 16;
/// Combinations of route, key and model in one hour or day, in each shard; beyond them the rest is one.
const COMBINATIONS_MAX: usize = 64;

/// Whose tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Who {
    /// The route's name.
    pub route: String,
    /// The virtual key's name, or what else let the client in.
    pub key: String,
    /// The model's configured name; `none` where none answered.
    pub model: String,
}

/// What let a model be spared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spared {
    /// An equal question had been answered.
    Exact,
    /// A similar question had been answered.
    Semantic,
    /// An equal question was just being answered.
    Collapsed,
    /// The provider had kept the beginning of the prompt: these tokens were cheaper, not spared.
    PromptCache,
}

impl Spared {
    /// All of them.
    pub const ALL: [Spared; 4] = [Spared::Exact, Spared::Semantic, Spared::Collapsed, Spared::PromptCache];

    /// The one spelling used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Spared::Exact => CacheOutcome::Exact.as_str(),
            Spared::Semantic => CacheOutcome::Semantic.as_str(),
            Spared::Collapsed => CacheOutcome::Collapsed.as_str(),
            Spared::PromptCache => "prompt_cache",
        }
    }

    fn of(outcome: CacheOutcome) -> Option<Spared> {
        match outcome {
            CacheOutcome::Exact => Some(Spared::Exact),
            CacheOutcome::Semantic => Some(Spared::Semantic),
            CacheOutcome::Collapsed => Some(Spared::Collapsed),
            _ => None,
        }
    }
}

/// What one way of sparing brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Won {
    /// Calls.
    pub calls: u64,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Money in billionths of a US dollar, as far as prices were known.
    pub nano_usd: u64,
    /// Model time in milliseconds.
    pub milliseconds: u64,
}

/// What was won, by [`Spared::ALL`].
pub type Winnings = [Won; 4];

/// What was used and spared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Calls, those that caches answered and those that failed among them.
    pub calls: u64,
    /// Tokens billed, those of answers that nobody got among them.
    pub usage: Usage,
    /// The tokens of calls that had the price of a long prompt; not part of `usage`.
    pub long: Usage,
    /// What was spared.
    pub won: Winnings,
}

/// One combination in one hour or day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When the hour or day began, in seconds since 1970.
    pub at: u64,
    /// Whose.
    pub who: Who,
    /// What.
    pub cell: Cell,
}

type Slots = BTreeMap<u64, HashMap<Who, Cell>>;

#[derive(Debug, Default)]
struct Shard {
    hours: Slots,
    days: Slots,
    won: Winnings,
}

/// The ledger. It outlives reloads.
#[derive(Debug)]
pub struct Ledger {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger { shards: Default::default(), hasher: RandomState::new() }
    }
}

impl Won {
    /// Adds another's.
    pub fn add(&mut self, other: &Won) {
        self.calls = self.calls.saturating_add(other.calls);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.nano_usd = self.nano_usd.saturating_add(other.nano_usd);
        self.milliseconds = self.milliseconds.saturating_add(other.milliseconds);
    }

    /// All tokens.
    pub fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

impl Cell {
    /// What one call used and spared, without what was lost on the way to its answer.
    pub fn of(call: &Call) -> Cell {
        let mut cell = Cell { calls: 1, won: won(call), ..Cell::default() };
        let long = call.priced.as_ref().is_some_and(|p| p.long);
        cell.count(&call.usage.unwrap_or_default(), long);
        cell
    }

    fn count(&mut self, usage: &Usage, long: bool) {
        if long { self.long.add(usage) } else { self.usage.add(usage) }
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Cell) {
        self.calls = self.calls.saturating_add(other.calls);
        self.usage.add(&other.usage);
        self.long.add(&other.long);
        for (mine, other) in self.won.iter_mut().zip(&other.won) {
            mine.add(other);
        }
    }
}

/// What one call spared.
pub fn won(call: &Call) -> Winnings {
    let read = call.usage.map_or(0, |u| u.cache_read);
    Spared::ALL.map(|way| match (call.saved, &call.priced) {
        (Some(s), _) if Spared::of(call.cache) == Some(way) => Won {
            calls: 1,
            input_tokens: s.input_tokens,
            output_tokens: s.output_tokens,
            nano_usd: s.cost.unwrap_or_default().nano_usd,
            milliseconds: milliseconds(s.seconds),
        },
        (None, priced) if way == Spared::PromptCache && read > 0 => Won {
            calls: 1,
            input_tokens: read,
            nano_usd: priced.as_ref().map_or(0, |p| p.prompt_cache.nano_usd),
            ..Won::default()
        },
        _ => Won::default(),
    })
}

fn milliseconds(seconds: f64) -> u64 {
    let spared = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    u64::try_from(spared.as_millis()).unwrap_or(u64::MAX)
}

impl Ledger {
    /// Enters one finished call; `now` is in seconds since 1970.
    pub fn enter(&self, now: u64, (route, key): (&str, &str), call: &Call) {
        let who = |model: &str| Who { route: route.to_owned(), key: key.to_owned(), model: model.to_owned() };
        self.book(now, who(call.model.as_deref().unwrap_or("none")), &Cell::of(call));
        for lost in &call.lost {
            let mut cell = Cell::default();
            cell.count(&lost.usage, lost.long);
            self.book(now, who(&lost.model), &cell);
        }
    }

    /// All entries of the last so many seconds, the hour or day in which they begin as a whole: by hours as far as
    /// these are kept, by days beyond.
    pub fn entries(&self, now: u64, seconds: u64) -> Vec<Entry> {
        let hourly = seconds <= (HOURS_MAX - 1) * HOUR;
        let unit = if hourly { HOUR } else { DAY };
        let from = slot(now.saturating_sub(seconds), unit);
        let mut out = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let slots = if hourly { &shard.hours } else { &shard.days };
            for (at, cells) in slots.range(from..) {
                out.extend(cells.iter().map(|(who, cell)| Entry { at: *at, who: who.clone(), cell: *cell }));
            }
        }
        out
    }

    /// What was spared since the start.
    pub fn won(&self) -> Winnings {
        let mut all = Winnings::default();
        for shard in &self.shards {
            for (all, one) in all.iter_mut().zip(&lock(shard).won) {
                all.add(one);
            }
        }
        all
    }

    fn book(&self, now: u64, who: Who, cell: &Cell) {
        let shards = u64::try_from(SHARDS).unwrap_or(1);
        let index = usize::try_from(self.hasher.hash_one(&who) % shards).unwrap_or(0);
        let Some(shard) = self.shards.get(index) else { return };
        let mut shard = lock(shard);
        for (all, one) in shard.won.iter_mut().zip(&cell.won) {
            all.add(one);
        }
        place(&mut shard.hours, (now, HOUR, HOURS_MAX), &who).add(cell);
        place(&mut shard.days, (now, DAY, DAYS_MAX), &who).add(cell);
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn slot(at: u64, unit: u64) -> u64 {
    at - at % unit
}

/// The cell of now; slots that are too old are dropped.
fn place<'a>(slots: &'a mut Slots, (now, unit, slots_max): (u64, u64, u64), who: &Who) -> &'a mut Cell {
    let at = slot(now, unit);
    let oldest = at.saturating_sub((slots_max - 1) * unit);
    while let Some(first) = slots.first_entry().filter(|s| *s.key() < oldest) {
        first.remove();
    }
    let cells = slots.entry(at).or_default();
    let who = if cells.len() < COMBINATIONS_MAX || cells.contains_key(who) {
        who.clone()
    } else {
        Who { route: OTHERS.to_owned(), key: OTHERS.to_owned(), model: OTHERS.to_owned() }
    };
    cells.entry(who).or_default()
}

#[cfg(test)]
mod tests;
