//! Where vectors live: the vector store seam. A search sees one partition only, as a filter inside the index query.

mod breaker;
#[cfg(feature = "edge")]
pub mod edge;
pub mod memory;
pub mod qdrant;

#[cfg(test)]
pub mod conformance;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use std::sync::Arc;
use uuid::Uuid;

/// A set of answers that may stand in for each other: the digest of everything in a request except the embedded text.
pub type Partition = [u8; 32];

/// One stored answer with its vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Identity; storing the same id again replaces the point.
    pub id: Uuid,
    /// The only partition whose searches may find it.
    pub partition: Partition,
    /// Whose it is (a digest in hex), for deleting all of one tenant.
    pub tenant: String,
    /// The language model that answered, for deleting and reporting.
    pub model: String,
    /// When it was made, Unix seconds.
    pub created_unix: u64,
    /// From when on it must not be found, Unix seconds.
    pub expires_unix: u64,
    /// Unit vector of the store's dimension.
    pub vector: Arc<[f32]>,
    /// What the searcher gets back: JSON text.
    pub payload: String,
}

/// A point that a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its identity.
    pub id: Uuid,
    /// Cosine with the vector searched for.
    pub score: f32,
    /// When it was made, Unix seconds.
    pub created_unix: u64,
    /// Its payload.
    pub payload: String,
}

/// Which points to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delete {
    /// One point.
    Id(Uuid),
    /// A whole partition.
    Partition(Partition),
    /// All of one tenant, by its digest.
    Tenant(String),
    /// Everything.
    All,
    /// What expired at or before this time, Unix seconds.
    Expired(u64),
}

/// What to search for.
#[derive(Debug, Clone)]
pub struct Search {
    /// Where: nothing from another partition is ever found.
    pub partition: Partition,
    /// The vector to be near to.
    pub vector: Arc<[f32]>,
    /// At most so many, best first.
    pub limit: usize,
    /// At least this cosine.
    pub min_score: f32,
    /// The present, Unix seconds: what has expired by now is not found.
    pub now_unix: u64,
}

/// A store of vectors, all of one embedding model.
#[async_trait]
pub trait VectorStore: Send + Sync {
    /// The nearest points of one partition, best first.
    async fn search(&self, search: Search) -> Result<Vec<Found>, VectorError>;
    /// Stores a point; searches find it as soon as this returns.
    async fn upsert(&self, point: Point) -> Result<(), VectorError>;
    /// Deletes points and says how many there were.
    async fn delete(&self, what: Delete) -> Result<u64, VectorError>;
    /// Points stored, expired ones included.
    async fn count(&self) -> Result<u64, VectorError>;
    /// Makes everything stored so far durable. Stores do that by themselves within about a second.
    async fn flush(&self) -> Result<(), VectorError>;
}

/// Why a store did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VectorError {
    /// The folder belongs to another running process.
    #[error("{path} is in use by another process; give each gateway a folder of its own")]
    Locked {
        /// The folder.
        path: String,
    },
    /// What is on disk cannot be read.
    #[error("the vectors in {path} cannot be read ({cause}); it is only a cache: remove the folder and start again")]
    Damaged {
        /// The folder.
        path: String,
        /// What was wrong.
        cause: String,
    },
    /// The point or the stored collection has another vector length.
    #[error("vectors of length {got} where {want} is stored")]
    Dimension {
        /// The length offered.
        got: usize,
        /// The length of the store.
        want: usize,
    },
    /// Too much waits already.
    #[error("the vector store is busy")]
    Busy,
    /// No answer in the time allowed.
    #[error("the vector store took too long")]
    Timeout,
    /// It failed lately and is left alone for a while.
    #[error("the vector store failed lately and is left alone for now")]
    Open,
    /// Anything else.
    #[error("vector store: {0}")]
    Failed(String),
    /// The address or the key in the configuration is no good.
    #[error("vector store {0}")]
    Config(String),
}

impl VectorError {
    /// The one spelling for log and metric.
    pub fn as_str(&self) -> &'static str {
        match self {
            VectorError::Locked { .. } => "store_locked",
            VectorError::Damaged { .. } => "store_damaged",
            VectorError::Dimension { .. } => "store_dimension",
            VectorError::Busy => "store_busy",
            VectorError::Timeout => "store_timeout",
            VectorError::Open => "store_open",
            VectorError::Failed(_) => "store_failed",
            VectorError::Config(_) => "store_config",
        }
    }
}

/// Names of the payload fields on disk and on the wire.
mod field {
    pub(super) const PARTITION: &str = "partition";
    pub(super) const TENANT: &str = "tenant";
    pub(super) const MODEL: &str = "model";
    pub(super) const CREATED: &str = "created";
    pub(super) const EXPIRES: &str = "expires";
    pub(super) const DATA: &str = "data";
}

/// A name fit for a folder or a collection, distinct for distinct embedders: `all-minilm-l6-v2-63804f59-384`.
pub fn collection_name(embedder: &str, dim: usize) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let readable: String = embedder.chars().map(plain).take(64).collect();
    let digest = crate::base::ids::sha256_parts([embedder.as_bytes()]);
    let short = crate::base::ids::hex(digest.get(..4).unwrap_or(&digest));
    format!("{readable}-{short}-{dim}")
}
