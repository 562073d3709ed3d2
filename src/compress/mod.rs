//! Content codings on the way to the client (RFC 9110 §8.4, §12.5.3): whether an answer may be coded, which coding a
//! client gets, the encoders, and what a coding changes in the header.
//!
//! A coded body that also holds a secret next to text that the client chose can give the secret away by its length
//! (BREACH). That cannot be seen from here: it is for the operator not to switch `compress` on for pages that echo
//! input beside session tokens over TLS, or for the origin to say `Cache-Control: no-transform`.

pub mod encoder;
pub mod header;
pub mod negotiate;
pub mod types;
pub mod whole;

#[cfg(test)]
mod tests;

use crate::base::coding::Coding;
use crate::config::compress as config;
use crate::config::error::unknown;
use http::{HeaderMap, StatusCode, Version, header as field};
use types::Types;

/// A fault in a route's `compress:`, with its place below that key (`[1]`, `.types[0]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path below the key.
    pub path: String,
    /// What is wrong.
    pub why: String,
}

/// A route's rules for codings, compiled.
#[derive(Clone, Debug)]
pub struct RouteCompress {
    /// What may be made, most preferred first.
    pub codings: Vec<Coding>,
    /// Shorter bodies are sent as they are, in bytes.
    pub body_bytes_min: u64,
    /// Which media types are coded.
    pub types: Types,
}

impl RouteCompress {
    /// Compiles a route's `compress:`; `Ok(None)` where it is `false`.
    pub fn compile(wanted: &config::Compress) -> Result<Option<Self>, Vec<Fault>> {
        let silent = config::CompressRules::default();
        let (codings, rules, at) = match wanted {
            config::Compress::Switch(false) => return Ok(None),
            config::Compress::Switch(true) => (None, &silent, ""),
            config::Compress::Codings(list) => (Some(list), &silent, ""),
            config::Compress::Rules(rules) => (rules.codings.as_ref(), &**rules, ".codings"),
        };
        let mut faults = Vec::new();
        let codings = codings.map_or_else(|| Coding::ALL.to_vec(), |list| named(list, at, &mut faults));
        let types = match &rules.types {
            None => Types::usual(),
            Some(list) => Types::compile(list, &mut faults),
        };
        if !faults.is_empty() {
            return Err(faults);
        }
        let body_bytes_min = rules.min_size.map_or(BODY_BYTES_MIN, |s| s.0);
        Ok(Some(RouteCompress { codings, body_bytes_min, types }))
    }
}

/// Below this a coded body rarely needs fewer packets.
const BODY_BYTES_MIN: u64 = 1024;

fn named(list: &[String], at: &str, faults: &mut Vec<Fault>) -> Vec<Coding> {
    let mut out = Vec::new();
    for (i, name) in list.iter().enumerate() {
        let found = Coding::ALL.into_iter().find(|c| c.as_str() == name);
        let why = match found {
            None => unknown("coding", name, Coding::ALL.map(Coding::as_str)),
            Some(c) if out.contains(&c) => format!("{name:?} stands twice"),
            Some(c) => {
                out.push(c);
                continue;
            }
        };
        faults.push(Fault { path: format!("{at}[{i}]"), why });
    }
    if list.is_empty() {
        faults.push(Fault { path: at.to_owned(), why: "name at least one coding, or say false".to_owned() });
    }
    out
}

/// An answer as the origin (or the store) has it, as far as codings are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// Length of its body in bytes, where it is known.
    pub body_bytes: Option<u64>,
}

impl<'a> Head<'a> {
    /// With the length that `Content-Length` states.
    pub fn of(status: StatusCode, headers: &'a HeaderMap) -> Self {
        let stated = headers.get(field::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        Head { status, headers, body_bytes: stated }
    }
}

/// What is decided about one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Another client could get it coded otherwise: the answer says `Vary: Accept-Encoding`.
    pub varies: bool,
    /// How this client gets it; none is as it is.
    pub coding: Option<Coding>,
}

/// Decides how a client gets an answer. Everything that sends answers asks here, and only here.
///
/// A request for a range gets the bytes that the origin numbered. HTTP/1.0 has no chunks, and its clients are old enough
/// to mishandle codings.
pub fn choose(request: &HeaderMap, version: Version, rule: &RouteCompress, answer: &Head<'_>) -> Choice {
    if !may_code(rule, answer) {
        return Choice::default();
    }
    let as_it_is = version < Version::HTTP_11 || request.contains_key(field::RANGE);
    let coding = if as_it_is { None } else { negotiate::best(request, &rule.codings) };
    Choice { varies: true, coding }
}

/// Whether an answer may be coded at all, whoever asks.
pub fn may_code(rule: &RouteCompress, answer: &Head<'_>) -> bool {
    let headers = answer.headers;
    let has_no_body = answer.status.is_informational() || matches!(answer.status.as_u16(), 204 | 205 | 206 | 304 | 416);
    if has_no_body || answer.body_bytes.is_some_and(|n| n < rule.body_bytes_min) {
        return false;
    }
    // An origin that has coded it, or cut it, has decided.
    if headers.contains_key(field::CONTENT_ENCODING) || headers.contains_key(field::CONTENT_RANGE) {
        return false;
    }
    let Some(media_type) = headers.get(field::CONTENT_TYPE) else { return false };
    rule.types.have(media_type.as_bytes()) && !forbids_transforming(headers)
}

/// `Cache-Control: no-transform` (RFC 9111 §5.2.2.6).
fn forbids_transforming(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(field::CACHE_CONTROL).iter();
    let mut members = lines.flat_map(|l| l.as_bytes().split(|b| *b == b','));
    members.any(|m| m.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}
