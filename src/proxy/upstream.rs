//! To the origin: which server, what it is told about the client, what is left out.

use super::ctx::Ctx;
use super::passthrough;
use crate::cache::armor;
use crate::plan::{Handler, HeaderChange};
use crate::policy::decision::HeaderOp;
use crate::upstream::pool::{Pool, TRIES_MAX};
use http::{HeaderName, HeaderValue, Method, Version, header};
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use pingora_proxy::Session;
use std::sync::Arc;

/// Fields that belong to one connection only (RFC 9110 §7.6.1), `Upgrade` apart, which websockets need.
const HOP_BY_HOP: [HeaderName; 6] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    header::TE,
    header::TRAILER,
    header::PROXY_AUTHORIZATION,
];
/// Fields that we alone set towards an origin: what a client sends under these names is never passed on.
const OURS: [&str; 10] = [
    "x-real-ip",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-scheme",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "forwarded",
];
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Beginnings of names by which a client makes some origins answer for another URL, host or scheme than the one that the
/// cache files the answer under.
const OVERRIDES: [&str; 4] = ["x-forwarded", "x-original-", "x-rewrite-", "x-invoke-"];
/// Whole names that do the same.
const OVERRIDING: [&str; 13] = [
    "x-host",
    "x-http-host-override",
    "x-http-destinationurl",
    "x-backend-host",
    "x-proxy-url",
    "x-real-host",
    "x-request-uri",
    "x-scheme",
    "x-url-scheme",
    "x-proto",
    "x-middleware-prefetch",
    "x-middleware-subrequest",
    "front-end-https",
];
/// Prefix of our own fields.
const OWN_PREFIX: &str = "x-sluicegate-";

/// The group of servers for this request.
pub fn pool(ctx: &Ctx) -> Option<Arc<Pool>> {
    if let Some(name) = &ctx.directives.upstream {
        return ctx.plan.pools.get(name).cloned();
    }
    match ctx.route.as_deref().map(|r| &r.handler) {
        Some(Handler::Proxy(p)) => Some(Arc::clone(p)),
        _ => None,
    }
}

/// The next server to try.
pub fn peer(ctx: &mut Ctx) -> pingora::Result<Box<HttpPeer>> {
    let session = ctx.line.as_ref().map(|line| passthrough::peer(line));
    let peer = session.unwrap_or_else(|| pool(ctx).and_then(|p| p.next(&mut ctx.tries)));
    let peer = peer.ok_or_else(|| Error::explain(ErrorType::HTTPStatus(502), "no server in the upstream"))?;
    // A retry sends the body again.
    ctx.body_bytes = 0;
    ctx.upstream = peer._address.as_inet().copied();
    Ok(Box::new(peer))
}

/// A server refused the connection: it rests, and another one may still take the request, nothing of it has been sent.
pub fn refused(ctx: &Ctx) -> bool {
    let Some(pool) = pool(ctx) else { return false };
    // Whoever comes next need not find out again.
    ctx.upstream.into_iter().for_each(|address| pool.failed(address));
    ctx.tries.count() < pool.len().min(TRIES_MAX)
}

/// Makes the client's request the origin's.
pub fn request(session: &Session, req: &mut RequestHeader, ctx: &Ctx) -> pingora::Result<()> {
    if let Some(line) = &ctx.line {
        return passthrough::request(line, req);
    }
    strip(req);
    if let Some(field) = ctx.route.as_ref().and_then(|r| r.auth.as_ref()?.kept_field(&req.headers)) {
        req.remove_header(&field);
    }
    tell(session, req, ctx)?;
    if super::coding::stores_plain(ctx) {
        // One object serves all codings, and they are made of it here.
        req.insert_header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
    }
    if let Some(route) = &ctx.route {
        for change in &route.request_headers {
            match change {
                HeaderChange::Set(n, v) => req.insert_header(n.clone(), v.clone())?,
                HeaderChange::Remove(n) => drop(req.remove_header(n)),
            }
        }
    }
    for op in &ctx.directives.request_headers {
        match op {
            HeaderOp::Set(n, v) => req.insert_header(n.clone(), v.clone())?,
            HeaderOp::Remove(n) => drop(req.remove_header(n)),
        }
    }
    Ok(())
}

/// RFC 9110 §7.6.1: what belongs to this hop goes no further (what `Connection` names is gone since `accept`).
fn strip(req: &mut RequestHeader) {
    let upgrade = is_websocket(req);
    let te_trailers = req.headers.get(header::TE).is_some_and(|t| t.as_bytes().eq_ignore_ascii_case(b"trailers"));
    for n in &HOP_BY_HOP {
        // gRPC asks for trailers end to end; every other TE is this hop's business.
        if !(te_trailers && *n == header::TE && req.version == Version::HTTP_2) {
            req.remove_header(n);
        }
    }
    if !upgrade {
        req.remove_header(&header::UPGRADE);
        req.remove_header(&header::CONNECTION);
    }
    let own: Vec<HeaderName> = req.headers.keys().filter(|n| n.as_str().starts_with(OWN_PREFIX)).cloned().collect();
    for n in &own {
        req.remove_header(n);
    }
}

/// Whether a request asks for a websocket (RFC 6455 §4.1).
pub fn is_websocket(req: &RequestHeader) -> bool {
    req.version == Version::HTTP_11
        && req.headers.get(header::UPGRADE).is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && nominated(&req.headers).any(|n| n == header::UPGRADE)
}

/// Takes away what a client must not say: our own fields, their twins with underscores (which CGI and WSGI read as the
/// same), and overrides where the answer may be stored.
fn forget(req: &mut RequestHeader, ctx: &Ctx) {
    let cached = ctx.route.as_ref().is_some_and(|r| r.cache.is_some());
    // With other methods an override is an API's business: what is answered to them is never stored.
    let reads = cached && matches!(req.method, Method::GET | Method::HEAD);
    let listed = |n: &str| {
        OURS.contains(&n)
            || (cached && (OVERRIDES.iter().any(|o| n.starts_with(o)) || OVERRIDING.contains(&n)))
            || (reads && armor::METHOD_OVERRIDES.contains(&n))
    };
    // All of them begin alike; what does not is passed over without a look at the lists.
    let unwanted = |n: &HeaderName| {
        let n = n.as_str();
        match n.as_bytes().first() {
            Some(b'x' | b'f') if n.contains('_') => listed(&n.replace('_', "-")),
            Some(b'x' | b'f') => listed(n),
            _ => false,
        }
    };
    let found: Vec<HeaderName> = req.headers.keys().filter(|n| unwanted(n)).cloned().collect();
    for n in &found {
        req.remove_header(n);
    }
}

/// All values of a list field as one.
fn joined(headers: &http::HeaderMap, name: &HeaderName) -> Option<String> {
    let all: Vec<&str> = headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect();
    if all.is_empty() { None } else { Some(all.join(", ")) }
}

/// The names that `Connection` lists.
pub fn nominated(headers: &http::HeaderMap) -> impl Iterator<Item = HeaderName> + '_ {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|t| HeaderName::try_from(t.trim()).ok())
}

/// `Via` (RFC 9110 §7.6.3), `X-Forwarded-*`, `Forwarded` (RFC 7239) and the request id.
fn tell(session: &Session, req: &mut RequestHeader, ctx: &Ctx) -> pingora::Result<()> {
    let via = if session.req_header().version == Version::HTTP_2 { "2 sluicegate" } else { "1.1 sluicegate" };
    match joined(&req.headers, &header::VIA) {
        None => req.insert_header(header::VIA, HeaderValue::from_static(via))?,
        Some(before) => req.insert_header(header::VIA, format!("{before}, {via}"))?,
    }
    let client = ctx.client.to_string();
    let before = joined(&req.headers, &X_FORWARDED_FOR).filter(|_| ctx.peer_trusted);
    let peer = session
        .client_addr()
        .and_then(|a| a.as_inet())
        .map_or_else(|| client.clone(), |a| a.ip().to_canonical().to_string());
    let chain = before.map_or_else(|| peer.clone(), |b| format!("{b}, {peer}"));
    forget(req, ctx);
    req.insert_header(X_FORWARDED_FOR, chain)?;
    let node = if ctx.client.is_ipv6() { format!("\"[{client}]\"") } else { client.clone() };
    req.insert_header("forwarded", format!("for={node};host=\"{}\";proto={}", ctx.authority, ctx.scheme()))?;
    req.insert_header("x-real-ip", client)?;
    req.insert_header("x-forwarded-proto", ctx.scheme())?;
    if !ctx.authority.is_empty() {
        req.insert_header("x-forwarded-host", ctx.authority.as_str())?;
        // An HTTP/2 request has its host in :authority; HTTP/1 origins want the field.
        req.insert_header(header::HOST, ctx.authority.as_str())?;
    }
    req.insert_header("x-request-id", ctx.id.as_str())?;
    Ok(())
}
