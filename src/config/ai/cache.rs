//! Caches of model answers.

use crate::base::units::{Dur, Size};
use crate::config::semantic::Semantic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
