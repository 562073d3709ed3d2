//! Tests of purges: what each kind concerns, bounds, the sweep; the log and the model stand in files of their own.

mod logs;
mod model;
mod stores;

use super::rules::{PREFIX_LENGTHS_MAX, RULES_MAX};
use super::tags::{CACHE_TAG, SURROGATE_KEY, TAGS_MAX, Tags, TooMany};
use super::{Book, Filed, Gate, PurgeError, Rule};
use crate::base::clock::Clock;
use crate::cache::key::{Key, KeyRules, Place, readable, url_parts};
use http::{HeaderMap, HeaderName, HeaderValue};

fn place(url: &str) -> Key {
    let (scheme, rest) = url.split_once("://").unwrap();
    let at = rest.find('/').unwrap();
    Key::of_url(&Place::of(scheme == "https", &rest[..at], &rest.as_bytes()[at..]), &KeyRules::default())
}

fn filed(tags: &[&str], generation: u64) -> Filed {
    Filed { tags: tags.iter().map(|t| Box::from(*t)).collect(), generation }
}

/// What one rule makes of an object that was stored before it.
fn gate(rule: Rule, url: &str, tags: &[&str]) -> Gate {
    let book = Book::new(Clock::system());
    let before = book.generation();
    book.set(&[rule]);
    assert_eq!(book.gate_of(&filed(tags, book.generation()), place(url).bytes()), Gate::Live, "stored after the purge");
    book.gate_of(&filed(tags, before), place(url).bytes())
}

#[test]
fn a_prefix_concerns_what_begins_so_and_nothing_else() {
    for (prefix, concerned, spared) in [
        (
            "https://a.test/x/",
            vec!["https://a.test/x/", "https://a.test/x/y?q"],
            vec!["http://a.test/x/y", "https://a.test/x", "https://a.test:8443/x/y", "https://b.a.test/x/y"],
        ),
        (
            "a.test/x/",
            vec!["https://a.test/x/1", "http://a.test/x/1"],
            vec!["http://a.test:8080/x/1", "http://aa.test/x/1"],
        ),
        ("A.test./x", vec!["http://a.test/xy"], vec!["http://a.test/X"]),
        ("//a.test:8080/", vec!["http://a.test:8080/", "https://a.test:8080/z"], vec!["http://a.test/"]),
        ("http://a.test:80/x/../y/%7Ez", vec!["http://a.test/y/~z/1"], vec!["http://a.test/x/"]),
        ("[::1]:81/p", vec!["http://[::1]:81/p/q"], vec!["http://[::1]/p/q"]),
    ] {
        for (urls, want) in [(concerned, Gate::Void), (spared, Gate::Live)] {
            for url in urls {
                assert_eq!(gate(Rule::prefix(prefix, false).unwrap(), url, &[]), want, "{prefix} on {url}");
            }
        }
    }
    for bad in [
        "",
        "/x",
        "a.test",
        "ftp://a.test/",
        "https://",
        "a.test/x?y",
        "a.test/x#y",
        "a b/x",
        "a.test/..",
        "u@a.test/",
        "a.test/%",
    ] {
        assert_eq!(Rule::prefix(bad, false), Err(PurgeError::Prefix(bad.to_owned())));
    }
}

#[test]
fn a_host_concerns_every_scheme_port_and_path_of_itself() {
    let host = || Rule::host("A.Test.", false).unwrap();
    for url in ["http://a.test/", "https://a.test:8443/x?y", "http://A.TEST./"] {
        assert_eq!(gate(host(), url, &[]), Gate::Void, "{url}");
    }
    for url in ["http://b.a.test/", "http://a.test.b/"] {
        assert_eq!(gate(host(), url, &[]), Gate::Live, "{url}");
    }
    assert_eq!(gate(Rule::host("[::1]", false).unwrap(), "http://[::1]:81/", &[]), Gate::Void);
    for bad in ["", ".", "a.test:80", "a/b", "a b", "[::1]:80"] {
        assert!(Rule::host(bad, false).is_err(), "{bad}");
    }
}

#[test]
fn tags_are_equal_byte_by_byte() {
    let tag = |t| Rule::tag(t, false).unwrap();
    assert_eq!(gate(tag("p-1"), "http://a.test/", &["x", "p-1"]), Gate::Void);
    for other in ["p-", "p-11", "P-1", "p", "-1"] {
        assert_eq!(gate(tag("p-1"), "http://a.test/", &[other]), Gate::Live, "{other}");
    }
    let within = |host| Rule::tag_of_host("p-1", host, false).unwrap();
    assert_eq!(gate(within("a.test"), "http://a.test/", &["p-1"]), Gate::Void);
    assert_eq!(gate(within("b.test"), "http://a.test/", &["p-1"]), Gate::Live);
    assert!(Rule::tag("a b", false).is_err() && Rule::tag("", false).is_err());
}

#[test]
fn a_url_concerns_all_its_variants_and_soft_purges_tell_since_when() {
    let url = Rule::url("http://a.test/x?b=1", &KeyRules::default(), false).unwrap();
    assert_eq!(gate(url.clone(), "http://a.test/x?b=1", &[]), Gate::Void);
    for other in ["http://a.test/x", "http://a.test/x?b=12", "https://a.test/x?b=1", "http://a.test/x?"] {
        assert_eq!(gate(url.clone(), other, &[]), Gate::Live, "{other}");
    }
    let variant = Key::of(
        &Place::of(false, "a.test", b"/x?b=1"),
        &KeyRules::default(),
        &HeaderMap::new(),
        &[("arm".to_owned(), "red".to_owned())],
    );
    assert_eq!(url_parts(variant.bytes()).unwrap().bytes, variant.url_bytes(), "{}", readable(variant.bytes()));
    let clock = Clock::manual();
    let book = Book::new(clock.clone());
    let before = filed(&[], book.generation());
    let at = clock.now();
    book.set(&[Rule::all(true)]);
    clock.advance(std::time::Duration::from_secs(50));
    book.set(&[Rule::url("http://a.test/x?b=1", &KeyRules::default(), true).unwrap()]);
    let Gate::Stale { since } = book.gate_of(&before, variant.bytes()) else { panic!("stale") };
    assert!(since.duration_since(at).unwrap().as_secs() < 5, "the first purge counts");
    book.set(&[url]);
    assert_eq!(book.gate_of(&before, variant.bytes()), Gate::Void, "hard wins over soft");
}

#[test]
fn bytes_that_are_no_key_are_void_once_anything_is_purged() {
    let book = Book::new(Clock::system());
    let before = filed(&[], book.generation());
    book.set(&[Rule::tag("x", false).unwrap()]);
    assert_eq!(book.gate_of(&before, b"garbage"), Gate::Void);
    assert_eq!(book.gate_of(&filed(&[], book.generation() + 1), place("http://a.test/").bytes()), Gate::Void);
}

#[test]
fn more_rules_than_are_held_purge_more_and_forget_none() {
    let book = Book::new(Clock::system());
    let old = filed(&["kept"], book.generation());
    let url = |host: &str, i: usize| Rule::url(&format!("http://{host}/{i}"), &KeyRules::default(), false).unwrap();
    let flood: Vec<Rule> = (0..RULES_MAX).map(|i| url("flood.test", i)).collect();
    book.set(&[url("calm.test", 1), Rule::tag("gone", false).unwrap()]);
    book.set(&flood);
    assert!(book.rules() <= RULES_MAX as u64, "{}", book.rules());
    let gate = |book: &Book, tags: &[&str], url: &str| book.gate_of(&filed(tags, old.generation), place(url).bytes());
    for i in [0, 1, RULES_MAX - 1] {
        assert_eq!(gate(&book, &[], &format!("http://flood.test/{i}")), Gate::Void);
    }
    assert_eq!(gate(&book, &[], "http://calm.test/1"), Gate::Void);
    assert_eq!(gate(&book, &[], "http://calm.test/2"), Gate::Live, "one host's flood is not its neighbour's");
    assert_eq!(gate(&book, &["gone"], "http://calm.test/2"), Gate::Void);
    // Tags cannot be folded into anything but everything.
    let tags: Vec<Rule> = (0..=RULES_MAX).map(|i| Rule::tag(&format!("t{i}"), false).unwrap()).collect();
    book.set(&tags);
    assert!(book.rules() <= RULES_MAX as u64);
    for tag in ["t0", "t1", "gone"] {
        assert_eq!(gate(&book, &[tag], "http://calm.test/2"), Gate::Void);
    }
}

#[test]
fn more_lengths_of_prefixes_than_are_looked_up_become_shorter_ones() {
    let book = Book::new(Clock::system());
    let old = book.generation();
    let rules: Vec<Rule> =
        (1..200).map(|n| Rule::prefix(&format!("https://a.test/{}/", "x".repeat(n)), false).unwrap()).collect();
    book.set(&rules);
    for n in [1, PREFIX_LENGTHS_MAX, PREFIX_LENGTHS_MAX + 1, 199] {
        let url = format!("https://a.test/{}/y", "x".repeat(n));
        assert_eq!(book.gate_of(&filed(&[], old), place(&url).bytes()), Gate::Void, "{n}");
    }
    assert_eq!(book.gate_of(&filed(&[], old), place("https://a.test/y").bytes()), Gate::Live);
    // Shorter than any length there is: the host, never a neighbour.
    book.set(&[Rule::prefix("b.test/", false).unwrap()]);
    assert_eq!(book.gate_of(&filed(&[], old), place("http://b.test/z").bytes()), Gate::Void);
    assert_eq!(book.gate_of(&filed(&[], old), place("http://bb.test/z").bytes()), Gate::Live);
}

#[test]
fn tags_are_read_from_the_fields_that_the_route_names() {
    let headers = |fields: &[(&'static str, &str)]| -> HeaderMap {
        let field = |(n, v): &(&'static str, &str)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap());
        fields.iter().map(field).collect()
    };
    let both = [SURROGATE_KEY, CACHE_TAG];
    let read = |h: &HeaderMap, names: &[HeaderName]| Tags::read(h, names).map(|t| t.filed().join("|"));
    let h = headers(&[("surrogate-key", " b  a,1 "), ("surrogate-key", "b"), ("cache-tag", "c, d,,e")]);
    assert_eq!(read(&h, &both), Ok("a,1|b|c|d|e".to_owned()));
    assert_eq!(read(&h, &[CACHE_TAG]), Ok("c|d|e".to_owned()));
    assert_eq!(read(&h, &[]), Ok(String::new()));
    let many: Vec<String> = (0..=TAGS_MAX).map(|i| i.to_string()).collect();
    for (field, value) in
        [("cache-tag", many.join(",")), ("surrogate-key", "x".repeat(1025)), ("surrogate-key", "\u{e4}".to_owned())]
    {
        let value = HeaderValue::from_bytes(&if value.len() == 2 { vec![0xe4] } else { value.into_bytes() }).unwrap();
        let h = HeaderMap::from_iter([(HeaderName::from_static(field), value)]);
        assert_eq!(read(&h, &both), Err(TooMany), "{field}");
    }
}
