//! A Qdrant server for tests: the real gRPC protocol over the client's own stubs, the memory store behind it.

use super::memory::MemoryStore;
use super::{Delete, Partition, Point, Search, VectorStore, field};
use qdrant_client::qdrant::collections_server::{Collections, CollectionsServer};
use qdrant_client::qdrant::points_server::{Points, PointsServer};
use qdrant_client::qdrant::{self as pb, condition::ConditionOneOf, r#match::MatchValue, value::Kind};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// What the server holds; clones share it, and it survives a restart of the server.
#[derive(Clone, Default)]
pub struct State {
    collections: Arc<Mutex<HashMap<String, Arc<MemoryStore>>>>,
    /// Fields indexed, by collection.
    pub indexed: Arc<Mutex<Vec<(String, String)>>>,
    /// The `api-key` of the last call.
    pub last_key: Arc<Mutex<Option<String>>>,
    /// Each answer waits so long.
    pub delay: Arc<Mutex<Duration>>,
}

impl State {
    async fn store<T>(&self, request: &Request<T>, name: &str) -> Result<Arc<MemoryStore>, Status> {
        let key = request.metadata().get("api-key").and_then(|v| v.to_str().ok()).map(str::to_owned);
        *self.last_key.lock().unwrap() = key;
        let delay = *self.delay.lock().unwrap();
        tokio::time::sleep(delay).await;
        let store = self.collections.lock().unwrap().get(name).cloned();
        store.ok_or_else(|| Status::not_found(format!("Collection `{name}` doesn't exist!")))
    }
}

/// A running server; stops when dropped.
pub struct TestServer {
    pub address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl TestServer {
    /// Serves on the given address; port 0 picks a free one. It has a runtime of its own, because ending that is the
    /// one way to cut its open connections, too.
    pub fn start(state: State, address: SocketAddr) -> TestServer {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let server = tonic::transport::Server::builder()
                    .add_service(PointsServer::new(state.clone()))
                    .add_service(CollectionsServer::new(state))
                    .serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener));
                tokio::select! {
                    ended = server => ended.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        TestServer { address, stop: Some(stop), thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn text(payload: &HashMap<String, pb::Value>, name: &str) -> String {
    match payload.get(name).and_then(|v| v.kind.clone()) {
        Some(Kind::StringValue(s)) => s,
        other => panic!("{name}: {other:?}"),
    }
}

fn time(payload: &HashMap<String, pb::Value>, name: &str) -> u64 {
    match payload.get(name).and_then(|v| v.kind.clone()) {
        Some(Kind::IntegerValue(n)) => u64::try_from(n).unwrap(),
        other => panic!("{name}: {other:?}"),
    }
}

fn partition(hex: &str) -> Partition {
    let bytes: Vec<u8> = (0..64).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// Whole seconds out of a range's bound.
fn whole(bound: Option<f64>) -> u64 {
    format!("{:.0}", bound.unwrap()).parse().unwrap()
}

fn uuid(id: Option<pb::PointId>) -> Uuid {
    match id.and_then(|i| i.point_id_options) {
        Some(pb::point_id::PointIdOptions::Uuid(u)) => u.parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn fields(filter: Option<pb::Filter>) -> Vec<ConditionOneOf> {
    filter.unwrap_or_default().must.into_iter().filter_map(|c| c.condition_one_of).collect()
}

fn keyword(f: &pb::FieldCondition) -> String {
    match f.r#match.clone().and_then(|m| m.match_value) {
        Some(MatchValue::Keyword(k)) => k,
        other => panic!("{other:?}"),
    }
}

fn selection(filter: Option<pb::Filter>) -> Delete {
    match fields(filter).as_slice() {
        [] => Delete::All,
        [ConditionOneOf::HasId(ids)] => Delete::Id(uuid(ids.has_id.first().cloned())),
        [ConditionOneOf::Field(f)] if f.key == field::PARTITION => Delete::Partition(partition(&keyword(f))),
        [ConditionOneOf::Field(f)] if f.key == field::TENANT => Delete::Tenant(keyword(f)),
        [ConditionOneOf::Field(f)] if f.key == field::EXPIRES => Delete::Expired(whole(f.range.unwrap().lte)),
        other => panic!("{other:?}"),
    }
}

fn dense(vectors: Option<pb::Vectors>) -> Vec<f32> {
    match vectors.and_then(|v| v.vectors_options) {
        Some(pb::vectors::VectorsOptions::Vector(v)) => match v.vector {
            Some(pb::vector::Vector::Dense(d)) => d.data,
            #[expect(deprecated, reason = "what clients up to 1.15 send")]
            _ => v.data,
        },
        other => panic!("{other:?}"),
    }
}

/// Methods that this project never calls.
macro_rules! unused {
    ($($name:ident($request:ident) -> $response:ident;)*) => {
        $(fn $name<'a, 's>(&'a self, _: Request<pb::$request>)
            -> std::pin::Pin<Box<dyn Future<Output = Result<Response<pb::$response>, Status>> + Send + 's>>
        where 'a: 's, Self: 's {
            Box::pin(async { Err(Status::unimplemented(stringify!($name))) })
        })*
    };
}

#[tonic::async_trait]
impl Points for State {
    async fn upsert(&self, r: Request<pb::UpsertPoints>) -> Result<Response<pb::PointsOperationResponse>, Status> {
        let store = self.store(&r, &r.get_ref().collection_name).await?;
        for p in r.into_inner().points {
            let point = Point {
                id: uuid(p.id),
                partition: partition(&text(&p.payload, field::PARTITION)),
                tenant: text(&p.payload, field::TENANT),
                model: text(&p.payload, field::MODEL),
                created_unix: time(&p.payload, field::CREATED),
                expires_unix: time(&p.payload, field::EXPIRES),
                payload: text(&p.payload, field::DATA),
                vector: dense(p.vectors).into(),
            };
            store.upsert(point).await.map_err(|e| Status::invalid_argument(e.to_string()))?;
        }
        Ok(Response::new(pb::PointsOperationResponse::default()))
    }

    async fn delete(&self, r: Request<pb::DeletePoints>) -> Result<Response<pb::PointsOperationResponse>, Status> {
        let store = self.store(&r, &r.get_ref().collection_name).await?;
        let selector = r.into_inner().points.and_then(|s| s.points_selector_one_of);
        let Some(pb::points_selector::PointsSelectorOneOf::Filter(filter)) = selector else { panic!("{selector:?}") };
        store.delete(selection(Some(filter))).await.map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(pb::PointsOperationResponse::default()))
    }

    async fn count(&self, r: Request<pb::CountPoints>) -> Result<Response<pb::CountResponse>, Status> {
        let store = self.store(&r, &r.get_ref().collection_name).await?;
        let count = store.matching(&selection(r.into_inner().filter));
        Ok(Response::new(pb::CountResponse { result: Some(pb::CountResult { count }), ..Default::default() }))
    }

    async fn query(&self, r: Request<pb::QueryPoints>) -> Result<Response<pb::QueryResponse>, Status> {
        let store = self.store(&r, &r.get_ref().collection_name).await?;
        let q = r.into_inner();
        let Some(pb::query::Variant::Nearest(pb::VectorInput { variant })) = q.query.and_then(|q| q.variant) else {
            return Err(Status::invalid_argument("only nearest"));
        };
        let Some(pb::vector_input::Variant::Dense(vector)) = variant else { panic!("{variant:?}") };
        let conditions = fields(q.filter);
        let [ConditionOneOf::Field(p), ConditionOneOf::Field(alive)] = conditions.as_slice() else {
            panic!("a search without partition and expiry: {conditions:?}")
        };
        let search = Search {
            partition: partition(&keyword(p)),
            vector: vector.data.into(),
            limit: usize::try_from(q.limit.unwrap()).unwrap(),
            min_score: q.score_threshold.unwrap(),
            now_unix: whole(alive.range.unwrap().gt),
        };
        let found = store.search(search).await.map_err(|e| Status::invalid_argument(e.to_string()))?;
        let result = found.into_iter().map(|f| {
            let data = pb::Value { kind: Some(Kind::StringValue(f.payload)) };
            let created = pb::Value { kind: Some(Kind::IntegerValue(i64::try_from(f.created_unix).unwrap())) };
            let payload = [(field::DATA.to_owned(), data), (field::CREATED.to_owned(), created)].into();
            pb::ScoredPoint { id: Some(f.id.to_string().into()), payload, score: f.score, ..Default::default() }
        });
        Ok(Response::new(pb::QueryResponse { result: result.collect(), ..Default::default() }))
    }

    async fn create_field_index(
        &self,
        r: Request<pb::CreateFieldIndexCollection>,
    ) -> Result<Response<pb::PointsOperationResponse>, Status> {
        self.store(&r, &r.get_ref().collection_name).await?;
        let r = r.into_inner();
        self.indexed.lock().unwrap().push((r.collection_name, r.field_name));
        Ok(Response::new(pb::PointsOperationResponse::default()))
    }

    unused! {
        get(GetPoints) -> GetResponse;
        update_vectors(UpdatePointVectors) -> PointsOperationResponse;
        delete_vectors(DeletePointVectors) -> PointsOperationResponse;
        set_payload(SetPayloadPoints) -> PointsOperationResponse;
        overwrite_payload(SetPayloadPoints) -> PointsOperationResponse;
        delete_payload(DeletePayloadPoints) -> PointsOperationResponse;
        clear_payload(ClearPayloadPoints) -> PointsOperationResponse;
        delete_field_index(DeleteFieldIndexCollection) -> PointsOperationResponse;
        create_vector_name(CreateVectorNameRequest) -> PointsOperationResponse;
        delete_vector_name(DeleteVectorNameRequest) -> PointsOperationResponse;
        search(SearchPoints) -> SearchResponse;
        search_batch(SearchBatchPoints) -> SearchBatchResponse;
        search_groups(SearchPointGroups) -> SearchGroupsResponse;
        scroll(ScrollPoints) -> ScrollResponse;
        recommend(RecommendPoints) -> RecommendResponse;
        recommend_batch(RecommendBatchPoints) -> RecommendBatchResponse;
        recommend_groups(RecommendPointGroups) -> RecommendGroupsResponse;
        discover(DiscoverPoints) -> DiscoverResponse;
        discover_batch(DiscoverBatchPoints) -> DiscoverBatchResponse;
        update_batch(UpdateBatchPoints) -> UpdateBatchResponse;
        query_batch(QueryBatchPoints) -> QueryBatchResponse;
        query_groups(QueryPointGroups) -> QueryGroupsResponse;
        facet(FacetCounts) -> FacetResponse;
        search_matrix_pairs(SearchMatrixPoints) -> SearchMatrixPairsResponse;
        search_matrix_offsets(SearchMatrixPoints) -> SearchMatrixOffsetsResponse;
    }
}

#[tonic::async_trait]
impl Collections for State {
    async fn collection_exists(
        &self,
        r: Request<pb::CollectionExistsRequest>,
    ) -> Result<Response<pb::CollectionExistsResponse>, Status> {
        let exists = self.collections.lock().unwrap().contains_key(&r.into_inner().collection_name);
        let result = Some(pb::CollectionExists { exists });
        Ok(Response::new(pb::CollectionExistsResponse { result, time: 0.0 }))
    }

    async fn create(
        &self,
        r: Request<pb::CreateCollection>,
    ) -> Result<Response<pb::CollectionOperationResponse>, Status> {
        let r = r.into_inner();
        let Some(pb::vectors_config::Config::Params(p)) = r.vectors_config.and_then(|v| v.config) else {
            return Err(Status::invalid_argument("no vector parameters"));
        };
        assert_eq!(p.distance, i32::from(pb::Distance::Cosine));
        let store = Arc::new(MemoryStore::new(usize::try_from(p.size).unwrap(), usize::MAX));
        self.collections.lock().unwrap().insert(r.collection_name, store);
        Ok(Response::new(pb::CollectionOperationResponse { result: true, time: 0.0 }))
    }

    async fn get(
        &self,
        r: Request<pb::GetCollectionInfoRequest>,
    ) -> Result<Response<pb::GetCollectionInfoResponse>, Status> {
        let store = self.store(&r, &r.get_ref().collection_name).await?;
        let params = pb::VectorParams { size: store.dim() as u64, ..Default::default() };
        let vectors_config = Some(pb::VectorsConfig { config: Some(pb::vectors_config::Config::Params(params)) });
        let params = Some(pb::CollectionParams { vectors_config, ..Default::default() });
        let config = Some(pb::CollectionConfig { params, ..Default::default() });
        let result = Some(pb::CollectionInfo { config, ..Default::default() });
        Ok(Response::new(pb::GetCollectionInfoResponse { result, time: 0.0 }))
    }

    unused! {
        list(ListCollectionsRequest) -> ListCollectionsResponse;
        update(UpdateCollection) -> CollectionOperationResponse;
        delete(DeleteCollection) -> CollectionOperationResponse;
        update_aliases(ChangeAliases) -> CollectionOperationResponse;
        list_collection_aliases(ListCollectionAliasesRequest) -> ListAliasesResponse;
        list_aliases(ListAliasesRequest) -> ListAliasesResponse;
        collection_cluster_info(CollectionClusterInfoRequest) -> CollectionClusterInfoResponse;
        update_collection_cluster_setup(UpdateCollectionClusterSetupRequest) -> UpdateCollectionClusterSetupResponse;
        create_shard_key(CreateShardKeyRequest) -> CreateShardKeyResponse;
        delete_shard_key(DeleteShardKeyRequest) -> DeleteShardKeyResponse;
        list_shard_keys(ListShardKeysRequest) -> ListShardKeysResponse;
    }
}
