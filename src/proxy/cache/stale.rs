//! When something stale is sent: while it is refreshed, or because the origin failed.

use crate::cache::fresh::OnFailure;
use crate::proxy::ctx::Ctx;
use http::{Version, header};
use pingora::{Error, ErrorSource, ErrorType};
use pingora_cache::CacheMeta;
use pingora_proxy::Session;
use std::time::{Duration, SystemTime};

/// May something stale be sent: while it is refreshed (`error` is none), or because the origin failed? Pingora has
/// checked the longest of the stored object's windows; which one counts depends on what failed.
pub fn may_be_stale(session: &mut Session, ctx: &mut Ctx, error: Option<&Error>) -> bool {
    if super::purged(session, ctx) {
        return false;
    }
    let Some(e) = error else {
        if !ctx.background {
            as_http1(session, ctx);
        }
        return !ctx.background;
    };
    ctx.error = Some(format!("{:?}", e.etype()));
    if *e.esource() != ErrorSource::Upstream {
        return false;
    }
    if !matches!(e.etype(), ErrorType::HTTPStatus(_)) {
        // Pingora closes the client's connection after such a failure; the answer had better say so.
        session.set_keepalive(None);
    }
    let Some(meta) = session.cache.maybe_cache_meta() else { return false };
    let windows = OnFailure::of(meta);
    let over = over(meta, SystemTime::now());
    let within = |secs: u32| over <= Duration::from_secs(secs.into());
    ctx.cache.unreachable = !within(windows.error_secs);
    !ctx.cache.unreachable || (!has_answered(e) && within(windows.unreachable_secs))
}

/// For how long it has been stale.
fn over(meta: &CacheMeta, now: SystemTime) -> Duration {
    now.duration_since(meta.fresh_until()).unwrap_or_default()
}

/// The origin is there and said something, if only garbage: RFC 9111 §4.2.4 calls that not disconnected.
fn has_answered(e: &Error) -> bool {
    matches!(e.etype(), ErrorType::HTTPStatus(_) | ErrorType::InvalidHTTPHeader)
}

/// Pingora copies the head of this request for the refresh in the background, and reads the copy as HTTP/1. So for that
/// moment an HTTP/2 request gets the version and the `Host` that it would have there.
fn as_http1(session: &mut Session, ctx: &mut Ctx) {
    let req = session.req_header_mut();
    if req.version != Version::HTTP_2 {
        return;
    }
    ctx.cache.lent = !req.headers.contains_key(header::HOST);
    req.set_version(Version::HTTP_11);
    if ctx.cache.lent && req.insert_header(header::HOST, ctx.authority.as_str()).is_err() {
        // An authority was checked at the front door; without it the refresh is refused, and the next request asks again.
        ctx.cache.lent = false;
    }
    ctx.cache.was_h2 = true;
}

/// Undoes it, for scripts and logs.
pub fn as_it_was(session: &mut Session, ctx: &mut Ctx) {
    if !std::mem::take(&mut ctx.cache.was_h2) {
        return;
    }
    let req = session.req_header_mut();
    req.set_version(Version::HTTP_2);
    if std::mem::take(&mut ctx.cache.lent) {
        req.remove_header(&header::HOST);
    }
}
