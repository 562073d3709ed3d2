//! Key, header and times of an object as bytes: exact, so that what comes back from disk is what was stored.

use super::super::super::conditional::Validators;
use super::super::super::purge::Filed;
use super::super::super::vary;
use super::super::Head;
use super::format::{Put, Take};
use http::Version;
use pingora::http::ResponseHeader;
use pingora_cache::key::HashBinary;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Fields of a header and tags of an object that are read back at most.
const PARTS_MAX: usize = 64 << 10;

/// Writes key and head.
pub fn encode(key: &[u8], head: &Head) -> Vec<u8> {
    let mut p = Put(Vec::with_capacity(512 + key.len()));
    p.framed(key);
    header(&mut p, &head.header);
    for time in [head.fresh_until, head.created, head.provenance, head.epoch] {
        p.u64(nanos(time).cast_unsigned());
    }
    p.u32(head.swr_secs).u32(head.sie_secs).u32(head.unreachable_secs);
    p.u8(u8::from(head.variance.is_some())).bytes(&head.variance.unwrap_or_default());
    p.u8(u8::from(head.length.is_some())).u64(head.length.unwrap_or(0));
    filed(&mut p, &head.filed);
    p.0
}

/// Reads key and head back, and what follows them.
pub fn decode(bytes: &[u8]) -> Option<(&[u8], Head, &[u8])> {
    let mut t = Take(bytes);
    let key = t.framed()?;
    let header = read_header(&mut t)?;
    let (fresh_until, created, provenance, epoch) = (time(&mut t)?, time(&mut t)?, time(&mut t)?, time(&mut t)?);
    let (swr_secs, sie_secs, unreachable_secs) = (t.u32()?, t.u32()?, t.u32()?);
    let variance: Option<HashBinary> = some(t.u8()?, t.hash()?);
    let length = some(t.u8()?, t.u64()?);
    let filed = read_filed(&mut t)?;
    let head = Head {
        fresh_until,
        created,
        provenance,
        epoch,
        swr_secs,
        sie_secs,
        unreachable_secs,
        variance,
        // What is made from the header is made again.
        vary: vary::names(&header.headers),
        validators: Validators::of(&header.headers),
        length,
        filed,
        header,
    };
    Some((key, head, t.0))
}

fn some<T>(there: u8, value: T) -> Option<T> {
    (there == 1).then_some(value)
}

fn header(p: &mut Put, header: &ResponseHeader) {
    let version = match header.version {
        Version::HTTP_09 => 9,
        Version::HTTP_10 => 10,
        Version::HTTP_2 => 20,
        Version::HTTP_3 => 30,
        _ => 11,
    };
    p.u16(header.status.as_u16()).u8(version).u8(u8::from(header.has_case()));
    p.framed(header.get_reason_phrase().unwrap_or_default().as_bytes());
    p.u32(u32::try_from(header.headers.len()).unwrap_or(u32::MAX));
    if header.has_case() {
        for (name, value) in header.case_header_iter() {
            p.framed(name.as_slice()).framed(value.as_bytes());
        }
    } else {
        for (name, value) in &header.headers {
            p.framed(name.as_str().as_bytes()).framed(value.as_bytes());
        }
    }
}

fn read_header(t: &mut Take<'_>) -> Option<ResponseHeader> {
    let (status, version, case) = (t.u16()?, t.u8()?, t.u8()?);
    let reason = std::str::from_utf8(t.framed()?).ok()?;
    let fields = usize::try_from(t.u32()?).ok().filter(|n| *n <= PARTS_MAX)?;
    let mut header = match case {
        1 => ResponseHeader::build(status, Some(fields)).ok()?,
        _ => ResponseHeader::build_no_case(status, Some(fields)).ok()?,
    };
    header.set_version(match version {
        9 => Version::HTTP_09,
        10 => Version::HTTP_10,
        20 => Version::HTTP_2,
        30 => Version::HTTP_3,
        _ => Version::HTTP_11,
    });
    for _ in 0..fields {
        let name = std::str::from_utf8(t.framed()?).ok()?;
        let value = http::HeaderValue::from_bytes(t.framed()?).ok()?;
        header.append_header(name.to_owned(), value).ok()?;
    }
    if header.get_reason_phrase().unwrap_or_default() != reason {
        header.set_reason_phrase(Some(reason)).ok()?;
    }
    Some(header)
}

/// What purges find it by. The one place that knows how this is written.
fn filed(p: &mut Put, filed: &Filed) {
    p.u64(filed.generation).u32(u32::try_from(filed.tags.len()).unwrap_or(u32::MAX));
    for tag in filed.tags.iter() {
        p.framed(tag.as_bytes());
    }
}

fn read_filed(t: &mut Take<'_>) -> Option<Filed> {
    let generation = t.u64()?;
    let tags = usize::try_from(t.u32()?).ok().filter(|n| *n <= PARTS_MAX)?;
    let tag = |_| std::str::from_utf8(t.framed()?).ok().map(Box::from);
    let tags = (0..tags).map(tag).collect::<Option<Vec<Box<str>>>>()?;
    Some(Filed { tags: tags.into(), generation })
}

/// Nanoseconds since 1970, negative before; times further away than the year 2262 become that.
fn nanos(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n),
    }
}

fn time(t: &mut Take<'_>) -> Option<SystemTime> {
    let nanos = t.u64()?.cast_signed();
    let distance = Duration::from_nanos(nanos.unsigned_abs());
    if nanos < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
}
