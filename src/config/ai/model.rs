//! Models and what they cost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a model of Anthropic's is told to think when the client asks for it in the words of another dialect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Thinking {
    /// `thinking: {type: adaptive}` with `output_config.effort`, as newer models want it.
    #[default]
    Adaptive,
    /// `thinking: {type: enabled, budget_tokens}`, as older models want it.
    Budget,
}

/// One model of one provider.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The provider that serves it.
    pub provider: String,
    /// The provider's name for it.
    pub model: String,
    /// Its price; without one the price list is asked, and without an entry there the cost is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// Dialect `anthropic` only, which requires a limit: the one on output tokens for clients that set none; 8192 when
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u64>,
    /// Models of Anthropic's only (dialects `anthropic` and `bedrock`): how the model is told to think when the client
    /// asks for it in the words of another dialect; `adaptive` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    /// How many tokens its context holds. Without it, it does not stand in for a model whose context was too small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub context_tokens: Option<u64>,
}

/// A price in US dollars per million tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Input tokens.
    #[schemars(range(min = 0.0))]
    pub input: f64,
    /// Output tokens.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub output: f64,
    /// Input tokens that the provider read from its own prompt cache; the `input` price when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub cache_read: Option<f64>,
    /// Input tokens written to the provider's prompt cache for its ordinary time (at Anthropic five minutes); the
    /// `input` price when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub cache_write: Option<f64>,
    /// Input tokens written to it for an hour; the `cache_write` price when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub cache_write_1h: Option<f64>,
    /// Reasoning tokens; the `output` price when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub reasoning: Option<f64>,
    /// Audio input tokens; the `input` price when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub audio_input: Option<f64>,
    /// Audio output tokens; the `output` price when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub audio_output: Option<f64>,
}

/// A price list: `conf/prices.yaml`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceList {
    /// When the list was made, `YYYY-MM-DD`.
    pub version: String,
    /// Prices by the provider's name for the model.
    pub models: BTreeMap<String, Price>,
}
