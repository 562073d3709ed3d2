//! A disk that lies: whatever is done to the files, an object is what was stored, or a miss.

use super::*;
use proptest::prelude::*;

const SIZES: [usize; 6] = [0, 500, 65_536, 100_000, 280_000, 1_100_000];

/// A folder with objects in a sealed segment, in own segments and in an open one; both forms.
async fn filled() -> (TempDir, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    for (i, size) in SIZES.iter().cycle().take(18).enumerate() {
        put(&opened.store, &slot(&key("a.test", &format!("/{i}"), None), None), &body(size + i)).await;
    }
    let copy = killed(&opened).await;
    assert!(opened.disk.close(Duration::from_secs(10)).await);
    (dir, copy)
}

/// How many objects are served, each exactly as it was; the rest are misses or, once the header was sent, errors.
async fn served(opened: &Opened) -> usize {
    let mut served = 0;
    for (i, size) in SIZES.iter().cycle().take(18).enumerate() {
        let k = key("a.test", &format!("/{i}"), None);
        let Some(mut found) = opened.store.find(&slot(&k, None)).await.unwrap() else { continue };
        let Ok(got) = super::super::super::conformance::drain(&mut found.body).await else { continue };
        assert_eq!(found.head.length, Some((size + i) as u64));
        assert!(got == body(size + i), "object {i} is not what was stored");
        served += 1;
    }
    served
}

fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    let all = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut all: Vec<_> = all.filter(|p| p.extension().is_some_and(|e| e == "seg")).collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_end_costs_the_last_record_only() {
    let (sealed, unsealed) = filled().await;
    assert_eq!(served(&open(sealed.path())).await, 18);
    assert_eq!(served(&open(unsealed.path())).await, 18);
    // The open segment of a killed process, cut in the middle of its last record: with garbage after it, and without.
    for garbage in [false, true] {
        let (_, dir) = filled().await;
        let last = segments(dir.path()).into_iter().next_back().unwrap();
        let bytes = std::fs::read(&last).unwrap();
        let mut cut = bytes[..bytes.len() - 5].to_vec();
        if garbage {
            cut.extend(std::iter::repeat_n(0xab, 9_000));
        }
        std::fs::write(&last, cut).unwrap();
        let served = served(&open(dir.path())).await;
        assert!((15..=18).contains(&served), "{served}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_empty_files_do_not_keep_it_from_starting() {
    let (dir, _) = filled().await;
    std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    std::fs::write(dir.path().join("0000ffff.seg"), "").unwrap();
    std::fs::write(dir.path().join("0000fffe.seg"), vec![0; 5_000]).unwrap();
    std::fs::write(dir.path().join("0000fffd.part"), "half").unwrap();
    assert_eq!(served(&open(dir.path())).await, 18);
    let names: Vec<_> =
        segments(dir.path()).iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert!(names.iter().all(|n| !n.starts_with("0000ff")), "{names:?}");
    assert!(dir.path().join("notes.txt").exists() && !dir.path().join("0000fffd.part").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_in_anothers_place_is_not_taken() {
    let (dir, _) = filled().await;
    let all = segments(dir.path());
    let (a, b) = (std::fs::read(&all[0]).unwrap(), std::fs::read(&all[1]).unwrap());
    std::fs::write(&all[0], b).unwrap();
    std::fs::write(&all[1], a).unwrap();
    assert!(served(&open(dir.path())).await < 18);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_damaged_while_it_runs_give_misses() {
    let (dir, _) = filled().await;
    let opened = open(dir.path());
    for (i, path) in segments(dir.path()).into_iter().enumerate() {
        let bytes = std::fs::read(&path).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        use std::os::unix::fs::FileExt;
        match i % 3 {
            0 => file.set_len(bytes.len() as u64 / 2).unwrap(),
            1 => file.write_all_at(&vec![0; bytes.len()], 0).unwrap(),
            _ => file.write_all_at(&[bytes[bytes.len() / 3] ^ 4], bytes.len() as u64 / 3).unwrap(),
        }
    }
    let left = served(&opened).await;
    let stats = opened.disk.stats();
    assert!(left < 18 && stats.corrupt >= (18 - left) as u64, "{left} {stats:?}");
    // It goes on: writes, evicts the damaged ones, serves.
    for i in 0..80 {
        put(&opened.store, &slot(&key("b.test", &format!("/{i}"), None), None), &body(240_000)).await;
    }
    opened.disk.flush().await;
    assert!(opened.disk.stats().bytes <= 16 * MIB);
    assert_eq!(get(&opened.store, &slot(&key("b.test", "/79", None), None)).await.unwrap(), body(240_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_is_changed_is_a_miss(spots in proptest::collection::vec((any::<u32>(), any::<u32>(), 1..=255u8), 1..12), tail: bool) {
        let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        rt.block_on(async {
            let (sealed, unsealed) = filled().await;
            let dir = if tail { sealed } else { unsealed };
            let all = segments(dir.path());
            for (file, at, flip) in spots {
                let path = &all[file as usize % all.len()];
                let mut bytes = std::fs::read(path).unwrap();
                if bytes.is_empty() { continue }
                let at = at as usize % bytes.len();
                bytes[at] ^= flip;
                std::fs::write(path, bytes).unwrap();
            }
            served(&open(dir.path())).await;
        });
    }
}
