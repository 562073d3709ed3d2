//! Tests of the disk level: what outlives a restart, what must not, and what a failing or lying disk does.

mod damage;
mod purges;
mod rules;

use super::super::conformance::{body, get, head, key, put, run, run_but_bound, slot};
use super::super::memory::Limits;
use super::super::tiered::TieredStore;
use super::super::{Head, Purge, Store, Target, Writer};
use super::*;
use crate::cache::purge::Book;
use crate::cache::purge::Filed;
use bytes::Bytes;
use http::HeaderMap;
use std::path::Path;
use std::time::SystemTime;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

struct Opened {
    store: TieredStore,
    disk: Arc<DiskStore>,
}

fn options(folder: &Path, always: bool, clock: &Clock) -> DiskOptions {
    DiskOptions { folder: folder.to_owned(), size_bytes: 16 * MIB, always, clock: clock.clone() }
}

fn open_with(options: &DiskOptions, limits: Limits) -> Opened {
    let disk = Arc::new(DiskStore::open(options).unwrap());
    let store = TieredStore::new(limits, options.clock.clone(), Arc::clone(disk.book()));
    store.attach(Arc::clone(&disk));
    Opened { store, disk }
}

/// 1 MiB of memory over 16 MiB of disk; everything is written.
fn open(folder: &Path) -> Opened {
    let limits = Limits { capacity_bytes: MIB, object_bytes_max: 4 * MIB };
    open_with(&options(folder, true, &Clock::system()), limits)
}

/// What a kill at this moment would leave: a copy of the folder.
async fn killed(opened: &Opened) -> TempDir {
    opened.disk.flush().await;
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(opened.disk.inner.files.folder()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn files_bytes(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().metadata().map_or(0, |m| m.len())).sum()
}

async fn conforms(capacity_of: impl Fn(u64) -> u64, all: bool) {
    let dirs = std::cell::RefCell::new(Vec::new());
    let open = |limits: Limits| {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { capacity_bytes: capacity_of(limits.capacity_bytes), ..limits };
        let opened = open_with(&options(dir.path(), true, &Clock::system()), limits);
        dirs.borrow_mut().push(dir);
        opened.store
    };
    if all {
        run(open).await;
    } else {
        run_but_bound(&open).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_levels_conform() {
    conforms(|capacity| capacity, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tiny_memory_over_a_disk_conforms() {
    conforms(|_| MIB, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_disk_it_is_the_memory_store() {
    run(|limits| TieredStore::new(limits, Clock::system(), Arc::new(Book::new(Clock::system())))).await;
}

/// A head with everything in it that must come back exactly.
fn full_head() -> Head {
    let mut head = head(&[("etag", "\"x\""), ("vary", "accept-language"), ("x-raw", "a"), ("x-raw", "b")]);
    head.variance = Some([9; 16]);
    head.filed = Filed { tags: ["a".into(), "Ä b".into()].into(), generation: 7 };
    head.epoch = SystemTime::now() - Duration::from_secs(100);
    head.header.set_reason_phrase(Some("Fine")).unwrap();
    head
}

async fn put_head(store: &TieredStore, slot: &Slot<'_>, head: Head, bytes: &[u8]) {
    let mut w = store.begin(slot, head).await.unwrap();
    for piece in bytes.chunks(100_000) {
        w.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    w.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_every_object_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [0, 1, 65_536, 65_537, 300_000, 1_500_000];
    let first = open(dir.path());
    let wanted = full_head();
    for size in sizes {
        put_head(&first.store, &slot(&key("a.test", &format!("/{size}"), None), None), wanted.clone(), &body(size))
            .await;
    }
    for kill in [true, false] {
        let copy = killed(&first).await;
        let second = if kill {
            open(copy.path())
        } else {
            assert!(first.disk.close(Duration::from_secs(10)).await);
            open(dir.path())
        };
        assert_eq!(second.disk.stats().objects, sizes.len() as u64);
        for size in sizes {
            let k = key("a.test", &format!("/{size}"), None);
            let found = second.store.find(&slot(&k, None)).await.unwrap().unwrap();
            let got = &found.head;
            assert_eq!(
                (got.fresh_until, got.created, got.provenance),
                (wanted.fresh_until, wanted.created, wanted.provenance)
            );
            assert_eq!((got.epoch, got.swr_secs, got.sie_secs), (wanted.epoch, wanted.swr_secs, wanted.sie_secs));
            assert_eq!((&got.filed, got.variance, &got.vary), (&wanted.filed, wanted.variance, &wanted.vary));
            assert_eq!((got.length, got.header.get_reason_phrase()), (Some(size as u64), Some("Fine")));
            assert_eq!(got.header.headers.get_all("x-raw").iter().count(), 2);
            assert_eq!(get(&second.store, &slot(&k, None)).await.unwrap(), body(size), "{size}");
            // The variant is found in its own slot too.
            assert_eq!(get(&second.store, &slot(&k, Some([9; 16]))).await.unwrap(), body(size));
            assert!(get(&second.store, &slot(&k, Some([8; 16]))).await.is_none());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_replaced_refreshed_or_purged_stays_so_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let keys: Vec<_> = ["/replaced", "/refreshed", "/purged", "/soft", "/large"].map(|p| key("a.test", p, None)).into();
    let [replaced, refreshed, purged, soft, large] = keys.as_slice() else { unreachable!() };
    for k in &keys {
        put(&first.store, &slot(k, None), &body(700)).await;
    }
    put(&first.store, &slot(large, None), &body(2_000_000)).await;
    put(&first.store, &slot(replaced, None), b"new").await;
    first.disk.flush().await;
    // Both in memory and on disk only.
    for _ in 0..2 {
        for k in [refreshed, large] {
            assert_eq!(first.store.refresh(&slot(k, None), head(&[("x-new", "1")])).await, Ok(true));
        }
        first.store.clear_memory();
    }
    let url = |k: &'_ Key| *k.hash();
    first.store.purge(&Target::Url(url(purged), purged.url_bytes()), Purge::Hard).await.unwrap();
    assert_eq!(first.store.purge(&Target::Url(url(soft), soft.url_bytes()), Purge::Soft).await, Ok(1));
    let copy = killed(&first).await;
    for opened in [&first, &open(copy.path())] {
        let s = &opened.store;
        assert_eq!(get(s, &slot(replaced, None)).await.unwrap(), b"new");
        for (k, size) in [(refreshed, 700), (large, 2_000_000)] {
            let found = s.find(&slot(k, None)).await.unwrap().unwrap();
            assert!(found.head.header.headers.contains_key("x-new"));
            assert_eq!(found.head.header.headers.get("content-length").unwrap(), &size.to_string());
            assert_eq!(get(s, &slot(k, None)).await.unwrap(), body(size));
        }
        assert!(get(s, &slot(purged, None)).await.is_none());
        let found = s.find(&slot(soft, None)).await.unwrap().unwrap();
        assert!(found.head.fresh_until < SystemTime::now());
        assert_eq!(get(s, &slot(soft, None)).await.unwrap(), body(700));
    }
}

use crate::cache::key::Key;

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let again = DiskStore::open(&options(dir.path(), true, &Clock::system()));
    assert!(matches!(again, Err(FolderError::InUse { .. })), "{again:?}");
    assert!(first.disk.close(Duration::from_secs(10)).await);
    assert!(DiskStore::open(&options(dir.path(), true, &Clock::system())).is_ok());
}

#[test]
fn an_entry_is_small() {
    assert_eq!(size_of::<Entry>(), 48);
    let index = Index::new();
    for n in 0..200_000_u64 {
        let hash = *key("a.test", &n.to_string(), None).hash();
        let id = SlotId::of(&hash, None);
        let listed = format::Listed {
            group: id.group,
            rest: id.rest,
            variant: 0,
            primary: true,
            at: 64,
            bytes: 1,
            seq: n,
            body_segment: 1,
        };
        assert!(index.insert(Entry::new(1, &listed).unwrap(), true).is_empty());
    }
    assert_eq!(index.objects(), 200_000);
    assert!(index.memory_bytes() / 200_000 <= 200, "{}", index.memory_bytes());
}
