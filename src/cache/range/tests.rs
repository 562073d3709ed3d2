//! Tests of ranges, by RFC clause.

use super::*;
use proptest::prelude::*;

fn fields(all: &[(&'static str, &str)]) -> HeaderMap {
    let mut h = HeaderMap::new();
    all.iter().for_each(|(n, v)| assert!(!h.append(*n, v.parse().unwrap()) || *n == "range"));
    h
}

fn of(range: &str, length: u64) -> Wanted {
    wanted(&Method::GET, &fields(&[("range", range)]), &HeaderMap::new(), length)
}

/// First byte and end (exclusive) of each part.
fn some(ranges: &[(u64, u64)]) -> Wanted {
    Wanted::Parts(ranges.iter().map(|(first, end)| *first..*end).collect())
}

#[test]
fn rfc9110_14_1_2_first_last_open_and_suffix() {
    assert_eq!(of("bytes=0-1", 10), some(&[(0, 2)]));
    assert_eq!(of("BYTES = 3-99", 10), some(&[(3, 10)]));
    assert_eq!(of("bytes=4-", 10), some(&[(4, 10)]));
    assert_eq!(of("bytes=-3", 10), some(&[(7, 10)]));
    assert_eq!(of("bytes=-99", 10), some(&[(0, 10)]));
    assert_eq!(of("bytes=0-99999999999999999999", 10), some(&[(0, 10)]));
}

#[test]
fn rfc9110_14_2_several_ranges_in_order() {
    assert_eq!(of("bytes=0-1, 4-5,-1", 10), some(&[(0, 2), (4, 6), (9, 10)]));
    assert_eq!(of("bytes=0-1,20-30", 10), some(&[(0, 2)]), "what lies outside is left out");
}

#[test]
fn rfc9110_15_5_17_nothing_of_it_exists() {
    assert_eq!(of("bytes=10-", 10), Wanted::Nothing);
    assert_eq!(of("bytes=-0", 10), Wanted::Nothing);
    assert_eq!(of("bytes=10-11, 12-13", 10), Wanted::Nothing);
    assert_eq!(of("bytes=-5", 0), Wanted::Nothing, "an empty body has no suffix");
    assert_eq!(of("bytes=0-", 0), Wanted::Nothing);
}

#[test]
fn rfc9110_14_2_what_is_no_range_is_ignored() {
    for bad in
        ["items=0-1", "bytes", "bytes=", "bytes=x-1", "bytes=1-x", "bytes=-", "bytes=5-1", "bytes=0-1,a", "bytes=+1-2"]
    {
        assert_eq!(of(bad, 10), Wanted::Whole, "{bad}");
    }
    let twice = fields(&[("range", "bytes=0-1"), ("range", "bytes=2-3")]);
    assert_eq!(wanted(&Method::GET, &twice, &HeaderMap::new(), 10), Wanted::Whole);
}

#[test]
fn rfc9110_17_15_overlapping_unordered_or_many_ranges_get_the_whole() {
    assert_eq!(of("bytes=0-3,2-5", 10), Wanted::Whole);
    assert_eq!(of("bytes=4-5,0-1", 10), Wanted::Whole);
    let many = |n: usize| format!("bytes={}", (0..n).map(|i| format!("{0}-{0}", i * 2)).collect::<Vec<_>>().join(","));
    assert!(matches!(of(&many(RANGES_MAX), 1000), Wanted::Parts(_)));
    assert_eq!(of(&many(RANGES_MAX + 1), 1000), Wanted::Whole);
}

#[test]
fn rfc9110_14_2_only_get_has_ranges() {
    let range = fields(&[("range", "bytes=0-1")]);
    assert_eq!(wanted(&Method::HEAD, &range, &HeaderMap::new(), 10), Wanted::Whole);
}

#[test]
fn rfc9110_13_1_5_if_range_is_compared_strongly() {
    let modified = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    let later = ("date", "Sun, 06 Nov 1994 09:00:00 GMT");
    let asks = |if_range: &str, stored: &[(&'static str, &str)]| {
        let request = fields(&[("range", "bytes=0-1"), ("if-range", if_range)]);
        wanted(&Method::GET, &request, &fields(stored), 10) != Wanted::Whole
    };
    assert!(asks("\"a\"", &[("etag", "\"a\"")]));
    assert!(!asks("\"b\"", &[("etag", "\"a\"")]));
    assert!(!asks("W/\"a\"", &[("etag", "W/\"a\"")]), "weak tags never match");
    assert!(!asks("\"a\"", &[("etag", "W/\"a\"")]));
    assert!(!asks("\"a\"", &[]));
    assert!(asks(modified.1, &[modified, later]));
    assert!(!asks(modified.1, &[modified]), "of unknown strength");
    assert!(!asks(modified.1, &[modified, ("date", modified.1)]), "made in the very second");
    assert!(!asks("Sun, 06 Nov 1994 08:49:38 GMT", &[modified, later]), "not an exact match");
}

proptest! {
    #[test]
    fn what_is_asked_for_lies_within_the_body(set in "[0-9 ,-]{0,40}", length in 0u64..300) {
        if let Wanted::Parts(parts) = of(&format!("bytes={set}"), length) {
            prop_assert!(!parts.is_empty() && parts.len() <= RANGES_MAX);
            let mut end = 0;
            for part in parts {
                prop_assert!(part.start < part.end && part.end <= length && part.start >= end);
                end = part.end;
            }
        }
    }

    #[test]
    fn no_field_makes_it_panic(range in "[ -~]{0,60}", if_range in "[ -~]{0,40}") {
        let request = fields(&[("range", range.as_str()), ("if-range", if_range.as_str())]);
        wanted(&Method::GET, &request, &fields(&[("etag", "\"a\"")]), 100);
    }
}
