//! A client's conditions against a stored answer (RFC 9110 §13, RFC 9111 §4.3.2).
//!
//! `If-Match` and `If-Unmodified-Since` are for the origin; a cache does not judge them (RFC 9111 §4.3.2).

use super::fresh::http_date;
use http::{HeaderMap, HeaderValue, header};
use std::time::SystemTime;

/// What conditions are compared with, read once when an answer is stored.
#[derive(Clone, Debug, Default)]
pub struct Validators {
    /// `ETag`.
    pub etag: Option<HeaderValue>,
    /// `Last-Modified`, or `Date` where that is missing (RFC 9111 §4.3.2).
    pub modified: Option<SystemTime>,
}

impl Validators {
    /// From a stored header.
    pub fn of(headers: &HeaderMap) -> Self {
        let modified = http_date(headers, &header::LAST_MODIFIED).or_else(|| http_date(headers, &header::DATE));
        Validators { etag: headers.get(header::ETAG).cloned(), modified }
    }
}

/// Whether the client's copy is still good: answer 304. Only for GET and HEAD with a stored 200.
pub fn not_modified(request: &HeaderMap, stored: &Validators) -> bool {
    if request.contains_key(header::IF_NONE_MATCH) {
        // If-Modified-Since must then be ignored (RFC 9110 §13.1.3).
        return request.get_all(header::IF_NONE_MATCH).iter().any(|line| lists(line.as_bytes(), stored.etag.as_ref()));
    }
    match (http_date(request, &header::IF_MODIFIED_SINCE), stored.modified) {
        (Some(since), Some(modified)) => modified <= since,
        _ => false,
    }
}

/// Whether an `If-None-Match` line lists the tag, by weak comparison (§8.8.3.2); `*` matches whatever is stored.
fn lists(line: &[u8], etag: Option<&HeaderValue>) -> bool {
    let line = line.trim_ascii();
    if line == b"*" {
        return true;
    }
    let Some(etag) = etag else { return false };
    let wanted = opaque(etag.as_bytes());
    let mut rest = line;
    while let Some((tag, after)) = next_tag(rest) {
        if tag == wanted {
            return true;
        }
        rest = after;
    }
    false
}

fn opaque(tag: &[u8]) -> &[u8] {
    let tag = tag.trim_ascii();
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The next tag of a list without its weakness mark; quotes are part of the tag, commas inside them too.
fn next_tag(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = list.iter().position(|b| !matches!(b, b',' | b' ' | b'\t'))?;
    let list = opaque(list.get(start..)?);
    let end = match list.strip_prefix(b"\"") {
        Some(inner) => inner.iter().position(|b| *b == b'"').map_or(list.len(), |at| at + 2),
        // Old clients send tags without quotes.
        None => list.iter().position(|b| matches!(b, b',' | b' ' | b'\t')).unwrap_or(list.len()),
    };
    list.split_at_checked(end)
}
