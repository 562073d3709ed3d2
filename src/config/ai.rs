//! The `ai:` section (providers, models, tiers, caches of answers) and the `ai:` action of a route.

use super::secret::SecretRef;
use super::semantic::{Embedder, Semantic, VectorStore};
use crate::base::units::{Dur, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Model providers, the models they serve, tiers of models, and caches of their answers.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ai {
    /// Model providers by name.
    #[serde(default)]
    pub providers: BTreeMap<String, Provider>,
    /// Models by the name that clients and scripts use.
    #[serde(default)]
    pub models: BTreeMap<String, Model>,
    /// Lists of models by tier name (`cheap`, `standard`, `best`); a tier's models are tried in this order.
    #[serde(default)]
    pub tiers: BTreeMap<String, Vec<String>>,
    /// A price list such as `conf/prices.yaml`, for models without a `price` of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<String>,
    /// Caches of model answers by name.
    #[serde(default)]
    pub caches: BTreeMap<String, AnswerCache>,
    /// Embedding models by name; `minilm` exists without being written here.
    #[serde(default)]
    pub embedders: BTreeMap<String, Embedder>,
    /// Vector stores by name; `edge` (in process, on disk) exists without being written here.
    #[serde(default)]
    pub vector_stores: BTreeMap<String, VectorStore>,
    /// The largest request body accepted on an AI route.
    #[serde(default = "max_body")]
    pub max_body: Size,
}

impl Default for Ai {
    fn default() -> Self {
        Ai {
            providers: BTreeMap::new(),
            models: BTreeMap::new(),
            tiers: BTreeMap::new(),
            prices: None,
            caches: BTreeMap::new(),
            embedders: BTreeMap::new(),
            vector_stores: BTreeMap::new(),
            max_body: max_body(),
        }
    }
}

/// How a provider is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// The OpenAI chat completions API and the many servers that speak it.
    Openai,
    /// The Anthropic Messages API.
    Anthropic,
    /// The Gemini API.
    Gemini,
}

/// How a model of the Anthropic dialect is told to think when the client asks for it in OpenAI's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Thinking {
    /// `thinking: {type: adaptive}` with `output_config.effort`, as newer models want it.
    #[default]
    Adaptive,
    /// `thinking: {type: enabled, budget_tokens}`, as older models want it.
    Budget,
}

/// One model provider.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The API it speaks.
    pub dialect: Dialect,
    /// The API's base URL with its version, such as `https://api.openai.com/v1`, `https://api.anthropic.com/v1` or
    /// `https://generativelanguage.googleapis.com/v1beta`; `/chat/completions`, `/messages` or `/models/…` is appended.
    pub base_url: String,
    /// The key, sent as `Authorization: Bearer` (dialect `openai`), `x-api-key` (dialect `anthropic`) or
    /// `x-goog-api-key` (dialect `gemini`); leave it out for a server that wants none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretRef>,
    /// Time limits of one call.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Further request header fields; use `api_key` for secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// Time limits of one call to a provider.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// Until the connection stands (name, TCP, TLS).
    pub connect: Dur,
    /// Until the answer's header has arrived; a model that does not stream thinks before it answers.
    pub first_byte: Dur,
    /// The longest pause within the answer.
    pub between_bytes: Dur,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { connect: Dur::secs(2), first_byte: Dur::secs(60), between_bytes: Dur::secs(60) }
    }
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
    /// Dialect `anthropic` only: how the model is told to think when the client asks for it in OpenAI's words;
    /// `adaptive` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
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

/// A cache of model answers. Both kinds may be on; the exact one is asked first.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerCache {
    /// Answers to requests that are equal in everything that changes the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<Exact>,
    /// Answers to requests that ask the same in other words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semantic: Option<Semantic>,
}

/// The exact cache of model answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Exact {
    /// How long an answer may be served; the policy script may set another per prompt.
    pub ttl: Dur,
    /// Memory for stored answers; the least used go first.
    pub size: Size,
}

impl Default for Exact {
    fn default() -> Self {
        Exact { ttl: Dur::secs(24 * 3600), size: Size::mib(64) }
    }
}

/// A route's `ai:` action.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AiRoute {
    /// The tier that answers when the client asks for the model `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The cache of answers; without one every prompt goes to a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Tiers tried in order after every model of the chosen one has failed.
    #[serde(default)]
    pub fallback: Vec<String>,
    /// Model and tier names that clients of this route may ask for; empty means all.
    #[serde(default)]
    pub models: Vec<String>,
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

fn max_body() -> Size {
    Size::mib(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_example_parses_and_defaults_fill_in() {
        let ai: Ai = serde_yaml::from_str(
            "
providers: { openai: { dialect: openai, base_url: 'https://api.openai.com/v1', api_key: env:OPENAI_API_KEY } }
models: { mid: { provider: openai, model: gpt-4.1-mini, price: { input: 0.4, output: 1.6, cache_read: 0.1 } } }
tiers: { cheap: [mid] }
caches: { prompts: { exact: { ttl: 1h } } }",
        )
        .unwrap();
        assert_eq!(ai.max_body, Size::mib(8));
        assert_eq!(ai.providers["openai"].timeouts.connect, Dur::secs(2));
        assert_eq!(ai.caches["prompts"].exact, Some(Exact { ttl: Dur::secs(3600), size: Size::mib(64) }));
    }

    #[test]
    fn unknown_keys_and_dialects_are_refused() {
        for bad in ["{ modles: {} }", "{ providers: { p: { dialect: opnai, base_url: 'http://x' } } }"] {
            assert!(serde_yaml::from_str::<Ai>(bad).is_err(), "{bad}");
        }
        assert!(
            serde_yaml::from_str::<Ai>("{ models: { a: { provider: p, model: m, price: { inptu: 1 } } } }").is_err()
        );
    }

    #[test]
    fn a_key_in_clear_never_shows_in_debug() {
        let p: Provider =
            serde_yaml::from_str("{ dialect: openai, base_url: 'http://x', api_key: sk-canary }").unwrap();
        assert!(!format!("{p:?}").contains("canary"));
    }
}
