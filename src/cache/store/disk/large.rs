//! A large body on its way to a segment of its own: written as it comes, block by block with a checksum each.

use super::DiskStore;
use super::files::Files;
use super::format::{self, BLOCK, BLOCK_BYTES, OWN_BODY_AT};
use super::index::Entry;
use super::queue::{Commit, Job};
use super::record::{Bad, FileBody};
use super::segment::{Io, Segment};
use bytes::{Bytes, BytesMut};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xxhash_rust::xxh3::Xxh3;

/// Its file, and what is known of it so far. Only a committed one is ever found again.
pub struct Part {
    /// The file.
    pub segment: Arc<Segment>,
    /// Body bytes written.
    pub written: u64,
    /// Bytes of the disk's bound that are set aside for it.
    pub granted: u64,
    sums: Vec<u64>,
    block: Box<Xxh3>,
    in_block: usize,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Part({:08x}, {} bytes)", self.segment.id, self.written)
    }
}

impl Part {
    /// In an empty segment for which so many bytes are set aside.
    pub fn new(segment: Arc<Segment>, granted: u64) -> Self {
        let block = hasher(&segment, 0);
        Part { segment, written: 0, granted, sums: Vec::new(), block, in_block: 0 }
    }

    /// Adds to the body.
    pub fn write(&mut self, files: &Files, bytes: &[u8]) -> io::Result<()> {
        files.write_at(&self.segment.file, bytes, OWN_BODY_AT + self.written)?;
        self.written += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK_BYTES - self.in_block));
            self.block.update(now);
            self.in_block += now.len();
            rest = later;
            if self.in_block == BLOCK_BYTES {
                self.end_block();
            }
        }
        Ok(())
    }

    fn end_block(&mut self) {
        self.sums.push(self.block.digest());
        self.block = hasher(&self.segment, self.sums.len() as u64);
        self.in_block = 0;
    }

    /// Checksums of all blocks; the body is at its end.
    pub fn seal(&mut self) -> Vec<u64> {
        if self.in_block > 0 {
            self.end_block();
        }
        self.sums.clone()
    }

    /// What it will take when it is committed with a head of so many bytes.
    pub fn bytes_with(body_bytes: u64, meta_bytes: u64) -> u64 {
        let sums = body_bytes.div_ceil(BLOCK) * 8;
        let head = format::RECORD_HEADER_BYTES as u64 + meta_bytes + sums;
        format::align(OWN_BODY_AT + body_bytes) + format::align(head) + format::footer_bytes(1)
    }

    /// Checksums of the whole blocks written so far, from this one on.
    pub fn sums_from(&self, block: usize) -> &[u64] {
        self.sums.get(block..).unwrap_or_default()
    }
}

fn hasher(segment: &Segment, block: u64) -> Box<Xxh3> {
    Box::new(Xxh3::with_seed(format::seed(segment.nonce, OWN_BODY_AT + block * BLOCK)))
}

/// A piece of a file's body, read in whatever way is cheaper.
pub async fn piece(body: &FileBody, at: u64, end: u64, room: &mut BytesMut) -> Result<Bytes, Bad> {
    match body.piece(at, end, Io::Cached, room) {
        Err(Bad::WouldBlock) => {
            let body = body.clone();
            let read = tokio::task::spawn_blocking(move || body.piece(at, end, Io::Blocking, &mut BytesMut::new()));
            read.await.unwrap_or(Err(Bad::Gone))
        }
        done => done,
    }
}

impl DiskStore {
    /// What a growing body is given at a time, in bytes: little enough that several fit.
    fn step_bytes(&self) -> u64 {
        (self.inner.limits.size_bytes / 16).min(PART_STEP_BYTES)
    }

    /// A file for a large body of so many bytes, if that is known.
    pub async fn open_part(&self, body_bytes: Option<u64>) -> io::Result<Part> {
        let bytes = Part::bytes_with(body_bytes.unwrap_or(self.step_bytes()), PART_META_BYTES);
        let opened = self.ask(|reply| Job::Open(bytes, reply)).await;
        opened.unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()))
    }

    /// Writes to it, away from threads that serve.
    pub async fn write_part(&self, mut part: Part, pieces: Vec<Bytes>) -> Result<Part, Part> {
        let more: u64 = pieces.iter().map(|p| p.len() as u64).sum();
        let needed = Part::bytes_with(part.written + more, PART_META_BYTES);
        if needed > part.granted {
            let step = (needed - part.granted).max(self.step_bytes());
            if self.ask(|reply| Job::Grow(step, reply)).await != Some(true) {
                return Err(part);
            }
            part.granted += step;
        }
        let inner = Arc::clone(&self.inner);
        let written =
            tokio::task::spawn_blocking(move || match pieces.iter().try_for_each(|p| part.write(&inner.files, p)) {
                Ok(()) => Ok(part),
                Err(error) => {
                    tracing::warn!(%error, "a large object cannot be written to disk");
                    Err(part)
                }
            });
        match written.await {
            Ok(result) => result,
            // The runtime is ending; nothing can be handed back, and the file goes at the next start.
            Err(_) => std::future::pending().await,
        }
    }

    /// Makes a whole large body findable; gives its entry.
    pub async fn commit(&self, commit: Commit) -> Option<Entry> {
        let commit = Box::new(commit);
        self.ask(|reply| Job::Commit(commit, reply)).await.flatten()
    }

    /// Gives a large body up.
    pub fn discard(&self, part: Part) {
        self.inner.counters.dropped.fetch_add(1, Ordering::Relaxed);
        self.inner.queue.push(Job::Discard(part));
    }
}

/// And not more than this, in bytes.
const PART_STEP_BYTES: u64 = 8 << 20;
/// What is set aside for its key and header, in bytes.
const PART_META_BYTES: u64 = 64 << 10;
