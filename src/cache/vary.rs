//! Which request fields tell variants of one URL apart (RFC 9111 §4.1).

use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora_cache::VarianceBuilder;
use pingora_cache::key::HashBinary;

/// `Vary: *`: never matches, so never stored.
pub fn has_star(headers: &HeaderMap) -> bool {
    members(headers).any(|m| m == b"*")
}

/// The field names of `Vary`, sorted, each once.
pub fn names(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut names: Vec<HeaderName> = members(headers).filter_map(|m| m.try_into().ok()).collect();
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    names
}

fn members(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(header::VARY).iter();
    lines.flat_map(|l| l.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii).filter(|m| !m.is_empty())
}

/// The variant that a request wants, `None` where nothing varies. A missing field differs from an empty one.
pub fn variance(names: &[HeaderName], request: &HeaderMap) -> Option<HashBinary> {
    let mut builder = VarianceBuilder::new();
    for name in names {
        builder.add_owned_value(name.as_str(), normalised(name, request));
    }
    builder.finalize()
}

/// What the stored header makes of a request: the one line of `cache_vary_filter`.
pub fn of(stored: &HeaderMap, request: &HeaderMap) -> Option<HashBinary> {
    if stored.contains_key(header::VARY) { variance(&names(stored), request) } else { None }
}

fn normalised(name: &HeaderName, request: &HeaderMap) -> Vec<u8> {
    let mut values = request.get_all(name).iter().peekable();
    if values.peek().is_none() {
        return Vec::new();
    }
    if name == header::ACCEPT_ENCODING {
        return codings(values);
    }
    if SINGLE.contains(name) {
        return present(&values.map(HeaderValue::as_bytes).map(<[u8]>::trim_ascii).collect::<Vec<_>>().join(&b'\n'));
    }
    let is_set = [header::ACCEPT, header::ACCEPT_LANGUAGE, header::ACCEPT_CHARSET].contains(name);
    let mut parts: Vec<Vec<u8>> = values
        .flat_map(|v| members_of(v.as_bytes()))
        .map(|m| squeezed(m, is_set))
        .filter(|m| !is_set || !m.is_empty())
        .collect();
    if is_set {
        parts.sort();
        parts.dedup();
    }
    present(&parts.join(&b','))
}

/// Fields that are no lists: a comma in them is part of the value, and so is the space after it.
const SINGLE: [HeaderName; 6] = [
    header::COOKIE,
    header::AUTHORIZATION,
    header::USER_AGENT,
    header::REFERER,
    header::ORIGIN,
    header::IF_MODIFIED_SINCE,
];

/// The members of a list, whatever stands between quotes left alone (RFC 9110 §5.6.1).
fn members_of(line: &[u8]) -> Vec<&[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    line.split(|b| {
        let escapes = quoted && *b == b'\\' && !escaped;
        let plain = !std::mem::replace(&mut escaped, escapes);
        quoted ^= plain && *b == b'"';
        !quoted && *b == b','
    })
    .collect()
}

fn comma(b: &u8) -> bool {
    *b == b','
}

/// A first byte that a missing field has not.
fn present(value: &[u8]) -> Vec<u8> {
    [b"=", value].concat()
}

/// White space around and doubled inside goes; sets are compared without letter case.
fn squeezed(member: &[u8], lower: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(member.len());
    for b in member.trim_ascii() {
        let b = if b.is_ascii_whitespace() { b' ' } else { *b };
        let around_separator = lower && (b == b' ' || out.last() == Some(&b' '));
        if around_separator && b == b' ' {
            continue;
        }
        if !(b == b' ' && out.last() == Some(&b' ')) {
            out.push(if lower { b.to_ascii_lowercase() } else { b });
        }
    }
    out
}

/// The content codings a client takes, as a sorted set: whatever its order and weights, a client that takes the same
/// codings can be given the same stored answer. `q=0` refusals are kept, for they exclude.
fn codings<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> Vec<u8> {
    let mut set: Vec<Vec<u8>> = Vec::new();
    for member in values.flat_map(|v| v.as_bytes().split(comma)) {
        let mut parts = member.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let coding = parts.next().unwrap_or_default().to_ascii_lowercase();
        let coding = coding.strip_prefix(b"x-").unwrap_or(&coding);
        if coding.is_empty() {
            continue;
        }
        let refused = parts.any(is_zero_weight);
        set.push(if refused { [b"!", coding].concat() } else { coding.to_vec() });
    }
    set.sort();
    set.dedup();
    present(&set.join(&b','))
}

fn is_zero_weight(param: &[u8]) -> bool {
    let Some(q) = param.to_ascii_lowercase().strip_prefix(b"q").map(|r| r.trim_ascii_start().to_vec()) else {
        return false;
    };
    let Some(q) = q.strip_prefix(b"=").map(<[u8]>::trim_ascii) else { return false };
    q.first() == Some(&b'0') && q.iter().all(|b| matches!(b, b'0' | b'.'))
}
