//! Figures of a disk level.

use super::DiskStore;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters of one disk level, kept by whoever does the thing.
#[derive(Debug, Default)]
pub struct Counters {
    pub bytes: AtomicU64,
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub written: AtomicU64,
    pub kept: AtomicU64,
    pub evicted: AtomicU64,
    pub corrupt: AtomicU64,
    pub dropped: AtomicU64,
    pub failing: AtomicBool,
}

/// What a disk level holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Objects in the index.
    pub objects: u64,
    /// Bytes of all files, and what is set aside for those being written.
    pub bytes: u64,
    /// Look-ups that found an object here.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Objects written.
    pub written: u64,
    /// Objects written again because they were used when their segment had to go.
    pub kept: u64,
    /// Objects removed for want of room.
    pub evicted: u64,
    /// Records whose bytes were not what was written, and failed reads.
    pub corrupt: u64,
    /// Objects not written: the writer was behind, or the disk failed.
    pub dropped: u64,
    /// Bytes waiting to be written.
    pub queued_bytes: u64,
    /// Memory that the index takes, in bytes.
    pub index_bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Writing fails at present.
    pub failing: bool,
}

impl DiskStats {
    /// What happened, by the words that metrics use.
    pub fn events(&self) -> [(&'static str, u64); 7] {
        [
            ("hit", self.hits),
            ("miss", self.misses),
            ("written", self.written),
            ("kept", self.kept),
            ("evicted", self.evicted),
            ("corrupt", self.corrupt),
            ("dropped", self.dropped),
        ]
    }
}

impl DiskStore {
    /// Figures.
    pub fn stats(&self) -> DiskStats {
        let c = &self.inner.counters;
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        DiskStats {
            objects: self.inner.index.objects(),
            bytes: get(&c.bytes),
            hits: get(&c.hits),
            misses: get(&c.misses),
            written: get(&c.written),
            kept: get(&c.kept),
            evicted: get(&c.evicted),
            corrupt: get(&c.corrupt),
            dropped: get(&c.dropped),
            queued_bytes: self.inner.queue.bytes(),
            index_bytes: self.inner.index.memory_bytes(),
            segments: self.inner.segments.len() as u64,
            failing: c.failing.load(Ordering::Relaxed),
        }
    }
}
