//! The walk of one request from model to model: who is asked next, who is asked again, who is passed over. It asks
//! nobody itself and waits for nothing.

use super::board::{Pass, Standing};
use super::breaker::Why;
use super::cause::Cause;
use super::strategy::{self, Known};
use super::{Routing, Way};
use crate::ai::catalog::{Model, Stage};
use crate::ai::usage::Usage;
use crate::config::ai::{After, Hedge};
use std::sync::Arc;
use std::time::Duration;

/// What the walk has to know about the request.
#[derive(Clone, Copy, Debug)]
pub struct Errand {
    /// Its input tokens, estimated.
    pub tokens: u64,
    /// The output tokens to reckon with, for prices.
    pub output: u64,
    /// Whether the answer is a stream.
    pub stream: bool,
}

impl Errand {
    fn usage(&self) -> Usage {
        Usage { uncached_in: self.tokens, out_text: self.output, ..Usage::default() }
    }
}

/// A model that may answer.
pub struct Candidate {
    /// The model.
    pub model: Arc<Model>,
    /// The tier it would answer for.
    pub tier: Option<String>,
    /// Whether it stands in for the chosen models.
    pub stand_in: bool,
    /// When another is asked beside it.
    pub hedge: Option<Hedge>,
    standing: Arc<Standing>,
    tries: u32,
}

/// Whose turn it is.
pub struct Turn {
    /// The candidate's number.
    pub at: usize,
    /// How long to wait first; nothing but for a repeated call.
    pub wait: Duration,
    /// The pass; a repeated call gets its own after the wait, by [`Walk::admit`].
    pub pass: Option<Pass>,
}

/// What a failure means for the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is the answer.
    Final,
    /// Another try may be made.
    Go,
}

/// The walk.
pub struct Walk<'a> {
    routing: &'a Routing,
    way: Way<'a>,
    errand: Errand,
    candidates: Vec<Candidate>,
    tries: u32,
    again: Option<(usize, Duration)>,
    /// The context must be larger than this.
    context: Option<u64>,
    resting: Option<(Duration, Why)>,
    skipped: Vec<usize>,
}

impl<'a> Walk<'a> {
    /// A walk over these stages: the chosen one, then those that stand in for it; no model twice. `hedge` is the
    /// route's, in place of the tiers'.
    pub fn new<'s>(
        routing: &'a Routing,
        way: Way<'a>,
        errand: Errand,
        stages: impl Iterator<Item = (&'s Stage, bool)>,
        hedge: Option<Hedge>,
    ) -> Walk<'a> {
        let mut candidates: Vec<Candidate> = Vec::new();
        for (stage, stand_in) in stages {
            for place in order(routing, &errand, stage) {
                let Some(model) = stage.models.get(place) else { continue };
                let known = candidates.iter().any(|c| c.model.name == model.name);
                let Some(standing) = routing.standing(model).filter(|_| !known).cloned() else { continue };
                let (model, tier, hedge) = (model.clone(), stage.tier.clone(), hedge.or(stage.hedge));
                candidates.push(Candidate { model, tier, stand_in, hedge, standing, tries: 0 });
            }
        }
        let (again, context, resting) = (None, None, None);
        Walk { routing, way, errand, candidates, tries: 0, again, context, resting, skipped: Vec::new() }
    }

    /// The candidate with that number.
    pub fn candidate(&self, at: usize) -> Option<&Candidate> {
        self.candidates.get(at)
    }

    /// Whose turn it is; `None` when there is nobody left to ask.
    pub fn turn(&mut self) -> Option<Turn> {
        if let Some((at, wait)) = self.again.take() {
            return Some(Turn { at, wait, pass: None });
        }
        if let Some(turn) = self.fresh(false) {
            return Some(turn);
        }
        // All that were not asked rest. As long as nobody was asked at all, the one that rests the shortest is.
        if self.tries == 0 { self.fresh(true) } else { None }
    }

    /// Who is asked beside one that lets itself be waited for.
    pub fn second(&mut self, beside: usize) -> Option<Turn> {
        let allowance = self.candidates.get(beside)?.standing.allowance.clone();
        if !allowance.hedges.take() {
            return None;
        }
        let turn = self.fresh(false);
        if turn.is_none() {
            allowance.hedges.pay(1.0);
        }
        turn
    }

    /// How long this candidate may let itself be waited for before another is asked beside it.
    pub fn patience(&self, at: usize) -> Option<Duration> {
        let candidate = self.candidates.get(at)?;
        match candidate.hedge?.after {
            After::Time(time) => Some(time),
            After::Quantile(share) => candidate.standing.quantile(self.errand.stream, share),
        }
    }

    /// The pass for a repeated call, unless the model is to be left alone by now.
    pub fn admit(&mut self, at: usize) -> Option<Pass> {
        let candidate = self.candidates.get_mut(at)?;
        let pass = candidate.standing.admit(&self.routing.rules, false).ok()?;
        candidate.tries += 1;
        self.tries += 1;
        Some(pass)
    }

    /// Takes note of a failure.
    pub fn failed(&mut self, at: usize, cause: Cause, retry_after: Option<Duration>) -> Next {
        let named = cause.name().is_some_and(|name| self.way.fallback_on.contains(&name));
        if !named {
            return Next::Final;
        }
        if cause == Cause::ContextOverflow {
            let limit = self.candidates.get(at).and_then(|c| c.model.context_tokens);
            self.context = self.context.max(Some(limit.unwrap_or(self.errand.tokens)));
        }
        if cause.passes() {
            self.again = self.pause(at, retry_after).map(|wait| (at, wait));
        }
        Next::Go
    }

    /// Why nobody was asked: how long until the first may be, and what it rests for.
    pub fn resting(&self) -> Option<(Duration, Why)> {
        self.resting
    }

    /// Those that were passed over because they rest.
    pub fn skipped(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.skipped.iter().filter_map(|at| self.candidates.get(*at)).map(|c| &c.model)
    }

    /// The first that was not asked, may be, and has room for the prompt.
    fn fresh(&mut self, last: bool) -> Option<Turn> {
        if self.tries >= self.way.retry.total {
            return None;
        }
        let mut places: Vec<usize> = (0..self.candidates.len()).collect();
        if last {
            let now = self.routing.rules.clock.elapsed();
            places.sort_by_key(|at| self.candidates.get(*at).map(|c| c.standing.rests_for(now)));
        }
        let context = self.context;
        for at in places {
            let Some(c) = self.candidates.get_mut(at).filter(|c| c.tries == 0 && has_room(&c.model, context)) else {
                continue;
            };
            match c.standing.admit(&self.routing.rules, last) {
                Ok(pass) => {
                    c.tries = 1;
                    c.standing.allowance.retries.pay(self.way.retry.budget.0);
                    if let Some(hedge) = c.hedge.filter(|_| self.tries == 0) {
                        c.standing.allowance.hedges.pay(hedge.max_share.0);
                    }
                    self.tries += 1;
                    self.skipped.retain(|s| *s != at);
                    return Some(Turn { at, wait: Duration::ZERO, pass: Some(pass) });
                }
                Err((left, why)) => {
                    if self.resting.is_none_or(|(soonest, _)| left < soonest) {
                        self.resting = Some((left, why));
                    }
                    if !self.skipped.contains(&at) {
                        self.skipped.push(at);
                    }
                }
            }
        }
        None
    }

    /// The pause before the same model is asked again, if it may be.
    fn pause(&self, at: usize, retry_after: Option<Duration>) -> Option<Duration> {
        let (c, retry) = (self.candidates.get(at)?, &self.way.retry);
        let wanted = retry_after.unwrap_or_default();
        let may = c.tries < retry.attempts && self.tries < retry.total && wanted <= retry.backoff.max.0;
        if !may || !c.standing.allowance.retries.take() {
            return None;
        }
        let doubled = 1u32.checked_shl(c.tries.saturating_sub(1)).unwrap_or(u32::MAX);
        let full = retry.backoff.base.0.saturating_mul(doubled).min(retry.backoff.max.0);
        Some(wanted.max(full.mul_f64(self.routing.board.dice.draw())))
    }
}

/// Whether the model's context is larger than what was too small already.
fn has_room(model: &Model, context: Option<u64>) -> bool {
    context.is_none_or(|c| model.context_tokens.is_some_and(|has| has > c))
}

fn order(routing: &Routing, errand: &Errand, stage: &Stage) -> Vec<usize> {
    let now = routing.rules.clock.elapsed();
    let known = |(model, weight): (&Arc<Model>, &u32)| {
        let standing = routing.standing(model);
        Known {
            weight: *weight,
            in_flight: standing.map_or(0, |s| s.in_flight()),
            latency: standing.and_then(|s| s.latency(errand.stream, now)),
            cost: model.rate.map(|rate| rate.cost(&errand.usage()).nano_usd),
        }
    };
    let all: Vec<Known> = stage.models.iter().zip(&stage.weights).map(known).collect();
    strategy::order(stage.strategy, &all, &routing.board.dice)
}
