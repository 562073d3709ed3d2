//! The last station, and the only recorder: metrics, the access log, `on_log`.

use super::ctx::Ctx;
use super::{Edge, policy};
use crate::ai::CallRecord;
use crate::observe::access_log::{Record, timestamp};
use crate::observe::metrics::Metrics;
use http::{HeaderName, Version, header};
use pingora_proxy::Session;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Counts and logs one finished request.
pub fn log(edge: &Edge, session: &Session, ctx: &mut Ctx) {
    if ctx.background {
        return;
    }
    let took = ctx.started.elapsed();
    let status = session.response_written().map_or(0, |r| r.status.as_u16());
    let bytes = u64::try_from(session.body_bytes_sent()).unwrap_or(u64::MAX);
    // A client that left before its answer is nginx's 499.
    let status = if status == 0 { 499 } else { status };
    let metrics = ctx.route.as_ref().map_or(&edge.unrouted, |r| &r.metrics);
    metrics.observe(ctx.source, status, took, bytes);
    if let Some(call) = &ctx.call {
        model_call(&edge.shared.metrics, ctx.route_name(), call, status);
    }
    let decided = policy::on_log(session, ctx, took, bytes);
    let Some(log) = &ctx.plan.log else { return };
    let dice = f64::from(edge.dice.fetch_add(0x9E37_79B9, Ordering::Relaxed)) / f64::from(u32::MAX);
    if !decided.unwrap_or_else(|| log.wants(status, dice)) {
        return;
    }
    if !log.write(&record(session, ctx, Answered { status, bytes, took })) {
        edge.shared.metrics.log_lines_lost.inc();
    }
}

struct Answered {
    status: u16,
    bytes: u64,
    took: Duration,
}

fn record<'a>(session: &'a Session, ctx: &'a Ctx, a: Answered) -> Record<'a> {
    let req = session.req_header();
    let text = |n: HeaderName| req.headers.get(n).and_then(|v| v.to_str().ok()).unwrap_or("");
    let cache = session.response_written().and_then(|r| r.headers.get("cache-status"));
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
        duration_ms: a.took.as_secs_f64() * 1e3,
        route: ctx.route_name(),
        source: ctx.source.as_str(),
        reason: ctx.reason,
        cache: cache.and_then(|v| v.to_str().ok()).map(str::to_owned),
        upstream: ctx.upstream.map(|a| a.to_string()),
        user: ctx.user.as_ref().and_then(|c| c.sub.clone()),
        referer: text(header::REFERER).split('?').next().unwrap_or(""),
        user_agent: text(header::USER_AGENT),
        notes: ctx.directives.notes.iter().chain(&ctx.notes).map(|(k, v)| (k.as_str(), v.as_str())).collect(),
        ai: ctx.call.as_ref().map(|c| c.to_json()),
        error: ctx.error.clone(),
    }
}

fn model_call(_metrics: &Metrics, _route: &str, _call: &CallRecord, _status: u16) {}
