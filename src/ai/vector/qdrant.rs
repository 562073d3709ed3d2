//! Vectors on a Qdrant server, shared by several gateways (gRPC).

use super::breaker::Breaker;
use super::{Delete, Found, Partition, Point, Search, VectorError, VectorStore, field};
use crate::base::clock::Clock;
use crate::base::ids::hex;
use crate::config::secret::Secret;
use async_trait::async_trait;
use qdrant_client::qdrant::{
    Condition, CountPointsBuilder, CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, DeletePointsBuilder,
    Distance, FieldType, Filter, KeywordIndexParamsBuilder, PointId, PointStruct, QueryPointsBuilder, Range,
    ScoredPoint, UpsertPointsBuilder, Value, VectorParamsBuilder, point_id::PointIdOptions, value::Kind,
    vectors_config::Config,
};
use qdrant_client::{Payload, Qdrant, QdrantError};
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// Writes and the first contact happen beside the requests and may take this long.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the server is and how long it may take.
#[derive(Debug, Clone)]
pub struct QdrantOptions {
    /// `http://host:6334`.
    pub url: String,
    /// Sent with each call.
    pub api_key: Option<Secret>,
    /// The collection's whole name; see [`super::collection_name`].
    pub collection: String,
    /// Length of the vectors.
    pub dim: usize,
    /// Longest wait for a search.
    pub timeout: Duration,
}

/// The store.
pub struct QdrantStore {
    client: Qdrant,
    options: QdrantOptions,
    breaker: Breaker,
    /// The collection and its indexes are known to exist.
    ready: AtomicBool,
}

impl QdrantStore {
    /// Opens nothing yet: a server that is down does not keep the gateway from starting.
    pub fn new(options: QdrantOptions, clock: Clock) -> Result<Self, VectorError> {
        let config = |e: QdrantError| VectorError::Config(format!("{}: {e}", options.url));
        crate::base::url::BaseUrl::parse(&options.url).map_err(|e| VectorError::Config(e.to_string()))?;
        let client = Qdrant::from_url(&options.url)
            .api_key(options.api_key.as_ref().map(|k| k.expose().to_owned()))
            .timeout(WRITE_TIMEOUT)
            .connect_timeout(WRITE_TIMEOUT)
            .keep_alive_while_idle()
            .skip_compatibility_check()
            .build()
            .map_err(config)?;
        let breaker = Breaker::new(options.url.clone(), clock);
        Ok(QdrantStore { client, options, breaker, ready: AtomicBool::new(false) })
    }

    /// One call under the breaker and a time limit.
    async fn call<T, F>(&self, limit: Duration, work: F) -> Result<T, VectorError>
    where
        F: Future<Output = Result<T, VectorError>> + Send,
    {
        self.breaker.admit()?;
        let result = tokio::time::timeout(limit, work).await.unwrap_or(Err(VectorError::Timeout));
        self.breaker.report(result.as_ref().err());
        result
    }

    /// A call that needs the collection, which is made first if it is not there.
    async fn on_collection<T, F>(&self, work: F) -> Result<T, VectorError>
    where
        F: Future<Output = Result<T, QdrantError>> + Send,
    {
        let all = async {
            self.ensure_collection().await?;
            work.await.map_err(|e| {
                // Somebody may have deleted the collection: look again at the next call.
                self.ready.store(false, Ordering::Relaxed);
                failed(&e)
            })
        };
        self.call(WRITE_TIMEOUT, all).await
    }

    /// Makes the collection and its indexes unless they exist. Every step may be repeated.
    async fn ensure_collection(&self) -> Result<(), VectorError> {
        if self.ready.load(Ordering::Relaxed) {
            return Ok(());
        }
        let name = &self.options.collection;
        if self.client.collection_exists(name).await.map_err(|e| failed(&e))? {
            self.check_dimension().await?;
        } else {
            let dim = u64::try_from(self.options.dim).unwrap_or(u64::MAX);
            let create = CreateCollectionBuilder::new(name)
                .vectors_config(VectorParamsBuilder::new(dim, Distance::Cosine))
                .on_disk_payload(true);
            if let Err(e) = self.client.create_collection(create).await
                && !already_exists(&e)
            {
                return Err(failed(&e));
            }
        }
        for index in self.indexes() {
            self.client.create_field_index(index).await.map_err(|e| failed(&e))?;
        }
        self.ready.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn indexes(&self) -> [CreateFieldIndexCollectionBuilder; 5] {
        let index = |key, kind| CreateFieldIndexCollectionBuilder::new(&self.options.collection, key, kind).wait(false);
        [
            // Points of one partition are stored together, which makes the partition filter cheap.
            index(field::PARTITION, FieldType::Keyword)
                .field_index_params(KeywordIndexParamsBuilder::default().is_tenant(true)),
            index(field::TENANT, FieldType::Keyword),
            index(field::MODEL, FieldType::Keyword),
            index(field::EXPIRES, FieldType::Integer),
            index(field::CREATED, FieldType::Integer),
        ]
    }

    async fn check_dimension(&self) -> Result<(), VectorError> {
        let info = self.client.collection_info(&self.options.collection).await.map_err(|e| failed(&e))?;
        let params = info.result.and_then(|i| i.config).and_then(|c| c.params);
        let config = params.and_then(|p| p.vectors_config).and_then(|v| v.config);
        let want = match config {
            Some(Config::Params(p)) => usize::try_from(p.size).unwrap_or(usize::MAX),
            _ => return Ok(()),
        };
        if want == self.options.dim {
            return Ok(());
        }
        Err(VectorError::Dimension { got: self.options.dim, want })
    }
}

#[async_trait]
impl VectorStore for QdrantStore {
    async fn search(&self, search: Search) -> Result<Vec<Found>, VectorError> {
        if search.vector.len() != self.options.dim {
            return Err(VectorError::Dimension { got: search.vector.len(), want: self.options.dim });
        }
        let alive = Range { gt: Some(seconds(search.now_unix)), ..Range::default() };
        let query = QueryPointsBuilder::new(&self.options.collection)
            .query(search.vector.to_vec())
            .filter(Filter::must([in_partition(&search.partition), Condition::range(field::EXPIRES, alive)]))
            .score_threshold(search.min_score)
            .limit(u64::try_from(search.limit).unwrap_or(u64::MAX))
            .with_payload(true);
        let work = async {
            match self.client.query(query).await {
                Ok(answer) => Ok(answer.result),
                // Nothing was ever stored; the first write makes the collection.
                Err(e) if not_found(&e) => Ok(Vec::new()),
                Err(e) => Err(failed(&e)),
            }
        };
        let points = self.call(self.options.timeout, work).await?;
        Ok(points.into_iter().filter_map(found).collect())
    }

    async fn upsert(&self, point: Point) -> Result<(), VectorError> {
        if point.vector.len() != self.options.dim {
            return Err(VectorError::Dimension { got: point.vector.len(), want: self.options.dim });
        }
        let point = PointStruct::new(point.id.to_string(), point.vector.to_vec(), payload(&point));
        let upsert = UpsertPointsBuilder::new(&self.options.collection, vec![point]).wait(true);
        self.on_collection(self.client.upsert_points(upsert)).await.map(|_| ())
    }

    async fn delete(&self, what: Delete) -> Result<u64, VectorError> {
        let filter = matching(&what);
        let count = CountPointsBuilder::new(&self.options.collection).filter(filter.clone()).exact(true);
        let delete = DeletePointsBuilder::new(&self.options.collection).points(filter).wait(true);
        let counted = self.on_collection(self.client.count(count)).await?;
        self.on_collection(self.client.delete_points(delete)).await?;
        Ok(counted.result.map_or(0, |r| r.count))
    }

    async fn count(&self) -> Result<u64, VectorError> {
        let count = CountPointsBuilder::new(&self.options.collection).exact(true);
        Ok(self.on_collection(self.client.count(count)).await?.result.map_or(0, |r| r.count))
    }

    async fn flush(&self) -> Result<(), VectorError> {
        // The server answers a write only when it is in its own log.
        Ok(())
    }
}

fn in_partition(partition: &Partition) -> Condition {
    Condition::matches(field::PARTITION, hex(partition))
}

fn matching(what: &Delete) -> Filter {
    match what {
        Delete::Id(id) => Filter::must([Condition::has_id([PointId::from(id.to_string())])]),
        Delete::Partition(p) => Filter::must([in_partition(p)]),
        Delete::Tenant(tenant) => Filter::must([Condition::matches(field::TENANT, tenant.clone())]),
        Delete::All => Filter::default(),
        Delete::Expired(now) => {
            let past = Range { lte: Some(seconds(*now)), ..Range::default() };
            Filter::must([Condition::range(field::EXPIRES, past)])
        }
    }
}

/// Unix seconds fit a double exactly for the next hundred million years.
fn seconds(unix: u64) -> f64 {
    unix as f64
}

fn payload(point: &Point) -> Payload {
    let text = |s: &str| Value { kind: Some(Kind::StringValue(s.to_owned())) };
    let time = |t: u64| Value { kind: Some(Kind::IntegerValue(i64::try_from(t).unwrap_or(i64::MAX))) };
    let fields: [(&str, Value); 6] = [
        (field::PARTITION, text(&hex(&point.partition))),
        (field::TENANT, text(&point.tenant)),
        (field::MODEL, text(&point.model)),
        (field::CREATED, time(point.created_unix)),
        (field::EXPIRES, time(point.expires_unix)),
        (field::DATA, text(&point.payload)),
    ];
    Payload::from(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<HashMap<String, Value>>())
}

/// A point written by something else than this program is no answer.
fn found(mut point: ScoredPoint) -> Option<Found> {
    let id = match point.id?.point_id_options? {
        PointIdOptions::Uuid(text) => Uuid::parse_str(&text).ok()?,
        PointIdOptions::Num(_) => return None,
    };
    let Some(Kind::StringValue(payload)) = point.payload.remove(field::DATA)?.kind else { return None };
    let Some(Kind::IntegerValue(created)) = point.payload.remove(field::CREATED)?.kind else { return None };
    Some(Found { id, score: point.score, created_unix: u64::try_from(created).ok()?, payload })
}

/// Servers say it as `AlreadyExists` or, older ones, as `InvalidArgument` with this text.
fn already_exists(e: &QdrantError) -> bool {
    e.to_string().to_lowercase().contains("already exists")
}

/// gRPC status `NOT_FOUND`; its name is read because the crate does not export the type of its codes.
fn not_found(e: &QdrantError) -> bool {
    matches!(e, QdrantError::ResponseError { status } if format!("{:?}", status.code()) == "NotFound")
}

fn failed(e: &QdrantError) -> VectorError {
    match e {
        QdrantError::ResponseError { status } => {
            VectorError::Failed(format!("{:?}: {}", status.code(), status.message()))
        }
        other => VectorError::Failed(other.to_string()),
    }
}
