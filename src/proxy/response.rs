//! From the origin to the client: what is stripped before anything is stored, what is added before anything is sent.

use super::ctx::Ctx;
use super::upstream::nominated;
use crate::plan::HeaderChange;
use crate::policy::decision::HeaderOp;
use http::{HeaderName, HeaderValue, StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

/// Fields of one connection only (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 4] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
];

/// Prefix of our own fields: an origin does not speak for us.
const OWN_PREFIX: &str = "x-sluicegate-";

/// Cleans an origin's header before caches and clients see it.
pub fn clean(resp: &mut ResponseHeader) {
    if resp.status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    if resp.headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = nominated(&resp.headers)
            .filter(|n| *n != header::CONTENT_LENGTH && *n != header::TRANSFER_ENCODING)
            .collect();
        for n in &named {
            resp.remove_header(n);
        }
        resp.remove_header(&header::CONNECTION);
    }
    for n in &HOP_BY_HOP {
        resp.remove_header(n);
    }
    let ours: Vec<HeaderName> = resp.headers.keys().filter(|n| n.as_str().starts_with(OWN_PREFIX)).cloned().collect();
    for n in &ours {
        resp.remove_header(n);
    }
    one_length(resp);
}

/// RFC 9110 §8.6: equal lengths given twice count once. (Unequal ones were refused as garbage.)
fn one_length(resp: &mut ResponseHeader) {
    let mut all = resp.headers.get_all(header::CONTENT_LENGTH).iter();
    if let (Some(first), Some(_)) = (all.next().cloned(), all.next()) {
        // A name and value that were in the map go in again.
        let _ = resp.insert_header(header::CONTENT_LENGTH, first);
    }
}

/// RFC 9112 §6.1: a client of HTTP/1.0 knows no chunks; its body ends where the connection does.
pub fn plain_end(session: &mut Session, resp: &mut ResponseHeader) {
    if session.req_header().version == Version::HTTP_10 && resp.headers.contains_key(header::TRANSFER_ENCODING) {
        resp.remove_header(&header::TRANSFER_ENCODING);
        session.set_keepalive(None);
    }
}

/// Adds what every answer carries, then what route and script change.
pub fn finish(resp: &mut ResponseHeader, ctx: &mut Ctx) -> pingora::Result<()> {
    if resp.status.is_informational() {
        return Ok(());
    }
    stamp(resp, ctx)?;
    super::limits::tell(resp, ctx)?;
    let Ctx { route, directives, .. } = &*ctx;
    for change in route.iter().flat_map(|r| &r.response_headers) {
        match change {
            HeaderChange::Set(n, v) => resp.insert_header(n.clone(), v.clone())?,
            HeaderChange::Remove(n) => drop(resp.remove_header(n)),
        }
    }
    apply(resp, &directives.response_headers)?;
    if let Some(cookie) = &ctx.sticky {
        resp.append_header(header::SET_COOKIE, cookie.as_str())?;
    }
    super::policy::on_response(resp, ctx)?;
    super::coding::seal(resp, ctx);
    Ok(())
}

/// Carries out a script's changes.
pub fn apply(resp: &mut ResponseHeader, ops: &[HeaderOp]) -> pingora::Result<()> {
    for op in ops {
        match op {
            HeaderOp::Set(n, v) => resp.insert_header(n.clone(), v.clone())?,
            HeaderOp::Remove(n) => drop(resp.remove_header(n)),
        }
    }
    Ok(())
}

fn stamp(resp: &mut ResponseHeader, ctx: &Ctx) -> pingora::Result<()> {
    resp.insert_header("x-sluicegate-source", HeaderValue::from_static(ctx.source.as_str()))?;
    if !ctx.reason.is_empty() {
        resp.insert_header("x-sluicegate-reason", HeaderValue::from_static(ctx.reason))?;
    }
    if let Ok(mut id) = HeaderValue::from_str(&ctx.id) {
        // No two are equal: in HTTP/2's table of recent fields (RFC 7541 §2.3.2) it would only drive out what recurs.
        id.set_sensitive(true);
        resp.insert_header("x-request-id", id)?;
    }
    Ok(())
}
