//! Ranges of a whole stored body (RFC 9110 §14): which bytes a request wants, and whether it still wants them.
//!
//! The store holds whole bodies only. A range that is missed is fetched as the whole object, of which the client gets its
//! part as soon as it is there; a 206 that an origin sends unasked is passed on and not stored. RFC 9111 §3.3 leaves
//! that open, and §3.4 lets parts be put together only under one strong validator.

use super::date;
use http::{HeaderMap, Method, header};
use std::ops::Range;
use std::time::Duration;

/// More ranges than this in one request are not answered; the whole body is (RFC 9110 §14.2, §17.15).
const RANGES_MAX: usize = 16;

/// What becomes of a `Range` field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The whole body: no range, or one that is not honoured.
    Whole,
    /// These bytes, ascending and apart from each other; never empty.
    Parts(Vec<Range<u64>>),
    /// No byte of it exists: 416.
    Nothing,
}

/// What a request wants of a 200 with these fields and a body of `length` bytes. Only GET has ranges (§14.2); `If-Range`
/// is compared strongly (§13.1.5).
pub fn wanted(method: &Method, request: &HeaderMap, stored: &HeaderMap, length: u64) -> Wanted {
    let mut lines = request.get_all(header::RANGE).iter();
    let (Some(range), None) = (lines.next(), lines.next()) else { return Wanted::Whole };
    if method != Method::GET || !still_wanted(request, stored) {
        return Wanted::Whole;
    }
    range.to_str().ok().and_then(|text| parts(text, length)).unwrap_or(Wanted::Whole)
}

/// `None` for what is no set of byte ranges or not worth honouring: then the field is as if it were not there.
fn parts(text: &str, length: u64) -> Option<Wanted> {
    let (unit, set) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut found: Vec<Range<u64>> = Vec::new();
    for (number, spec) in set.split(',').map(str::trim).filter(|s| !s.is_empty()).enumerate() {
        if number >= RANGES_MAX {
            return None;
        }
        let Some(range) = satisfiable(spec, length)? else { continue };
        if found.last().is_some_and(|before| range.start < before.end) {
            return None;
        }
        found.push(range);
    }
    let any = set.contains(|c: char| c.is_ascii_digit());
    match found.is_empty() {
        true => any.then_some(Wanted::Nothing),
        false => Some(Wanted::Parts(found)),
    }
}

/// One `first-last`, `first-` or `-suffix`; the inner `None` lies outside the body.
fn satisfiable(spec: &str, length: u64) -> Option<Option<Range<u64>>> {
    let (first, last) = spec.split_once('-')?;
    let range = match (number(first)?, number(last)?) {
        (None, None) => return None,
        (None, Some(suffix)) => length.saturating_sub(suffix)..length,
        (Some(first), None) => first..length,
        (Some(first), Some(last)) if first > last => return None,
        (Some(first), Some(last)) => first..last.saturating_add(1).min(length),
    };
    Some((range.start < range.end).then_some(range))
}

/// A number, or nothing at all; what overflows is beyond any body.
fn number(digits: &str) -> Option<Option<u64>> {
    let digits = digits.trim();
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((!digits.is_empty()).then(|| digits.parse().unwrap_or(u64::MAX)))
}

/// §13.1.5: a tag must be equal and strong on both sides; a date must be the very `Last-Modified`, and that one strong.
fn still_wanted(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(condition) = request.get(header::IF_RANGE) else { return true };
    let condition = condition.as_bytes().trim_ascii();
    if condition.ends_with(b"\"") {
        return condition.starts_with(b"\"") && stored.get(header::ETAG).is_some_and(|tag| tag.as_bytes() == condition);
    }
    stored.get(header::LAST_MODIFIED).is_some_and(|m| m.as_bytes() == condition) && is_strong_date(stored)
}

/// §8.8.2.2: a date is a strong validator once the answer was made at least a second after it.
fn is_strong_date(stored: &HeaderMap) -> bool {
    let date = |name| stored.get(name).and_then(|v| date::parse(v.to_str().ok()?));
    match (date(header::LAST_MODIFIED), date(header::DATE)) {
        (Some(modified), Some(made)) => made.duration_since(modified).is_ok_and(|d| d >= Duration::from_secs(1)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
