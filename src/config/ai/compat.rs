//! Servers that speak OpenAI's dialect with a difference: Azure, and the many compatible ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Azure OpenAI: `base_url` is the resource's, such as `https://my-resource.openai.azure.com`, and the models are named
/// as their deployments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Azure {
    /// The version of the API, such as `2024-10-21`: calls go to `/openai/deployments/{model}/…?api-version=…`. Without
    /// one they go to `/openai/v1/…`, which has no versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// What the provider's `api_key` is.
    #[serde(default)]
    pub auth: AzureAuth,
}

/// What kind of credential is shown to Azure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AzureAuth {
    /// A key of the resource, sent as `api-key`.
    #[default]
    ApiKey,
    /// A token of Entra ID, sent as `Authorization: Bearer`. Tokens expire: keep it in a file that something renews,
    /// name it with `file:` and reload.
    Bearer,
}

/// A kind of server whose quirks are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compat {
    /// vLLM.
    Vllm,
    /// Ollama, at `/v1`.
    Ollama,
    /// The server of llama.cpp.
    Llamacpp,
    /// Groq.
    Groq,
    /// Mistral.
    Mistral,
    /// DeepSeek.
    Deepseek,
    /// xAI.
    Xai,
    /// Together.
    Together,
    /// OpenRouter.
    Openrouter,
}

/// What a server of OpenAI's dialect does not take. What is set here wins over what `compat` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quirks {
    /// It knows `max_tokens` and not `max_completion_tokens`, which is renamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens_only: Option<bool>,
    /// It does not take `stream_options`, which is left out; usage counts where it is told all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_stream_options: Option<bool>,
    /// It does not know the role `developer`, which becomes `system`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_developer_role: Option<bool>,
    /// It takes a message's content as one string only: lists of texts are joined by newlines. A list with anything
    /// else in it stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub string_content: Option<bool>,
    /// It does not take `parallel_tool_calls`, which is left out and told as dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_parallel_tool_calls: Option<bool>,
    /// It knows no JSON schemas in `response_format`: `json_object` is asked for in their place, and told as dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_json_schema: Option<bool>,
}
