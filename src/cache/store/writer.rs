//! Filling an object of the memory store.

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
    kept: bool,
    closed: bool,
}

impl MemoryWriter {
    /// `charged` bytes are on the store's count for it already.
    pub(super) fn new(inner: Arc<Inner>, fill: Arc<Fill>, charged: u64) -> Self {
        MemoryWriter { inner, fill, tail: Vec::new(), tail_bytes: 0, charged, kept: true, closed: false }
    }

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
    }
}
