//! How long a purge of one tag on 100,000 of 1,000,000 objects takes until no look-up finds them, and what it costs the
//! look-ups after it. `cargo bench --bench purge [-- OBJECTS]`.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, missing_docs)]

use bytes::Bytes;
use http::HeaderMap;
use pingora::http::ResponseHeader;
use pingora_cache::CacheMeta;
use sluicegate::base::clock::Clock;
use sluicegate::cache::key::{Key, KeyRules, Place};
use sluicegate::cache::purge::sweep::Sweep;
use sluicegate::cache::purge::{Filed, Rule};
use sluicegate::cache::store::memory::{Limits, MemoryStore};
use sluicegate::cache::store::{Head, Slot, Store, Writer};
use std::time::{Duration, Instant, SystemTime};

/// Every tenth object carries the tag that is purged; all carry one of their own besides.
const EVERY: usize = 10;

fn key(i: usize) -> Key {
    let target = format!("/{i}");
    Key::of(&Place::of(true, "bench.test", target.as_bytes()), &KeyRules::default(), &HeaderMap::new(), &[])
}

async fn fill(store: &MemoryStore, objects: usize) {
    let header = ResponseHeader::build_no_case(200, None).unwrap();
    let now = SystemTime::now();
    let generation = store.book().generation();
    for i in 0..objects {
        let key = key(i);
        let mut tags = vec![Box::from(format!("page-{i}"))];
        if i % EVERY == 0 {
            tags.push(Box::from("news"));
        }
        let mut meta = CacheMeta::new(now + Duration::from_secs(3600), now, 0, 0, header.clone());
        meta.extensions_mut().insert(Filed { tags: tags.into(), generation });
        let slot = Slot { hash: *key.hash(), variance: None, key: key.bytes() };
        let mut writer = store.begin(&slot, Head::from_meta(&meta)).await.unwrap();
        writer.write(Bytes::from_static(b"x")).await.unwrap();
        writer.finish().await.unwrap();
    }
}

/// Looks every object up; how many were there, and the time of one look-up.
fn look(store: &MemoryStore, keys: &[Key]) -> (usize, Duration) {
    let (nothing, now) = (HeaderMap::new(), SystemTime::now());
    let started = Instant::now();
    let found = keys.iter().filter(|k| store.peek_fresh(k, &nothing, now).is_some()).count();
    (found, started.elapsed() / u32::try_from(keys.len()).unwrap())
}

fn main() {
    let objects = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(1_000_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let store = MemoryStore::new(Limits { capacity_bytes: 64 << 30, object_bytes_max: 1 << 20 }, Clock::system());
    runtime.block_on(fill(&store, objects));
    let keys: Vec<Key> = (0..objects).map(key).collect();
    println!("objects stored                        {}", store.stats().objects);
    for what in ["first", "again"] {
        let (found, each) = look(&store, &keys);
        println!("look-up, nothing purged ({what})       {each:?} each, {found} found");
    }
    let started = Instant::now();
    store.book().set(&[Rule::tag("news", false).unwrap()]);
    let took = started.elapsed();
    println!("purge of a tag on {:>9} objects   {took:?} until it is in force", objects.div_ceil(EVERY));
    for what in ["first", "again"] {
        let (found, each) = look(&store, &keys);
        assert_eq!(found, objects - objects.div_ceil(EVERY));
        println!("look-up after it ({what})              {each:?} each, {found} found");
    }
    let mut sweep = Sweep::default();
    let started = Instant::now();
    let mut rounds = 0;
    while !matches!(sweep, Sweep::Waiting { .. }) {
        runtime.block_on(sweep.go_on(store.book(), &store, 1 << 16));
        rounds += 1;
    }
    println!("sweep                                 {:?} in {rounds} rounds", started.elapsed());
    println!("objects left                          {}", store.stats().objects);
}
