//! Tests of the directive parsers, `Vary`, conditions and `Cache-Status`.

use super::super::conditional::{Validators, not_modified};
use super::super::status::{CacheStatus, Fwd, Handled};
use super::super::{targeted, vary};
use super::*;
use http::HeaderMap;
use pingora_cache::{CachePhase, NoCacheReason};
use proptest::prelude::*;

pub fn fields(list: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers
}

fn cc(line: &str) -> CacheControl {
    CacheControl::of(&fields(&[("cache-control", line)]))
}

#[test]
fn rfc9111_5_2_directives_are_read() {
    let c = cc("Max-Age=60,  S-MAXAGE=\"10\" ,no-store;x=1, public, x=\"a,max-age=5\", must-revalidate");
    assert_eq!((c.max_age, c.s_maxage), (Delta::Secs(60), Delta::Secs(10)));
    assert!(c.has(Flags::PUBLIC) && c.has(Flags::MUST_REVALIDATE));
    assert!(!c.has(Flags::NO_STORE), "`no-store;x=1` is another directive");
    assert!(cc("no-store=foo").has(Flags::NO_STORE), "arguments of flags are ignored");
    assert_eq!(
        cc("private=\"X-A, set-cookie\"").private,
        Fields::Names(vec!["x-a".parse().unwrap(), "set-cookie".parse().unwrap()])
    );
    for all in ["private", "private=\"\"", "private=\"a b\"", "private=\"x\", private", "private, private=\"x\""] {
        assert_eq!(cc(all).private, Fields::All, "{all}");
    }
}

#[test]
fn rfc9111_1_2_2_delta_seconds() {
    for (text, want) in [
        ("max-age=0", Delta::Secs(0)),
        ("max-age=0060", Delta::Secs(60)),
        ("max-age=99999999999999999999", Delta::Secs(SECS_MAX)),
        ("max-age=4294967295", Delta::Secs(SECS_MAX)),
        ("max-age=60, max-age=60", Delta::Secs(60)),
        ("max-age=60, max-age=61", Delta::Invalid),
        ("max-age=-1", Delta::Invalid),
        ("max-age=1.5", Delta::Invalid),
        ("max-age=a", Delta::Invalid),
        ("max-age='60'", Delta::Invalid),
        ("max-age", Delta::Invalid),
        ("max-age=\"60\"x", Delta::Invalid),
        ("max-age=\"60", Delta::Secs(60)),
        ("xmax-age=60", Delta::Absent),
    ] {
        assert_eq!(cc(text).max_age, want, "{text}");
    }
    assert_eq!(cc("max-stale").max_stale, Delta::Secs(SECS_MAX));
}

#[test]
fn rfc9213_2_1_targeted_fields_are_dictionaries() {
    let of = |v: &str| targeted::of(&fields(&[("cdn-cache-control", v)]));
    let c = of("max-age=60;x=\"y\", no-store=?0, private, stale-if-error=5").unwrap();
    assert_eq!((c.max_age, c.stale_if_error), (Delta::Secs(60), Delta::Secs(5)));
    assert!(!c.has(Flags::NO_STORE) && c.private == Fields::All);
    assert_eq!(
        of("max-age=\"60\", s-maxage=1.5, max-stale").unwrap().max_age,
        Delta::Absent,
        "wrong types are ignored"
    );
    assert_eq!(of("max-age=1, max-age=2").unwrap().max_age, Delta::Secs(2), "the last one counts");
    for bad in ["", "max-age=", "Max-Age=60", "max-age=60,", "max-age=60 no-store", "a=\"x", "a=?2", "a=(1)"] {
        assert!(of(bad).is_none(), "{bad}");
    }
    assert!(targeted::of(&fields(&[("cache-control", "max-age=1")])).is_none());
}

#[test]
fn rfc9111_4_1_vary_is_compared_normalised() {
    let stored = fields(&[("vary", "Accept-Encoding, Accept-Language"), ("vary", "accept-encoding,X-A")]);
    assert_eq!(vary::names(&stored).len(), 3);
    let v = |list: &[(&str, &str)]| vary::of(&stored, &fields(list));
    let base = v(&[("accept-encoding", "gzip, br;q=0.5"), ("accept-language", "de, en;q=0.8")]);
    assert!(base.is_some());
    assert_eq!(
        base,
        v(&[("accept-language", "EN; q=0.8"), ("accept-language", "de"), ("accept-encoding", "BR,x-gzip")])
    );
    assert_ne!(base, v(&[("accept-encoding", "gzip, br;q=0"), ("accept-language", "de, en;q=0.8")]));
    assert_ne!(base, v(&[("accept-encoding", "gzip, br"), ("accept-language", "de")]));
    assert_ne!(v(&[]), v(&[("x-a", "")]));
    assert_ne!(v(&[("x-a", "a")]), v(&[("x-a", "A")]), "an unknown field keeps its case");
    assert_eq!(v(&[("x-a", "a  b")]), v(&[("x-a", " a b ")]));
    assert_eq!(vary::of(&fields(&[("vary", " ,")]), &fields(&[])), None);
    assert!(vary::has_star(&fields(&[("vary", "accept"), ("vary", "x, *")])));
}

#[test]
fn rfc9110_13_conditions_of_the_client() {
    let stored = Validators::of(&fields(&[
        ("etag", "W/\"a,b\""),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("date", "Mon, 07 Nov 1994 08:49:37 GMT"),
    ]));
    let met = |list: &[(&str, &str)]| not_modified(&fields(list), &stored);
    for tag in ["\"a,b\"", "W/\"a,b\"", "*", "\"x\", W/\"y\" ,\"a,b\"", "\"x\",,\"a,b\""] {
        assert!(met(&[("if-none-match", tag)]), "{tag}");
    }
    for tag in ["\"a\"", "\"x\", \"b\"", "\"a,b", "", "\"x,\"a,b\"", "**"] {
        assert!(!met(&[("if-none-match", tag)]), "{tag}");
    }
    let since = "Sun, 06 Nov 1994 08:49:37 GMT";
    assert!(met(&[("if-modified-since", since)]));
    assert!(!met(&[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")]));
    assert!(!met(&[("if-modified-since", "yesterday")]));
    assert!(!met(&[("if-none-match", "\"x\""), ("if-modified-since", since)]), "§13.1.3");
    let dated = Validators::of(&fields(&[("date", since)]));
    assert!(not_modified(&fields(&[("if-modified-since", since)]), &dated), "RFC 9111 §4.3.2: else Date");
    assert!(!not_modified(&fields(&[("if-none-match", "\"x\"")]), &Validators::default()));
}

#[test]
fn rfc9211_2_cache_status() {
    let of = |phase, why, status, ttl| CacheStatus::of_phase(phase, why, status, ttl);
    let miss = CachePhase::Miss;
    let off = |r| CachePhase::Disabled(r);
    for (status, want) in [
        (CacheStatus::hit(30), "sluicegate; hit; ttl=30"),
        (of(CachePhase::Hit, None, None, Some(9)), "sluicegate; hit; ttl=9"),
        (of(CachePhase::Stale, None, Some(503), Some(-3)), "sluicegate; hit; ttl=-3; detail=stale_if_error"),
        (of(CachePhase::StaleUpdating, None, None, Some(-3)), "sluicegate; hit; ttl=-3; detail=stale_while_revalidate"),
        (of(miss, None, Some(200), Some(60)), "sluicegate; fwd=uri-miss; fwd-status=200; ttl=60; stored"),
        (of(miss, Some(Fwd::VaryMiss), Some(200), None), "sluicegate; fwd=vary-miss; fwd-status=200; stored"),
        (of(CachePhase::Revalidated, None, Some(304), Some(5)), "sluicegate; fwd=stale; fwd-status=304; ttl=5; stored"),
        (
            of(CachePhase::Expired, Some(Fwd::Request), Some(200), None),
            "sluicegate; fwd=request; fwd-status=200; stored",
        ),
        (
            of(off(NoCacheReason::Custom("set_cookie")), None, Some(200), Some(1)),
            "sluicegate; fwd=uri-miss; fwd-status=200; detail=set_cookie",
        ),
        (
            of(off(NoCacheReason::CacheLockGiveUp), None, Some(200), None).collapsed(true),
            "sluicegate; fwd=uri-miss; fwd-status=200; collapsed; detail=lock_give_up",
        ),
        (CacheStatus::bypass(Fwd::Method, "method"), "sluicegate; fwd=method; detail=method"),
        (CacheStatus::bypass(Fwd::Bypass, "policy_pass"), "sluicegate; fwd=bypass; detail=policy_pass"),
        (CacheStatus::bypass(Fwd::Partial, ""), "sluicegate; fwd=partial"),
    ] {
        assert_eq!(status.render(), want);
        let says_hit = want.contains("; hit");
        assert_eq!(says_hit, status.handled == Handled::Hit);
    }
}

proptest! {
    #[test]
    fn any_bytes_can_be_a_cache_control(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(value) = http::HeaderValue::from_bytes(&bytes) {
            let mut headers = HeaderMap::new();
            headers.insert("cache-control", value.clone());
            headers.insert("cdn-cache-control", value.clone());
            headers.insert("vary", value.clone());
            headers.insert("if-none-match", value.clone());
            headers.insert("etag", value);
            let _ = (CacheControl::of(&headers), targeted::of(&headers), vary::of(&headers, &headers));
            let _ = not_modified(&headers, &Validators::of(&headers));
        }
    }

    #[test]
    fn any_text_of_directives_is_read_to_its_end(text in "[a-z0-9,=\\\\ -]{0,60}", age in 0..1000u32) {
        // Whatever stands before it unquoted, a last directive is seen.
        prop_assume!(!text.contains("max-age"));
        prop_assert_eq!(cc(&format!("{text},max-age={age}")).max_age, Delta::Secs(age));
        let _ = cc(&text);
    }
}

#[test]
fn surrogate_control_is_read_after_cdn_cache_control() {
    let of = |v: &str| targeted::of(&fields(&[("surrogate-control", v)]));
    let cc = of("max-age=60+30, content=\"ESI/1.0\"").unwrap();
    assert_eq!((cc.max_age, cc.stale_while_revalidate), (Delta::Secs(60), Delta::Secs(30)));
    assert!(of("no-store").unwrap().has(Flags::NO_STORE) && of("no-store-remote").unwrap().has(Flags::NO_STORE));
    for silent in ["", "content=\"ESI/1.0\"", "max-age=5;other", "no-store;other", "s-maxage=5"] {
        assert_eq!(of(silent), None, "{silent}");
    }
    let both = fields(&[("surrogate-control", "max-age=1"), ("cdn-cache-control", "max-age=2")]);
    assert_eq!(targeted::of(&both).unwrap().max_age, Delta::Secs(2));
    assert_eq!(of("max-age=x").unwrap().max_age, Delta::Invalid);
}

#[test]
fn rfc9111_4_1_white_space_around_commas_means_nothing_in_lists() {
    let stored = fields(&[("vary", "x-list, cookie")]);
    let v = |name: &'static str, value: &str| vary::of(&stored, &fields(&[(name, value)]));
    assert_eq!(v("x-list", "1,2"), v("x-list", " 1 , 2 "));
    assert_eq!(v("x-list", "1,2"), vary::of(&stored, &fields(&[("x-list", "1"), ("x-list", "2")])), "RFC 9110 §5.3");
    assert_ne!(v("x-list", "1,2"), v("x-list", "2,1"), "order may mean something");
    assert_ne!(v("x-list", "\"a,b\""), v("x-list", "\"a, b\""), "inside quotes it does");
    assert_ne!(v("x-list", "\"a\\\", b\""), v("x-list", "\"a\\\",b\""), "an escaped quote ends nothing");
    assert_ne!(v("cookie", "a=1, 2"), v("cookie", "a=1,2"), "no list");
}
