//! Filling an object: in memory, or, where it is large and there is a disk, through memory into a file.

use super::disk::{Commit, DiskStore, Part, Place};
use super::fill::{Fill, pack};
use super::memory::{Inner, MemoryReader};
use super::object::Object;
use super::{CHUNK_BYTES, Head, StoreError, Writer};
use crate::cache::key::group_of;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Fills an object.
#[derive(Debug)]
pub struct MemoryWriter {
    inner: Arc<Inner>,
    fill: Arc<Fill>,
    tail: Vec<Bytes>,
    tail_bytes: usize,
    charged: u64,
    /// Bytes taken off the count because they are in the file only.
    refunded: u64,
    spill: Option<Spill>,
    /// The disk did not take it.
    refused: bool,
    kept: bool,
    closed: bool,
}

/// The way to the disk. The file is `None` only while it is being written to.
#[derive(Debug)]
struct Spill {
    disk: Arc<DiskStore>,
    part: Option<Part>,
}

impl MemoryWriter {
    /// `charged` bytes are on the store's count for it already.
    pub(super) fn new(inner: Arc<Inner>, fill: Arc<Fill>, charged: u64) -> Self {
        let tail = Vec::new();
        let (refused, kept, closed) = (false, true, false);
        MemoryWriter { inner, fill, tail, tail_bytes: 0, charged, refunded: 0, spill: None, refused, kept, closed }
    }

    /// The object will not be stored: it grew too large, or there is no room. Those who read it go on to its end.
    fn pass_on(&mut self) {
        self.kept = false;
        self.inner.shard(group_of(self.fill.hash())).remove_fill(&self.fill);
        self.fill.pass_on();
        self.inner.refund(std::mem::take(&mut self.charged));
    }

    /// Replaces the tail by full pieces and gives them; the copying happens outside every lock.
    fn settle(&mut self) -> Vec<Bytes> {
        let (chunks, rest) = pack(&self.tail);
        self.tail = rest.iter().cloned().collect();
        self.tail_bytes = rest.as_ref().map_or(0, Bytes::len);
        self.fill.settle(chunks.clone(), rest);
        chunks
    }

    /// Whether the body is, or will be, too long to be kept in memory.
    fn is_large(&self) -> bool {
        let bytes = self.fill.head().length.unwrap_or(0).max(self.fill.written());
        bytes > self.inner.below.spill_bytes
    }

    /// Sends full pieces on to the file, which is opened when the first ones come.
    async fn spill(&mut self, mut chunks: Vec<Bytes>) {
        if self.spill.is_none() {
            let Some(disk) = self.inner.below.disk.load_full() else { return };
            // All that came before is in memory still.
            chunks = self.fill.whole();
            match disk.open_part(self.fill.head().length).await {
                Ok(part) => self.spill = Some(Spill { disk, part: Some(part) }),
                Err(error) => {
                    self.refused = true;
                    return tracing::debug!(%error, "a large object stays off the disk");
                }
            }
        }
        if !self.write_part(chunks).await {
            // What was let go from memory is still in the file, which goes when its readers do.
            self.pass_on();
        }
    }

    async fn write_part(&mut self, chunks: Vec<Bytes>) -> bool {
        let Some(spill) = &mut self.spill else { return false };
        let Some(part) = spill.part.take() else { return false };
        match spill.disk.write_part(part, chunks).await {
            Ok(part) => {
                let window = self.inner.below.spill_bytes;
                let released = self.fill.spilled(&part.segment, part.sums_from(self.fill.sums()), window);
                let more = released.saturating_sub(self.refunded).min(self.charged);
                self.refunded = released;
                self.charged -= more;
                self.inner.refund(more);
                spill.part = Some(part);
                true
            }
            Err(part) => {
                spill.disk.discard(part);
                self.spill = None;
                false
            }
        }
    }

    /// Counts what came; gives up keeping it where it is too much.
    async fn count(&mut self, bytes: u64, settled: Vec<Bytes>) {
        self.charged += bytes;
        let mut room = self.inner.charge(bytes);
        if !settled.is_empty() && !self.refused && self.is_large() {
            self.spill(settled).await;
            // What went on to the file is off the count.
            room = room || self.inner.make_room();
        }
        if !self.kept {
            return;
        }
        let max = match self.spill {
            Some(_) => self.inner.object_bytes_max(),
            None => self.inner.limits.object_bytes_max,
        };
        if !room || self.fill.written() > max {
            self.pass_on();
        }
    }

    /// Ends a body that went to disk.
    async fn commit(&mut self) -> Result<u64, StoreError> {
        let last = self.tail.pop();
        let whole = match &last {
            Some(bytes) => self.write_part(vec![bytes.clone()]).await,
            None => true,
        };
        let spill = self.spill.take();
        let Some(Spill { disk, part: Some(part) }) = spill.filter(|_| whole) else {
            self.end(last);
            return Ok(0);
        };
        let fill = &self.fill;
        let (hash, variance) = (*fill.hash(), fill.variance());
        let place = Place { hash, variance: variance.or(fill.head().variance), primary: variance.is_none() };
        if self.inner.book.admit(&fill.head().filed, fill.key()).is_none() {
            // Purged meanwhile: what came after the purge stays.
            disk.discard(part);
            self.end(last);
            return Ok(0);
        }
        let bytes = part.written;
        let (key, head, void) = (Arc::clone(fill.key()), Head::clone(fill.head()), Arc::clone(fill.void()));
        // What memory has in the slot is older, and so is what may be found on disk until the commit: once before, so
        // that nothing of it is written after, and once after, for what was taken into memory meanwhile.
        self.replace_below();
        let stored = disk.commit(Commit { part, place, key, head, void }).await;
        self.replace_below();
        self.end(last);
        Ok(if stored.is_some() { bytes } else { 0 })
    }

    fn replace_below(&self) {
        let gone = self.inner.shard(group_of(self.fill.hash())).replace_below(&self.fill);
        self.inner.forget(gone);
    }

    fn end(&mut self, last: Option<Bytes>) {
        self.closed = true;
        self.fill.close(last);
        self.inner.shard(group_of(self.fill.hash())).remove_fill(&self.fill);
        self.inner.refund(std::mem::take(&mut self.charged));
    }
}

/// A body that is only passed on may run ahead of its slowest reader by this, in bytes, before the writer slows down.
const LAG_FREE_BYTES: u64 = 4 << 20;

/// And never by more than this, in bytes.
const LAG_BYTES_MAX: u64 = 32 << 20;

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
        let settled = if self.tail_bytes >= CHUNK_BYTES { self.settle() } else { Vec::new() };
        if self.kept {
            self.count(bytes as u64, settled).await;
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
        let settled = self.settle();
        if self.kept && self.spill.is_some() {
            if !settled.is_empty() {
                self.spill(settled).await;
            }
            return self.commit().await;
        }
        self.closed = true;
        let chunks = self.fill.close(self.tail.pop());
        if !self.kept {
            return Ok(0);
        }
        let head = Head::clone(self.fill.head());
        let group = group_of(self.fill.hash());
        let Some(checked) = self.inner.book.admit(&head.filed, self.fill.key()) else {
            // Purged since its origin was asked.
            self.inner.shard(group).remove_fill(&self.fill);
            self.inner.refund(std::mem::take(&mut self.charged));
            return Ok(0);
        };
        let object = Arc::new(Object::new(head, Arc::clone(self.fill.key()), chunks, checked));
        let out = {
            let mut shard = self.inner.shard(group);
            // A purge meanwhile has taken it off the books: its content may be from before.
            shard.remove_fill(&self.fill).then(|| shard.store(&self.fill, Arc::clone(&object)))
        };
        self.inner.refund(std::mem::take(&mut self.charged));
        let Some(out) = out else { return Ok(0) };
        if let Some(disk) = self.inner.below.disk.load_full() {
            let (hash, variance) = (*self.fill.hash(), self.fill.variance());
            let variant = variance.or(object.head().variance);
            disk.stored(&Place { hash, variance: variant, primary: variance.is_none() }, &object);
        }
        self.inner.forget(out);
        self.inner.count(&object);
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
        if let Some(Spill { disk, part: Some(part) }) = self.spill.take() {
            disk.discard(part);
        }
    }
}
