//! Every metric family, in one place. Handles that a request needs are looked up once for each route, not for each
//! request.

use super::ai_metrics::{self, AiMetrics};
use crate::base::coding::Coding;
use crate::base::source::Source;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Upper bounds in seconds: from a memory hit to a long model answer.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// The families and their registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    response_bytes: IntCounterVec,
    coded: IntCounterVec,
    early_hints: IntCounterVec,
    refused: IntCounterVec,
    reasons: IntCounterVec,
    /// Client connections open now, by listener.
    pub connections: IntGaugeVec,
    /// Client connections accepted, by listener.
    pub accepted: IntCounterVec,
    /// Bytes in memory, by HTTP cache.
    pub cache_bytes: IntGaugeVec,
    /// Objects in memory, by HTTP cache.
    pub cache_objects: IntGaugeVec,
    /// Objects evicted, by HTTP cache.
    pub cache_evictions: IntGaugeVec,
    /// Look-ups that found an object, fresh or stale, by HTTP cache.
    pub cache_hits: IntGaugeVec,
    /// Look-ups that did not, by HTTP cache.
    pub cache_misses: IntGaugeVec,
    /// Objects stored, by HTTP cache.
    pub cache_stored: IntGaugeVec,
    /// Disk levels: bytes of all files, by HTTP cache.
    pub disk_bytes: IntGaugeVec,
    /// Disk levels: objects, by HTTP cache.
    pub disk_objects: IntGaugeVec,
    /// Disk levels: 1 while writing fails, by HTTP cache.
    pub disk_failing: IntGaugeVec,
    /// Disk levels: what happened, by HTTP cache and event.
    pub disk_events: IntGaugeVec,
    /// Purges, by kind, who asked and result.
    pub purges: IntCounterVec,
    mcp_calls: IntCounterVec,
    /// Purge rules held, by HTTP cache.
    pub purge_rules: IntGaugeVec,
    /// Objects thrown out because a purge had made them void, by HTTP cache.
    pub cache_reclaimed: IntGaugeVec,
    policy_calls: IntCounterVec,
    policy_seconds: HistogramVec,
    /// Reloads, by what was reloaded and result.
    pub reloads: IntCounterVec,
    /// Access log lines lost because the writer could not keep up.
    pub log_lines_lost: IntCounter,
    /// Model calls: families of their own.
    pub ai: AiMetrics,
    /// Unix time at which the present configuration went live.
    pub config_live_since: IntGauge,
}

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bounds.
    Histogram,
}
use Kind::{Counter, Gauge, Histogram as Buckets};

/// One family: the row that it is registered from and that the README's table is made of.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: &'static str,
    /// What it tells.
    pub help: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
}

/// A row.
pub(super) const fn family(
    kind: Kind,
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> Family {
    Family { kind, name, help, labels }
}

/// Every family but those of the AI gateway, which stand in [`super::ai_metrics`].
pub const FAMILIES: &[Family] = &[
    family(Counter, "sluicegate_requests_total", "Requests answered", &["route", "source", "status"]),
    family(Buckets, "sluicegate_request_seconds", "Time to the last byte", &["route", "source"]),
    family(Counter, "sluicegate_response_bytes_total", "Body bytes sent", &["route"]),
    family(Counter, "sluicegate_coded_total", "Answers sent in a content coding made here", &["route", "coding"]),
    family(Counter, "sluicegate_early_hints_total", "Early hints (103) sent", &["route"]),
    family(Counter, "sluicegate_refused_total", "Connections and heads refused before routing", &["reason"]),
    family(
        Counter,
        "sluicegate_reasons_total",
        "Answers for which there was something to say: why",
        &["source", "reason"],
    ),
    family(Gauge, "sluicegate_connections", "Client connections open", &["listener"]),
    family(Counter, "sluicegate_connections_total", "Client connections accepted", &["listener"]),
    family(Gauge, "sluicegate_cache_bytes", "Bytes held", &["cache"]),
    family(Gauge, "sluicegate_cache_objects", "Objects held", &["cache"]),
    family(Gauge, "sluicegate_cache_evictions", "Objects evicted since the start", &["cache"]),
    family(Gauge, "sluicegate_cache_hits", "Look-ups that found an object, since the cache was made", &["cache"]),
    family(Gauge, "sluicegate_cache_misses", "Look-ups that did not, since the cache was made", &["cache"]),
    family(Gauge, "sluicegate_cache_stored", "Objects stored since the cache was made", &["cache"]),
    family(Gauge, "sluicegate_cache_disk_bytes", "Bytes of all files of the disk level", &["cache"]),
    family(Gauge, "sluicegate_cache_disk_objects", "Objects on disk", &["cache"]),
    family(Gauge, "sluicegate_cache_disk_failing", "1 while writing to disk fails", &["cache"]),
    family(
        Gauge,
        "sluicegate_cache_disk_events",
        "Since the start: hit, miss, written, kept, evicted, corrupt, dropped",
        &["cache", "event"],
    ),
    family(
        Counter,
        "sluicegate_mcp_calls_total",
        "Tool calls: ok, tool_error, error, refused, rate_limited, cached, unreachable, unfinished",
        &["route", "server", "tool", "result"],
    ),
    family(Counter, "sluicegate_purges_total", "Purges: what, who asked, result", &["kind", "by", "result"]),
    family(Gauge, "sluicegate_purge_rules", "Purge rules that look-ups check", &["cache"]),
    family(Gauge, "sluicegate_cache_reclaimed", "Purged objects thrown out since the cache was made", &["cache"]),
    family(Counter, "sluicegate_policy_calls_total", "Hooks called", &["hook", "result"]),
    family(Buckets, "sluicegate_policy_seconds", "Time in a hook", &["hook"]),
    family(Counter, "sluicegate_reloads_total", "Reloads", &["what", "result"]),
    family(
        Counter,
        "sluicegate_access_log_lines_lost_total",
        "Access log lines lost because the writer fell behind",
        &[],
    ),
    family(Gauge, "sluicegate_config_live_since_seconds", "Unix time at which the configuration went live", &[]),
];

/// The README's table.
pub fn reference() -> String {
    let mut out = String::from("| family | kind | labels | tells |\n| --- | --- | --- | --- |\n");
    for f in FAMILIES.iter().chain(ai_metrics::FAMILIES) {
        let kind = match f.kind {
            Counter => "counter",
            Gauge => "gauge",
            Buckets => "histogram",
        };
        out.push_str(&format!("| `{}` | {kind} | {} | {} |\n", f.name, f.labels.join(", "), f.help));
    }
    out
}

/// A family that is not in the table, or twice.
fn row(name: &str) -> prometheus::Result<&'static Family> {
    let mut all = FAMILIES.iter().chain(ai_metrics::FAMILIES);
    all.find(|f| f.name == name).ok_or_else(|| prometheus::Error::Msg(format!("{name} is not in FAMILIES")))
}

pub(super) fn counter(r: &Registry, name: &str) -> prometheus::Result<IntCounterVec> {
    let f = row(name)?;
    let c = IntCounterVec::new(Opts::new(f.name, f.help), f.labels)?;
    r.register(Box::new(c.clone()))?;
    Ok(c)
}

pub(super) fn gauge(r: &Registry, name: &str) -> prometheus::Result<IntGaugeVec> {
    let f = row(name)?;
    let g = IntGaugeVec::new(Opts::new(f.name, f.help), f.labels)?;
    r.register(Box::new(g.clone()))?;
    Ok(g)
}

pub(super) fn histogram(r: &Registry, name: &str) -> prometheus::Result<HistogramVec> {
    let f = row(name)?;
    let h = HistogramVec::new(HistogramOpts::new(f.name, f.help).buckets(SECONDS.to_vec()), f.labels)?;
    r.register(Box::new(h.clone()))?;
    Ok(h)
}

impl Metrics {
    /// Makes and registers all families. Fails only when two families have one name.
    pub fn new() -> prometheus::Result<Arc<Self>> {
        let r = Registry::new();
        let lost = counter(&r, "sluicegate_access_log_lines_lost_total")?.with_label_values(&[] as &[&str]);
        let since = gauge(&r, "sluicegate_config_live_since_seconds")?.with_label_values(&[] as &[&str]);
        let (c, g, h) = (counter, gauge, histogram);
        Ok(Arc::new(Metrics {
            requests: c(&r, "sluicegate_requests_total")?,
            seconds: h(&r, "sluicegate_request_seconds")?,
            response_bytes: c(&r, "sluicegate_response_bytes_total")?,
            coded: c(&r, "sluicegate_coded_total")?,
            early_hints: c(&r, "sluicegate_early_hints_total")?,
            refused: c(&r, "sluicegate_refused_total")?,
            reasons: c(&r, "sluicegate_reasons_total")?,
            connections: g(&r, "sluicegate_connections")?,
            accepted: c(&r, "sluicegate_connections_total")?,
            cache_bytes: g(&r, "sluicegate_cache_bytes")?,
            cache_objects: g(&r, "sluicegate_cache_objects")?,
            cache_evictions: g(&r, "sluicegate_cache_evictions")?,
            cache_hits: g(&r, "sluicegate_cache_hits")?,
            cache_misses: g(&r, "sluicegate_cache_misses")?,
            cache_stored: g(&r, "sluicegate_cache_stored")?,
            disk_bytes: g(&r, "sluicegate_cache_disk_bytes")?,
            disk_objects: g(&r, "sluicegate_cache_disk_objects")?,
            disk_failing: g(&r, "sluicegate_cache_disk_failing")?,
            disk_events: g(&r, "sluicegate_cache_disk_events")?,
            purges: c(&r, "sluicegate_purges_total")?,
            mcp_calls: c(&r, "sluicegate_mcp_calls_total")?,
            purge_rules: g(&r, "sluicegate_purge_rules")?,
            cache_reclaimed: g(&r, "sluicegate_cache_reclaimed")?,
            policy_calls: c(&r, "sluicegate_policy_calls_total")?,
            policy_seconds: h(&r, "sluicegate_policy_seconds")?,
            reloads: c(&r, "sluicegate_reloads_total")?,
            ai: AiMetrics::new(&r)?,
            log_lines_lost: lost,
            config_live_since: since,
            registry: r,
        }))
    }

    /// A connection or request head was refused before there was a route.
    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// A tool call at an MCP server: route, server, tool, result.
    pub fn mcp_call(&self, labels: [&str; 4]) {
        self.mcp_calls.with_label_values(&labels).inc();
    }

    /// An answer was given for a reason: the same word as in its header and its log line.
    pub fn reason(&self, source: Source, reason: &str) {
        self.reasons.with_label_values(&[source.as_str(), reason]).inc();
    }

    /// A hook of the policy script ran.
    pub fn policy(&self, hook: &str, result: &str, took: Duration) {
        self.policy_calls.with_label_values(&[hook, result]).inc();
        self.policy_seconds.with_label_values(&[hook]).observe(took.as_secs_f64());
    }

    /// The handles of one route.
    pub fn route(self: &Arc<Self>, name: &str) -> RouteMetrics {
        RouteMetrics {
            metrics: Arc::clone(self),
            name: name.to_owned(),
            bytes: self.response_bytes.with_label_values(&[name]),
            coded: Coding::ALL.map(|c| self.coded.with_label_values(&[name, c.as_str()])),
            early_hints: self.early_hints.with_label_values(&[name]),
            requests: Default::default(),
            seconds: Default::default(),
        }
    }

    /// The text exposition format.
    pub fn render(&self) -> String {
        let mut out = Vec::new();
        // Encoding into memory fails only on inconsistent families, which registration has refused.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}

const SOURCES: usize = Source::ALL.len();
const CLASSES: usize = 5;

/// The request metrics of one route, found by index.
#[derive(Debug)]
pub struct RouteMetrics {
    metrics: Arc<Metrics>,
    name: String,
    bytes: IntCounter,
    coded: [IntCounter; Coding::ALL.len()],
    /// Early hints sent.
    pub early_hints: IntCounter,
    requests: [[OnceLock<IntCounter>; CLASSES]; SOURCES],
    seconds: [OnceLock<Histogram>; SOURCES],
}

impl RouteMetrics {
    /// An answer was sent in a coding made here.
    pub fn coded(&self, coding: Coding) {
        self.coded.get(coding.index()).into_iter().for_each(IntCounter::inc);
    }

    /// One request was answered.
    pub fn observe(&self, source: Source, status: u16, took: Duration, bytes: u64) {
        const CLASS: [&str; CLASSES] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        let row = source as usize;
        let class = usize::from(status / 100).clamp(1, CLASSES) - 1;
        self.bytes.inc_by(bytes);
        if let (Some(cell), Some(label)) = (self.requests.get(row).and_then(|r| r.get(class)), CLASS.get(class)) {
            cell.get_or_init(|| self.metrics.requests.with_label_values(&[&self.name, source.as_str(), label])).inc();
        }
        if let Some(cell) = self.seconds.get(row) {
            cell.get_or_init(|| self.metrics.seconds.with_label_values(&[&self.name, source.as_str()]))
                .observe(took.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_of_the_table_is_registered() {
        let m = Metrics::new().unwrap();
        // Registering a name again fails: so each was registered, and none is left over.
        for f in FAMILIES.iter().chain(ai_metrics::FAMILIES) {
            let again = IntCounterVec::new(Opts::new(f.name, f.help), f.labels).unwrap();
            assert!(m.registry.register(Box::new(again)).is_err(), "{}", f.name);
        }
    }

    #[test]
    fn every_source_has_its_own_row_and_families_render() {
        for (i, s) in Source::ALL.iter().enumerate() {
            assert_eq!(*s as usize, i);
        }
        let m = Metrics::new().unwrap();
        let r = m.route("app");
        r.observe(Source::Origin, 200, Duration::from_millis(2), 10);
        r.observe(Source::Provider, 599, Duration::from_millis(2), 0);
        m.refused("bad_host");
        let text = m.render();
        assert!(text.contains("sluicegate_requests_total{route=\"app\",source=\"origin\",status=\"2xx\"} 1"), "{text}");
        assert!(text.contains("sluicegate_requests_total{route=\"app\",source=\"provider\",status=\"5xx\"} 1"));
        assert!(text.contains("sluicegate_refused_total{reason=\"bad_host\"} 1"));
        assert!(text.contains("sluicegate_response_bytes_total{route=\"app\"} 10"));
    }
}
