//! What of a header is stored (RFC 9111 §3.1) and how a 304 updates it (§3.2, §4.3.4).

use super::cc::{CacheControl, Fields};
use super::rules::NoStore;
use super::{rules, vary};
use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use pingora::http::ResponseHeader;

/// Fields of one connection (RFC 9110 §7.6.1) and of proxy authentication (RFC 9111 §3.1).
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The fields that `Connection` names.
pub fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(header::CONNECTION).iter();
    lines.flat_map(|l| l.as_bytes().split(|b| *b == b',')).filter_map(|n| n.trim_ascii().try_into().ok()).collect()
}

fn is_hop_by_hop(name: &HeaderName, nominated: &[HeaderName]) -> bool {
    HOP_BY_HOP.contains(&name.as_str()) || nominated.contains(name)
}

/// The header as it is stored: without fields of the connection, without the fields that `private` and `no-cache` name,
/// with one `Content-Length`. Letter case of names is not kept, which makes it smaller and cheaper to copy on each hit.
pub fn storable(header: &ResponseHeader, cc: &CacheControl) -> ResponseHeader {
    let nominated = nominated(&header.headers);
    let withheld = |name: &HeaderName| {
        [&cc.private, &cc.no_cache].iter().any(|f| matches!(f, Fields::Names(names) if names.contains(name)))
    };
    let mut headers = HeaderMap::with_capacity(header.headers.len());
    for (name, value) in &header.headers {
        if !is_hop_by_hop(name, &nominated) && !withheld(name) && name != header::CONTENT_LENGTH {
            headers.append(name.clone(), value.clone());
        }
    }
    if let Ok(Some(bytes)) = rules::content_length(&header.headers)
        && !nominated.contains(&header::CONTENT_LENGTH)
    {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    }
    from_parts(header, headers)
}

/// A header of the same status with other fields.
pub fn from_parts(like: &ResponseHeader, headers: HeaderMap) -> ResponseHeader {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = like.status;
    parts.version = Version::HTTP_11;
    parts.headers = headers;
    ResponseHeader::from(parts)
}

/// Fields a 304 never changes: what describes the stored bytes themselves, what belongs to one client, and `Vary`, by
/// which the object was filed.
const KEPT: [HeaderName; 5] =
    [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_RANGE, header::SET_COOKIE, header::VARY];

/// The stored header updated by a 304: every field of the 304 replaces the stored ones of its name. `Age`, `Date` and
/// `Cache-Status`, which speak of one answer's way here, are those of the 304 or none.
///
/// A 304 that speaks of another representation (a different strong `ETag`) or files it otherwise (another `Vary`) updates
/// nothing.
pub fn merge_304(stored: &ResponseHeader, update: &ResponseHeader) -> Result<ResponseHeader, NoStore> {
    let (old, new) = (&stored.headers, &update.headers);
    if new.contains_key(header::VARY) && vary::names(new) != vary::names(old) {
        return Err(NoStore::VaryChanged);
    }
    let strong = |h: &HeaderMap| h.get(header::ETAG).filter(|e| !e.as_bytes().starts_with(b"W/")).cloned();
    if let (Some(a), Some(b)) = (strong(old), strong(new))
        && a != b
    {
        return Err(NoStore::Stale);
    }
    let nominated = nominated(new);
    let mut headers = old.clone();
    headers.remove(header::AGE);
    headers.remove(header::DATE);
    headers.remove("cache-status");
    for name in new.keys().filter(|n| !is_hop_by_hop(n, &nominated) && !KEPT.contains(n)) {
        headers.remove(name);
        new.get_all(name).iter().for_each(|v| {
            headers.append(name.clone(), v.clone());
        });
    }
    Ok(from_parts(stored, headers))
}
