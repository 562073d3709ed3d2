//! Model providers: what they speak, where they are, how long they may take.

use crate::base::units::Dur;
use crate::config::secret::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
