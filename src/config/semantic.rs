//! The semantic cache in YAML: embedders, vector stores, and the `semantic` part of a prompt cache.

use super::secret::SecretRef;
use crate::base::units::Dur;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;

/// The embedder that exists without being declared.
pub const DEFAULT_EMBEDDER: &str = "minilm";
/// The vector store that exists without being declared.
pub const DEFAULT_STORE: &str = "edge";

/// The `semantic` part of a prompt cache: answers are reused for prompts that say the same in other words.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Semantic {
    /// Name of an embedder under `ai.embedders`; `minilm` (all-MiniLM-L6-v2, in process) needs no declaration.
    #[serde(default = "default_embedder")]
    pub embedder: String,
    /// Name of a vector store under `ai.vector_stores`; `edge` (in process, on disk) needs no declaration.
    #[serde(default = "default_store")]
    pub store: String,
    /// Cosine similarity from which two prompts count as the same question (0.5 to 1). A lower value answers more from
    /// the cache and more of it wrongly; numbers, negations and quotations must agree at any value.
    #[serde(default = "default_threshold", deserialize_with = "threshold")]
    #[schemars(range(min = 0.5, max = 1.0))]
    pub threshold: f32,
    /// How long an answer may be reused.
    #[serde(default = "default_ttl")]
    pub ttl: Dur,
    /// Who shares answers.
    #[serde(default)]
    pub scope: Scope,
}

/// Who shares the answers of a semantic cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Only requests of one authenticated caller (API key, token subject); callers without one share among themselves.
    #[default]
    Tenant,
    /// All callers of the route. Right for public content only: an answer made for one caller reaches the others.
    Route,
}

/// An embedding model that runs in process.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Embedder {
    /// Folder of the model inside the models folder: `all-MiniLM-L6-v2`, `BAAI/bge-small-en-v1.5`. It holds `model.onnx`,
    /// `tokenizer.json`, `config.json`, `tokenizer_config.json` and `special_tokens_map.json`.
    #[serde(default = "default_model")]
    pub model: String,
    /// The models folder; without it `SLUICEGATE_MODELS`, else `models` in the working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models_dir: Option<PathBuf>,
    /// CPU threads that compute one batch.
    #[serde(default = "one")]
    pub threads: NonZeroU16,
    /// Longest text in tokens. A longer one is not looked up: a truncated text would match another with the same beginning.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: NonZeroU16,
    /// Texts that may wait; when full, further prompts go straight to the model.
    #[serde(default = "default_queue")]
    pub queue: NonZeroU16,
    /// Vectors of recent texts kept in memory, per prompt cache.
    #[serde(default = "default_cache")]
    pub cache: u32,
    /// Longest wait for a vector; after it the prompt goes straight to the model.
    #[serde(default = "default_embed_timeout")]
    pub timeout: Dur,
}

impl Default for Embedder {
    fn default() -> Self {
        Embedder {
            model: default_model(),
            models_dir: None,
            threads: one(),
            max_tokens: default_max_tokens(),
            queue: default_queue(),
            cache: default_cache(),
            timeout: default_embed_timeout(),
        }
    }
}

/// Where vectors are kept: exactly one of the kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorStore {
    /// In process, on the local disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<Edge>,
    /// A Qdrant server, shared by several gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qdrant: Option<Qdrant>,
    /// In process memory, lost at a restart; compares with every entry, so keep it small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

/// The one kind that a [`VectorStore`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind<'a> {
    /// See [`VectorStore::edge`].
    Edge(&'a Edge),
    /// See [`VectorStore::qdrant`].
    Qdrant(&'a Qdrant),
    /// See [`VectorStore::memory`].
    Memory(&'a Memory),
}

/// What is wrong with a [`VectorStore`] that names no kind or several.
pub const STORE_KIND_RULE: &str = "a vector store has exactly one of edge, qdrant, memory";

impl VectorStore {
    /// The kind, or the rule that was broken.
    pub fn kind(&self) -> Result<StoreKind<'_>, &'static str> {
        match (&self.edge, &self.qdrant, &self.memory) {
            (Some(edge), None, None) => Ok(StoreKind::Edge(edge)),
            (None, Some(qdrant), None) => Ok(StoreKind::Qdrant(qdrant)),
            (None, None, Some(memory)) => Ok(StoreKind::Memory(memory)),
            _ => Err(STORE_KIND_RULE),
        }
    }

    /// What the name `edge` means when it is not declared.
    pub fn default_edge() -> Self {
        VectorStore { edge: Some(Edge::default()), qdrant: None, memory: None }
    }
}

/// The in-process store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// Folder for the vectors; each embedding model gets a folder of its own inside. One process at a time may use it.
    #[serde(default = "default_path")]
    pub path: PathBuf,
    /// Most answers kept; beyond it the oldest go first.
    #[serde(default = "default_entries")]
    pub entries: NonZeroU32,
}

impl Default for Edge {
    fn default() -> Self {
        Edge { path: default_path(), entries: default_entries() }
    }
}

/// The store in memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Most answers kept; beyond it the oldest go first.
    #[serde(default = "default_memory_entries")]
    pub entries: NonZeroU32,
}

/// A Qdrant server (gRPC).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Qdrant {
    /// The gRPC address: `http://qdrant:6334`, or `https://…`.
    pub url: String,
    /// API key of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretRef>,
    /// Beginning of the collection's name; the embedding model is appended.
    #[serde(default = "default_collection")]
    pub collection: String,
    /// Longest wait for a search; after it the prompt goes straight to the model.
    #[serde(default = "default_search_timeout")]
    pub timeout: Dur,
}

fn threshold<'de, D: Deserializer<'de>>(d: D) -> Result<f32, D::Error> {
    let value = f32::deserialize(d)?;
    if (0.5..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(de::Error::custom(format!("threshold {value} is outside 0.5 to 1")))
    }
}

fn default_embedder() -> String {
    DEFAULT_EMBEDDER.to_owned()
}
fn default_store() -> String {
    DEFAULT_STORE.to_owned()
}
fn default_threshold() -> f32 {
    0.92
}
fn default_ttl() -> Dur {
    Dur::secs(3600)
}
fn default_model() -> String {
    "all-MiniLM-L6-v2".to_owned()
}
fn one() -> NonZeroU16 {
    NonZeroU16::MIN
}
fn default_max_tokens() -> NonZeroU16 {
    one().saturating_add(255)
}
fn default_queue() -> NonZeroU16 {
    one().saturating_add(255)
}
fn default_cache() -> u32 {
    10_000
}
fn default_embed_timeout() -> Dur {
    Dur::millis(200)
}
fn default_path() -> PathBuf {
    PathBuf::from("data/vectors")
}
fn default_entries() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(99_999)
}
fn default_memory_entries() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(9_999)
}
fn default_collection() -> String {
    "sluicegate".to_owned()
}
fn default_search_timeout() -> Dur {
    Dur::millis(50)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_has_sound_defaults() {
        let s: Semantic = serde_yaml::from_str("{ threshold: 0.9, ttl: 2h }").unwrap();
        assert_eq!((s.embedder.as_str(), s.store.as_str(), s.scope), ("minilm", "edge", Scope::Tenant));
        let e: Embedder = serde_yaml::from_str("{}").unwrap();
        assert_eq!(e, Embedder::default());
        assert_eq!((e.max_tokens.get(), e.queue.get(), e.cache), (256, 256, 10_000));
        assert_eq!(Edge::default().entries.get(), 100_000);
    }

    #[test]
    fn bad_values_are_refused() {
        for bad in ["{ threshold: 0.2 }", "{ threshold: 1.01 }", "{ max_error: 1% }", "{ scope: world }"] {
            assert!(serde_yaml::from_str::<Semantic>(bad).is_err(), "{bad}");
        }
        assert!(serde_yaml::from_str::<Embedder>("{ queue: 0 }").is_err());
    }

    #[test]
    fn a_store_is_of_exactly_one_kind() {
        let two: VectorStore = serde_yaml::from_str("{ edge: {}, qdrant: { url: 'http://q:6334' } }").unwrap();
        assert_eq!(two.kind(), Err(STORE_KIND_RULE));
        let one: VectorStore = serde_yaml::from_str("{ qdrant: { url: 'http://q:6334' } }").unwrap();
        assert!(matches!(one.kind(), Ok(StoreKind::Qdrant(q)) if q.timeout == Dur::millis(50)));
        assert!(matches!(VectorStore::default_edge().kind(), Ok(StoreKind::Edge(_))));
    }
}
