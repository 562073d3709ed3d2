//! Counters of the semantic cache.

use super::guard::Guard;
use super::{Bypass, Lookup};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What happened since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Look-ups answered.
    pub hits: u64,
    /// Look-ups without an answer.
    pub misses: u64,
    /// Prompts not looked up, by reason.
    pub bypasses: BTreeMap<&'static str, u64>,
    /// Misses where a guard refused a near candidate, by guard.
    pub vetoes: BTreeMap<&'static str, u64>,
    /// Answers stored.
    pub stored: u64,
    /// Answers that could not be stored.
    pub not_stored: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    bypasses: [AtomicU64; Bypass::ALL.len()],
    vetoes: [AtomicU64; Guard::ALL.len()],
    stored: AtomicU64,
    not_stored: AtomicU64,
}

impl Counters {
    pub(super) fn count(&self, lookup: &Lookup) {
        match lookup {
            Lookup::Hit(_) => self.hits.fetch_add(1, Relaxed),
            Lookup::Bypass(why) => bump(&self.bypasses, Bypass::ALL.iter().position(|b| b == why)),
            Lookup::Miss(ticket) => {
                if let Some(guard) = ticket.vetoed {
                    bump(&self.vetoes, Guard::ALL.iter().position(|g| *g == guard));
                }
                self.misses.fetch_add(1, Relaxed)
            }
        };
    }

    pub(super) fn stored(&self) {
        self.stored.fetch_add(1, Relaxed);
    }

    pub(super) fn not_stored(&self) {
        self.not_stored.fetch_add(1, Relaxed);
    }

    pub(super) fn snapshot(&self) -> Stats {
        let named = |names: Vec<&'static str>, counts: &[AtomicU64]| {
            names.into_iter().zip(counts).map(|(name, n)| (name, n.load(Relaxed))).filter(|(_, n)| *n > 0).collect()
        };
        Stats {
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            bypasses: named(Bypass::ALL.iter().map(|b| b.as_str()).collect(), &self.bypasses),
            vetoes: named(Guard::ALL.iter().map(|g| g.as_str()).collect(), &self.vetoes),
            stored: self.stored.load(Relaxed),
            not_stored: self.not_stored.load(Relaxed),
        }
    }
}

fn bump(counters: &[AtomicU64], at: Option<usize>) -> u64 {
    at.and_then(|i| counters.get(i)).map_or(0, |c| c.fetch_add(1, Relaxed))
}
