//! The metric families of the AI gateway.

use super::metrics::Kind::{Counter, Gauge, Histogram as Buckets};
use super::metrics::{Family, counter, family, gauge, histogram};
use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec, Registry};

/// The families.
pub const FAMILIES: &[Family] = &[
    family(Counter, "sluicegate_ai_calls_total", "Model calls", &["route", "model", "source", "status"]),
    family(Counter, "sluicegate_ai_cache_lookups_total", "Look-ups in the AI caches", &["route", "result"]),
    family(Counter, "sluicegate_ai_attempts_total", "Tries at providers", &["provider", "model", "outcome"]),
    family(Counter, "sluicegate_ai_retries_total", "Repeated calls to the same model", &["provider", "model"]),
    family(
        Counter,
        "sluicegate_ai_hedges_total",
        "Second calls beside one still waited for: won, lost, failed",
        &["provider", "model", "result"],
    ),
    family(
        Counter,
        "sluicegate_ai_skipped_total",
        "Calls for which a resting model was passed over",
        &["provider", "model"],
    ),
    family(
        Gauge,
        "sluicegate_ai_model_state",
        "0 called, 1 on trial, 2 left alone for a while",
        &["provider", "model"],
    ),
    family(Gauge, "sluicegate_ai_model_in_flight", "Calls in flight", &["provider", "model"]),
    family(Counter, "sluicegate_ai_lost_tokens_total", "Tokens billed for answers that nobody got", &["model"]),
    family(Counter, "sluicegate_ai_tokens_total", "Tokens billed", &["model", "kind"]),
    family(Counter, "sluicegate_ai_cost_nano_usd_total", "Cost, 1e-9 USD", &["model"]),
    family(Counter, "sluicegate_ai_saved_tokens_total", "Tokens not spent", &["source"]),
    family(Counter, "sluicegate_ai_saved_nano_usd_total", "Cost not spent, 1e-9 USD", &["source"]),
    family(Counter, "sluicegate_ai_saved_milliseconds_total", "Model time not spent", &["source"]),
    family(Buckets, "sluicegate_ai_first_token_seconds", "Time to the first token", &["model"]),
    family(Counter, "sluicegate_ai_guard_total", "What guards did", &["guard", "kind", "action"]),
    family(Gauge, "sluicegate_ai_semantic_lookups", "Semantic caches: hits, misses, stored", &["cache", "result"]),
    family(Gauge, "sluicegate_ai_semantic_bypasses", "Prompts that were not looked up", &["cache", "reason"]),
    family(Gauge, "sluicegate_ai_semantic_vetoes", "Near answers that a guard refused", &["cache", "guard"]),
    family(
        Gauge,
        "sluicegate_ai_budget_spent_nano_usd",
        "Spent in this period, of all accounts, 1e-9 USD",
        &["budget"],
    ),
    family(Gauge, "sluicegate_ai_budget_reserved_nano_usd", "Reserved for calls in flight, 1e-9 USD", &["budget"]),
    family(Gauge, "sluicegate_ai_budget_exhausted", "Accounts with nothing left", &["budget"]),
    family(Gauge, "sluicegate_ai_state_failing", "1 while spending cannot be written to disk", &[]),
];

/// Families of the AI gateway.
#[derive(Debug)]
pub struct AiMetrics {
    /// Calls, by route, model, who answered and status.
    pub calls: IntCounterVec,
    /// Look-ups in the exact and semantic caches, by result (`exact`, `semantic`, `collapsed`, `miss`, or why not).
    pub lookups: IntCounterVec,
    /// Tries at providers, by provider, model and outcome.
    pub attempts: IntCounterVec,
    /// Repeated calls, by provider and model.
    pub retries: IntCounterVec,
    /// Second calls, by provider, model and result.
    pub hedges: IntCounterVec,
    /// Calls for which a model was passed over, by provider and model.
    pub skipped: IntCounterVec,
    /// States of models, by provider and model.
    pub model_state: IntGaugeVec,
    /// Calls in flight, by provider and model.
    pub model_in_flight: IntGaugeVec,
    /// Tokens of answers that nobody got, by model; part of `tokens`.
    pub lost_tokens: IntCounterVec,
    /// Tokens, by model and kind (`input`, `cached_input`, `output`, `reasoning`).
    pub tokens: IntCounterVec,
    /// Cost in billionths of a US dollar, by model.
    pub cost_nano_usd: IntCounterVec,
    /// Tokens that caches answered instead of a model, by source.
    pub saved_tokens: IntCounterVec,
    /// Cost that caches saved, in billionths of a US dollar, by source.
    pub saved_nano_usd: IntCounterVec,
    /// Model time that caches saved, in milliseconds, by source.
    pub saved_ms: IntCounterVec,
    /// Time to the first token, by model.
    pub first_token_seconds: HistogramVec,
    /// What guards did, by set, kind of what was found (`email`, `injection`, `word`, `schema` …) and action.
    pub guard: IntCounterVec,
    /// What the semantic caches did, by cache and result.
    pub semantic: IntGaugeVec,
    /// Prompts that were not looked up, by cache and reason.
    pub semantic_bypasses: IntGaugeVec,
    /// Near answers that a guard refused, by cache and guard.
    pub semantic_vetoes: IntGaugeVec,
    /// Spent in this period by all accounts, in billionths of a US dollar, by budget.
    pub budget_spent: IntGaugeVec,
    /// Reserved for calls in flight, likewise.
    pub budget_reserved: IntGaugeVec,
    /// Accounts with nothing left, by budget.
    pub budget_exhausted: IntGaugeVec,
    /// 1 while spending cannot be written.
    pub state_failing: IntGaugeVec,
}

impl AiMetrics {
    /// Registers the families.
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        let (c, h) = (counter, histogram);
        Ok(AiMetrics {
            calls: c(r, "sluicegate_ai_calls_total")?,
            lookups: c(r, "sluicegate_ai_cache_lookups_total")?,
            attempts: c(r, "sluicegate_ai_attempts_total")?,
            retries: c(r, "sluicegate_ai_retries_total")?,
            hedges: c(r, "sluicegate_ai_hedges_total")?,
            skipped: c(r, "sluicegate_ai_skipped_total")?,
            model_state: gauge(r, "sluicegate_ai_model_state")?,
            model_in_flight: gauge(r, "sluicegate_ai_model_in_flight")?,
            lost_tokens: c(r, "sluicegate_ai_lost_tokens_total")?,
            tokens: c(r, "sluicegate_ai_tokens_total")?,
            cost_nano_usd: c(r, "sluicegate_ai_cost_nano_usd_total")?,
            saved_tokens: c(r, "sluicegate_ai_saved_tokens_total")?,
            saved_nano_usd: c(r, "sluicegate_ai_saved_nano_usd_total")?,
            saved_ms: c(r, "sluicegate_ai_saved_milliseconds_total")?,
            first_token_seconds: h(r, "sluicegate_ai_first_token_seconds")?,
            guard: c(r, "sluicegate_ai_guard_total")?,
            semantic: gauge(r, "sluicegate_ai_semantic_lookups")?,
            semantic_bypasses: gauge(r, "sluicegate_ai_semantic_bypasses")?,
            semantic_vetoes: gauge(r, "sluicegate_ai_semantic_vetoes")?,
            budget_spent: gauge(r, "sluicegate_ai_budget_spent_nano_usd")?,
            budget_reserved: gauge(r, "sluicegate_ai_budget_reserved_nano_usd")?,
            budget_exhausted: gauge(r, "sluicegate_ai_budget_exhausted")?,
            state_failing: gauge(r, "sluicegate_ai_state_failing")?,
        })
    }
}
