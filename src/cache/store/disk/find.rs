//! Look-ups on disk: read, verify, and only then believe.

use super::super::{Head, Reader, Slot, StoreError};
use super::index::{Entry, SlotId};
use super::large::piece;
use super::record::{self, Bad, FileBody, Record, WHOLE_BYTES_MAX};
use super::segment::Io;
use super::{DiskStore, Inner, Job};
use bytes::{Bytes, BytesMut};
use pingora_cache::key::HashBinary;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An object found on disk.
#[derive(Debug)]
pub struct Loaded {
    /// Which record it is.
    pub entry: Entry,
    /// The full key.
    pub key: Bytes,
    /// Header and times.
    pub head: Head,
    /// The body.
    pub body: LoadedBody,
}

/// Its body.
#[derive(Debug)]
pub enum LoadedBody {
    /// Read and verified.
    Whole(Bytes),
    /// To be read piece by piece.
    File(DiskReader),
}

/// What a refresh needs to know of an object on disk.
#[derive(Debug)]
pub struct OnDisk {
    /// The full key.
    pub key: Bytes,
    /// Its variant, whichever slot it is in.
    pub variance: Option<HashBinary>,
    /// The body's length.
    pub body_bytes: u64,
    /// The purge generation it was fetched under.
    pub generation: u64,
}

/// Bodies up to this length are verified whole before the first byte is sent, in bytes. For a longer one that would be a
/// wait that a client notices: there each block is verified before it is sent, and nothing else.
const CHECKED_BYTES_MAX: u64 = 64 << 20;

/// Bodies up to this length are verified where they are asked for.
const INLINE_CHECK_BYTES_MAX: u64 = 2 << 20;

/// A body verified not longer ago than that is not verified whole again: the clock's unit is 8 s, so this is about 64 s.
const CHECKED_UNITS: u16 = 8;

impl Inner {
    /// Units of 8 s since the start, never 0.
    fn units(&self) -> u16 {
        let units = self.clock.elapsed().as_secs() / 8 % u64::from(u16::MAX);
        u16::try_from(units).unwrap_or(0) + 1
    }

    fn load(&self, entry: &Entry, io: Io) -> Result<(Record, Option<Bytes>), Bad> {
        let record = record::read(&self.segments, entry, io)?;
        if record.body.bytes <= WHOLE_BYTES_MAX {
            let body = record.whole(io)?;
            return Ok((record, Some(body)));
        }
        let recent = entry.verified > 0 && self.units().wrapping_sub(entry.verified) <= CHECKED_UNITS;
        if !recent && record.body.bytes <= CHECKED_BYTES_MAX {
            if io == Io::Cached && record.body.bytes > INLINE_CHECK_BYTES_MAX {
                // Too long a work for a thread that serves others.
                return Err(Bad::WouldBlock);
            }
            record.body.check(io)?;
            self.index.verified(entry, self.units());
        }
        Ok((record, None))
    }

    /// A record that gave nothing is no longer found.
    fn give_up(&self, entry: &Entry, why: &Bad) {
        if !self.index.remove(entry) {
            return;
        }
        if !matches!(why, Bad::Gone) {
            // Once a purge has been let go of, nobody would know what it was.
            self.queue.push(Job::Kill(vec![*entry]));
        }
        match why {
            // It was removed before the start, or its segment left a moment ago.
            Bad::Gone | Bad::WouldBlock => {}
            Bad::Corrupt(what) => {
                self.counters.corrupt.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    segment = entry.segment,
                    at = entry.at(),
                    what,
                    "a stored object is damaged: it is a miss"
                );
            }
            Bad::Io(error) => {
                self.counters.corrupt.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(segment = entry.segment, at = entry.at(), %error, "a stored object cannot be read: it is a miss");
            }
        }
    }
}

impl DiskStore {
    /// Looks a slot up.
    pub async fn find(&self, slot: &Slot<'_>) -> Option<Loaded> {
        let found = self.look(slot).await;
        let counters = &self.inner.counters;
        let counter = if found.is_some() { &counters.hits } else { &counters.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    async fn look(&self, slot: &Slot<'_>) -> Option<Loaded> {
        let id = SlotId::of(&slot.hash, slot.variance);
        let mut entry = self.inner.index.find(&id)?;
        let mut loaded = self.load(entry).await?;
        if let (Err(Bad::Gone), Some(now)) = (&loaded, self.inner.index.peek(&id).filter(|now| now.seq != entry.seq)) {
            // It was written again, elsewhere, while we looked.
            entry = now;
            loaded = self.load(entry).await?;
        }
        let (record, body) = match loaded {
            Ok(loaded) => loaded,
            Err(why) => {
                self.inner.give_up(&entry, &why);
                return None;
            }
        };
        if !may_be_returned(slot, &record) {
            return None;
        }
        let body = match body {
            Some(bytes) => LoadedBody::Whole(bytes),
            None => LoadedBody::File(DiskReader::new(Arc::clone(&self.inner), entry, record.body)),
        };
        Some(Loaded { entry, key: record.key, head: record.head, body })
    }

    /// From the page cache where it is, else on a thread that may wait; `None` when the runtime ends.
    async fn load(&self, entry: Entry) -> Option<Result<(Record, Option<Bytes>), Bad>> {
        match self.inner.load(&entry, Io::Cached) {
            Err(Bad::WouldBlock) => {
                let inner = Arc::clone(&self.inner);
                tokio::task::spawn_blocking(move || inner.load(&entry, Io::Blocking)).await.ok()
            }
            done => Some(done),
        }
    }

    /// The head of what a slot has, for a refresh.
    pub async fn head(&self, slot: &Slot<'_>) -> Option<OnDisk> {
        let entry = self.inner.index.peek(&SlotId::of(&slot.hash, slot.variance))?;
        let inner = Arc::clone(&self.inner);
        let read = move || record::read_head(&inner.segments, &entry, Io::Blocking);
        let record = tokio::task::spawn_blocking(read).await.ok()?.ok()?;
        let (variance, body_bytes) = (record.header.variance, record.body.bytes);
        let generation = record.head.filed.generation;
        may_be_returned(slot, &record).then_some(OnDisk { key: record.key, variance, body_bytes, generation })
    }
}

/// Every object found on disk passes here before it is returned; `false` makes it a miss. The full key and the variant
/// are compared: the index knows only hashes.
fn may_be_returned(slot: &Slot<'_>, record: &Record) -> bool {
    let same_key = record.header.hash == slot.hash && *record.key == *slot.key;
    same_key && slot.variance.is_none_or(|v| record.header.variance == Some(v))
}

/// Reads a long body from its file, each block verified before any of it is given out.
#[derive(Debug)]
pub struct DiskReader {
    inner: Arc<Inner>,
    entry: Entry,
    body: FileBody,
    at: u64,
    end: u64,
    room: BytesMut,
}

impl DiskReader {
    fn new(inner: Arc<Inner>, entry: Entry, body: FileBody) -> Self {
        DiskReader { inner, entry, body, at: 0, end: u64::MAX, room: BytesMut::new() }
    }
}

impl Reader for DiskReader {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.at >= self.end.min(self.body.bytes) {
            return Ok(None);
        }
        match piece(&self.body, self.at, self.end, &mut self.room).await {
            Ok(bytes) => {
                self.at += bytes.len() as u64;
                // One large download must not keep a worker from everybody else.
                tokio::task::yield_now().await;
                Ok(Some(bytes))
            }
            Err(why) => {
                self.inner.give_up(&self.entry, &why);
                Err(StoreError::Cut)
            }
        }
    }

    fn seek(&mut self, start: u64, end: Option<u64>) -> Result<(), StoreError> {
        if start >= self.body.bytes {
            return Err(StoreError::Range);
        }
        (self.at, self.end) = (start, end.unwrap_or(u64::MAX));
        Ok(())
    }

    fn length(&self) -> Option<u64> {
        Some(self.body.bytes)
    }
}
