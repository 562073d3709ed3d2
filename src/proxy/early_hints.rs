//! `103 Early Hints` (RFC 8297): while the origin is asked, a browser may fetch what the page named last time.

use super::ctx::Ctx;
use crate::cache::hints;
use crate::cache::rules::NoStore;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora_cache::CacheMeta;
use pingora_proxy::Session;

/// Remembers the links of an answer, or forgets the page when its answer is not for everybody.
pub fn remember<T>(session: &Session, answer: &ResponseHeader, decided: &Result<T, NoStore>, ctx: &Ctx) {
    let Some((route, key)) = ctx.route.as_ref().zip(ctx.cache.key.as_ref()) else { return };
    let Some(cache) = route.cache.as_ref().filter(|_| route.early_hints && answer.status == StatusCode::OK) else {
        return;
    };
    let request = &session.req_header().headers;
    // A script may know its clients by other fields.
    let anonymous =
        !request.contains_key(header::COOKIE) && !request.contains_key(header::AUTHORIZATION) && route.policy.is_none();
    match decided {
        Ok(_) => cache.store.hints.remember(key, request, &answer.headers),
        // Nothing forbids to show it to others; it is only too short-lived to be stored.
        Err(NoStore::NoFreshness | NoStore::Stale) if anonymous => {
            cache.store.hints.remember(key, request, &answer.headers);
        }
        Err(_) => cache.store.hints.forget(key),
    }
}

/// Sends the links that are known for the page, now that the client has to wait for the origin. Only to browsers that
/// navigate (others do not act on them), and only over HTTP/1.1: HTTP/1.0 knows no interim answers, and Pingora sends none
/// over HTTP/2.
pub async fn send(session: &mut Session, ctx: &Ctx) {
    let Some(links) = links(session, ctx) else { return };
    let Ok(mut head) = ResponseHeader::build(StatusCode::EARLY_HINTS, Some(links.len())) else { return };
    for link in links {
        // The values come out of a header.
        let _ = head.append_header(header::LINK, link);
    }
    ctx.route.iter().for_each(|r| r.metrics.early_hints.inc());
    if let Err(error) = session.as_downstream_mut().write_response_header(Box::new(head)).await {
        // A client that has gone is found out when its answer is sent.
        tracing::debug!(%error, "could not send early hints");
    }
}

fn links(session: &Session, ctx: &Ctx) -> Option<Vec<HeaderValue>> {
    let route = ctx.route.as_ref().filter(|r| r.early_hints)?;
    if route.response_headers.iter().any(|change| *change.name() == header::LINK) {
        // What the route makes of `Link` on the way out is not known before the answer.
        return None;
    }
    let cache = route.cache.as_ref().filter(|_| !ctx.background && ctx.cache.bypass.is_none())?;
    let req = session.req_header();
    if req.version != Version::HTTP_11 || req.method != Method::GET || !navigates(&req.headers) {
        return None;
    }
    // Once anything has been sent, Pingora serves nothing stale when the origin fails: that is worth more than a hint.
    if session.response_written().is_some() || session.cache.can_serve_stale_error() {
        return None;
    }
    // The stored answer, stale by now, knows best; it is this request's variant.
    let stored = session.cache.maybe_cache_meta().map(CacheMeta::headers).map(hints::early_links);
    let known = || cache.store.hints.links(ctx.cache.key.as_ref()?, &req.headers).map(|l| l.to_vec());
    stored.filter(|l| !l.is_empty()).or_else(known)
}

/// Fetch metadata: the browser loads a document.
fn navigates(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-mode").is_some_and(|m| m.as_bytes().eq_ignore_ascii_case(b"navigate"))
}
