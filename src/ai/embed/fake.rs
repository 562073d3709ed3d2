//! An embedder without a model, for tests and demos: hashed words and character trigrams. Shared words mean similar.

use super::{EmbedError, Embedder, unit};
use async_trait::async_trait;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Deterministic vectors from words (weight 1) and trigrams (weight 0.3).
pub struct FakeEmbedder {
    dim: usize,
    words_max: usize,
}

impl FakeEmbedder {
    /// Vectors of length `dim`; texts of more than `words_max` words are refused.
    pub fn new(dim: usize, words_max: usize) -> Self {
        FakeEmbedder { dim: dim.max(1), words_max }
    }

    fn add(&self, v: &mut [f32], feature: &[u8], weight: f32) {
        let h = xxh3_64(feature);
        let dim = u64::try_from(self.dim).unwrap_or(u64::MAX);
        let slot = usize::try_from(h % dim).unwrap_or(0);
        let sign = if h >> 63 == 0 { weight } else { -weight };
        if let Some(x) = v.get_mut(slot) {
            *x += sign;
        }
    }
}

#[async_trait]
impl Embedder for FakeEmbedder {
    async fn embed(&self, text: &str) -> Result<Arc<[f32]>, EmbedError> {
        let text = text.to_lowercase();
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
        if words.len() > self.words_max {
            return Err(EmbedError::TooLong { max: self.words_max });
        }
        let mut v = vec![0.0; self.dim];
        for word in &words {
            self.add(&mut v, word.as_bytes(), 1.0);
            let padded = format!("^{word}$");
            for gram in padded.as_bytes().windows(3) {
                self.add(&mut v, gram, 0.3);
            }
        }
        unit(v).ok_or(EmbedError::Unknown)
    }

    fn id(&self) -> &str {
        "fake-hash-1"
    }

    fn dim(&self) -> usize {
        self.dim
    }
}
