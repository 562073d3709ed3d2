//! What is made of an origin's answer: the script's say, invalidation, and whether and how long it is stored.

use super::{authorized, store, tags};
use crate::cache::key::{KEY_BYTES_MAX, Key, Place};
use crate::cache::purge::{Kind, Rule};
use crate::cache::rules::Answer;
use crate::cache::{armor, merge, once, provoked};
use crate::compress::header as coded;
use crate::policy::decision::Storing;
use crate::proxy::ctx::Ctx;
use crate::proxy::{coding, early_hints, policy, response};
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
    tags::take(resp, ctx);
    if coding::stores_plain(ctx) {
        coded::unvary(resp);
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
    tags::add(resp, &d.tags, ctx)?;
    response::apply(resp, &d.headers)
}

/// RFC 9111 §4.4: a successful unsafe request makes what is stored for its URL, and for the URLs of the same host that
/// its answer names, invalid.
pub fn invalidate(session: &Session, resp: &ResponseHeader, ctx: &Ctx) {
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
    let crowded = cache.store.book().is_crowded();
    let rule = |target: &Vec<u8>| {
        let place = Place::of(ctx.tls, &ctx.authority, target);
        let key = match &ctx.directives.key_query {
            Some(names) => Key::of_url(&place, &cache.rules.key.only(names)),
            None => Key::of_url(&place, &cache.rules.key),
        };
        let wanted = key.url_bytes().len() <= KEY_BYTES_MAX && (!crowded || cache.store.adapter.store().knows(&key));
        wanted.then(|| Rule::of_key(&key, false))
    };
    let rules: Vec<Rule> = targets.iter().filter_map(rule).collect();
    if rules.is_empty() {
        return;
    }
    cache.store.book().set(&rules);
    let labels = [Kind::Url.as_str(), "unsafe_method", "ok"];
    ctx.plan.metrics.purges.with_label_values(&labels).inc_by(rules.len() as u64);
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
        tags::refresh(session, &d.tags, ctx);
    }
    let Some(cache) = store(ctx) else { return Ok(RespCacheable::Uncacheable(NoCacheReason::Custom("no_cache_rule"))) };
    let answer = Answer {
        header: merged.as_ref().unwrap_or(resp),
        authorized: authorized(session, ctx),
        plain: provoked::is_plain(&session.req_header().headers),
        now: SystemTime::now(),
        waited: ctx.cache.asked.map_or(Duration::ZERO, |a| a.elapsed()),
        route: &cache.rules,
        script: &ctx.cache.script,
        object_bytes_max: cache.store.adapter.store().limits().object_bytes_max,
    };
    let asked = armor::Asked { target: session.req_header().raw_path(), headers: &session.req_header().headers };
    let decided = armor::check(&asked, &answer).and_then(|()| once::decide(&answer, &asked));
    early_hints::remember(session, answer.header, &decided, ctx);
    Ok(match decided.and_then(|(meta, for_waiters)| Ok((meta, for_waiters, tags::filed(ctx)?))) {
        Ok((mut meta, for_waiters, filed)) => {
            meta.extensions_mut().insert(filed);
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
