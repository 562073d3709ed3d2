//! Asking what is known or under way already: the exact cache, the semantic cache, identical calls in flight.

use super::Run;
use super::call::CacheOutcome;
use super::collapse::{Followed, Joined, Lead};
use super::seam::{Lookup, Query, SemanticLookup, Ticket};
use crate::base::reply::Reply;
use std::time::Duration;

/// How long a call waits for an identical one in all before it goes its own way: about as long as a provider may take.
const COLLAPSE_WAIT: Duration = Duration::from_secs(60);
/// How much of that may be spent waiting for the other call's client to read what it was sent.
pub(super) const COLLAPSE_CLIENT_WAIT: Duration = Duration::from_secs(5);

impl Run<'_> {
    pub(super) fn ask_exact(&self) -> Option<Reply> {
        let (stored, age) = self.plan.exact_for_reading()?;
        self.replay(&stored, CacheOutcome::Exact, age)
    }

    /// A semantic hit, or the ticket under which the coming answer is to be filed.
    pub(super) async fn ask_semantic(&mut self) -> Result<Reply, Option<Box<dyn Ticket>>> {
        let Some((cache, query)) = self.plan.semantic.take() else { return Err(None) };
        if self.plan.refresh {
            return Err(self.ticket(&*cache, &query).await);
        }
        match cache.lookup(&query).await {
            Lookup::Hit(hit) if !self.plan.young(hit.age) => Err(self.ticket(&*cache, &query).await),
            Lookup::Hit(hit) => {
                let stored = self.stored_of(&hit);
                self.record.note(|c| (c.score, c.entry) = (Some(hit.score), Some(hit.id)));
                self.replay(&stored, CacheOutcome::Semantic, hit.age).ok_or(None)
            }
            Lookup::Miss(ticket) => Err(Some(ticket).filter(|_| self.plan.stores())),
            Lookup::Bypass(reason) => {
                self.record.note(|c| c.cache_reason = reason);
                Err(None)
            }
        }
    }

    /// The ticket for an answer that replaces what is stored.
    async fn ticket(&self, cache: &dyn SemanticLookup, query: &Query) -> Option<Box<dyn Ticket>> {
        if !self.plan.stores() {
            return None;
        }
        let ticket = cache.ticket(query).await;
        ticket.map_err(|reason| self.record.note(|c| c.cache_reason = reason)).ok()
    }

    /// The answer of an identical call in flight, or the duty to produce it for the others.
    pub(super) async fn ask_flight(&self) -> Result<Reply, Option<Lead>> {
        let Some((calls, key)) = &self.plan.collapse else { return Err(None) };
        let elect = async {
            loop {
                match calls.join(*key) {
                    Joined::Lead(lead) => return Err(Some(lead)),
                    Joined::Follow(follow) => match follow.answer(COLLAPSE_CLIENT_WAIT).await {
                        Followed::Answer(stored) => return Ok(stored),
                        Followed::Left => {}
                        Followed::Alone => return Err(None),
                    },
                }
            }
        };
        match tokio::time::timeout(COLLAPSE_WAIT, elect).await {
            Ok(Ok(stored)) => self.replay(&stored, CacheOutcome::Collapsed, Duration::ZERO).ok_or(None),
            // The call before may have ended between the look-up and the election.
            Ok(Err(lead)) => self.ask_exact().ok_or(lead),
            Err(_) => Err(None),
        }
    }
}
