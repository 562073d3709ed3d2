//! The writer thread: the only one that appends, evicts and files, so that order of writing is the order of things.

use super::append::{Active, Body, Draft};
use super::index::{Entry, SlotId};
use super::meta;
use super::queue::{Commit, Job, Place, Purging, Refresh};
use super::record::{self, Record};
use super::room::Kept;
use super::segment::{self, Io};
use super::{Inner, PurgeTarget};
use crate::cache::store::memory::over::is_about;
use crate::cache::store::{Head, Object, Purge};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// See the file's head.
#[derive(Debug)]
pub struct Worker {
    pub inner: Arc<Inner>,
    /// Held for as long as the thread lives.
    pub _lock: File,
    pub active: Option<Active>,
    /// Sealed segments, the next to go first.
    pub order: VecDeque<u32>,
    pub next_id: u32,
    pub next_seq: u64,
    /// Bytes of the bound that are taken.
    pub used: u64,
    pub kept: Vec<Kept>,
    /// Segments that are unlinked but still hold what is kept.
    pub leaving: Vec<u32>,
    pub reinserting: bool,
    pub health: Health,
    /// What a sweep has still to look at of a part of the index.
    pub sweeping: (usize, Vec<Entry>),
}

/// Whether the disk takes what is written.
#[derive(Debug, Default)]
pub struct Health {
    /// Not before then; `None` while all is well.
    failing_until: Option<Duration>,
    pause: Duration,
}

/// First pause after a failed write.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// And the longest.
const PAUSE_MAX: Duration = Duration::from_secs(60);

impl Worker {
    /// Works until the queue is closed and empty; then seals what is open.
    pub fn run(mut self) {
        while let Some(job) = self.inner.queue.next() {
            self.handle(job);
        }
        self.seal();
    }

    fn handle(&mut self, job: Job) {
        // Whoever waits for an answer may have left: that is fine.
        match job {
            Job::Put(place, object) => {
                self.put(&place, &object);
                self.inner.queue.done(&place.id(), object.cost());
            }
            Job::Remove(id) => self.remove_slot(&id),
            Job::Kill(entries) => self.kill(&entries),
            Job::Refresh(refresh, reply) => drop(reply.send(self.refresh(&refresh))),
            Job::Purge(purging, reply) => drop(reply.send(self.purge(&purging))),
            Job::Open(bytes, reply) => {
                let opened = if self.may_write() { self.open_part(bytes) } else { Err(io::ErrorKind::Other.into()) };
                if let Err(e) = &opened {
                    self.trouble(e);
                }
                if let Err(Ok(part)) = reply.send(opened) {
                    self.discard(&part);
                }
            }
            Job::Grow(bytes, reply) => {
                let room = self.make_room(bytes).is_ok();
                if room {
                    self.set_used(self.used + bytes);
                }
                self.reinsert();
                if reply.send(room).is_err() && room {
                    self.set_used(self.used.saturating_sub(bytes));
                }
            }
            Job::Commit(commit, reply) => drop(reply.send(self.commit_large(*commit))),
            Job::Discard(part) => self.discard(&part),
            Job::Clear(reply) => {
                self.clear();
                let _ = reply.send(());
            }
            Job::Sweep(part, reply) => drop(reply.send(self.sweep(part))),
            Job::Flush(reply) => {
                let _ = reply.send(());
            }
        }
    }

    fn put(&mut self, place: &Place, object: &Arc<Object>) {
        let written = if object.is_void() {
            None
        } else if self.may_write() {
            // A purge that only memory remembers must not be undone by what is read from here.
            let stale = object.checked().stale_since().map(|since| object.head().expired(since));
            let head = stale.as_ref().unwrap_or(object.head());
            let draft = Draft { place: *place, meta: meta::encode(object.key(), head).into() };
            self.write(&draft, &Body::Pieces(object.chunks()))
        } else {
            self.inner.counters.dropped.fetch_add(1, Ordering::Relaxed);
            None
        };
        let Some(entry) = written else {
            // What the slot has is older than what could not be written.
            if !object.is_void() {
                self.remove_slot(&place.id());
            }
            return;
        };
        self.file(entry, place.primary);
        // Replaced or purged while it was being written: whoever did that may have looked before it was filed.
        if object.is_void() && self.inner.index.remove(&entry) {
            self.kill(&[entry]);
        }
    }

    fn file(&mut self, entry: Entry, primary: bool) {
        self.inner.counters.written.fetch_add(1, Ordering::Relaxed);
        let losers = self.inner.index.insert(entry, primary);
        self.kill(&losers);
    }

    /// Appends; a full disk is given one chance by freeing the oldest segment.
    fn write(&mut self, draft: &Draft, body: &Body<'_>) -> Option<Entry> {
        let mut done = self.append(draft, body);
        if done.as_ref().is_err_and(no_space) {
            self.undo();
            if let Some(oldest) = self.order.pop_front() {
                self.evict(oldest, 0);
                done = self.append(draft, body);
            }
        }
        match done {
            Ok(entry) => {
                self.well();
                Some(entry)
            }
            Err(e) => {
                self.undo();
                self.trouble(&e);
                self.inner.counters.dropped.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Cuts off what a failed write may have left, so that the space is free again.
    fn undo(&mut self) {
        if let Some(active) = &self.active {
            // Where that fails too the next record is written over it, and a scan stops there.
            let _ = self.inner.files.cut(&active.segment.file, active.end);
        }
    }

    fn may_write(&self) -> bool {
        self.health.failing_until.is_none_or(|until| self.inner.clock.elapsed() >= until)
    }

    fn well(&mut self) {
        if self.health.failing_until.take().is_some() {
            tracing::info!(folder = %self.inner.files.folder().display(), "the disk level of a cache is written again");
            self.inner.counters.failing.store(false, Ordering::Relaxed);
        }
        self.health.pause = Duration::ZERO;
    }

    fn trouble(&mut self, error: &io::Error) {
        // Our own bound is no fault of the disk's.
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::Other) && error.raw_os_error().is_none() {
            return;
        }
        if self.health.failing_until.is_none() {
            tracing::warn!(%error, folder = %self.inner.files.folder().display(),
                "the disk level of a cache cannot be written: it goes on without storing, and tries again");
        }
        self.inner.counters.failing.store(true, Ordering::Relaxed);
        self.health.pause = (self.health.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.health.failing_until = Some(self.inner.clock.elapsed() + self.health.pause);
    }

    fn remove_slot(&mut self, id: &SlotId) {
        if let Some(gone) = self.inner.index.remove_slot(id) {
            self.kill(&[gone]);
        }
    }

    fn refresh(&mut self, r: &Refresh) -> bool {
        let Some(entry) = self.inner.index.exact(&r.place.id()) else {
            // Still to be written when it was refreshed: the old form is void by now.
            let Some(object) = &r.object else { return false };
            self.put(&r.place, object);
            return true;
        };
        let record = record::read(&self.inner.segments, &entry, Io::Blocking);
        let same = |record: &Record| *record.key == *r.key && is_about(&r.head, &record.head, record.body.bytes);
        let Some(record) = record.ok().filter(same) else {
            self.remove_slot(&r.place.id());
            return false;
        };
        let mut head = r.head.clone();
        head.state_length(record.body.bytes);
        self.rewrite(&entry, &record, &head)
    }

    /// Appends a record with a new head for the body of an old one; on failure the object is gone.
    pub fn rewrite(&mut self, entry: &Entry, record: &Record, head: &Head) -> bool {
        let primary = self.inner.index.is_primary(&entry.id());
        let place = Place { hash: record.header.hash, variance: record.header.variance, primary };
        let draft = Draft { place, meta: meta::encode(&record.key, head).into() };
        let written = if self.may_write() { self.write(&draft, &Body::Elsewhere(&record.body)) } else { None };
        // Making room may have moved or evicted the old record: then its body is gone with it.
        let moved = written.is_some_and(|new| self.inner.index.replace(entry, new));
        if moved {
            self.kill(&[*entry]);
        } else {
            written.into_iter().for_each(|new| self.kill(&[new]));
            self.remove_slot(&entry.id());
        }
        moved
    }

    fn purge(&mut self, p: &Purging) -> Vec<SlotId> {
        self.kill(&p.gone);
        let entries = match &p.target {
            PurgeTarget::Group(hash) => self.inner.index.targets(&crate::cache::store::Target::Url(*hash, &[])),
            PurgeTarget::Key(hash) => self.inner.index.targets(&crate::cache::store::Target::Key(*hash)),
        };
        for entry in &entries {
            match p.how {
                Purge::Hard => {
                    if self.inner.index.remove(entry) {
                        self.kill(&[*entry]);
                    }
                }
                Purge::Soft => self.expire(entry),
            }
        }
        entries.iter().map(Entry::id).collect()
    }

    fn expire(&mut self, entry: &Entry) {
        let now = self.inner.clock.now();
        match record::read(&self.inner.segments, entry, Io::Blocking) {
            Ok(record) if record.head.fresh_until < now => {}
            Ok(record) => drop(self.rewrite(entry, &record, &record.head.expired(now))),
            Err(_) => self.remove_slot(&entry.id()),
        }
    }

    fn commit_large(&mut self, commit: Commit) -> Option<Entry> {
        let Commit { part, place, key, mut head, void } = commit;
        // A purge that comes later than this stands behind us in the queue, or finds it by its generation.
        let admitted = self.inner.book.admit(&head.filed, &key).filter(|_| !void.load(Ordering::SeqCst));
        let Some(checked) = admitted else {
            self.discard(&part);
            return None;
        };
        if let Some(since) = checked.stale_since() {
            head = head.expired(since);
        }
        head.state_length(part.written);
        let draft = Draft { place, meta: meta::encode(&key, &head).into() };
        match self.commit(part, &draft) {
            Ok(entry) => {
                self.file(entry, place.primary);
                Some(entry)
            }
            Err(e) => {
                self.trouble(&e);
                self.inner.counters.dropped.fetch_add(1, Ordering::Relaxed);
                self.remove_slot(&place.id());
                None
            }
        }
    }

    fn clear(&mut self) {
        self.inner.index.clear();
        self.seal();
        for id in std::mem::take(&mut self.order) {
            if let Some(gone) = self.inner.segments.forget(id) {
                self.inner.files.remove(&segment::name(id));
                self.set_used(self.used.saturating_sub(gone.charged()));
            }
        }
    }
}

/// The file system has no room, or the user has none left on it.
fn no_space(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) && e.raw_os_error().is_some()
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.inner.queue.close();
        // Whoever waits for an answer gets none, rather than waiting for ever.
        while self.inner.queue.next().is_some() {}
    }
}
