//! What the memory level does for the one below it.

use super::super::disk::Place;
use super::super::shard::Lookup;
use super::super::{Head, Object, Slot, Target};
use super::{Below, MemoryStore};
use crate::cache::key::group_of;
use pingora_cache::key::HashBinary;
use std::sync::Arc;
use std::time::SystemTime;

impl MemoryStore {
    /// What the level below thinks of.
    pub(in crate::cache::store) fn below(&self) -> &Below {
        &self.inner.below
    }

    /// Tells the level below that an object was asked for again; `slot` is its own or the primary one of its key.
    pub(in crate::cache::store) fn offer(&self, slot: &Slot<'_>, object: &Arc<Object>) {
        // Offered once: what is not taken then is offered again when it is evicted.
        object.offered();
        let Some(disk) = self.inner.below.disk.load_full() else { return };
        let in_primary = self.peek(&Slot { variance: None, ..*slot }).is_some_and(|o| Arc::ptr_eq(&o, object));
        let variance = slot.variance.or(object.head().variance);
        disk.asked(&Place { hash: slot.hash, variance, primary: in_primary }, object);
    }

    /// The whole object in a slot, whatever is being filled; the access does not count.
    pub(in crate::cache::store) fn peek(&self, slot: &Slot<'_>) -> Option<Arc<Object>> {
        self.inner.shard(slot.group()).resident(slot)
    }

    /// Looks a slot up and counts the access.
    pub(in crate::cache::store) fn look(&self, slot: &Slot<'_>) -> Option<Lookup> {
        let mut void = Vec::new();
        let found = self.inner.shard(slot.group()).find(slot, &self.inner.book, &mut void);
        self.inner.reclaim(void);
        found
    }

    /// The head of an object that a purge made stale since then.
    pub(in crate::cache::store) fn head(&self, object: &Object, since: Option<SystemTime>) -> Arc<Head> {
        match since {
            // The wall clock may have been set back since.
            Some(since) => Arc::new(object.head().expired(since.min(self.inner.clock.now()))),
            None => Arc::clone(object.head()),
        }
    }

    /// Takes in an object of the level below, unless the slot has one by now; `false` when it has.
    pub(in crate::cache::store) fn promote(&self, slot: &Slot<'_>, object: &Arc<Object>) -> bool {
        let out = self.inner.shard(slot.group()).promote(slot, Arc::clone(object));
        let Some(out) = out else { return false };
        self.inner.forget(out);
        self.inner.count(object);
        true
    }

    /// Takes out an object that should not have been promoted.
    pub(in crate::cache::store) fn demote(&self, slot: &Slot<'_>, object: &Arc<Object>) {
        let gone = self.inner.shard(slot.group()).purge(slot.group(), object);
        self.inner.forget(gone);
    }

    /// Whether anything is stored or being stored in the group of this hash.
    pub(in crate::cache::store) fn knows(&self, hash: &HashBinary) -> bool {
        let group = group_of(hash);
        self.inner.shard(group).knows(group)
    }

    /// Slots of what a purge concerns, each under its own variance.
    pub(in crate::cache::store) fn list(&self, target: &Target<'_>) -> Vec<(HashBinary, Option<HashBinary>)> {
        self.inner.shard(target.group()).list(target)
    }

    /// [`Store::refresh`], giving the new object.
    pub(in crate::cache::store) fn refreshed(&self, slot: &Slot<'_>, head: Head) -> Option<Arc<Object>> {
        let old = self.inner.shard(slot.group()).resident(slot)?;
        // An object that came in after a purge is not the one that was asked about before it.
        if head.filed.generation < old.head().filed.generation {
            return None;
        }
        if !is_about(&head, old.head(), old.body_bytes()) {
            return None;
        }
        let checked = self.inner.book.admit(&head.filed, slot.key)?;
        let (old, new) = self.inner.change(slot.group(), &old, |now| now.refreshed(head, checked))?;
        old.set_void();
        Some(new)
    }
}

/// Whether a refreshed head still speaks of a stored body: another answer may have taken its place while the origin was
/// asked about the one before.
pub(in crate::cache::store) fn is_about(new: &Head, stored: &Head, body_bytes: u64) -> bool {
    let tag = |head: &Head| head.header.headers.get(http::header::ETAG).cloned();
    let other_tag = matches!((tag(new), tag(stored)), (Some(a), Some(b)) if a != b);
    new.length.is_none_or(|l| l == body_bytes) && !other_tag
}
