//! The memory store: bounded by bytes, sharded, S3-FIFO, bodies shared by reference.
//!
//! Everything that takes memory counts against the bound: bodies, headers, keys, book-keeping, and objects still being
//! filled. A shard's lock is held for pointer work only; bodies are copied once, when filled, and freed outside.

use super::fill::{Fill, Follower, cut_out, pack};
use super::object::Object;
use super::shard::{Counters, Lookup, Shard};
use super::{CHUNK_BYTES, Found, Head, Purge, Reader, Slot, Store, StoreError, StoreStats, Target, Writer};
use crate::base::clock::Clock;
use crate::cache::key::{Key, group_of};
use crate::cache::vary;
use bytes::Bytes;
use http::HeaderMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

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

#[derive(Debug)]
struct Inner {
    /// One cell apart from the others, so that there always is one.
    first: Cell,
    rest: Vec<Cell>,
    limits: Limits,
    clock: Clock,
    used: AtomicU64,
    filling: AtomicU64,
    fill_ids: AtomicU64,
    hand: AtomicU64,
}

#[derive(Debug, Default)]
struct Cell {
    shard: Mutex<Shard>,
    fast_hits: AtomicU64,
}

/// Locks that requests spread over.
const SHARDS: u64 = 32;

impl MemoryStore {
    /// An empty store. An object may never take more than the whole of it.
    pub fn new(limits: Limits, clock: Clock) -> Self {
        let object_bytes_max = limits.object_bytes_max.min(limits.capacity_bytes);
        let inner = Inner {
            first: Cell::default(),
            rest: (1..SHARDS).map(|_| Cell::default()).collect(),
            limits: Limits { object_bytes_max, ..limits },
            clock,
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
        self.inner.cell(primary.group()).fast_hits.fetch_add(1, Ordering::Relaxed);
        Some(object)
    }
}

impl Inner {
    fn cell(&self, group: u64) -> &Cell {
        let at = usize::try_from(group % SHARDS).unwrap_or(0);
        self.rest.get(at).unwrap_or(&self.first)
    }

    fn shard(&self, group: u64) -> MutexGuard<'_, Shard> {
        // Nothing panics under the lock, and its data would still be whole if it did.
        self.cell(group).shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peek_whole(&self, slot: &Slot<'_>) -> Option<Arc<Object>> {
        match self.shard(slot.group()).peek(slot)? {
            Lookup::Whole(object) => Some(object),
            Lookup::Filling(_) => None,
        }
    }

    /// Counts bytes of a fill; `false` when there is no room even after evicting all that can be.
    fn charge(&self, bytes: u64) -> bool {
        self.filling.fetch_add(bytes, Ordering::Relaxed);
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.make_room()
    }

    fn refund(&self, bytes: u64) {
        self.filling.fetch_sub(bytes, Ordering::Relaxed);
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn over(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.limits.capacity_bytes
    }

    /// Evicts round the shards, one object from each in turn, until the bound holds.
    fn make_room(&self) -> bool {
        let mut empty = 0;
        while self.over() && empty < SHARDS {
            let victim = self.shard(self.hand.fetch_add(1, Ordering::Relaxed)).evict();
            empty = if victim.is_some() { 0 } else { empty + 1 };
            self.forget(victim);
        }
        !self.over()
    }

    /// Takes objects off the count and frees them; called without a lock.
    fn forget(&self, objects: impl IntoIterator<Item = Arc<Object>>) {
        for object in objects {
            self.used.fetch_sub(object.cost(), Ordering::Relaxed);
        }
    }

    /// Exchanges an object for a changed one of maybe another cost.
    fn swap(&self, group: u64, old: &Arc<Object>, new: Arc<Object>) -> bool {
        if !self.shard(group).swap(group, old, &new) {
            return false;
        }
        self.used.fetch_add(new.cost(), Ordering::Relaxed);
        self.used.fetch_sub(old.cost(), Ordering::Relaxed);
        self.make_room();
        true
    }
}

impl Store for MemoryStore {
    type Reader = MemoryReader;
    type Writer = MemoryWriter;

    async fn find(&self, slot: &Slot<'_>) -> Result<Option<Found<MemoryReader>>, StoreError> {
        let found = self.inner.shard(slot.group()).find(slot);
        Ok(found.map(|lookup| match lookup {
            Lookup::Filling(fill) => following(fill),
            Lookup::Whole(object) => Found {
                head: Arc::clone(object.head()),
                primary: slot.variance.is_none(),
                body: MemoryReader { source: Source::Whole(Whole { object, at: 0, end: u64::MAX }), unyielded: 0 },
            },
        }))
    }

    async fn begin(&self, slot: &Slot<'_>, head: Head) -> Result<MemoryWriter, StoreError> {
        let limits = &self.inner.limits;
        if head.length.is_some_and(|l| l > limits.object_bytes_max) {
            return Err(StoreError::TooLarge);
        }
        let charged = Object::cost_of(&head, slot.key, 0);
        let expected = head.length.unwrap_or(0).saturating_add(charged);
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
        Ok(MemoryWriter {
            inner: Arc::clone(&self.inner),
            fill,
            tail: Vec::new(),
            tail_bytes: 0,
            charged,
            kept: true,
            closed: false,
        })
    }

    async fn follow(&self, slot: &Slot<'_>, id: u64) -> Result<Option<Found<MemoryReader>>, StoreError> {
        let fill = self.inner.shard(slot.group()).fill(slot.group(), id);
        Ok(fill.map(following))
    }

    async fn refresh(&self, slot: &Slot<'_>, head: Head) -> Result<bool, StoreError> {
        let Some(old) = self.inner.shard(slot.group()).resident(slot) else { return Ok(false) };
        let new = Arc::new(old.refreshed(head));
        Ok(self.inner.swap(slot.group(), &old, new))
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
                    let stale = Arc::new(object.refreshed(object.head().expired(now)));
                    self.inner.swap(group, object, stale);
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
        for shard in 0..SHARDS {
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

fn following(fill: Arc<Fill>) -> Found<MemoryReader> {
    Found {
        head: Arc::clone(fill.head()),
        primary: fill.variance().is_none(),
        body: MemoryReader { source: Source::Filling(Follower::new(fill)), unyielded: 0 },
    }
}

/// Reads a whole object or follows a fill.
#[derive(Debug)]
pub struct MemoryReader {
    source: Source,
    unyielded: usize,
}

#[derive(Debug)]
enum Source {
    Whole(Whole),
    Filling(Follower),
}

#[derive(Debug)]
struct Whole {
    object: Arc<Object>,
    at: u64,
    end: u64,
}

impl Whole {
    fn next(&mut self) -> Option<Bytes> {
        let stop = self.end.min(self.object.body_bytes());
        let index = usize::try_from(self.at / CHUNK_BYTES as u64).ok()?;
        let chunk = self.object.chunks().get(index)?;
        let piece = cut_out(chunk, self.at % CHUNK_BYTES as u64, stop.checked_sub(self.at).filter(|n| *n > 0)?)?;
        self.at += piece.len() as u64;
        Some(piece)
    }
}

impl Reader for MemoryReader {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.unyielded >= CHUNK_BYTES {
            // One large download must not keep a worker from everybody else.
            self.unyielded = 0;
            tokio::task::yield_now().await;
        }
        let piece = match &mut self.source {
            Source::Whole(whole) => Ok(whole.next()),
            Source::Filling(follower) => follower.next().await,
        };
        self.unyielded += piece.as_ref().ok().and_then(Option::as_ref).map_or(0, Bytes::len);
        piece
    }

    fn seek(&mut self, start: u64, end: Option<u64>) -> Result<(), StoreError> {
        match &mut self.source {
            Source::Whole(w) if start >= w.object.body_bytes() => Err(StoreError::Range),
            Source::Whole(w) => {
                (w.at, w.end) = (start, end.unwrap_or(u64::MAX));
                Ok(())
            }
            Source::Filling(f) => f.seek(start, end),
        }
    }

    fn length(&self) -> Option<u64> {
        match &self.source {
            Source::Whole(w) => Some(w.object.body_bytes()),
            Source::Filling(f) => f.length(),
        }
    }
}

/// Fills an object.
#[derive(Debug)]
pub struct MemoryWriter {
    inner: Arc<Inner>,
    fill: Arc<Fill>,
    tail: Vec<Bytes>,
    tail_bytes: usize,
    charged: u64,
    kept: bool,
    closed: bool,
}

impl MemoryWriter {
    /// The object will not be stored: it grew too large, or there is no room. Those who read it go on to its end.
    fn pass_on(&mut self) {
        self.kept = false;
        self.inner.shard(group_of(self.fill.hash())).remove_fill(&self.fill);
        self.fill.pass_on();
        self.inner.refund(std::mem::take(&mut self.charged));
    }

    /// Turns the tail into full pieces; the copying happens outside every lock.
    fn settle(&mut self) {
        let (chunks, rest) = pack(&self.tail);
        self.tail = rest.iter().cloned().collect();
        self.tail_bytes = rest.as_ref().map_or(0, Bytes::len);
        self.fill.settle(chunks, rest);
    }
}

/// A body that is only passed on may run ahead of its slowest reader by this, in bytes, before the writer slows down.
const LAG_FREE_BYTES: u64 = 4 << 20;

/// And never by more than this, in bytes.
const LAG_BYTES_MAX: u64 = 64 << 20;

/// Pingora drives writer and reader from one task, so a writer that waited for its reader would wait for ever. A pause
/// that doubles with each 4 MiB of lag lets a slow client catch up instead.
fn pause(lag: u64) -> Option<Duration> {
    let steps = u32::try_from(lag / LAG_FREE_BYTES).unwrap_or(u32::MAX).min(8);
    (steps > 0).then(|| Duration::from_millis(20 << (steps - 1)))
}

impl Writer for MemoryWriter {
    type Reader = MemoryReader;

    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        if data.is_empty() {
            return Ok(());
        }
        let bytes = data.len();
        let lag = self.fill.push(data.clone());
        self.tail.push(data);
        self.tail_bytes += bytes;
        if self.tail_bytes >= CHUNK_BYTES {
            self.settle();
        }
        if self.kept {
            self.charged += bytes as u64;
            let room = self.inner.charge(bytes as u64);
            if !room || self.fill.written() > self.inner.limits.object_bytes_max {
                self.pass_on();
            }
        }
        if self.kept {
            return Ok(());
        }
        match lag {
            // Nobody reads it and it is not kept: stop fetching.
            None => Err(StoreError::TooLarge),
            Some(lag) if lag > LAG_BYTES_MAX => Err(StoreError::TooLarge),
            Some(lag) => {
                if let Some(pause) = pause(lag) {
                    tokio::time::sleep(pause).await;
                }
                Ok(())
            }
        }
    }

    async fn finish(mut self) -> Result<u64, StoreError> {
        let written = self.fill.written();
        if self.fill.head().length.is_some_and(|l| l != written) {
            // Dropping `self` cuts the readers off.
            return Err(StoreError::Cut);
        }
        self.settle();
        self.closed = true;
        let chunks = self.fill.close(self.tail.pop());
        if !self.kept {
            return Ok(0);
        }
        let head = Head::clone(self.fill.head());
        let object = Arc::new(Object::new(head, Arc::clone(self.fill.key()), chunks));
        let group = group_of(self.fill.hash());
        let out = {
            let mut shard = self.inner.shard(group);
            // A purge meanwhile has taken it off the books: its content may be from before.
            shard.remove_fill(&self.fill).then(|| shard.store(&self.fill, Arc::clone(&object)))
        };
        self.inner.refund(std::mem::take(&mut self.charged));
        let Some(out) = out else { return Ok(0) };
        self.inner.used.fetch_add(object.cost(), Ordering::Relaxed);
        self.inner.forget(out);
        self.inner.make_room();
        Ok(object.cost())
    }

    fn id(&self) -> u64 {
        self.fill.id()
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        if !self.closed {
            self.fill.cut();
            self.inner.shard(group_of(self.fill.hash())).remove_fill(&self.fill);
            self.inner.refund(self.charged);
        }
    }
}
