//! Endpoints of providers that pass through: images, audio, moderations, reranking, files, batches. Bodies stream both
//! ways; of a request only its beginning is looked at (which model?), of an answer only what it costs.

mod bill;
pub mod endpoint;
mod form;
pub mod look;
pub mod realtime;
mod relay;
mod scan;

#[cfg(test)]
mod tests;

use super::call::{Attempt, CallRecord, Try, Watch};
use super::catalog::{Catalog, Fault, Model, Peer};
use super::dialect::Dialect;
use super::error::AiError;
use super::headers::dress;
use super::names::unknown;
use super::prompt::Operation;
use super::provider::forwarded;
use super::settle::{Files, Settle};
use super::verdict::{Failure, refused, returned, unreachable, unsupported};
use super::{AiDirectives, Context, Gateway, MODEL_CHARS_MAX, close};
use crate::base::reply::{Body, Chunks, Reply};
use crate::base::source::Source;
use crate::config::ai::passthrough::{Endpoint, Passthrough};
use crate::config::ai::{AiRoute, FallbackOn};
use crate::fetch::{Fetched, Upload};
use bill::Tap;
use endpoint::{Asks, Called};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use look::Seen;
use relay::Relay;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// The largest body where the configuration sets no limit: what OpenAI takes as one file.
pub const BODY_BYTES_MAX: u64 = 512 << 20;

/// Answer fields of the provider that reach the client beside those of every answer.
const RETURNED: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::CONTENT_DISPOSITION, header::CONTENT_RANGE, header::ACCEPT_RANGES];

/// A request that passes.
pub struct Passing {
    /// The endpoint.
    pub called: Called,
    /// The method.
    pub method: Method,
    /// The body's beginning, and the model that it names.
    pub seen: Seen,
    /// The length of the whole body, where it was announced.
    pub length: Option<u64>,
    /// What follows the beginning.
    pub rest: Option<Box<dyn Chunks>>,
}

/// Whether providers of this dialect have that endpoint.
fn has(dialect: Dialect, endpoint: Endpoint) -> bool {
    match endpoint {
        Endpoint::MessageBatches => dialect == Dialect::Anthropic,
        Endpoint::Files => matches!(dialect, Dialect::Openai | Dialect::Responses | Dialect::Anthropic),
        _ => matches!(dialect, Dialect::Openai | Dialect::Responses),
    }
}

/// Whether another model may be asked after this failure.
fn passes_on(failure: &Failure, route: &AiRoute) -> bool {
    let wanted = |name| route.fallback_on.as_ref().map_or(name != FallbackOn::ContentFilter, |l| l.contains(&name));
    failure.cause.name().is_some_and(wanted)
}

/// Checks a route's `passthrough:`; the fault is relative to the route's `ai:` block.
pub fn check(catalog: &Catalog, p: &Passthrough) -> Option<Fault> {
    let at = |key: &str, message: String| Some(Fault { path: format!("passthrough.{key}"), message });
    let needs = || p.endpoints.iter().filter(|e| e.needs_provider());
    if p.endpoints.is_empty() {
        return at("endpoints", "opens nothing; name endpoints, or leave passthrough out".to_owned());
    }
    let Some(name) = &p.provider else {
        let first = needs().next()?;
        return at("provider", format!("the endpoint {:?} names no model: say which provider has it", first.as_str()));
    };
    let Some(model) = catalog.bare(name) else {
        return at("provider", unknown("provider", name, catalog.providers()));
    };
    if needs().next().is_none() {
        return at("provider", "has no effect: all of these endpoints name a model".to_owned());
    }
    let dialect = model.provider.dialect;
    let strange = needs().find(|e| !has(dialect, **e))?;
    at("provider", format!("providers of the dialect {} have no {:?}", dialect.as_str(), strange.as_str()))
}

/// The route's `passthrough:` if it opens the endpoint.
pub fn open(route: &AiRoute, endpoint: Endpoint) -> Result<&Passthrough, AiError> {
    let open = route.passthrough.as_ref().filter(|p| p.endpoints.contains(&endpoint));
    open.ok_or_else(|| AiError::EndpointClosed(endpoint.as_str()))
}

impl Gateway {
    /// Passes a request on and its answer back, and keeps the record of it, also where the caller drops the future
    /// because the client left. A body that was seen whole may be sent to the next model of the tier when one fails.
    pub async fn pass(
        &self,
        mut passing: Passing,
        directives: &AiDirectives,
        context: &Context,
        record: Arc<CallRecord>,
    ) -> Reply {
        let started = self.clock.elapsed();
        record.note(|c| {
            c.operation = Some(Operation::Pass(passing.called.name));
            let (name, _) = passing.seen.model.as_ref().map_or(("", &(0..0)), |(name, at)| (name.as_str(), at));
            c.requested = name.chars().take(MODEL_CHARS_MAX).collect();
        });
        let mut watch = Watch { record: &record, clock: &self.clock, started, waited_for: true };
        let client = self.spoken(&passing, context);
        let targets = self.targets(&passing, directives, context, &record).and_then(|models| {
            let paying = self.pay_for_passing(&models, (context, &record), passing.seen.head.len())?;
            Ok((models, Files { paying, ..Files::default() }))
        });
        let reply = match targets {
            Ok((models, files)) => match self.first_good(&models, &mut passing, context, &record).await {
                Ok((fetched, model, asked)) => self.relayed(fetched, (model, files), client, (&record, started, asked)),
                Err(failure) => failure.told(client),
            },
            Err(e) => e.reply(client),
        };
        watch.waited_for = false;
        if !matches!(reply.body, Body::Stream(_)) {
            let took = self.clock.elapsed().saturating_sub(started);
            record.note(|c| close(c, &reply, took));
        }
        dress(reply, &record.read(), None)
    }

    /// What the client speaks: where no model is named, what the route's provider does.
    fn spoken(&self, passing: &Passing, context: &Context) -> Dialect {
        let provider = context.options.passthrough.as_ref().and_then(|p| self.catalog.bare(p.provider.as_ref()?));
        let bare = provider.filter(|_| passing.called.asks == Asks::Nothing);
        bare.map_or(Dialect::Openai, |m| m.provider.dialect)
    }

    /// The models that may take the request, in order.
    fn targets(
        &self,
        passing: &Passing,
        directives: &AiDirectives,
        context: &Context,
        record: &CallRecord,
    ) -> Result<Vec<Arc<Model>>, AiError> {
        let endpoint = passing.called.name;
        let open = open(&context.options, endpoint)?;
        self.unguarded(directives, context)?;
        if passing.called.asks == Asks::Nothing {
            self.unnamed(context)?;
            let bare = open.provider.as_ref().and_then(|name| self.catalog.bare(name));
            return bare.map(|m| vec![m.clone()]).ok_or(AiError::EndpointClosed(endpoint.as_str()));
        }
        let asked = passing.seen.model.as_ref().map_or("", |(name, _)| name.as_str());
        self.models_for(asked, endpoint, directives, (context, record))
    }

    /// The models of a choice that have the endpoint.
    fn models_for(
        &self,
        asked: &str,
        endpoint: Endpoint,
        directives: &AiDirectives,
        (context, record): (&Context, &CallRecord),
    ) -> Result<Vec<Arc<Model>>, AiError> {
        let script = directives.model.as_deref().or(directives.tier.as_deref());
        let choice = self.catalog.choose(asked, script, &context.options)?;
        let choice = self.passable(choice, context)?;
        record.note(|c| {
            c.target.clone_from(&choice.name);
            c.tier.clone_from(&choice.first.tier);
        });
        let mut models = choice.first.models;
        models.retain(|m| has(m.provider.dialect, endpoint));
        if models.is_empty() {
            let message = format!("no provider of {:?} has the endpoint {:?}", choice.name, endpoint.as_str());
            return Err(AiError::invalid(message, Some("model"), "unsupported_by_provider"));
        }
        Ok(models)
    }

    async fn first_good(
        &self,
        models: &[Arc<Model>],
        passing: &mut Passing,
        context: &Context,
        record: &CallRecord,
    ) -> Result<(Fetched, Arc<Model>, Duration), Failure> {
        let mut last = unsupported("there is no model to ask".to_owned(), None);
        // What has been sent in part cannot be sent again.
        let tries = if passing.rest.is_some() { 1 } else { models.len() };
        for model in models.iter().take(tries) {
            let asked = self.clock.elapsed();
            let answered = self.ask_for(model, passing, context).await;
            let (outcome, status, retry_after) = match &answered {
                Ok(fetched) => ("ok", Some(fetched.status), None),
                Err(f) => (f.reason, f.status, f.retry_after),
            };
            let seconds = self.clock.elapsed().saturating_sub(asked).as_secs_f64();
            let name = if model.name.is_empty() { "none".to_owned() } else { model.name.clone() };
            let provider = model.provider.name.clone();
            if outcome != "ok" {
                tracing::warn!(model = name, provider, outcome, seconds, "call passed on in vain");
            }
            let attempt =
                Attempt { model: name, provider, tier: None, kind: Try::Turn, outcome, status, retry_after, seconds };
            record.note(|c| c.attempts.push(attempt));
            match answered {
                Ok(fetched) => return Ok((fetched, model.clone(), asked)),
                Err(failure) if passes_on(&failure, &context.options) => last = failure,
                Err(failure) => return Err(failure),
            }
        }
        Err(last)
    }

    async fn ask_for(&self, model: &Model, passing: &mut Passing, context: &Context) -> Result<Fetched, Failure> {
        let dialect = model.provider.dialect;
        let peer = Peer { model, dialect };
        let headers = request_headers(peer, passing, &context.headers);
        let head = passing.seen.head_for(&model.upstream);
        let (endpoint, method) = (&model.provider.endpoint, passing.method.clone());
        let path = Cow::Borrowed(passing.called.path.as_str());
        let path = match passing.called.asks {
            Asks::Model => model.provider.variety.path(path, &model.upstream),
            Asks::Nothing => path,
        };
        let sent = match passing.rest.take() {
            None => self.fetcher.send(endpoint, method, &path, headers, head).await,
            Some(rest) => {
                let grown = u64::try_from(head.len()).unwrap_or(u64::MAX);
                let before = u64::try_from(passing.seen.head.len()).unwrap_or(u64::MAX);
                let length = passing.length.and_then(|l| l.checked_sub(before)?.checked_add(grown));
                let chunks = Box::new(Joined { head: Some(head), rest });
                self.fetcher.send_streaming(endpoint, method, &path, headers, Upload { chunks, length }).await
            }
        };
        let fetched = sent.map_err(|e| unreachable(model, &e))?;
        if fetched.status.is_success() { Ok(fetched) } else { Err(refused(peer, fetched).await) }
    }

    fn relayed(
        &self,
        fetched: Fetched,
        (model, files): (Arc<Model>, Files),
        dialect: Dialect,
        (record, started, asked): (&Arc<CallRecord>, Duration, Duration),
    ) -> Reply {
        let billed = !model.name.is_empty();
        record.note(|c| {
            c.model = billed.then(|| model.name.clone());
            c.provider = Some(model.provider.name.clone());
        });
        let tier = record.read().tier;
        let (record, clock) = (record.clone(), self.clock.clone());
        let settle = Settle { record, files, model, dialect, tier, stand_in: false, clock, started, asked, pass: None };
        let mut reply = Reply::new(fetched.status, Source::Provider).because("passthrough");
        reply.headers = returned(&fetched.headers);
        for name in RETURNED {
            reply.headers.extend(fetched.headers.get(&name).map(|v| (name, v.clone())));
        }
        // Shared caches in front must not keep what was made for one caller.
        reply.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
        if fetched.status == StatusCode::NO_CONTENT {
            settle.complete(None, None);
            return reply;
        }
        let content_type = fetched.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        // What an object at the provider once cost was billed then.
        let tap = if billed { Tap::new(content_type) } else { Tap::None };
        reply.body = Body::Stream(Box::new(Relay::new(fetched, tap, settle)));
        reply
    }
}

/// The client's fields that go on: those of every call, and what describes the body and the answer wanted.
fn request_headers(peer: Peer<'_>, passing: &Passing, client: &HeaderMap) -> HeaderMap {
    let mut out = forwarded(peer, (peer.dialect, client));
    for name in [header::CONTENT_TYPE, header::RANGE] {
        out.extend(client.get(&name).map(|v| (name, v.clone())));
    }
    if passing.seen.head.is_empty() && passing.rest.is_none() {
        out.remove(header::CONTENT_TYPE);
    }
    let accept = client.get(header::ACCEPT).cloned().unwrap_or_else(|| HeaderValue::from_static("*/*"));
    out.insert(header::ACCEPT, accept);
    out.extend(peer.model.provider.headers.iter().map(|(n, v)| (n.clone(), v.clone())));
    out
}

/// A body's beginning and what follows it.
struct Joined {
    head: Option<bytes::Bytes>,
    rest: Box<dyn Chunks>,
}

#[async_trait::async_trait]
impl Chunks for Joined {
    async fn next(&mut self) -> Option<Result<bytes::Bytes, crate::base::reply::Broken>> {
        match self.head.take() {
            Some(head) => Some(Ok(head)),
            None => self.rest.next().await,
        }
    }
}
