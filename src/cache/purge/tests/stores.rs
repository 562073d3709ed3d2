//! Purges in the memory store: look-ups, fills in flight, refreshes, the sweep.

use super::super::sweep::{GRACE, Level, Sweep};
use super::super::{Filed, Rule};
use super::place;
use crate::base::clock::Clock;
use crate::cache::key::Key;
use crate::cache::store::memory::{Limits, MemoryStore};
use crate::cache::store::{Head, Reader, Slot, Store, Writer};
use bytes::Bytes;
use http::HeaderMap;
use pingora::http::ResponseHeader;
use pingora_cache::CacheMeta;
use std::time::{Duration, SystemTime};

fn store(clock: &Clock) -> MemoryStore {
    MemoryStore::new(Limits { capacity_bytes: 64 << 20, object_bytes_max: 1 << 20 }, clock.clone())
}

fn slot(key: &Key) -> Slot<'_> {
    Slot { hash: *key.hash(), variance: None, key: key.bytes() }
}

fn head(tag: &str, generation: u64) -> Head {
    let header = ResponseHeader::build_no_case(200, None).unwrap();
    let now = SystemTime::now();
    let mut meta = CacheMeta::new(now + Duration::from_secs(600), now, 30, 30, header);
    meta.extensions_mut().insert(Filed { tags: [Box::from(tag)].into(), generation });
    Head::from_meta(&meta)
}

async fn put(s: &MemoryStore, key: &Key, tag: &str, generation: u64, body: &'static [u8]) -> u64 {
    let mut w = s.begin(&slot(key), head(tag, generation)).await.unwrap();
    w.write(Bytes::from_static(body)).await.unwrap();
    w.finish().await.unwrap()
}

fn hot(s: &MemoryStore, key: &Key) -> bool {
    s.peek_fresh(key, &HeaderMap::new(), SystemTime::now()).is_some()
}

fn tag(soft: bool) -> Rule {
    Rule::tag("t", soft).unwrap()
}

#[tokio::test]
async fn what_was_purged_is_on_no_path() {
    let s = store(&Clock::system());
    let (a, b) = (place("http://a.test/1"), place("http://a.test/2"));
    let before = s.book().generation();
    put(&s, &a, "t", before, b"old").await;
    put(&s, &b, "u", before, b"other").await;
    assert!(hot(&s, &a));
    s.book().set(&[tag(false)]);
    assert!(!hot(&s, &a) && hot(&s, &b));
    assert!(s.find(&slot(&a)).await.unwrap().is_none());
    assert_eq!((s.stats().objects, s.book().reclaimed()), (1, 1), "found void, it goes at once");
    // What an origin was asked for before the purge comes too late; what it was asked for after it counts.
    assert_eq!(put(&s, &a, "t", before, b"late").await, 0);
    assert!(!hot(&s, &a));
    assert!(put(&s, &a, "t", s.book().generation(), b"new").await > 0);
    assert!(hot(&s, &a));
}

#[tokio::test]
async fn a_soft_purge_makes_stale_since_then_and_a_304_fresh_again() {
    let clock = Clock::manual();
    let s = store(&clock);
    let key = place("http://a.test/1");
    put(&s, &key, "t", s.book().generation(), b"old").await;
    let at = clock.now();
    s.book().set(&[tag(true)]);
    clock.advance(Duration::from_secs(20));
    assert!(!hot(&s, &key));
    for _ in 0..2 {
        let found = s.find(&slot(&key)).await.unwrap().unwrap();
        let since = found.head.fresh_until.duration_since(at - Duration::from_secs(1)).unwrap();
        assert!(since.as_secs() <= 3 && found.head.sie_secs == 30, "the stale windows count from the purge: {since:?}");
    }
    // Asked before the purge, a 304 changes nothing; asked after it, it does.
    assert!(s.refresh(&slot(&key), head("t", 1)).await.unwrap());
    assert!(!hot(&s, &key));
    assert!(s.refresh(&slot(&key), head("t", s.book().generation())).await.unwrap());
    assert!(hot(&s, &key));
}

#[tokio::test]
async fn a_304_from_before_a_purge_does_not_touch_what_came_after_it() {
    let s = store(&Clock::system());
    let key = place("http://a.test/1");
    let before = s.book().generation();
    put(&s, &key, "t", before, b"old").await;
    s.book().set(&[tag(false)]);
    assert!(!s.refresh(&slot(&key), head("t", before)).await.unwrap(), "void stays void");
    put(&s, &key, "t", s.book().generation(), b"new").await;
    assert!(!s.refresh(&slot(&key), head("u", before)).await.unwrap(), "an old header on a new body");
    assert!(hot(&s, &key));
}

#[tokio::test]
async fn a_fill_from_before_a_purge_is_not_followed_by_those_who_come_after_it() {
    for soft in [false, true] {
        let s = store(&Clock::system());
        let key = place("http://a.test/1");
        let mut w = s.begin(&slot(&key), head("t", s.book().generation())).await.unwrap();
        w.write(Bytes::from_static(b"half ")).await.unwrap();
        let mut early = s.find(&slot(&key)).await.unwrap().unwrap();
        s.book().set(&[tag(soft)]);
        assert!(s.find(&slot(&key)).await.unwrap().is_none());
        let mut newer = s.begin(&slot(&key), head("t", s.book().generation())).await.unwrap();
        newer.write(Bytes::from_static(b"new")).await.unwrap();
        let mut late = s.find(&slot(&key)).await.unwrap().unwrap();
        newer.finish().await.unwrap();
        assert_eq!(late.body.next().await.unwrap().unwrap(), "new");
        // Who began before goes on to the end.
        w.write(Bytes::from_static(b"old")).await.unwrap();
        assert_eq!(early.body.next().await.unwrap().unwrap(), "half ");
        assert_eq!(early.body.next().await.unwrap().unwrap(), "old");
        let kept = w.finish().await.unwrap();
        assert_eq!((kept > 0, hot(&s, &key)), (soft, !soft), "kept only as stale");
    }
}

#[tokio::test]
async fn the_sweep_reclaims_space_and_lets_go_of_rules() {
    let clock = Clock::manual();
    let s = store(&clock);
    let keys: Vec<Key> = (0..3000).map(|i| place(&format!("http://a.test/{i}"))).collect();
    let before = s.book().generation();
    for (i, key) in keys.iter().enumerate() {
        put(&s, key, if i % 3 == 0 { "t" } else { "u" }, before, b"x").await;
    }
    s.book().set(&[tag(false), Rule::url("http://a.test/1", &Default::default(), true).unwrap()]);
    let mut sweep = Sweep::default();
    let mut rounds = 0;
    while !matches!(sweep, Sweep::Waiting { .. }) {
        sweep.go_on(s.book(), &s, 300).await;
        rounds += 1;
        assert!(rounds < 100);
    }
    assert!(rounds > 5, "a bounded part each time: {rounds}");
    assert_eq!((s.stats().objects, s.book().reclaimed()), (2000, 1000));
    // A slow origin asked before the purge, and a fill that is under way all the time.
    let fill = s.begin(&slot(&keys[7]), head("u", s.book().generation())).await.unwrap();
    sweep.go_on(s.book(), &s, 300).await;
    assert_eq!(s.book().rules(), 2, "late answers are still waited for");
    clock.advance(GRACE);
    sweep.go_on(s.book(), &s, 300).await;
    assert_eq!((sweep, s.book().rules()), (Sweep::Idle, 0));
    assert!(!hot(&s, &keys[1]), "stale without its rule too");
    assert!(s.find(&slot(&keys[1])).await.unwrap().is_some());
    // Nobody knows any more what this answer would have been: it is not stored.
    assert_eq!(put(&s, &keys[0], "t", before, b"late").await, 0);
    assert_eq!(put(&s, &keys[0], "u", before, b"late").await, 0);
    assert!(fill.finish().await.unwrap() > 0);
}

#[tokio::test]
async fn rules_that_a_fill_in_flight_may_need_are_held() {
    let clock = Clock::manual();
    let s = store(&clock);
    let key = place("http://a.test/1");
    let fill = s.begin(&slot(&key), head("t", s.book().generation())).await.unwrap();
    s.book().set(&[tag(false)]);
    assert_eq!(s.oldest_fill(), Some(1));
    let mut sweep = Sweep::default();
    for _ in 0..8 {
        sweep.go_on(s.book(), &s, 300).await;
        clock.advance(GRACE);
    }
    assert_eq!(s.book().rules(), 1);
    assert_eq!(fill.finish().await.unwrap(), 0);
    assert_eq!(s.oldest_fill(), None);
    for _ in 0..8 {
        sweep.go_on(s.book(), &s, 300).await;
        clock.advance(GRACE);
    }
    assert_eq!(s.book().rules(), 0);
}
