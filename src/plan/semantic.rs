//! Opens a semantic cache: its embedder and its vector store, each shared by all caches that name it.

use super::shared::Shared;
use crate::ai::embed::onnx::{OnnxEmbedder, OnnxOptions};
use crate::ai::embed::{EmbedError, Embedder};
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
pub fn open(s: &yaml::Semantic, c: &Config, base: &Path, shared: &Arc<Shared>) -> Result<Arc<SemanticCache>, Wrong> {
    let wanted = embedder_config(s, c, base)?;
    let make = || OnnxEmbedder::open(&OnnxOptions::new(&wanted)).map(|e| Arc::new(e) as Arc<dyn Embedder>);
    let embedder = shared.embedders.get(&s.embedder, &wanted, make).map_err(|e| ("embedder", e.to_string()))?;
    let store = store(s, c, (base, shared), embedder.as_ref())?;
    let limits = Limits { vectors_max: wanted.cache.into(), ..Limits::default() };
    Ok(Arc::new(SemanticCache::new(embedder, store, shared.clock.clone(), limits)))
}

/// Finds the faults of what `s` names without opening anything.
pub fn check(s: &yaml::Semantic, c: &Config, base: &Path) -> Result<(), Wrong> {
    model_files(&OnnxOptions::new(&embedder_config(s, c, base)?)).map_err(|e| ("embedder", e.to_string()))?;
    let wanted = store_config(s, c)?;
    let checked = match wanted.kind() {
        Err(rule) => Err(rule.to_owned()),
        Ok(StoreKind::Memory(_)) => Ok(()),
        Ok(StoreKind::Edge(e)) => can_be_made(&base.join(&e.path)),
        Ok(StoreKind::Qdrant(q)) => check_qdrant(q),
    };
    checked.map_err(|e| ("store", e))
}

/// What the semantic part of a cache is made of, as far as a change of it asks for a new one.
pub fn made_of(s: &yaml::Semantic, c: &Config) -> (Option<yaml::Embedder>, Option<yaml::VectorStore>) {
    let mut store = c.ai.vector_stores.get(&s.store).cloned();
    // A vector store on disk stays the same one under another limit.
    if let Some(e) = store.as_mut().and_then(|v| v.edge.as_mut()) {
        e.entries = yaml::Edge::default().entries;
    }
    (c.ai.embedders.get(&s.embedder).cloned(), store)
}

fn embedder_config(s: &yaml::Semantic, c: &Config, base: &Path) -> Result<yaml::Embedder, Wrong> {
    let mut wanted = match c.ai.embedders.get(&s.embedder) {
        Some(e) => e.clone(),
        None if s.embedder == DEFAULT_EMBEDDER => yaml::Embedder::default(),
        None => return Err(("embedder", unknown("embedder", &s.embedder, c.ai.embedders.keys().map(String::as_str)))),
    };
    if let Some(d) = &wanted.models_dir {
        wanted.models_dir = Some(base.join(d));
    }
    Ok(wanted)
}

fn store_config(s: &yaml::Semantic, c: &Config) -> Result<yaml::VectorStore, Wrong> {
    match c.ai.vector_stores.get(&s.store) {
        Some(v) => Ok(v.clone()),
        None if s.store == DEFAULT_STORE => Ok(yaml::VectorStore::default_edge()),
        None => Err(("store", unknown("vector store", &s.store, c.ai.vector_stores.keys().map(String::as_str)))),
    }
}

fn model_files(o: &OnnxOptions) -> Result<(), EmbedError> {
    const MODEL: [&str; 5] =
        ["model.onnx", "tokenizer.json", "config.json", "special_tokens_map.json", "tokenizer_config.json"];
    let folder = o.models.join(&o.model);
    // Where the build can download models, a folder that is not there is filled at the start.
    let downloads = cfg!(feature = "hub") && !folder.is_dir();
    let files = MODEL.iter().filter(|_| !downloads).map(|f| folder.join(f));
    let missing = files.chain([o.models.join("onnxruntime/libonnxruntime.so")]).find(|f| !f.exists());
    missing.map_or(Ok(()), |path| Err(EmbedError::Missing { path }))
}

/// Whether a folder is there and writable, or can be made.
pub(super) fn can_be_made(folder: &Path) -> Result<(), String> {
    let full = std::path::absolute(folder).map_err(|e| format!("folder {}: {e}", folder.display()))?;
    let there = full.ancestors().find_map(|a| std::fs::metadata(a).ok().map(|m| (a, m)));
    match there {
        Some((_, m)) if m.is_dir() && !m.permissions().readonly() => Ok(()),
        Some((a, m)) if !m.is_dir() => Err(format!("folder {}: {} is no folder", full.display(), a.display())),
        Some((a, _)) => Err(format!("folder {}: {} cannot be written to", full.display(), a.display())),
        None => Err(format!("folder {}: no folder above it exists", full.display())),
    }
}

fn check_qdrant(q: &yaml::Qdrant) -> Result<(), String> {
    crate::base::url::BaseUrl::parse(&q.url).map_err(|e| e.to_string())?;
    let key = q.api_key.as_ref().map(crate::config::secret::SecretRef::resolve).transpose();
    key.map(drop).map_err(|e| e.to_string())
}

fn store(
    s: &yaml::Semantic,
    c: &Config,
    (base, shared): (&Path, &Arc<Shared>),
    embedder: &dyn Embedder,
) -> Result<Arc<dyn VectorStore>, Wrong> {
    let wanted = store_config(s, c)?;
    let kind = wanted.kind().map_err(|e| ("store", e.to_owned()))?;
    let (dim, id, clock) = (embedder.dim(), embedder.id(), shared.clock.clone());
    // The same store under another embedder is another collection.
    let name = format!("{}/{id}", s.store);
    let kept =
        |make: &dyn Fn() -> Result<Arc<dyn VectorStore>, String>| shared.vectors.get(&name, &(&wanted, dim), make);
    let opened = match kind {
        StoreKind::Memory(m) => {
            let entries = usize::try_from(m.entries.get()).unwrap_or(usize::MAX);
            kept(&|| Ok(Arc::new(MemoryStore::new(dim, entries))))
        }
        StoreKind::Qdrant(q) => kept(&|| {
            let api_key = q.api_key.as_ref().map(crate::config::secret::SecretRef::resolve).transpose();
            let options = QdrantOptions {
                url: q.url.clone(),
                api_key: api_key.map_err(|e| e.to_string())?,
                collection: format!("{}-{}", q.collection, collection_name(id, dim)),
                dim,
                timeout: q.timeout.0,
            };
            Ok(Arc::new(QdrantStore::new(options, clock.clone()).map_err(|e| e.to_string())?))
        }),
        StoreKind::Edge(e) => on_disk(e, base, shared, (id, dim)),
    };
    opened.map_err(|e| ("store", e))
}

/// A folder can be open only once: it is known by its path, not by the name that the configuration gives it.
fn on_disk(
    e: &yaml::Edge,
    base: &Path,
    shared: &Arc<Shared>,
    (id, dim): (&str, usize),
) -> Result<Arc<dyn VectorStore>, String> {
    let path = base.join(&e.path);
    let path = std::path::absolute(&path).unwrap_or(path);
    let name = format!("{}/{}", path.display(), collection_name(id, dim));
    let (store, other) = shared.vectors.get_open(&name, &e.entries, || edge(e, base, id, dim))?;
    if other {
        tracing::warn!(path = %path.display(), entries = e.entries, "the limit of a vector store on disk changes only with a restart");
    }
    Ok(store)
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

#[cfg(test)]
mod tests;
