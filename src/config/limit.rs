//! `rate_limits:` how much a client may ask for.

use crate::base::units::PerTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One limit. At least one of `rate`, `tokens` and `concurrency` is given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Whose requests are counted together.
    pub key: LimitKey,
    /// Requests in a time, such as `60/min`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<PerTime>,
    /// Requests at once after a pause; default: as many as `rate` has in its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub burst: Option<u64>,
    /// Tokens of models in a time, input and output together, for AI routes: estimated before a call, corrected after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<PerTime>,
    /// Requests under way at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub concurrency: Option<u32>,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitKey {
    /// A virtual key's; for routes whose `auth` is an `api_key`.
    ApiKey,
    /// A team's; a key without a team counts for itself.
    Team,
    /// A token's subject; for routes whose `auth` is a `jwt`.
    User,
    /// A client address's, of IPv6 its /64 network; counted before anything is looked at, so that guessing keys is
    /// limited, too.
    ClientIp,
    /// All of the route's.
    Route,
}
