//! The real embedder: a sentence encoder in ONNX Runtime, through fastembed, from files on disk.

use super::worker::{self, Job, Model, Queue};
use super::{EmbedError, Embedder, unit};
use crate::base::ids;
use async_trait::async_trait;
use fastembed::{InitOptionsUserDefined, Pooling, TextEmbedding, TokenizerFiles, UserDefinedEmbeddingModel};
use ort::environment::Environment;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The environment variable that names the models folder.
pub const MODELS_VARIABLE: &str = "SLUICEGATE_MODELS";
/// ONNX Runtime inside the models folder.
const RUNTIME: &str = "onnxruntime/libonnxruntime.so";
/// Weights kept beside the graph.
const WEIGHTS: &str = "model.safetensors";
/// A text longer than this many bytes per allowed token is refused before it is tokenised.
const BYTES_PER_TOKEN_MAX: usize = 32;

/// Idle threads must not burn the CPU that the proxy needs.
pub(super) const NO_SPINNING: (&str, &str) = ("session.intra_op.allow_spinning", "0");

/// The one ONNX Runtime environment of this process. ONNX Runtime itself is a process-wide singleton that can be
/// opened once and never again, not even after it was closed, so its handle cannot be anything smaller.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// What to load and how much of the machine to give it.
#[derive(Debug, Clone)]
pub struct OnnxOptions {
    /// The models folder.
    pub models: PathBuf,
    /// The model's folder in it (`all-MiniLM-L6-v2`).
    pub model: String,
    /// CPU threads for one batch.
    pub threads: usize,
    /// Longest text in tokens.
    pub max_tokens: usize,
    /// Texts that may wait.
    pub queue: usize,
    /// Longest wait for a vector.
    pub timeout: Duration,
}

impl OnnxOptions {
    /// From the configuration; the models folder is the configured one, else the environment's, else `models`.
    pub fn new(config: &crate::config::semantic::Embedder) -> Self {
        OnnxOptions {
            models: models_folder(config.models_dir.as_deref()),
            model: config.model.clone(),
            threads: usize::from(config.threads.get()),
            max_tokens: usize::from(config.max_tokens.get()),
            queue: usize::from(config.queue.get()),
            timeout: config.timeout.0,
        }
    }
}

/// The models folder: the one given, else `SLUICEGATE_MODELS`, else `models` in the working directory.
pub fn models_folder(given: Option<&Path>) -> PathBuf {
    match (given, std::env::var_os(MODELS_VARIABLE)) {
        (Some(path), _) => path.to_owned(),
        (None, Some(path)) if !path.is_empty() => PathBuf::from(path),
        _ => PathBuf::from("models"),
    }
}

/// A sentence encoder on a thread of its own.
pub struct OnnxEmbedder {
    queue: Queue,
    id: String,
    dim: usize,
    timeout: Duration,
    text_bytes_max: usize,
    max_tokens: usize,
}

impl OnnxEmbedder {
    /// Loads the model and starts its thread. Blocks for about half a second: call it at start-up.
    pub fn open(options: &OnnxOptions) -> Result<Self, EmbedError> {
        let fault = |cause: String| EmbedError::Load { model: options.model.clone(), cause };
        if !is_plain_relative(&options.model) {
            return Err(fault("the name must be a folder inside the models folder".to_owned()));
        }
        let (mut model, id) = load(options)?;
        let probe = model.embed(&["dimension"])?.pop().and_then(unit);
        let dim = probe.ok_or_else(|| fault("it gives no vectors".to_owned()))?.len();
        let queue = worker::start(model, options.queue).map_err(|e| fault(e.to_string()))?;
        tracing::info!(model = %id, dim, "embedding model loaded");
        Ok(OnnxEmbedder {
            queue,
            id,
            dim,
            timeout: options.timeout,
            text_bytes_max: options.max_tokens.saturating_mul(BYTES_PER_TOKEN_MAX),
            max_tokens: options.max_tokens,
        })
    }
}

#[async_trait]
impl Embedder for OnnxEmbedder {
    async fn embed(&self, text: &str) -> Result<Arc<[f32]>, EmbedError> {
        if text.len() > self.text_bytes_max {
            return Err(EmbedError::TooLong { max: self.max_tokens });
        }
        let (answer, result) = oneshot::channel();
        let deadline = Instant::now() + self.timeout;
        self.queue.push(Job { text: text.to_owned(), deadline, answer })?;
        match tokio::time::timeout(self.timeout, result).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(EmbedError::Failed("the embedding thread dropped the text".to_owned())),
            Err(_) => Err(EmbedError::Timeout),
        }
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn dim(&self) -> usize {
        self.dim
    }
}

/// The model and its id, from its folder; without a folder from the hub, where the build includes it.
fn load(options: &OnnxOptions) -> Result<(Model, String), EmbedError> {
    let fault = |cause: String| EmbedError::Load { model: options.model.clone(), cause };
    let folder = options.models.join(&options.model);
    #[cfg(feature = "hub")]
    if !folder.is_dir() {
        let environment = environment(&options.models, &options.model)?;
        return super::hub::load(environment, options).map_err(fault);
    }
    let files = ModelFiles::read(&folder)?;
    let positions = files.positions_max().map_err(fault)?;
    if options.max_tokens > positions {
        return Err(fault(format!("max_tokens {} is over the model's own {positions}", options.max_tokens)));
    }
    let id = files.id(&options.model);
    let environment = environment(&options.models, &options.model)?;
    Ok((files.load(environment, options).map_err(fault)?, id))
}

/// The contents of a model's folder.
struct ModelFiles {
    graph: Vec<u8>,
    weights: Option<Vec<u8>>,
    tokenizer: TokenizerFiles,
    pooling: Pooling,
}

impl ModelFiles {
    fn read(folder: &Path) -> Result<Self, EmbedError> {
        let graph = read(&folder.join("model.onnx"))?;
        // A graph names its weights file in clear; one that does not carries its weights itself.
        let external = graph.windows(WEIGHTS.len()).any(|w| w == WEIGHTS.as_bytes());
        let weights = if external { Some(read(&folder.join(WEIGHTS))?) } else { None };
        let tokenizer = TokenizerFiles {
            tokenizer_file: read(&folder.join("tokenizer.json"))?,
            config_file: read(&folder.join("config.json"))?,
            special_tokens_map_file: read(&folder.join("special_tokens_map.json"))?,
            tokenizer_config_file: read(&folder.join("tokenizer_config.json"))?,
        };
        // Models that do not take the mean of their tokens say so in this file.
        let pooling = std::fs::read(folder.join("1_Pooling/config.json")).unwrap_or_default();
        let pooling: serde_json::Value = serde_json::from_slice(&pooling).unwrap_or_default();
        let cls = pooling.get("pooling_mode_cls_token").and_then(serde_json::Value::as_bool).unwrap_or(false);
        Ok(ModelFiles { graph, weights, tokenizer, pooling: if cls { Pooling::Cls } else { Pooling::Mean } })
    }

    /// Name and a digest of what decides the vectors. Of the weights only size and both ends: hashing them whole
    /// would double the time to load.
    fn id(&self, name: &str) -> String {
        const END: usize = 1 << 16;
        let weights = self.weights.as_deref().unwrap_or_default();
        let tail = weights.get(weights.len().saturating_sub(END)..).unwrap_or_default();
        let digest = ids::sha256_parts([
            self.graph.as_slice(),
            self.tokenizer.tokenizer_file.as_slice(),
            weights.len().to_string().as_bytes(),
            weights.get(..END).unwrap_or(weights),
            tail,
        ]);
        let short = digest.get(..4).unwrap_or(&digest);
        format!("{name}@{}", ids::hex(short))
    }

    /// Longest input of the network in tokens.
    fn positions_max(&self) -> Result<usize, String> {
        let config: serde_json::Value =
            serde_json::from_slice(&self.tokenizer.config_file).map_err(|e| format!("config.json: {e}"))?;
        let max = config.get("max_position_embeddings").and_then(serde_json::Value::as_u64);
        Ok(max.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX))
    }

    fn load(self, environment: Environment, options: &OnnxOptions) -> Result<Model, String> {
        let mut model = UserDefinedEmbeddingModel::new(self.graph, self.tokenizer).with_pooling(self.pooling);
        if let Some(weights) = self.weights {
            model = model.with_external_initializer(WEIGHTS.to_owned(), weights);
        }
        let init = InitOptionsUserDefined::new()
            .with_environment(environment)
            .with_max_length(options.max_tokens)
            .with_intra_threads(options.threads)
            .with_session_config(NO_SPINNING.0, NO_SPINNING.1);
        let inner = TextEmbedding::try_new_from_user_defined(model, init).map_err(|e| e.to_string())?;
        Ok(Model::new(inner, options.max_tokens))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, EmbedError> {
    std::fs::read(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => EmbedError::Missing { path: path.to_owned() },
        _ => EmbedError::Load { model: path.display().to_string(), cause: e.to_string() },
    })
}

fn is_plain_relative(name: &str) -> bool {
    let path = Path::new(name);
    !name.is_empty() && path.components().all(|c| matches!(c, std::path::Component::Normal(_)))
}

/// Opens ONNX Runtime, or hands out the one already open.
fn environment(models: &Path, model: &str) -> Result<Environment, EmbedError> {
    let mut open = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = open.as_ref() {
        return Ok(environment.clone());
    }
    let library = models.join(RUNTIME);
    if !library.exists() {
        return Err(EmbedError::Missing { path: library });
    }
    let fault = |cause: String| EmbedError::Load { model: model.to_owned(), cause };
    let environment = ort::init_from(&library)
        .map_err(|e| fault(format!("{}: {e}", library.display())))?
        .with_name("sluicegate")
        .with_telemetry(false)
        .build()
        .map_err(|e| fault(e.to_string()))?;
    *open = Some(environment.clone());
    Ok(environment)
}
