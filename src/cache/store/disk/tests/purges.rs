//! Purges by rule over both levels: in force at once, after a kill, and after the sweep has let go of the rules.

use super::{Opened, body, get, head, killed, open_with, options, put_head};
use crate::base::clock::Clock;
use crate::cache::key::Key;
use crate::cache::purge::sweep::{GRACE, Sweep};
use crate::cache::purge::{Filed, Kind, Rule};
use crate::cache::store::conformance::{key, slot};
use crate::cache::store::memory::Limits;
use crate::cache::store::{Head, Store, Writer};
use bytes::Bytes;
use std::path::Path;
use std::time::{Duration, SystemTime};

const PATHS: [&str; 4] = ["/hard", "/soft", "/live", "/large"];

fn opened(folder: &Path, clock: &Clock) -> Opened {
    open_with(&options(folder, true, clock), Limits { capacity_bytes: 1 << 20, object_bytes_max: 4 << 20 })
}

fn keys() -> Vec<Key> {
    PATHS.map(|p| key("a.test", p, None)).into()
}

fn size(path: &str) -> usize {
    if path == "/large" { 2_000_000 } else { 3_000 }
}

fn tagged(path: &str, generation: u64) -> Head {
    let tag = path.trim_start_matches('/').into();
    let fresh_until = SystemTime::now() + Duration::from_secs(86_400);
    Head { filed: Filed { tags: [tag].into(), generation }, fresh_until, ..head(&[]) }
}

/// All four on disk, then purged: `/hard` and `/large` hard, `/soft` softly.
async fn purged(folder: &Path, clock: &Clock) -> Opened {
    let o = opened(folder, clock);
    for (path, k) in PATHS.iter().zip(keys()) {
        put_head(&o.store, &slot(&k, None), tagged(path, o.store.book().generation()), &body(size(path))).await;
    }
    o.disk.flush().await;
    o.store.clear_memory();
    let tag = |name: &str, soft| Rule { kind: Kind::Tag, bytes: name.as_bytes().into(), soft };
    o.store.book().set(&[tag("hard", false), tag("large", false), tag("soft", true), tag("liv", false)]);
    o
}

async fn as_purged(o: &Opened, clock: &Clock) {
    let [hard, soft, live, large] = keys().try_into().unwrap();
    assert!(get(&o.store, &slot(&hard, None)).await.is_none());
    assert!(get(&o.store, &slot(&large, None)).await.is_none());
    for _ in 0..2 {
        // From disk, then from memory.
        let found = o.store.find(&slot(&soft, None)).await.unwrap().unwrap();
        assert!(found.head.fresh_until < clock.now(), "stale");
        assert_eq!(get(&o.store, &slot(&soft, None)).await.unwrap(), body(size("/soft")), "and there");
        let found = o.store.find(&slot(&live, None)).await.unwrap().unwrap();
        assert!(found.head.fresh_until > clock.now(), "fresh");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_reaches_what_is_on_disk_only_and_outlives_a_kill() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::system());
    let first = purged(dir.path(), &clock).await;
    let copy = killed(&first).await;
    as_purged(&first, &clock).await;
    as_purged(&opened(copy.path(), &clock), &clock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sweep_has_seen_stays_purged_without_its_rules() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
    let first = purged(dir.path(), &clock).await;
    let mut sweep = Sweep::default();
    for _ in 0..1000 {
        sweep.go_on(first.store.book(), &first.store, 1000).await;
        clock.advance(Duration::from_secs(1));
    }
    assert!(first.store.book().reclaimed() >= 2 && clock.elapsed() > GRACE);
    assert_eq!(first.store.book().rules(), 0);
    let copy = killed(&first).await;
    as_purged(&first, &clock).await;
    as_purged(&opened(copy.path(), &clock), &clock).await;
}

/// A long body that was asked for before a purge and is whole only after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_from_before_a_purge_is_not_kept_though_the_rule_goes() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
    let o = opened(dir.path(), &clock);
    let [_, _, _, large]: [Key; 4] = keys().try_into().unwrap();
    let mut writer = o.store.begin(&slot(&large, None), tagged("/large", o.store.book().generation())).await.unwrap();
    let whole = body(size("/large"));
    let (first, rest) = whole.split_at(1_500_000);
    writer.write(Bytes::copy_from_slice(first)).await.unwrap();
    o.store.book().set(&[Rule { kind: Kind::Tag, bytes: b"large"[..].into(), soft: false }]);
    let mut sweep = Sweep::default();
    for _ in 0..200 {
        sweep.go_on(o.store.book(), &o.store, 1000).await;
    }
    writer.write(Bytes::copy_from_slice(rest)).await.unwrap();
    writer.finish().await.unwrap();
    for _ in 0..200 {
        clock.advance(Duration::from_secs(1));
        sweep.go_on(o.store.book(), &o.store, 1000).await;
    }
    assert_eq!(o.store.book().rules(), 0);
    assert!(get(&o.store, &slot(&large, None)).await.is_none());
}
