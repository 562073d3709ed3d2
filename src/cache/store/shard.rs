//! One shard of the memory store: the slots of its groups and their eviction queues. Every method is short pointer work
//! under the shard's lock; what it takes out is returned, so that large bodies are freed outside.

use super::fill::Fill;
use super::object::Object;
use super::queue::{NodeId, Queues};
use super::{Slot, Target};
use crate::cache::key::group_of;
use crate::cache::purge::{Book, Gate};
use pingora_cache::key::HashBinary;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

/// A slot and what is in it.
#[derive(Debug)]
struct Resident {
    hash: HashBinary,
    variance: Option<HashBinary>,
    object: Arc<Object>,
    node: NodeId,
}

/// Everything stored or being stored under one URL.
#[derive(Debug, Default)]
struct Group {
    residents: Vec<Resident>,
    fills: Vec<Arc<Fill>>,
}

/// Slots under one URL; the oldest makes room for more, lest requests with made-up header values grow one group.
const RESIDENTS_MAX: usize = 256;

/// Counters of a shard, kept under its lock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub hits: u64,
    pub misses: u64,
    pub stored: u64,
    pub evictions: u64,
    pub purged: u64,
}

/// What left a slot.
#[derive(Debug)]
pub struct Gone {
    pub hash: HashBinary,
    /// The slot's variance; `None` is the primary slot.
    pub variance: Option<HashBinary>,
    pub object: Arc<Object>,
}

/// See the file's head.
#[derive(Debug, Default)]
pub struct Shard {
    groups: HashMap<u64, Group>,
    queues: Queues,
    /// Purge generations of the fills in flight, with how many have each.
    filling: BTreeMap<u64, usize>,
    pub counters: Counters,
}

/// What a slot has.
pub enum Lookup {
    Filling(Arc<Fill>),
    /// The time is since when it is stale, where a purge made it so.
    Whole(Arc<Object>, Option<SystemTime>),
}

impl Shard {
    /// Looks a slot up and counts the access. What a purge has made void is taken out on the way, into `gone`.
    pub fn find(&mut self, slot: &Slot<'_>, book: &Book, gone: &mut Vec<Arc<Object>>) -> Option<Lookup> {
        let mut found = None;
        for _ in 0..=RESIDENTS_MAX {
            found = self.peek(slot, book);
            let Some(Lookup::Whole(object, since)) = &mut found else { break };
            match book.check(object.head(), object.key(), object.checked()) {
                Gate::Live => {}
                Gate::Stale { since: at } => *since = Some(at),
                Gate::Void => {
                    let object = Arc::clone(object);
                    found = None;
                    gone.extend(self.purge(slot.group(), &object));
                    continue;
                }
            }
            object.touch();
            break;
        }
        *(if found.is_some() { &mut self.counters.hits } else { &mut self.counters.misses }) += 1;
        found
    }

    /// Looks a slot up: a fill in flight first, the newest of several. A fill begun before a purge that concerns it is
    /// not shown; a whole object has still to be checked.
    pub fn peek(&self, slot: &Slot<'_>, book: &Book) -> Option<Lookup> {
        let group = self.groups.get(&slot.group())?;
        let mine = |f: &&Arc<Fill>| f.is_for(slot) && book.may_follow(&f.head().filed, f.key());
        if let Some(fill) = group.fills.iter().rev().find(mine) {
            return Some(Lookup::Filling(Arc::clone(fill)));
        }
        let r = group.residents.iter().find(|r| r.hash == slot.hash && r.variance == slot.variance)?;
        // Two keys of one hash: the one that is not stored must not see the other's answer.
        (r.object.key() == slot.key).then(|| Lookup::Whole(Arc::clone(&r.object), None))
    }

    /// At most `max` objects with their groups from place `from` on, and where to go on.
    pub fn part(&self, from: usize, max: usize) -> (Vec<(u64, Arc<Object>)>, Option<usize>) {
        self.queues.part(from, max)
    }

    /// The least purge generation of a fill in flight.
    pub fn oldest_fill(&self) -> Option<u64> {
        self.filling.keys().next().copied()
    }

    fn fill_ended(&mut self, fill: &Fill) {
        let generation = fill.head().filed.generation;
        if let Some(n) = self.filling.get_mut(&generation) {
            *n -= 1;
            if *n == 0 {
                self.filling.remove(&generation);
            }
        }
    }

    /// The fill of this id.
    pub fn fill(&self, group: u64, id: u64) -> Option<Arc<Fill>> {
        self.groups.get(&group)?.fills.iter().find(|f| f.id() == id).cloned()
    }

    /// Makes a fill visible.
    pub fn add_fill(&mut self, fill: Arc<Fill>) {
        *self.filling.entry(fill.head().filed.generation).or_default() += 1;
        self.groups.entry(group_of(fill.hash())).or_default().fills.push(fill);
    }

    /// Takes a fill off the books; `false` when a purge has done so before.
    pub fn remove_fill(&mut self, fill: &Fill) -> bool {
        let id = group_of(fill.hash());
        let Some(group) = self.groups.get_mut(&id) else { return false };
        let before = group.fills.len();
        group.fills.retain(|f| f.id() != fill.id());
        let found = group.fills.len() < before;
        if found {
            self.fill_ended(fill);
        }
        self.forget_empty(id);
        found
    }

    /// Puts a whole object into the slot of its fill; returns what it replaced or pushed out.
    pub fn store(&mut self, fill: &Fill, object: Arc<Object>) -> Vec<Arc<Object>> {
        self.counters.stored += 1;
        self.place((*fill.hash(), fill.variance()), object)
    }

    /// Puts an object from the level below into its slot, unless something is there by now.
    pub fn promote(&mut self, slot: &Slot<'_>, object: Arc<Object>) -> Option<Vec<Arc<Object>>> {
        let variant = slot.variance.or(object.head().variance);
        let there = self.groups.get(&slot.group()).is_some_and(|g| {
            let mine = |r: &Resident| r.variance == slot.variance || r.variance.or(r.object.head().variance) == variant;
            g.residents.iter().any(|r| r.hash == slot.hash && mine(r))
        });
        (!there).then(|| self.place((slot.hash, slot.variance), object))
    }

    /// Takes out what a large object, which is kept below only, replaces.
    pub fn replace_below(&mut self, fill: &Fill) -> Option<Arc<Object>> {
        let group = self.groups.get(&group_of(fill.hash()))?;
        let variant = fill.variance().or(fill.head().variance);
        let mine = |r: &&Resident| {
            r.hash == *fill.hash()
                && (r.variance == fill.variance() || r.variance.or(r.object.head().variance) == variant)
        };
        let node = group.residents.iter().find(mine)?.node;
        let gone = self.take(node)?;
        gone.object.set_void();
        Some(gone.object)
    }

    /// Whether anything is stored or being stored in a group.
    pub fn knows(&self, group: u64) -> bool {
        self.groups.contains_key(&group)
    }

    /// Slots of what a purge concerns, each under its own variance.
    pub fn list(&self, target: &Target<'_>) -> Vec<(HashBinary, Option<HashBinary>)> {
        let residents = self.groups.get(&target.group()).map(|g| g.residents.as_slice()).unwrap_or_default();
        let mine = residents.iter().filter(|r| target.covers(&r.hash, r.object.key()));
        mine.map(|r| (r.hash, r.variance.or(r.object.head().variance))).collect()
    }

    fn place(&mut self, (hash, variance): (HashBinary, Option<HashBinary>), object: Arc<Object>) -> Vec<Arc<Object>> {
        let id = group_of(&hash);
        let mut out = Vec::new();
        let group = self.groups.entry(id).or_default();
        if let Some(at) = group.residents.iter().position(|r| r.hash == hash && r.variance == variance) {
            let old = group.residents.remove(at);
            self.queues.remove(old.node);
            old.object.set_void();
            out.push(old.object);
        } else if group.residents.len() >= RESIDENTS_MAX
            && let Some(node) = group.residents.first().map(|r| r.node)
        {
            out.extend(self.take(node).map(|gone| gone.object));
        }
        let node = self.queues.insert(id, Arc::clone(&object), ghost(&hash, variance));
        let group = self.groups.entry(id).or_default();
        group.residents.push(Resident { hash, variance, object, node });
        out
    }

    /// The object in a slot, or the one in the primary slot that is this variant (it may have moved up meanwhile).
    pub fn resident(&self, slot: &Slot<'_>) -> Option<Arc<Object>> {
        let group = self.groups.get(&slot.group())?;
        let mine = |r: &&Resident| {
            let same_slot = r.variance == slot.variance;
            let moved_up = r.variance.is_none() && slot.variance.is_some() && r.object.head().variance == slot.variance;
            r.hash == slot.hash && (same_slot || moved_up) && r.object.key() == slot.key
        };
        group.residents.iter().find(mine).map(|r| Arc::clone(&r.object))
    }

    /// Changes an object where it still is, whatever header it has by now: two changes at once are both made. Returns
    /// the old and the new; `None` when something else has taken its place.
    pub fn change(
        &mut self,
        group: u64,
        object: &Object,
        change: impl FnOnce(&Object) -> Object,
    ) -> Option<(Arc<Object>, Arc<Object>)> {
        let residents = &mut self.groups.get_mut(&group)?.residents;
        let r = residents.iter_mut().find(|r| r.object.same_body(object))?;
        let new = Arc::new(change(&r.object));
        let old = std::mem::replace(&mut r.object, Arc::clone(&new));
        self.queues.replace(r.node, Arc::clone(&new));
        Some((old, new))
    }

    /// Throws out the object that eviction chooses.
    pub fn evict(&mut self) -> Option<Gone> {
        let node = self.queues.victim()?;
        let gone = self.take(node)?;
        self.counters.evictions += 1;
        Some(gone)
    }

    /// Removes an object from queue and slot. When it was the primary one, the oldest variant takes the primary slot:
    /// otherwise the variants could not be found any more.
    fn take(&mut self, node: NodeId) -> Option<Gone> {
        let gone = self.queues.remove(node)?;
        let group = self.groups.get_mut(&gone.group)?;
        let at = group.residents.iter().position(|r| r.node == node)?;
        let old = group.residents.remove(at);
        self.queues.remember(ghost(&old.hash, old.variance));
        if old.variance.is_none()
            && let Some(heir) = group.residents.iter_mut().find(|r| r.hash == old.hash && r.variance.is_some())
        {
            heir.variance = None;
        }
        self.forget_empty(gone.group);
        Some(Gone { hash: old.hash, variance: old.variance, object: gone.object })
    }

    /// What a purge concerns. Fills in flight are taken off the books: what they bring may be older than the purge.
    pub fn targets(&mut self, target: &Target<'_>) -> (Vec<Arc<Object>>, Vec<Arc<Fill>>) {
        let id = target.group();
        let Some(group) = self.groups.get_mut(&id) else { return (Vec::new(), Vec::new()) };
        let residents = group.residents.iter().filter(|r| target.covers(&r.hash, r.object.key()));
        let objects = residents.map(|r| Arc::clone(&r.object)).collect();
        let fills: Vec<_> = group.fills.extract_if(.., |f| target.covers(f.hash(), f.key())).collect();
        fills.iter().for_each(|f| {
            self.fill_ended(f);
            f.set_void();
        });
        self.forget_empty(id);
        (objects, fills)
    }

    /// Removes one object that [`Shard::targets`] named, if it is still there.
    pub fn purge(&mut self, group: u64, object: &Arc<Object>) -> Option<Arc<Object>> {
        let residents = &self.groups.get(&group)?.residents;
        let node = residents.iter().find(|r| r.object.same_body(object))?.node;
        let gone = self.take(node)?;
        gone.object.set_void();
        Some(gone.object)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.queues.len()
    }

    fn forget_empty(&mut self, id: u64) {
        if self.groups.get(&id).is_some_and(|g| g.residents.is_empty() && g.fills.is_empty()) {
            self.groups.remove(&id);
        }
    }
}

fn ghost(hash: &HashBinary, variance: Option<HashBinary>) -> u64 {
    let fold = |h: &[u8]| h.iter().rev().take(8).fold(0, |n: u64, b| n << 8 | u64::from(*b));
    fold(hash) ^ variance.map_or(0, |v| fold(&v).rotate_left(1))
}
