//! Vectors of recent texts, remembered per tenant: a shared memory would tell one tenant, by its speed, what another asked.

use crate::ai::embed::{EmbedError, Embedder};
use crate::base::ids;
use moka::sync::Cache;
use std::sync::Arc;

/// An embedder with a memory.
pub(super) struct Memo {
    embedder: Arc<dyn Embedder>,
    vectors: Cache<[u8; 32], Arc<[f32]>>,
}

impl Memo {
    pub(super) fn new(embedder: Arc<dyn Embedder>, vectors_max: u64) -> Self {
        Memo { embedder, vectors: Cache::new(vectors_max) }
    }

    pub(super) async fn embed(&self, tenant: &str, text: &str) -> Result<Arc<[f32]>, EmbedError> {
        let key = ids::sha256_parts([tenant.as_bytes(), text.as_bytes()]);
        if let Some(vector) = self.vectors.get(&key) {
            return Ok(vector);
        }
        let vector = self.embedder.embed(text).await?;
        self.vectors.insert(key, vector.clone());
        Ok(vector)
    }

    pub(super) fn embedder_id(&self) -> &str {
        self.embedder.id()
    }
}
