//! The policy station: makes the facts, calls the hooks, and keeps to `on_error` when the script fails.

use super::ctx::Ctx;
use super::log::Answered;
use super::{ai, purge, response};
use crate::ab;
use crate::base::reply::Reply;
use crate::base::source::Source;
use crate::bot;
use crate::config::policy::OnError;
use crate::plan::{Handler, Plan};
use crate::policy::decision::{OriginResponseDirectives, PromptDecision, RequestDecision};
use crate::policy::facts::{BotView, LogFacts, Memo, Oracle, PromptFacts, RequestFacts, ResponseFacts};
use crate::policy::hook::Hook;
use crate::policy::{Policy, PolicyError};
use http::{StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType};
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::Instant;

/// Answers the script's lazy questions from the organs.
struct Organs {
    plan: Arc<Plan>,
    /// What forward-confirmed reverse DNS said about the client, where it was asked.
    verified: Option<bool>,
}

impl Oracle for Organs {
    fn jwt(&self, name: &str, req: &RequestFacts) -> Option<serde_json::Value> {
        let rule = self.plan.auth.get(name)?.jwt()?;
        let token = rule.extract(&req.headers, Some(&req.query))?;
        rule.verify(&token).ok().map(|c| c.json.clone())
    }

    fn bot(&self, req: &RequestFacts) -> BotView {
        let version = match req.http_version {
            "2" => Version::HTTP_2,
            "1.0" => Version::HTTP_10,
            _ => Version::HTTP_11,
        };
        let facts = bot::BotFacts { headers: &req.headers, version, tls: req.tls };
        let verdict = bot::verdict(&facts, &self.plan.bots);
        view(if self.verified.is_some() { verdict.verified_by_dns(self.verified) } else { verdict })
    }

    fn assign(&self, experiment: &str, unit: &str, arms: &[(String, u32)]) -> String {
        // Arms whose weights are all 0 leave nothing to choose from; the first one is as good as any.
        let first = || arms.first().map_or("", |(name, _)| name.as_str());
        ab::arm(experiment, unit, arms).unwrap_or_else(first).to_owned()
    }
}

/// Makes the facts and asks `on_request`. The reply, if any, ends the request.
pub async fn on_request(dns: Option<bool>, session: &Session, ctx: &mut Ctx) -> Result<(), Box<Reply>> {
    let Some((policy, _)) = asked(ctx) else { return Ok(()) };
    ctx.facts = Some(Arc::new(facts(dns, session, ctx)));
    if !policy.has(Hook::OnRequest) {
        return Ok(());
    }
    let Some(facts) = ctx.facts.clone() else { return Ok(()) };
    let decided = timed(ctx, Hook::OnRequest, || policy.on_request(&facts));
    stick(session, ctx, &facts);
    match decided {
        Ok(RequestDecision::Continue(d)) => {
            ctx.directives = d;
            Ok(())
        }
        Ok(RequestDecision::Refuse(r)) => {
            ctx.notes.extend(r.notes.clone());
            let on_ai = matches!(ctx.route.as_deref().map(|r| &r.handler), Some(Handler::Ai(_)));
            Err(Box::new(if on_ai { ai::refusal(r, ctx.dialect) } else { r.into_reply() }))
        }
        Ok(RequestDecision::Reply(a)) => {
            ctx.notes.extend(a.notes);
            Err(Box::new(a.reply))
        }
        Err(e) => failed(ctx, &e).map_or(Ok(()), Err),
    }
}

/// Asks `on_prompt`.
pub fn on_prompt(ctx: &mut Ctx, facts: impl FnOnce() -> PromptFacts) -> Result<PromptDecision, Box<Reply>> {
    let nothing = || Ok(PromptDecision::Continue(crate::policy::decision::PromptDirectives::default()));
    let (Some((policy, _)), Some(req)) = (asked(ctx), ctx.facts.clone()) else { return nothing() };
    if !policy.has(Hook::OnPrompt) {
        return nothing();
    }
    let prompt = Arc::new(facts());
    match timed(ctx, Hook::OnPrompt, || policy.on_prompt(&req, &prompt)) {
        Ok(d) => Ok(d),
        Err(e) => failed(ctx, &e).map_or_else(nothing, Err),
    }
}

/// Asks `on_origin_response` about the form that is stored.
pub fn on_origin_response(resp: &ResponseHeader, ctx: &mut Ctx) -> pingora::Result<OriginResponseDirectives> {
    let (Some((policy, _)), Some(req)) = (asked(ctx), ctx.facts.clone()) else { return Ok(Default::default()) };
    if !policy.has(Hook::OnOriginResponse) {
        return Ok(Default::default());
    }
    let facts = Arc::new(response_facts(resp, ctx));
    match timed(ctx, Hook::OnOriginResponse, || policy.on_origin_response(&req, &facts)) {
        Ok(d) => Ok(d),
        Err(e) => refuse_late(ctx, &e).map(|()| OriginResponseDirectives::default()),
    }
}

/// Asks `on_response` about the form that is sent, and carries it out.
pub fn on_response(resp: &mut ResponseHeader, ctx: &mut Ctx) -> pingora::Result<()> {
    let (Some((policy, _)), Some(req)) = (asked(ctx), ctx.facts.clone()) else { return Ok(()) };
    if !policy.has(Hook::OnResponse) {
        return Ok(());
    }
    let facts = Arc::new(response_facts(resp, ctx));
    match timed(ctx, Hook::OnResponse, || policy.on_response(&req, &facts)) {
        Ok(d) => {
            ctx.notes.extend(d.notes);
            response::apply(resp, &d.headers)
        }
        Err(e) => refuse_late(ctx, &e),
    }
}

/// Asks `on_log` whether the line is written; `None` leaves it to the sampling.
pub fn on_log(head: Option<&ResponseHeader>, ctx: &mut Ctx, a: &Answered) -> Option<bool> {
    let ((policy, _), req) = (asked(ctx)?, ctx.facts.clone()?);
    if !policy.has(Hook::OnLog) {
        return None;
    }
    // Nothing was sent: the hook sees a bare header with the status that the log has (499, the client was gone).
    let resp = match head {
        Some(head) => response_facts(head, ctx),
        None => response_facts(&ResponseHeader::build(a.status, None).ok()?, ctx),
    };
    let resp = Arc::new(resp);
    let call = ctx.call.as_ref().map(|c| c.read()).unwrap_or_default();
    let tokens = call.usage.map_or(0, |u| u.input() + u.output());
    let cost = call.cost.unwrap_or_default();
    let entry =
        Arc::new(LogFacts { duration: a.took, bytes: a.bytes, source: ctx.source, reason: ctx.reason, cost, tokens });
    match timed(ctx, Hook::OnLog, || policy.on_log(&req, &resp, &entry)) {
        Ok(d) => {
            purge::by_script(ctx, &d.purges);
            ctx.notes.extend(d.notes);
            d.keep
        }
        Err(e) => {
            report(&e);
            None
        }
    }
}

fn asked(ctx: &Ctx) -> Option<(Arc<Policy>, OnError)> {
    let on_error = ctx.route.as_ref()?.policy?;
    Some((Arc::clone(ctx.plan.policy.as_ref()?), on_error))
}

fn timed<T>(ctx: &Ctx, hook: Hook, call: impl FnOnce() -> Result<T, PolicyError>) -> Result<T, PolicyError> {
    let started = Instant::now();
    let result = call();
    let word = result.as_ref().map_or_else(PolicyError::as_str, |_| "ok");
    ctx.plan.metrics.policy(hook.as_str(), word, started.elapsed());
    result
}

fn report(e: &PolicyError) {
    tracing::warn!(hook = e.hook.as_str(), place = e.place, error = e.message, "policy script failed");
}

/// The reply under `fail_closed`, nothing under `fail_open`. Later hooks of this request are not asked any more.
fn failed(ctx: &mut Ctx, e: &PolicyError) -> Option<Box<Reply>> {
    report(e);
    ctx.error = Some(format!("policy: {}", e.as_str()));
    let (_, on_error) = asked(ctx)?;
    ctx.facts = None;
    if on_error == OnError::FailOpen {
        return None;
    }
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    let text = "the policy of this gateway failed; its operator finds the reason in the log under this request's id";
    let on_ai = matches!(ctx.route.as_deref().map(|r| &r.handler), Some(Handler::Ai(_)));
    let reply = if on_ai {
        Reply::json(status, Source::Policy, &ctx.dialect.own_error(status, text, e.as_str()))
    } else {
        Reply::text(status, Source::Policy, format!("{text}\n"))
    };
    Some(Box::new(reply.because(e.as_str())))
}

fn refuse_late(ctx: &mut Ctx, e: &PolicyError) -> pingora::Result<()> {
    match failed(ctx, e) {
        None => Ok(()),
        Some(_) => Err(Error::explain(ErrorType::HTTPStatus(500), "policy script failed")),
    }
}

fn facts(dns: Option<bool>, session: &Session, ctx: &Ctx) -> RequestFacts {
    let req = session.req_header();
    let unit = ab::Unit::of(&req.headers, ctx.client).id();
    RequestFacts {
        id: ctx.id.clone(),
        method: req.method.clone(),
        scheme: ctx.scheme(),
        host: ctx.host().to_owned(),
        path: ctx.path(req.uri.path()).into_owned(),
        query: req.uri.query().unwrap_or("").to_owned(),
        headers: req.headers.clone(),
        ip: ctx.client,
        tls: ctx.tls,
        http_version: match req.version {
            Version::HTTP_2 => "2",
            Version::HTTP_10 => "1.0",
            _ => "1.1",
        },
        route: ctx.route_name().to_owned(),
        user: ctx.user.as_ref().and_then(|u| u.claims()).map(|c| c.json.clone()),
        key: ctx.user.as_ref().and_then(|u| u.key()).map(|k| k.told()),
        unit,
        oracle: Arc::new(Organs { plan: Arc::clone(&ctx.plan), verified: dns }),
        memo: Memo::default(),
    }
}

/// Makes arms sticky: a visitor without the cookie gets one that means the same unit.
fn stick(session: &Session, ctx: &mut Ctx, facts: &RequestFacts) {
    let known = ab::uid(&session.req_header().headers).is_some();
    if !known && !facts.arms().is_empty() && !ctx.background {
        ctx.sticky = Some(ab::set_cookie(&facts.unit, ctx.tls));
    }
}

fn response_facts(resp: &ResponseHeader, ctx: &Ctx) -> ResponseFacts {
    ResponseFacts {
        status: resp.status.as_u16(),
        headers: resp.headers.clone(),
        age: ctx.cache.age,
        source: ctx.source,
        cache: ctx.cache.outcome(),
    }
}

fn view(v: bot::Verdict) -> BotView {
    BotView {
        kind: v.kind.as_str().into(),
        name: v.name().unwrap_or_default().to_owned().into(),
        declared: v.declared,
        verified: v.verified.unwrap_or(false),
        score: v.score,
        reasons: v.reasons.iter().map(|r| r.as_str().into()).collect(),
    }
}
