//! Reclaiming what purges have made void, one part of the index after the other, on the writer's thread: whatever was
//! handed in before has been filed, and nothing is filed meanwhile.

use super::record::{self, Record};
use super::segment::Io;
use super::work::Worker;
use super::{DiskStore, Entry, Job};
use crate::cache::purge::Gate;
use crate::cache::purge::sweep::Step;

impl DiskStore {
    /// Checks one part of the index against the purges; what is void does not come back after a restart either.
    pub(in crate::cache::store) async fn sweep(&self, part: usize) -> Step {
        // A writer that has ended has seen nothing.
        let nothing = Step { next: Some(part as u64), ..Step::default() };
        self.ask(|reply| Job::Sweep(part, reply)).await.unwrap_or(nothing)
    }

    /// A look-up found this void.
    pub(in crate::cache::store) fn forget(&self, entry: &Entry) {
        if self.inner.index.remove(entry) {
            self.inner.book.count_reclaimed(1);
            self.inner.queue.push(Job::Kill(vec![*entry]));
        }
    }
}

/// Records looked at in one job: others wait that long.
const JOB_RECORDS: usize = 256;

impl Worker {
    /// See [`DiskStore::sweep`].
    pub fn sweep(&mut self, part: usize) -> Step {
        if self.sweeping.0 != part || self.sweeping.1.is_empty() {
            let Some(entries) = self.inner.index.part(part) else { return Step::default() };
            self.sweeping = (part, entries);
        }
        let rest = self.sweeping.1.len().saturating_sub(JOB_RECORDS);
        let now = self.sweeping.1.split_off(rest);
        let next = if rest == 0 { part + 1 } else { part };
        let mut step = Step { next: Some(next as u64), seen: now.len().max(1) as u64, reclaimed: 0 };
        let mut void = Vec::new();
        for listed in now {
            // It may have been moved since the list was made.
            let Some(entry) = self.inner.index.exact(&listed.id()) else { continue };
            let Ok(record) = record::read_head(&self.inner.segments, &entry, Io::Blocking) else {
                // Nobody will know whether it was purged.
                void.extend(self.inner.index.remove(&entry).then_some(entry));
                continue;
            };
            match self.inner.book.gate(&record.head, &record.key) {
                Gate::Live => {}
                Gate::Stale { since } => self.note_stale(&entry, &record, since),
                Gate::Void => void.extend(self.inner.index.remove(&entry).then_some(entry)),
            }
        }
        step.reclaimed = void.len() as u64;
        self.kill(&void);
        step
    }

    /// The rule will be let go of, so the object itself has to say since when it is stale.
    fn note_stale(&mut self, entry: &Entry, record: &Record, since: std::time::SystemTime) {
        let head = record.head.expired(since);
        if head.fresh_until < record.head.fresh_until {
            self.rewrite(entry, record, &head);
        }
    }
}
