//! What a cache behind this one said about its copy (`Cache-Status`, RFC 9211), so that what is stale there is never
//! fresh here.

use http::{HeaderMap, HeaderName};
use std::time::Duration;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// How long a copy is still fresh, as a cache behind this one sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// So long.
    Fresh(Duration),
    /// It has been stale for so long.
    Stale(Duration),
}

/// What the nearest cache behind this one says; `None` where there is none or it says nothing of it. The last member is
/// the nearest (RFC 9211 §2). `ttl` counts (§2.4); a `detail` that begins with `stale` stands for a `ttl` of 0.
pub fn left(headers: &HeaderMap) -> Option<Left> {
    let line = headers.get_all(CACHE_STATUS).iter().next_back()?.to_str().ok()?;
    let member = split(line, ',').filter(|m| !m.trim().is_empty()).last()?;
    let mut stale = false;
    for parameter in split(member, ';').skip(1) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name.trim() {
            "ttl" => return ttl(value.trim()),
            "detail" => stale |= value.trim().trim_start_matches('"').starts_with("stale"),
            _ => {}
        }
    }
    stale.then_some(Left::Stale(Duration::ZERO))
}

/// The longest integer of a structured field, in digits (RFC 9651 §3.3.1).
const DIGITS_MAX: usize = 15;

fn ttl(value: &str) -> Option<Left> {
    let secs = |digits: &str| {
        let sound = (1..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse().ok().filter(|_| sound).map(Duration::from_secs)
    };
    match value.strip_prefix('-') {
        Some(over) => secs(over).map(Left::Stale),
        None => secs(value).map(|d| if d.is_zero() { Left::Stale(d) } else { Left::Fresh(d) }),
    }
}

/// Splits at a separator, but not inside quotes.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        let escapes = quoted && c == '\\' && !escaped;
        let plain = !std::mem::replace(&mut escaped, escapes);
        quoted ^= plain && c == '"';
        !quoted && c == at
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Option<Left> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_STATUS, line.parse().unwrap());
        }
        left(&headers)
    }

    #[test]
    fn rfc9211_2_4_the_nearest_caches_ttl_counts() {
        let (fresh, stale) =
            (|s| Some(Left::Fresh(Duration::from_secs(s))), |s| Some(Left::Stale(Duration::from_secs(s))));
        assert_eq!(of(&["sluicegate; hit; ttl=30"]), fresh(30));
        assert_eq!(of(&["sluicegate;hit;ttl=-5;detail=stale_while_revalidate"]), stale(5));
        assert_eq!(of(&["far; hit; ttl=9, near; fwd=uri-miss; ttl=3; stored"]), fresh(3));
        assert_eq!(of(&["far; hit; ttl=9", "near; hit; ttl=4,"]), fresh(4));
        assert_eq!(of(&["near; hit; ttl=0"]), stale(0));
        assert_eq!(of(&["near; hit; detail=stale_if_error"]), stale(0));
        assert_eq!(of(&["\"a, b; ttl=1\"; hit; detail=\"x\\\"; ttl=2\"; ttl=7"]), fresh(7));
    }

    #[test]
    fn rfc9211_2_4_what_cannot_be_read_says_nothing() {
        for lines in [
            &[][..],
            &["near; hit"],
            &["near; ttl=1.5"],
            &["near; ttl=x"],
            &["near; ttl=--1"],
            &[""],
            &["far; ttl=3, near; hit"],
            &["near; ttl=9999999999999999"],
        ] {
            assert_eq!(of(lines), None, "{lines:?}");
        }
    }
}
