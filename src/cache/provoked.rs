//! Errors that a client can provoke: which of them may be stored, and after which requests (cache-poisoned denial of
//! service). Stored without care, one oversized or odd request would break a page for everybody.

use super::cc::{CacheControl, Delta};
use http::{HeaderMap, HeaderName, header};
use std::time::Duration;

/// Statuses that answer the sender's own header fields, length or pace; never stored, whatever freshness the origin gave.
const NEVER: [u16; 14] = [401, 406, 407, 408, 411, 412, 413, 415, 416, 417, 421, 425, 429, 431];

/// Statuses that answer the URL at least as often; stored on the origin's own word, and after a plain request only.
const WITH_CARE: [u16; 2] = [400, 414];

/// Such an error is fresh no longer than this, so that whatever slips through soon passes.
pub const LIFETIME_MAX: Duration = Duration::from_secs(10);

/// The longest value of a field of a plain request, in bytes.
const VALUE_BYTES_MAX: usize = 512;

/// All fields of a plain request together, in bytes.
const FIELDS_BYTES_MAX: usize = 4096;

/// Fields by which a request asks for other than the plain representation of its URL.
const ODD: [HeaderName; 8] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::EXPECT,
    header::UPGRADE,
    header::AUTHORIZATION,
    header::TRANSFER_ENCODING,
];

/// How an error may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Like any other answer.
    None,
    /// With explicit freshness, after a plain request, for [`LIFETIME_MAX`] at most.
    Bounded,
    /// Not at all.
    Never,
}

/// The care that a status needs.
pub fn care(status: u16) -> Care {
    match status {
        s if NEVER.contains(&s) => Care::Never,
        s if WITH_CARE.contains(&s) => Care::Bounded,
        _ => Care::None,
    }
}

/// Whether the origin itself gave the answer a lifetime (RFC 9111 §4.2.1), so that it is meant to be stored.
pub fn is_explicit(headers: &HeaderMap, cc: &CacheControl) -> bool {
    cc.max_age != Delta::Absent || cc.s_maxage != Delta::Absent || headers.contains_key(header::EXPIRES)
}

/// Whether nothing about a request but its URL is likely to have caused an error: no field is long, none holds other than
/// visible ASCII, none asks for more than the plain representation, and no body came with it.
pub fn is_plain(request: &HeaderMap) -> bool {
    let visible = |b: &u8| matches!(b, b' '..=b'~');
    let bytes: usize = request.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    bytes <= FIELDS_BYTES_MAX
        && request.iter().all(|(_, value)| value.len() <= VALUE_BYTES_MAX && value.as_bytes().iter().all(visible))
        && !ODD.iter().any(|name| request.contains_key(name))
        && !request.keys().any(|name| name.as_str().starts_with("content-") || name.as_str().contains("method"))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    #[test]
    fn a_plain_request_has_nothing_long_or_odd() {
        let is_plain = |fields: &[(&'static str, &[u8])]| {
            let mut h = HeaderMap::new();
            for (name, value) in fields {
                h.append(*name, http::HeaderValue::from_bytes(value).unwrap());
            }
            super::is_plain(&h)
        };
        assert!(is_plain(&[
            ("host", b"a.test"),
            ("user-agent", b"x/1 (y)"),
            ("accept", b"*/*"),
            ("cookie", b"a=b; c=\"d\"")
        ]));
        for odd in [
            ("x-any", &[b'x'; 513][..]),
            ("x-any", b"a\tb"),
            ("x-any", b"caf\xc3\xa9"),
            ("x-http-method-override", b"DELETE"),
            ("content-length", b"3"),
            ("range", b"bytes=0-1"),
            ("expect", b"100-continue"),
            ("authorization", b"x"),
        ] {
            assert!(!is_plain(&[("host", b"a.test"), odd]), "{}", odd.0);
        }
        assert!(!is_plain(&[("a", &[b'x'; 500][..]); 9]), "many fields");
    }
}
