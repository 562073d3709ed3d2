//! The first station: who is asking, under which name, for which path. What has no single meaning is refused here
//! (HTTP/1 heads were judged byte by byte in `server/h1guard.rs`; HTTP/2 comes here as a parsed head).

use super::Edge;
use super::ctx::Ctx;
use super::upstream::nominated;
use crate::base::authority::valid_authority;
use crate::base::{client, path};
use http::{HeaderName, Version, header};
use pingora::http::RequestHeader;
use pingora_proxy::Session;
use std::borrow::Cow;
use std::net::IpAddr;
use std::time::SystemTime;

/// Longest request id that is taken over from a trusted proxy.
const ID_BYTES_MAX: usize = 128;
/// Most header fields of an HTTP/2 request.
const FIELDS_MAX: usize = 100;

/// What a connection tells about its requests.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// The other side's address (from a PROXY protocol header where there was one).
    pub peer: Option<IpAddr>,
    /// Our port.
    pub port: Option<u16>,
    /// TLS is spoken on it.
    pub tls: bool,
}

impl Wire {
    fn of(session: &Session) -> Self {
        let peer = session.client_addr().and_then(|a| a.as_inet()).map(|a| a.ip());
        let port = session.server_addr().and_then(|a| a.as_inet()).map(|a| a.port());
        Wire { peer, port, tls: session.digest().is_some_and(|d| d.ssl_digest.is_some()) }
    }
}

/// Fills in the client's facts and normalises the request.
pub fn accept(edge: &Edge, session: &mut Session, ctx: &mut Ctx) {
    ctx.background = session.subrequest_ctx.is_some();
    let wire = Wire::of(session);
    head(edge, session.req_header_mut(), &wire, ctx);
    // HTTP/1 sessions got their limits from the listener; streams of HTTP/2 are made by Pingora and get them here.
    session.set_write_timeout(Some(ctx.plan.io_timeout));
    session.set_total_drain_timeout(Some(ctx.plan.io_timeout));
}

/// The same for a head that no session stands for. A head that went through once comes out of a second time unchanged.
pub fn head(edge: &Edge, req: &mut RequestHeader, wire: &Wire, ctx: &mut Ctx) {
    identify(edge, req, wire, ctx);
    let checked = authority(req, ctx).and_then(|()| target(req, ctx)).and_then(|()| fields(req));
    if let Err(refusal) = checked {
        ctx.refused = Some(refusal);
    }
}

/// Fields that give a message its shape or its sender; no `Connection` field may take them away. A trusted proxy that
/// passes its client's `Connection` on would else let that client erase what the proxy says about it.
const VITAL: [HeaderName; 9] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::AUTHORIZATION,
    header::COOKIE,
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-request-id"),
];

/// RFC 9110 §7.6.1: what `Connection` names is for this hop only. It is taken away before routes, keys and variants see
/// it, for the origin will not see it either. RFC 9113 §8.2.3: cookie crumbs become one field.
fn fields(req: &mut RequestHeader) -> Result<(), Refusal> {
    if req.headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = nominated(&req.headers).collect();
        if named.iter().any(|n| VITAL.contains(n)) {
            return Err((400, "bad_connection"));
        }
        let of_the_hop = [header::UPGRADE, header::CONNECTION, HeaderName::from_static("keep-alive")];
        for n in named.iter().filter(|n| !of_the_hop.contains(n)) {
            req.remove_header(n);
        }
    }
    if req.version == Version::HTTP_2 && req.headers.get_all(header::COOKIE).iter().nth(1).is_some() {
        let crumbs: Vec<&[u8]> = req.headers.get_all(header::COOKIE).iter().map(|v| v.as_bytes()).collect();
        let whole = http::HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).map_err(|_| (400, "bad_field_line"))?;
        // A name that was in the map goes in again.
        let _ = req.insert_header(header::COOKIE, whole);
    }
    Ok(())
}

fn identify(edge: &Edge, req: &RequestHeader, wire: &Wire, ctx: &mut Ctx) {
    let (plan, headers) = (&ctx.plan, &req.headers);
    if let Some(peer) = wire.peer {
        ctx.peer_trusted = client::trusted(peer, &plan.trusted);
        ctx.client = client::address(peer, headers, &plan.trusted);
    }
    (ctx.port, ctx.tls) = (wire.port, wire.tls);
    if ctx.peer_trusted
        && let Some(proto) = headers.get("x-forwarded-proto")
    {
        ctx.tls = proto.as_bytes().eq_ignore_ascii_case(b"https");
    }
    let given = headers.get("x-request-id").filter(|_| ctx.peer_trusted).and_then(|v| v.to_str().ok());
    ctx.id = match given {
        Some(id) if !id.is_empty() && id.len() <= ID_BYTES_MAX => id.to_owned(),
        _ => edge.ids.request_id(SystemTime::now()),
    };
}

type Refusal = (u16, &'static str);

/// One host, in `Host` and in `:authority` alike (RFC 9113 §8.3.1).
fn authority(req: &RequestHeader, ctx: &mut Ctx) -> Result<(), Refusal> {
    let in_field = req.headers.get(header::HOST).map(|h| h.as_bytes());
    let in_target = req.uri.authority().map(|a| a.as_str().as_bytes());
    if req.version == Version::HTTP_2 {
        let many = req.headers.get_all(header::HOST).iter().nth(1).is_some();
        if many || req.headers.len() > FIELDS_MAX || head_bytes(req) > ctx.plan.header_bytes_max {
            return Err(if many { (400, "bad_host") } else { (431, "header_too_large") });
        }
        if matches!((in_field, in_target), (Some(a), Some(b)) if !a.eq_ignore_ascii_case(b)) {
            return Err((400, "bad_host"));
        }
    }
    let host = in_field.or(in_target);
    match host {
        Some(h) if valid_authority(h) => {
            ctx.authority = rooted(&String::from_utf8_lossy(h).to_ascii_lowercase());
            Ok(())
        }
        // HTTP/1.0 knows no Host.
        None if req.version == Version::HTTP_10 || ctx.background => Ok(()),
        _ => Err((400, "bad_host")),
    }
}

/// What a head would take on an HTTP/1 connection: there `max_header_size` is judged while it is read.
fn head_bytes(req: &pingora::http::RequestHeader) -> usize {
    let fields = req.headers.iter().map(|(n, v)| n.as_str().len() + v.len() + FIELD_FRAME_BYTES);
    fields.sum::<usize>() + req.method.as_str().len() + req.raw_path().len() + LINE_FRAME_BYTES
}

/// `: ` and the end of a line.
const FIELD_FRAME_BYTES: usize = 4;
/// What a request line has besides method and target, and the empty line.
const LINE_FRAME_BYTES: usize = 14;

/// `shop.example.` and `shop.example` are one host (RFC 3986 §3.2.2): routes and keys see it without the dot.
fn rooted(authority: &str) -> String {
    let host = super::ctx::host_of(authority);
    let port = authority.get(host.len()..).unwrap_or_default();
    format!("{}{port}", host.strip_suffix('.').unwrap_or(host))
}

/// Methods, framing fields and the path (RFC 9113 §8.1.1, §8.2.2; RFC 3986 §6.2.2).
fn target(req: &mut RequestHeader, ctx: &mut Ctx) -> Result<(), Refusal> {
    if req.version == Version::HTTP_2 {
        h2_head(req)?;
    }
    let raw = req.uri.path();
    if raw == "*" {
        return Ok(());
    }
    let normal = path::normalise(raw).map_err(|_| (400, "bad_path"))?;
    let merged = path::merge_slashes(&normal);
    if merged != raw {
        ctx.path = Some(merged.into_owned());
    }
    if let Cow::Owned(p) = normal {
        let query = req.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
        // HTTP/2 has its authority in the target: it stays there.
        let mut parts = req.uri.clone().into_parts();
        parts.path_and_query = Some(format!("{p}{query}").parse().map_err(|_| (400, "bad_path"))?);
        req.set_uri(http::Uri::from_parts(parts).map_err(|_| (400, "bad_path"))?);
    }
    Ok(())
}

fn h2_head(req: &RequestHeader) -> Result<(), Refusal> {
    if matches!(req.method.as_str(), "TRACE" | "TRACK" | "CONNECT") {
        return Err((405, "method_not_allowed"));
    }
    let lengths = req.headers.get_all(header::CONTENT_LENGTH);
    let mut n = 0;
    for l in lengths {
        n += 1;
        if n > 1 || l.is_empty() || !l.as_bytes().iter().all(u8::is_ascii_digit) {
            return Err((400, "bad_content_length"));
        }
    }
    if req.headers.contains_key(header::TRANSFER_ENCODING) || req.headers.contains_key(header::UPGRADE) {
        return Err((400, "bad_field_line"));
    }
    let target = req.raw_path();
    if target.iter().any(|b| *b <= b' ' || *b >= 0x7f || matches!(b, b'#' | b'\\' | b'"' | b'<' | b'>')) {
        return Err((400, "bad_target"));
    }
    if req.headers.get(header::EXPECT).is_some_and(|e| !e.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err((417, "bad_expect"));
    }
    Ok(())
}
