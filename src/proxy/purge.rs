//! Purges as operators ask for them: over the admin port, by the method `PURGE`, from the policy script. All become rules
//! of the stores' books.

use super::ctx::Ctx;
use crate::base::client;
use crate::base::reply::Reply;
use crate::base::source::Source;
use crate::cache::key::KeyRules;
use crate::cache::purge::tags::{CACHE_TAG, SURROGATE_KEY, Tags};
use crate::cache::purge::{Kind, PurgeError, Rule};
use crate::observe::metrics::Metrics;
use crate::plan::{HttpStore, Plan, Route};
use crate::policy::decision::TagPurge;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pingora_proxy::Session;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Most rules of one order.
const RULES_MAX: usize = 16 << 10;

/// What is to be purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// A host.
    Host(String),
    /// A prefix of URLs.
    Prefix(String),
    /// All variants of a URL.
    Url(String),
    /// Tags.
    Tags(Vec<String>),
}

/// One wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// What is to be purged.
    pub scope: Scope,
    /// Made stale instead of void.
    pub soft: bool,
    /// In this store only.
    pub store: Option<String>,
}

/// Wishes that were understood, as rules for each store.
#[derive(Default)]
pub struct Order {
    rules: BTreeMap<String, (&'static HttpStore, Vec<Rule>)>,
    kinds: BTreeMap<Kind, u64>,
    count: usize,
}

impl Order {
    /// Adds a wish; the text says what is wrong with it. Nothing is purged yet.
    pub fn add(&mut self, plan: &Plan, wish: &Wish) -> Result<(), String> {
        if let Some(name) = &wish.store
            && !plan.stores.contains_key(name)
        {
            return Err(crate::config::error::unknown("cache", name, plan.stores.keys().map(String::as_str)));
        }
        let soft = wish.soft;
        let said = |e: PurgeError| e.to_string();
        match &wish.scope {
            Scope::All => self.every_store(plan, wish, &[Rule::all(soft)])?,
            Scope::Host(h) => self.every_store(plan, wish, &[Rule::host(h, soft).map_err(said)?])?,
            Scope::Prefix(p) => self.every_store(plan, wish, &[Rule::prefix(p, soft).map_err(said)?])?,
            Scope::Tags(tags) => {
                let rules: Result<Vec<_>, _> = tags.iter().map(|t| Rule::tag(t, soft)).collect();
                self.every_store(plan, wish, &rules.map_err(said)?)?;
            }
            Scope::Url(url) => self.url(plan, wish, url)?,
        }
        let kind = match &wish.scope {
            Scope::All => Kind::All,
            Scope::Host(_) => Kind::Host,
            Scope::Prefix(_) => Kind::Prefix,
            Scope::Url(_) => Kind::Url,
            Scope::Tags(_) => Kind::Tag,
        };
        *self.kinds.entry(kind).or_default() += 1;
        Ok(())
    }

    /// Under the key rules of every route that caches: they say which query parameters count.
    fn url(&mut self, plan: &Plan, wish: &Wish, url: &str) -> Result<(), String> {
        // A gateway that caches nothing refuses nonsense all the same.
        Rule::url(url, &KeyRules::default(), wish.soft).map_err(|e| e.to_string())?;
        for route in plan.routes.iter().filter_map(|r| r.cache.as_ref()) {
            let rule = Rule::url(url, &route.rules.key, wish.soft).map_err(|e| e.to_string())?;
            for (name, store) in plan.stores.iter().filter(|(_, s)| std::ptr::eq(**s, route.store)) {
                if wish.store.as_ref().is_none_or(|only| only == name) {
                    self.put(name, store, std::slice::from_ref(&rule))?;
                }
            }
        }
        Ok(())
    }

    fn every_store(&mut self, plan: &Plan, wish: &Wish, rules: &[Rule]) -> Result<(), String> {
        let wanted = plan.stores.iter().filter(|(name, _)| wish.store.as_ref().is_none_or(|only| only == *name));
        for (name, store) in wanted {
            self.put(name, store, rules)?;
        }
        Ok(())
    }

    fn put(&mut self, name: &str, store: &'static HttpStore, rules: &[Rule]) -> Result<(), String> {
        let (_, known) = self.rules.entry(name.to_owned()).or_insert_with(|| (store, Vec::new()));
        for rule in rules {
            if known.last() != Some(rule) {
                known.push(rule.clone());
                self.count += 1;
            }
        }
        if self.count > RULES_MAX { Err(format!("more than {RULES_MAX} purges at once")) } else { Ok(()) }
    }

    /// Purges: in force and, where a store outlives the process, on its disk when this returns.
    pub async fn carry_out(self, by: &str, metrics: &Metrics) -> Result<Value, String> {
        let mut stores = serde_json::Map::new();
        let mut failed = Vec::new();
        for (name, (store, rules)) in self.rules {
            let generation = store.book().set(&rules);
            stores.insert(name.clone(), json!({ "generation": generation, "rules": rules.len() }));
            if let Err(e) = settle(store).await {
                failed.push(format!("{name}: {e}"));
            }
        }
        let result = if failed.is_empty() { "ok" } else { "failed" };
        let mut purged = serde_json::Map::new();
        for (kind, n) in self.kinds {
            metrics.purges.with_label_values(&[kind.as_str(), by, result]).inc_by(n);
            purged.insert(kind.as_str().to_owned(), n.into());
        }
        let told = Value::Object(purged);
        tracing::info!(by, purged = %told, result, "purged");
        if failed.is_empty() {
            return Ok(json!({ "purged": told, "stores": stores }));
        }
        Err(format!("purged, but not written to the disk, so that a restart may undo it: {}", failed.join("; ")))
    }
}

async fn settle(store: &'static HttpStore) -> Result<(), String> {
    if !store.book().is_kept() {
        return Ok(());
    }
    let synced = tokio::task::spawn_blocking(|| store.book().sync()).await;
    synced.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// Answers the method `PURGE`; other methods go on. It stands before auth: who may send it is said by networks.
pub async fn method(session: &Session, ctx: &Ctx, route: &Route) -> Result<(), Box<Reply>> {
    let req = session.req_header();
    if req.method != "PURGE" {
        return Ok(());
    }
    let Some((cache, allowed)) = route.cache.as_ref().and_then(|c| Some((c, c.rules.purge_from.as_ref()?))) else {
        let reply = refuse(StatusCode::METHOD_NOT_ALLOWED, "purge_not_enabled");
        return Err(Box::new(reply.with(header::ALLOW, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")));
    };
    // A page in an allowed browser is not an operator.
    if !client::trusted(ctx.client, allowed) || req.headers.contains_key(header::ORIGIN) {
        return Err(Box::new(refuse(StatusCode::FORBIDDEN, "purge_forbidden")));
    }
    let metrics = &ctx.plan.metrics;
    let soft = is_soft(&req.headers);
    let mut names = vec![SURROGATE_KEY, CACHE_TAG];
    names.extend(cache.rules.tags_from.iter().filter(|n| **n != SURROGATE_KEY && **n != CACHE_TAG).cloned());
    let order = if names.iter().any(|n| req.headers.contains_key(n)) {
        let tags = Tags::read(&req.headers, &names).ok().filter(|t| !t.is_empty());
        tags.and_then(|t| by_tags(&t.filed(), ctx, soft).ok())
    } else {
        by_url(ctx, req.uri.path_and_query().map_or("/", |p| p.as_str()), soft).ok()
    };
    let Some(order) = order else {
        metrics.purges.with_label_values(&["none", "method", "refused"]).inc();
        return Err(Box::new(refuse(StatusCode::BAD_REQUEST, "bad_purge")));
    };
    Err(Box::new(match order.carry_out("method", metrics).await {
        Ok(done) => Reply::json(StatusCode::OK, Source::Gateway, &done).because("purged"),
        Err(e) => Reply::json(StatusCode::INTERNAL_SERVER_ERROR, Source::Gateway, &json!({ "error": e })),
    }))
}

/// The URL under both schemes: the tool that purges a TLS site mostly asks in clear, from next door.
fn by_url(ctx: &Ctx, target: &str, soft: bool) -> Result<Order, String> {
    let mut order = Order::default();
    for scheme in ["https", "http"] {
        let url = format!("{scheme}://{}{target}", ctx.authority);
        order.url(&ctx.plan, &Wish { scope: Scope::All, soft, store: None }, &url)?;
    }
    order.kinds.insert(Kind::Url, 1);
    Ok(order)
}

/// The tags within this host: whoever may purge here may not purge a neighbour.
fn by_tags(tags: &[Box<str>], ctx: &Ctx, soft: bool) -> Result<Order, String> {
    let mut order = Order::default();
    let rules: Result<Vec<_>, _> = tags.iter().map(|t| Rule::tag_of_host(t, ctx.host(), soft)).collect();
    let rules = rules.map_err(|e| e.to_string())?;
    order.every_store(&ctx.plan, &Wish { scope: Scope::All, soft, store: None }, &rules)?;
    order.kinds.insert(Kind::Tag, 1);
    Ok(order)
}

/// `x-soft-purge: 1`, or Fastly's name for it.
fn is_soft(headers: &HeaderMap) -> bool {
    let on = |v: &HeaderValue| v == "1" || v.as_bytes().eq_ignore_ascii_case(b"true");
    ["x-soft-purge", "fastly-soft-purge", "soft-purge"].iter().filter_map(|n| headers.get(*n)).any(on)
}

fn refuse(status: StatusCode, reason: &'static str) -> Reply {
    Reply::json(status, Source::Gateway, &json!({ "error": reason })).because(reason)
}

/// What `on_log` purges: in every HTTP cache, in force at once, handed to the system but not forced to the disk.
pub fn by_script(ctx: &Ctx, purges: &[TagPurge]) {
    let rules: Vec<Rule> = purges.iter().filter_map(|p| Rule::tag(&p.tag, p.soft).ok()).collect();
    if rules.is_empty() {
        return;
    }
    for store in ctx.plan.stores.values() {
        store.book().set(&rules);
    }
    let labels = [Kind::Tag.as_str(), "script", "ok"];
    ctx.plan.metrics.purges.with_label_values(&labels).inc_by(rules.len() as u64);
}
