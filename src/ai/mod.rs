//! Model calls from request to answer: exact cache, semantic cache, calls in flight, then the models of the chosen tier
//! in order. Clients and providers may speak different dialects ([`dialect`]); what is stored is the answer in the
//! client's. `Gateway::answer` tells the whole story.

pub mod adapter;
mod ask;
mod bond;
pub mod budget;
pub mod call;
pub mod caller;
mod cascade;
pub mod catalog;
pub mod choice;
pub mod collapse;
mod compat;
mod count;
mod deliver;
pub mod dialect;
pub mod embed;
pub mod error;
mod eventstream;
pub mod exact;
pub mod facts;
pub mod filings;
mod framing;
pub mod guard;
pub mod headers;
mod json;
mod key;
pub mod ledger;
mod models;
mod names;
pub mod passthrough;
mod paying;
mod prefix;
pub mod price;
pub mod prompt;
mod provider;
mod reach;
mod record;
mod replay;
pub mod routing;
pub mod score;
mod screen;
pub mod seam;
pub mod semantic;
mod settle;
mod sign;
mod steer;
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

use crate::base::canonical_json as canon;
use crate::base::clock::Clock;
use crate::base::reply::{Body, Reply};
use crate::base::sse;
use crate::config::ai::{Ai, AiRoute};
use crate::fetch::Fetcher;
use budget::{Book, Budgets, Wallet};
use call::{Call, CallRecord, Ending, Watch};
use caller::Caller;
use catalog::{Catalog, Choice};
use collapse::InFlight;
use error::AiError;
use exact::ExactCache;
use guard::{GuardSet, Guarded};
use headers::{CacheMode, dress, peers};
use http::HeaderMap;
use paying::Funded;
use plan::CachePlan;
use prompt::{Operation, Prompt};
use routing::Routing;
use routing::board::Board;
use seam::SemanticLookup;
use settle::Files;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use steer::Steering;

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
    /// The guards to use instead of the route's, as far as the route allows.
    pub guard: Option<String>,
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
    guards: BTreeMap<String, Arc<GuardSet>>,
    fetcher: Fetcher,
    clock: Clock,
    routing: Routing,
    steering: Steering,
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
    guarded: Option<Arc<Guarded>>,
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
        let (guards, steering) = (BTreeMap::new(), Steering::default());
        Gateway { catalog, caches, guards, fetcher, clock, routing, steering, funds: None }
    }

    /// The same with the section's rules, on a board that others share.
    pub fn on_board(mut self, board: &Arc<Board>, ai: &Ai) -> Gateway {
        self.routing = Routing::new(&self.catalog, board.clone(), ai, self.clock.clone());
        self.steering = Steering::of(ai);
        self
    }

    /// Forgets the answers with this tag in every exact cache; gives how many there were in each. The semantic caches
    /// hold none: an answer with tags is not filed there.
    pub fn purge_tag(&self, tag: &str) -> BTreeMap<String, u64> {
        let exact = |c: &AnswerCache| c.exact.as_ref().map_or(0, |e| e.purge_tag(tag));
        self.caches.iter().map(|(name, c)| (name.clone(), exact(c))).collect()
    }

    /// The models and tiers.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Answers a prompt and keeps the record of it, also where the caller drops the future because the client left.
    pub async fn answer(
        &self,
        mut prompt: Prompt,
        directives: &AiDirectives,
        context: &Context,
        record: Arc<CallRecord>,
    ) -> Reply {
        let started = self.clock.elapsed();
        record.note(|c| {
            (c.operation, c.stream) = (Some(prompt.operation), prompt.facts.stream);
            c.requested = prompt.facts.model.chars().take(MODEL_CHARS_MAX).collect();
        });
        prompt.prefix = self.prefix(&prompt, context);
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
        let (screened, guarded) = match self.screen(prompt, directives, context, record) {
            Ok(screened) => screened,
            Err(e) => return dress(e.reply(prompt.dialect), &record.read(), None),
        };
        let prompt = screened.as_ref().unwrap_or(prompt);
        match self.prepare((prompt, guarded.as_deref()), directives, context, record) {
            Ok((Funded { choice, wallet }, plan)) => {
                let record = record.clone();
                let turned = false;
                let run =
                    Run { gateway: self, prompt, context, choice, plan, record, started, wallet, turned, guarded };
                if prompt.operation.is_count() { run.count().await } else { run.answer().await }
            }
            Err(e) => e.reply(prompt.dialect),
        }
    }

    fn prepare(
        &self,
        (prompt, guarded): (&Prompt, Option<&Guarded>),
        directives: &AiDirectives,
        context: &Context,
        record: &CallRecord,
    ) -> Result<(Funded, CachePlan), AiError> {
        let (script, complexity) = self.decided(prompt, directives, &context.options);
        let choice = self.catalog.choose(&prompt.facts.model, script, &context.options)?;
        let funded = self.funded(prompt, context, choice)?;
        let cache = context.options.cache.as_ref().and_then(|name| self.caches.get(name));
        let plan = CachePlan::make(prompt, directives, context, (&funded.choice, guarded), cache)?;
        record.note(|c| {
            c.target.clone_from(&funded.choice.name);
            c.complexity = complexity;
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
                return self.dressed(e.reply(self.prompt.dialect), None);
            }
        };
        // What a cascade may cost is not reserved: a call that is paid from a budget has none.
        let reached = if paying.is_some() { self.reach(self.deadline()).await } else { self.climb().await };
        match reached {
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

    fn dressed(&self, reply: Reply, age: Option<Duration>) -> Reply {
        let call = self.record.read();
        peers(dress(reply, &call, age), &call, &self.gateway.steering.compat)
    }
}
