//! Tests of the semantic cache: with the fake embedder for the rules, with MiniLM for what it is for.

use super::*;
use crate::ai::embed::conformance::real_embedder;
use crate::ai::embed::fake::FakeEmbedder;
use crate::ai::vector::memory::MemoryStore;
use async_trait::async_trait;
use bytes::Bytes;

const DIM: usize = 256;

fn answer(text: &str) -> StoredAnswer {
    StoredAnswer {
        body: Bytes::from(format!("{{\"object\":\"chat.completion\",\"text\":\"{text}\"}}")),
        model: "m-1".to_owned(),
        prompt_tokens: 12,
        completion_tokens: 34,
        cost_nano_usd: 5600,
        seconds: 1.25,
    }
}

fn query(partition: u8, text: &str) -> Query {
    Query {
        partition: [partition; 32],
        tenant: format!("t{partition}"),
        model: "m".to_owned(),
        text: text.to_owned(),
        threshold: 0.8,
        ttl: Duration::from_secs(60),
    }
}

fn fake_cache(clock: &Clock) -> SemanticCache {
    let limits = Limits { lookup: Duration::from_secs(10), ..Limits::default() };
    let store = Arc::new(MemoryStore::new(DIM, 1000));
    SemanticCache::new(Arc::new(FakeEmbedder::new(DIM, 300)), store, clock.clone(), limits)
}

async fn learn(cache: &SemanticCache, q: &Query, a: &str) {
    match cache.lookup(q).await {
        Lookup::Miss(ticket) => cache.store(ticket, answer(a)).await,
        other => panic!("{:?}: {other:?}", q.text),
    }
}

fn hit(l: Lookup) -> Hit {
    match l {
        Lookup::Hit(hit) => hit,
        other => panic!("{other:?}"),
    }
}

fn miss(l: Lookup) -> Ticket {
    match l {
        Lookup::Miss(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_near_text_gets_the_whole_answer_back() {
    let clock = Clock::manual();
    let cache = fake_cache(&clock);
    learn(&cache, &query(1, "How do I reset my password?"), "click").await;
    clock.advance(Duration::from_secs(20));
    let same = hit(cache.lookup(&query(1, "  How do I\treset my password?")).await);
    assert_eq!((same.score, same.answer), (1.0, answer("click")));
    assert!((20..=21).contains(&same.age.as_secs()), "{:?}", same.age);
    let near = hit(cache.lookup(&query(1, "how do I reset my password please")).await);
    assert!(near.score >= 0.8 && near.score < 1.0, "{}", near.score);
    assert_eq!(near.id, same.id);
    assert_eq!(miss(cache.lookup(&query(1, "What is the capital of Peru?")).await).vetoed, None);
    assert_eq!((cache.stats().hits, cache.stats().misses, cache.stats().stored), (2, 2, 1));
}

#[tokio::test]
async fn another_partition_and_an_expired_entry_are_never_served() {
    let clock = Clock::manual();
    let cache = fake_cache(&clock);
    let q = query(1, "How do I reset my password?");
    learn(&cache, &q, "click").await;
    miss(cache.lookup(&query(2, &q.text)).await);
    clock.advance(Duration::from_secs(61));
    miss(cache.lookup(&q).await);
    assert_eq!(cache.sweep().await.unwrap(), 1);
}

#[tokio::test]
async fn guards_refuse_what_the_score_would_serve() {
    let cache = fake_cache(&Clock::manual());
    learn(&cache, &query(1, "please convert exactly 10 miles into kilometres for me"), "16.1").await;
    let other = miss(cache.lookup(&query(1, "please convert exactly 12 miles into kilometres for me")).await);
    assert_eq!(other.vetoed, Some(Guard::Number));
    assert!(other.best >= 0.8);
    // Once both are stored, each finds its own: a vetoed candidate does not hide the next.
    cache.store(other, answer("19.3")).await;
    let own = hit(cache.lookup(&query(1, "Please convert exactly 12 miles into kilometres for me!")).await);
    assert_eq!(own.answer, answer("19.3"));
    assert_eq!(cache.stats().vetoes.get("number"), Some(&1));
}

#[tokio::test]
async fn purging_a_tenant_and_storing_twice() {
    let cache = fake_cache(&Clock::manual());
    let q = query(1, "How do I reset my password?");
    let first = miss(cache.lookup(&q).await);
    let second = miss(cache.lookup(&q).await);
    cache.store(first, answer("old")).await;
    cache.store(second, answer("new")).await;
    assert_eq!(hit(cache.lookup(&q).await).answer, answer("new"));
    assert_eq!(cache.purge(Delete::Tenant("t1".to_owned())).await.unwrap(), 1, "one entry, not two");
    miss(cache.lookup(&q).await);
}

#[tokio::test]
async fn a_ticket_without_a_look_up_replaces_the_entry() {
    let cache = fake_cache(&Clock::manual());
    let q = query(1, "How do I reset my password?");
    learn(&cache, &q, "old").await;
    let ticket = cache.ticket(&q).await.unwrap();
    assert_eq!((cache.stats().hits, cache.stats().misses), (0, 1), "nothing was looked up");
    cache.store(ticket, answer("new")).await;
    assert_eq!(hit(cache.lookup(&q).await).answer, answer("new"));
    assert_eq!(cache.purge(Delete::Tenant("t1".to_owned())).await.unwrap(), 1, "one entry, not two");
    assert_eq!(cache.ticket(&query(1, "")).await.unwrap_err(), Bypass::TextEmpty);
}

#[tokio::test]
async fn what_cannot_be_compared_or_kept_is_left_alone() {
    let cache = fake_cache(&Clock::manual());
    for (text, why) in [("", "text_empty"), ("yes please", "text_too_short")] {
        assert!(matches!(cache.lookup(&query(1, text)).await, Lookup::Bypass(b) if b.as_str() == why), "{text}");
    }
    let long = "many words ".repeat(200);
    assert!(matches!(cache.lookup(&query(1, &long)).await, Lookup::Bypass(Bypass::TextTooLong)));
    let q = query(1, "a fine question to ask");
    for body in [Bytes::from_static(&[0xff, 0xfe]), Bytes::from(vec![b'x'; 300 << 10])] {
        cache.store(miss(cache.lookup(&q).await), StoredAnswer { body, ..answer("") }).await;
    }
    miss(cache.lookup(&q).await);
    assert_eq!((cache.stats().stored, cache.stats().not_stored), (0, 2));
    assert_eq!(cache.stats().bypasses.values().sum::<u64>(), 3);
}

/// A store that always fails, and one that never answers.
struct Broken(Option<Duration>);

#[async_trait]
impl VectorStore for Broken {
    async fn search(&self, _: Search) -> Result<Vec<Found>, VectorError> {
        match self.0 {
            Some(long) => {
                tokio::time::sleep(long).await;
                Ok(Vec::new())
            }
            None => Err(VectorError::Open),
        }
    }
    async fn upsert(&self, _: Point) -> Result<(), VectorError> {
        Err(VectorError::Open)
    }
    async fn delete(&self, _: Delete) -> Result<u64, VectorError> {
        Err(VectorError::Open)
    }
    async fn count(&self) -> Result<u64, VectorError> {
        Err(VectorError::Open)
    }
    async fn flush(&self) -> Result<(), VectorError> {
        Err(VectorError::Open)
    }
}

#[tokio::test]
async fn a_store_that_fails_or_hangs_lets_the_prompt_through() {
    let make = |store| {
        let limits = Limits { lookup: Duration::from_millis(50), ..Limits::default() };
        SemanticCache::new(Arc::new(FakeEmbedder::new(DIM, 300)), Arc::new(store), Clock::manual(), limits)
    };
    let q = query(1, "a fine question to ask");
    assert!(matches!(make(Broken(None)).lookup(&q).await, Lookup::Bypass(Bypass::StoreFailed)));
    let hanging = make(Broken(Some(Duration::from_secs(3600))));
    let started = Instant::now();
    assert!(matches!(hanging.lookup(&q).await, Lookup::Bypass(Bypass::OutOfTime)));
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// What the cache is for: other words, same question, after a restart, with the real model and the real store.
#[cfg(feature = "edge")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paraphrases_hit_with_real_vectors_and_survive_a_restart() {
    use crate::ai::vector::edge::{EdgeOptions, EdgeStore};
    let Some(embedder) = real_embedder() else { return };
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let collection = crate::ai::vector::collection_name(embedder.id(), embedder.dim());
        let options = EdgeOptions { path: dir.path().to_owned(), collection, dim: embedder.dim(), entries_max: 1000 };
        let limits = Limits { lookup: Duration::from_secs(60), ..Limits::default() };
        let store = Arc::new(EdgeStore::open(&options).unwrap());
        SemanticCache::new(embedder.clone(), store, Clock::system(), limits)
    };
    let ask = |text: &str| Query { ttl: Duration::from_secs(3600), ..query(1, text) };
    let pairs = [
        ("How do I reset my password?", "How can I reset my password?"),
        ("What is the capital of France?", "Tell me the capital city of France"),
        ("How long does shipping to Germany take?", "How long does it take to ship to Germany?"),
        ("Explain what a reverse proxy is", "Can you explain what a reverse proxy is?"),
    ];
    let cache = open();
    for (first, _) in pairs {
        learn(&cache, &ask(first), first).await;
    }
    drop(cache);
    let cache = open();
    for (first, other) in pairs {
        let found = hit(cache.lookup(&ask(other)).await);
        println!("{:.3} {other}", found.score);
        assert_eq!(found.answer, answer(first), "{other} at {}", found.score);
    }
    for (first, _) in pairs {
        assert_eq!(hit(cache.lookup(&ask(first)).await).score, 1.0);
    }
    for far in
        ["What is the capital of Spain and how big is it?", "How do I bake bread?", "How do I delete my account?"]
    {
        miss(cache.lookup(&ask(far)).await);
    }
    miss(cache.lookup(&Query { partition: [9; 32], ..ask(pairs[0].0) }).await);
}
