//! The log: restart, kill, damage, growth.

use super::super::log::{FILE_NAME, RESERVED_AHEAD};
use super::super::{Book, Gate, Rule};
use super::{filed, place};
use crate::base::clock::Clock;
use std::path::Path;

fn open(folder: &Path) -> Book {
    Book::open(Some(folder), Clock::system()).unwrap()
}

fn tag(i: usize) -> Rule {
    Rule::tag(&format!("tag-{i}"), false).unwrap()
}

fn gate(book: &Book, tag: usize, generation: u64) -> Gate {
    let tag = format!("tag-{tag}");
    book.gate_of(&filed(&[&tag], generation), place("http://a.test/").bytes())
}

#[test]
fn purges_and_counter_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let book = open(dir.path());
    let before = book.generation();
    book.set(&[tag(1)]);
    let between = book.generation();
    book.set(&[Rule::tag("tag-2", true).unwrap()]);
    book.sync().unwrap();
    let last = book.generation();
    drop(book);
    for _ in 0..3 {
        let book = open(dir.path());
        assert!(book.generation() > last, "no number is handed out twice");
        assert_eq!(gate(&book, 1, before), Gate::Void);
        assert_eq!(gate(&book, 1, between), Gate::Live);
        assert!(matches!(gate(&book, 2, between), Gate::Stale { .. }));
        assert_eq!(gate(&book, 2, last), Gate::Live);
        assert_eq!(gate(&book, 3, before), Gate::Live, "what was not purged is still good");
    }
}

#[test]
fn a_torn_tail_is_cut_and_every_whole_record_before_it_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let book = open(dir.path());
    let before = book.generation();
    let mut ends = Vec::new();
    for i in 0..4 {
        book.set(&[tag(i)]);
        ends.push(std::fs::metadata(&path).unwrap().len());
    }
    let whole = std::fs::read(&path).unwrap();
    drop(book);
    let first = usize::try_from(ends[0]).unwrap();
    for cut in first..=whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let book = open(dir.path());
        for (i, end) in ends.iter().enumerate() {
            let want = if *end <= cut as u64 { Gate::Void } else { Gate::Live };
            assert_eq!(gate(&book, i, before), want, "cut at {cut}, purge {i}");
        }
    }
}

#[test]
fn a_damaged_log_leaves_nothing_live() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let book = open(dir.path());
    let before = book.generation();
    for i in 0..3 {
        book.set(&[tag(i)]);
    }
    let last = book.generation();
    let whole = std::fs::read(&path).unwrap();
    drop(book);
    let broken = |path: &Path| {
        let book = open(path);
        assert!(book.generation() > last);
        for generation in [before, last] {
            assert_eq!(gate(&book, 9, generation), Gate::Void);
        }
        let now = book.generation();
        assert_eq!(gate(&book, 9, now), Gate::Live);
    };
    for at in 0..whole.len() {
        for flip in [1, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            std::fs::write(&path, &bytes).unwrap();
            broken(dir.path());
        }
    }
    let mut zeroed = whole.clone();
    let half = zeroed.len() / 2;
    zeroed[half..].fill(0);
    for bytes in [zeroed, vec![0; 10], Vec::new(), b"not a log at all, but long enough".to_vec()] {
        std::fs::write(&path, &bytes).unwrap();
        broken(dir.path());
    }
    // A log that is gone is no better than a damaged one.
    std::fs::remove_file(&path).unwrap();
    broken(dir.path());
}

#[test]
fn a_log_that_has_grown_is_written_anew_and_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let book = open(dir.path());
    let before = book.generation();
    let batch: Vec<Rule> = (0..1000).map(tag).collect();
    for _ in 0..100 {
        book.set(&batch);
    }
    let grown = std::fs::metadata(&path).unwrap().len();
    assert!(grown > 2 << 20, "{grown}");
    book.tidy().unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < grown / 20);
    book.set(&[Rule::tag("later", false).unwrap()]);
    let last = book.generation();
    drop(book);
    let book = open(dir.path());
    assert!(book.generation() > last && book.generation() < last + 3 * RESERVED_AHEAD);
    for i in [0, 999] {
        assert_eq!(gate(&book, i, before), Gate::Void);
    }
    assert_eq!(book.gate_of(&filed(&["later"], last - 1), place("http://a.test/").bytes()), Gate::Void);
    assert_eq!(book.rules(), 1002, "with the one that a folder without a log begins with");
}

#[test]
fn many_threads_lose_no_purge() {
    let dir = tempfile::tempdir().unwrap();
    let book = open(dir.path());
    let before = book.generation();
    std::thread::scope(|s| {
        for t in 0..4 {
            let book = &book;
            s.spawn(move || {
                for i in 0..100 {
                    book.set(&[tag(t * 100 + i)]);
                    if i % 25 == 0 {
                        book.sync().unwrap();
                    }
                    assert_eq!(gate(book, t * 100 + i, before), Gate::Void);
                }
            });
        }
        s.spawn(|| (0..20).for_each(|_| book.tidy().unwrap()));
    });
    drop(book);
    let book = open(dir.path());
    for i in 0..400 {
        assert_eq!(gate(&book, i, before), Gate::Void, "{i}");
    }
}
