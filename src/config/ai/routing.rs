//! How models are chosen and stood in for: strategies of tiers, health, retries, hedging, limits of streams.

use crate::base::units::{Dur, Share, Size};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::time::Duration;

/// A tier: a list of models, tried in that order, or the long form with weights and a strategy.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "a list of models, or a map with `models` and maybe `strategy` and `hedge`")]
pub enum Tier {
    /// Model names, tried in order.
    List(Vec<String>),
    /// Models with weights and a strategy.
    Mix(Mix),
}

/// The long form of a tier.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// The models: names, or names with weights.
    pub models: Vec<Member>,
    /// Which of them is asked first. The others stand in for it, in the strategy's order.
    #[serde(default)]
    pub strategy: Strategy,
    /// A second model is asked when the first lets itself be waited for; never when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
}

/// A model of a tier.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "a model's name, or a map with `model` and `weight`")]
pub enum Member {
    /// Its name; its weight is 1.
    Name(String),
    /// Its name and weight.
    Weighted(Weighted),
}

/// A model with its weight.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Weighted {
    /// The model's name.
    pub model: String,
    /// Its share in `weighted`, its capacity in `least_busy`; other strategies do not read it.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub weight: u32,
}

/// Which model of a tier is asked first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The first of the list.
    #[default]
    Order,
    /// Drawn by weight.
    Weighted,
    /// The one with the fewest calls in flight for its weight.
    LeastBusy,
    /// The one whose first content came soonest of late; a model without recent measurements is tried now and then.
    LowestLatency,
    /// The one that costs the least for a prompt of this length; models without a price come last.
    Cheapest,
}

impl Tier {
    /// Names and weights, in the order of the list.
    pub fn members(&self) -> Vec<(&str, u32)> {
        match self {
            Tier::List(names) => names.iter().map(|n| (n.as_str(), 1)).collect(),
            Tier::Mix(mix) => mix.models.iter().map(Member::parts).collect(),
        }
    }

    /// Which model is asked first.
    pub fn strategy(&self) -> Strategy {
        match self {
            Tier::List(_) => Strategy::Order,
            Tier::Mix(mix) => mix.strategy,
        }
    }

    /// When a second model is asked.
    pub fn hedge(&self) -> Option<Hedge> {
        match self {
            Tier::List(_) => None,
            Tier::Mix(mix) => mix.hedge,
        }
    }
}

impl Member {
    fn parts(&self) -> (&str, u32) {
        match self {
            Member::Name(name) => (name, 1),
            Member::Weighted(w) => (&w.model, w.weight),
        }
    }
}

/// When a model is left alone for a while. Kept for each model of each provider, also over reloads.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Failures in a row that put a model into cool-down. Requests that are themselves at fault do not count.
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// Or this share of failures among the last `window`, once it has seen 10 calls.
    pub share: Share,
    /// The time over which that share is taken.
    pub window: Dur,
    /// How long a model is left alone at first; each failed trial after it doubles the time.
    pub cool_down: Dur,
    /// The longest cool-down: the limit of that doubling and of what a provider asks for by `Retry-After`; a provider
    /// that refuses the key is left alone for this long at once.
    pub cool_down_max: Dur,
}

impl Default for Health {
    fn default() -> Self {
        Health {
            failures: 5,
            share: Share(0.5),
            window: Dur::secs(30),
            cool_down: Dur::secs(5),
            cool_down_max: Dur::secs(300),
        }
    }
}

/// When the same model is asked again, and how long a request may look for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Tries at one model for one request, the first included: after a refused connection, a 5xx, or a 429 that says
    /// to come back soon. Clients' libraries retry by themselves, and tiers have further models, so it is 1.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u32,
    /// Tries for one request in all, over all models.
    #[schemars(range(min = 1, max = 100))]
    pub total: u32,
    /// The pauses between tries at one model.
    pub backoff: Backoff,
    /// How long a request may wait in all until its answer begins.
    pub deadline: Dur,
    /// The share of a provider's calls that may be repeated ones; a burst of 10 is always allowed.
    pub budget: Share,
}

impl Default for Retry {
    fn default() -> Self {
        let (deadline, backoff) = (Dur::secs(600), Backoff::default());
        Retry { attempts: 1, total: 16, backoff, deadline, budget: Share(0.2) }
    }
}

/// Pauses that double, each drawn between nothing and its full length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    /// The first.
    pub base: Dur,
    /// The longest; a provider that asks for a longer one is not asked again.
    pub max: Dur,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { base: Dur::millis(250), max: Dur::secs(5) }
    }
}

/// A second model is asked when the first has not begun to answer; the first good answer is taken.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hedge {
    /// When: a time, or a quantile of the model's own recent times (`p95`), for which it must have 20.
    pub after: After,
    /// The share of calls that may be asked twice.
    #[serde(default = "hedged_share")]
    pub max_share: Share,
}

/// When a second model is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum After {
    /// After this time.
    Time(Duration),
    /// When this share of the model's recent calls had begun to answer, 0.5 to 0.999.
    Quantile(f64),
}

impl<'de> Deserialize<'de> for After {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let percent = text.strip_prefix('p').and_then(|p| p.parse::<f64>().ok());
        match percent {
            Some(p) if (50.0..=99.9).contains(&p) => Ok(After::Quantile(p / 100.0)),
            Some(_) => Err(de::Error::custom("a quantile is p50 to p99.9")),
            None => text.parse().map(|Dur(time)| After::Time(time)).map_err(de::Error::custom),
        }
    }
}

impl Serialize for After {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            After::Time(time) => Dur(*time).serialize(s),
            // Rounded, as 99.9 / 100 * 100 is not 99.9.
            After::Quantile(q) => s.collect_str(&format_args!("p{}", (q * 1e5).round() / 1e3)),
        }
    }
}

impl JsonSchema for After {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "After".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "pattern": r"^(p[0-9.]+|[0-9.]+\s*(us|ms|s|m|min|h|d))$",
            "description": "a duration such as 500ms, or a quantile such as p95",
        })
    }
}

/// How a streamed answer is watched on its way.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Streaming {
    /// How much of a stream is held back at its start, as a time (`200ms`) or a size (`2KiB`): an error within it can
    /// still be answered by another model. `0ms` holds nothing but what comes before the first content.
    pub hold: Hold,
    /// The longest pause between two events of an answer; comments and pings are none. `between_bytes` of the provider
    /// limits complete silence.
    pub idle: Dur,
    /// The longest time a stream may take.
    pub total: Dur,
    /// A sign of life for the client whenever nothing was sent for so long; none when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping: Option<Dur>,
}

impl Default for Streaming {
    fn default() -> Self {
        let (idle, total) = (Dur::secs(300), Dur::secs(3600));
        Streaming { hold: Hold::Time(Dur::secs(0)), idle, total, ping: None }
    }
}

/// How much of a stream's start is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "a duration such as 200ms, or a size such as 2KiB")]
pub enum Hold {
    /// For so long after its first content.
    Time(Dur),
    /// Until so many bytes of it have come.
    Bytes(Size),
}

/// A failure after which another model may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FallbackOn {
    /// No connection, or one that ended before the answer.
    ConnectError,
    /// A time limit; status 408.
    Timeout,
    /// Status 409 or 425.
    Conflict,
    /// Status 429, also for want of quota.
    RateLimit,
    /// Status 5xx (529 among them).
    ServerError,
    /// An answer that is none: an error in a 200, no JSON, an empty stream, a redirect, a wrong media type.
    BadAnswer,
    /// The provider refuses the gateway's key.
    Credentials,
    /// Status 404.
    NotFound,
    /// The prompt is too long for the model: only models with larger `context_tokens` are asked then.
    ContextOverflow,
    /// The request has no words in the model's dialect.
    Unsupported,
    /// The provider's content filter stopped the prompt or the answer.
    ContentFilter,
}

impl FallbackOn {
    /// All but the content filter, whose verdict should not be shopped around unless somebody decides so.
    pub const DEFAULT: [FallbackOn; 10] = [
        FallbackOn::ConnectError,
        FallbackOn::Timeout,
        FallbackOn::Conflict,
        FallbackOn::RateLimit,
        FallbackOn::ServerError,
        FallbackOn::BadAnswer,
        FallbackOn::Credentials,
        FallbackOn::NotFound,
        FallbackOn::ContextOverflow,
        FallbackOn::Unsupported,
    ];
}

fn one() -> u32 {
    1
}

fn hedged_share() -> Share {
    Share(0.05)
}

/// What is wrong with the numbers, each with its place below the section.
pub fn faults(
    health: &Health,
    retry: Option<&Retry>,
    streaming: Option<&Streaming>,
) -> Vec<(&'static str, &'static str)> {
    let mut out = Vec::new();
    let mut check = |fine: bool, place, message| {
        if !fine {
            out.push((place, message));
        }
    };
    let positive = "must be longer than 0";
    check(health.failures > 0, "health.failures", "at least 1");
    check(!health.window.0.is_zero(), "health.window", positive);
    check(!health.cool_down.0.is_zero(), "health.cool_down", positive);
    check(health.cool_down_max >= health.cool_down, "health.cool_down_max", "at least cool_down");
    if let Some(retry) = retry {
        check((1..=10).contains(&retry.attempts), "retry.attempts", "1 to 10");
        check((1..=100).contains(&retry.total), "retry.total", "1 to 100");
        check(!retry.deadline.0.is_zero(), "retry.deadline", positive);
        check(retry.backoff.max >= retry.backoff.base, "retry.backoff.max", "at least base");
    }
    if let Some(s) = streaming {
        check(!s.idle.0.is_zero(), "stream.idle", positive);
        check(!s.total.0.is_zero(), "stream.total", positive);
        check(s.ping.is_none_or(|p| p >= Dur::millis(100)), "stream.ping", "at least 100ms");
        let small = match s.hold {
            Hold::Time(time) => time <= Dur::secs(60),
            Hold::Bytes(bytes) => bytes <= Size::mib(1),
        };
        check(small, "stream.hold", "at most 60s or 1MiB");
    }
    out
}

#[cfg(test)]
mod tests;
