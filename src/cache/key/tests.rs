//! Tests of the key, the query rules and purge URLs.

use super::super::purge;
use super::super::query::QueryRules;
use super::*;
use crate::config::cache::QueryParts;
use proptest::prelude::*;

fn rules(exclude: &[&str], include: Option<&[&str]>, sort: bool) -> QueryRules {
    let own = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
    let parts = QueryParts { exclude: own(exclude), include: include.map(own), sort };
    let mut faults = Vec::new();
    let rules = QueryRules::compile(&parts, &mut faults);
    assert!(faults.is_empty());
    rules
}

fn applied(rules: &QueryRules, query: &str) -> Option<String> {
    rules.apply(Some(query.as_bytes())).map(|q| String::from_utf8(q.into_owned()).unwrap())
}

fn plain(tls: bool, host: &str, target: &str) -> Key {
    Key::of(&Place::of(tls, host, target.as_bytes()), &KeyRules::default(), &HeaderMap::new(), &[])
}

#[test]
fn two_hosts_schemes_or_ports_never_share() {
    let keys = [
        plain(false, "a.test", "/x"),
        plain(true, "a.test", "/x"),
        plain(false, "b.test", "/x"),
        plain(false, "a.test:81", "/x"),
        plain(false, "a.test", "/x?"),
        plain(false, "a.test", "/x?y"),
        plain(false, "a.test", "/X"),
        plain(false, "[::1]", "/x"),
        plain(false, "[::1]:81", "/x"),
    ];
    for (i, a) in keys.iter().enumerate() {
        for b in &keys[i + 1..] {
            assert!(a != b && a.hash() != b.hash(), "{a:?} {b:?}");
        }
    }
    assert_eq!(plain(false, "A.TEST:80", "/x"), plain(false, "a.test.", "/x"));
    assert_eq!(plain(true, "a.test:443", ""), plain(true, "a.test", "/"));
    assert_eq!(plain(true, "a.test", "/x?y=1").to_pingora().primary_key(), plain(true, "a.test", "/x?y=1").bytes());
}

#[test]
fn query_rules_drop_keep_and_sort() {
    let r = rules(&["utm_*", "gclid"], None, true);
    assert_eq!(applied(&r, "utm_source=x&b=2&a=2&gclid=9&a=1").unwrap(), "a=2&a=1&b=2");
    assert_eq!(applied(&r, "utm_x=1"), None);
    assert_eq!(applied(&rules(&[], Some(&["id", "p*"]), false), "z=1&page=2&id=3").unwrap(), "page=2&id=3");
    assert_eq!(applied(&rules(&[], None, false), "b&a").unwrap(), "b&a");
}

#[test]
fn what_the_origin_reads_otherwise_stays_in_the_key() {
    // Parameter cloaking: an origin that splits at `;` reads `id` here.
    assert_eq!(applied(&rules(&["utm_*"], None, false), "utm_x=1;id=5").unwrap(), "utm_x=1;id=5");
    // An escaped name is the same parameter to the origin.
    assert_eq!(applied(&rules(&[], Some(&["id"]), false), "%69d=5&x=1").unwrap(), "%69d=5");
    assert_eq!(applied(&rules(&["utm_*"], None, false), "%75tm_x=5&y=1").unwrap(), "y=1");
    assert_eq!(applied(&rules(&["a b"], None, false), "a+b=5&y%=1").unwrap(), "y%=1");
}

#[test]
fn headers_cookies_and_policy_join_the_key() {
    let parts = KeyParts { headers: vec!["x-tier".into()], cookies: vec!["lang".into()], ..KeyParts::default() };
    let mut faults = Vec::new();
    let rules = KeyRules::compile(&parts, &mut faults);
    let of = |fields: &[(&'static str, &str)], vary: VaryOn<'_>| {
        let mut headers = HeaderMap::new();
        fields.iter().for_each(|(n, v)| {
            headers.append(*n, v.parse().unwrap());
        });
        Key::of(&Place::of(true, "a.test", b"/"), &rules, &headers, vary)
    };
    let arm = |v: &str| ("arm".to_owned(), v.to_owned());
    let keys = [
        of(&[], &[]),
        of(&[("x-tier", "")], &[]),
        of(&[("x-tier", "gold")], &[]),
        of(&[("cookie", "lang=gold")], &[]),
        of(&[("cookie", "a=1; lang=de; b=2")], &[]),
        of(&[], &[arm("red")]),
        of(&[], &[arm("blue")]),
    ];
    for (i, a) in keys.iter().enumerate() {
        assert!(keys[i + 1..].iter().all(|b| a != b), "{a:?}");
        assert_eq!(group_of(a.hash()), group_of(keys[0].hash()));
        assert!(a.bytes().starts_with(keys[0].url_bytes()));
    }
    assert_eq!(of(&[("cookie", "lang=de"), ("x", "1")], &[]), of(&[("cookie", "z=1;lang=de")], &[]));
    assert_eq!(readable(keys[2].bytes()), "https://a.test:443/ h:x-tier=gold c:lang");
    let bad = KeyParts {
        headers: vec!["a b".into()],
        cookies: vec!["x;".into()],
        query: QueryParts { exclude: vec![String::new()], ..QueryParts::default() },
    };
    KeyRules::compile(&bad, &mut faults);
    let places: Vec<_> = faults.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(places, ["key.query.exclude[0]", "key.headers[0]", "key.cookies[0]"]);
}

#[test]
fn a_purge_url_names_the_group_of_its_requests() {
    let rules = KeyRules::default();
    let k = purge::key_of("https://A.test/x?y=1", &rules).unwrap();
    assert_eq!(k, plain(true, "a.test", "/x?y=1"));
    assert_eq!(purge::key_of("http://a.test:8080", &rules).unwrap(), plain(false, "a.test:8080", "/"));
    for bad in ["/x", "a.test/x", "ftp://a.test/", "https://u@a.test/", "https://a.test/#f", "https:///x", ""] {
        assert!(purge::key_of(bad, &rules).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn different_parts_never_share_bytes(a in parts(), b in parts()) {
        let key = |p: &Parts| {
            let place = Place { tls: p.0, host: &p.1, port: p.2, path: &p.3, query: p.4.as_deref() };
            Key::of(&place, &KeyRules::default(), &HeaderMap::new(), &p.5)
        };
        let same = {
            let (mut x, mut y) = (a.clone(), b.clone());
            x.5.sort();
            y.5.sort();
            x == y
        };
        prop_assert_eq!(key(&a) == key(&b), same);
        prop_assert_eq!(key(&a).bytes() == key(&b).bytes(), same);
    }

    #[test]
    fn the_query_rules_applied_twice_are_applied_once(q in "[a-c%=&;+*0-9]{0,24}", sort in any::<bool>(), inc in any::<bool>()) {
        let r = rules(&["b*", "c"], inc.then_some(&["a*"][..]), sort);
        let once = applied(&r, &q);
        let twice = once.as_deref().and_then(|o| applied(&r, o));
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn globs_agree_with_a_plain_matcher(pattern in "[ab*]{0,6}", name in "[ab]{0,8}") {
        fn slow(p: &[u8], n: &[u8]) -> bool {
            match p.split_first() {
                None => n.is_empty(),
                Some((b'*', rest)) => (0..=n.len()).any(|i| slow(rest, &n[i..])),
                Some((c, rest)) => n.first() == Some(c) && slow(rest, &n[1..]),
            }
        }
        prop_assume!(!pattern.is_empty());
        let kept = applied(&rules(&[&pattern], None, false), &format!("{name}x")).is_none();
        prop_assert_eq!(kept, slow(pattern.as_bytes(), format!("{name}x").as_bytes()));
    }
}

type Parts = (bool, String, u16, Vec<u8>, Option<Vec<u8>>, Vec<(String, String)>);

fn parts() -> impl Strategy<Value = Parts> {
    let bytes = || proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'/'), Just(b'?'), Just(0u8)], 0..3);
    let vary = proptest::collection::vec(("[ab=]{0,2}", "[ab=]{0,2}"), 0..3);
    (any::<bool>(), "[ab]{1,2}", 80..82u16, bytes(), proptest::option::of(bytes()), vary)
}
