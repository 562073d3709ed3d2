//! Room on the disk: whole segments go, oldest first; what was asked for since is written again, within bounds, so that
//! a scan does not wash out what is used.

use super::append::{Body, Draft};
use super::index::Entry;
use super::queue::Place;
use super::record;
use super::segment::{self, Io};
use super::work::Worker;
use bytes::Bytes;
use std::io;
use std::sync::atomic::Ordering;

/// An object that outlives its segment.
#[derive(Debug)]
pub struct Kept {
    old: Entry,
    draft: Draft,
    body: Bytes,
}

/// One part in so many of a segment is written again at most.
const KEPT_SHARE: u64 = 4;

impl Worker {
    /// Notes how much of the bound is taken.
    pub fn set_used(&mut self, bytes: u64) {
        self.used = bytes;
        self.inner.counters.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Evicts until so many bytes more are within the bound.
    pub fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        let size = self.inner.limits.size_bytes;
        if bytes > size / 2 {
            // One object must not push out everything else.
            return Err(io::ErrorKind::StorageFull.into());
        }
        // Segments of their own that were asked for get one more round each.
        let mut mercy = self.order.len();
        while self.used.saturating_add(bytes) > size {
            let Some(id) = self.order.pop_front() else { return Err(io::ErrorKind::StorageFull.into()) };
            if mercy > 0 && self.spared(id) {
                mercy -= 1;
                self.order.push_back(id);
                continue;
            }
            let budget = if self.reinserting { 0 } else { self.inner.limits.segment_bytes / KEPT_SHARE };
            self.evict(id, budget);
        }
        Ok(())
    }

    /// Whether it is a large object's own segment that was asked for; that counts once.
    fn spared(&self, id: u32) -> bool {
        let Some(segment) = self.inner.segments.get(id) else { return false };
        if segment.charged() <= self.inner.limits.segment_bytes / KEPT_SHARE {
            return false;
        }
        let Some((list, _)) = segment.listed() else { return false };
        let [only] = list.as_slice() else { return false };
        let Some(entry) = Entry::new(id, only).and_then(|e| self.inner.index.exact(&e.id())) else { return false };
        let asked = entry.needs(id) && entry.uses > 0;
        if asked {
            self.inner.index.cool(&entry);
        }
        asked
    }

    /// Removes a segment. What is kept of it is found in it until it is written again.
    pub fn evict(&mut self, id: u32, budget_bytes: u64) {
        let Some(segment) = self.inner.segments.get(id) else { return };
        let mut evicted = 0;
        let mut left = budget_bytes;
        match segment.listed() {
            Some((list, _)) => {
                for entry in list.iter().filter_map(|l| Entry::new(id, l)) {
                    let Some(now) = self.inner.index.exact(&entry.id()).filter(|e| e.needs(id)) else { continue };
                    match self.keep(&now, left) {
                        Some(kept) => {
                            left = left.saturating_sub(kept.body.len() as u64 + kept.draft.meta.len() as u64);
                            self.kept.push(kept);
                        }
                        None => evicted += u64::from(self.inner.index.remove(&now)),
                    }
                }
            }
            None => evicted = self.inner.index.sweep(id),
        }
        self.inner.counters.evicted.fetch_add(evicted, Ordering::Relaxed);
        self.inner.files.remove(&segment::name(id));
        self.set_used(self.used.saturating_sub(segment.charged()));
        if self.kept.is_empty() {
            self.inner.segments.forget(id);
        } else {
            self.leaving.push(id);
        }
    }

    fn keep(&self, entry: &Entry, left: u64) -> Option<Kept> {
        if entry.uses == 0 || left == 0 {
            return None;
        }
        let record = record::read(&self.inner.segments, entry, Io::Blocking).ok()?;
        if record.body.bytes + record.meta.len() as u64 > left {
            return None;
        }
        let body = record.whole(Io::Blocking).ok()?;
        let primary = self.inner.index.is_primary(&entry.id());
        let place = Place { hash: record.header.hash, variance: record.header.variance, primary };
        // A copy, lest the whole record's buffer is held.
        let draft = Draft { place, meta: Bytes::copy_from_slice(&record.meta) };
        Some(Kept { old: *entry, draft, body })
    }

    /// Writes again what eviction kept; what cannot be written is gone.
    pub fn reinsert(&mut self) {
        if self.reinserting {
            return;
        }
        self.reinserting = true;
        for kept in std::mem::take(&mut self.kept) {
            self.inner.index.cool(&kept.old);
            let pieces = [kept.body];
            let written = self.append(&kept.draft, &Body::Pieces(&pieces));
            let moved = written.as_ref().is_ok_and(|new| self.inner.index.replace(&kept.old, *new));
            let counters = &self.inner.counters;
            match written {
                Ok(_) if moved => drop(counters.kept.fetch_add(1, Ordering::Relaxed)),
                // Purged or replaced meanwhile.
                Ok(new) => self.kill(&[new]),
                Err(_) => {
                    let gone = self.inner.index.remove(&kept.old);
                    counters.evicted.fetch_add(u64::from(gone), Ordering::Relaxed);
                }
            }
        }
        for id in std::mem::take(&mut self.leaving) {
            self.inner.segments.forget(id);
        }
        self.reinserting = false;
    }

    /// Makes sure that records that left the index are not found at the next start either. What cannot be marked is
    /// removed with the whole segment.
    pub fn kill(&mut self, entries: &[Entry]) {
        for entry in entries {
            let Some(segment) = self.inner.segments.get(entry.segment) else { continue };
            if let Err(error) = segment.kill(&self.inner.files, entry.at()) {
                tracing::warn!(%error, segment = segment.id, "a removed object cannot be marked: its segment goes");
                self.drop_segment(segment.id);
            }
        }
    }

    fn drop_segment(&mut self, id: u32) {
        if self.active.as_ref().is_some_and(|a| a.segment.id == id) {
            self.active = None;
        }
        self.order.retain(|o| *o != id);
        let Some(segment) = self.inner.segments.forget(id) else { return };
        self.inner.index.sweep(id);
        self.inner.files.remove(&segment::name(id));
        self.set_used(self.used.saturating_sub(segment.charged()));
    }
}
