//! Text to vector: the embedder seam. What comes out has length one, so a dot product is a cosine.

pub mod fake;
#[cfg(feature = "hub")]
mod hub;
pub mod onnx;
mod worker;

#[cfg(test)]
pub mod conformance;

use async_trait::async_trait;
use std::path::PathBuf;
use std::sync::Arc;

/// Turns a text into a vector of unit length. The same text always gives the same vector (to rounding).
#[async_trait]
pub trait Embedder: Send + Sync {
    /// The vector of `text`.
    async fn embed(&self, text: &str) -> Result<Arc<[f32]>, EmbedError>;
    /// Name and version of the model: vectors of different ids must never be compared.
    fn id(&self) -> &str;
    /// Length of the vectors.
    fn dim(&self) -> usize;
}

/// Why there is no vector.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EmbedError {
    /// A file of the model or of its runtime is not there.
    #[error("{path} is missing: run scripts/setup.sh, or set SLUICEGATE_MODELS to the folder that holds the models", path = path.display())]
    Missing {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// The files are there but cannot be used.
    #[error("cannot load the embedding model {model}: {cause}")]
    Load {
        /// The model's folder.
        model: String,
        /// What was wrong.
        cause: String,
    },
    /// The text has more tokens than allowed. It is never cut: two texts with the same beginning would look the same.
    #[error("text of more than {max} tokens")]
    TooLong {
        /// The bound in tokens.
        max: usize,
    },
    /// So much of the text is unknown to the model that its vector would say nothing.
    #[error("the model's vocabulary does not cover this text")]
    Unknown,
    /// The queue is full.
    #[error("embedding queue is full")]
    Busy,
    /// No vector within the time allowed.
    #[error("embedding took too long")]
    Timeout,
    /// The model failed on this text.
    #[error("embedding failed: {0}")]
    Failed(String),
}

impl EmbedError {
    /// The one spelling for log and metric.
    pub fn as_str(&self) -> &'static str {
        match self {
            EmbedError::Missing { .. } => "model_missing",
            EmbedError::Load { .. } => "model_unusable",
            EmbedError::TooLong { .. } => "text_too_long",
            EmbedError::Unknown => "text_unknown",
            EmbedError::Busy => "embed_busy",
            EmbedError::Timeout => "embed_timeout",
            EmbedError::Failed(_) => "embed_failed",
        }
    }
}

/// Cosine of two unit vectors; 0 when their lengths differ.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return 0.0;
    }
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Scales to length one. `None` for a vector without direction (all zero, or not finite).
pub fn unit(mut v: Vec<f32>) -> Option<Arc<[f32]>> {
    let norm = v.iter().map(|x| x * x).sum::<f32>().sqrt();
    if !norm.is_finite() || norm <= f32::MIN_POSITIVE {
        return None;
    }
    v.iter_mut().for_each(|x| *x /= norm);
    Some(v.into())
}
