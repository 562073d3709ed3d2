//! Model calls from request to answer: exact cache, semantic cache, calls in flight, then the models of the chosen tier
//! in order. Clients and providers may speak different dialects ([`dialect`]); what is stored is the answer in the
//! client's. `Gateway::answer` tells the whole story.

pub mod adapter;
mod ask;
pub mod budget;
pub mod call;
pub mod caller;
mod canon;
pub mod catalog;
pub mod choice;
pub mod collapse;
mod compat;
mod count;
pub mod dialect;
pub mod embed;
pub mod error;
mod eventstream;
pub mod exact;
pub mod facts;
pub mod filings;
mod framing;
pub mod headers;
mod json;
mod key;
mod models;
mod paying;
pub mod price;
pub mod prompt;
mod provider;
mod reach;
mod record;
mod replay;
pub mod routing;
pub mod seam;
pub mod semantic;
mod settle;
mod sign;
mod sse;
mod stream;
pub mod tokens;
pub mod usage;
pub mod vector;
mod verdict;

mod hit;
mod peek;
mod plan;

#[cfg(test)]
mod tests;

use crate::base::clock::Clock;
use crate::base::reply::{Body, Reply};
use crate::base::source::Source;
use crate::config::ai::{Ai, AiRoute};
use crate::fetch::Fetcher;
use budget::{Book, Budgets, Wallet};
use call::{Call, CallRecord, Ending, Watch};
use caller::Caller;
use catalog::{Catalog, Choice};
use collapse::InFlight;
use error::AiError;
use exact::ExactCache;
use headers::{CacheMode, dress};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use paying::Funded;
use plan::CachePlan;
use prompt::{Operation, Prompt};
use provider::Opened;
use reach::Reached;
use routing::Routing;
use routing::board::Board;
use seam::SemanticLookup;
use settle::{Files, Settle};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stream::LiveStream;
use verdict::Failure;

/// Characters of the client's model name that are recorded.
const MODEL_CHARS_MAX: usize = 128;

/// A cache of answers. It outlives reloads, so that a changed script does not empty it.
pub struct AnswerCache {
    /// The exact cache.
    pub exact: Option<Arc<ExactCache>>,
    /// The semantic cache.
    pub semantic: Option<Semantic>,
    /// The calls in flight.
    pub in_flight: Arc<InFlight>,
}

impl AnswerCache {
    /// Resolves when every answer given so far is filed. For a shutdown, once no more calls come; who waits should
    /// set a limit.
    pub async fn settled(&self) {
        self.in_flight.filings.settled().await;
    }
}

/// A semantic cache with its configured bounds.
pub struct Semantic {
    /// The cache.
    pub cache: Arc<dyn SemanticLookup>,
    /// The least similarity of a hit, unless the script asks for more.
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
    /// The least similarity of a semantic hit; it can only raise the configured one.
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
    /// Who calls, as far as models and money are concerned.
    pub caller: Caller,
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
    routing: Routing,
    funds: Option<(Budgets, Arc<Book>)>,
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
    wallet: Option<Wallet>,
    /// An exhausted budget has turned the call to another tier.
    turned: bool,
}

impl Gateway {
    /// A gateway over the given models and caches.
    pub fn new(
        catalog: Catalog,
        caches: BTreeMap<String, Arc<AnswerCache>>,
        fetcher: Fetcher,
        clock: Clock,
    ) -> Gateway {
        let routing = Routing::alone(&catalog, clock.clone());
        Gateway { catalog, caches, fetcher, clock, routing, funds: None }
    }

    /// The same with the section's rules, on a board that others share.
    pub fn on_board(mut self, board: &Arc<Board>, ai: &Ai) -> Gateway {
        self.routing = Routing::new(&self.catalog, board.clone(), ai, self.clock.clone());
        self
    }

    /// The models and tiers.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Answers a prompt and keeps the record of it, also where the caller drops the future because the client left.
    pub async fn answer(
        &self,
        prompt: Prompt,
        directives: &AiDirectives,
        context: &Context,
        record: Arc<CallRecord>,
    ) -> Reply {
        let started = self.clock.elapsed();
        record.note(|c| {
            (c.operation, c.stream) = (Some(prompt.operation), prompt.facts.stream);
            c.requested = prompt.facts.model.chars().take(MODEL_CHARS_MAX).collect();
        });
        let mut watch = Watch { record: &record, clock: &self.clock, started, waited_for: true };
        let reply = self.reply(&prompt, directives, context, (&record, started)).await;
        watch.waited_for = false;
        if !matches!(reply.body, Body::Stream(_)) {
            let took = self.clock.elapsed().saturating_sub(started);
            record.note(|c| close(c, &reply, took));
        }
        reply
    }

    async fn reply(
        &self,
        prompt: &Prompt,
        directives: &AiDirectives,
        context: &Context,
        (record, started): (&Arc<CallRecord>, Duration),
    ) -> Reply {
        let view = (&*context.options, &context.caller);
        match prompt.operation {
            Operation::Models => return models::list(&self.catalog, view, prompt.dialect),
            Operation::Model => {
                let asked = (prompt.facts.model.as_str(), prompt.dialect);
                return models::one(&self.catalog, view, asked).unwrap_or_else(|e| e.reply(prompt.dialect));
            }
            _ => {}
        }
        match self.prepare(prompt, directives, context, record) {
            Ok((Funded { choice, wallet }, plan)) => {
                let record = record.clone();
                let run = Run { gateway: self, prompt, context, choice, plan, record, started, wallet, turned: false };
                if prompt.operation.is_count() { run.count().await } else { run.answer().await }
            }
            Err(e) => e.reply(prompt.dialect),
        }
    }

    fn prepare(
        &self,
        prompt: &Prompt,
        directives: &AiDirectives,
        context: &Context,
        record: &CallRecord,
    ) -> Result<(Funded, CachePlan), AiError> {
        let script = directives.model.as_deref().or(directives.tier.as_deref());
        let choice = self.catalog.choose(&prompt.facts.model, script, &context.options)?;
        let funded = self.funded(prompt, context, choice)?;
        let cache = context.options.cache.as_ref().and_then(|name| self.caches.get(name));
        let plan = CachePlan::make(prompt, directives, context, &funded.choice, cache)?;
        record.note(|c| {
            c.target.clone_from(&funded.choice.name);
            (c.cache, c.cache_reason) = (plan.outcome, plan.reason);
        });
        Ok((funded, plan))
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
        let paying = match self.pay() {
            Ok(paying) => paying,
            Err(e) => {
                if let Some(lead) = lead {
                    lead.fail();
                }
                return dress(e.reply(self.prompt.dialect), &self.record.read(), None);
            }
        };
        match self.reach().await {
            Ok(reached) => {
                let ticket = ticket.map(|t| (t, self.plan.filings.clone()));
                self.deliver(reached, Files { exact: self.plan.place(), ticket, lead, paying })
            }
            Err(failure) => {
                if let Some(lead) = lead {
                    lead.fail();
                }
                self.give_up(failure)
            }
        }
    }

    fn deliver(&self, reached: Reached, files: Files) -> Reply {
        let Reached { opened, model, tier, stand_in, asked, pass } = reached;
        let stand_in = stand_in || self.turned;
        self.record.note(|c| {
            (c.model, c.provider) = (Some(model.name.clone()), Some(model.provider.name.clone()));
            c.tier.clone_from(&tier);
        });
        let (record, clock, started) = (self.record.clone(), self.gateway.clock.clone(), self.started);
        let spoken = self.prompt.dialect;
        let provider = model.provider.speaks(spoken);
        let pass = Some(pass);
        let settle = Settle { record, files, model, dialect: spoken, tier, stand_in, clock, started, asked, pass };
        let mut reply = Reply::new(StatusCode::OK, Source::Provider).because(self.reason());
        let facts = &self.prompt.facts;
        match opened {
            Opened::Whole { headers, body, json, usage, dropped } => {
                self.record.note(|c| c.dropped = dropped);
                // What is stored is the JSON, also where the client gets it as a stream.
                let whole = if facts.stream { json.to_string().into() } else { body.clone() };
                settle.complete(usage, Some((&json, whole)));
                (reply.headers, reply.body) = (headers, Body::Full(body));
            }
            Opened::Live { headers, live, dropped } => {
                self.record.note(|c| c.dropped = dropped);
                reply.headers = headers;
                let wanted = dialect::Wanted { created: self.gateway.clock.unix_secs(), usage: facts.wants_usage };
                let watch = self.gateway.routing.streaming(&self.context.options);
                reply.body = Body::Stream(Box::new(LiveStream::new(*live, settle, provider, (wanted, watch))));
            }
        }
        set_media_type(&mut reply, facts.stream);
        dress(reply, &self.record.read(), None)
    }

    fn give_up(&self, failure: Failure) -> Reply {
        let reply = match *failure.passed {
            Ok(mut passed) => {
                let headers = std::mem::take(&mut passed.headers);
                let (status, body) = passed.told(self.prompt.dialect);
                let mut reply = Reply::full(status, Source::Provider, "application/json", body);
                reply.headers.extend(headers);
                reply.because(failure.reason)
            }
            Err(error) => error.reply(self.prompt.dialect),
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
