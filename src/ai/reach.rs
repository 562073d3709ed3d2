//! The way to a model that answers: the chosen ones in order, then those of the fallback tiers.

use super::Run;
use super::call::Attempt;
use super::catalog::{Model, Stage};
use super::error::AiError;
use super::provider::{self, Asking, IDEMPOTENCY_KEY, Opened};
use super::verdict::Failure;
use http::{HeaderMap, StatusCode};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// A model's good answer with what led to it.
pub(super) struct Reached {
    pub(super) opened: Opened,
    pub(super) model: Arc<Model>,
    pub(super) tier: Option<String>,
    /// Whether it stands in for the chosen models.
    pub(super) stand_in: bool,
    /// When it was asked, on the gateway's clock.
    pub(super) asked: Duration,
}

/// An attempt under way. Dropped without an outcome, it is recorded as one that nobody waited for.
struct Trying<'a> {
    run: &'a Run<'a>,
    stage: &'a Stage,
    model: &'a Model,
    asked: Duration,
    told: bool,
}

impl Run<'_> {
    /// Tries the chosen models in order, then those of the fallback tiers; no model twice.
    pub(super) async fn reach(&self) -> Result<Reached, Failure> {
        let mut tried: Vec<&str> = Vec::new();
        let mut last = None;
        let mut client = Cow::Borrowed(&self.context.headers);
        let stages = std::iter::once((&self.choice.first, false)).chain(self.choice.fallback.iter().map(|s| (s, true)));
        for (stage, stand_in) in stages {
            for model in &stage.models {
                if tried.contains(&model.name.as_str()) {
                    continue;
                }
                if !tried.is_empty() && client.contains_key(IDEMPOTENCY_KEY) {
                    client.to_mut().remove(IDEMPOTENCY_KEY);
                }
                tried.push(&model.name);
                match self.attempt(stage, model, &client).await {
                    Ok((opened, asked)) => {
                        let (model, tier) = (model.clone(), stage.tier.clone());
                        return Ok(Reached { opened, model, tier, stand_in, asked });
                    }
                    Err(failure) if failure.next => last = Some(failure),
                    Err(failure) => return Err(failure),
                }
            }
        }
        Err(last.unwrap_or_else(|| self.nothing_to_try()))
    }

    async fn attempt(
        &self,
        stage: &Stage,
        model: &Arc<Model>,
        client: &HeaderMap,
    ) -> Result<(Opened, Duration), Failure> {
        let asked = self.gateway.clock.elapsed();
        let mut trying = Trying { run: self, stage, model, asked, told: false };
        let asking = Asking { prompt: self.prompt, client, now: self.gateway.clock.unix_secs() };
        let result = provider::ask(&self.gateway.fetcher, model, &asking).await;
        let result = result.and_then(|opened| self.judged(opened, model));
        match &result {
            Ok(_) => trying.tell("ok", Some(StatusCode::OK), None),
            Err(f) => trying.tell(f.reason, f.status, f.retry_after),
        }
        result.map(|opened| (opened, asked))
    }

    fn nothing_to_try(&self) -> Failure {
        let message = format!("the tier {:?} has no models", self.choice.name);
        let passed = Err(AiError::Provider { message, timeout: false, reason: "no_models" });
        Failure { reason: "no_models", status: None, retry_after: None, next: false, passed: Box::new(passed) }
    }
}

impl Trying<'_> {
    fn tell(&mut self, outcome: &'static str, status: Option<StatusCode>, retry_after: Option<Duration>) {
        self.told = true;
        let (model, provider) = (self.model.name.clone(), self.model.provider.name.clone());
        let seconds = self.run.gateway.clock.elapsed().saturating_sub(self.asked).as_secs_f64();
        if !matches!(outcome, "ok" | "client_gone") {
            tracing::warn!(model, provider, outcome, seconds, "model call failed");
        }
        let tier = self.stage.tier.clone();
        let attempt = Attempt { model, provider, tier, outcome, status, retry_after, seconds };
        self.run.record.note(|c| c.attempts.push(attempt));
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.tell("client_gone", None, None);
        }
    }
}
