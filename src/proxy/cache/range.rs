//! Ranges and conditions of a client against what the cache has or is just getting.

use crate::cache::conditional::{self, Validators};
use crate::cache::range::{self, Wanted};
use crate::cache::rules;
use http::{HeaderValue, Method, StatusCode, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_cache::CachePhase;
use pingora_proxy::{MultiRangeInfo, RangeType, Session};
use std::ops::Range;

/// What of a 200 goes to the client: rewrites its header to the 206 or 416 that it becomes (RFC 9110 §15.3.7, §15.5.17).
pub fn range(session: &Session, resp: &mut ResponseHeader) -> RangeType {
    // A length that is not known yet has no last byte.
    let Ok(Some(length)) = rules::content_length(&resp.headers) else { return RangeType::None };
    if resp.status != StatusCode::OK || session.ignore_downstream_range {
        return RangeType::None;
    }
    let req = session.req_header();
    let whole = usize::try_from(length).unwrap_or(usize::MAX);
    let answered = match range::wanted(&req.method, &req.headers, &resp.headers, length) {
        Wanted::Whole => Ok(RangeType::None),
        Wanted::Nothing => unsatisfiable(resp, length),
        Wanted::Parts(parts) => match parts.iter().map(in_memory).collect::<Option<Vec<_>>>().as_deref() {
            Some([one]) => single(resp, one.clone(), length),
            Some(many) => multipart(resp, many.to_vec(), whole),
            None => Ok(RangeType::None),
        },
    };
    // Statuses and fields made here are always valid.
    answered.unwrap_or(RangeType::None)
}

fn in_memory(range: &Range<u64>) -> Option<Range<usize>> {
    Some(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

fn single(resp: &mut ResponseHeader, range: Range<usize>, length: u64) -> Result<RangeType> {
    resp.set_status(StatusCode::PARTIAL_CONTENT)?;
    resp.insert_header(header::CONTENT_LENGTH, HeaderValue::from(range.len()))?;
    let last = range.end.saturating_sub(1);
    resp.insert_header(header::CONTENT_RANGE, format!("bytes {}-{last}/{length}", range.start))?;
    Ok(RangeType::Single(range))
}

/// RFC 9110 §14.6. Parts that take more bytes than the whole are not worth their trouble: then the whole is sent.
fn multipart(resp: &mut ResponseHeader, ranges: Vec<Range<usize>>, whole: usize) -> Result<RangeType> {
    let mut info = MultiRangeInfo::new(ranges);
    info.set_total_length(whole);
    let of_each = resp.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    info.set_content_type(of_each.unwrap_or("application/octet-stream").to_owned());
    let bytes = info.calculate_multipart_length();
    if bytes > whole.saturating_add(MULTIPART_OVERHEAD_BYTES) {
        return Ok(RangeType::None);
    }
    resp.set_status(StatusCode::PARTIAL_CONTENT)?;
    resp.insert_header(header::CONTENT_LENGTH, HeaderValue::from(bytes))?;
    resp.insert_header(header::CONTENT_TYPE, format!("multipart/byteranges; boundary={}", info.boundary))?;
    resp.remove_header(&header::CONTENT_RANGE);
    Ok(RangeType::Multi(info))
}

/// What the part headers may cost a client beyond the whole body, in bytes: small bodies keep their multipart answers.
const MULTIPART_OVERHEAD_BYTES: usize = 4096;

fn unsatisfiable(resp: &mut ResponseHeader, length: u64) -> Result<RangeType> {
    resp.set_status(StatusCode::RANGE_NOT_SATISFIABLE)?;
    resp.insert_header(header::CONTENT_LENGTH, HeaderValue::from(0))?;
    resp.insert_header(header::CONTENT_RANGE, format!("bytes */{length}"))?;
    for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::TRANSFER_ENCODING, header::ETAG] {
        resp.remove_header(&name);
    }
    Ok(RangeType::Invalid)
}

/// Whether the client's copy is still good (RFC 9110 §13.2.2, RFC 9111 §4.3.2). `Date` stands in for a missing
/// `Last-Modified` only in what is stored.
pub fn not_modified(session: &Session, resp: &ResponseHeader) -> bool {
    let req = session.req_header();
    if resp.status != StatusCode::OK || !matches!(req.method, Method::GET | Method::HEAD) {
        return false;
    }
    let stored = matches!(
        session.cache.phase(),
        CachePhase::Hit | CachePhase::Stale | CachePhase::StaleUpdating | CachePhase::Revalidated
    );
    if !stored && !resp.headers.contains_key(header::LAST_MODIFIED) && !req.headers.contains_key(header::IF_NONE_MATCH)
    {
        return false;
    }
    conditional::not_modified(&req.headers, &Validators::of(&resp.headers))
}
