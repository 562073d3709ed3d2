//! Reclaiming in the background: void objects are thrown out a few at a time, and rules that no object can need any more
//! are let go of.

use super::Book;
use std::future::Future;
use std::time::Duration;

/// What one step of a level did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Where to go on; `None` when every object has been seen.
    pub next: Option<u64>,
    /// Objects looked at.
    pub seen: u64,
    /// Void objects thrown out.
    pub reclaimed: u64,
}

/// A level of a store, seen by the sweep.
pub trait Level: Send + Sync {
    /// Checks at most about `objects_max` objects from `from` on (0 is the beginning) against the book. Every object that
    /// was stored before the first step of a pass must be seen in it. Void ones are thrown out for good: a level that
    /// outlives the process makes sure before it returns that they do not come back. Stale ones must remember since when,
    /// or are thrown out too.
    fn step(&self, from: u64, objects_max: usize) -> impl Future<Output = Step> + Send;

    /// The least generation of a fill in flight.
    fn oldest_fill(&self) -> Option<u64>;
}

/// How long after a pass the rules from before it are still held, for requests that asked their origin before the pass
/// and have had no answer yet. An answer that takes longer is not stored.
pub const GRACE: Duration = Duration::from_secs(60);

/// Where a store's sweep is. One step at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sweep {
    /// Nothing to do, after a pass up to this generation.
    #[default]
    Idle,
    /// Under way.
    Passing {
        /// Everything stored before this generation will have been checked against all rules up to it.
        target: u64,
        /// Where to go on.
        from: u64,
    },
    /// Done; waiting for late answers.
    Waiting {
        /// As above.
        target: u64,
        /// Since when, by the book's clock.
        since: Duration,
    },
}

impl Sweep {
    /// Goes on for about `objects_max` objects. Cheap when no rule is held.
    pub async fn go_on<L: Level>(&mut self, book: &Book, level: &L, objects_max: usize) {
        *self = match *self {
            Sweep::Idle if book.rules() == 0 => Sweep::Idle,
            Sweep::Idle => Sweep::Passing { target: book.generation(), from: 0 },
            Sweep::Passing { target, from } => {
                let step = level.step(from, objects_max).await;
                book.count_reclaimed(step.reclaimed);
                match step.next {
                    Some(from) => Sweep::Passing { target, from },
                    None => Sweep::Waiting { target, since: book.elapsed() },
                }
            }
            Sweep::Waiting { target, since } if book.elapsed().saturating_sub(since) < GRACE => {
                Sweep::Waiting { target, since }
            }
            Sweep::Waiting { target, .. } => {
                book.forget(level.oldest_fill().map_or(target, |oldest| oldest.min(target)));
                Sweep::Idle
            }
        };
    }
}
