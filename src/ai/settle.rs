//! The end of a call that a provider answered: bill it, store it, hand it to those who wait, close the record.

use super::call::{CallRecord, Ending};
use super::catalog::Model;
use super::collapse::Lead;
use super::dialect::Dialect;
use super::exact::{Place, Stored};
use super::filings::Filings;
use super::paying::Paying;
use super::routing::board::Pass;
use super::routing::breaker::Went;
use super::seam::{Answer, Ticket};
use super::tokens;
use super::usage::Usage;
use crate::base::clock::Clock;
use crate::base::units::Money;
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Where a complete answer is to be filed, and what it is paid with.
#[derive(Default)]
pub struct Files {
    /// The place in the exact cache.
    pub exact: Option<Place>,
    /// The place that the semantic look-up reserved, and where its filing is counted.
    pub ticket: Option<(Box<dyn Ticket>, Filings)>,
    /// Those who wait for the same answer.
    pub lead: Option<Lead>,
    /// The money reserved for it.
    pub paying: Option<Paying>,
}

/// A call whose provider is answering. Dropped before its end, it says that the client left.
pub struct Settle {
    /// The record to complete.
    pub record: Arc<CallRecord>,
    /// Where to file the answer.
    pub files: Files,
    /// The model that answers.
    pub model: Arc<Model>,
    /// What the client speaks, and the answer that is filed with it.
    pub dialect: Dialect,
    /// The tier it answers for.
    pub tier: Option<String>,
    /// Whether it stands in for the chosen ones; its answer is then not kept, so that it does not outlive the outage.
    pub stand_in: bool,
    /// The gateway's clock.
    pub clock: Clock,
    /// When the request came, on that clock.
    pub started: Duration,
    /// When the provider was asked, on that clock.
    pub asked: Duration,
    /// Where the model's health is kept.
    pub pass: Option<Pass>,
}

impl Settle {
    /// The first content has come.
    pub fn first_content(&self) {
        let since = self.clock.elapsed().saturating_sub(self.started);
        self.record.note(|c| {
            c.first_content.get_or_insert(since);
        });
    }

    /// The answer is complete; `answer` is the whole JSON in the client's dialect, where it could be
    /// recorded.
    pub fn complete(mut self, usage: Option<Usage>, answer: Option<(&Value, Bytes)>) {
        self.went(Went::Well);
        let now = self.clock.elapsed();
        let seen = answer.as_ref().map_or(0, |(_, body)| tokens::of_text(body.len()));
        let cost = self.bill(usage, seen);
        let files = std::mem::take(&mut self.files);
        let mut kept = false;
        if answer.is_none()
            && let Some(lead) = files.lead
        {
            lead.fail();
        } else if let Some((json, body)) = answer {
            let stored = Arc::new(Stored {
                body,
                model: self.model.name.clone(),
                provider: self.model.provider.name.clone(),
                tier: self.tier.clone(),
                usage,
                cost,
                seconds: now.saturating_sub(self.asked).as_secs_f64(),
                at: now,
            });
            let wire = self.dialect.wire();
            let may = May { keep: !self.stand_in && wire.may_keep(json), share: wire.may_share(json) };
            kept = file(files, (&stored, self.asked), may);
        }
        let took = now.saturating_sub(self.started);
        self.record.note(|c| {
            (c.took, c.stored) = (Some(took), kept);
            c.first_content.get_or_insert(took);
            c.ending = Ending::Complete;
        });
    }

    /// The answer broke off. `usage` is what the provider had told until then: it bills broken answers, too. `seen` are
    /// the events with something of the answer that came.
    pub fn fail(mut self, reason: &'static str, (usage, seen): (Option<Usage>, u64)) {
        self.went(Went::Badly);
        if let Some(lead) = self.files.lead.take() {
            lead.fail();
        }
        self.end(Ending::Failed(reason), usage, seen);
    }

    /// The client left; `usage` and `seen` as for `fail`. The model answered as far as it was let.
    pub fn leave(mut self, (usage, seen): (Option<Usage>, u64)) {
        self.went(Went::Well);
        self.end(Ending::ClientGone, usage, seen);
    }

    /// The provider's turn: those who wait for the same answer wait with us.
    pub fn asks(&self) {
        if let Some(lead) = &self.files.lead {
            lead.asks();
        }
    }

    /// The client's turn: those who wait need not wait for it for long.
    pub fn hands_over(&self) {
        if let Some(lead) = &self.files.lead {
            lead.hands_over();
        }
    }

    fn went(&mut self, went: Went) {
        if let Some(pass) = self.pass.take() {
            pass.report(went);
        }
    }

    fn end(&mut self, ending: Ending, usage: Option<Usage>, seen: u64) {
        let took = self.clock.elapsed().saturating_sub(self.started);
        self.bill(usage, seen);
        self.record.note(|c| (c.took, c.ending) = (Some(took), ending));
    }

    /// `seen` are the output tokens that the answer was seen to have, for providers that do not tell.
    fn bill(&mut self, usage: Option<Usage>, seen: u64) -> Option<Money> {
        let now = self.clock.unix_secs();
        let cost = self.record.bill(&self.model, usage, now);
        if let Some(paying) = self.files.paying.take() {
            paying.settle(self.model.rate(now), cost, seen);
        }
        cost
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        self.record.client_left(self.clock.elapsed().saturating_sub(self.started));
    }
}

/// What may be done with an answer.
#[derive(Clone, Copy)]
struct May {
    keep: bool,
    share: bool,
}

/// Stores the answer before the call leaves the table of calls in flight, so that whoever comes in between finds it.
fn file(files: Files, (stored, asked): (&Arc<Stored>, Duration), may: May) -> bool {
    let mut kept = false;
    if may.keep {
        if let Some(place) = files.exact {
            kept = place.put(stored.clone(), asked);
        }
        if let Some((ticket, filings)) = files.ticket.filter(|_| may.share) {
            filings.begin(ticket.store(shared(stored)));
            kept = true;
        }
    }
    if let Some(lead) = files.lead {
        lead.finish(stored.clone());
    }
    kept
}

fn shared(stored: &Stored) -> Answer {
    Answer {
        body: stored.body.clone(),
        model: stored.model.clone(),
        prompt_tokens: stored.usage.map_or(0, |u| u.input()),
        completion_tokens: stored.usage.map_or(0, |u| u.output()),
        cost_nano_usd: stored.cost.map_or(0, |c| c.nano_usd),
        seconds: stored.seconds,
    }
}
