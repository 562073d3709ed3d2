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
fn a_query_with_a_semicolon_is_keyed_as_it_is_written() {
    // To an origin that splits at `;` the last `id` of these two is another one: sorted, they would share a key.
    let r = rules(&["utm_*"], Some(&["id", "a"]), true);
    for q in ["id=1&a=1;id=2", "a=1;id=2&id=1", "utm_x=1&id=1;z=1", "z=1;utm_x=2&utm_y=3"] {
        assert_eq!(applied(&r, q).unwrap(), q);
    }
}

#[test]
fn repeated_parameters_keep_their_order_in_whatever_spelling() {
    let r = rules(&[], None, true);
    for (a, b) in [
        ("id=1&%69d=2", "%69d=2&id=1"),
        ("ID=1&id=2", "id=2&ID=1"),
        ("a.b=1&a_b=2", "a_b=2&a.b=1"),
        ("a[]=1&a=2", "a=2&a[]=1"),
    ] {
        assert_ne!(applied(&r, a), applied(&r, b), "{a}");
    }
    assert_eq!(applied(&r, "b=1&a=2"), applied(&r, "a=2&b=1"));
}

#[test]
fn an_included_parameter_is_keyed_in_every_spelling_an_origin_may_read() {
    let r = rules(&[], Some(&["id", "p_*"]), false);
    for q in ["id[]=5", "ID=5", "%20id=5", "id%00x=5", "id[a][b]=5", "p.q=1", "P_Q=1"] {
        assert_eq!(applied(&r, q).as_deref(), Some(q));
    }
    assert_eq!(applied(&r, "idx=5&x[id]=1&q_p=1"), None);
    assert_eq!(applied(&rules(&[], Some(&["f[*]"]), false), "f[a]=1&g=2").unwrap(), "f[a]=1");
    assert_eq!(applied(&r.only(&["x".to_owned()]), "id=1&x=2").unwrap(), "x=2");
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

    /// Against a model that keeps what it compares: lists of pairs, of header values and of cookie values.
    #[test]
    fn two_requests_share_a_key_if_and_only_if_the_rules_say_so(a in asked(), b in asked(), rule in any::<[bool; 3]>()) {
        let [exclude, include, sort] = rule;
        let listed = |on: bool, names: &[&str]| if on { names.iter().map(|s| (*s).to_owned()).collect() } else { Vec::new() };
        let parts = KeyParts {
            query: QueryParts { exclude: listed(exclude, &["b"]), include: include.then(|| listed(true, &["a", "b"])), sort },
            headers: vec!["x-k".to_owned()],
            cookies: vec!["k".to_owned()],
        };
        let mut faults = Vec::new();
        let rules = KeyRules::compile(&parts, &mut faults);
        let key = |r: &Asked| {
            let mut headers = HeaderMap::new();
            r.headers.iter().for_each(|(n, v)| {
                headers.append(if *n { "x-k" } else { "x-other" }, v.parse().unwrap());
            });
            let cookies: Vec<_> = r.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
            headers.insert("cookie", cookies.join("; ").parse().unwrap());
            let query: Vec<_> = r.query.iter().map(|(n, v)| format!("{n}={v}")).collect();
            let target = format!("/?{}", query.join("&"));
            Key::of(&Place::of(true, "a.test", target.as_bytes()), &rules, &headers, &[])
        };
        let model = |r: &Asked| {
            let mut query: Vec<_> = r.query.clone();
            let changed = exclude || include || sort;
            query.retain(|(n, _)| !exclude || n != "b");
            query.retain(|(n, _)| !include || n == "a" || n == "b");
            if sort {
                // By hand: each pair goes behind the last one that is not greater.
                let mut sorted: Vec<(String, String)> = Vec::new();
                for pair in query {
                    let at = sorted.iter().rposition(|p| p.0 <= pair.0).map_or(0, |at| at + 1);
                    sorted.insert(at, pair);
                }
                query = sorted;
            }
            // Where rules leave nothing, `?` goes too; without rules an empty query is one.
            let query = (changed && query.is_empty()).then_some(()).map_or(Some(query), |()| None);
            let headers: Vec<_> = r.headers.iter().filter(|(n, _)| *n).map(|(_, v)| v.clone()).collect();
            let cookies: Vec<_> = r.cookies.iter().filter(|(n, _)| n == "k").map(|(_, v)| v.clone()).collect();
            (query, headers, cookies)
        };
        prop_assert_eq!(key(&a) == key(&b), model(&a) == model(&b));
        prop_assert_eq!(key(&a).hash() == key(&b).hash(), model(&a) == model(&b));
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

/// A request as the model sees it.
#[derive(Clone, Debug)]
struct Asked {
    query: Vec<(String, String)>,
    headers: Vec<(bool, String)>,
    cookies: Vec<(String, String)>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let pairs = |names| proptest::collection::vec((names, "[xy]"), 0..4);
    let headers = proptest::collection::vec((any::<bool>(), "[xy]"), 0..3);
    (pairs("[abc]"), headers, pairs("[kl]")).prop_map(|(query, headers, cookies)| Asked { query, headers, cookies })
}

type Parts = (bool, String, u16, Vec<u8>, Option<Vec<u8>>, Vec<(String, String)>);

fn parts() -> impl Strategy<Value = Parts> {
    let bytes = || proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'/'), Just(b'?'), Just(0u8)], 0..3);
    let vary = proptest::collection::vec(("[ab=]{0,2}", "[ab=]{0,2}"), 0..3);
    (any::<bool>(), "[ab]{1,2}", 80..82u16, bytes(), proptest::option::of(bytes()), vary)
}
