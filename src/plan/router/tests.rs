//! The most specific route wins, whatever the order in the file.

use super::*;

fn router(yaml: &str) -> (Router, Vec<Fault>) {
    let list: Vec<Match> = serde_yaml::from_str(yaml).unwrap();
    let pairs: Vec<(&Match, i32)> = list.iter().map(|m| (m, 0)).collect();
    Router::compile(&pairs).unwrap()
}

fn pick(r: &Router, method: &str, url: &str, headers: &[(&str, &str)]) -> Option<usize> {
    let uri: http::Uri = url.parse().unwrap();
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let headers: HeaderMap = headers
        .iter()
        .map(|(n, v)| (HeaderName::try_from(*n).unwrap(), http::HeaderValue::from_str(v).unwrap()))
        .collect();
    let t =
        Target { host: uri.host().unwrap(), path: uri.path(), query: uri.query(), method: &method, headers: &headers };
    r.route(&t)
}

#[test]
fn exact_host_and_path_beat_wildcards_and_prefixes() {
    let (r, w) = router(
        "[{}, {path: /a/*}, {path: /a/b}, {host: '*.example.com'}, {host: x.example.com}, {host: x.example.com, path: /a/*}, {path_regex: '/a/[0-9]+'}]",
    );
    assert!(w.is_empty(), "{w:?}");
    assert_eq!(pick(&r, "GET", "http://other/", &[]), Some(0));
    assert_eq!(pick(&r, "GET", "http://other/a/c", &[]), Some(1));
    assert_eq!(pick(&r, "GET", "http://other/a/b", &[]), Some(2));
    assert_eq!(pick(&r, "GET", "http://other/a/12", &[]), Some(6));
    assert_eq!(pick(&r, "GET", "http://other/a/12x", &[]), Some(1));
    assert_eq!(pick(&r, "GET", "http://y.example.com/a/b", &[]), Some(3));
    assert_eq!(pick(&r, "GET", "http://example.com/", &[]), Some(0));
    assert_eq!(pick(&r, "GET", "http://x.example.com/q", &[]), Some(4));
    assert_eq!(pick(&r, "GET", "http://x.example.com/a/", &[]), Some(5));
}

#[test]
fn methods_headers_and_query_are_conditions() {
    let (r, _) = router("[{}, {method: POST}, {headers: {x-beta: '1'}}, {query: {v: '2', q: '*'}}]");
    assert_eq!(pick(&r, "GET", "http://h/", &[]), Some(0));
    assert_eq!(pick(&r, "POST", "http://h/", &[]), Some(1));
    assert_eq!(pick(&r, "GET", "http://h/", &[("x-beta", "1")]), Some(2));
    assert_eq!(pick(&r, "GET", "http://h/", &[("x-beta", "2")]), Some(0));
    assert_eq!(pick(&r, "GET", "http://h/?q=&v=2", &[]), Some(3));
    assert_eq!(pick(&r, "GET", "http://h/?v=2", &[]), Some(0));
}

#[test]
fn priority_wins_over_specificity_and_nothing_matches_nothing() {
    let list: Vec<Match> = serde_yaml::from_str("[{path: /a}, {path: /*}]").unwrap();
    let (r, _) = Router::compile(&[(&list[0], 0), (&list[1], 5)]).unwrap();
    assert_eq!(pick(&r, "GET", "http://h/a", &[]), Some(1));
    let (r, _) = router("[{host: only.example}]");
    assert_eq!(pick(&r, "GET", "http://h/a", &[]), None);
}

#[test]
fn an_ambiguous_pair_is_warned_about() {
    let (_, w) = router("[{host: a, path: /x/*}, {host: a, path: /x/*}]");
    assert_eq!(w.len(), 1);
    assert!(w[0].to_string().starts_with("routes[1].match: can take the same requests as routes[0]"));
    let (_, w) = router("[{path: /x, method: GET}, {path: /x, method: POST}]");
    assert!(w.is_empty(), "{w:?}");
}

#[test]
fn faults_come_all_at_once() {
    let list: Vec<Match> = serde_yaml::from_str("[{path: x, host: 'a b', path_regex: '(', method: get}]").unwrap();
    let e = Router::compile(&[(&list[0], 0)]).unwrap_err();
    assert_eq!(e.len(), 4, "{e:?}");
}

#[test]
fn query_conditions_compare_what_the_origin_will_read() {
    let (r, _) = router("[{}, {query: {full: '1'}}, {query: {q: 'a b'}}, {query: {odd: '100%'}}]");
    for (query, route) in [
        ("full=1", 1),
        ("%66ull=1", 1),
        ("full=%31", 1),
        ("x=2&ful%6C=%31", 1),
        ("full=%3", 0),
        ("q=a+b", 2),
        ("q=a%20b", 2),
        ("q=a%2bb", 0),
        ("odd=100%", 3),
        ("odd=100%25", 3),
    ] {
        assert_eq!(pick(&r, "GET", &format!("http://h/?{query}"), &[]), Some(route), "{query}");
    }
}
