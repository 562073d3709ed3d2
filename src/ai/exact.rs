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
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that an entry takes beside its body (key, names, bookkeeping).
const ENTRY_OVERHEAD_BYTES: usize = 512;
/// Purges that are remembered.
const RULES_MAX: usize = 1024;

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

/// Where the cache wants an answer.
pub struct Place {
    /// The request's key.
    pub key: Key,
    /// The cache.
    pub cache: Arc<ExactCache>,
    /// How long it may be served, if not for the cache's own time.
    pub ttl: Option<Duration>,
    /// The words by which it can be purged.
    pub tags: Arc<[String]>,
}

impl Place {
    /// Stores an answer whose provider was asked at `asked`, on the gateway's clock. Nothing is stored when one of its
    /// tags was purged since.
    pub fn put(self, stored: Arc<Stored>, asked: Duration) -> bool {
        let Place { key, cache, ttl, tags } = self;
        let _order = (!tags.is_empty()).then(|| {
            let book = cache.purged.lock().unwrap_or_else(PoisonError::into_inner);
            (book.since(&tags, asked), book)
        });
        if matches!(&_order, Some((true, _))) {
            return false;
        }
        cache.entries.insert(key, Entry { stored, ttl: ttl.unwrap_or(cache.ttl), tags });
        true
    }
}

#[derive(Clone)]
struct Entry {
    stored: Arc<Stored>,
    ttl: Duration,
    tags: Arc<[String]>,
}

/// Purges of late, against answers that were under way.
#[derive(Default)]
struct Purged {
    rules: VecDeque<(String, Duration)>,
    /// Rules up to this time are forgotten: whatever has a tag and was asked for before may be concerned.
    forgotten: Option<Duration>,
}

impl Purged {
    fn add(&mut self, tag: &str, now: Duration) {
        self.rules.retain(|(known, _)| known != tag);
        if self.rules.len() >= RULES_MAX {
            self.forgotten = self.rules.pop_front().map(|(_, at)| at);
        }
        self.rules.push_back((tag.to_owned(), now));
    }

    fn since(&self, tags: &[String], asked: Duration) -> bool {
        self.forgotten.is_some_and(|at| at >= asked)
            || self.rules.iter().any(|(tag, at)| *at >= asked && tags.contains(tag))
    }
}

/// The cache. It outlives reloads.
pub struct ExactCache {
    entries: Cache<Key, Entry>,
    clock: Clock,
    ttl: Duration,
    purged: Mutex<Purged>,
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
        ExactCache { entries, clock, ttl: config.ttl.0, purged: Mutex::default() }
    }

    /// A fresh answer with its age.
    pub fn get(&self, key: &Key) -> Option<(Arc<Stored>, Duration)> {
        let entry = self.entries.get(key)?;
        let age = self.clock.elapsed().saturating_sub(entry.stored.at);
        (age < entry.ttl).then_some((entry.stored, age))
    }

    /// Stores an answer for `ttl`, or for the cache's own time.
    pub fn put(&self, key: Key, stored: Arc<Stored>, ttl: Option<Duration>) {
        self.entries.insert(key, Entry { stored, ttl: ttl.unwrap_or(self.ttl), tags: Arc::default() });
    }

    /// Forgets the answers with this tag, also those that are under way. Gives how many there were. It looks at every
    /// entry: for operators, not for requests.
    pub fn purge_tag(&self, tag: &str) -> u64 {
        self.purged.lock().unwrap_or_else(PoisonError::into_inner).add(tag, self.clock.elapsed());
        let mut gone = 0;
        for (key, entry) in &self.entries {
            if entry.tags.iter().any(|t| t == tag) {
                self.entries.invalidate(&*key);
                gone += 1;
            }
        }
        gone
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
