//! Rows by name in shards. A row that says no more than a new one would is dropped when its shard is full.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

/// Locks are per shard and held for a map operation only.
const SHARDS: usize = 64;
/// Most rows of a shard: 131072 in all, some 20 MiB.
pub(super) const SHARD_ROWS_MAX: usize = 2048;

/// What is known of one subject of one rule.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row {
    /// When the requests let through are due, in nanoseconds.
    pub requests_due: u64,
    /// The same for tokens.
    pub tokens_due: u64,
    /// Requests under way.
    pub under_way: u32,
}

impl Row {
    fn is_idle(&self, now: u64) -> bool {
        self.under_way == 0 && self.requests_due <= now && self.tokens_due <= now
    }
}

type Shard = Mutex<HashMap<Box<str>, Row>>;

pub(super) struct Table {
    shards: Vec<Shard>,
    hasher: RandomState,
}

impl Default for Table {
    fn default() -> Self {
        Table { shards: (0..SHARDS).map(|_| Shard::default()).collect(), hasher: RandomState::new() }
    }
}

impl Table {
    /// Acts on the row of this name.
    pub(super) fn with<T>(&self, name: &str, now: u64, act: impl FnOnce(&mut Row) -> T) -> T {
        let at = usize::try_from(self.hasher.hash_one(name) % SHARDS as u64).unwrap_or(0);
        let Some(shard) = self.shards.get(at) else { return act(&mut Row::default()) };
        let mut rows = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = rows.get_mut(name) {
            return act(row);
        }
        if rows.len() >= SHARD_ROWS_MAX {
            make_room(&mut rows, now);
        }
        act(rows.entry(name.into()).or_default())
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}

/// Idle rows go. Where there is none, the subject that has used least of its limits is forgotten: a flood of new ones
/// must neither fill the memory nor lock everybody else out. Of those under way none is lost, unless all are.
fn make_room(rows: &mut HashMap<Box<str>, Row>, now: u64) {
    rows.retain(|_, row| !row.is_idle(now));
    if rows.len() < SHARD_ROWS_MAX {
        return;
    }
    let least = rows.iter().min_by_key(|(_, r)| (r.under_way, r.requests_due.max(r.tokens_due)));
    if let Some(name) = least.map(|(name, _)| name.clone()) {
        rows.remove(&name);
    }
}
