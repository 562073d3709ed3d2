//! The sweep through memory: what purges have made void goes, what they have made stale remembers it.

use super::MemoryStore;
use crate::cache::purge::Gate;
use crate::cache::purge::sweep::{Level, Step};

/// Objects looked at under one lock.
const STEP_OBJECTS: usize = 256;

/// Which shard a sweep is at stands above, the place in it below this bit.
const SHARD_BIT: u32 = 48;

impl Level for MemoryStore {
    async fn step(&self, from: u64, objects_max: usize) -> Step {
        let mut step = Step { next: Some(from), ..Step::default() };
        while let Some(at) = step.next
            && step.seen < objects_max as u64
        {
            let (shard, place) = (at >> SHARD_BIT, usize::try_from(at & ((1 << SHARD_BIT) - 1)).unwrap_or(0));
            let (objects, next) = self.inner.shard(shard).part(place, STEP_OBJECTS);
            step.seen += STEP_OBJECTS as u64;
            let book = &self.inner.book;
            let void = objects.iter().filter(|(_, o)| book.check(o.head(), o.key(), o.checked()) == Gate::Void);
            for (group, object) in void {
                let gone = self.inner.shard(*group).purge(*group, object);
                step.reclaimed += u64::from(gone.is_some());
                self.inner.forget(gone);
            }
            step.next = match next {
                Some(place) => Some(shard << SHARD_BIT | place as u64),
                None => Some(shard + 1).filter(|s| *s < self.inner.shards()).map(|s| s << SHARD_BIT),
            };
            tokio::task::yield_now().await;
        }
        step
    }

    fn oldest_fill(&self) -> Option<u64> {
        (0..self.inner.shards()).filter_map(|s| self.inner.shard(s).oldest_fill()).min()
    }
}
