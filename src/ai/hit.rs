//! Serving a stored answer: as JSON or as a stream, whichever the client asked for.

use super::call::{CacheOutcome, Ending, Saved};
use super::exact::{Stored, entry_id};
use super::headers::dress;
use super::seam::Hit;
use super::usage::Usage;
use super::{Run, provider, set_media_type};
use crate::base::reply::{Body, Reply};
use crate::base::source::Source;
use crate::base::units::Money;
use http::StatusCode;
use std::time::Duration;

impl Run<'_> {
    /// A reply made of a stored answer; `None` when the answer cannot be read, which counts as a miss.
    pub(super) fn replay(&self, stored: &Stored, outcome: CacheOutcome, age: Duration) -> Option<Reply> {
        let source = match outcome {
            CacheOutcome::Exact => Source::AiExact,
            CacheOutcome::Semantic => Source::AiSemantic,
            _ => Source::AiCollapsed,
        };
        let facts = &self.prompt.facts;
        let shown = self.guarded.as_ref().filter(|g| g.watches_answers()).map(|g| g.again(&stored.body));
        let body = if let Some(shown) = shown {
            let answer = shown?;
            let own = || self.prompt.dialect.wire().replay(&answer, facts.wants_usage);
            if facts.stream { own()?.into() } else { answer.to_string().into() }
        } else if facts.stream {
            let answer = serde_json::from_slice(&stored.body).ok()?;
            self.prompt.dialect.wire().replay(&answer, facts.wants_usage)?.into()
        } else {
            stored.body.clone()
        };
        let model = self.gateway.catalog.models().find(|m| m.name == stored.model);
        let dropped = model.map(|m| provider::dropped(m, self.prompt)).unwrap_or_default();
        let took = self.gateway.clock.elapsed().saturating_sub(self.started);
        self.record.note(|c| {
            (c.cache, c.cache_reason, c.dropped) = (outcome, "", dropped);
            (c.model, c.tier) = (Some(stored.model.clone()), stored.tier.clone());
            c.provider = Some(stored.provider.clone()).filter(|p| !p.is_empty());
            c.guard = self.guard_report();
            (c.cost, c.saved) = (Some(Money::default()), Some(savings(stored)));
            (c.first_content, c.took, c.ending) = (Some(took), Some(took), Ending::Complete);
            if outcome == CacheOutcome::Exact {
                c.entry = self.plan.key.as_ref().map(entry_id);
            }
        });
        let mut reply = Reply::new(StatusCode::OK, source).because(outcome.as_str());
        reply.body = Body::Full(body);
        set_media_type(&mut reply, facts.stream);
        let age = (outcome != CacheOutcome::Collapsed).then_some(age);
        Some(dress(reply, &self.record.read(), age))
    }

    /// A semantic hit in the form of an exact one. The tier is the one decided on now: the partition holds no other.
    pub(super) fn stored_of(&self, hit: &Hit) -> Stored {
        let a = &hit.answer;
        let model = self.gateway.catalog.models().find(|m| m.name == a.model);
        Stored {
            body: a.body.clone(),
            model: a.model.clone(),
            provider: model.map(|m| m.provider.name.clone()).unwrap_or_default(),
            tier: self.choice.first.tier.clone(),
            usage: Some(Usage { uncached_in: a.prompt_tokens, out_text: a.completion_tokens, ..Usage::default() }),
            // The seam cannot say "unknown"; a model with a price never answers for nothing.
            cost: Some(Money { nano_usd: a.cost_nano_usd }).filter(|c| c.nano_usd > 0),
            seconds: a.seconds,
            at: Duration::ZERO,
        }
    }
}

/// The stored answer with what it spares.
fn savings(stored: &Stored) -> Saved {
    Saved {
        input_tokens: stored.usage.map_or(0, |u| u.input()),
        output_tokens: stored.usage.map_or(0, |u| u.output()),
        cost: stored.cost,
        seconds: stored.seconds,
    }
}
