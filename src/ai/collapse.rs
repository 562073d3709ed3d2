//! Identical calls in flight become one: the first leads, the others wait for its complete answer.

use super::exact::Stored;
use super::key::Key;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Locks are per shard and held for a map operation only.
const SHARDS: usize = 64;

type Slot = watch::Receiver<Option<Arc<Stored>>>;
type Shard = Mutex<HashMap<Key, Slot>>;

/// The calls in flight.
pub struct InFlight {
    shards: Vec<Shard>,
}

/// What a call became by joining.
pub enum Joined {
    /// The first: it asks the provider and owes the others an answer.
    Lead(Lead),
    /// One of the others.
    Follow(Follow),
}

/// The duty of the first caller. Dropping it without an answer lets the others elect another.
pub struct Lead {
    home: Arc<InFlight>,
    key: Key,
    tell: watch::Sender<Option<Arc<Stored>>>,
}

/// The wait of a follower.
pub struct Follow {
    slot: Slot,
}

impl Default for InFlight {
    fn default() -> Self {
        InFlight { shards: (0..SHARDS).map(|_| Shard::default()).collect() }
    }
}

impl InFlight {
    /// Joins the calls with this key.
    pub fn join(self: &Arc<Self>, key: Key) -> Joined {
        let (tell, slot) = watch::channel(None);
        let lead = || Joined::Lead(Lead { home: self.clone(), key, tell });
        let Some(mut calls) = self.shard(&key).and_then(|s| s.lock().ok()) else { return lead() };
        if let Some(slot) = calls.get(&key) {
            return Joined::Follow(Follow { slot: slot.clone() });
        }
        calls.insert(key, slot);
        lead()
    }

    /// How many distinct calls are in flight.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().map_or(0, |calls| calls.len())).sum()
    }

    /// Whether no call is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: &Key) -> Option<&Shard> {
        self.shards.get(usize::from(*key.first()?) % SHARDS)
    }
}

impl Lead {
    /// Hands the answer to everyone who waits.
    pub fn finish(self, answer: Arc<Stored>) {
        self.tell.send_replace(Some(answer));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // Gone from the table before the channel closes, so that a follower who wakes up finds the place free.
        if let Some(mut calls) = self.home.shard(&self.key).and_then(|s| s.lock().ok()) {
            calls.remove(&self.key);
        }
    }
}

impl Follow {
    /// The leader's answer; `None` when it left or failed.
    pub async fn answer(mut self) -> Option<Arc<Stored>> {
        self.slot.wait_for(Option::is_some).await.ok().and_then(|seen| seen.clone())
    }
}
