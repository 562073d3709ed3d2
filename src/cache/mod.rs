//! The HTTP cache (RFC 9111): what shares an object, what may be stored, how long it is fresh, and where it is kept.
//!
//! Everything here takes values and returns values; `proxy/cache.rs` calls it from Pingora's hooks, which do the look-up,
//! the lock and the streaming. A plain fresh hit does not go through them at all: see [`fast`], and [`wire`] for the form
//! it is sent in.

pub mod cc;
pub mod conditional;
pub mod fast;
pub mod fresh;
pub mod judge;
pub mod key;
pub mod merge;
pub mod purge;
pub mod query;
pub mod rules;
pub mod status;
pub mod store;
pub mod targeted;
pub mod vary;
pub mod wire;

use crate::config::cache as config;
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
    /// How long to wait for another request that fetches the same object.
    pub lock_timeout: Duration,
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
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Some(RouteCache {
            store: rules.store.clone(),
            key,
            ttl: rules.ttl.clone(),
            stale_while_revalidate: rules.stale_while_revalidate.map_or(Duration::ZERO, |d| d.0),
            stale_if_error: rules.stale_if_error.map_or(Duration::ZERO, |d| d.0),
            lock_timeout,
        }))
    }
}

const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

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
