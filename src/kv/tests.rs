//! What a crash leaves of a store, and that nothing in it is lost or made up.

use super::file::{FILE_NAME, encode, parse};
use super::*;
use proptest::prelude::*;
use std::path::Path;

const SOON: Duration = Duration::from_secs(5);

fn open(folder: &Path) -> Kv {
    Kv::open(&Options { folder: folder.to_owned(), sync: false }).unwrap()
}

fn value(amount: u64) -> Value {
    Value { since: 7, amount }
}

#[test]
fn values_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path());
    for i in 0..100 {
        kv.cell(&format!("c{}", i % 10)).unwrap().set(value(i));
    }
    assert!(kv.close(SOON));
    let kv = open(dir.path());
    for i in 0..10 {
        assert_eq!(kv.cell(&format!("c{i}")).unwrap().get(), value(90 + i));
    }
    assert_eq!(kv.cell("other").unwrap().get(), Value::default());
}

#[test]
fn what_was_set_is_in_the_file_without_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path());
    kv.cell("a").unwrap().set(value(5));
    let until = std::time::Instant::now() + SOON;
    let said = || parse(&std::fs::read(dir.path().join(FILE_NAME)).unwrap()).unwrap();
    while said().cells.get("a") != Some(&value(5)) {
        assert!(std::time::Instant::now() < until, "never written");
        std::thread::yield_now();
    }
}

#[test]
fn a_store_is_open_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path());
    let again = Kv::open(&Options { folder: dir.path().to_owned(), sync: true });
    assert!(again.err().unwrap().to_string().contains("another gateway"));
    assert!(kv.close(SOON));
    drop(open(dir.path()));
}

#[test]
fn a_dropped_store_writes_what_it_has_and_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path());
    kv.cell("a").unwrap().set(value(3));
    drop(kv);
    assert_eq!(open(dir.path()).cell("a").unwrap().get(), value(3));
}

#[test]
fn a_file_of_someone_else_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    std::fs::write(&path, "precious words").unwrap();
    assert!(Kv::open(&Options { folder: dir.path().to_owned(), sync: false }).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious words");
}

#[test]
fn a_damaged_record_costs_itself_and_the_file_is_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path());
    for (name, n) in [("a", 1), ("b", 2), ("c", 3)] {
        kv.cell(name).unwrap().set(value(n));
        assert!(kv.flush(SOON));
    }
    assert!(kv.close(SOON));
    let path = dir.path().join(FILE_NAME);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.iter().position(|b| *b == b'b').unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let kv = open(dir.path());
    assert_eq!([1, 0, 3], ["a", "b", "c"].map(|n| kv.cell(n).unwrap().get().amount));
    assert_eq!(std::fs::read(path.with_extension("damaged")).unwrap(), bytes);
}

#[test]
fn the_file_stays_small_however_often_a_value_changes() {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path());
    let name = "n".repeat(500);
    let cells: Vec<_> = (0..200).map(|i| kv.cell(&format!("{name}{i}")).unwrap()).collect();
    for round in 1..=60 {
        cells.iter().for_each(|c| c.set(value(round)));
        assert!(kv.flush(SOON));
    }
    // Sixty rounds of 200 rows are over 6 MB.
    assert!(kv.file_bytes() < 2 << 20, "{}", kv.file_bytes());
    assert!(kv.close(SOON));
    let kv = open(dir.path());
    kv.each(|_, v| assert_eq!(v, value(60)));
}

#[test]
fn many_threads_lose_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let kv = Arc::new(open(dir.path()));
    std::thread::scope(|s| {
        for t in 0..8_u64 {
            let kv = Arc::clone(&kv);
            s.spawn(move || (1..=2000).for_each(|i| kv.cell(&format!("t{t}")).unwrap().set(value(i))));
        }
    });
    assert!(kv.close(SOON));
    let kv = open(dir.path());
    assert!((0..8).all(|t| kv.cell(&format!("t{t}")).unwrap().get() == value(2000)));
}

#[test]
fn cells_are_bounded_and_idle_ones_can_be_forgotten() {
    let kv = Kv::memory();
    assert!(kv.cell(&"x".repeat(NAME_BYTES_MAX + 1)).is_none());
    let held = kv.cell("held").unwrap();
    held.set(value(1));
    kv.cell("idle").unwrap().set(value(1));
    kv.forget(|_, v| v.since == 7);
    let mut left = Vec::new();
    kv.each(|name, _| left.push(name.to_owned()));
    assert_eq!(left, ["held"]);
}

proptest! {
    /// Cut anywhere, the file says what was set up to some moment, and nothing else.
    #[test]
    fn a_journal_cut_anywhere_is_a_prefix_of_what_happened(
        sets in proptest::collection::vec(("[a-d]{1,2}", 0u64..1000), 0..12)
    ) {
        let mut bytes = b"SLGCELL1".to_vec();
        let (mut now, mut after) = (HashMap::new(), vec![HashMap::new()]);
        let mut ends = vec![bytes.len()];
        for (name, n) in &sets {
            encode(&mut bytes, name, value(*n));
            now.insert(name.clone().into_boxed_str(), value(*n));
            after.push(now.clone());
            ends.push(bytes.len());
        }
        for cut in 0..=bytes.len() {
            let said = parse(&bytes[..cut]).unwrap();
            let whole = ends.iter().filter(|e| **e <= cut).count().max(1);
            prop_assert_eq!(said.damaged, 0);
            prop_assert_eq!(&said.cells, &after[whole - 1]);
        }
    }

    /// Whatever stands in a file, reading it ends, and a flipped bit is never taken for a value that was set.
    #[test]
    fn a_flipped_bit_makes_no_value_up(
        sets in proptest::collection::vec(("[a-d]", 0u64..1000), 1..6), at in any::<proptest::sample::Index>(), bit in 0u8..8
    ) {
        let mut bytes = b"SLGCELL1".to_vec();
        sets.iter().for_each(|(name, n)| encode(&mut bytes, name, value(*n)));
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Some(said) = parse(&bytes) {
            for (name, v) in &said.cells {
                prop_assert!(sets.iter().any(|(n, x)| **n == **name && value(*x) == *v));
            }
        }
    }
}
