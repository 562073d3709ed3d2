//! What the writer thread is to do, in order. Objects to be written are bounded by bytes: when the writer is behind,
//! they are simply not written. What removes something is never refused, for it would come back.

use super::super::{Head, Object, Purge};
use super::index::{Entry, SlotId};
use super::large::Part;
use crate::cache::purge::sweep::Step;
use bytes::Bytes;
use pingora_cache::key::HashBinary;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Which record: the slot in full.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The key's hash.
    pub hash: HashBinary,
    /// The variant, whichever slot it is in.
    pub variance: Option<HashBinary>,
    /// It is in the primary slot.
    pub primary: bool,
}

impl Place {
    /// As the index knows it.
    pub fn id(&self) -> SlotId {
        SlotId::of(&self.hash, self.variance)
    }
}

/// New header and times for a body that stays.
#[derive(Debug)]
pub struct Refresh {
    /// Which.
    pub place: Place,
    /// The full key.
    pub key: Bytes,
    /// What the record says from now on.
    pub head: Head,
    /// The object in memory, if it is there.
    pub object: Option<Arc<Object>>,
}

/// A purge, owned.
#[derive(Debug)]
pub struct Purging {
    /// All of the URL's group (`None`), or one key.
    pub target: super::PurgeTarget,
    /// What happens to them.
    pub how: Purge,
    /// What was taken out of the index already and must not come back after a restart.
    pub gone: Vec<Entry>,
}

/// A large body that is whole.
#[derive(Debug)]
pub struct Commit {
    /// Its file.
    pub part: Part,
    /// Which.
    pub place: Place,
    /// The full key.
    pub key: Arc<[u8]>,
    /// Header and times.
    pub head: Head,
    /// Set when a purge has taken the fill off the books: it must not be found.
    pub void: Arc<AtomicBool>,
}

/// One job.
#[derive(Debug)]
pub enum Job {
    /// Write an object.
    Put(Place, Arc<Object>),
    /// Take out whatever the slot has.
    Remove(SlotId),
    /// These are out of the index; they must not come back after a restart.
    Kill(Vec<Entry>),
    /// Write a new head.
    Refresh(Box<Refresh>, oneshot::Sender<bool>),
    /// Purge; answers with what was concerned.
    Purge(Purging, oneshot::Sender<Vec<SlotId>>),
    /// Open a file for a large body of about so many bytes.
    Open(u64, oneshot::Sender<io::Result<Part>>),
    /// Let a large body grow by so many bytes.
    Grow(u64, oneshot::Sender<bool>),
    /// A large body is whole; answers with its order of writing.
    Commit(Box<Commit>, oneshot::Sender<Option<Entry>>),
    /// A large body came to nothing.
    Discard(Part),
    /// Remove everything.
    Clear(oneshot::Sender<()>),
    /// Check one part of the index against the purges.
    Sweep(usize, oneshot::Sender<Step>),
    /// Answer when all before it is done.
    Flush(oneshot::Sender<()>),
}

impl Job {
    fn slot(&self) -> Option<SlotId> {
        match self {
            Job::Put(place, _) => Some(place.id()),
            _ => None,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Job::Put(_, object) => object.cost(),
            _ => 0,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    bytes: u64,
    /// Slots with objects that are not written yet, the one being written included.
    pending: HashMap<SlotId, u32>,
    closed: bool,
}

/// See the file's head.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    more: Condvar,
    bytes_max: u64,
}

impl Queue {
    /// An empty one.
    pub fn new(bytes_max: u64) -> Self {
        Queue { state: Mutex::default(), more: Condvar::new(), bytes_max }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job; `false` when an object is not taken, or the queue is closed.
    pub fn push(&self, job: Job) -> bool {
        let mut s = self.state();
        let (slot, bytes) = (job.slot(), job.bytes());
        // One that is larger than the bound is taken when nothing else is.
        let full = slot.is_some() && s.bytes > 0 && s.bytes + bytes > self.bytes_max;
        if s.closed || full {
            return false;
        }
        s.bytes += bytes;
        if let Some(id) = slot {
            *s.pending.entry(id).or_default() += 1;
        }
        s.jobs.push_back(job);
        drop(s);
        self.more.notify_one();
        true
    }

    /// Whether an object for this slot is still to be written.
    pub fn pending(&self, id: &SlotId) -> bool {
        self.state().pending.contains_key(id)
    }

    /// The next job; waits for one. `None` once the queue is closed and empty.
    pub fn next(&self) -> Option<Job> {
        let mut s = self.state();
        loop {
            if let Some(job) = s.jobs.pop_front() {
                return Some(job);
            }
            if s.closed {
                return None;
            }
            s = self.more.wait(s).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// An object that [`Queue::next`] gave has been dealt with.
    pub fn done(&self, id: &SlotId, bytes: u64) {
        let mut s = self.state();
        s.bytes = s.bytes.saturating_sub(bytes);
        if let Some(n) = s.pending.get_mut(id) {
            *n -= 1;
            if *n == 0 {
                s.pending.remove(id);
            }
        }
    }

    /// Takes nothing more; what is in it will still be done.
    pub fn close(&self) {
        self.state().closed = true;
        self.more.notify_all();
    }

    /// Bytes waiting.
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }
}
