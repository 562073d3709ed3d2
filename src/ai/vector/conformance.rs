//! What every vector store must do. Each implementation runs the whole suite: see `tests.rs`.

use super::{Delete, Found, Partition, Point, Search, VectorError, VectorStore};
use crate::ai::embed::unit;
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// Length of the vectors in this suite.
pub const DIM: usize = 32;
const NOW: u64 = 1_700_000_000;

/// A vector that depends on `seed` only; the same everywhere, so that failures repeat.
pub fn vector(seed: u64) -> Arc<[f32]> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let random = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    unit((0..DIM).map(random).collect()).unwrap()
}

/// A point whose payload names its partition.
pub fn point(partition: u8, seed: u64) -> Point {
    Point {
        id: Uuid::from_u128(u128::from(partition) << 64 | u128::from(seed)),
        partition: [partition; 32],
        tenant: format!("tenant-{}", partition % 2),
        model: "m".to_owned(),
        created_unix: NOW - 10 + seed % 10,
        expires_unix: NOW + 100,
        vector: vector(seed),
        payload: format!("{{\"p\":{partition},\"s\":{seed}}}"),
    }
}

/// A search for near copies.
pub fn search(partition: Partition, vector: Arc<[f32]>) -> Search {
    Search { partition, vector, limit: 10, min_score: 0.9, now_unix: NOW }
}

async fn ids(store: &dyn VectorStore, s: Search) -> Vec<Uuid> {
    store.search(s).await.unwrap().into_iter().map(|f| f.id).collect()
}

/// The suite, on a store that may hold anything before and is emptied first.
pub async fn check(store: &dyn VectorStore) {
    store.delete(Delete::All).await.unwrap();
    assert_eq!(store.count().await.unwrap(), 0);
    finds_what_was_stored_at_once(store).await;
    replaces_by_id(store).await;
    orders_by_score_and_respects_limit_and_threshold(store).await;
    never_finds_another_partition(store).await;
    does_not_find_the_expired(store).await;
    deletes_what_was_named(store).await;
    refuses_another_dimension(store).await;
    store.flush().await.unwrap();
    store.delete(Delete::All).await.unwrap();
    assert_eq!(store.count().await.unwrap(), 0);
}

async fn finds_what_was_stored_at_once(store: &dyn VectorStore) {
    let p = point(1, 1);
    assert!(ids(store, search(p.partition, p.vector.clone())).await.is_empty());
    store.upsert(p.clone()).await.unwrap();
    let found = store.search(search(p.partition, p.vector.clone())).await.unwrap();
    let [Found { id, score, created_unix, payload }] = found.as_slice() else { panic!("{found:?}") };
    assert!((score - 1.0).abs() < 1e-3, "{score}");
    assert_eq!((*id, *created_unix, payload.as_str()), (p.id, p.created_unix, p.payload.as_str()));
}

async fn replaces_by_id(store: &dyn VectorStore) {
    let before = store.count().await.unwrap();
    let p = Point { payload: "{\"new\":\"ü “quoted” \\n\"}".to_owned(), ..point(1, 1) };
    store.upsert(p.clone()).await.unwrap();
    assert_eq!(store.count().await.unwrap(), before);
    let found = store.search(search(p.partition, p.vector)).await.unwrap();
    assert_eq!(found[0].payload, p.payload);
}

async fn orders_by_score_and_respects_limit_and_threshold(store: &dyn VectorStore) {
    let base = vector(77);
    for i in 0..6_u64 {
        let mut v = base.to_vec();
        // The further along, the further away.
        v[usize::try_from(i).unwrap()] += 0.05 * i as f32;
        store.upsert(Point { vector: unit(v).unwrap(), ..point(2, i) }).await.unwrap();
    }
    let all = store.search(search([2; 32], base.clone())).await.unwrap();
    assert_eq!(all.len(), 6);
    assert!(all.windows(2).all(|w| w[0].score >= w[1].score), "{all:?}");
    let few = ids(store, Search { limit: 2, ..search([2; 32], base.clone()) }).await;
    assert_eq!(few, all.iter().take(2).map(|f| f.id).collect::<Vec<_>>());
    let bound = (all[2].score + all[3].score) / 2.0;
    let near = store.search(Search { min_score: bound, ..search([2; 32], base) }).await.unwrap();
    assert_eq!(near.len(), 3);
    assert!(near.iter().all(|f| f.score >= bound));
}

/// The same vectors in many partitions: each search may see its own only, whatever it asks for.
async fn never_finds_another_partition(store: &dyn VectorStore) {
    for partition in 10..20_u8 {
        for seed in 0..12 {
            store.upsert(point(partition, seed)).await.unwrap();
        }
    }
    for partition in 5..22_u8 {
        for seed in 0..12 {
            let wide = Search { limit: 100, min_score: -1.0, ..search([partition; 32], vector(seed)) };
            let found = store.search(wide).await.unwrap();
            let prefix = format!("{{\"p\":{partition},");
            assert!(found.iter().all(|f| f.payload.starts_with(&prefix)), "{partition}: {found:?}");
            let expected = if (10..20).contains(&partition) { 12 } else { 0 };
            assert_eq!(found.len(), expected, "partition {partition}");
        }
    }
}

async fn does_not_find_the_expired(store: &dyn VectorStore) {
    let p = Point { expires_unix: NOW + 5, ..point(30, 1) };
    store.upsert(p.clone()).await.unwrap();
    let at = |now_unix| Search { now_unix, ..search(p.partition, p.vector.clone()) };
    assert_eq!(ids(store, at(NOW + 4)).await.len(), 1);
    assert!(ids(store, at(NOW + 5)).await.is_empty(), "expired at this very second");
    assert_eq!(store.delete(Delete::Expired(NOW + 4)).await.unwrap(), 0);
    assert_eq!(store.delete(Delete::Expired(NOW + 5)).await.unwrap(), 1);
    assert!(ids(store, at(NOW)).await.is_empty());
}

async fn deletes_what_was_named(store: &dyn VectorStore) {
    let before: BTreeSet<u8> = (10..20).collect();
    let left = |partition: u8| async move {
        ids(store, Search { limit: 100, min_score: -1.0, ..search([partition; 32], vector(0)) }).await.len()
    };
    assert_eq!(store.delete(Delete::Id(point(10, 3).id)).await.unwrap(), 1);
    assert_eq!(store.delete(Delete::Id(point(10, 3).id)).await.unwrap(), 0);
    assert_eq!(left(10).await, 11);
    assert_eq!(store.delete(Delete::Partition([11; 32])).await.unwrap(), 12);
    assert_eq!(left(11).await, 0);
    // Even partitions belong to tenant-0: 10 (11 left) and 12, 14, 16, 18, and partition 2.
    assert_eq!(store.delete(Delete::Tenant("tenant-0".to_owned())).await.unwrap(), 11 + 4 * 12 + 6);
    for partition in before {
        let expected = if partition % 2 == 1 && partition != 11 { 12 } else { 0 };
        assert_eq!(left(partition).await, expected, "partition {partition}");
    }
}

async fn refuses_another_dimension(store: &dyn VectorStore) {
    let short: Arc<[f32]> = unit(vec![1.0; DIM - 1]).unwrap();
    let stored = store.upsert(Point { vector: short.clone(), ..point(1, 1) }).await;
    assert!(matches!(stored, Err(VectorError::Dimension { .. })), "{stored:?}");
    let found = store.search(search([1; 32], short)).await;
    assert!(matches!(found, Err(VectorError::Dimension { .. })), "{found:?}");
}
