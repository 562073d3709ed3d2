//! The last station, and the only recorder: metrics, the access log, `on_log`.

use super::ctx::Ctx;
use super::{Edge, limits, policy};
use crate::ai::call::{Call, Ending, Try};
use crate::ai::usage::Usage;
use crate::base::source::Source;
use crate::mcp::record::Asked;
use crate::observe::access_log::{Record, timestamp};
use crate::observe::ai_metrics::AiMetrics;
use crate::observe::metrics::Metrics;
use http::{HeaderName, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A request and what was sent for it.
pub struct Sent<'a> {
    /// The request.
    pub req: &'a RequestHeader,
    /// The answer's header, where one was made; the script sees it.
    pub head: Option<&'a ResponseHeader>,
    /// The answer's status; 0 when none was sent.
    pub status: u16,
    /// Body bytes sent.
    pub bytes: u64,
    /// `Cache-Status` of the answer.
    pub cache: Option<&'a str>,
}

impl<'a> Sent<'a> {
    /// From the header that was sent, if one was.
    pub fn new(req: &'a RequestHeader, head: Option<&'a ResponseHeader>, bytes: usize) -> Self {
        // An interim answer is none yet; a change of protocols is the last word.
        let head = head.filter(|r| r.status.as_u16() == 101 || !r.status.is_informational());
        Sent {
            req,
            head,
            status: head.map_or(0, |r| r.status.as_u16()),
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
            // The last line is ours; a cache behind us may have said its part before.
            cache: head
                .and_then(|r| r.headers.get_all("cache-status").iter().next_back())
                .and_then(|v| v.to_str().ok()),
        }
    }
}

/// Counts and logs the finished request of a session.
pub fn of_session(edge: &Edge, session: &Session, ctx: &mut Ctx) {
    if let Some(line) = &ctx.line {
        line.ended(session.was_upgraded());
    }
    log(edge, &Sent::new(session.req_header(), session.response_written(), session.body_bytes_sent()), ctx);
}

/// Counts and logs one finished request.
pub fn log(edge: &Edge, sent: &Sent<'_>, ctx: &mut Ctx) {
    limits::settle(ctx);
    if ctx.background {
        return;
    }
    let took = ctx.started.elapsed();
    let (status, bytes) = (sent.status, sent.bytes);
    // Nothing was sent: the client left before its answer (nginx's 499), or we could not answer.
    let status = match (status, ctx.reason) {
        (0, "client_gone" | "client_too_slow" | "") => 499,
        (0, _) => 500,
        (sent, _) => sent,
    };
    let metrics = ctx.route.as_ref().map_or(&edge.unrouted, |r| &r.metrics);
    metrics.observe(ctx.source, status, took, bytes);
    ctx.coding.into_iter().for_each(|c| metrics.coded(c));
    if !ctx.reason.is_empty() {
        edge.shared.metrics.reason(ctx.source, ctx.reason);
    }
    if !ctx.cache.detail.is_empty() {
        edge.shared.metrics.reason(Source::HttpCache, ctx.cache.detail);
    }
    if ctx.cache.predicted {
        edge.shared.metrics.reason(Source::HttpCache, "predicted");
    }
    if let Some(call) = &ctx.call {
        let call = call.read();
        super::ledger::enter(edge, ctx, &call);
        model_call(&edge.shared.metrics, ctx.route_name(), &call, (ctx.source.as_str(), status));
    }
    if let Some(asked) = &ctx.mcp {
        let asked = asked.read();
        for call in &asked.calls {
            edge.shared.metrics.mcp_call([ctx.route_name(), &asked.server, &call.tool, call.result]);
        }
    }
    let decided = policy::on_log(sent.head, ctx, &Answered { status, bytes, took });
    let Some(log) = &ctx.plan.log else { return };
    let dice = f64::from(edge.dice.fetch_add(0x9E37_79B9, Ordering::Relaxed)) / f64::from(u32::MAX);
    if !decided.unwrap_or_else(|| log.wants(status, dice)) {
        return;
    }
    if !log.write(&record(&Sent { status, ..*sent }, ctx, took)) {
        edge.shared.metrics.log_lines_lost.inc();
    }
}

/// What became of a request.
pub struct Answered {
    /// The status sent; 499 or 500 where nothing was.
    pub status: u16,
    /// Body bytes sent.
    pub bytes: u64,
    /// Time to the last byte.
    pub took: Duration,
}

fn record<'a>(a: &Sent<'a>, ctx: &'a Ctx, took: Duration) -> Record<'a> {
    let req = a.req;
    let text = |n: HeaderName| req.headers.get(n).and_then(|v| v.to_str().ok()).unwrap_or("");
    Record {
        time: timestamp(std::time::SystemTime::now()),
        id: &ctx.id,
        client: ctx.client.to_string(),
        method: req.method.as_str(),
        scheme: ctx.scheme(),
        host: &ctx.authority,
        path: req.uri.path(),
        version: match req.version {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        },
        status: a.status,
        bytes: a.bytes,
        duration_ms: took.as_secs_f64() * 1e3,
        route: ctx.route_name(),
        source: ctx.source.as_str(),
        reason: ctx.reason,
        cache: a.cache.map(str::to_owned),
        upstream: ctx.upstream.map(|a| a.to_string()),
        user: ctx.user.as_ref().and_then(|u| u.name()).map(str::to_owned),
        referer: text(header::REFERER).split('?').next().unwrap_or(""),
        user_agent: text(header::USER_AGENT),
        notes: ctx.directives.notes.iter().chain(&ctx.notes).map(|(k, v)| (k.as_str(), v.as_str())).collect(),
        mcp: ctx.mcp.as_ref().map(|m| tools(&m.read())),
        ai: ctx.call.as_ref().map(|c| told(&c.read())),
        error: ctx.error.clone(),
    }
}

/// The request to an MCP server as the log tells it; arguments and results never stand in it.
fn tools(asked: &Asked) -> serde_json::Value {
    let calls: Vec<_> = asked.calls.iter().map(|c| serde_json::json!({ "tool": c.tool, "result": c.result })).collect();
    serde_json::json!({ "server": asked.server, "method": asked.method, "calls": calls })
}

/// The model call as the log tells it; prompts and answers never stand in it.
fn told(c: &Call) -> serde_json::Value {
    serde_json::json!({
        "operation": c.operation.map(|o| o.as_str()),
        "requested": c.requested,
        "target": c.target,
        "model": c.model,
        "provider": c.provider,
        "tier": c.tier,
        "stream": c.stream,
        "dropped": c.dropped.told(),
        "cache": c.cache.as_str(),
        "cache_reason": c.cache_reason,
        "stored": c.stored,
        "score": c.score,
        "complexity": c.complexity,
        "sticky": c.sticky,
        "input_tokens": c.usage.map(|u| u.input()),
        "output_tokens": c.usage.map(|u| u.output()),
        "tokens": c.usage.as_ref().map(buckets),
        "cost_usd": c.cost.map(|m| m.usd()),
        "price": c.priced.as_ref().map(|p| &*p.version),
        "lost": c.lost.iter().map(|l| serde_json::json!({
            "model": l.model, "input_tokens": l.usage.input(), "output_tokens": l.usage.output(),
            "cost_usd": l.cost.map(|m| m.usd()),
        })).collect::<Vec<_>>(),
        "saved_usd": c.saved.and_then(|s| s.cost).map(|m| m.usd()),
        "saved_tokens": c.saved.map(|s| s.input_tokens.saturating_add(s.output_tokens)),
        "saved_seconds": c.saved.map(|s| s.seconds),
        "prompt_cache_saved_usd": c.priced.as_ref().map(|p| p.prompt_cache.usd()),
        "first_content_ms": c.first_content.map(|d| d.as_secs_f64() * 1e3),
        "attempts": c.attempts.iter().map(|a| serde_json::json!({
            "model": a.model, "provider": a.provider, "outcome": a.outcome, "seconds": a.seconds,
            "kind": a.kind.as_str(),
        })).collect::<Vec<_>>(),
        "ending": match c.ending {
            Ending::Running => "running",
            Ending::Complete => "complete",
            Ending::Failed(why) => why,
            Ending::ClientGone => "client_gone",
        },
    })
}

/// The kinds of tokens of which there were any.
fn buckets(usage: &Usage) -> serde_json::Value {
    usage.kinds().into_iter().filter(|(_, n)| *n > 0).map(|(kind, n)| (kind.to_owned(), n)).collect()
}

fn model_call(m: &Metrics, route: &str, c: &Call, (source, status): (&str, u16)) {
    let model = c.model.as_deref().unwrap_or("none");
    let ai = &m.ai;
    ai.calls.with_label_values(&[route, model, source, &status.to_string()]).inc();
    let lookup = if c.cache_reason.is_empty() { c.cache.as_str() } else { c.cache_reason };
    ai.lookups.with_label_values(&[route, lookup]).inc();
    attempts(ai, c);
    if c.complexity.is_some() {
        ai.auto.with_label_values(&[route, &c.target]).inc();
    }
    if let Some(told) = c.sticky {
        ai.sticky.with_label_values(&[route, told]).inc();
    }
    for (kind, done, n) in c.guard.counts() {
        ai.guard.with_label_values(&[c.guard.guard.as_str(), kind, done.as_str()]).inc_by(n);
    }
    if let Some(first) = c.first_content.filter(|_| c.saved.is_none()) {
        ai.first_token_seconds.with_label_values(&[model]).observe(first.as_secs_f64());
    }
}

fn attempts(ai: &AiMetrics, c: &Call) {
    for a in &c.attempts {
        ai.attempts.with_label_values(&[&a.provider, &a.model, a.outcome]).inc();
        match (a.kind, a.outcome) {
            (Try::Turn, _) => {}
            (Try::Again, _) => ai.retries.with_label_values(&[&a.provider, &a.model]).inc(),
            (Try::Hedge, outcome) => {
                let result = match outcome {
                    "ok" => "won",
                    "hedged" => "lost",
                    _ => "failed",
                };
                ai.hedges.with_label_values(&[&a.provider, &a.model, result]).inc();
            }
        }
    }
    for (model, provider) in &c.skipped {
        ai.skipped.with_label_values(&[provider, model]).inc();
    }
}
