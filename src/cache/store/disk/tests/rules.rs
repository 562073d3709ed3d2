//! Who is written, who goes, and that the bound holds.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_only_once_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { capacity_bytes: 4 * MIB, object_bytes_max: MIB };
    let opened = open_with(&options(dir.path(), false, &Clock::system()), limits);
    let (once, hit, again) = (key("a.test", "/once", None), key("a.test", "/hit", None), key("a.test", "/again", None));
    for k in [&once, &hit, &again] {
        put(&opened.store, &slot(k, None), b"x").await;
    }
    opened.disk.flush().await;
    assert_eq!(opened.disk.stats().written, 0);
    // Found in memory: the second request.
    assert!(get(&opened.store, &slot(&hit, None)).await.is_some());
    // Stored a second time.
    put(&opened.store, &slot(&again, None), b"y").await;
    opened.disk.flush().await;
    assert_eq!(opened.disk.stats().written, 2);
    // Everything leaves memory: only those two are still there.
    opened.store.clear_memory();
    assert!(get(&opened.store, &slot(&once, None)).await.is_none());
    assert_eq!(get(&opened.store, &slot(&hit, None)).await.unwrap(), b"x");
    assert_eq!(get(&opened.store, &slot(&again, None)).await.unwrap(), b"y");
    // The fast path counts as a request too.
    opened.store.clear_memory();
    let fast = key("a.test", "/fast", None);
    put(&opened.store, &slot(&fast, None), b"z").await;
    assert!(opened.store.peek_fresh(&fast, &HeaderMap::new(), SystemTime::now()).is_some());
    opened.disk.flush().await;
    assert_eq!(opened.disk.stats().written, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_object_takes_the_older_one_off_the_disk_even_unwritten() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let k = key("a.test", "/v", None);
    put(&opened.store, &slot(&k, None), b"old").await;
    opened.disk.flush().await;
    opened.disk.inner.files.fault.store(28, Ordering::SeqCst);
    put(&opened.store, &slot(&k, None), b"new").await;
    opened.disk.flush().await;
    opened.store.clear_memory();
    assert!(get(&opened.store, &slot(&k, None)).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_never_exceed_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    for i in 0..400_usize {
        let size = [900, 20_000, 300_000, 1_200_000][i % 4];
        put(&opened.store, &slot(&key("a.test", &format!("/{i}"), None), None), &body(size)).await;
        if i % 10 == 0 {
            opened.disk.flush().await;
        }
        assert!(files_bytes(dir.path()) <= 16 * MIB, "{i}: {:?}", opened.disk.stats());
    }
    opened.disk.flush().await;
    let stats = opened.disk.stats();
    assert!(stats.evicted > 100 && stats.bytes <= 16 * MIB && stats.objects > 20, "{stats:?}");
    // What is said to be there is.
    let mut there = 0;
    for i in 0..400_usize {
        let k = key("a.test", &format!("/{i}"), None);
        if let Some(got) = get(&opened.store, &slot(&k, None)).await {
            assert_eq!(got, body([900, 20_000, 300_000, 1_200_000][i % 4]));
            there += 1;
        }
    }
    assert!(there >= stats.objects, "{there} {stats:?}");
    // A lower bound next time is kept at once.
    assert!(opened.disk.close(Duration::from_secs(10)).await);
    let lower = DiskOptions { size_bytes: 6 * MIB, ..options(dir.path(), true, &Clock::system()) };
    let again = DiskStore::open(&lower).unwrap();
    assert!(files_bytes(dir.path()) <= 6 * MIB && again.stats().objects > 0, "{:?}", again.stats());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_does_not_wash_out_what_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let used: Vec<_> = (0..20).map(|i| key("a.test", &format!("/used/{i}"), None)).collect();
    for k in &used {
        put(&opened.store, &slot(k, None), &body(10_000)).await;
    }
    for i in 0..2_000_usize {
        put(&opened.store, &slot(&key("a.test", &format!("/scan/{i}"), None), None), &body(20_000)).await;
        if i % 100 == 0 {
            opened.disk.flush().await;
            for k in &used {
                // From disk, not from memory.
                opened.disk.find(&slot(k, None)).await;
            }
        }
    }
    opened.disk.flush().await;
    opened.store.clear_memory();
    for k in &used {
        assert_eq!(get(&opened.store, &slot(k, None)).await.unwrap(), body(10_000));
    }
    assert!(opened.disk.stats().kept >= 20, "{:?}", opened.disk.stats());
    assert!(get(&opened.store, &slot(&key("a.test", "/scan/0", None), None)).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual();
    let limits = Limits { capacity_bytes: 4 * MIB, object_bytes_max: 4 * MIB };
    let opened = open_with(&options(dir.path(), true, &clock), limits);
    let (a, b, c) = (key("a.test", "/a", None), key("a.test", "/b", None), key("a.test", "/c", None));
    put(&opened.store, &slot(&a, None), b"a").await;
    opened.disk.flush().await;
    opened.disk.inner.files.fault.store(28, Ordering::SeqCst);
    put(&opened.store, &slot(&b, None), b"b").await;
    // A large one goes on to its reader all the same.
    let mut writer = opened.store.begin(&slot(&c, None), head(&[])).await.unwrap();
    let mut reader = opened.store.follow(&slot(&c, None), writer.id()).await.unwrap().unwrap().body;
    for piece in body(1_000_000).chunks(100_000) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    writer.finish().await.unwrap();
    assert_eq!(super::super::super::conformance::drain(&mut reader).await.unwrap(), body(1_000_000));
    opened.disk.flush().await;
    let stats = opened.disk.stats();
    assert!(stats.failing && stats.dropped >= 1, "{stats:?}");
    assert_eq!(get(&opened.store, &slot(&b, None)).await.unwrap(), b"b", "memory goes on");
    // Not before its time, then again.
    opened.disk.inner.files.fault.store(0, Ordering::SeqCst);
    put(&opened.store, &slot(&b, None), b"b2").await;
    opened.disk.flush().await;
    assert!(opened.disk.stats().failing);
    clock.advance(Duration::from_secs(61));
    put(&opened.store, &slot(&b, None), b"b3").await;
    opened.disk.flush().await;
    assert!(!opened.disk.stats().failing, "{:?}", opened.disk.stats());
    let copy = killed(&opened).await;
    assert_eq!(get(&open(copy.path()).store, &slot(&b, None)).await.unwrap(), b"b3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_needs_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let k = key("a.test", "/large", None);
    let whole = body(3_700_001);
    for length in [true, false] {
        let text = whole.len().to_string();
        let fields: &[(&'static str, &str)] = if length { &[("content-length", &text)] } else { &[] };
        let mut writer = opened.store.begin(&slot(&k, None), head(fields)).await.unwrap();
        let mut slow = opened.store.follow(&slot(&k, None), writer.id()).await.unwrap().unwrap().body;
        for piece in whole.chunks(60_001) {
            writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
            assert!(opened.store.stats().filling_bytes < MIB, "{:?}", opened.store.stats());
        }
        // What memory let go of is read from the file, before the end and after.
        assert!(super::super::super::Reader::next(&mut slow).await.unwrap().unwrap() == whole[..CHUNK]);
        assert_eq!(writer.finish().await.unwrap(), whole.len() as u64);
        let rest = super::super::super::conformance::drain(&mut slow).await.unwrap();
        assert_eq!(rest, whole[CHUNK..]);
        assert_eq!(get(&opened.store, &slot(&k, None)).await.unwrap(), whole);
        assert_eq!((opened.store.stats().bytes, opened.store.stats().filling_bytes), (0, 0));
    }
    assert_eq!(opened.disk.stats().objects, 1);
    // One that is cut leaves nothing, and its file goes.
    let mut writer = opened.store.begin(&slot(&k, None), head(&[])).await.unwrap();
    writer.write(Bytes::from(body(1_000_000))).await.unwrap();
    drop(writer);
    opened.disk.flush().await;
    assert!(
        std::fs::read_dir(dir.path()).unwrap().all(|e| !e.unwrap().file_name().to_string_lossy().ends_with("part"))
    );
    assert_eq!(get(&opened.store, &slot(&k, None)).await.unwrap(), whole);
    // A purge meanwhile voids it.
    let mut writer = opened.store.begin(&slot(&k, None), head(&[])).await.unwrap();
    writer.write(Bytes::from(body(1_000_000))).await.unwrap();
    opened.store.purge(&Target::Url(*k.hash(), k.url_bytes()), Purge::Hard).await.unwrap();
    assert_eq!(writer.finish().await, Ok(0));
    assert!(get(&opened.store, &slot(&k, None)).await.is_none());
}

const CHUNK: usize = super::super::super::CHUNK_BYTES;
