//! The hot path: a plain fresh hit answered at once, past all of Pingora's cache machinery.

use super::key_of;
use super::tell::said;
use crate::base::source::Source;
use crate::cache::fast;
use crate::cache::key::KEY_BYTES_MAX;
use crate::cache::rules::{self, Bypass};
use crate::cache::status::CacheStatus;
use crate::plan::Route;
use crate::policy::decision::CacheUse;
use crate::proxy::ctx::Ctx;
use crate::proxy::response;
use http::Method;
use pingora::Result;
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Answers a plain fresh hit at once, past all of Pingora's cache machinery.
pub async fn serve_hot(session: &mut Session, ctx: &mut Ctx, route: &Arc<Route>) -> Result<bool> {
    let Some(cache) = &route.cache else { return Ok(false) };
    ctx.cache.script.pass = ctx.directives.cache == CacheUse::Pass;
    if let Err(why) = rules::may_use(session.req_header(), &ctx.cache.script) {
        ctx.cache.bypass = Some(why);
        return Ok(false);
    }
    if !session.as_downstream_mut().is_body_empty() {
        // An HTTP/2 GET can have a body without saying so in its header.
        ctx.cache.bypass = Some(Bypass::Body);
        return Ok(false);
    }
    let key = key_of(session, ctx, cache);
    if key.bytes().len() > KEY_BYTES_MAX {
        ctx.cache.bypass = Some(Bypass::KeyTooLong);
        return Ok(false);
    }
    let now = SystemTime::now();
    let hit =
        if ctx.background { None } else { fast::try_hit(cache.store.adapter.store(), session.req_header(), &key, now) };
    ctx.cache.key = Some(key);
    let Some(hit) = hit else { return Ok(false) };
    ctx.source = Source::HttpCache;
    ctx.cache.outcome = "hit";
    ctx.cache.age = Some(Duration::from_secs(hit.object.age_secs(now)));
    let mut head = hit.response(now);
    head.append_header("cache-status", said(CacheStatus::hit(hit.object.ttl_secs(now)), ctx))?;
    response::finish(&mut head, ctx)?;
    let bodyless = hit.not_modified || session.req_header().method == Method::HEAD || hit.object.body_bytes() == 0;
    session.write_response_header(Box::new(head), bodyless).await?;
    if bodyless {
        return Ok(true);
    }
    let chunks = hit.object.chunks();
    for (i, piece) in chunks.iter().enumerate() {
        session.write_response_body(Some(piece.clone()), i + 1 == chunks.len()).await?;
    }
    Ok(true)
}
