//! Tests of storing, freshness, judging and merging, by RFC clause.

use super::*;
use crate::cache::judge::{Asks, HitVerdict, judge};
use crate::config::cache as config;
use pingora_cache::ForcedFreshness;
use std::time::UNIX_EPOCH;

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// The moment of [`DATE`].
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(784_111_777)
}

fn header(status: u16, fields: &[(&'static str, &str)]) -> ResponseHeader {
    let mut h = ResponseHeader::build(status, None).unwrap();
    for (name, value) in fields {
        h.append_header(*name, *value).unwrap();
    }
    h
}

fn route(yaml: &str) -> RouteCache {
    RouteCache::compile(&serde_yaml::from_str::<config::RouteCache>(yaml).unwrap()).unwrap().unwrap()
}

struct Case {
    route: RouteCache,
    script: Directives,
    authorized: bool,
    waited: Duration,
}

impl Case {
    fn new(yaml: &str) -> Self {
        Case { route: route(yaml), script: Directives::default(), authorized: false, waited: Duration::ZERO }
    }

    fn decide(&self, status: u16, fields: &[(&'static str, &str)]) -> Result<CacheMeta, NoStore> {
        decide(&Answer {
            header: &header(status, fields),
            authorized: self.authorized,
            now: now(),
            waited: self.waited,
            route: &self.route,
            script: &self.script,
            object_bytes_max: 1000,
        })
    }

    /// Freshness left in seconds, 0 when stale.
    fn left(&self, status: u16, fields: &[(&'static str, &str)]) -> Result<u64, NoStore> {
        let meta = self.decide(status, fields)?;
        let until = meta.fresh_until() + Duration::from_nanos(1);
        assert_eq!(meta.is_fresh(now()), until > now());
        Ok(until.duration_since(now()).unwrap_or_default().as_secs())
    }
}

fn left(fields: &[(&'static str, &str)]) -> Result<u64, NoStore> {
    Case::new("true").left(200, fields)
}

const V: (&str, &str) = ("etag", "\"1\"");

#[test]
fn rfc9111_4_2_1_precedence_of_lifetimes() {
    let exp = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
    assert_eq!(left(&[("cache-control", "max-age=5, s-maxage=9"), exp]), Ok(9));
    assert_eq!(left(&[("cache-control", "max-age=5"), exp]), Ok(5));
    assert_eq!(left(&[exp, ("date", "Sun, 06 Nov 1994 08:49:37 GMT")]), Ok(60));
    assert_eq!(left(&[("last-modified", "Sun, 06 Nov 1994 08:32:57 GMT")]), Ok(100));
    assert_eq!(left(&[("last-modified", "Sun, 06 Nov 1983 08:32:57 GMT")]), Ok(86_400));
    assert_eq!(left(&[V]), Err(NoStore::NoFreshness));
    for provoked in [400, 405, 413, 414, 416, 417, 431, 501] {
        let old = [("last-modified", "Sun, 06 Nov 1983 08:32:57 GMT"), ("cache-control", "public")];
        assert!(Case::new("true").decide(provoked, &old).is_err(), "{provoked}: a client can provoke it");
    }
    assert_eq!(
        Case::new("true").left(500, &[("last-modified", "Sun, 06 Nov 1993 08:32:57 GMT")]),
        Err(NoStore::NoFreshness)
    );
}

#[test]
fn rfc9111_4_2_1_invalid_or_conflicting_values_are_stale() {
    for bad in ["max-age=x", "max-age=1, max-age=2", "s-maxage=-1, max-age=60", "max-age=1.5"] {
        assert_eq!(left(&[("cache-control", bad), V]), Ok(0), "{bad}");
        assert_eq!(left(&[("cache-control", bad)]), Err(NoStore::Stale), "{bad}: of no use without a validator");
    }
    assert_eq!(left(&[("expires", "0"), V]), Ok(0), "§5.3");
    assert_eq!(left(&[("expires", DATE), ("expires", "Sun, 06 Nov 1994 09:49:37 GMT"), V]), Ok(0));
}

#[test]
fn rfc9111_4_2_3_age_and_date_count() {
    let mut case = Case::new("true");
    let cc = ("cache-control", "max-age=100");
    assert_eq!(case.left(200, &[cc, ("age", "30")]), Ok(70));
    assert_eq!(case.left(200, &[cc, ("date", "Sun, 06 Nov 1994 08:48:57 GMT")]), Ok(60), "apparent age");
    assert_eq!(case.left(200, &[cc, ("age", "30, 50")]), Ok(70), "§5.1: the first value");
    assert_eq!(case.left(200, &[cc, ("age", "x")]), Ok(100));
    assert_eq!(case.left(200, &[cc, ("age", "500"), V]), Ok(0));
    assert_eq!(case.left(200, &[cc, ("age", "99999999999"), V]), Ok(0));
    case.waited = Duration::from_secs(5);
    let meta = case.decide(200, &[cc, ("age", "30")]).unwrap();
    assert_eq!(now().duration_since(meta.epoch()).unwrap().as_secs(), 35);
}

#[test]
fn rfc9111_3_what_is_not_stored() {
    let fresh = ("cache-control", "max-age=60");
    for (status, fields, want) in [
        (206, vec![fresh], NoStore::Status),
        (304, vec![fresh], NoStore::Status),
        (103, vec![fresh], NoStore::Status),
        (400, vec![fresh], NoStore::Status),
        (431, vec![fresh], NoStore::Status),
        (200, vec![("cache-control", "no-store, max-age=60")], NoStore::NoStore),
        (200, vec![("cache-control", "private, max-age=60")], NoStore::Private),
        (200, vec![fresh, ("set-cookie", "a=1")], NoStore::SetCookie),
        (200, vec![fresh, ("vary", "accept, *")], NoStore::VaryStar),
        (200, vec![fresh, ("content-range", "bytes 0-1/2")], NoStore::ContentRange),
        (200, vec![fresh, ("content-length", "1001")], NoStore::TooLarge),
        (200, vec![fresh, ("content-length", "5, 6")], NoStore::ContentLength),
        (200, vec![fresh, ("content-length", "+5")], NoStore::ContentLength),
        (299, vec![("cache-control", "must-understand, max-age=9")], NoStore::Status),
    ] {
        assert_eq!(Case::new("true").left(status, &fields), Err(want), "{status} {fields:?}");
    }
    assert!(Case::new("true").decide(200, &[("cache-control", "must-understand, no-store, max-age=9")]).is_ok());
    assert!(Case::new("true").decide(503, &[fresh]).is_ok(), "explicit freshness makes other statuses storable");
}

#[test]
fn rfc9111_3_5_authenticated_answers() {
    let case = Case { authorized: true, ..Case::new("true") };
    assert_eq!(case.left(200, &[("cache-control", "max-age=60")]), Err(NoStore::Authorization));
    for cc in ["public, max-age=60", "s-maxage=60", "max-age=60, must-revalidate"] {
        assert_eq!(case.left(200, &[("cache-control", cc)]), Ok(60), "{cc}");
    }
}

#[test]
fn rfc9111_3_1_what_of_a_header_is_stored() {
    let fields = [
        ("cache-control", "max-age=60, private=\"x-me, set-cookie\", no-cache=\"x-you\""),
        ("connection", "X-Hop, close"),
        ("x-hop", "1"),
        ("keep-alive", "1"),
        ("transfer-encoding", "chunked"),
        ("x-me", "1"),
        ("x-you", "1"),
        ("set-cookie", "a=1"),
        ("x-keep", "1"),
        ("content-length", "5, 5"),
        ("content-length", "5"),
    ];
    let meta = Case::new("true").decide(200, &fields).unwrap();
    let mut names: Vec<_> = meta.headers().keys().map(|n| n.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "content-length", "x-keep"]);
    assert_eq!(meta.headers().get("content-length").unwrap(), "5");
}

#[test]
fn rfc9213_2_2_targeted_directives_replace_the_others() {
    let both = [("cdn-cache-control", "max-age=7"), ("cache-control", "no-store"), ("expires", "0")];
    assert_eq!(left(&both), Ok(7));
    assert_eq!(left(&[("cdn-cache-control", "max-age=7,"), ("cache-control", "max-age=3")]), Ok(3), "invalid: ignored");
    assert_eq!(left(&[("cdn-cache-control", "no-store"), ("cache-control", "max-age=3")]), Err(NoStore::NoStore));
}

#[test]
fn the_route_and_the_script_set_lifetimes() {
    let mut case = Case::new(r#"{ ttl: { default: 5m, "404": 30s, "302": 0s, "301": origin } }"#);
    assert_eq!(case.left(200, &[("cache-control", "max-age=5"), ("age", "400")]), Ok(300), "from now, not from Date");
    assert_eq!(case.left(404, &[]), Ok(30));
    assert_eq!(case.left(302, &[("cache-control", "max-age=5")]), Err(NoStore::Policy));
    assert_eq!(case.left(301, &[("cache-control", "max-age=5")]), Ok(5));
    assert_eq!(case.left(503, &[]), Err(NoStore::NoFreshness), "a default does not store errors");
    assert_eq!(case.left(404, &[("cache-control", "private")]), Err(NoStore::Private));
    assert_eq!(case.left(404, &[("cache-control", "no-cache"), V]), Ok(0));
    case.script.ttl = Some(Duration::from_secs(7));
    assert_eq!(case.left(404, &[]), Ok(7));
    case.script.pass = true;
    assert_eq!(case.left(404, &[]), Err(NoStore::Policy));
}

#[test]
fn rfc9111_4_2_4_who_may_serve_stale() {
    let case = Case::new("{ stale_while_revalidate: 60s, stale_if_error: 24h }");
    let windows = |cc: &str| {
        let meta = case.decide(200, &[("cache-control", cc), V]).unwrap();
        (meta.stale_while_revalidate_sec(), meta.stale_if_error_sec())
    };
    assert_eq!(windows("max-age=1"), (60, 86_400));
    assert_eq!(windows("max-age=1, stale-while-revalidate=5, stale-if-error=0"), (5, 0));
    for cc in ["max-age=1, must-revalidate", "max-age=1, proxy-revalidate, stale-if-error=9", "no-cache", "s-maxage=1"]
    {
        assert_eq!(windows(cc), (0, 0), "{cc}");
    }
    assert_eq!(windows("s-maxage=1, stale-while-revalidate=5"), (5, 0), "the origin's own permission");
}

#[test]
fn rfc9111_5_2_1_request_directives() {
    let meta = Case::new("true").decide(200, &[("cache-control", "max-age=100"), ("age", "40")]).unwrap();
    let firm = Case::new("true").decide(200, &[("cache-control", "max-age=100, must-revalidate")]).unwrap();
    let at = |secs: u64| now() + Duration::from_secs(secs);
    let asked = |cc: &str| {
        let mut h = HeaderMap::new();
        h.insert("cache-control", cc.parse().unwrap());
        Asks::of(&h)
    };
    for (cc, secs, want) in [
        ("x", 0, HitVerdict::Fresh),
        ("no-cache", 0, HitVerdict::Revalidate),
        ("max-age=0", 0, HitVerdict::Revalidate),
        ("max-age=40", 0, HitVerdict::Fresh),
        ("max-age=40", 1, HitVerdict::Revalidate),
        ("max-age=x", 0, HitVerdict::Revalidate),
        ("min-fresh=59", 0, HitVerdict::Fresh),
        ("min-fresh=70", 0, HitVerdict::Revalidate),
        ("x", 60, HitVerdict::Stale),
        ("max-stale", 1000, HitVerdict::StaleOk),
        ("max-stale=10", 65, HitVerdict::StaleOk),
        ("max-stale=10", 75, HitVerdict::Stale),
        ("only-if-cached", 0, HitVerdict::Fresh),
        ("only-if-cached", 60, HitVerdict::GatewayTimeout),
        ("only-if-cached, max-stale", 60, HitVerdict::StaleOk),
        ("only-if-cached, no-cache", 0, HitVerdict::GatewayTimeout),
    ] {
        assert_eq!(judge(&asked(cc), &meta, at(secs)), want, "{cc} after {secs} s");
    }
    let ttl = |secs| crate::cache::status::ttl_secs(&meta, at(secs));
    assert_eq!((ttl(0), ttl(10), ttl(70)), (59, 49, -10), "a nanosecond short of 60");
    assert_eq!(judge(&asked("max-stale"), &firm, at(101)), HitVerdict::Stale, "must-revalidate");
    assert_eq!(HitVerdict::Revalidate.to_pingora(), Some(ForcedFreshness::ForceExpired));
    let mut pragma = HeaderMap::new();
    pragma.insert("pragma", "x, No-Cache".parse().unwrap());
    assert!(Asks::of(&pragma).no_cache && !Asks::of(&pragma).is_plain());
    pragma.insert("cache-control", "x".parse().unwrap());
    assert!(!Asks::of(&pragma).no_cache, "§5.4");
}

#[test]
fn rfc9111_3_which_requests_use_the_cache() {
    let req = |method: &str, fields: &[(&'static str, &str)], pass: bool| {
        let mut r = RequestHeader::build(method, b"/", None).unwrap();
        fields.iter().for_each(|(n, v)| r.insert_header(*n, *v).unwrap());
        may_use(&r, &Directives { pass, ..Directives::default() })
    };
    assert_eq!(req("GET", &[("authorization", "x"), ("range", "bytes=0-1"), ("content-length", "0")], false), Ok(()));
    assert_eq!(req("HEAD", &[], false), Ok(()));
    assert_eq!(req("POST", &[], false), Err(Bypass::Method));
    assert_eq!(req("GET", &[("content-length", "5")], false), Err(Bypass::Body));
    assert_eq!(req("GET", &[("transfer-encoding", "chunked")], false), Err(Bypass::Body));
    assert_eq!(req("GET", &[("upgrade", "websocket")], false), Err(Bypass::Upgrade));
    assert_eq!(req("GET", &[("cache-control", "no-store")], false), Err(Bypass::NoStore));
    assert_eq!(req("GET", &[], true), Err(Bypass::Policy));
    assert_eq!(req("GET", &[("x-http-method-override", "DELETE")], false), Err(Bypass::MethodOverride));
}

#[test]
fn rfc9111_3_2_a_304_updates_the_stored_header() {
    let old = header(
        200,
        &[
            ("etag", "\"1\""),
            ("date", DATE),
            ("age", "9"),
            ("x-old", "1"),
            ("x-both", "old"),
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("vary", "Accept, x-a"),
        ],
    );
    let new = header(
        304,
        &[
            ("etag", "\"1\""),
            ("x-both", "new"),
            ("x-both", "er"),
            ("content-length", "0"),
            ("content-encoding", "br"),
            ("vary", "x-a"),
            ("vary", "accept"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("set-cookie", "a=1"),
            ("last-modified", DATE),
        ],
    );
    let merged = merge::merge_304(&old, &new).unwrap();
    let all = |n: &str| merged.headers.get_all(n).iter().map(|v| v.to_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(merged.status, 200);
    assert_eq!(all("x-both"), ["new", "er"]);
    assert_eq!(
        (all("x-old"), all("content-length"), all("content-encoding")),
        (vec!["1".into()], vec!["5".into()], vec!["gzip".into()])
    );
    assert_eq!(all("last-modified"), [DATE]);
    for gone in ["date", "age", "set-cookie", "x-hop", "connection"] {
        assert!(all(gone).is_empty(), "{gone}");
    }
    assert_eq!(merge::merge_304(&old, &header(304, &[("vary", "x-b")])).err(), Some(NoStore::VaryChanged));
    assert_eq!(merge::merge_304(&old, &header(304, &[("etag", "\"2\"")])).err(), Some(NoStore::Stale), "§4.3.4");
    assert!(merge::merge_304(&old, &header(304, &[("etag", "W/\"2\"")])).is_ok());
}
