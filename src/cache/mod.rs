//! The HTTP cache (RFC 9111): what shares an object, what may be stored, how long it is fresh, and where it is kept.
//!
//! Everything here takes values and returns values; `proxy/cache.rs` calls it from Pingora's hooks, which do the look-up,
//! the lock and the streaming. A plain fresh hit does not go through them at all: see [`fast`], and [`wire`] for the form
//! it is sent in.

pub mod armor;
pub mod behind;
pub mod cc;
pub mod conditional;
pub mod date;
pub mod fast;
pub mod fresh;
pub mod hints;
pub mod judge;
pub mod key;
pub mod merge;
pub mod once;
pub mod predict;
pub mod provoked;
pub mod purge;
pub mod query;
pub mod range;
pub mod rules;
pub mod status;
pub mod store;
pub mod targeted;
pub mod vary;
pub mod wire;

use crate::config::cache as config;
use http::HeaderName;
use ipnet::IpNet;
use key::KeyRules;
use std::time::Duration;

/// A fault in a cache section, with its place below that section (`key.headers[1]`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct Fault {
    /// Path below the section.
    pub path: String,
    /// What is wrong.
    pub why: String,
}

impl Fault {
    pub(crate) fn new(path: impl Into<String>, why: impl Into<String>) -> Self {
        Fault { path: path.into(), why: why.into() }
    }
}

/// A route's caching rules, compiled.
#[derive(Clone, Debug)]
pub struct RouteCache {
    /// Name of the store, where the route gives one.
    pub store: Option<String>,
    /// The key.
    pub key: KeyRules,
    /// Lifetimes.
    pub ttl: config::TtlTable,
    /// Stale-while-revalidate where the origin is silent.
    pub stale_while_revalidate: Duration,
    /// Stale-if-error where the origin is silent.
    pub stale_if_error: Duration,
    /// How long to serve stale while the origin cannot be reached, unless it forbids that.
    pub stale_if_unreachable: Duration,
    /// How long to wait for another request that fetches the same object.
    pub lock_timeout: Duration,
    /// Requests that waited share an answer that is fresh for no time.
    pub share_once: bool,
    /// Answers that do not fit the file extension of their URL are not stored.
    pub deception_armor: bool,
    /// Response fields that hold tags.
    pub tags_from: Vec<HeaderName>,
    /// Whether clients see those fields.
    pub send_tags: bool,
    /// Networks that may send `PURGE`; `None` where nobody may.
    pub purge_from: Option<Vec<IpNet>>,
}

impl RouteCache {
    /// Compiles a route's `cache:`; `Ok(None)` where it is `false`.
    pub fn compile(cache: &config::RouteCache) -> Result<Option<Self>, Vec<Fault>> {
        let silent = config::CacheRules::default();
        let rules = match cache {
            config::RouteCache::Switch(false) => return Ok(None),
            config::RouteCache::Switch(true) => &silent,
            config::RouteCache::Rules(rules) => rules,
        };
        let mut faults = Vec::new();
        let key = KeyRules::compile(&rules.key, &mut faults);
        let lock_timeout = rules.lock_timeout.map_or(LOCK_TIMEOUT, |d| d.0);
        if lock_timeout.is_zero() {
            faults.push(Fault::new("lock_timeout", "must be longer than 0"));
        }
        let tags_from = tags_from(rules.tags_from.as_deref(), &mut faults);
        let purge_from = rules.purge_from.as_deref().map(|list| networks(list, &mut faults));
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Some(RouteCache {
            store: rules.store.clone(),
            key,
            ttl: rules.ttl.clone(),
            stale_while_revalidate: rules.stale_while_revalidate.map_or(Duration::ZERO, |d| d.0),
            stale_if_error: rules.stale_if_error.map_or(Duration::ZERO, |d| d.0),
            stale_if_unreachable: rules.stale_if_unreachable.map_or(STALE_IF_UNREACHABLE, |d| d.0),
            lock_timeout,
            share_once: rules.share.is_some(),
            deception_armor: rules.deception_armor.unwrap_or(true),
            tags_from,
            send_tags: rules.send_tags,
            purge_from,
        }))
    }
}

/// Fields that one route may take tags from.
const TAG_FIELDS_MAX: usize = 8;

fn tags_from(names: Option<&[String]>, faults: &mut Vec<Fault>) -> Vec<HeaderName> {
    let Some(names) = names else { return vec![purge::tags::SURROGATE_KEY, purge::tags::CACHE_TAG] };
    if names.len() > TAG_FIELDS_MAX {
        faults.push(Fault::new("tags_from", format!("at most {TAG_FIELDS_MAX} fields")));
    }
    let mut out = Vec::new();
    for (i, name) in names.iter().enumerate() {
        match name.parse() {
            Ok(n) => out.push(n),
            Err(_) => faults.push(Fault::new(format!("tags_from[{i}]"), format!("{name:?} is no field name"))),
        }
    }
    out
}

fn networks(list: &[String], faults: &mut Vec<Fault>) -> Vec<IpNet> {
    let mut out = Vec::new();
    for (i, text) in list.iter().enumerate() {
        match text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from)) {
            Ok(n) => out.push(n),
            Err(_) => {
                let why = format!("{text:?} is no address or network (10.0.0.0/8)");
                faults.push(Fault::new(format!("purge_from[{i}]"), why));
            }
        }
    }
    out
}

const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// RFC 9111 §4.2.4 lets a cache that is cut off from its origin serve stale; a minute bridges a restart.
const STALE_IF_UNREACHABLE: Duration = Duration::from_secs(60);

/// What the policy script said about storing this answer; each overrides the origin and the route.
#[derive(Clone, Debug, Default)]
pub struct Directives {
    /// Never use or fill the cache.
    pub pass: bool,
    /// Freshness lifetime.
    pub ttl: Option<Duration>,
    /// Stale-while-revalidate.
    pub stale_while_revalidate: Option<Duration>,
    /// Stale-if-error.
    pub stale_if_error: Option<Duration>,
}
