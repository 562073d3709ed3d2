//! Both levels as one store: memory in front of disk. Without a disk it is the memory store and nothing more.
//!
//! What is found on disk is taken into memory, by the same rules as anything new, so that a scan of the disk does not
//! push out what is asked for often. Between reading and taking it in, something newer may have come or a purge gone
//! by: after taking it in, the index is asked whether the record still counts, and whoever changes the index looks at
//! memory afterwards. So one of the two sees the other.

use super::disk::{DiskReader, DiskStore, LoadedBody, Place, SlotId};
use super::memory::{Below, Limits, MemoryReader, MemoryStore, MemoryWriter};
use super::shard::Lookup;
use super::{Found, Head, Object, Purge, Reader, Slot, Store, StoreError, StoreStats, Target};
use crate::base::clock::Clock;
use crate::cache::key::Key;
use crate::cache::purge::Book;
use crate::cache::purge::sweep::{Level, Step};
use bytes::Bytes;
use http::HeaderMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

/// See the file's head. Clones share the store.
#[derive(Clone, Debug)]
pub struct TieredStore {
    memory: MemoryStore,
}

/// Bodies longer than this share of the memory level only pass through it on their way to the disk.
const SPILL_SHARE: u64 = 16;
/// And longer than this in any case, in bytes.
const SPILL_BYTES_MAX: u64 = 8 << 20;

impl TieredStore {
    /// An empty memory level that heeds the purges in `book`: those of the disk level, where there is to be one.
    /// `limits.object_bytes_max` may exceed what memory holds: it counts once a disk is attached.
    pub fn new(limits: Limits, clock: Clock, book: Arc<Book>) -> Self {
        let below = Below {
            spill_bytes: (limits.capacity_bytes / SPILL_SHARE).min(SPILL_BYTES_MAX),
            object_bytes_max: limits.object_bytes_max,
            ..Below::default()
        };
        TieredStore { memory: MemoryStore::over(limits, below, clock, book) }
    }

    /// Puts a disk level below the memory.
    pub fn attach(&self, disk: Arc<DiskStore>) {
        self.memory.below().disk.store(Some(disk));
    }

    /// Takes the disk level away: nothing is read from it or written to it any more.
    pub fn detach(&self) {
        self.memory.below().disk.store(None);
    }

    /// The disk level.
    pub fn disk(&self) -> Option<Arc<DiskStore>> {
        self.memory.below().disk.load_full()
    }

    /// The bounds: of memory, and of one body on whichever level takes the longer one.
    pub fn limits(&self) -> Limits {
        let limits = self.memory.limits();
        let below = self.disk().map_or(0, |d| d.object_bytes_max().min(self.memory.below().object_bytes_max));
        Limits { object_bytes_max: limits.object_bytes_max.max(below), ..limits }
    }

    /// Throws everything out of memory; fills in flight go on. For a store that nobody will use any more.
    pub fn clear_memory(&self) {
        self.memory.clear();
    }

    /// The purges that both levels heed.
    pub fn book(&self) -> &Arc<Book> {
        self.memory.book()
    }

    /// Whether anything is stored, or being stored, under the URL of this key.
    pub fn knows(&self, url: &Key) -> bool {
        let below = || self.disk().is_some_and(|d| !d.targets(&Target::Url(*url.hash(), url.url_bytes())).is_empty());
        self.memory.knows(url.hash()) || below()
    }

    /// See [`MemoryStore::weigh`].
    pub fn weigh(&self, key: &Key, object: &Object) -> bool {
        self.memory.weigh(key, object)
    }

    /// The fast path: see [`MemoryStore::peek_fresh`].
    pub fn peek_fresh(&self, key: &Key, request: &HeaderMap, now: SystemTime) -> Option<Arc<Object>> {
        self.memory.peek_fresh(key, request, now)
    }

    async fn find_below(&self, slot: &Slot<'_>) -> Option<Found<TieredReader>> {
        let disk = self.disk()?;
        let loaded = disk.find(slot).await?;
        let Some(checked) = self.book().recheck(&loaded.head.filed, &loaded.key) else {
            disk.forget(&loaded.entry);
            return None;
        };
        let since = checked.stale_since();
        let primary = slot.variance.is_none();
        let bytes = match loaded.body {
            LoadedBody::Whole(bytes) => bytes,
            LoadedBody::File(reader) => {
                let head = Arc::new(since.map_or_else(|| loaded.head.clone(), |since| loaded.head.expired(since)));
                return Some(Found { head, primary, body: TieredReader::Disk(reader) });
            }
        };
        let object = Arc::new(Object::new(loaded.head, (*loaded.key).into(), chunks(&bytes), checked));
        object.offered();
        if self.memory.promote(slot, &object) && !disk.is_current(&loaded.entry) {
            self.memory.demote(slot, &object);
        }
        let head = self.memory.head(&object, since);
        Some(MemoryReader::whole(object, head, primary).map(TieredReader::Memory))
    }

    async fn refresh_below(&self, disk: &DiskStore, slot: &Slot<'_>, mut head: Head) -> bool {
        let Some(stored) = disk.head(slot).await else { return false };
        // As in memory: nothing from before a purge replaces what came after it.
        let Some(checked) = self.book().admit(&head.filed, &stored.key) else { return false };
        if head.filed.generation < stored.generation {
            return false;
        }
        if let Some(since) = checked.stale_since() {
            head = head.expired(since);
        }
        head.state_length(stored.body_bytes);
        let place = Place { hash: slot.hash, variance: stored.variance, primary: slot.variance.is_none() };
        disk.refresh(&place, stored.key, head, None).await
    }
}

/// A body cut into the pieces that memory keeps.
fn chunks(body: &Bytes) -> Vec<Bytes> {
    let step = super::CHUNK_BYTES;
    (0..body.len()).step_by(step).map(|at| body.slice(at..body.len().min(at + step))).collect()
}

impl<R> Found<R> {
    fn map<T>(self, of: impl FnOnce(R) -> T) -> Found<T> {
        Found { head: self.head, primary: self.primary, body: of(self.body) }
    }
}

impl Store for TieredStore {
    type Reader = TieredReader;
    type Writer = TieredWriter;

    async fn find(&self, slot: &Slot<'_>) -> Result<Option<Found<TieredReader>>, StoreError> {
        let found = match self.memory.look(slot) {
            Some(Lookup::Filling(fill)) => MemoryReader::following(fill),
            Some(Lookup::Whole(object, since)) => {
                if !object.is_offered() {
                    self.memory.offer(slot, &object);
                }
                let head = self.memory.head(&object, since);
                MemoryReader::whole(object, head, slot.variance.is_none())
            }
            None => return Ok(self.find_below(slot).await),
        };
        Ok(Some(found.map(TieredReader::Memory)))
    }

    async fn begin(&self, slot: &Slot<'_>, head: Head) -> Result<TieredWriter, StoreError> {
        Ok(TieredWriter(self.memory.begin(slot, head).await?))
    }

    async fn follow(&self, slot: &Slot<'_>, id: u64) -> Result<Option<Found<TieredReader>>, StoreError> {
        let found = self.memory.follow(slot, id).await?;
        Ok(found.map(|f| f.map(TieredReader::Memory)))
    }

    async fn refresh(&self, slot: &Slot<'_>, head: Head) -> Result<bool, StoreError> {
        let disk = self.disk();
        let Some(object) = self.memory.refreshed(slot, head.clone()) else {
            let Some(disk) = disk else { return Ok(false) };
            return Ok(self.refresh_below(&disk, slot, head).await);
        };
        if let Some(disk) = disk {
            let place = Place::of(slot, object.head());
            let key = Bytes::copy_from_slice(slot.key);
            let head = Head::clone(&self.memory.head(&object, object.checked().stale_since()));
            // Whether the disk has it or not, memory does.
            disk.refresh(&place, key, head, Some(object)).await;
        }
        Ok(true)
    }

    async fn purge(&self, target: &Target<'_>, how: Purge) -> Result<u64, StoreError> {
        let Some(disk) = self.disk() else { return self.memory.purge(target, how).await };
        let mut concerned: HashSet<SlotId> = disk.targets(target).into_iter().collect();
        concerned.extend(self.memory.list(target).iter().map(|(hash, variance)| SlotId::of(hash, *variance)));
        let gone = match how {
            Purge::Hard => disk.purge_index(target),
            Purge::Soft => Vec::new(),
        };
        self.memory.purge(target, how).await?;
        let late = disk.purge(target, how, gone).await;
        if !late.is_empty() {
            // Found on disk and taken into memory between the two.
            self.memory.purge(target, how).await?;
        }
        concerned.extend(late);
        Ok(concerned.len() as u64)
    }

    /// Figures of the memory level; the disk has [`DiskStore::stats`].
    fn stats(&self) -> StoreStats {
        self.memory.stats()
    }
}

/// Above this bit of a place in a sweep stands the disk's part.
const DISK_BIT: u64 = 1 << 63;

/// Memory first: what it lets go of meanwhile is on disk, or handed in there, before the disk is looked at.
impl Level for TieredStore {
    async fn step(&self, from: u64, objects_max: usize) -> Step {
        if from & DISK_BIT == 0 {
            let step = self.memory.step(from, objects_max).await;
            return Step { next: Some(step.next.unwrap_or(DISK_BIT)), ..step };
        }
        let Some(disk) = self.disk() else { return Step::default() };
        let mut sum = Step { next: Some(from), ..Step::default() };
        while let Some(at) = sum.next
            && sum.seen < objects_max as u64
        {
            let step = disk.sweep(usize::try_from(at & !DISK_BIT).unwrap_or(usize::MAX)).await;
            sum.next = step.next.map(|part| part | DISK_BIT);
            sum.seen += step.seen;
            sum.reclaimed += step.reclaimed;
            if step.seen == 0 {
                break;
            }
        }
        sum
    }

    fn oldest_fill(&self) -> Option<u64> {
        self.memory.oldest_fill()
    }
}

/// Reads from memory, a fill or the disk.
#[derive(Debug)]
pub enum TieredReader {
    /// A whole object or a fill.
    Memory(MemoryReader),
    /// A long body in a file.
    Disk(DiskReader),
}

impl Reader for TieredReader {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        match self {
            TieredReader::Memory(r) => r.next().await,
            TieredReader::Disk(r) => r.next().await,
        }
    }

    fn seek(&mut self, start: u64, end: Option<u64>) -> Result<(), StoreError> {
        match self {
            TieredReader::Memory(r) => r.seek(start, end),
            TieredReader::Disk(r) => r.seek(start, end),
        }
    }

    fn length(&self) -> Option<u64> {
        match self {
            TieredReader::Memory(r) => r.length(),
            TieredReader::Disk(r) => r.length(),
        }
    }
}

/// Fills an object on whichever level takes it.
#[derive(Debug)]
pub struct TieredWriter(MemoryWriter);

impl super::Writer for TieredWriter {
    type Reader = TieredReader;

    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        self.0.write(data).await
    }

    async fn finish(self) -> Result<u64, StoreError> {
        self.0.finish().await
    }

    fn id(&self) -> u64 {
        self.0.id()
    }
}
