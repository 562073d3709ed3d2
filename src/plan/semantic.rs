//! Opens a semantic cache: its embedder and its vector store, each shared by all caches that name it.

use super::shared::Shared;
use crate::ai::adapter;
use crate::ai::embed::Embedder;
use crate::ai::embed::onnx::{OnnxEmbedder, OnnxOptions};
use crate::ai::seam::SemanticLookup;
use crate::ai::semantic::{Limits, SemanticCache};
use crate::ai::vector::memory::MemoryStore;
use crate::ai::vector::qdrant::{QdrantOptions, QdrantStore};
use crate::ai::vector::{VectorStore, collection_name};
use crate::config::Config;
use crate::config::error::unknown;
use crate::config::semantic::{self as yaml, DEFAULT_EMBEDDER, DEFAULT_STORE, StoreKind};
use std::path::Path;
use std::sync::Arc;

/// The key at fault and what is wrong.
type Wrong = (&'static str, String);

/// Opens what `s` names.
pub fn open(
    s: &yaml::Semantic,
    c: &Config,
    base: &Path,
    shared: &Arc<Shared>,
) -> Result<Arc<dyn SemanticLookup>, Wrong> {
    let (embedder, vectors_max) = embedder(s, c, base, shared)?;
    let store = store(s, c, base, shared, embedder.as_ref())?;
    let cache = SemanticCache::new(embedder, store, shared.clock.clone(), Limits { vectors_max, ..Limits::default() });
    Ok(Arc::new(adapter::Shared(Arc::new(cache))))
}

fn embedder(
    s: &yaml::Semantic,
    c: &Config,
    base: &Path,
    shared: &Arc<Shared>,
) -> Result<(Arc<dyn Embedder>, u64), Wrong> {
    let mut wanted = match c.ai.embedders.get(&s.embedder) {
        Some(e) => e.clone(),
        None if s.embedder == DEFAULT_EMBEDDER => yaml::Embedder::default(),
        None => return Err(("embedder", unknown("embedder", &s.embedder, c.ai.embedders.keys().map(String::as_str)))),
    };
    if let Some(d) = &wanted.models_dir {
        wanted.models_dir = Some(base.join(d));
    }
    let make = || OnnxEmbedder::open(&OnnxOptions::new(&wanted)).map(|e| Arc::new(e) as Arc<dyn Embedder>);
    let opened = shared.embedders.get(&s.embedder, &wanted, make).map_err(|e| ("embedder", e.to_string()))?;
    Ok((opened, wanted.cache.into()))
}

fn store(
    s: &yaml::Semantic,
    c: &Config,
    base: &Path,
    shared: &Arc<Shared>,
    embedder: &dyn Embedder,
) -> Result<Arc<dyn VectorStore>, Wrong> {
    let wanted = match c.ai.vector_stores.get(&s.store) {
        Some(v) => v.clone(),
        None if s.store == DEFAULT_STORE => yaml::VectorStore::default_edge(),
        None => {
            return Err(("store", unknown("vector store", &s.store, c.ai.vector_stores.keys().map(String::as_str))));
        }
    };
    let kind = wanted.kind().map_err(|e| ("store", e.to_owned()))?;
    let (dim, id, clock) = (embedder.dim(), embedder.id(), shared.clock.clone());
    let make = || -> Result<Arc<dyn VectorStore>, String> {
        match kind {
            StoreKind::Memory(m) => {
                let entries = usize::try_from(m.entries.get()).unwrap_or(usize::MAX);
                Ok(Arc::new(MemoryStore::new(dim, entries)))
            }
            StoreKind::Qdrant(q) => {
                let api_key = q.api_key.as_ref().map(crate::config::secret::SecretRef::resolve).transpose();
                let options = QdrantOptions {
                    url: q.url.clone(),
                    api_key: api_key.map_err(|e| e.to_string())?,
                    collection: format!("{}-{}", q.collection, collection_name(id, dim)),
                    dim,
                    timeout: q.timeout.0,
                };
                Ok(Arc::new(QdrantStore::new(options, clock).map_err(|e| e.to_string())?))
            }
            StoreKind::Edge(e) => edge(e, base, id, dim),
        }
    };
    // The same store under another embedder is another collection.
    shared.vectors.get(&format!("{}/{id}", s.store), &(&wanted, dim), make).map_err(|e| ("store", e))
}

#[cfg(feature = "edge")]
fn edge(e: &yaml::Edge, base: &Path, id: &str, dim: usize) -> Result<Arc<dyn VectorStore>, String> {
    use crate::ai::vector::edge::{EdgeOptions, EdgeStore};
    let path = base.join(&e.path);
    let options = EdgeOptions {
        path,
        collection: collection_name(id, dim),
        dim,
        entries_max: usize::try_from(e.entries.get()).unwrap_or(usize::MAX),
    };
    Ok(Arc::new(EdgeStore::open(&options).map_err(|e| e.to_string())?))
}

#[cfg(not(feature = "edge"))]
fn edge(_: &yaml::Edge, _: &Path, _: &str, _: usize) -> Result<Arc<dyn VectorStore>, String> {
    Err("this program was built without the feature `edge`; use a qdrant or memory store".to_owned())
}
