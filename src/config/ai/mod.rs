//! The `ai:` section (providers, models, tiers, caches of answers) and the `ai:` action of a route.

mod budget;
mod cache;
mod compat;
pub mod guard;
mod model;
pub mod passthrough;
mod provider;
mod routing;
mod steer;

pub use budget::{Budget, BudgetKey, OnExhausted, Period, State, Unpriced};
pub use cache::{AnswerCache, Exact};
pub use compat::{Azure, AzureAuth, Compat, Quirks};
pub use model::{LongContext, Model, Price, PriceList, Thinking};
pub use provider::{Aws, Dialect, Provider, Timeouts};
pub use routing::{After, Backoff, FallbackOn, Health, Hedge, Hold, Mix, Retry, Strategy, Streaming, Tier, faults};
pub use steer::{Auto, Cascade, CascadeStreams, CompatHeaders, EscalateOn, PrefixTtl, PromptCache, Sticky, StickyBy};

use super::semantic::{Embedder, VectorStore};
use crate::base::units::Size;
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
    /// Models by tier name (`cheap`, `standard`, `best`): a list, tried in that order, or a map with a strategy.
    #[serde(default)]
    pub tiers: BTreeMap<String, Tier>,
    /// When a failing model is left alone for a while.
    #[serde(default)]
    pub health: Health,
    /// When the same model is asked again; a route may have its own.
    #[serde(default)]
    pub retry: Retry,
    /// How streamed answers are watched; a route may have its own.
    #[serde(default)]
    pub stream: Streaming,
    /// Which tier a prompt gets where a route's tier, or the script's, is `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto: Option<Auto>,
    /// What is kept with the model that answered before; a route may have its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Whether providers are asked to cache long prefixes; a route may have its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_cache: Option<PromptCache>,
    /// The gateways whose header fields answers bear beside ours, for clients that look for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compat_headers: Vec<CompatHeaders>,
    /// A price list such as `conf/prices.yaml`, for models without a `price` of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<String>,
    /// Caches of model answers by name.
    #[serde(default)]
    pub caches: BTreeMap<String, AnswerCache>,
    /// What calls may cost, by name; routes, keys and teams name them.
    #[serde(default)]
    pub budgets: BTreeMap<String, Budget>,
    /// Where spending is remembered.
    #[serde(default)]
    pub state: State,
    /// Embedding models by name; `minilm` exists without being written here.
    #[serde(default)]
    pub embedders: BTreeMap<String, Embedder>,
    /// Vector stores by name; `edge` (in process, on disk) exists without being written here.
    #[serde(default)]
    pub vector_stores: BTreeMap<String, VectorStore>,
    /// Sets of guards by name: personal data, attacks on instructions, deny lists, schemas of answers.
    #[serde(default)]
    pub guards: BTreeMap<String, guard::Guards>,
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
            health: Health::default(),
            retry: Retry::default(),
            stream: Streaming::default(),
            auto: None,
            sticky: None,
            prompt_cache: None,
            compat_headers: Vec::new(),
            prices: None,
            caches: BTreeMap::new(),
            budgets: BTreeMap::new(),
            state: State::default(),
            embedders: BTreeMap::new(),
            vector_stores: BTreeMap::new(),
            guards: BTreeMap::new(),
            max_body: max_body(),
        }
    }
}

/// A route's `ai:` action.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AiRoute {
    /// The tier that answers when the client asks for the model `auto`; `auto` itself leaves it to `ai.auto`.
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
    /// Names from `ai.budgets` that every call of this route is paid from, beside those of its key and team.
    #[serde(default)]
    pub budgets: Vec<String>,
    /// Endpoints that pass through: images, audio, files and others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passthrough: Option<passthrough::Passthrough>,
    /// The failures after which another model is asked; all but `content_filter` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_on: Option<Vec<FallbackOn>>,
    /// When the same model is asked again, in place of `ai.retry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// When a second model is asked beside the first, in place of the tier's `hedge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
    /// How streamed answers are watched, in place of `ai.stream`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Streaming>,
    /// A cheap tier first, and a better one when its answer is no good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cascade: Option<Cascade>,
    /// What is kept with the model that answered before, in place of `ai.sticky`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Whether providers are asked to cache long prefixes, in place of `ai.prompt_cache`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_cache: Option<PromptCache>,
    /// The guards that every call of this route goes through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guards: Option<String>,
    /// Guards that the policy script may choose instead, `d.guard(name)`; it can always give guards to a route that has
    /// none.
    #[serde(default)]
    pub guards_allowed: Vec<String>,
}

fn max_body() -> Size {
    Size::mib(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::Dur;

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
