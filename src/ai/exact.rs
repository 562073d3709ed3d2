//! The exact cache: complete answers by canonical request key, bounded by bytes, each with its own time to live.

use super::key::Key;
use super::usage::Usage;
use crate::base::clock::Clock;
use crate::base::ids::hex;
use crate::base::units::{Money, Size};
use crate::config::ai::Exact;
use bytes::Bytes;
use moka::Expiry;
use moka::sync::Cache;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that an entry takes beside its body (key, names, bookkeeping).
const ENTRY_OVERHEAD_BYTES: usize = 512;

/// A complete answer with what it took to get it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The complete JSON answer.
    pub body: Bytes,
    /// The configured name of the model that gave it.
    pub model: String,
    /// The model's provider.
    pub provider: String,
    /// The tier the model was tried for.
    pub tier: Option<String>,
    /// The tokens it took, where the provider told.
    pub usage: Option<Usage>,
    /// What it cost, where the price is known.
    pub cost: Option<Money>,
    /// Seconds the provider took.
    pub seconds: f64,
    /// When it was complete, on the gateway's clock.
    pub at: Duration,
}

#[derive(Clone)]
struct Entry {
    stored: Arc<Stored>,
    ttl: Duration,
}

/// The cache. It outlives reloads.
pub struct ExactCache {
    entries: Cache<Key, Entry>,
    clock: Clock,
    ttl: Duration,
}

/// Frees an entry's memory when its own time is over.
struct OwnTtl;

impl Expiry<Key, Entry> for OwnTtl {
    fn expire_after_create(&self, _: &Key, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.ttl)
    }
    fn expire_after_update(&self, _: &Key, entry: &Entry, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(entry.ttl)
    }
}

impl ExactCache {
    /// An empty cache.
    pub fn new(config: &Exact, clock: Clock) -> Self {
        let Size(bytes_max) = config.size;
        let weigh = |_: &Key, e: &Entry| u32::try_from(e.stored.body.len() + ENTRY_OVERHEAD_BYTES).unwrap_or(u32::MAX);
        let entries = Cache::builder().max_capacity(bytes_max).weigher(weigh).expire_after(OwnTtl).build();
        ExactCache { entries, clock, ttl: config.ttl.0 }
    }

    /// A fresh answer with its age.
    pub fn get(&self, key: &Key) -> Option<(Arc<Stored>, Duration)> {
        let entry = self.entries.get(key)?;
        let age = self.clock.elapsed().saturating_sub(entry.stored.at);
        (age < entry.ttl).then_some((entry.stored, age))
    }

    /// Stores an answer for `ttl`, or for the cache's own time.
    pub fn put(&self, key: Key, stored: Arc<Stored>, ttl: Option<Duration>) {
        self.entries.insert(key, Entry { stored, ttl: ttl.unwrap_or(self.ttl) });
    }

    /// How long an answer lives unless told otherwise.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Forgets everything.
    pub fn purge(&self) {
        self.entries.invalidate_all();
    }

    /// Entries and bytes held, as of the last housekeeping.
    pub fn size(&self) -> (u64, u64) {
        self.entries.run_pending_tasks();
        (self.entries.entry_count(), self.entries.weighted_size())
    }
}

/// The id of an entry as told to clients and operators.
pub fn entry_id(key: &Key) -> String {
    hex(key.get(..8).unwrap_or_default())
}
