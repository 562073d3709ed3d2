//! A vector store in memory: compares with every point of the partition. For tests and small caches.

use super::{Delete, Found, Partition, Point, Search, VectorError, VectorStore};
use crate::ai::embed::cosine;
use async_trait::async_trait;
use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock};
use uuid::Uuid;

#[derive(Default)]
struct Points {
    partitions: HashMap<Partition, HashMap<Uuid, Point>>,
    /// Where each point is, and the order in which points came: the oldest goes first.
    places: HashMap<Uuid, (Partition, u64)>,
    order: BTreeMap<u64, Uuid>,
    next: u64,
}

impl Points {
    fn insert(&mut self, point: Point) {
        self.remove(&point.id);
        self.places.insert(point.id, (point.partition, self.next));
        self.order.insert(self.next, point.id);
        self.next += 1;
        self.partitions.entry(point.partition).or_default().insert(point.id, point);
    }

    fn remove(&mut self, id: &Uuid) -> bool {
        let Some((partition, place)) = self.places.remove(id) else { return false };
        self.order.remove(&place);
        if let Some(points) = self.partitions.get_mut(&partition) {
            points.remove(id);
            if points.is_empty() {
                self.partitions.remove(&partition);
            }
        }
        true
    }

    fn matching(&self, what: &Delete) -> Vec<Uuid> {
        let all = self.partitions.values().flat_map(HashMap::values);
        match what {
            Delete::Id(id) => vec![*id],
            Delete::Partition(p) => self.partitions.get(p).map(|m| m.keys().copied().collect()).unwrap_or_default(),
            Delete::Tenant(t) => all.filter(|p| p.tenant == *t).map(|p| p.id).collect(),
            Delete::All => self.places.keys().copied().collect(),
            Delete::Expired(now) => all.filter(|p| p.expires_unix <= *now).map(|p| p.id).collect(),
        }
    }
}

/// The store.
pub struct MemoryStore {
    dim: usize,
    entries_max: usize,
    points: RwLock<Points>,
}

impl MemoryStore {
    /// An empty store for vectors of length `dim` that keeps at most `entries_max` points.
    pub fn new(dim: usize, entries_max: usize) -> Self {
        MemoryStore { dim, entries_max: entries_max.max(1), points: RwLock::default() }
    }

    /// Points that a deletion would take (for the test server).
    #[cfg(test)]
    pub(super) fn matching(&self, what: &Delete) -> u64 {
        let points = self.points.read().unwrap();
        points.matching(what).iter().filter(|id| points.places.contains_key(id)).count() as u64
    }

    /// Length of the vectors (for the test server).
    #[cfg(test)]
    pub(super) fn dim(&self) -> usize {
        self.dim
    }
}

#[async_trait]
impl VectorStore for MemoryStore {
    async fn search(&self, search: Search) -> Result<Vec<Found>, VectorError> {
        if search.vector.len() != self.dim {
            return Err(VectorError::Dimension { got: search.vector.len(), want: self.dim });
        }
        let points = self.points.read().unwrap_or_else(PoisonError::into_inner);
        let Some(partition) = points.partitions.get(&search.partition) else { return Ok(Vec::new()) };
        let mut found: Vec<Found> = partition
            .values()
            .filter(|p| p.expires_unix > search.now_unix)
            .map(|p| (cosine(&p.vector, &search.vector), p))
            .filter(|(score, _)| *score >= search.min_score)
            .map(|(score, p)| Found { id: p.id, score, created_unix: p.created_unix, payload: p.payload.clone() })
            .collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        found.truncate(search.limit);
        Ok(found)
    }

    async fn upsert(&self, point: Point) -> Result<(), VectorError> {
        if point.vector.len() != self.dim {
            return Err(VectorError::Dimension { got: point.vector.len(), want: self.dim });
        }
        let mut points = self.points.write().unwrap_or_else(PoisonError::into_inner);
        points.insert(point);
        while points.places.len() > self.entries_max
            && let Some(oldest) = points.order.values().next().copied()
        {
            points.remove(&oldest);
        }
        Ok(())
    }

    async fn delete(&self, what: Delete) -> Result<u64, VectorError> {
        let mut points = self.points.write().unwrap_or_else(PoisonError::into_inner);
        let ids = points.matching(&what);
        Ok(ids.iter().map(|id| u64::from(points.remove(id))).sum())
    }

    async fn count(&self) -> Result<u64, VectorError> {
        let points = self.points.read().unwrap_or_else(PoisonError::into_inner);
        Ok(u64::try_from(points.places.len()).unwrap_or(u64::MAX))
    }

    async fn flush(&self) -> Result<(), VectorError> {
        Ok(())
    }
}
