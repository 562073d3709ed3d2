//! Identical calls in flight become one: the first leads, the others wait for its complete answer.

use super::exact::Stored;
use super::filings::Filings;
use super::key::Key;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Locks are per shard and held for a map operation only.
const SHARDS: usize = 64;

type Slot = watch::Receiver<State>;
type Shard = Mutex<HashMap<Key, Slot>>;

/// How far the leader is.
#[derive(Clone)]
enum State {
    /// It waits for its provider, as its followers would have to.
    Asking,
    /// A piece of the answer is with the leader's client, who decides when the next one is asked for.
    Handed,
    /// The complete answer.
    Done(Arc<Stored>),
    /// There is no answer to share.
    Failed,
}

/// The calls in flight, and what is still being filed of those that ended.
pub struct InFlight {
    shards: Vec<Shard>,
    /// Answers on their way into the semantic cache.
    pub filings: Filings,
}

/// What a call became by joining.
pub enum Joined {
    /// The first: it asks the provider and owes the others an answer.
    Lead(Lead),
    /// One of the others.
    Follow(Follow),
}

/// The duty of the first caller. Dropping it without a word (its client left) lets the others elect another.
pub struct Lead {
    home: Arc<InFlight>,
    key: Key,
    tell: watch::Sender<State>,
}

/// The wait of a follower.
pub struct Follow {
    slot: Slot,
}

/// What came of the wait.
#[derive(Debug, PartialEq)]
pub enum Followed {
    /// The leader's answer.
    Answer(Arc<Stored>),
    /// The leader left before its answer was known; one of the followers is to lead.
    Left,
    /// The leader failed, or its client reads too slowly. Every follower goes its own way at once: electing one
    /// after the other would have them wait in line for failures.
    Alone,
}

impl Default for InFlight {
    fn default() -> Self {
        InFlight { shards: (0..SHARDS).map(|_| Shard::default()).collect(), filings: Filings::default() }
    }
}

impl InFlight {
    /// Joins the calls with this key.
    pub fn join(self: &Arc<Self>, key: Key) -> Joined {
        let (tell, slot) = watch::channel(State::Asking);
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
    /// The leader waits for its provider from now on.
    pub fn asks(&self) {
        self.tell.send_replace(State::Asking);
    }

    /// The leader waits for its client from now on.
    pub fn hands_over(&self) {
        self.tell.send_replace(State::Handed);
    }

    /// Hands the answer to everyone who waits.
    pub fn finish(self, answer: Arc<Stored>) {
        self.tell.send_replace(State::Done(answer));
    }

    /// Tells everyone who waits that there will be no answer to share.
    pub fn fail(self) {
        self.tell.send_replace(State::Failed);
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
    /// Waits for as long as the leader's provider works, and for at most `patience` in all for the leader's client.
    pub async fn answer(mut self, mut patience: Duration) -> Followed {
        loop {
            let state = self.slot.borrow_and_update().clone();
            let changed = match state {
                State::Done(answer) => return Followed::Answer(answer),
                State::Failed => return Followed::Alone,
                State::Asking => self.slot.changed().await,
                State::Handed => {
                    let since = Instant::now();
                    let Ok(changed) = tokio::time::timeout(patience, self.slot.changed()).await else {
                        return Followed::Alone;
                    };
                    patience = patience.saturating_sub(since.elapsed());
                    changed
                }
            };
            if changed.is_err() {
                return Followed::Left;
            }
        }
    }
}
