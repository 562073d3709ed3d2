//! The conformance suite over every store, and what is particular to a server: keys, outages, recovery.

use super::conformance::{DIM, check, point, search, vector};
use super::memory::MemoryStore;
use super::qdrant::{QdrantOptions, QdrantStore};
use super::test_server::{State, TestServer};
use super::{VectorError, VectorStore, collection_name};
use crate::base::clock::Clock;
use crate::config::secret::Secret;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn options(url: &str) -> QdrantOptions {
    QdrantOptions {
        url: url.to_owned(),
        api_key: Some(Secret::new("k-1")),
        collection: collection_name("conformance", DIM),
        dim: DIM,
        timeout: Duration::from_secs(5),
    }
}

#[tokio::test]
async fn memory_conforms() {
    check(&MemoryStore::new(DIM, 100_000)).await;
}

#[tokio::test]
async fn memory_forgets_the_oldest_beyond_its_bound() {
    let store = MemoryStore::new(DIM, 3);
    for seed in 0..5 {
        store.upsert(point(1, seed)).await.unwrap();
    }
    assert_eq!(store.count().await.unwrap(), 3);
    assert!(store.search(search([1; 32], vector(0))).await.unwrap().is_empty());
    assert_eq!(store.search(search([1; 32], vector(4))).await.unwrap().len(), 1);
}

#[tokio::test]
async fn qdrant_conforms_over_the_real_protocol() {
    let state = State::default();
    let server = TestServer::start(state.clone(), any_port());
    let store = QdrantStore::new(options(&server.url()), Clock::system()).unwrap();
    assert!(store.search(search([1; 32], vector(1))).await.unwrap().is_empty(), "no collection yet");
    check(&store).await;
    assert_eq!(state.last_key.lock().unwrap().as_deref(), Some("k-1"));
    let indexed: Vec<String> = state.indexed.lock().unwrap().iter().map(|(_, f)| f.clone()).collect();
    assert_eq!(indexed, ["partition", "tenant", "model", "expires", "created"]);
}

/// Against a real server, when there is one.
#[tokio::test]
async fn qdrant_conforms_against_a_server() {
    let Ok(url) = std::env::var("QDRANT_URL") else { return };
    let api_key = std::env::var("QDRANT_API_KEY").ok().map(Secret::new);
    let store = QdrantStore::new(QdrantOptions { api_key, ..options(&url) }, Clock::system()).unwrap();
    check(&store).await;
}

#[tokio::test]
async fn a_collection_of_another_dimension_is_refused() {
    let server = TestServer::start(State::default(), any_port());
    let store = QdrantStore::new(options(&server.url()), Clock::system()).unwrap();
    store.upsert(point(1, 1)).await.unwrap();
    let other = QdrantOptions { dim: DIM + 1, ..options(&server.url()) };
    let other = QdrantStore::new(other, Clock::system()).unwrap();
    let counted = other.count().await;
    assert!(matches!(counted, Err(VectorError::Dimension { got: 33, want: 32 })), "{counted:?}");
}

#[tokio::test]
async fn a_server_that_is_down_costs_little_and_comes_back() {
    let clock = Clock::manual();
    let state = State::default();
    let server = TestServer::start(state.clone(), any_port());
    let address = server.address;
    let short = QdrantOptions { timeout: Duration::from_millis(500), ..options(&server.url()) };
    let store = QdrantStore::new(short, clock.clone()).unwrap();
    store.upsert(point(1, 1)).await.unwrap();
    let look = || store.search(search([1; 32], vector(1)));
    assert_eq!(look().await.unwrap().len(), 1);

    drop(server);
    let mut failures = 0;
    while !matches!(look().await, Err(VectorError::Open)) {
        failures += 1;
        assert!(failures < 10, "the breaker never opened");
    }
    let started = Instant::now();
    for _ in 0..1000 {
        assert!(look().await.is_err());
    }
    assert!(started.elapsed() < Duration::from_millis(500), "an open breaker answers at once");

    let _server = TestServer::start(state, address);
    assert!(matches!(look().await, Err(VectorError::Open)), "not before the pause is over");
    let mut tries = 0;
    let found = loop {
        clock.advance(Duration::from_secs(31));
        if let Ok(found) = look().await {
            break found;
        }
        tries += 1;
        assert!(tries < 10, "it never recovered");
    };
    assert_eq!(found.len(), 1, "and it finds what was stored before");
}

#[tokio::test]
async fn a_server_that_hangs_costs_the_time_limit_at_most() {
    let state = State::default();
    let server = TestServer::start(state.clone(), any_port());
    let store = QdrantOptions { timeout: Duration::from_millis(50), ..options(&server.url()) };
    let store = QdrantStore::new(store, Clock::manual()).unwrap();
    store.upsert(point(1, 1)).await.unwrap();
    *state.delay.lock().unwrap() = Duration::from_secs(3600);
    let started = Instant::now();
    for _ in 0..3 {
        let found = store.search(search([1; 32], vector(1))).await;
        assert!(matches!(found, Err(VectorError::Timeout)), "{found:?}");
    }
    assert!(matches!(store.search(search([1; 32], vector(1))).await, Err(VectorError::Open)));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn an_address_that_is_none_is_named() {
    let bad = QdrantStore::new(options("qdrant:6334"), Clock::system()).err().unwrap();
    assert!(bad.to_string().contains("qdrant:6334"), "{bad}");
}

#[test]
fn each_embedder_has_a_collection_of_its_own() {
    let a = collection_name("BAAI/bge-small-en-v1.5@01", 384);
    assert!(a.starts_with("baai-bge-small-en-v1-5-01-") && a.ends_with("-384"), "{a}");
    assert_ne!(a, collection_name("BAAI/bge-small-en-v1.5@02", 384));
    assert_ne!(collection_name("a/b", 3), collection_name("a-b", 3), "same readable part, another digest");
}
