//! What a coding changes in a header.

use crate::base::coding::Coding;
use http::{HeaderName, HeaderValue, header};
use pingora::http::ResponseHeader;

/// Fields that state something about the bytes as the origin sent them (RFC 9110 §14.3, RFC 9530, RFC 3230, RFC 1864).
const OF_THE_BYTES: [HeaderName; 6] = [
    header::CONTENT_LENGTH,
    header::ACCEPT_RANGES,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// Makes the header of an answer that of its coded form, whose length in bytes is `body_bytes` where it is known.
/// `Vary` is [`vary`]'s business, for the plain form has it too.
pub fn coded(head: &mut ResponseHeader, coding: Coding, body_bytes: Option<u64>) {
    for name in &OF_THE_BYTES {
        head.remove_header(name);
    }
    // Registered names and numbers are valid field values.
    let _ = head.insert_header(header::CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    if let Some(bytes) = body_bytes {
        let _ = head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    }
    weaken(head);
}

/// RFC 9110 §8.8.3.3: two codings of one answer must not share a strong `ETag`. A weak one says what is true of them:
/// they mean the same, byte by byte they differ.
pub fn weaken(head: &mut ResponseHeader) {
    let Some(tag) = head.headers.get(header::ETAG).filter(|t| !t.as_bytes().starts_with(b"W/")) else { return };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        // A name that was in the map goes in again.
        let _ = head.insert_header(header::ETAG, weak);
    }
}

fn members(head: &ResponseHeader) -> impl Iterator<Item = &[u8]> {
    let lines = head.headers.get_all(header::VARY).iter();
    lines.flat_map(|l| l.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii).filter(|m| !m.is_empty())
}

fn is_accept_encoding(member: &[u8]) -> bool {
    member.eq_ignore_ascii_case(b"accept-encoding")
}

/// Sees to it that `Vary` names `Accept-Encoding` (RFC 9110 §12.5.5).
pub fn vary(head: &mut ResponseHeader) {
    if !members(head).any(|m| is_accept_encoding(m) || m == b"*") {
        // A constant is a valid field value.
        let _ = head.append_header(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// Takes `Accept-Encoding` out of `Vary`: the origin was asked for one form only, so its answer does not vary on what
/// the client said, and the store need keep only one.
pub fn unvary(head: &mut ResponseHeader) {
    if !members(head).any(is_accept_encoding) {
        return;
    }
    let rest: Vec<&[u8]> = members(head).filter(|m| !is_accept_encoding(m)).collect();
    let rest = HeaderValue::from_bytes(&rest.join(&b", "[..])).ok().filter(|v| !v.is_empty());
    match rest {
        // A name that was in the map goes in again.
        Some(value) => drop(head.insert_header(header::VARY, value)),
        None => drop(head.remove_header(&header::VARY)),
    }
}

/// Whether `If-None-Match` names the answer's tag as a weak one: then the client has a coded form of it, and a 304 must
/// name that form for the client to find it again (RFC 9111 §4.3.3).
pub fn client_has_weak(request: &http::HeaderMap, answer: &ResponseHeader) -> bool {
    let Some(tag) = answer.headers.get(header::ETAG).filter(|t| !t.as_bytes().starts_with(b"W/")) else { return false };
    let weak = [b"W/", tag.as_bytes()].concat();
    let lines = request.get_all(header::IF_NONE_MATCH).iter();
    lines.map(HeaderValue::as_bytes).any(|l| l.windows(weak.len()).any(|w| w == weak))
}
