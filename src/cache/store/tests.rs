//! Tests of the memory store: the conformance suite, eviction, the fast path, a model, and many threads.

use super::adapter::Adapter;
use super::conformance::{body, drain, get, head, key, put, run, slot};
use super::memory::{Limits, MemoryStore};
use super::{Head, Purge, Store, StoreError, Target, Writer};
use crate::base::clock::Clock;
use crate::cache::key::Key;
use crate::cache::vary;
use bytes::Bytes;
use http::HeaderMap;
use pingora_cache::trace::Span;
use pingora_cache::{CacheMeta, Storage};
use proptest::prelude::*;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

fn store(capacity_bytes: u64, object_bytes_max: u64) -> MemoryStore {
    MemoryStore::new(Limits { capacity_bytes, object_bytes_max }, Clock::system())
}

#[tokio::test]
async fn memory_conforms() {
    run(|limits| MemoryStore::new(limits, Clock::system())).await;
}

#[tokio::test]
async fn a_scan_does_not_wash_out_what_is_used() {
    for capacity in [4 << 20, 64 << 20] {
        scan(capacity).await;
    }
}

async fn scan(capacity: u64) {
    let s = store(capacity, 1 << 20);
    let size = usize::try_from(capacity / 80).unwrap();
    let hot: Vec<Key> = (0..20).map(|i| key("a.test", &format!("/hot{i}"), None)).collect();
    let body = body(size);
    for k in &hot {
        put(&s, &slot(k, None), &body).await;
        assert!(get(&s, &slot(k, None)).await.is_some());
    }
    for i in 0..1_000 {
        put(&s, &slot(&key("a.test", &format!("/scan{i}"), None), None), &body).await;
        if i % 20 == 0 {
            for k in &hot {
                get(&s, &slot(k, None)).await;
            }
        }
    }
    let mut left = 0;
    for k in &hot {
        left += usize::from(get(&s, &slot(k, None)).await.is_some());
    }
    assert!(left >= 18, "{left} of 20 left");
}

#[tokio::test]
async fn one_url_holds_a_bounded_number_of_slots() {
    let s = store(64 << 20, 1 << 20);
    let k = key("a.test", "/", None);
    for i in 0..1_000u128 {
        put(&s, &slot(&k, Some(i.to_be_bytes())), b"x").await;
    }
    assert_eq!(s.stats().objects, 256);
    assert!(get(&s, &slot(&k, Some(999u128.to_be_bytes()))).await.is_some());
}

#[tokio::test]
async fn evicting_the_primary_moves_a_variant_up() {
    let s = store(300_000, 200_000);
    let k = key("a.test", "/", None);
    let vary_head = |v: u8| {
        let mut h = head(&[("vary", "accept-encoding")]);
        h.variance = Some([v; 16]);
        h
    };
    for (variance, v) in [(None, 1), (Some([2; 16]), 2)] {
        let mut w = s.begin(&slot(&k, variance), vary_head(v)).await.unwrap();
        w.write(Bytes::from(body(100_000))).await.unwrap();
        w.finish().await.unwrap();
    }
    // Only the variant is used; then something else needs the room.
    get(&s, &slot(&k, Some([2; 16]))).await.unwrap();
    put(&s, &slot(&key("b.test", "/", None), None), &body(150_000)).await;
    let found = s.find(&slot(&k, None)).await.unwrap().unwrap();
    assert_eq!(found.head.variance, Some([2; 16]));
    // A refresh that was under way for the variant slot still finds it.
    assert_eq!(s.refresh(&slot(&k, Some([2; 16])), vary_head(2)).await, Ok(true));
}

fn ask(fields: &[(&'static str, &str)]) -> HeaderMap {
    fields.iter().map(|(n, v)| (n.parse::<http::HeaderName>().unwrap(), v.parse().unwrap())).collect()
}

async fn put_head(s: &MemoryStore, k: &Key, head: Head, body: &'static [u8]) {
    let primary = s.find(&slot(k, None)).await.unwrap();
    let variance = if primary.is_some() { head.variance } else { None };
    let mut w = s.begin(&slot(k, variance), head).await.unwrap();
    w.write(Bytes::from_static(body)).await.unwrap();
    w.finish().await.unwrap();
}

#[tokio::test]
async fn the_fast_path_serves_whole_fresh_objects_only() {
    let s = store(1 << 20, 1 << 20);
    let k = key("a.test", "/", None);
    let now = SystemTime::now();
    assert!(s.peek_fresh(&k, &HeaderMap::new(), now).is_none());
    let writer = s.begin(&slot(&k, None), head(&[])).await.unwrap();
    assert!(s.peek_fresh(&k, &HeaderMap::new(), now).is_none(), "still being filled");
    drop(writer);
    put(&s, &slot(&k, None), b"hello").await;
    let object = s.peek_fresh(&k, &HeaderMap::new(), now).unwrap();
    assert_eq!(object.chunks().concat(), b"hello");
    let response = object.response(now + Duration::from_secs(5));
    assert_eq!(response.headers.get("content-length").unwrap(), "5");
    assert!(["4", "5"].contains(&response.headers.get("age").unwrap().to_str().unwrap()));
    assert!(object.not_modified(&ask(&[("if-none-match", "W/\"1\"")])));
    assert_eq!(object.response_304(now).status, 304);
    assert!(s.peek_fresh(&k, &HeaderMap::new(), now + Duration::from_secs(61)).is_none(), "stale");
    s.purge(&Target::Url(*k.hash(), k.url_bytes()), Purge::Soft).await.unwrap();
    assert!(s.peek_fresh(&k, &HeaderMap::new(), SystemTime::now()).is_none(), "soft purged");
    assert_eq!(s.stats().hits, 1);
}

#[tokio::test]
async fn rfc9111_4_1_the_fast_path_selects_by_vary() {
    let s = store(1 << 20, 1 << 20);
    let k = key("a.test", "/", None);
    let names = [http::header::ACCEPT_ENCODING];
    for (encoding, body) in [("gzip", b"zipped".as_slice()), ("br", b"brotli")] {
        let mut h = head(&[("vary", "Accept-Encoding")]);
        h.variance = vary::variance(&names, &ask(&[("accept-encoding", encoding)]));
        put_head(&s, &k, h, body).await;
    }
    let now = SystemTime::now();
    let body_for = |e: &str| s.peek_fresh(&k, &ask(&[("accept-encoding", e)]), now).map(|o| o.chunks().concat());
    assert_eq!(body_for("gzip"), Some(b"zipped".to_vec()));
    assert_eq!(body_for("BR;q=0.9"), Some(b"brotli".to_vec()));
    assert_eq!(body_for("br, gzip"), None);
    assert_eq!(s.peek_fresh(&k, &HeaderMap::new(), now).map(|o| o.body_bytes()), None);
    // A variant from before the primary's line is void.
    let mut h = head(&[("vary", "Accept-Encoding")]);
    h.variance = vary::variance(&names, &ask(&[("accept-encoding", "gzip")]));
    let mut w = s.begin(&slot(&k, None), h).await.unwrap();
    w.write(Bytes::from_static(b"newer")).await.unwrap();
    w.finish().await.unwrap();
    assert_eq!(body_for("gzip"), Some(b"newer".to_vec()));
    assert_eq!(body_for("br"), None);
}

#[tokio::test]
async fn pingora_reads_and_writes_through_the_adapter() {
    let adapter: &'static Adapter<MemoryStore> = Box::leak(Box::new(Adapter::new(store(1 << 20, 1 << 20))));
    let span = Span::inactive().handle();
    let k = key("a.test", "/", None).to_pingora();
    let now = SystemTime::now();
    let header = head(&[("etag", "\"1\""), ("age", "7")]).header;
    let mut meta = CacheMeta::new(now + Duration::from_secs(60), now, 5, 6, header);
    meta.set_epoch_override(now - Duration::from_secs(100));
    let mut miss = adapter.get_miss_handler(&k, &meta, &span).await.unwrap();
    let tag = miss.streaming_write_tag().map(<[u8]>::to_vec);
    let (_, mut own) = adapter.lookup_streaming_write(&k, tag.as_deref(), &span).await.unwrap().unwrap();
    miss.write_body(Bytes::from_static(b"abc"), true).await.unwrap();
    assert_eq!(own.read_body().await.unwrap().unwrap(), "abc");
    miss.finish().await.unwrap();
    assert!(own.read_body().await.unwrap().is_none());
    let (found, mut hit) = adapter.lookup(&k, &span).await.unwrap().unwrap();
    assert_eq!((found.stale_while_revalidate_sec(), found.stale_if_error_sec()), (5, 6));
    assert_eq!(found.age().as_secs(), 100);
    assert_eq!(found.provenance(), meta.provenance());
    assert!(!found.headers().contains_key("age") && hit.can_seek());
    hit.seek(1, Some(2)).unwrap();
    assert_eq!(hit.read_body().await.unwrap().unwrap(), "b");
    assert!(adapter.update_meta(&k, &found, &span).await.unwrap());
    // A fill that is cut is an error for its readers (the truncation of Pingora's own store), and an unknown tag is not
    // a panic.
    let miss = adapter.get_miss_handler(&k, &meta, &span).await.unwrap();
    let (_, mut reader) = adapter.lookup(&k, &span).await.unwrap().unwrap();
    drop(miss);
    assert!(reader.read_body().await.is_err());
    assert!(adapter.lookup_streaming_write(&k, tag.as_deref(), &span).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_keep_the_bound_and_never_mix_bodies() {
    const CAPACITY: u64 = 3 << 20;
    const FILL: u64 = 400_000;
    let s = store(CAPACITY, 1 << 20);
    let tasks: Vec<_> = (0..8u64)
        .map(|t| {
            let s = s.clone();
            tokio::spawn(async move {
                for i in 0..300u64 {
                    let n = (i * 7 + t * 13) % 40;
                    let k = key("a.test", &format!("/{n}"), None);
                    let mark = u8::try_from(n).unwrap();
                    match i % 5 {
                        0 | 1 => {
                            let Ok(mut w) = s.begin(&slot(&k, None), head(&[])).await else { continue };
                            for _ in 0..4 {
                                let _ = w.write(Bytes::from(vec![mark; 100_000 - usize::from(mark)])).await;
                                tokio::task::yield_now().await;
                            }
                            if i % 3 != 0 {
                                w.finish().await.unwrap();
                            }
                        }
                        4 if i % 35 == 4 => {
                            s.purge(&Target::Url(*k.hash(), k.url_bytes()), Purge::Hard).await.unwrap();
                        }
                        _ => {
                            let Some(mut found) = s.find(&slot(&k, None)).await.unwrap() else { continue };
                            match drain(&mut found.body).await {
                                Ok(body) => {
                                    assert_eq!(body.len(), 4 * (100_000 - usize::from(mark)));
                                    assert!(body.iter().all(|b| *b == mark));
                                }
                                Err(e) => assert_eq!(e, StoreError::Cut),
                            }
                        }
                    }
                    assert!(s.stats().bytes <= CAPACITY + 8 * FILL);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let stats = s.stats();
    assert!(stats.bytes <= CAPACITY && stats.filling_bytes == 0, "{stats:?}");
    for n in 0..40 {
        let k = key("a.test", &format!("/{n}"), None);
        s.purge(&Target::Url(*k.hash(), k.url_bytes()), Purge::Hard).await.unwrap();
    }
    assert_eq!((s.stats().bytes, s.stats().objects), (0, 0), "nothing is counted that is not there");
}

#[derive(Clone, Debug)]
enum Op {
    Put(u8, u8, u16),
    Cut(u8, u8),
    Get(u8, u8),
    PurgeUrl(u8),
    Refresh(u8, u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..6u8, 0..3u8, 0..2000u16).prop_map(|(u, v, n)| Op::Put(u, v, n)),
        (0..6u8, 0..3u8).prop_map(|(u, v)| Op::Cut(u, v)),
        (0..6u8, 0..3u8).prop_map(|(u, v)| Op::Get(u, v)),
        (0..6u8).prop_map(Op::PurgeUrl),
        (0..6u8, 0..3u8).prop_map(|(u, v)| Op::Refresh(u, v)),
    ]
}

async fn apply(s: &MemoryStore, model: &mut HashMap<(u8, u8), Vec<u8>>, op: Op, roomy: bool) {
    let at = |u: u8| key("a.test", &format!("/{u}"), None);
    let variance = |v: u8| (v > 0).then_some([v; 16]);
    match op {
        Op::Put(u, v, n) => {
            let body = vec![u * 16 + v; usize::from(n)];
            put(s, &slot(&at(u), variance(v)), &body).await;
            model.insert((u, v), body);
        }
        Op::Cut(u, v) => {
            let k = at(u);
            let mut w = s.begin(&slot(&k, variance(v)), head(&[])).await.unwrap();
            w.write(Bytes::from_static(b"never stored")).await.unwrap();
        }
        Op::Get(u, v) => {
            let got = get(s, &slot(&at(u), variance(v))).await;
            match (&got, model.get(&(u, v))) {
                (None, Some(_)) => assert!(!roomy, "lost {u} {v}"),
                // In a store that evicts, a variant may have moved into the primary slot.
                (Some(g), want) => assert!(Some(g) == want || (!roomy && v == 0)),
                (None, None) => {}
            }
        }
        Op::PurgeUrl(u) => {
            let k = at(u);
            s.purge(&Target::Url(*k.hash(), k.url_bytes()), Purge::Hard).await.unwrap();
            model.retain(|(m, _), _| *m != u);
        }
        Op::Refresh(u, v) => {
            let there = s.refresh(&slot(&at(u), variance(v)), head(&[("x", "y")])).await.unwrap();
            assert!(!roomy || there == model.contains_key(&(u, v)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_like_a_map(ops in proptest::collection::vec(op(), 1..120), roomy in any::<bool>()) {
        let rt = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        rt.block_on(async {
            let capacity = if roomy { 1 << 22 } else { 12_000 };
            let s = store(capacity, 4_000);
            let mut model = HashMap::new();
            for op in ops {
                apply(&s, &mut model, op, roomy).await;
                assert!(s.stats().bytes <= capacity);
            }
            if roomy {
                assert_eq!(s.stats().objects, model.len() as u64);
            }
        });
    }
}

#[test]
fn a_head_costs_what_it_holds() {
    let small = head(&[]).cost();
    let large = head(&[("x", &"v".repeat(5_000))]).cost();
    assert!(large >= small + 5_000);
}
