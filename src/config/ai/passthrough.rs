//! Endpoints of providers that pass through an AI route without being understood.

use crate::base::units::{Dur, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Endpoints that pass through: the request goes to a provider as it came, with the gateway's key and the provider's
/// name for the model, and the answer comes back as it is, both streamed.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Passthrough {
    /// The endpoints that are open; none is unless it stands here.
    pub endpoints: Vec<Endpoint>,
    /// The provider of the endpoints that name no model: `files`, `batches`, `responses`, `message_batches`. Whoever may
    /// use the route shares that provider's account: its files and batches are not kept apart by client, and the models
    /// that a batch names are not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The largest body that passes. Default: the route's `max_body`, else 512MiB. The model must stand within the
    /// first `ai.max_body` of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<Size>,
    /// Limits of a realtime session.
    pub realtime: Realtime,
}

/// An endpoint that can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `/images/generations`, `/images/edits`, `/images/variations`.
    Images,
    /// `/audio/speech`, `/audio/transcriptions`, `/audio/translations`.
    Audio,
    /// `/moderations`.
    Moderations,
    /// `/rerank`, as Cohere, Jina and vLLM have it.
    Rerank,
    /// `/files`: list, upload, content, delete.
    Files,
    /// `/batches`: list, create, look at, cancel.
    Batches,
    /// `/responses/{id}`: look at, delete, cancel, input items.
    Responses,
    /// Anthropic's `/messages/batches`: list, create, look at, cancel, delete, results.
    MessageBatches,
    /// `/realtime`, a websocket.
    Realtime,
}

impl Endpoint {
    /// The one spelling used in the configuration, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Endpoint::Images => "images",
            Endpoint::Audio => "audio",
            Endpoint::Moderations => "moderations",
            Endpoint::Rerank => "rerank",
            Endpoint::Files => "files",
            Endpoint::Batches => "batches",
            Endpoint::Responses => "responses",
            Endpoint::MessageBatches => "message_batches",
            Endpoint::Realtime => "realtime",
        }
    }

    /// Whether its requests name no model, so that the route must name a provider.
    pub fn needs_provider(self) -> bool {
        matches!(self, Endpoint::Files | Endpoint::Batches | Endpoint::Responses | Endpoint::MessageBatches)
    }
}

/// Limits of a realtime session.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Realtime {
    /// The longest silence of the provider.
    pub idle: Dur,
    /// The longest session; it ends with the first message after that.
    pub total: Dur,
}

impl Default for Realtime {
    fn default() -> Self {
        Realtime { idle: Dur::secs(600), total: Dur::secs(3600) }
    }
}
