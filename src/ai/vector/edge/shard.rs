//! One qdrant-edge shard: opening, searching, changing. Everything here blocks.

use super::super::{Delete, Found, Partition, Point, Search, VectorError, field};
use crate::base::ids::hex;
use qdrant_edge::external::ordered_float::OrderedFloat;
use qdrant_edge::{
    Condition, CountRequest, CreateIndex, Distance, EdgeConfig, EdgeOptimizersConfig, EdgeShard, EdgeVectorParams,
    FieldCondition, FieldIndexOperations, Filter, HasIdCondition, JsonPath, Match, NamedQuery, OperationError,
    PayloadFieldSchema, PayloadSchemaType, PointId, PointInsertOperations, PointOperations, PointStruct, QueryEnum,
    QueryRequest, Range, RangeInterface, ScoredPoint, ScoringQuery, ScrollRequest, UpdateOperation, ValueVariants,
    WalOptions, WithPayloadInterface, WithVector,
};
use serde_json::json;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Where a shard lies and how it is cut.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) dim: usize,
    /// Size of one file of the write-ahead log.
    pub(super) log_file_bytes: usize,
}

/// An open shard.
pub(super) struct Shard {
    inner: EdgeShard,
    place: Place,
}

impl Shard {
    /// Opens the shard, or makes it.
    pub(super) fn open(place: &Place) -> Result<Self, VectorError> {
        // Files that lie may make the library panic; that must not take the gateway down.
        let opened = catch_unwind(AssertUnwindSafe(|| Shard::open_files(place)));
        opened.unwrap_or_else(|_| Err(damaged(&place.path, "its files are inconsistent")))
    }

    fn open_files(place: &Place) -> Result<Self, VectorError> {
        let fault = |e: OperationError| damaged(&place.path, &e.to_string());
        let config = config(place)?;
        let exists = place.path.join("segments").is_dir();
        if exists {
            prune_log(&place.path).map_err(|e| damaged(&place.path, &e.to_string()))?;
            let inner = EdgeShard::load(&place.path, Some(config)).map_err(fault)?;
            return Ok(Shard { inner, place: place.clone() });
        }
        let inner = EdgeShard::new(&place.path, config).map_err(fault)?;
        let shard = Shard { inner, place: place.clone() };
        for (name, kind) in [
            (field::PARTITION, PayloadSchemaType::Keyword),
            (field::TENANT, PayloadSchemaType::Keyword),
            (field::MODEL, PayloadSchemaType::Keyword),
            (field::EXPIRES, PayloadSchemaType::Integer),
            (field::CREATED, PayloadSchemaType::Integer),
        ] {
            let index = CreateIndex { field_name: key(name), field_schema: Some(PayloadFieldSchema::FieldType(kind)) };
            shard.update(UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(index)))?;
        }
        shard.flush()?;
        Ok(shard)
    }

    fn update(&self, operation: UpdateOperation) -> Result<(), VectorError> {
        self.inner.update(operation).map_err(failed)
    }

    pub(super) fn search(&self, search: &Search) -> Result<Vec<Found>, VectorError> {
        let alive = Range { gt: Some(seconds(search.now_unix)), ..Range::default() };
        let request = QueryRequest {
            prefetches: Vec::new(),
            query: Some(ScoringQuery::Vector(QueryEnum::Nearest(NamedQuery::default_dense(search.vector.to_vec())))),
            filter: Some(all_of([in_partition(&search.partition), in_range(field::EXPIRES, alive)])),
            score_threshold: Some(OrderedFloat(search.min_score)),
            limit: search.limit,
            offset: 0,
            params: None,
            with_vector: WithVector::Bool(false),
            with_payload: WithPayloadInterface::Bool(true),
        };
        let points = self.inner.query(request).map_err(failed)?;
        Ok(points.into_iter().filter_map(found).collect())
    }

    pub(super) fn upsert(&self, points: &[Point]) -> Result<(), VectorError> {
        let list = points.iter().map(|p| to_point(p).into()).collect();
        let insert = PointOperations::UpsertPoints(PointInsertOperations::PointsList(list));
        self.update(UpdateOperation::PointOperation(insert))
    }

    /// Deletes and says how many there were.
    pub(super) fn delete(&self, what: &Delete) -> Result<u64, VectorError> {
        let filter = matching(what);
        let many = self.count(Some(filter.clone()))?;
        if many > 0 {
            self.update(UpdateOperation::PointOperation(PointOperations::DeletePointsByFilter(filter)))?;
        }
        Ok(many)
    }

    /// Deletes the `many` oldest points.
    pub(super) fn delete_oldest(&self, many: usize) -> Result<(), VectorError> {
        let order = serde_json::from_value(json!({ "key": field::CREATED, "direction": "asc" }));
        let request = ScrollRequest {
            limit: Some(many),
            with_payload: Some(WithPayloadInterface::Bool(false)),
            order_by: Some(order.map_err(|e| VectorError::Failed(e.to_string()))?),
            ..ScrollRequest::default()
        };
        let (records, _) = self.inner.scroll(request).map_err(failed)?;
        let ids = records.into_iter().map(|r| r.id).collect();
        self.update(UpdateOperation::PointOperation(PointOperations::DeletePoints { ids }))
    }

    pub(super) fn count(&self, filter: Option<Filter>) -> Result<u64, VectorError> {
        let many = self.inner.count(CountRequest { filter, exact: true }).map_err(failed)?;
        Ok(u64::try_from(many).unwrap_or(u64::MAX))
    }

    /// Gives back the space of deleted points when there are many. Searches go on meanwhile.
    pub(super) fn vacuum(&self) -> Result<bool, VectorError> {
        self.inner.optimize().map_err(failed)
    }

    /// Writes everything to disk. The library panics where a write fails, hence the catch.
    pub(super) fn flush(&self) -> Result<(), VectorError> {
        catch_unwind(AssertUnwindSafe(|| self.inner.flush()))
            .map_err(|_| VectorError::Failed(format!("cannot write to {}", self.place.path.display())))
    }

    /// The log has grown so much that closing and opening the shard, which prunes it, is worth the pause.
    pub(super) fn log_is_long(&self, files_max: usize) -> bool {
        closed_log_files(&self.place.path).is_ok_and(|files| files.len() > files_max)
    }
}

fn config(place: &Place) -> Result<EdgeConfig, VectorError> {
    let vectors = EdgeVectorParams::builder(place.dim, Distance::Cosine).build();
    let log =
        WalOptions { segment_capacity: place.log_file_bytes, segment_queue_len: 0, retain_closed: NonZeroUsize::MIN };
    // A filter on one partition leaves few points, which are compared one by one faster than a graph is walked,
    // and building the graph would take minutes of CPU: no index over vectors (0 = never).
    let optimizers = EdgeOptimizersConfig {
        indexing_threshold: Some(0),
        default_segment_number: Some(1),
        ..EdgeOptimizersConfig::default()
    };
    let built = EdgeConfig::builder().vector("", vectors).on_disk_payload(true).optimizers(optimizers);
    Ok(built.wal_options(log).build())
}

/// The log's closed files, oldest first, by their first entry.
fn closed_log_files(shard: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(shard.join("wal"))? {
        let path = entry?.path();
        let first = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("closed-"));
        if let Some(first) = first.and_then(|n| n.parse().ok()) {
            files.push((first, path));
        }
    }
    files.sort();
    Ok(files)
}

/// Removes all closed files of the log but the last. This version of the library neither replays nor trims its log:
/// what it holds was flushed by us. The last closed file stays because the numbering goes on from it.
fn prune_log(shard: &Path) -> std::io::Result<()> {
    if !shard.join("wal").is_dir() {
        return Ok(());
    }
    let files = closed_log_files(shard)?;
    for (_, path) in files.iter().take(files.len().saturating_sub(1)) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

fn key(name: &str) -> JsonPath {
    JsonPath { first_key: name.to_owned(), rest: Vec::new() }
}

fn all_of(conditions: impl IntoIterator<Item = Condition>) -> Filter {
    Filter { must: Some(conditions.into_iter().collect()), ..Filter::default() }
}

fn equals(name: &str, value: String) -> Condition {
    Condition::Field(FieldCondition::new_match(key(name), Match::new_value(ValueVariants::String(value))))
}

fn in_partition(partition: &Partition) -> Condition {
    equals(field::PARTITION, hex(partition))
}

fn in_range(name: &str, range: Range<OrderedFloat<f64>>) -> Condition {
    let mut condition = FieldCondition::new_range(key(name), Range::default());
    condition.range = Some(RangeInterface::Float(range));
    Condition::Field(condition)
}

fn matching(what: &Delete) -> Filter {
    match what {
        Delete::Id(id) => all_of([Condition::HasId(HasIdCondition::from_iter([PointId::Uuid(*id)]))]),
        Delete::Partition(p) => all_of([in_partition(p)]),
        Delete::Tenant(tenant) => all_of([equals(field::TENANT, tenant.clone())]),
        Delete::All => Filter::default(),
        Delete::Expired(now) => {
            all_of([in_range(field::EXPIRES, Range { lte: Some(seconds(*now)), ..Range::default() })])
        }
    }
}

/// Unix seconds fit a double exactly for the next hundred million years.
fn seconds(unix: u64) -> OrderedFloat<f64> {
    OrderedFloat(unix as f64)
}

fn to_point(p: &Point) -> PointStruct {
    let payload = json!({
        field::PARTITION: hex(&p.partition),
        field::TENANT: p.tenant,
        field::MODEL: p.model,
        field::CREATED: p.created_unix,
        field::EXPIRES: p.expires_unix,
        field::DATA: p.payload,
    });
    PointStruct::new(PointId::Uuid(p.id), p.vector.to_vec(), payload)
}

/// A point written by something else than this program is no answer.
fn found(point: ScoredPoint) -> Option<Found> {
    let id: Uuid = match point.id {
        PointId::Uuid(id) => id,
        PointId::NumId(_) => return None,
    };
    let payload = point.payload?;
    let data = payload.0.get(field::DATA)?.as_str()?.to_owned();
    let created_unix = payload.0.get(field::CREATED)?.as_u64()?;
    Some(Found { id, score: point.score, created_unix, payload: data })
}

fn damaged(path: &Path, cause: &str) -> VectorError {
    VectorError::Damaged { path: path.display().to_string(), cause: cause.to_owned() }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that map_err wants")]
fn failed(e: OperationError) -> VectorError {
    VectorError::Failed(e.to_string())
}
