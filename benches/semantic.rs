//! What a semantic look-up costs: MiniLM and the edge store with 10,000 answers of 50 partitions.
//!
//! `cargo bench --bench semantic`; needs the models (scripts/setup.sh).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench may stop at the first fault")]

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use sluicegate::ai::embed::Embedder;
use sluicegate::ai::embed::onnx::{OnnxEmbedder, OnnxOptions};
use sluicegate::ai::semantic::guard::{Marks, veto};
use sluicegate::ai::semantic::{Limits, Lookup, Query, SemanticCache, StoredAnswer};
use sluicegate::ai::vector::collection_name;
use sluicegate::ai::vector::edge::{EdgeOptions, EdgeStore};
use sluicegate::ai::vector::{Point, Search, VectorStore};
use sluicegate::base::clock::Clock;
use sluicegate::config::semantic as config;
use std::sync::Arc;
use std::time::Duration;

const QUESTION: &str = "How do I reset the password of my account?";
const PARAPHRASE: &str = "How can I reset my account's password?";

fn query(partition: u8, text: &str) -> Query {
    Query {
        partition: [partition; 32],
        tenant: "t".to_owned(),
        model: "m".to_owned(),
        text: text.to_owned(),
        threshold: 0.85,
        ttl: Duration::from_secs(3600),
    }
}

fn answer() -> StoredAnswer {
    StoredAnswer {
        body: Bytes::from("{}".repeat(500)),
        model: "m".to_owned(),
        prompt_tokens: 10,
        completion_tokens: 200,
        cost_nano_usd: 1000,
        seconds: 1.5,
    }
}

/// Points that fill the store, in directions that no question has.
async fn fill(store: &dyn VectorStore, dim: usize, now: u64) {
    for n in 0..10_000_u32 {
        let mut vector: Vec<f32> = (0..dim).map(|i| ((i as f32 + 1.0) * (n as f32 + 1.0)).sin()).collect();
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|x| *x /= norm);
        let point = Point {
            id: uuid::Uuid::from_u128(u128::from(n)),
            partition: [u8::try_from(n % 50).unwrap(); 32],
            tenant: "t".to_owned(),
            model: "m".to_owned(),
            created_unix: now,
            expires_unix: now + 3600,
            vector: vector.into(),
            payload: "{}".to_owned(),
        };
        store.upsert(point).await.unwrap();
    }
}

fn bench(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let embedder = Arc::new(OnnxEmbedder::open(&OnnxOptions::new(&config::Embedder::default())).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let dim = embedder.dim();
    let collection = collection_name(embedder.id(), dim);
    let options = EdgeOptions { path: dir.path().to_owned(), collection, dim, entries_max: 100_000 };
    let store = Arc::new(EdgeStore::open(&options).unwrap());
    let clock = Clock::system();
    runtime.block_on(fill(store.as_ref(), dim, clock.unix_secs()));
    let cache = |vectors_max| {
        let limits = Limits { vectors_max, lookup: Duration::from_secs(5), ..Limits::default() };
        SemanticCache::new(embedder.clone(), store.clone(), clock.clone(), limits)
    };
    let (cold, warm) = (cache(0), cache(1000));
    runtime.block_on(async {
        let Lookup::Miss(ticket) = cold.lookup(&query(7, QUESTION)).await else { panic!("not a miss") };
        cold.store(ticket, answer()).await;
    });
    let hit = |cache: &SemanticCache| {
        let found = runtime.block_on(cache.lookup(&query(7, PARAPHRASE)));
        assert!(matches!(found, Lookup::Hit(_)), "{found:?}");
    };
    c.bench_function("hit, text embedded", |b| b.iter(|| hit(&cold)));
    c.bench_function("hit, vector remembered", |b| b.iter(|| hit(&warm)));
    c.bench_function("embed 10 tokens", |b| b.iter(|| runtime.block_on(embedder.embed(PARAPHRASE)).unwrap()));
    let vector = runtime.block_on(embedder.embed(QUESTION)).unwrap();
    let search = Search { partition: [7; 32], vector, limit: 8, min_score: 0.85, now_unix: clock.unix_secs() };
    c.bench_function("search 200 of 10,000", |b| b.iter(|| runtime.block_on(store.search(search.clone())).unwrap()));
    c.bench_function("guards", |b| b.iter(|| veto(&Marks::of(QUESTION), &Marks::of(PARAPHRASE))));
}

criterion_group!(benches, bench);
criterion_main!(benches);
