//! The metric families of the AI gateway.

use super::metrics::Kind::{Counter, Gauge, Histogram as Buckets};
use super::metrics::{Family, counter, family, gauge, histogram, histogram_of};
use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec, Registry};

/// Labels of OpenTelemetry's conventions for generative AI.
const GEN_AI: &[&str] = &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"];
/// Steps of token counts, as the conventions have them.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

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
    family(Counter, "sluicegate_ai_auto_total", "Calls whose tier their complexity decided", &["route", "tier"]),
    family(Counter, "sluicegate_ai_sticky_total", "Calls with a bond: new, kept, moved", &["route", "result"]),
    family(Counter, "sluicegate_ai_lost_tokens_total", "Tokens billed for answers that nobody got", &["model"]),
    family(Counter, "sluicegate_ai_tokens_total", "Tokens billed", &["route", "key", "model", "kind"]),
    family(Counter, "sluicegate_ai_cost_nano_usd_total", "Cost, 1e-9 USD", &["route", "key", "model"]),
    family(Counter, "sluicegate_ai_unpriced_tokens_total", "Tokens billed at no known price", &["model"]),
    family(Counter, "sluicegate_ai_saved_tokens_total", "Tokens not spent", &["route", "key", "model", "source"]),
    family(
        Counter,
        "sluicegate_ai_saved_nano_usd_total",
        "Cost not spent, 1e-9 USD",
        &["route", "key", "model", "source"],
    ),
    family(
        Counter,
        "sluicegate_ai_saved_milliseconds_total",
        "Model time not spent",
        &["route", "key", "model", "source"],
    ),
    family(Buckets, "sluicegate_ai_first_token_seconds", "Time to the first token", &["model"]),
    family(
        Buckets,
        "gen_ai_client_token_usage",
        "Tokens of a call that a provider answered; input holds the cached ones",
        &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type"],
    ),
    family(Buckets, "gen_ai_client_operation_duration_seconds", "Time of a call to its last byte", GEN_AI),
    family(Buckets, "gen_ai_server_time_to_first_token_seconds", "Time to the first token", GEN_AI),
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
    /// Calls whose tier their complexity decided, by route and tier.
    pub auto: IntCounterVec,
    /// Calls with a bond to a model, by route and what became of it.
    pub sticky: IntCounterVec,
    /// Tokens of answers that nobody got, by model; part of `tokens`.
    pub lost_tokens: IntCounterVec,
    /// Tokens, by route, key, model and kind (`input`, `cached_input`, `cache_write`, `output`, `reasoning` …).
    pub tokens: IntCounterVec,
    /// Cost in billionths of a US dollar, by route, key and model.
    pub cost_nano_usd: IntCounterVec,
    /// Tokens that have no known price, by model; part of `tokens`.
    pub unpriced_tokens: IntCounterVec,
    /// Tokens that caches answered instead of a model, by route, key, model and source; with the source
    /// `prompt_cache` those that the provider read from its own cache, which are cheaper and not spared.
    pub saved_tokens: IntCounterVec,
    /// Cost that caches saved, in billionths of a US dollar, likewise.
    pub saved_nano_usd: IntCounterVec,
    /// Model time that caches saved, in milliseconds, likewise.
    pub saved_ms: IntCounterVec,
    /// Time to the first token, by model.
    pub first_token_seconds: HistogramVec,
    /// Tokens of a call, by operation, provider, model (both in words of the configuration) and direction.
    pub gen_ai_tokens: HistogramVec,
    /// Time of a call, by operation, provider and model.
    pub gen_ai_seconds: HistogramVec,
    /// Time to the first token, likewise.
    pub gen_ai_first_token: HistogramVec,
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
            auto: c(r, "sluicegate_ai_auto_total")?,
            sticky: c(r, "sluicegate_ai_sticky_total")?,
            lost_tokens: c(r, "sluicegate_ai_lost_tokens_total")?,
            tokens: c(r, "sluicegate_ai_tokens_total")?,
            cost_nano_usd: c(r, "sluicegate_ai_cost_nano_usd_total")?,
            unpriced_tokens: c(r, "sluicegate_ai_unpriced_tokens_total")?,
            saved_tokens: c(r, "sluicegate_ai_saved_tokens_total")?,
            saved_nano_usd: c(r, "sluicegate_ai_saved_nano_usd_total")?,
            saved_ms: c(r, "sluicegate_ai_saved_milliseconds_total")?,
            first_token_seconds: h(r, "sluicegate_ai_first_token_seconds")?,
            gen_ai_tokens: histogram_of(r, "gen_ai_client_token_usage", &TOKENS)?,
            gen_ai_seconds: h(r, "gen_ai_client_operation_duration_seconds")?,
            gen_ai_first_token: h(r, "gen_ai_server_time_to_first_token_seconds")?,
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
