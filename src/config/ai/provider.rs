//! Model providers: what they speak, where they are, how long they may take.

use crate::base::units::Dur;
use crate::config::ai::compat::{Azure, Compat, Quirks};
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
    /// The OpenAI Responses API alone. A server that has both is `openai` with `responses: true`.
    OpenaiResponses,
    /// The Anthropic Messages API.
    Anthropic,
    /// The Gemini API.
    Gemini,
    /// The Converse API of Amazon Bedrock.
    Bedrock,
}

/// One model provider.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The API it speaks.
    pub dialect: Dialect,
    /// The API's base URL with its version, such as `https://api.openai.com/v1`, `https://api.anthropic.com/v1` or
    /// `https://generativelanguage.googleapis.com/v1beta`; `/chat/completions`, `/responses`, `/messages` or `/models/…` is appended.
    /// Bedrock's has none: `https://bedrock-runtime.eu-central-1.amazonaws.com`.
    pub base_url: String,
    /// The key, sent as `Authorization: Bearer` (dialects `openai`, `openai_responses` and `bedrock`), `x-api-key`
    /// (dialect `anthropic`) or `x-goog-api-key` (dialect `gemini`); leave it out for a server that wants none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretRef>,
    /// Whether a provider of the dialect `openai` takes `/responses`, too. Clients of the Responses API are then
    /// forwarded as they are; without it, what they say is translated to chat completions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub responses: bool,
    /// Dialect `bedrock` only, instead of `api_key`: the AWS credentials with which each request is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<Aws>,
    /// Dialect `openai` only: an Azure OpenAI resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<Azure>,
    /// Dialect `openai` only: the kind of server, whose known quirks are respected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compat: Option<Compat>,
    /// Dialect `openai` only: what the server does not take, beside or instead of what `compat` says.
    #[serde(default)]
    pub quirks: Quirks,
    /// Time limits of one call.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Further request header fields; use `api_key` for secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// AWS credentials, for signatures of version 4. They are read when the configuration is: lent ones (with a session
/// token) must be renewed by a reload.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Aws {
    /// The region that signatures name, such as `eu-central-1`: that of the base URL.
    pub region: String,
    /// The access key's id.
    pub access_key: SecretRef,
    /// The secret access key.
    pub secret_key: SecretRef,
    /// The session token that belongs to lent credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretRef>,
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
