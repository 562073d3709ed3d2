//! Which tier a prompt gets when nobody names one, and what keeps providers' own prompt caches warm: complexity,
//! cascades, sticky conversations, marks of long prefixes. Also which of the peers' header fields answers bear.

use crate::base::units::{Dur, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A gateway whose header fields answers bear beside ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CompatHeaders {
    /// `x-litellm-cache-key` and `x-litellm-semantic-similarity`, of stored answers.
    Litellm,
    /// `x-portkey-cache-status`.
    Portkey,
    /// `cf-aig-cache-status`.
    Cloudflare,
}

/// Tiers by how hard a prompt looks: what `tier: auto` means.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auto {
    /// In rising order of `below`; the last one has none.
    pub tiers: Vec<Step>,
}

/// A tier and the prompts that it gets.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The tier.
    pub tier: String,
    /// It gets the prompts whose complexity (0 to 1) is less than this and that no tier before it gets; all others, when
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub below: Option<f64>,
}

/// Keeps what belongs together with the model that answered before, so that its provider's prompt cache stays warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sticky {
    /// What belongs together.
    pub by: StickyBy,
    /// For how long after the last call.
    #[serde(default = "ten_minutes")]
    pub ttl: Dur,
}

/// What belongs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StickyBy {
    /// A conversation: its name where it has one (`x-session-id`, `prompt_cache_key`, `conversation`), else its system
    /// prompt and first user message.
    Conversation,
    /// Prompts with one `prompt_cache_key`, else with the same system prompt and tools.
    Prefix,
    /// The prompts of a user: `user`, `safety_identifier` or `metadata.user_id`, else of the caller.
    User,
}

/// Asks a cheap tier first, and a better one when the answer is no good.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cascade {
    /// From cheap to good. A call whose tier is among them goes up from there; others are left alone.
    pub tiers: Vec<String>,
    /// What is no good; all of it when left out.
    #[serde(default = "EscalateOn::all")]
    pub escalate_on: Vec<EscalateOn>,
    /// What happens to streams.
    #[serde(default)]
    pub streams: CascadeStreams,
    /// How much of a stream is held at most; a longer one is passed on unjudged.
    #[serde(default = "hold_max")]
    pub hold_max: Size,
    /// The least mean log-probability of an answer's tokens, where the client asked for them; less is low confidence.
    #[serde(default = "logprob_min")]
    #[schemars(range(max = 0.0))]
    pub logprob_min: f64,
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EscalateOn {
    /// The model or its filter refuses, or a short answer begins as refusals do.
    Refusal,
    /// Its tokens are improbable, or it says itself that it does not know.
    LowConfidence,
    /// JSON was asked for, and it is none, or lacks members that the schema requires.
    SchemaFailure,
    /// There is neither text nor a tool call.
    Empty,
    /// It was cut at the limit on tokens.
    Length,
}

/// What a cascade does with streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CascadeStreams {
    /// Holds the stream of every tier but the last until it has ended and was judged.
    #[default]
    Hold,
    /// Passes it on at once, unjudged.
    Pass,
}

/// Asks providers to cache long prefixes that the client did not mark itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptCache {
    /// Whether it does.
    pub auto: bool,
    /// From how many tokens on, estimated.
    #[serde(default = "min_tokens")]
    pub min_tokens: u64,
    /// How long Anthropic is to keep them.
    #[serde(default)]
    pub ttl: PrefixTtl,
}

/// How long Anthropic keeps a prefix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PrefixTtl {
    /// Five minutes, its ordinary time.
    #[default]
    #[serde(rename = "5m")]
    FiveMinutes,
    /// An hour, which costs more to write.
    #[serde(rename = "1h")]
    Hour,
}

/// The longest time that a conversation is kept with its model.
const STICKY_TTL_MAX: Dur = Dur::secs(24 * 3600);

impl EscalateOn {
    /// Everything that can be wrong.
    pub fn all() -> Vec<EscalateOn> {
        use EscalateOn::{Empty, Length, LowConfidence, Refusal, SchemaFailure};
        vec![Refusal, LowConfidence, SchemaFailure, Empty, Length]
    }
}

impl Auto {
    /// What is wrong with it beside the names of tiers: place and message.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let mut least = 0.0;
        for (i, step) in self.tiers.iter().enumerate() {
            let last = i + 1 == self.tiers.len();
            let message = match step.below {
                None if !last => "only the last tier may do without `below`",
                Some(_) if last => "the last tier gets whatever is left; leave this out",
                Some(b) if !(b > least && b <= 1.0) => "must be more than the one before, and at most 1",
                below => {
                    least = below.unwrap_or(least);
                    continue;
                }
            };
            out.push((format!("tiers[{i}].below"), message.to_owned()));
        }
        if self.tiers.is_empty() {
            out.push(("tiers".to_owned(), "at least one tier".to_owned()));
        }
        out
    }
}

impl Sticky {
    /// What is wrong with it.
    pub fn fault(&self) -> Option<&'static str> {
        (self.ttl.0.is_zero() || self.ttl > STICKY_TTL_MAX).then_some("more than 0, and at most 24h")
    }
}

impl Cascade {
    /// What is wrong with it beside the names of tiers: place and message.
    pub fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let mut out = Vec::new();
        if self.tiers.len() < 2 {
            out.push(("tiers", "at least two tiers, from cheap to good"));
        }
        if self.escalate_on.is_empty() {
            out.push(("escalate_on", "name what is no good, or leave this out"));
        }
        if self.logprob_min.is_nan() || self.logprob_min > 0.0 {
            out.push(("logprob_min", "log-probabilities are 0 or less"));
        }
        if self.hold_max > Size::mib(4) {
            out.push(("hold_max", "at most 4MiB"));
        }
        out
    }
}

fn ten_minutes() -> Dur {
    Dur::secs(600)
}

fn hold_max() -> Size {
    Size(256 << 10)
}

fn logprob_min() -> f64 {
    -1.0
}

fn min_tokens() -> u64 {
    1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_rise_and_the_last_tier_takes_the_rest() {
        let auto = |text: &str| serde_yaml::from_str::<Auto>(text).unwrap().faults();
        assert!(auto("{ tiers: [ {tier: a, below: 0.3}, {tier: b, below: 0.7}, {tier: c} ] }").is_empty());
        assert_eq!(auto("{ tiers: [ {tier: a}, {tier: b} ] }")[0].0, "tiers[0].below");
        assert_eq!(
            auto("{ tiers: [ {tier: a, below: 0.5}, {tier: b, below: 0.4}, {tier: c} ] }")[0].0,
            "tiers[1].below"
        );
        assert_eq!(auto("{ tiers: [ {tier: a, below: 0.5} ] }")[0].0, "tiers[0].below");
        assert_eq!(auto("{ tiers: [] }")[0].0, "tiers");
    }

    #[test]
    fn a_cascade_has_two_tiers_and_sane_limits() {
        let cascade = |text: &str| serde_yaml::from_str::<Cascade>(text).unwrap();
        let plain = cascade("{ tiers: [a, b] }");
        assert!(plain.faults().is_empty());
        assert_eq!((plain.escalate_on.len(), plain.streams), (5, CascadeStreams::Hold));
        let places: Vec<_> = cascade("{ tiers: [a], escalate_on: [], logprob_min: 1, hold_max: 5MiB }")
            .faults()
            .into_iter()
            .map(|f| f.0)
            .collect();
        assert_eq!(places, ["tiers", "escalate_on", "logprob_min", "hold_max"]);
        assert!(serde_yaml::from_str::<Cascade>("{ tiers: [a, b], escalate_on: [rudeness] }").is_err());
    }

    #[test]
    fn sticky_has_a_bounded_time() {
        let sticky = |text: &str| serde_yaml::from_str::<Sticky>(text).unwrap();
        assert_eq!(sticky("{ by: user }").ttl, Dur::secs(600));
        assert!(sticky("{ by: prefix, ttl: 24h }").fault().is_none());
        assert!(
            sticky("{ by: prefix, ttl: 25h }").fault().is_some() && sticky("{ by: prefix, ttl: 0s }").fault().is_some()
        );
    }
}
