//! Tests of the three forms of HTTP dates.

use super::*;
use proptest::prelude::*;

fn secs(text: &str) -> Option<u64> {
    parse(text).map(|t| t.duration_since(UNIX_EPOCH).unwrap().as_secs())
}

#[test]
fn rfc9110_5_6_7_all_three_forms_are_read() {
    for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
        assert_eq!(secs(text), Some(784_111_777), "{text}");
    }
    assert_eq!(secs(" Thu Aug 18 02:01:18 2050 "), secs("Thu, 18 Aug 2050 02:01:18 GMT"));
}

#[test]
fn rfc9111_4_2_letter_case_does_not_matter() {
    for text in ["SUN, 06 NOV 1994 08:49:37 gmt", "sunday, 06-nov-94 08:49:37 Gmt", "sUN nOV  6 08:49:37 1994"] {
        assert_eq!(secs(text), Some(784_111_777), "{text}");
    }
    assert_eq!(secs("Mon, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777), "the wrong day of the week says nothing");
}

#[test]
fn rfc9110_5_6_7_anything_else_is_no_date() {
    for text in [
        "",
        "0",
        "Sun, 06 Nov 1994 08:49:37 AEST",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 GMT+1",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06  Nov 1994 08:49:37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 1900 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1969 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 1994 GMT",
        "Sün, 06 Nov 1994 08:49:37 GMT",
    ] {
        assert_eq!(secs(text), None, "{text:?}");
    }
}

#[test]
fn rfc9110_5_6_7_two_digit_years_lie_at_most_50_years_ahead() {
    let this_year = year_of(SystemTime::now());
    for year in 0..100 {
        let text = format!("Sunday, 06-Nov-{year:02} 08:49:37 GMT");
        let Some(read) = parse(&text) else {
            assert!((1900..1970).contains(&(1900 + year)), "{text}");
            continue;
        };
        let read = year_of(read);
        assert!(read % 100 == year && read <= this_year + 50 && read + 50 > this_year, "{text}: {read}");
    }
}

#[test]
fn dates_agree_with_a_well_kept_crate() {
    for days in (0..80_000u64).step_by(11) {
        let time = UNIX_EPOCH + Duration::from_secs(days * 86_400 + days % 86_400);
        assert_eq!(parse(&httpdate::fmt_http_date(time)), Some(time), "day {days}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,40}", near in "[SsUuNn, 0-9:NOVGMTnovgmt-]{0,32}") {
        let _ = (parse(&text), parse(&near));
    }
}
