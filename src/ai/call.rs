//! The record of one model call: what was asked, who answered, what it took and what it saved. The reply carries it;
//! for a stream it is complete when the body has ended. Whoever starts the call holds it from the beginning, so that a
//! call that nobody waits for any more leaves its traces, too.

use super::catalog::Model;
use super::dialect::chat::Dropped;
use super::guard::report::Report;
use super::prompt::Operation;
use super::usage::Usage;
use crate::base::clock::Clock;
use crate::base::units::Money;
use http::StatusCode;
use std::sync::Mutex;
use std::time::Duration;

/// What the caches did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheOutcome {
    /// Not asked.
    #[default]
    Bypass,
    /// Answered by the exact cache.
    Exact,
    /// Answered by the semantic cache.
    Semantic,
    /// Answered by an identical call in flight.
    Collapsed,
    /// Asked in vain.
    Miss,
    /// Passed over because the client wants a fresh answer, which is then stored.
    Refresh,
}

impl CacheOutcome {
    /// The one spelling used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            CacheOutcome::Bypass => "bypass",
            CacheOutcome::Exact => "exact",
            CacheOutcome::Semantic => "semantic",
            CacheOutcome::Collapsed => "collapsed",
            CacheOutcome::Miss => "miss",
            CacheOutcome::Refresh => "refresh",
        }
    }
}

/// How the call ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// It has not: the body is still being produced.
    #[default]
    Running,
    /// With a complete answer.
    Complete,
    /// With an error, for this reason.
    Failed(&'static str),
    /// The client left first.
    ClientGone,
}

/// Why a model was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Try {
    /// It was its turn.
    #[default]
    Turn,
    /// Once more, after a failure of its own.
    Again,
    /// Beside another that let itself be waited for.
    Hedge,
}

impl Try {
    /// The one spelling used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Try::Turn => "turn",
            Try::Again => "again",
            Try::Hedge => "hedge",
        }
    }
}

/// What a provider counted for an answer that nobody got: it bills it all the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Lost {
    /// The model's configured name.
    pub model: String,
    /// The tokens.
    pub usage: Usage,
    /// What they cost; `None` where unknown.
    pub cost: Option<Money>,
}

/// One try at one provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Why it was made.
    pub kind: Try,
    /// The model's configured name.
    pub model: String,
    /// Its provider.
    pub provider: String,
    /// The tier it was tried for.
    pub tier: Option<String>,
    /// `ok`, or why the next was tried; `hedged` when another answered first, `client_gone` when nobody waited for the
    /// outcome any more.
    pub outcome: &'static str,
    /// The provider's status, if it answered.
    pub status: Option<StatusCode>,
    /// How long the provider asked us to stay away (`Retry-After` and its like).
    pub retry_after: Option<Duration>,
    /// Seconds until the outcome was known.
    pub seconds: f64,
}

/// What a cached answer spared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Saved {
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Money, where known.
    pub cost: Option<Money>,
    /// Seconds of waiting.
    pub seconds: f64,
}

/// The facts of a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// What was asked for; `None` only before the request was read.
    pub operation: Option<Operation>,
    /// The model as the client wrote it, cut to 128 characters.
    pub requested: String,
    /// The model or tier decided on.
    pub target: String,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// What the translation between client and provider left out.
    pub dropped: Dropped,
    /// What the guards did.
    pub guard: Report,
    /// The model that answered.
    pub model: Option<String>,
    /// Its provider.
    pub provider: Option<String>,
    /// The tier it answered for.
    pub tier: Option<String>,
    /// Every try, in order.
    pub attempts: Vec<Attempt>,
    /// Models that were passed over because they are left alone for a while, with their providers.
    pub skipped: Vec<(String, String)>,
    /// What was billed for answers that were not used; not part of `usage`.
    pub lost: Vec<Lost>,
    /// What the caches did.
    pub cache: CacheOutcome,
    /// Why the caches, or the semantic one, took no part; empty otherwise.
    pub cache_reason: &'static str,
    /// Whether the answer was stored.
    pub stored: bool,
    /// The cache entry that answered.
    pub entry: Option<String>,
    /// How similar the question of a semantic hit was.
    pub score: Option<f32>,
    /// Tokens billed for this call.
    pub usage: Option<Usage>,
    /// What they cost; `None` where unknown.
    pub cost: Option<Money>,
    /// What a cached answer spared.
    pub saved: Option<Saved>,
    /// From the request to the first content of the answer.
    pub first_content: Option<Duration>,
    /// From the request to the end of the answer.
    pub took: Option<Duration>,
    /// How it ended.
    pub ending: Ending,
}

/// The record, shared by the reply and the stream that completes it.
#[derive(Debug, Default)]
pub struct CallRecord {
    call: Mutex<Call>,
}

impl CallRecord {
    /// The facts as they stand now.
    pub fn read(&self) -> Call {
        match self.call.lock() {
            Ok(call) => call.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    /// Notes that the client left, unless the call had ended before. `took` is the time from the request to now.
    pub(super) fn client_left(&self, took: Duration) {
        self.note(|c| {
            if c.ending == Ending::Running {
                (c.took, c.ending) = (Some(took), Ending::ClientGone);
            }
        });
    }

    /// Notes what a provider counted for an answer that nobody got.
    pub(super) fn lose(&self, model: &Model, usage: Option<Usage>) {
        let Some(usage) = usage.filter(|u| *u != Usage::default()) else { return };
        let cost = model.rate.map(|rate| rate.cost(&usage));
        self.note(|c| c.lost.push(Lost { model: model.name.clone(), usage, cost }));
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Call)) {
        match self.call.lock() {
            Ok(mut call) => change(&mut call),
            Err(poisoned) => change(&mut poisoned.into_inner()),
        }
    }
}

/// Notes that the client left when it is dropped while the answer is still waited for.
pub(super) struct Watch<'a> {
    pub(super) record: &'a CallRecord,
    pub(super) clock: &'a Clock,
    pub(super) started: Duration,
    pub(super) waited_for: bool,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if self.waited_for {
            self.record.client_left(self.clock.elapsed().saturating_sub(self.started));
        }
    }
}
