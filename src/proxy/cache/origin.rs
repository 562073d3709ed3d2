//! What is made of an origin's answer: the script's say, invalidation, and whether and how long it is stored.

use super::{authorized, store};
use crate::cache::key::{Key, Place};
use crate::cache::rules::Answer;
use crate::cache::store::{Purge, Store, Target};
use crate::cache::{armor, merge, once};
use crate::policy::decision::Storing;
use crate::proxy::ctx::Ctx;
use crate::proxy::{policy, response};
use http::{Method, StatusCode, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_cache::{NoCacheReason, RespCacheable};
use pingora_proxy::Session;
use std::time::{Duration, SystemTime};

/// An origin's header, before anything is stored: the script's say. A 304 is kept whole, for the merge.
pub fn from_origin(resp: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    if resp.status.is_informational() {
        return Ok(());
    }
    if resp.status == StatusCode::NOT_MODIFIED {
        ctx.cache.update = Some(resp.clone());
        return Ok(());
    }
    let d = policy::on_origin_response(resp, ctx)?;
    ctx.notes.extend(d.notes);
    ctx.cache.script.pass |= d.store == Storing::Never;
    ctx.cache.script.ttl = d.ttl;
    ctx.cache.script.stale_while_revalidate = d.stale_while_revalidate;
    ctx.cache.script.stale_if_error = d.stale_if_error;
    if !d.tags.is_empty() {
        resp.insert_header("surrogate-key", d.tags.join(" "))?;
    }
    response::apply(resp, &d.headers)
}

/// RFC 9111 §4.4: a successful unsafe request makes what is stored for its URL, and for the URLs of the same host that
/// its answer names, invalid.
pub async fn invalidate(session: &Session, resp: &ResponseHeader, ctx: &Ctx) {
    let Some(cache) = store(ctx) else { return };
    let req = session.req_header();
    let safe = matches!(req.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    if safe || !(resp.status.is_success() || resp.status.is_redirection()) {
        return;
    }
    let mut targets = vec![req.raw_path().to_vec()];
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        targets.extend(resp.headers.get(name).and_then(|v| same_host(v.as_bytes(), ctx)));
    }
    for target in targets {
        let place = Place::of(ctx.tls, &ctx.authority, &target);
        let key = match &ctx.directives.key_query {
            Some(names) => Key::of_url(&place, &cache.rules.key.only(names)),
            None => Key::of_url(&place, &cache.rules.key),
        };
        let target = Target::Url(*key.hash(), key.url_bytes());
        if let Err(error) = cache.store.adapter.store().purge(&target, Purge::Hard).await {
            tracing::warn!(%error, "could not invalidate");
        }
    }
}

/// Path and query of a URL reference that stays on this host.
fn same_host(reference: &[u8], ctx: &Ctx) -> Option<Vec<u8>> {
    if reference.starts_with(b"/") && !reference.starts_with(b"//") {
        return Some(reference.to_vec());
    }
    let uri: http::Uri = std::str::from_utf8(reference).ok()?.parse().ok()?;
    let same = uri.authority()?.as_str().eq_ignore_ascii_case(&ctx.authority) && uri.scheme_str()? == ctx.scheme();
    same.then(|| uri.path_and_query().map_or(b"/".to_vec(), |p| p.as_str().as_bytes().to_vec()))
}

/// May this answer be stored, and for how long? A 304 updates every field of what is stored (RFC 9111 §3.2); Pingora's
/// own merge of five fields is done again from the stored header.
pub fn may_store(session: &Session, resp: &ResponseHeader, ctx: &mut Ctx) -> Result<RespCacheable> {
    let update = ctx.cache.update.take();
    let merged = match (update, session.cache.maybe_cache_meta()) {
        (Some(update), Some(meta)) => match merge::merge_304(meta.response_header(), &update) {
            Ok(header) => Some(header),
            Err(why) => return Ok(RespCacheable::Uncacheable(why.to_pingora())),
        },
        _ => None,
    };
    if let Some(header) = &merged {
        // The stored form has been asked about once; its lifetime is asked for again.
        let d = policy::on_origin_response(header, ctx)?;
        ctx.cache.script.pass |= d.store == Storing::Never;
        ctx.cache.script.ttl = d.ttl;
        ctx.cache.script.stale_while_revalidate = d.stale_while_revalidate;
        ctx.cache.script.stale_if_error = d.stale_if_error;
    }
    let Some(cache) = store(ctx) else { return Ok(RespCacheable::Uncacheable(NoCacheReason::Custom("no_cache_rule"))) };
    let answer = Answer {
        header: merged.as_ref().unwrap_or(resp),
        authorized: authorized(session, ctx),
        now: SystemTime::now(),
        waited: ctx.cache.asked.map_or(Duration::ZERO, |a| a.elapsed()),
        route: &cache.rules,
        script: &ctx.cache.script,
        object_bytes_max: cache.store.adapter.store().limits().object_bytes_max,
    };
    let asked = armor::Asked { target: session.req_header().raw_path(), headers: &session.req_header().headers };
    let decided = armor::check(&asked, &answer).and_then(|()| once::decide(&answer, &asked));
    Ok(match decided {
        Ok((meta, for_waiters)) => {
            ctx.cache.for_waiters = for_waiters;
            RespCacheable::Cacheable(meta)
        }
        Err(why) => {
            if let Some(key) = session.cache.maybe_cache_key() {
                cache.store.known.remember(key, why, answer.header.status);
            }
            RespCacheable::Uncacheable(why.to_pingora())
        }
    })
}
