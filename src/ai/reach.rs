//! The way to a model that answers: one after the other as the walk says, maybe two at a time, all within one deadline.

use super::call::{Attempt, Try};
use super::catalog::Model;
use super::error::AiError;
use super::provider::{self, Asking, IDEMPOTENCY_KEY, Opened};
use super::routing::board::Pass;
use super::routing::breaker::Why;
use super::routing::cause;
use super::routing::walk::{Errand, Next, Turn, Walk};
use super::verdict::Failure;
use super::{Run, tokens, verdict};
use crate::config::ai::{FallbackOn, Strategy};
use http::{HeaderMap, StatusCode};
use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Output tokens to reckon with when prices are compared and the client sets no limit, or a larger one.
const OUTPUT_TOKENS: u64 = 512;

/// A model's good answer with what led to it.
pub(super) struct Reached {
    pub(super) opened: Opened,
    pub(super) model: Arc<Model>,
    pub(super) tier: Option<String>,
    /// Whether it stands in for the chosen models.
    pub(super) stand_in: bool,
    /// When it was asked, on the gateway's clock.
    pub(super) asked: Duration,
    /// Where the model's health is kept.
    pub(super) pass: Pass,
}

/// An attempt under way. Dropped without an outcome, it is recorded as one that nobody waited for.
struct Trying<'a> {
    run: &'a Run<'a>,
    tier: Option<String>,
    model: &'a Model,
    kind: Try,
    asked: Duration,
    told: bool,
}

/// The attempts of one request.
struct Way<'a> {
    run: &'a Run<'a>,
    walk: Walk<'a>,
    /// The client's fields; without its idempotency key from the second model on.
    client: Cow<'a, HeaderMap>,
    first: Option<String>,
    ends: Instant,
}

/// A model that is asked.
struct Asked {
    at: usize,
    model: Arc<Model>,
    tier: Option<String>,
    stand_in: bool,
    kind: Try,
}

impl Run<'_> {
    /// By when the call must have an answer, whoever gives it.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.gateway.routing.way(&self.context.options).retry.deadline.0
    }

    /// Asks the chosen models, then those of the fallback tiers, until one answers.
    pub(super) async fn reach(&self, ends: Instant) -> Result<Reached, Failure> {
        let routing = &self.gateway.routing;
        let rules = routing.way(&self.context.options);
        let stages = std::iter::once((&self.choice.first, false)).chain(self.choice.fallback.iter().map(|s| (s, true)));
        let mut walk = Walk::new(routing, rules, self.errand(), stages, self.context.options.hedge);
        let bond = self.bond();
        if let Some(model) = bond.as_ref().and_then(|b| b.model.as_deref()) {
            walk.prefer(model);
        }
        let client = Cow::Borrowed(&self.context.headers);
        let mut way = Way { run: self, walk, client, first: None, ends };
        let reached = way.go().await;
        let skipped = way.walk.skipped().map(|m| (m.name.clone(), m.provider.name.clone())).collect::<Vec<_>>();
        if !skipped.is_empty() {
            self.record.note(|c| c.skipped.extend(skipped));
        }
        if let (Ok(reached), Some(bond)) = (&reached, bond)
            && !reached.stand_in
        {
            self.bind(bond, &reached.model.name);
        }
        reached
    }

    fn errand(&self) -> Errand {
        let facts = &self.prompt.facts;
        // Weighing the whole prompt is for those who compare prices; its text says enough for the rest.
        let stages = || std::iter::once(&self.choice.first).chain(&self.choice.fallback);
        let exactly = stages().any(|s| s.strategy == Strategy::Cheapest);
        let roughly = u64::try_from(facts.chars).unwrap_or(u64::MAX) / tokens::BYTES_PER_TOKEN;
        let tokens = if exactly { tokens::likely(self.prompt) } else { roughly };
        let output = facts.max_tokens.map_or(OUTPUT_TOKENS, |most| most.min(OUTPUT_TOKENS));
        Errand { tokens, output, stream: facts.stream }
    }

    /// Nobody was asked: all rest, or there is none.
    fn nobody(&self, resting: Option<(Duration, Why)>) -> Failure {
        let name = &self.choice.name;
        let Some((wait, why)) = resting else {
            let message = format!("the tier {name:?} has no models");
            return verdict::nobody(AiError::Provider { message, timeout: false, reason: "no_models" });
        };
        let message = format!("every model of {name:?} is left alone for a while after failures; try again later");
        let limited = why == Why::Told;
        verdict::nobody(AiError::Resting { message, wait, limited })
    }
}

impl Way<'_> {
    async fn go(&mut self) -> Result<Reached, Failure> {
        let mut last = None;
        while let Some(turn) = self.walk.turn() {
            match self.take(turn).await {
                Ok(reached) => return Ok(reached),
                Err(None) => {}
                Err(Some((Next::Go, failure))) => last = Some(failure),
                Err(Some((Next::Final, failure))) => return Err(failure),
            }
            if Instant::now() >= self.ends {
                break;
            }
        }
        Err(last.unwrap_or_else(|| self.run.nobody(self.walk.resting())))
    }

    /// One turn, maybe with a second model beside. Nothing came of it when the model is to be left alone by now.
    async fn take(&mut self, turn: Turn) -> Result<Reached, Option<(Next, Failure)>> {
        let Turn { at, wait, pass } = turn;
        let again = pass.is_none();
        if again {
            // No use in waiting for longer than anybody waits for the answer.
            if Instant::now() + wait >= self.ends {
                return Err(None);
            }
            tokio::time::sleep(wait).await;
        }
        let Some(pass) = pass.or_else(|| self.walk.admit(at)) else { return Err(None) };
        let asked = self.asked(at, if again { Try::Again } else { Try::Turn }).ok_or(None)?;
        let hedged = !self.run.context.headers.contains_key(IDEMPOTENCY_KEY);
        let patience = self.walk.patience(at).filter(|_| hedged);
        let (run, client) = (self.run, self.client.clone());
        let mut first = pin!(run.attempt(&asked, (pass, self.ends), &client));
        if let Some(patience) = patience {
            tokio::select! {
                biased;
                done = &mut first => return done.map_err(|f| Some(self.failed(&asked, f))),
                () = sleep_until(Instant::now() + patience) => {}
            }
            if let Some(second) = self.walk.second(at) {
                return self.race(&asked, first, second).await.map_err(Some);
            }
        }
        first.await.map_err(|f| Some(self.failed(&asked, f)))
    }

    /// Two at a time: the first good answer is taken, and the other call is cancelled.
    async fn race(
        &mut self,
        asked: &Asked,
        first: std::pin::Pin<&mut impl Future<Output = Result<Reached, Failure>>>,
        turn: Turn,
    ) -> Result<Reached, (Next, Failure)> {
        let mut first = first;
        let (Some(pass), Some(beside)) = (turn.pass, self.asked(turn.at, Try::Hedge)) else {
            return first.await.map_err(|f| self.failed(asked, f));
        };
        let (run, client) = (self.run, self.client.clone());
        let mut second = pin!(run.attempt(&beside, (pass, self.ends), &client));
        tokio::select! {
            biased;
            done = &mut first => match done.map_err(|f| self.failed(asked, f)) {
                Err((Next::Go, _)) => second.await.map_err(|f| self.failed(&beside, f)),
                done => done,
            },
            done = &mut second => match done.map_err(|f| self.failed(&beside, f)) {
                Err((Next::Go, _)) => first.await.map_err(|f| self.failed(asked, f)),
                done => done,
            },
        }
    }

    fn asked(&mut self, at: usize, kind: Try) -> Option<Asked> {
        let candidate = self.walk.candidate(at)?;
        let (model, tier, stand_in) = (candidate.model.clone(), candidate.tier.clone(), candidate.stand_in);
        let other = self.first.get_or_insert_with(|| model.name.clone()) != &model.name;
        if other && self.client.contains_key(IDEMPOTENCY_KEY) {
            self.client.to_mut().remove(IDEMPOTENCY_KEY);
        }
        Some(Asked { at, model, tier, stand_in, kind })
    }

    fn failed(&mut self, asked: &Asked, failure: Failure) -> (Next, Failure) {
        (self.walk.failed(asked.at, failure.cause, failure.retry_after), failure)
    }
}

impl Run<'_> {
    async fn attempt(
        &self,
        asked: &Asked,
        (mut pass, ends): (Pass, Instant),
        client: &HeaderMap,
    ) -> Result<Reached, Failure> {
        let (model, clock) = (&asked.model, &self.gateway.clock);
        let since = clock.elapsed();
        let (tier, kind) = (asked.tier.clone(), asked.kind);
        let mut trying = Trying { run: self, tier, model, kind, asked: since, told: false };
        let watch = self.gateway.routing.streaming(&self.context.options);
        let (prompt, record) = (self.prompt, &*self.record);
        let asking = Asking { prompt, client, now: clock.unix_secs(), watch, record };
        let answered = timeout_at(ends, provider::ask(&self.gateway.fetcher, model, &asking)).await;
        let answered = answered.unwrap_or_else(|_| Err(verdict::too_late(model)));
        let answered = answered.and_then(|opened| self.unfiltered(model, opened));
        match answered.and_then(|opened| self.judged(opened, model)) {
            Ok(opened) => {
                trying.tell("ok", Some(StatusCode::OK), None);
                pass.began(prompt.operation.is_chat().then_some(prompt.facts.stream));
                let (model, tier, stand_in) = (model.clone(), asked.tier.clone(), asked.stand_in);
                Ok(Reached { opened, model, tier, stand_in, asked: since, pass })
            }
            Err(f) => {
                trying.tell(f.reason, f.status, f.retry_after);
                if let Some(went) = f.cause.went(f.retry_after).filter(|_| f.reason != verdict::DEADLINE) {
                    pass.report(went);
                }
                Err(f)
            }
        }
    }

    /// A complete answer that the content filter took is a failure where the route says so. It is billed.
    fn unfiltered(&self, model: &Model, opened: Opened) -> Result<Opened, Failure> {
        let on = self.gateway.routing.way(&self.context.options).fallback_on;
        match &opened {
            Opened::Whole { json, usage, .. } if on.contains(&FallbackOn::ContentFilter) && cause::filtered(json) => {
                self.record.lose(model, *usage, self.gateway.clock.unix_secs());
                Err(verdict::filtered(model))
            }
            _ => Ok(opened),
        }
    }
}

impl Trying<'_> {
    fn tell(&mut self, outcome: &'static str, status: Option<StatusCode>, retry_after: Option<Duration>) {
        self.told = true;
        let (model, provider) = (self.model.name.clone(), self.model.provider.name.clone());
        let seconds = self.run.gateway.clock.elapsed().saturating_sub(self.asked).as_secs_f64();
        if !matches!(outcome, "ok" | "client_gone" | "hedged") {
            tracing::warn!(model, provider, outcome, seconds, "model call failed");
        }
        let (tier, kind) = (self.tier.clone(), self.kind);
        let attempt = Attempt { kind, model, provider, tier, outcome, status, retry_after, seconds };
        self.run.record.note(|c| c.attempts.push(attempt));
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if !self.told {
            // Given up right after another has answered: it was beaten. Else nobody waits for any of them.
            let beaten = self.run.record.read().attempts.last().is_some_and(|a| a.outcome == "ok");
            self.tell(if beaten { "hedged" } else { "client_gone" }, None, None);
        }
    }
}
