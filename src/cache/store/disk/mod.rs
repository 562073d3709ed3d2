//! The disk level of a cache: log-structured segment files in one folder, an index in memory, one writer thread.
//!
//! **Who is written.** With `admission: second_request` an object is written when it is asked for a second time: at its
//! first hit in memory, or when it is stored again soon after having been stored once. One that was hit but could not be
//! written then (the writer was behind) is offered again when memory evicts it. With `always` every object is written
//! when it is stored. What memory evicts before it is written stays in the queue until it is; a look-up meanwhile is a
//! miss.
//!
//! **What may never happen** is that something replaced or removed comes back. The newer object takes the older one out
//! of the index when it is stored, whether or not it is written itself; a removal goes through the same queue as writes,
//! so it overtakes none; an object in memory that is replaced or purged is marked void, and the writer looks at that
//! mark after filing. On disk a removed record is marked dead in place, which works on a full disk too.
//!
//! **What is not promised.** Nothing is synced: after a loss of power the newest records may be torn, which checksums
//! tell, or missing. After a kill all that was written is there.

mod admit;
mod append;
mod files;
mod find;
mod format;
mod index;
mod large;
mod meta;
mod queue;
mod rebuild;
mod record;
mod room;
mod segment;
mod stats;
mod sweep;
#[cfg(test)]
mod tests;
mod work;

pub use files::FolderError;
pub use find::DiskReader;
pub(super) use find::LoadedBody;
pub(super) use format::{BLOCK, OWN_BODY_AT};
pub(super) use index::{Entry, SlotId};
pub(super) use large::{Part, piece};
pub(super) use queue::{Commit, Place};
pub(super) use record::FileBody;
pub(super) use segment::Segment;
pub use stats::DiskStats;

use super::{Head, Object, Purge, Slot, Target};
use crate::base::clock::Clock;
use crate::cache::purge::Book;
use admit::Recent;
use bytes::Bytes;
use files::Files;
use index::Index;
use pingora_cache::key::HashBinary;
use queue::{Job, Purging, Queue, Refresh};
use segment::Segments;
use stats::Counters;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use work::{Health, Worker};

/// How a disk level is opened.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// Its folder, made where it is missing; of one store of one process.
    pub folder: PathBuf,
    /// Upper bound of all files in it, in bytes.
    pub size_bytes: u64,
    /// Write every object, not only those asked for a second time.
    pub always: bool,
    /// Time.
    pub clock: Clock,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    size_bytes: u64,
    segment_bytes: u64,
    always: bool,
}

/// What the writer thread, readers and the store share.
#[derive(Debug)]
struct Inner {
    files: Files,
    index: Index,
    segments: Segments,
    queue: Queue,
    recent: Recent,
    counters: Counters,
    limits: Limits,
    clock: Clock,
    book: Arc<Book>,
    /// The purge generation at the start: it rises with each.
    opened: u64,
}

/// See the file's head.
#[derive(Debug)]
pub struct DiskStore {
    inner: Arc<Inner>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// An owned [`Target`], without the URL: a purge takes the whole group.
#[derive(Clone, Copy, Debug)]
enum PurgeTarget {
    Group(HashBinary),
    Key(HashBinary),
}

/// Segments of this length at least and at most, in bytes, as far as the number of files allows.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=64 << 20;
/// A disk level has so many segments at least, so that eviction takes a small part of it.
const SEGMENTS_MIN: u64 = 32;
/// And about so many at most: each is an open file.
const SEGMENTS_MAX: u64 = 512;
/// The smallest disk level that makes sense, in bytes.
pub const SIZE_BYTES_MIN: u64 = 16 << 20;
/// Bytes that may wait to be written.
const QUEUE_BYTES: std::ops::RangeInclusive<u64> = 4 << 20..=64 << 20;
/// Open files that everything else in the process may need.
const OTHER_FILES: u64 = 4096;

impl Limits {
    fn of(options: &DiskOptions) -> Self {
        let size_bytes = options.size_bytes;
        let usual = (size_bytes / SEGMENTS_MIN).clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end());
        Limits { size_bytes, segment_bytes: usual.max(size_bytes / SEGMENTS_MAX), always: options.always }
    }
}

impl DiskStore {
    /// Opens the folder and reads what is in it; blocks while it does.
    pub fn open(options: &DiskOptions) -> Result<Self, FolderError> {
        let (files, lock) = Files::open(&options.folder)?;
        let failed = |why| FolderError::Io { path: options.folder.clone(), why };
        let empty = files.list().map_err(failed)?.is_empty();
        let book = Book::beside(&options.folder, empty, options.clock.clone()).map_err(failed)?;
        let limits = Limits::of(options);
        let own_segments = limits.size_bytes / (limits.segment_bytes / append::OWN_SHARE).max(1);
        raise_file_limit(own_segments + OTHER_FILES);
        let (index, segments) = (Index::new(), Segments::default());
        let rebuilt = rebuild::rebuild(&files, &index, &segments).map_err(failed)?;
        let inner = Arc::new(Inner {
            files,
            index,
            segments,
            queue: Queue::new((limits.size_bytes / 16).clamp(*QUEUE_BYTES.start(), *QUEUE_BYTES.end())),
            recent: Recent::new(limits.size_bytes),
            counters: Counters::default(),
            limits,
            clock: options.clock.clone(),
            opened: book.generation(),
            book: Arc::new(book),
        });
        let mut worker = Worker {
            inner: Arc::clone(&inner),
            _lock: lock,
            active: None,
            order: rebuilt.order,
            next_id: rebuilt.last_id,
            next_seq: rebuilt.next_seq,
            used: 0,
            kept: Vec::new(),
            leaving: Vec::new(),
            reinserting: false,
            health: Health::default(),
            sweeping: (0, Vec::new()),
        };
        worker.set_used(rebuilt.used);
        worker.kill(&rebuilt.losers);
        // The bound may be lower than last time.
        let _ = worker.make_room(0);
        worker.reinsert();
        let writer = std::thread::Builder::new().name("cache-disk".to_owned()).spawn(move || worker.run());
        let writer = writer.map_err(failed)?;
        tracing::info!(folder = %options.folder.display(), objects = inner.index.objects(),
            bytes = rebuilt.used, "disk level of a cache opened");
        Ok(DiskStore { inner, writer: Mutex::new(Some(writer)) })
    }

    /// The purges that what is kept here is checked against; they outlive a restart as it does.
    pub fn book(&self) -> &Arc<Book> {
        &self.inner.book
    }

    /// Tells this opening of the folder from earlier and later ones.
    pub fn opened(&self) -> u64 {
        self.inner.opened
    }

    /// Longest body this level takes, in bytes.
    pub fn object_bytes_max(&self) -> u64 {
        (self.inner.limits.size_bytes / 4).min(format::BODY_BYTES_MAX)
    }

    /// An object was stored in memory under this slot: what the disk has for it is old from now on.
    pub(super) fn stored(&self, place: &Place, object: &Arc<Object>) {
        let id = place.id();
        let again = self.inner.recent.seen(&id);
        let old = self.inner.index.remove_slot(&id);
        let known = old.is_some() || self.inner.queue.pending(&id);
        if let Some(old) = old {
            self.inner.queue.push(Job::Kill(vec![old]));
        }
        let wanted = self.inner.limits.always || again || known;
        if !(wanted && self.offer(place, object)) && known {
            // Something older may be waiting to be written.
            self.inner.queue.push(Job::Remove(id));
        }
    }

    /// An object in memory was asked for again.
    pub(super) fn asked(&self, place: &Place, object: &Arc<Object>) {
        if self.inner.index.exact(&place.id()).is_none() {
            self.offer(place, object);
        }
    }

    /// Memory lets go of an object. Called under the shard's lock, so that a purge finds it either there or in the queue.
    pub(super) fn evicted(&self, place: &Place, object: &Arc<Object>) {
        let id = place.id();
        if object.was_hit() && self.inner.index.exact(&id).is_none() && !self.inner.queue.pending(&id) {
            self.offer(place, object);
        }
    }

    fn offer(&self, place: &Place, object: &Arc<Object>) -> bool {
        // What only those may have who waited for it is of no use to anybody later.
        let taken = object.is_of_use_later() && self.inner.queue.push(Job::Put(*place, Arc::clone(object)));
        if taken {
            object.offered();
        } else if object.is_of_use_later() {
            self.inner.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Hands a job to the writer and waits for its answer; `None` when the writer has ended.
    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.inner.queue.push(job(reply));
        answer.await.ok()
    }

    /// Gives a stored object a new head, on disk only or (with `object`) as memory has it already.
    pub(super) async fn refresh(&self, place: &Place, key: Bytes, head: Head, object: Option<Arc<Object>>) -> bool {
        let id = place.id();
        if self.inner.index.exact(&id).is_none() && !self.inner.queue.pending(&id) {
            return false;
        }
        let refresh = Box::new(Refresh { place: *place, key, head, object });
        self.ask(|reply| Job::Refresh(refresh, reply)).await.unwrap_or(false)
    }

    /// What a purge would find here now.
    pub(super) fn targets(&self, target: &Target<'_>) -> Vec<SlotId> {
        self.inner.index.targets(target).iter().map(Entry::id).collect()
    }

    /// Takes what a hard purge concerns out of the index at once; what is still to be written follows with
    /// [`DiskStore::purge`].
    pub(super) fn purge_index(&self, target: &Target<'_>) -> Vec<Entry> {
        let mut gone = self.inner.index.targets(target);
        gone.retain(|e| self.inner.index.remove(e));
        gone
    }

    /// Purges all that was put into the queue so far; returns once that is so on disk too, with what it still found.
    pub(super) async fn purge(&self, target: &Target<'_>, how: Purge, gone: Vec<Entry>) -> Vec<SlotId> {
        let target = match target {
            Target::Url(hash, _) => PurgeTarget::Group(*hash),
            Target::Key(hash) => PurgeTarget::Key(*hash),
        };
        let purging = Purging { target, how, gone };
        self.ask(|reply| Job::Purge(purging, reply)).await.unwrap_or_default()
    }

    /// Whether an entry still is what its slot has.
    pub(super) fn is_current(&self, entry: &Entry) -> bool {
        self.inner.index.exact(&entry.id()).is_some_and(|e| e.seq == entry.seq)
    }

    /// Removes everything, in memory at once and on disk soon.
    pub fn clear(&self) {
        self.inner.index.clear();
        let (reply, _) = oneshot::channel();
        self.inner.queue.push(Job::Clear(reply));
    }

    /// Waits until all that was handed in so far is on disk.
    pub async fn flush(&self) {
        self.ask(Job::Flush).await;
    }

    /// Writes what is queued, seals the open segment and ends the writer; waits for it at most this long.
    pub async fn close(&self, wait: Duration) -> bool {
        self.inner.queue.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return true };
        let joined = tokio::task::spawn_blocking(move || writer.join().is_ok());
        matches!(tokio::time::timeout(wait, joined).await, Ok(Ok(true)))
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        self.inner.queue.close();
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It ends when the queue is empty; a panic in it has been told by then.
            let _ = writer.join();
        }
    }
}

/// Each segment is an open file: asks for as many as there may be, as far as the system lets us.
fn raise_file_limit(files: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let enough = now.current.is_none_or(|n| n >= files);
    let wanted = now.maximum.map_or(files, |max| files.min(max));
    if !enough && now.current.is_some_and(|n| n < wanted) {
        let limit = Rlimit { current: Some(wanted), maximum: now.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, wanted, "the limit of open files could not be raised");
        }
    }
}

impl Place {
    /// Where an object of this slot is filed.
    pub(super) fn of(slot: &Slot<'_>, head: &Head) -> Self {
        Place { hash: slot.hash, variance: slot.variance.or(head.variance), primary: slot.variance.is_none() }
    }
}
