//! Model calls from request to answer, in the OpenAI dialect: exact cache, semantic cache, calls in flight, then the
//! models of the chosen tier in order. `Gateway::answer` tells the whole story.

pub mod adapter;
pub mod call;
mod canon;
pub mod catalog;
pub mod collapse;
pub mod embed;
pub mod error;
pub mod exact;
pub mod headers;
mod json;
mod key;
mod models;
pub mod price;
pub mod prompt;
mod provider;
mod record;
mod replay;
pub mod seam;
pub mod semantic;
mod settle;
mod sse;
mod stream;
pub mod usage;
pub mod vector;

mod hit;
mod plan;

#[cfg(test)]
mod tests;

use crate::base::clock::Clock;
use crate::base::reply::{Body, Reply};
use crate::base::source::Source;
use crate::config::ai::AiRoute;
use crate::fetch::Fetcher;
use call::{Attempt, CacheOutcome, Call, CallRecord, Ending};
use catalog::{Catalog, Choice, Model, Stage};
use collapse::{InFlight, Joined};
use error::AiError;
use exact::{ExactCache, Stored};
use headers::{CacheMode, dress};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use plan::CachePlan;
use prompt::{Operation, Prompt};
use provider::{Failure, Opened};
use seam::{Lookup, SemanticLookup, Ticket};
use settle::{Files, Settle};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stream::LiveStream;

/// How long a call waits for an identical one before it goes its own way.
const COLLAPSE_WAIT: Duration = Duration::from_secs(60);

/// A cache of answers. It outlives reloads, so that a changed script does not empty it.
pub struct AnswerCache {
    /// The exact cache.
    pub exact: Option<Arc<ExactCache>>,
    /// The semantic cache.
    pub semantic: Option<Semantic>,
    /// The calls in flight.
    pub in_flight: Arc<InFlight>,
}

/// A semantic cache with its configured bounds.
pub struct Semantic {
    /// The cache.
    pub cache: Arc<dyn SemanticLookup>,
    /// The least similarity of a hit, unless the script says otherwise.
    pub threshold: f32,
    /// How long an answer lives, unless the script says otherwise.
    pub ttl: Duration,
    /// Whether all tenants of a route share answers (`scope: route`): right for public content only.
    pub tenants_share: bool,
}

/// What the policy script decided about a prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AiDirectives {
    /// How far the caches may be used; `None` leaves it to the route.
    pub cache: Option<CacheMode>,
    /// The tier to use.
    pub tier: Option<String>,
    /// The model to use; it wins over the tier.
    pub model: Option<String>,
    /// The least similarity of a semantic hit.
    pub threshold: Option<f32>,
    /// How long the answer may be served from a cache.
    pub ttl: Option<Duration>,
}

/// What surrounds a prompt.
#[derive(Clone, Debug)]
pub struct Context {
    /// The route's name.
    pub route: String,
    /// The route's `ai:` block.
    pub options: Arc<AiRoute>,
    /// Whose call it is (API key, JWT subject …); answers are never shared between tenants.
    pub tenant: String,
    /// The revision of the policy that decided.
    pub policy: String,
    /// The client's header fields.
    pub headers: HeaderMap,
}

/// The AI organ: made per plan, cheap to make; caches and connections are shared with the plans before it.
pub struct Gateway {
    catalog: Catalog,
    caches: BTreeMap<String, Arc<AnswerCache>>,
    fetcher: Fetcher,
    clock: Clock,
}

/// One call under way.
struct Run<'a> {
    gateway: &'a Gateway,
    prompt: &'a Prompt,
    context: &'a Context,
    choice: Choice,
    plan: CachePlan,
    record: Arc<CallRecord>,
    started: Duration,
}

/// A model's good answer with what led to it.
struct Reached {
    opened: Opened,
    model: Arc<Model>,
    tier: Option<String>,
    stand_in: bool,
    asked: Duration,
}

impl Gateway {
    /// A gateway over the given models and caches.
    pub fn new(
        catalog: Catalog,
        caches: BTreeMap<String, Arc<AnswerCache>>,
        fetcher: Fetcher,
        clock: Clock,
    ) -> Gateway {
        Gateway { catalog, caches, fetcher, clock }
    }

    /// The models and tiers.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Answers a prompt. The reply's extensions hold the call's record as `Arc<CallRecord>`.
    pub async fn answer(&self, prompt: Prompt, directives: &AiDirectives, context: &Context) -> Reply {
        let started = self.clock.elapsed();
        let record = Arc::new(CallRecord::default());
        record.note(|c| {
            (c.operation, c.stream) = (Some(prompt.operation), prompt.facts.stream);
            c.requested.clone_from(&prompt.facts.model);
        });
        let mut reply = if prompt.operation == Operation::Models {
            models::list(&self.catalog, &context.options)
        } else {
            match self.prepare(&prompt, directives, context, &record) {
                Ok((choice, plan)) => {
                    let record = record.clone();
                    Run { gateway: self, prompt: &prompt, context, choice, plan, record, started }.answer().await
                }
                Err(e) => e.reply(),
            }
        };
        if !matches!(reply.body, Body::Stream(_)) {
            let took = self.clock.elapsed().saturating_sub(started);
            record.note(|c| close(c, &reply, took));
        }
        reply.extensions.insert(record);
        reply
    }

    fn prepare(
        &self,
        prompt: &Prompt,
        directives: &AiDirectives,
        context: &Context,
        record: &CallRecord,
    ) -> Result<(Choice, CachePlan), AiError> {
        let script = directives.model.as_deref().or(directives.tier.as_deref());
        let choice = self.catalog.choose(&prompt.facts.model, script, &context.options)?;
        let cache = context.options.cache.as_ref().and_then(|name| self.caches.get(name));
        let plan = CachePlan::make(prompt, directives, context, &choice, cache)?;
        record.note(|c| {
            c.target.clone_from(&choice.name);
            (c.cache, c.cache_reason) = (plan.outcome, plan.reason);
        });
        Ok((choice, plan))
    }
}

fn close(c: &mut Call, reply: &Reply, took: Duration) {
    c.took.get_or_insert(took);
    if c.ending == Ending::Running {
        c.ending = if reply.status.is_success() { Ending::Complete } else { Ending::Failed(reply.reason) };
    }
}

impl Run<'_> {
    /// The whole story: what is known, what is being asked already, and only then a model.
    async fn answer(mut self) -> Reply {
        if let Some(reply) = self.ask_exact() {
            return reply;
        }
        let ticket = match self.ask_semantic().await {
            Ok(reply) => return reply,
            Err(ticket) => ticket,
        };
        let lead = match self.ask_flight().await {
            Ok(reply) => return reply,
            Err(lead) => lead,
        };
        match self.reach().await {
            Ok(reached) => self.deliver(reached, Files { exact: self.plan.place(), ticket, lead }),
            Err(failure) => self.give_up(failure),
        }
    }

    fn ask_exact(&self) -> Option<Reply> {
        let (stored, age) = self.plan.exact_for_reading()?;
        self.replay(&stored, CacheOutcome::Exact, age)
    }

    /// A semantic hit, or the ticket under which the coming answer is to be filed.
    async fn ask_semantic(&mut self) -> Result<Reply, Option<Box<dyn Ticket>>> {
        let Some((cache, query)) = self.plan.semantic.take() else { return Err(None) };
        match cache.lookup(&query).await {
            Lookup::Hit(hit) => {
                let stored = self.stored_of(&hit);
                self.record.note(|c| (c.score, c.entry) = (Some(hit.score), Some(hit.id)));
                self.replay(&stored, CacheOutcome::Semantic, hit.age).ok_or(None)
            }
            Lookup::Miss(ticket) => Err(Some(ticket)),
            Lookup::Bypass(reason) => {
                self.record.note(|c| c.cache_reason = reason);
                Err(None)
            }
        }
    }

    /// The answer of an identical call in flight, or the duty to produce it for the others.
    async fn ask_flight(&self) -> Result<Reply, Option<collapse::Lead>> {
        let Some((calls, key)) = &self.plan.collapse else { return Err(None) };
        let elect = async {
            loop {
                match calls.join(*key) {
                    Joined::Lead(lead) => return Err(lead),
                    Joined::Follow(follow) => {
                        if let Some(stored) = follow.answer().await {
                            return Ok(stored);
                        }
                    }
                }
            }
        };
        match tokio::time::timeout(COLLAPSE_WAIT, elect).await {
            Ok(Ok(stored)) => self.replay(&stored, CacheOutcome::Collapsed, Duration::ZERO).ok_or(None),
            // The call before may have ended between the look-up and the election.
            Ok(Err(lead)) => self.ask_exact().ok_or(Some(lead)),
            Err(_) => Err(None),
        }
    }

    /// Tries the chosen models in order, then those of the fallback tiers; no model twice.
    async fn reach(&self) -> Result<Reached, Failure> {
        let mut tried: Vec<&str> = Vec::new();
        let mut last = None;
        let stages = std::iter::once((&self.choice.first, false)).chain(self.choice.fallback.iter().map(|s| (s, true)));
        for (stage, stand_in) in stages {
            for model in &stage.models {
                if tried.contains(&model.name.as_str()) {
                    continue;
                }
                tried.push(&model.name);
                match self.attempt(stage, model, stand_in).await {
                    Ok(reached) => return Ok(reached),
                    Err(failure) if failure.next => last = Some(failure),
                    Err(failure) => return Err(failure),
                }
            }
        }
        Err(last.unwrap_or_else(|| self.nothing_to_try()))
    }

    async fn attempt(&self, stage: &Stage, model: &Arc<Model>, stand_in: bool) -> Result<Reached, Failure> {
        let gateway = self.gateway;
        let asked = gateway.clock.elapsed();
        let result = provider::ask(&gateway.fetcher, model, self.prompt, &self.context.headers).await;
        let (outcome, status, retry_after) = match &result {
            Ok(_) => ("ok", Some(StatusCode::OK), None),
            Err(f) => (f.reason, f.status, f.retry_after),
        };
        let seconds = gateway.clock.elapsed().saturating_sub(asked).as_secs_f64();
        if outcome != "ok" {
            tracing::warn!(model = model.name, provider = model.provider.name, outcome, seconds, "model call failed");
        }
        let (name, provider, tier) = (model.name.clone(), model.provider.name.clone(), stage.tier.clone());
        let attempt = Attempt { model: name, provider, tier, outcome, status, retry_after, seconds };
        self.record.note(|c| c.attempts.push(attempt));
        let (model, tier) = (model.clone(), stage.tier.clone());
        result.map(|opened| Reached { opened, model, tier, stand_in, asked })
    }

    fn nothing_to_try(&self) -> Failure {
        let message = format!("the tier {:?} has no models", self.choice.name);
        let passed = Err(AiError::Provider { message, timeout: false, reason: "no_models" });
        Failure { reason: "no_models", status: None, retry_after: None, next: false, passed: Box::new(passed) }
    }

    fn deliver(&self, reached: Reached, files: Files) -> Reply {
        let Reached { opened, model, tier, stand_in, asked } = reached;
        self.record.note(|c| {
            (c.model, c.provider) = (Some(model.name.clone()), Some(model.provider.name.clone()));
            c.tier.clone_from(&tier);
        });
        let (record, clock, started) = (self.record.clone(), self.gateway.clock.clone(), self.started);
        let settle = Settle { record, files, model, tier, stand_in, clock, started, asked };
        let mut reply = Reply::new(StatusCode::OK, Source::Provider).because(self.reason());
        let facts = &self.prompt.facts;
        match opened {
            Opened::Whole { headers, body, json } => {
                // What is stored is the JSON, also where the client gets it as a stream.
                let whole = if facts.stream { json.to_string().into() } else { body.clone() };
                settle.complete(json.get("usage"), Some((&json, whole)));
                (reply.headers, reply.body) = (headers, Body::Full(body));
            }
            Opened::Live { headers, live } => {
                reply.headers = headers;
                reply.body = Body::Stream(Box::new(LiveStream::new(*live, settle, !facts.wants_usage)));
            }
        }
        set_media_type(&mut reply, facts.stream);
        dress(reply, &self.record.read(), None)
    }

    fn give_up(&self, failure: Failure) -> Reply {
        let reply = match *failure.passed {
            Ok(passed) => {
                let mut reply = Reply::full(passed.status, Source::Provider, "application/json", passed.body);
                reply.headers.extend(passed.headers);
                reply.because(failure.reason)
            }
            Err(error) => error.reply(),
        };
        dress(reply, &self.record.read(), None)
    }

    fn reason(&self) -> &'static str {
        let call = self.record.read();
        if call.cache_reason.is_empty() { call.cache.as_str() } else { call.cache_reason }
    }
}

fn set_media_type(reply: &mut Reply, stream: bool) {
    let kind = if stream { "text/event-stream; charset=utf-8" } else { "application/json" };
    reply.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // Shared caches in front must not keep what was made for one caller.
    reply.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
}

/// The stored answer with what it spares.
fn savings(stored: &Stored) -> call::Saved {
    call::Saved {
        input_tokens: stored.usage.map_or(0, |u| u.input()),
        output_tokens: stored.usage.map_or(0, |u| u.output()),
        cost: stored.cost,
        seconds: stored.seconds,
    }
}
