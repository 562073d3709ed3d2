//! Tags on their way from the origin's header, and the script's, to what is filed with the stored object.

use super::store;
use crate::cache::purge::Filed;
use crate::cache::purge::tags::{SURROGATE_KEY, Tags, TooMany};
use crate::cache::rules::NoStore;
use crate::proxy::ctx::Ctx;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

/// Takes the origin's tags off its header, where clients would see them, unless the route sends them on.
pub fn take(resp: &mut ResponseHeader, ctx: &mut Ctx) {
    let Some(rules) = store(ctx).map(|s| &s.rules) else { return };
    let names = &rules.tags_from;
    if !names.iter().any(|n| resp.headers.contains_key(n)) {
        return;
    }
    let tags = Tags::read(&resp.headers, names);
    if !rules.send_tags {
        names.iter().for_each(|n| drop(resp.remove_header(n)));
    }
    ctx.cache.tags = Some(tags);
}

/// Adds the script's tags, which clients see where they see the origin's.
pub fn add(resp: &mut ResponseHeader, more: &[String], ctx: &mut Ctx) -> Result<()> {
    if more.is_empty() {
        return Ok(());
    }
    join(more, ctx);
    let send = store(ctx).is_some_and(|s| s.rules.send_tags);
    if send { resp.append_header(SURROGATE_KEY, more.join(" ")).map(|_| ()) } else { Ok(()) }
}

/// A 304 without tags leaves those that there are; the script may add.
pub fn refresh(session: &Session, more: &[String], ctx: &mut Ctx) {
    if ctx.cache.tags.is_none() {
        let filed = session.cache.maybe_cache_meta().and_then(|m| m.extensions().get::<Filed>());
        let known: Vec<String> = filed.iter().flat_map(|f| f.tags.iter()).map(|t| t.to_string()).collect();
        join(&known, ctx);
    }
    join(more, ctx);
}

fn join(more: &[String], ctx: &mut Ctx) {
    if let Ok(tags) = ctx.cache.tags.get_or_insert_with(|| Ok(Tags::default()))
        && more.iter().any(|tag| tags.add(tag).is_err())
    {
        ctx.cache.tags = Some(Err(TooMany));
    }
}

/// What the answer is filed under.
pub fn filed(ctx: &Ctx) -> Result<Filed, NoStore> {
    match ctx.cache.tags.clone().transpose() {
        Ok(tags) => Ok(Filed { tags: tags.unwrap_or_default().filed(), generation: ctx.cache.generation }),
        Err(TooMany) => Err(NoStore::TooManyTags),
    }
}
