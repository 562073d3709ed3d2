//! Tests of the edge store alone: what survives, what is refused, what stays small. The rest is in conformance.rs.

use super::super::conformance::{DIM, check, point, search, vector};
use super::*;

fn options(path: &Path) -> EdgeOptions {
    EdgeOptions { path: path.to_owned(), collection: "c".to_owned(), dim: DIM, entries_max: 100_000 }
}

#[tokio::test]
async fn edge_conforms() {
    let dir = tempfile::tempdir().unwrap();
    check(&EdgeStore::open(&options(dir.path())).unwrap()).await;
}

#[tokio::test]
async fn what_was_stored_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3_u64 {
        let store = EdgeStore::open(&options(dir.path())).unwrap();
        assert_eq!(store.count().await.unwrap(), round * 50);
        for seed in 0..round * 50 {
            assert!(!store.search(search([7; 32], vector(seed))).await.unwrap().is_empty(), "{seed}");
        }
        for seed in round * 50..(round + 1) * 50 {
            store.upsert(point(7, seed)).await.unwrap();
        }
    }
    let store = EdgeStore::open(&options(dir.path())).unwrap();
    assert_eq!(store.delete(Delete::Partition([7; 32])).await.unwrap(), 150);
    drop(store);
    let store = EdgeStore::open(&options(dir.path())).unwrap();
    assert_eq!(store.count().await.unwrap(), 0, "deletions survive, too");
}

/// What a crash finds on disk is what the last flush left: copy the folder while the store is open, open the copy.
#[tokio::test]
async fn what_was_flushed_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let store = EdgeStore::open(&options(dir.path())).unwrap();
    for seed in 0..20 {
        store.upsert(point(7, seed)).await.unwrap();
    }
    store.flush().await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    copy_folder(dir.path(), copy.path());
    let after = EdgeStore::open(&options(copy.path())).unwrap();
    assert_eq!(after.count().await.unwrap(), 20);
    after.upsert(Point { payload: "{}".to_owned(), ..point(7, 3) }).await.unwrap();
    assert_eq!(after.count().await.unwrap(), 20, "and it goes on from there");
    assert_eq!(after.search(search([7; 32], vector(3))).await.unwrap()[0].payload, "{}");
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_folder_in_use_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let first = EdgeStore::open(&options(dir.path())).unwrap();
    let second = EdgeStore::open(&options(dir.path())).err().unwrap();
    assert!(matches!(&second, VectorError::Locked { path } if path.contains(dir.path().to_str().unwrap())), "{second}");
    drop(first);
    EdgeStore::open(&options(dir.path())).unwrap();
}

#[tokio::test]
async fn damaged_files_are_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = EdgeStore::open(&options(dir.path())).unwrap();
    store.upsert(point(1, 1)).await.unwrap();
    drop(store);
    let segments = dir.path().join("c/segments");
    for segment in std::fs::read_dir(&segments).unwrap() {
        std::fs::write(segment.unwrap().path().join("segment.json"), "{ not json").unwrap();
    }
    let error = EdgeStore::open(&options(dir.path())).err().unwrap();
    assert!(matches!(error, VectorError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("remove the folder"), "{error}");
}

#[tokio::test]
async fn a_path_that_cannot_be_a_folder_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = EdgeStore::open(&options(file.path())).err().unwrap();
    assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
}

/// The library neither replays nor trims its log; without our pruning it would fill the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_short_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = EdgeStore::open_with_log(&options(dir.path()), 64 << 10).unwrap();
    let wal = dir.path().join("c/wal");
    let files = || std::fs::read_dir(&wal).map_or(0, Iterator::count);
    let mut longest = 0;
    for round in 0..3_u64 {
        for seed in 0..400 {
            store
                .upsert(Point { payload: "x".repeat(2000 + usize::try_from(round).unwrap()), ..point(7, seed) })
                .await
                .unwrap();
        }
        longest = longest.max(files());
        let deadline = Instant::now() + Duration::from_secs(20);
        while files() > LOG_FILES_MAX + 1 {
            assert!(Instant::now() < deadline, "{} log files", files());
            // The writer keeps house only after a change.
            store.upsert(point(8, 1)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for seed in 0..400 {
            let found = store.search(search([7; 32], vector(seed))).await.unwrap();
            assert_eq!(found[0].payload.len(), 2000 + usize::try_from(round).unwrap(), "{seed} in round {round}");
        }
    }
    assert!(longest > LOG_FILES_MAX, "the test wrote too little to prove anything: {longest} files");
    assert_eq!(store.count().await.unwrap(), 401);
}

#[tokio::test]
async fn the_oldest_go_beyond_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let store = EdgeStore::open(&EdgeOptions { entries_max: 100, ..options(dir.path()) }).unwrap();
    for seed in 0..250 {
        let p = Point { created_unix: 1_600_000_000 + seed, ..point(7, seed) };
        store.upsert(p).await.unwrap();
    }
    let count = store.count().await.unwrap();
    assert!((90..=100).contains(&count), "{count}");
    assert!(store.search(search([7; 32], vector(0))).await.unwrap().is_empty(), "the oldest is gone");
    assert_eq!(store.search(search([7; 32], vector(249))).await.unwrap().len(), 1, "the newest is there");
}

/// Searches, writes, deletions and flushes at the same time: no panic, no deadlock, nothing from elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(EdgeStore::open(&options(dir.path())).unwrap());
    let tasks = (0..16_u8).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            for seed in 0..20 {
                store.upsert(point(n, seed)).await.unwrap();
                let found = store.search(search([n; 32], vector(seed))).await.unwrap();
                assert_eq!(found.len(), 1);
                match seed % 10 {
                    3 => store.flush().await.unwrap(),
                    7 => assert_eq!(store.delete(Delete::Id(point(n, seed).id)).await.unwrap(), 1),
                    _ => {}
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(store.count().await.unwrap(), 16 * 18);
}

/// A shard that could not be reopened is tried again until it can, even when nothing is written meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_could_not_be_reopened_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = EdgeStore::open(&options(dir.path())).unwrap();
    store.upsert(point(7, 1)).await.unwrap();
    store.flush().await.unwrap();
    let (folder, away) = (dir.path().join("c"), dir.path().join("away"));
    {
        let mut slot = store.shard.write().unwrap();
        drop(slot.take());
        std::fs::rename(&folder, &away).unwrap();
        std::fs::write(&folder, "in the way").unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    // The writer tries before each order that it takes, so the second answer comes after a try in vain.
    for _ in 0..2 {
        assert!(store.count().await.is_err());
    }
    assert!(store.search(search([7; 32], vector(1))).await.is_err());
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    loop {
        match store.search(search([7; 32], vector(1))).await {
            Ok(found) => break assert_eq!(found.len(), 1),
            Err(_) => assert!(Instant::now() < deadline, "the store stays closed"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.upsert(point(7, 2)).await.unwrap();
    assert_eq!(store.count().await.unwrap(), 2);
}
