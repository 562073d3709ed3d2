//! The organs that a plan refers to, made from their sections or taken over from the plan before.

use super::shared::Shared;
use super::{HttpStore, RouteStore};
use crate::ai::Gateway;
use crate::ai::catalog::AUTO;
use crate::auth::identity::Rule;
use crate::base::clock::Clock;
use crate::base::ids;
use crate::bot::lists::Lists;
use crate::bot::verify::{DnsVerifier, SystemDns};
use crate::cache::RouteCache;
use crate::cache::hints::Hints;
use crate::cache::predict::Known;
use crate::cache::purge::Book;
use crate::cache::store::adapter::Adapter;
use crate::cache::store::disk::DiskStore;
use crate::cache::store::memory::Limits as StoreLimits;
use crate::cache::store::tiered::TieredStore;
use crate::config::Config;
use crate::config::ai::AiRoute;
use crate::config::cache as yaml_cache;
use crate::config::error::{Fault, unknown};
use crate::config::observability::AccessLogSetting;
use crate::observe::access_log::Log;
use crate::policy::{Limits, Names, Policy};
use crate::upstream::pool::Pool;
use pingora_cache::lock::{CacheKeyLockImpl, CacheLock};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long one request may hold others back that want the same object.
const LOCK_AGE_MAX: Duration = Duration::from_secs(30);
/// Largest price list or script file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Everything that routes may name.
pub struct Organs {
    pub pools: BTreeMap<String, Arc<Pool>>,
    pub stores: BTreeMap<String, &'static HttpStore>,
    pub auth: BTreeMap<String, Arc<Rule>>,
    pub bots: Option<Lists>,
    pub dns: Option<Arc<DnsVerifier>>,
    pub gateway: Option<Arc<Gateway>>,
    pub policy: Option<Arc<Policy>>,
    pub policy_revision: String,
    pub script_source: Option<String>,
    pub log: Option<Log>,
    pub files: Vec<PathBuf>,
}

/// A plan's organs under way.
pub(super) struct Making<'a> {
    pub(super) c: &'a Config,
    pub(super) base: &'a Path,
    pub(super) shared: &'a Arc<Shared>,
    faults: &'a mut Vec<Fault>,
    files: Vec<PathBuf>,
}

impl Organs {
    /// Makes or keeps each organ.
    pub fn make(c: &Config, base: &Path, shared: &Arc<Shared>, faults: &mut Vec<Fault>) -> Organs {
        let mut m = Making { c, base, shared, faults, files: Vec::new() };
        let (pools, stores, auth) = (m.pools(), m.stores(), m.auth());
        let (bots, dns) = m.bots();
        let gateway = m.gateway();
        m.check_keys(&auth, gateway.as_deref());
        let (policy, script_source) = m.policy(gateway.as_deref());
        let log = m.log();
        let digest = script_source.as_ref().map(|s| ids::hex(&ids::sha256_parts([s.as_bytes()])));
        let policy_revision = digest.map(|d| d.chars().take(12).collect()).unwrap_or_default();
        let files = m.files;
        Organs { pools, stores, auth, bots, dns, gateway, policy, policy_revision, script_source, log, files }
    }

    /// A route's HTTP cache.
    pub fn route_store(&self, wanted: &yaml_cache::RouteCache, c: &Config) -> Result<Option<RouteStore>, Vec<Fault>> {
        let rules = RouteCache::compile(wanted)
            .map_err(|list| list.into_iter().map(|f| Fault::at(f.path, f.why)).collect::<Vec<_>>())?;
        let Some(rules) = rules else { return Ok(None) };
        let known = || c.caches.keys().map(String::as_str);
        let name = match (&rules.store, c.caches.len()) {
            (Some(n), _) => n.clone(),
            (None, 1) => known().next().unwrap_or_default().to_owned(),
            (None, _) => "main".to_owned(),
        };
        match self.stores.get(&name) {
            Some(store) => Ok(Some(RouteStore { rules, store })),
            None if c.caches.contains_key(&name) => Ok(None),
            None => {
                Err(vec![Fault::at(if rules.store.is_some() { "store" } else { "" }, unknown("cache", &name, known()))])
            }
        }
    }

    /// Names in a route's `ai:`.
    pub fn check_ai_route(&self, r: &AiRoute, c: &Config) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Some(g) = &self.gateway {
            faults.extend(g.catalog().check_route(r).into_iter().map(|f| Fault::at(f.path, f.message)));
        } else if let Some(name) = r.tier.as_ref().filter(|name| !c.ai.tiers.contains_key(*name) && *name != AUTO) {
            // The models have faults of their own; which tiers there are is known all the same.
            faults.push(Fault::at("tier", unknown("tier", name, c.ai.tiers.keys().map(String::as_str))));
        }
        let numbers = crate::config::ai::faults(&c.ai.health, r.retry.as_ref(), r.stream.as_ref());
        faults.extend(numbers.into_iter().filter(|(p, _)| !p.starts_with("health")).map(|(p, m)| Fault::at(p, m)));
        faults.extend(r.sticky.and_then(|s| s.fault()).map(|m| Fault::at("sticky.ttl", m)));
        let cascade = r.cascade.iter().flat_map(crate::config::ai::Cascade::faults);
        faults.extend(cascade.map(|(place, m)| Fault::at(format!("cascade.{place}"), m)));
        let guards = || c.ai.guards.keys().map(String::as_str);
        let allowed = r.guards_allowed.iter().enumerate().map(|(i, name)| (format!("guards_allowed[{i}]"), name));
        for (key, name) in r.guards.iter().map(|name| ("guards".to_owned(), name)).chain(allowed) {
            if !c.ai.guards.contains_key(name) {
                faults.push(Fault::at(key, unknown("guards", name, guards())));
            }
        }
        if r.guards.is_some() && r.passthrough.is_some() {
            let message = "what passthrough opens goes by unread; open it on a route without guards";
            faults.push(Fault::at("guards", message));
        }
        if let Some(name) = &r.cache
            && !c.ai.caches.contains_key(name)
        {
            faults.push(Fault::at("cache", unknown("AI cache", name, c.ai.caches.keys().map(String::as_str))));
        }
        faults
    }
}

impl Making<'_> {
    pub(super) fn fault(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.faults.push(Fault::at(path, message));
    }

    fn pools(&mut self) -> BTreeMap<String, Arc<Pool>> {
        let mut out = BTreeMap::new();
        let clock = &self.shared.clock;
        for (name, u) in &self.c.upstreams {
            match self.shared.pools.get(name, u, || Pool::new(name, u, clock.clone()).map(Arc::new)) {
                Ok(p) => drop(out.insert(name.clone(), p)),
                Err(list) => {
                    for (i, e) in list {
                        self.fault(format!("upstreams.{name}.servers[{i}]"), e);
                    }
                }
            }
        }
        out
    }

    fn stores(&mut self) -> BTreeMap<String, &'static HttpStore> {
        let mut out = BTreeMap::new();
        for (name, cache) in &self.c.caches {
            if cache.memory.size.0 < 1 << 20 {
                self.fault(format!("caches.{name}.memory.size"), "at least 1MiB");
                continue;
            }
            let disk = match super::disk::open(name, cache, self.base, self.shared) {
                Ok(disk) => disk,
                Err((key, message)) => {
                    self.fault(format!("caches.{name}.disk{key}"), message);
                    continue;
                }
            };
            let clock = self.shared.clock.clone();
            let make = || Ok::<_, ()>(open_store(cache, clock, disk.as_deref()));
            // What memory holds goes by the purges of the disk below it: another opening of that is another store.
            let made_from = (cache, disk.as_ref().map(|d| d.opened()));
            if let Ok(s) = self.shared.stores.get(name, &made_from, make) {
                if let Some(disk) = disk {
                    s.adapter.store().attach(disk);
                }
                out.insert(name.clone(), s);
            }
        }
        out
    }

    fn bots(&mut self) -> (Option<Lists>, Option<Arc<DnsVerifier>>) {
        let lists = match Lists::new(&self.c.bots) {
            Ok(l) => Some(l),
            Err(e) => {
                self.fault("bots", e.to_string());
                None
            }
        };
        if !self.c.bots.verify_dns {
            return (lists, None);
        }
        let (clock, wait) = (self.shared.clock.clone(), self.c.bots.dns_timeout.0);
        let make = || Ok::<_, ()>(Arc::new(DnsVerifier::new(Arc::new(SystemDns::default()), clock, wait)));
        (lists, self.shared.dns.get("dns", &self.c.bots.dns_timeout, make).ok())
    }

    fn log(&mut self) -> Option<Log> {
        let setting = &self.c.observability.access_log;
        if self.shared.check_only {
            self.check_log(setting);
            return None;
        }
        match self.shared.logs.get("access", setting, || Log::open(setting)) {
            Ok(l) => l,
            Err(e) => {
                self.fault("observability.access_log.output", e.to_string());
                None
            }
        }
    }

    /// The file itself is made at the start.
    fn check_log(&mut self, setting: &AccessLogSetting) {
        let AccessLogSetting::On(log) = setting else { return };
        let folder = std::path::absolute(&log.output).ok().and_then(|p| p.parent().map(Path::to_owned));
        if log.output != "stdout" && !folder.is_some_and(|f| f.is_dir()) {
            self.fault("observability.access_log.output", format!("the folder of {} does not exist", log.output));
        }
    }

    /// A file that belongs to the configuration; a fault at `at` when it cannot be read.
    pub(super) fn read(&mut self, path: &Path, at: &str) -> Option<String> {
        self.read_at_most(path, at, FILE_BYTES_MAX)
    }

    /// The same with a limit of its own, in bytes.
    pub(super) fn read_at_most(&mut self, path: &Path, at: &str, bytes_max: u64) -> Option<String> {
        let full = self.base.join(path);
        self.files.push(full.clone());
        let too_large = std::fs::metadata(&full).is_ok_and(|m| m.len() > bytes_max);
        let text = if too_large {
            Err(format!("larger than {} MiB", bytes_max >> 20))
        } else {
            std::fs::read_to_string(&full).map_err(|e| e.to_string())
        };
        text.map_err(|e| self.fault(at, format!("cannot read {}: {e}", full.display()))).ok()
    }

    fn policy(&mut self, gateway: Option<&Gateway>) -> (Option<Arc<Policy>>, Option<String>) {
        let Some(p) = &self.c.policy else { return (None, None) };
        for (key, message) in p.faults() {
            self.fault(format!("policy.{key}"), message);
        }
        let Some(source) = self.read(&p.script, "policy.script") else { return (None, None) };
        let names = Names {
            tiers: gateway.map(|g| g.catalog().script_tiers().collect()).unwrap_or_default(),
            models: gateway.map(|g| g.catalog().models().map(|m| m.name.clone()).collect()).unwrap_or_default(),
            guards: self.c.ai.guards.keys().cloned().collect(),
            upstreams: self.c.upstreams.keys().cloned().collect(),
            // What a script verifies by itself are tokens; the route's own key it finds in `req.key`.
            auth: self.c.auth.iter().filter(|(_, a)| a.jwt.is_some()).map(|(n, _)| n.clone()).collect(),
        };
        let limits = Limits::from(p);
        let shown = self.base.join(&p.script).display().to_string();
        match Policy::load(&source, &shown, &names, &limits, &self.shared.clock) {
            Ok(policy) => (Some(Arc::new(policy)), Some(source)),
            Err(list) => {
                for f in list {
                    self.fault("policy.script", f.to_string());
                }
                (None, None)
            }
        }
    }
}

/// The one place where an HTTP cache is given away for ever: Pingora keeps references to its storage without an owner.
fn open_store(cache: &yaml_cache::Cache, clock: Clock, disk: Option<&DiskStore>) -> &'static HttpStore {
    let book = disk.map_or_else(|| Arc::new(Book::new(clock.clone())), |d| Arc::clone(d.book()));
    let capacity_bytes = cache.memory.size.0;
    let limits = StoreLimits { capacity_bytes, object_bytes_max: cache.max_object_size.0 };
    let lock: Box<CacheKeyLockImpl> = Box::new(CacheLock::new(LOCK_AGE_MAX));
    let coders = Semaphore::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let adapter = Adapter::new(TieredStore::new(limits, clock, book));
    Box::leak(Box::new(HttpStore {
        adapter,
        lock,
        known: Known::default(),
        hints: Hints::default(),
        coders,
        sweep: tokio::sync::Mutex::default(),
    }))
}
