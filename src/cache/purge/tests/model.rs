//! The book against a list of all purges, by any order of storing, purging, looking up and restarting.

use super::super::{Book, Checked, Gate, Rule};
use super::{filed, place};
use crate::base::clock::Clock;
use crate::cache::key::KeyRules;
use proptest::prelude::*;
use std::time::{Duration, SystemTime};

const URLS: [&str; 6] = [
    "http://a.test/x/1",
    "https://a.test/x/1",
    "http://a.test/x/2?q",
    "http://a.test/y/",
    "https://b.test/x/1",
    "http://b.test:8080/x/1",
];
const TAGS: [&str; 3] = ["t", "tt", "u"];

#[derive(Clone, Debug)]
enum What {
    All,
    Host(&'static str),
    Prefix(&'static str),
    Url(usize),
    Tag(&'static str),
}

impl What {
    fn rule(&self, soft: bool) -> Rule {
        match self {
            What::All => Rule::all(soft),
            What::Host(h) => Rule::host(h, soft).unwrap(),
            What::Prefix(p) => Rule::prefix(p, soft).unwrap(),
            What::Url(u) => Rule::url(URLS[*u], &KeyRules::default(), soft).unwrap(),
            What::Tag(t) => Rule::tag(t, soft).unwrap(),
        }
    }

    /// Said again, without the book's words.
    fn concerns(&self, url: usize, tags: &[&str]) -> bool {
        let url_text = URLS[url];
        let bare = url_text.split_once("://").unwrap().1;
        match self {
            What::All => true,
            What::Host(h) => bare.split(['/', ':']).next() == Some(h),
            What::Prefix(p) if p.contains("://") => url_text.starts_with(p),
            What::Prefix(p) => bare.starts_with(p),
            What::Url(u) => *u == url,
            What::Tag(t) => tags.contains(t),
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Put { object: usize, tags: u8 },
    Purge(Vec<What>, bool),
    Look(usize),
    Restart,
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        1 => Just(What::All),
        2 => prop_oneof![Just("a.test"), Just("b.test")].prop_map(What::Host),
        4 => prop_oneof![
            Just("a.test/"), Just("a.test/x"), Just("http://a.test/x/"), Just("https://a.test/y"),
            Just("b.test:8080/x/"), Just("https://b.test/")
        ].prop_map(What::Prefix),
        4 => (0..URLS.len()).prop_map(What::Url),
        6 => (0..TAGS.len()).prop_map(|t| What::Tag(TAGS[t])),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..URLS.len(), 0..8u8).prop_map(|(object, tags)| Op::Put { object, tags }),
        4 => (proptest::collection::vec(what(), 1..3), any::<bool>()).prop_map(|(w, soft)| Op::Purge(w, soft)),
        8 => (0..URLS.len()).prop_map(Op::Look),
        1 => Just(Op::Restart),
    ]
}

struct Stored {
    tags: Vec<&'static str>,
    generation: u64,
    /// How many purges there had been.
    seen: usize,
    checked: Checked,
}

/// When, what, soft; oldest first.
type Purges = Vec<(SystemTime, What, bool)>;

fn expected(purges: &Purges, url: usize, s: &Stored) -> Gate {
    let mine = || purges.iter().skip(s.seen).filter(|(_, w, _)| w.concerns(url, &s.tags));
    if mine().any(|(_, _, soft)| !soft) {
        return Gate::Void;
    }
    mine().map(|(at, ..)| *at).min().map_or(Gate::Live, |since| Gate::Stale { since })
}

fn same(got: Gate, want: Gate, many: bool) -> bool {
    match (got, want) {
        // Of many soft purges of one name the earlier ones count from the first: never later than they should.
        (Gate::Stale { since: got }, Gate::Stale { since: want }) if many => got <= want,
        _ => got == want,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_book_remembers_what_a_list_of_all_purges_would(ops in proptest::collection::vec(op(), 1..80)) {
        let dir = tempfile::tempdir().unwrap();
        // Times on disk are nanoseconds.
        let clock = Clock::manual();
        let mut book = Book::open(Some(dir.path()), clock.clone()).unwrap();
        let mut purges = Purges::new();
        let mut stored: Vec<Option<Stored>> = URLS.iter().map(|_| None).collect();
        let mut highest = book.generation();
        for op in ops {
            match op {
                Op::Put { object, tags } => {
                    let tags: Vec<_> = (0..3).filter(|b| tags & (1 << b) != 0).map(|b| TAGS[b]).collect();
                    let generation = book.generation();
                    let checked = book.admit(&filed(&tags, generation), place(URLS[object]).bytes()).unwrap();
                    stored[object] = Some(Stored { tags, generation, seen: purges.len(), checked });
                }
                Op::Purge(list, soft) => {
                    clock.advance(Duration::from_secs(10));
                    let rules: Vec<Rule> = list.iter().map(|w| w.rule(soft)).collect();
                    let before = book.generation();
                    let generation = book.set(&rules);
                    prop_assert!(generation == before + 1 && generation == book.generation());
                    // All of one call have one time; which is known to the book alone, so it is asked for.
                    let at = since(&book, before, &list[0]).unwrap_or_else(|| clock.now());
                    purges.extend(list.into_iter().map(|w| (at, w, soft)));
                }
                Op::Look(object) => {
                    let Some(s) = &stored[object] else { continue };
                    let key = place(URLS[object]);
                    let many = purges.iter().filter(|(_, _, soft)| *soft).count() > 4;
                    let want = expected(&purges, object, s);
                    let f = filed(&s.tags, s.generation);
                    prop_assert!(same(book.gate_of(&f, key.bytes()), want, many), "{:?} {want:?}", book.gate_of(&f, key.bytes()));
                    let head = head(&f);
                    prop_assert!(same(book.check(&head, key.bytes(), &s.checked), want, many));
                    prop_assert!(same(book.check(&head, key.bytes(), &s.checked), want, many), "asked again");
                    prop_assert_eq!(book.may_follow(&f, key.bytes()), want == Gate::Live);
                }
                Op::Restart => {
                    highest = highest.max(book.generation());
                    drop(book);
                    book = Book::open(Some(dir.path()), clock.clone()).unwrap();
                    prop_assert!(book.generation() > highest);
                }
            }
        }
    }
}

fn head(filed: &super::super::Filed) -> crate::cache::store::Head {
    let header = pingora::http::ResponseHeader::build_no_case(200, None).unwrap();
    let now = SystemTime::now();
    let mut meta = pingora_cache::CacheMeta::new(now + Duration::from_secs(60), now, 0, 0, header);
    meta.extensions_mut().insert(filed.clone());
    crate::cache::store::Head::from_meta(&meta)
}

/// The time under which the book has noted a soft purge just now.
fn since(book: &Book, before: u64, what: &What) -> Option<SystemTime> {
    let url = (0..URLS.len()).find(|u| what.concerns(*u, &TAGS))?;
    match book.gate_of(&filed(&TAGS, before), place(URLS[url]).bytes()) {
        Gate::Stale { since } => Some(since),
        _ => None,
    }
}
