//! What a gateway says about itself: `GET /status`, and gauges that are read when metrics are.

use crate::ai::routing::board::Shown;
use crate::cache::store::Store;
use crate::cache::store::disk::DiskStats;
use crate::plan::HttpStore;
use crate::proxy::Edge;
use prometheus::IntGaugeVec;
use serde_json::{Value, json};
use std::time::SystemTime;

/// How the last reload went.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Last {
    /// Whether the new configuration is live.
    pub ok: bool,
    /// When.
    pub at: String,
    /// What asked for it.
    pub why: &'static str,
    /// What was wrong.
    pub faults: Vec<String>,
}

impl Default for Last {
    fn default() -> Self {
        let at = crate::observe::access_log::timestamp(SystemTime::now());
        Last { ok: true, at, why: "start", faults: Vec::new() }
    }
}

/// The whole status.
pub fn status(edge: &Edge, last: &Last) -> Value {
    let plan = edge.plan.load();
    let s = &edge.shared;
    let caches: serde_json::Map<String, Value> = s
        .stores
        .all()
        .into_iter()
        .map(|(name, store)| {
            let st = store.adapter.store().stats();
            let disk = store.adapter.store().disk().map(|d| disk(&d.stats()));
            let mut about = json!({
                "objects": st.objects, "bytes": st.bytes, "evictions": st.evictions, "purge": purges(store),
            });
            if let (Some(disk), Value::Object(fields)) = (disk, &mut about) {
                fields.insert("disk".to_owned(), disk);
            }
            (name, about)
        })
        .collect();
    let auth: serde_json::Map<String, Value> =
        plan.auth.iter().map(|(n, v)| (n.clone(), json!({ "ready": v.ready() }))).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": s.clock.elapsed().as_secs(),
        "config_revision": plan.revision,
        "policy": plan.policy.as_ref().map(|p| json!({ "script": p.name(), "revision": plan.policy_revision })),
        "last_reload": last,
        "routes": plan.routes.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(),
        "http_caches": caches,
        "auth": auth,
        "ai": { "saved": super::usage::saved(&s.ledger.won()), "answer_caches": answers(edge), "models": models(edge) },
    })
}

fn purges(store: &HttpStore) -> Value {
    let book = store.book();
    json!({ "generation": book.generation(), "rules": book.rules(), "reclaimed": book.reclaimed() })
}

fn disk(d: &DiskStats) -> Value {
    let mut about = json!({
        "objects": d.objects, "bytes": d.bytes, "segments": d.segments, "queued_bytes": d.queued_bytes,
        "index_bytes": d.index_bytes, "failing": d.failing,
    });
    if let Value::Object(fields) = &mut about {
        fields.extend(d.events().map(|(event, n)| (event.to_owned(), json!(n))));
    }
    about
}

fn answers(edge: &Edge) -> Value {
    let all = edge.shared.answers.all().into_iter().map(|(name, c)| {
        let exact =
            c.exact.as_ref().map(|e| e.size()).map(|(entries, bytes)| json!({ "entries": entries, "bytes": bytes }));
        (name, json!({ "exact": exact, "semantic": c.semantic.is_some() }))
    });
    Value::Object(all.collect())
}

/// How the models of the live configuration stand.
fn models(edge: &Edge) -> Value {
    let about = |s: Shown| {
        json!({
            "provider": s.provider, "model": s.model, "state": s.state, "in_flight": s.in_flight,
            "rests_seconds": s.cooling.map(|(left, _)| left.as_secs_f64()), "reason": s.cooling.map(|(_, why)| why),
            "first_content_ms": s.first_content.map(|d| d.as_secs_f64() * 1e3),
        })
    };
    edge.shared.board.shown(edge.shared.clock.elapsed()).into_iter().map(about).collect()
}

fn model_gauges(edge: &Edge) {
    let ai = &edge.shared.metrics.ai;
    for g in [&ai.model_state, &ai.model_in_flight] {
        g.reset();
    }
    for s in edge.shared.board.shown(edge.shared.clock.elapsed()) {
        let state = match s.state {
            "closed" => 0,
            "half_open" => 1,
            _ => 2,
        };
        let labels = [s.provider.as_str(), s.model.as_str()];
        ai.model_state.with_label_values(&labels).set(state);
        ai.model_in_flight.with_label_values(&labels).set(i64::from(s.in_flight));
    }
}

/// Brings gauges up to date that nobody keeps while requests run.
pub fn refresh_gauges(edge: &Edge) {
    let m = &edge.shared.metrics;
    let set = |g: &IntGaugeVec, labels: &[&str], v: u64| {
        g.with_label_values(labels).set(i64::try_from(v).unwrap_or(i64::MAX));
    };
    // Caches that a reload took away are no longer told about.
    for g in [&m.cache_bytes, &m.cache_objects, &m.cache_evictions, &m.cache_hits, &m.cache_misses, &m.cache_stored] {
        g.reset();
    }
    m.purge_rules.reset();
    m.cache_reclaimed.reset();
    for (name, store) in edge.shared.stores.all() {
        let s = store.adapter.store().stats();
        let name = [name.as_str()];
        set(&m.cache_bytes, &name, s.bytes);
        set(&m.cache_objects, &name, s.objects);
        set(&m.cache_evictions, &name, s.evictions);
        set(&m.cache_hits, &name, s.hits);
        set(&m.cache_misses, &name, s.misses);
        set(&m.cache_stored, &name, s.stored);
        set(&m.purge_rules, &name, store.book().rules());
        set(&m.cache_reclaimed, &name, store.book().reclaimed());
    }
    disk_gauges(edge);
    super::money::refresh_gauges(edge);
    model_gauges(edge);
    for g in [&m.ai.semantic, &m.ai.semantic_bypasses, &m.ai.semantic_vetoes] {
        g.reset();
    }
    for (name, cache) in edge.shared.semantics.all() {
        let s = cache.stats();
        for (what, n) in [("hits", s.hits), ("misses", s.misses), ("stored", s.stored), ("not_stored", s.not_stored)] {
            set(&m.ai.semantic, &[&name, what], n);
        }
        s.bypasses.iter().for_each(|(why, n)| set(&m.ai.semantic_bypasses, &[&name, why], *n));
        s.vetoes.iter().for_each(|(guard, n)| set(&m.ai.semantic_vetoes, &[&name, guard], *n));
    }
}

fn disk_gauges(edge: &Edge) {
    let m = &edge.shared.metrics;
    for g in [&m.disk_bytes, &m.disk_objects, &m.disk_failing, &m.disk_events] {
        g.reset();
    }
    let set = |g: &IntGaugeVec, labels: &[&str], v: u64| {
        g.with_label_values(labels).set(i64::try_from(v).unwrap_or(i64::MAX));
    };
    for (name, store) in edge.shared.stores.all() {
        let Some(d) = store.adapter.store().disk().map(|d| d.stats()) else { continue };
        set(&m.disk_bytes, &[&name], d.bytes);
        set(&m.disk_objects, &[&name], d.objects);
        set(&m.disk_failing, &[&name], u64::from(d.failing));
        d.events().iter().for_each(|(event, n)| set(&m.disk_events, &[&name, event], *n));
    }
}
