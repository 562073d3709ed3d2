//! The memory store: bounded by bytes, sharded, S3-FIFO, bodies shared by reference.
//!
//! Everything that takes memory counts against the bound: bodies, headers, keys, book-keeping, and objects still being
//! filled. A shard's lock is held for pointer work only; bodies are copied once, when filled, and freed outside.

use super::disk::{DiskStore, Place};
pub(super) mod over;
mod sweep;

use super::fill::Fill;
use super::object::Object;
pub use super::reader::MemoryReader;
use super::shard::{Counters, Gone, Lookup, Shard};
pub use super::writer::MemoryWriter;
use super::{Found, Head, Purge, Slot, Store, StoreError, StoreStats, Target};
use crate::base::clock::Clock;
use crate::cache::key::{Key, group_of};
use crate::cache::purge::{Book, Gate};
use crate::cache::vary;
use arc_swap::ArcSwapOption;
use http::HeaderMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Bounds of a memory store.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Everything together, in bytes.
    pub capacity_bytes: u64,
    /// One body, in bytes.
    pub object_bytes_max: u64,
}

/// See the file's head. Clones share the store.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

/// What clones and writers share.
#[derive(Debug)]
pub(super) struct Inner {
    /// One cell apart from the others, so that there always is one.
    first: Cell,
    rest: Vec<Cell>,
    pub(super) limits: Limits,
    pub(super) below: Below,
    clock: Clock,
    pub(super) book: Arc<Book>,
    used: AtomicU64,
    filling: AtomicU64,
    fill_ids: AtomicU64,
    hand: AtomicU64,
}

/// The level below this one, if there is one.
#[derive(Debug, Default)]
pub(super) struct Below {
    /// The disk.
    pub disk: ArcSwapOption<DiskStore>,
    /// Bodies longer than that go there without staying in memory, in bytes.
    pub spill_bytes: u64,
    /// One body there, in bytes.
    pub object_bytes_max: u64,
}

#[derive(Debug, Default)]
struct Cell {
    shard: Mutex<Shard>,
    fast_hits: AtomicU64,
}

/// At most so many locks that requests spread over.
const SHARDS_MAX: u64 = 32;

/// A shard has at least this much to hold, in bytes: with a handful of objects each, none could tell the used from the
/// unused.
const SHARD_BYTES_MIN: u64 = 16 << 20;

impl MemoryStore {
    /// An empty store with purges of its own. An object may never take more than the whole of it.
    pub fn new(limits: Limits, clock: Clock) -> Self {
        let book = Arc::new(Book::new(clock.clone()));
        MemoryStore::with_book(limits, clock, book)
    }

    /// An empty store that heeds the purges in `book`, which other levels may share.
    pub fn with_book(limits: Limits, clock: Clock, book: Arc<Book>) -> Self {
        MemoryStore::over(limits, Below { spill_bytes: u64::MAX, ..Below::default() }, clock, book)
    }

    /// One over another level.
    pub(super) fn over(limits: Limits, below: Below, clock: Clock, book: Arc<Book>) -> Self {
        let object_bytes_max = limits.object_bytes_max.min(limits.capacity_bytes);
        let shards = (limits.capacity_bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        let inner = Inner {
            first: Cell::default(),
            rest: (1..shards).map(|_| Cell::default()).collect(),
            limits: Limits { object_bytes_max, ..limits },
            below,
            clock,
            book,
            used: AtomicU64::new(0),
            filling: AtomicU64::new(0),
            fill_ids: AtomicU64::new(0),
            hand: AtomicU64::new(0),
        };
        MemoryStore { inner: Arc::new(inner) }
    }

    /// The store's bounds.
    pub fn limits(&self) -> Limits {
        self.inner.limits
    }

    /// The purges it heeds.
    pub fn book(&self) -> &Arc<Book> {
        &self.inner.book
    }

    /// Counts the coded forms that an object has got since it was stored; `false` when it is gone, and they with it.
    pub fn weigh(&self, key: &Key, object: &Object) -> bool {
        self.inner.change(group_of(key.hash()), object, Object::weighed).is_some()
    }

    /// Throws everything out; fills in flight go on. For a store that nobody will use any more.
    pub fn clear(&self) {
        for shard in 0..self.inner.shards() {
            loop {
                // The lock is not held while a body is freed.
                let gone = self.inner.shard(shard).evict();
                let Some(gone) = gone else { break };
                gone.object.set_void();
                self.inner.forget([gone.object]);
            }
        }
    }

    /// The fast path: the whole, fresh object for this request, or `None` whenever anything else is needed (nothing
    /// stored, stale, still being filled, another key of the same hash). One lock and one `Arc` clone where nothing
    /// varies; with `Vary` the variant is worked out outside the lock, and a second look may follow.
    pub fn peek_fresh(&self, key: &Key, request: &HeaderMap, now: SystemTime) -> Option<Arc<Object>> {
        let primary = Slot { hash: *key.hash(), variance: None, key: key.bytes() };
        let first = self.inner.peek_whole(&primary)?;
        let object = match vary::variance(&first.head().vary, request) {
            None => first,
            variance if first.head().variance == variance => first,
            variance => {
                let other = self.inner.peek_whole(&Slot { variance, ..primary })?;
                // The tombstone rule: a variant older than the line of its primary is void.
                (other.head().created >= first.head().provenance && other.head().variance == variance)
                    .then_some(other)?
            }
        };
        if object.head().fresh_until < now {
            return None;
        }
        object.touch();
        if !object.is_offered() {
            self.offer(&primary, &object);
        }
        self.inner.cell(primary.group()).fast_hits.fetch_add(1, Ordering::Relaxed);
        Some(object)
    }
}

impl Inner {
    /// The longest body that is kept in any way, in bytes.
    pub(super) fn object_bytes_max(&self) -> u64 {
        let below = if self.below.disk.load().is_some() { self.below.object_bytes_max } else { 0 };
        below.max(self.limits.object_bytes_max)
    }

    /// Evicts one object. The level below is told under the lock: a purge finds it here or there, never nowhere.
    fn evict_one(&self) -> Option<Gone> {
        let mut shard = self.shard(self.hand.fetch_add(1, Ordering::Relaxed));
        let gone = shard.evict()?;
        if let Some(disk) = self.below.disk.load().as_ref() {
            let variance = gone.variance.or(gone.object.head().variance);
            disk.evicted(&Place { hash: gone.hash, variance, primary: gone.variance.is_none() }, &gone.object);
        }
        Some(gone)
    }

    /// Counts a whole object in.
    pub(super) fn count(&self, object: &Object) {
        self.used.fetch_add(object.cost(), Ordering::Relaxed);
        self.make_room();
    }

    fn shards(&self) -> u64 {
        self.rest.len() as u64 + 1
    }

    fn cell(&self, group: u64) -> &Cell {
        let at = usize::try_from(group % self.shards()).unwrap_or(0);
        self.rest.get(at).unwrap_or(&self.first)
    }

    pub(super) fn shard(&self, group: u64) -> MutexGuard<'_, Shard> {
        // Nothing panics under the lock, and its data would still be whole if it did.
        self.cell(group).shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peek_whole(&self, slot: &Slot<'_>) -> Option<Arc<Object>> {
        let found = self.shard(slot.group()).peek(slot, &self.book)?;
        let Lookup::Whole(object, _) = found else { return None };
        (self.book.check(object.head(), object.key(), object.checked()) == Gate::Live).then_some(object)
    }

    /// Counts bytes of a fill; `false` when there is no room even after evicting all that can be.
    pub(super) fn charge(&self, bytes: u64) -> bool {
        self.filling.fetch_add(bytes, Ordering::Relaxed);
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.make_room()
    }

    pub(super) fn refund(&self, bytes: u64) {
        self.filling.fetch_sub(bytes, Ordering::Relaxed);
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn over(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.limits.capacity_bytes
    }

    /// Evicts round the shards, one object from each in turn, until the bound holds.
    pub(super) fn make_room(&self) -> bool {
        let mut empty = 0;
        while self.over() && empty < self.shards() {
            let victim = self.evict_one();
            empty = if victim.is_some() { 0 } else { empty + 1 };
            self.forget(victim.map(|gone| gone.object));
        }
        !self.over()
    }

    /// Takes objects off the count and frees them; called without a lock.
    pub(super) fn forget(&self, objects: impl IntoIterator<Item = Arc<Object>>) {
        for object in objects {
            self.used.fetch_sub(object.cost(), Ordering::Relaxed);
        }
    }

    /// Takes void objects off the count and frees them; called without a lock.
    fn reclaim(&self, void: Vec<Arc<Object>>) {
        self.book.count_reclaimed(void.len() as u64);
        self.forget(void);
    }

    /// Exchanges an object, or what it has become under another header meanwhile, for a changed one of maybe another cost.
    /// Gives the old and the new.
    fn change(
        &self,
        group: u64,
        object: &Object,
        change: impl FnOnce(&Object) -> Object,
    ) -> Option<(Arc<Object>, Arc<Object>)> {
        let (old, new) = self.shard(group).change(group, object, change)?;
        self.used.fetch_add(new.cost(), Ordering::Relaxed);
        self.used.fetch_sub(old.cost(), Ordering::Relaxed);
        self.make_room();
        Some((old, new))
    }
}

impl Store for MemoryStore {
    type Reader = MemoryReader;
    type Writer = MemoryWriter;

    async fn find(&self, slot: &Slot<'_>) -> Result<Option<Found<MemoryReader>>, StoreError> {
        Ok(self.look(slot).map(|lookup| match lookup {
            Lookup::Filling(fill) => MemoryReader::following(fill),
            Lookup::Whole(object, since) => {
                let head = self.head(&object, since);
                MemoryReader::whole(object, head, slot.variance.is_none())
            }
        }))
    }

    async fn begin(&self, slot: &Slot<'_>, head: Head) -> Result<MemoryWriter, StoreError> {
        let limits = &self.inner.limits;
        if head.length.is_some_and(|l| l > self.inner.object_bytes_max()) {
            return Err(StoreError::TooLarge);
        }
        let charged = Object::cost_of(&head, slot.key, 0);
        // A large body only passes through.
        let stays = head.length.unwrap_or(0).min(self.inner.below.spill_bytes);
        let expected = stays.saturating_add(charged);
        if self.inner.filling.load(Ordering::Relaxed).saturating_add(expected) > limits.capacity_bytes {
            return Err(StoreError::NoRoom);
        }
        if !self.inner.charge(charged) {
            self.inner.refund(charged);
            return Err(StoreError::NoRoom);
        }
        let id = self.inner.fill_ids.fetch_add(1, Ordering::Relaxed);
        let fill = Arc::new(Fill::new(id, slot, head));
        self.inner.shard(slot.group()).add_fill(Arc::clone(&fill));
        Ok(MemoryWriter::new(Arc::clone(&self.inner), fill, charged))
    }

    async fn follow(&self, slot: &Slot<'_>, id: u64) -> Result<Option<Found<MemoryReader>>, StoreError> {
        let fill = self.inner.shard(slot.group()).fill(slot.group(), id);
        Ok(fill.map(MemoryReader::following))
    }

    async fn refresh(&self, slot: &Slot<'_>, head: Head) -> Result<bool, StoreError> {
        Ok(self.refreshed(slot, head).is_some())
    }

    async fn purge(&self, target: &Target<'_>, how: Purge) -> Result<u64, StoreError> {
        let group = target.group();
        let (objects, _fills) = self.inner.shard(group).targets(target);
        let now = self.inner.clock.now();
        for object in &objects {
            match how {
                Purge::Hard => {
                    let gone = self.inner.shard(group).purge(group, object);
                    self.inner.forget(gone);
                }
                Purge::Soft => {
                    let head = object.head().expired(now);
                    let Some(checked) = self.inner.book.admit(&head.filed, object.key()) else { continue };
                    let changed = self.inner.change(group, object, |o| o.refreshed(head, checked));
                    changed.iter().for_each(|(old, _)| old.set_void());
                }
            }
        }
        let found = objects.len() as u64;
        self.inner.shard(group).counters.purged += found;
        Ok(found)
    }

    fn stats(&self) -> StoreStats {
        let mut stats = StoreStats {
            bytes: self.inner.used.load(Ordering::Relaxed),
            filling_bytes: self.inner.filling.load(Ordering::Relaxed),
            ..StoreStats::default()
        };
        for shard in 0..self.inner.shards() {
            stats.hits += self.inner.cell(shard).fast_hits.load(Ordering::Relaxed);
            let shard = self.inner.shard(shard);
            let Counters { hits, misses, stored, evictions, purged } = shard.counters;
            stats.objects += shard.len() as u64;
            stats.hits += hits;
            stats.misses += misses;
            stats.stored += stored;
            stats.evictions += evictions;
            stats.purged += purged;
        }
        stats
    }
}
