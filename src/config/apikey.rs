//! `auth.<name>.api_key`: virtual keys, and the file that lists them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which virtual keys are believed. Keys are made by `sluicegate key new`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// The file that lists keys and teams, relative to this file. It holds no key, only SHA-256 digests, and is read
    /// again when it changes.
    pub store: String,
    /// The header field that carries the key; `authorization` must have the scheme `Bearer`. Default: the first that the
    /// request has of `authorization`, `x-api-key` (Anthropic's clients), `x-goog-api-key` (Google's) and `api-key`
    /// (Azure's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Who shares cached answers: one key with itself, or all keys of a team.
    #[serde(default)]
    pub tenant: Tenant,
}

/// Among whom cached answers are shared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tenant {
    /// Each key for itself.
    #[default]
    Key,
    /// All keys of a team; a key without one stays for itself.
    Team,
}

/// The file of keys.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyFile {
    /// Keys by name; the name stands in logs, metrics and the admin API.
    pub keys: BTreeMap<String, KeyRow>,
    /// Teams by name.
    pub teams: BTreeMap<String, TeamRow>,
}

/// One key.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRow {
    /// `sha256:` and the 64 hex digits of the key's SHA-256. A slow hash would add nothing: keys are random with far more
    /// than 128 bits, so that nobody finds one by trying.
    pub hash: String,
    /// The hash of the key that this one replaces, still taken until `previous_until`.
    #[serde(default)]
    pub previous: Option<String>,
    /// When the previous key ends, `2026-12-31` or `2026-12-31T12:00:00Z` (UTC).
    #[serde(default)]
    pub previous_until: Option<String>,
    /// When the key ends, as above.
    #[serde(default)]
    pub expires: Option<String>,
    /// The key is refused.
    #[serde(default)]
    pub disabled: bool,
    /// The team it belongs to: what that may not, the key may not either.
    #[serde(default)]
    pub team: Option<String>,
    /// Models it may use; with neither `models` nor `tiers` all of them.
    #[serde(default)]
    pub models: Vec<String>,
    /// Tiers it may use, with all of their models.
    #[serde(default)]
    pub tiers: Vec<String>,
    /// Names from `ai.budgets` that its calls are paid from.
    #[serde(default)]
    pub budgets: Vec<String>,
    /// Requests a minute.
    #[serde(default)]
    pub rpm: Option<u64>,
    /// Tokens a minute, input and output together.
    #[serde(default)]
    pub tpm: Option<u64>,
    /// Requests at once.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// Whatever the policy script should see as `req.key.metadata`.
    #[serde(default)]
    pub metadata: BTreeMap<String, serde_json::Value>,
}

/// One team: its limits are shared by all of its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TeamRow {
    /// Models its keys may use; with neither `models` nor `tiers` all of them.
    pub models: Vec<String>,
    /// Tiers its keys may use, with all of their models.
    pub tiers: Vec<String>,
    /// Names from `ai.budgets` that its keys' calls are paid from.
    pub budgets: Vec<String>,
    /// Requests a minute, of all its keys together.
    pub rpm: Option<u64>,
    /// Tokens a minute, likewise.
    pub tpm: Option<u64>,
    /// Requests at once, likewise.
    pub concurrency: Option<u32>,
}

/// What a key or a team may.
pub type Grant = TeamRow;

impl KeyRow {
    /// What this key may, its team left aside.
    pub fn grant(&self) -> Grant {
        Grant {
            models: self.models.clone(),
            tiers: self.tiers.clone(),
            budgets: self.budgets.clone(),
            rpm: self.rpm,
            tpm: self.tpm,
            concurrency: self.concurrency,
        }
    }
}

impl Grant {
    /// Whether every model may be used.
    pub fn is_open(&self) -> bool {
        self.models.is_empty() && self.tiers.is_empty()
    }
}

impl std::fmt::Debug for KeyRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A key put here by mistake instead of its hash must not reach a log.
        f.debug_struct("KeyRow").field("team", &self.team).field("expires", &self.expires).finish_non_exhaustive()
    }
}
