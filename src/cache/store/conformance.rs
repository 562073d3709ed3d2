//! What every store must do, whatever it keeps objects on. A store's own tests call [`run`] with a way to open a store.

use super::memory::Limits;
use super::{CHUNK_BYTES, Head, Purge, Reader, Slot, Store, StoreError, Target, Writer};
use crate::cache::key::{Key, KeyRules, Place};
use bytes::Bytes;
use http::HeaderMap;
use pingora::http::ResponseHeader;
use pingora_cache::CacheMeta;
use pingora_cache::key::HashBinary;
use std::time::{Duration, SystemTime};

/// A key for `http://{host}{target}` with a policy arm.
pub fn key(host: &str, target: &str, arm: Option<&str>) -> Key {
    let vary: Vec<_> = arm.map(|a| ("arm".to_owned(), a.to_owned())).into_iter().collect();
    Key::of(&Place::of(false, host, target.as_bytes()), &KeyRules::default(), &HeaderMap::new(), &vary)
}

pub fn slot(key: &Key, variance: Option<HashBinary>) -> Slot<'_> {
    Slot { hash: *key.hash(), variance, key: key.bytes() }
}

/// A fresh 200 with these fields.
pub fn head(fields: &[(&'static str, &str)]) -> Head {
    let mut header = ResponseHeader::build_no_case(200, None).unwrap();
    for (name, value) in fields {
        header.append_header(*name, *value).unwrap();
    }
    let now = SystemTime::now();
    Head::from_meta(&CacheMeta::new(now + Duration::from_secs(60), now, 30, 30, header))
}

pub async fn put<S: Store>(store: &S, slot: &Slot<'_>, body: &[u8]) {
    let mut w = store.begin(slot, head(&[("etag", "\"1\"")])).await.unwrap();
    w.write(Bytes::copy_from_slice(body)).await.unwrap();
    w.finish().await.unwrap();
}

pub async fn drain<R: Reader>(reader: &mut R) -> Result<Vec<u8>, StoreError> {
    let mut out = Vec::new();
    while let Some(piece) = reader.next().await? {
        assert!(piece.len() <= CHUNK_BYTES && !piece.is_empty());
        out.extend_from_slice(&piece);
    }
    Ok(out)
}

pub async fn get<S: Store>(store: &S, slot: &Slot<'_>) -> Option<Vec<u8>> {
    let mut found = store.find(slot).await.unwrap()?;
    Some(drain(&mut found.body).await.unwrap())
}

/// A body in which every place looks different.
pub fn body(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| u8::try_from((i * 31 + i / 251) % 256).unwrap()).collect()
}

const MIB: u64 = 1 << 20;

/// Runs the whole suite.
pub async fn run<S: Store>(open: impl Fn(Limits) -> S) {
    run_but_bound(&open).await;
    the_bound_holds(&open(Limits { capacity_bytes: 16 * MIB, object_bytes_max: 4 * MIB })).await;
}

/// The suite but for the bound's figures, which are those of a store with all of its capacity in memory.
pub async fn run_but_bound<S: Store>(open: &impl Fn(Limits) -> S) {
    let small = Limits { capacity_bytes: 16 * MIB, object_bytes_max: 4 * MIB };
    keeps_what_it_is_given(&open(small)).await;
    answers_ranges(&open(small)).await;
    readers_follow_a_fill(&open(small)).await;
    a_dropped_writer_is_an_error_never_an_end(&open(small)).await;
    a_short_body_is_not_stored(&open(small)).await;
    a_fill_leaves_the_old_object_until_it_ends(&open(small)).await;
    purge_takes_all_of_a_url_and_nothing_else(&open(small)).await;
    a_purge_voids_fills_in_flight(&open(small)).await;
    soft_purge_keeps_the_body(&open(small)).await;
    refresh_changes_the_header_only(&open(small)).await;
    too_large_is_passed_on_not_stored(&open(small)).await;
}

async fn keeps_what_it_is_given<S: Store>(store: &S) {
    let (a, b) = (key("a.test", "/", None), key("b.test", "/", None));
    assert!(get(store, &slot(&a, None)).await.is_none());
    for size in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7] {
        put(store, &slot(&a, None), &body(size)).await;
        assert_eq!(get(store, &slot(&a, None)).await.unwrap(), body(size), "{size}");
    }
    assert!(get(store, &slot(&b, None)).await.is_none());
    assert!(get(store, &slot(&a, Some([7; 16]))).await.is_none());
    put(store, &slot(&a, Some([7; 16])), b"variant").await;
    assert_eq!(get(store, &slot(&a, Some([7; 16]))).await.unwrap(), b"variant");
    // Another key under the same hash must not see it.
    let collision = Slot { key: b"another", ..slot(&a, None) };
    assert!(get(store, &collision).await.is_none());
}

async fn answers_ranges<S: Store>(store: &S) {
    let k = key("a.test", "/r", None);
    let whole = body(2 * CHUNK_BYTES + 100);
    put(store, &slot(&k, None), &whole).await;
    let mut reader = store.find(&slot(&k, None)).await.unwrap().unwrap().body;
    assert_eq!(reader.length(), Some(whole.len() as u64));
    for (start, end) in
        [(0, 1), (5, CHUNK_BYTES + 5), (CHUNK_BYTES, 2 * CHUNK_BYTES), (whole.len() - 3, whole.len() + 9)]
    {
        reader.seek(start as u64, Some(end as u64)).unwrap();
        assert_eq!(drain(&mut reader).await.unwrap(), whole[start..end.min(whole.len())]);
    }
    reader.seek(7, None).unwrap();
    assert_eq!(drain(&mut reader).await.unwrap(), whole[7..]);
    assert_eq!(reader.seek(whole.len() as u64, None), Err(StoreError::Range));
}

async fn readers_follow_a_fill<S: Store>(store: &S) {
    let k = key("a.test", "/f", None);
    let whole = body(CHUNK_BYTES * 2 + 10);
    let mut writer = store.begin(&slot(&k, None), head(&[])).await.unwrap();
    let mut own = store.follow(&slot(&k, None), writer.id()).await.unwrap().unwrap().body;
    let mut other = store.find(&slot(&k, None)).await.unwrap().unwrap().body;
    writer.write(Bytes::copy_from_slice(&whole[..10])).await.unwrap();
    assert_eq!(own.next().await.unwrap().unwrap(), whole[..10]);
    // A wait that is given up loses nothing.
    assert!(tokio::time::timeout(Duration::from_millis(5), own.next()).await.is_err());
    for piece in whole[10..].chunks(100_000) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    let reading = tokio::spawn(async move { (drain(&mut own).await, drain(&mut other).await) });
    writer.finish().await.unwrap();
    let (own, other) = reading.await.unwrap();
    assert_eq!(own.unwrap(), whole[10..]);
    assert_eq!(other.unwrap(), whole);
    assert_eq!(get(store, &slot(&k, None)).await.unwrap(), whole);
    // A range of what is still to come waits for it.
    let mut writer = store.begin(&slot(&k, None), head(&[("content-length", "100")])).await.unwrap();
    let mut reader = store.follow(&slot(&k, None), writer.id()).await.unwrap().unwrap().body;
    reader.seek(50, Some(60)).unwrap();
    assert_eq!(reader.seek(100, None), Err(StoreError::Range));
    writer.write(Bytes::copy_from_slice(&whole[..100])).await.unwrap();
    assert_eq!(drain(&mut reader).await.unwrap(), whole[50..60]);
}

async fn a_dropped_writer_is_an_error_never_an_end<S: Store>(store: &S) {
    let k = key("a.test", "/cut", None);
    let mut writer = store.begin(&slot(&k, None), head(&[])).await.unwrap();
    let mut waiting = store.follow(&slot(&k, None), writer.id()).await.unwrap().unwrap().body;
    writer.write(Bytes::from_static(b"half of it")).await.unwrap();
    assert!(waiting.next().await.unwrap().is_some());
    let task = tokio::spawn(async move { waiting.next().await });
    tokio::task::yield_now().await;
    drop(writer);
    assert_eq!(task.await.unwrap(), Err(StoreError::Cut));
    assert!(store.find(&slot(&k, None)).await.unwrap().is_none());
    assert_eq!(store.stats().filling_bytes, 0);
}

async fn a_short_body_is_not_stored<S: Store>(store: &S) {
    let k = key("a.test", "/short", None);
    let mut writer = store.begin(&slot(&k, None), head(&[("content-length", "100")])).await.unwrap();
    let mut reader = store.follow(&slot(&k, None), writer.id()).await.unwrap().unwrap().body;
    writer.write(Bytes::from_static(b"not a hundred")).await.unwrap();
    assert_eq!(writer.finish().await, Err(StoreError::Cut));
    assert_eq!(drain(&mut reader).await, Err(StoreError::Cut));
    assert!(store.find(&slot(&k, None)).await.unwrap().is_none());
}

async fn a_fill_leaves_the_old_object_until_it_ends<S: Store>(store: &S) {
    let k = key("a.test", "/old", None);
    put(store, &slot(&k, None), b"old").await;
    let writer = store.begin(&slot(&k, None), head(&[])).await.unwrap();
    drop(writer);
    assert_eq!(get(store, &slot(&k, None)).await.unwrap(), b"old");
    let mut writer = store.begin(&slot(&k, None), head(&[])).await.unwrap();
    let mut reader = store.find(&slot(&k, None)).await.unwrap().unwrap().body;
    writer.write(Bytes::from_static(b"new")).await.unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap(), "new");
    writer.finish().await.unwrap();
    assert_eq!(get(store, &slot(&k, None)).await.unwrap(), b"new");
    assert_eq!(store.stats().objects, 1);
}

async fn purge_takes_all_of_a_url_and_nothing_else<S: Store>(store: &S) {
    let (plain, red) = (key("a.test", "/p?x=1", None), key("a.test", "/p?x=1", Some("red")));
    let others = [key("a.test", "/p?x=2", None), key("b.test", "/p?x=1", None), key("a.test", "/p", None)];
    for k in others.iter().chain([&plain, &red]) {
        put(store, &slot(k, None), b"x").await;
        put(store, &slot(k, Some([1; 16])), b"y").await;
    }
    // One key with its variants.
    assert_eq!(store.purge(&Target::Key(*red.hash()), Purge::Hard).await.unwrap(), 2);
    assert!(get(store, &slot(&red, Some([1; 16]))).await.is_none());
    assert!(get(store, &slot(&plain, None)).await.is_some());
    put(store, &slot(&red, None), b"x").await;
    // All keys of the URL.
    let url = Target::Url(*plain.hash(), plain.url_bytes());
    assert_eq!(store.purge(&url, Purge::Hard).await.unwrap(), 3);
    assert_eq!(store.purge(&url, Purge::Hard).await.unwrap(), 0);
    for k in [&plain, &red] {
        assert!(get(store, &slot(k, None)).await.is_none() && get(store, &slot(k, Some([1; 16]))).await.is_none());
    }
    for k in &others {
        assert!(get(store, &slot(k, None)).await.is_some() && get(store, &slot(k, Some([1; 16]))).await.is_some());
    }
}

async fn a_purge_voids_fills_in_flight<S: Store>(store: &S) {
    let k = key("a.test", "/race", None);
    let mut writer = store.begin(&slot(&k, None), head(&[])).await.unwrap();
    let mut reader = store.follow(&slot(&k, None), writer.id()).await.unwrap().unwrap().body;
    writer.write(Bytes::from_static(b"from before the purge")).await.unwrap();
    store.purge(&Target::Url(*k.hash(), k.url_bytes()), Purge::Hard).await.unwrap();
    assert!(store.find(&slot(&k, None)).await.unwrap().is_none());
    assert_eq!(writer.finish().await, Ok(0));
    assert_eq!(drain(&mut reader).await.unwrap(), b"from before the purge");
    assert!(store.find(&slot(&k, None)).await.unwrap().is_none());
    assert_eq!(store.stats().bytes, 0);
}

async fn soft_purge_keeps_the_body<S: Store>(store: &S) {
    let k = key("a.test", "/soft", None);
    put(store, &slot(&k, None), b"body").await;
    assert_eq!(store.purge(&Target::Url(*k.hash(), k.url_bytes()), Purge::Soft).await.unwrap(), 1);
    let found = store.find(&slot(&k, None)).await.unwrap().unwrap();
    assert!(found.head.fresh_until < SystemTime::now());
    assert_eq!((found.head.swr_secs, found.head.sie_secs), (30, 30));
    assert_eq!(get(store, &slot(&k, None)).await.unwrap(), b"body");
}

async fn refresh_changes_the_header_only<S: Store>(store: &S) {
    let k = key("a.test", "/304", None);
    assert_eq!(store.refresh(&slot(&k, None), head(&[])).await, Ok(false));
    put(store, &slot(&k, None), b"body").await;
    let before = store.stats().bytes;
    let longer = "v".repeat(1000);
    assert_eq!(store.refresh(&slot(&k, None), head(&[("etag", "\"1\""), ("x-new", &longer)])).await, Ok(true));
    let found = store.find(&slot(&k, None)).await.unwrap().unwrap();
    assert!(found.head.header.headers.contains_key("x-new"));
    assert_eq!(found.head.header.headers.get("content-length").unwrap(), "4");
    assert_eq!(get(store, &slot(&k, None)).await.unwrap(), b"body");
    assert!(store.stats().bytes > before + 1000);
    store.purge(&Target::Key(*k.hash()), Purge::Hard).await.unwrap();
    assert_eq!(store.stats().bytes, 0);
}

async fn too_large_is_passed_on_not_stored<S: Store>(store: &S) {
    let k = key("a.test", "/big", None);
    let length = (4 * MIB + 1).to_string();
    let refused = store.begin(&slot(&k, None), head(&[("content-length", &length)])).await;
    assert_eq!(refused.err(), Some(StoreError::TooLarge));
    // Of unknown length: those who read it get all of it, nobody finds it afterwards, and it is no longer counted.
    let whole = body(usize::try_from(6 * MIB).unwrap());
    let mut writer = store.begin(&slot(&k, None), head(&[])).await.unwrap();
    let mut reader = store.follow(&slot(&k, None), writer.id()).await.unwrap().unwrap().body;
    let mut got = Vec::new();
    for piece in whole.chunks(60_000) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
        got.extend_from_slice(&reader.next().await.unwrap().unwrap());
    }
    assert!(store.find(&slot(&k, None)).await.unwrap().is_none());
    assert_eq!(writer.finish().await, Ok(0));
    got.extend(drain(&mut reader).await.unwrap());
    assert_eq!(got, whole);
    assert_eq!((store.stats().objects, store.stats().bytes), (0, 0));
    // When the last reader leaves, the fetch is stopped.
    let mut writer = store.begin(&slot(&k, None), head(&[])).await.unwrap();
    let mut refused = Ok(());
    for piece in whole.chunks(60_000) {
        refused = writer.write(Bytes::copy_from_slice(piece)).await;
        if refused.is_err() {
            break;
        }
    }
    assert_eq!(refused, Err(StoreError::TooLarge));
}

async fn the_bound_holds<S: Store>(store: &S) {
    for i in 0..200 {
        put(store, &slot(&key("a.test", &format!("/{i}"), None), None), &body(300_000)).await;
        assert!(store.stats().bytes <= 16 * MIB, "{:?}", store.stats());
    }
    let stats = store.stats();
    assert!(stats.objects >= 45 && stats.evictions >= 140 && stats.filling_bytes == 0, "{stats:?}");
    // Fills alone may not take more than the store has either.
    let mut writers = Vec::new();
    for i in 0..20 {
        let k = key("a.test", &format!("/w{i}"), None);
        let Ok(mut writer) = store.begin(&slot(&k, None), head(&[])).await else { continue };
        let reader = store.follow(&slot(&k, None), writer.id()).await.unwrap().unwrap().body;
        writer.write(Bytes::from(body(1_000_000))).await.unwrap();
        assert!(store.stats().bytes <= 16 * MIB, "{:?}", store.stats());
        writers.push((writer, reader));
    }
    drop(writers);
    assert_eq!(store.stats().filling_bytes, 0);
}
