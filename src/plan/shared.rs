//! What outlives a reload: caches, keys, embedders, logs, metrics, the clock. A thing is kept as long as its own
//! configuration stays the same. What a reload makes is only staged until the new plan is live: a refused reload
//! changes nothing.

use super::{HttpStore, Plan};
use crate::ai::AnswerCache;
use crate::ai::budget::Book;
use crate::ai::embed::Embedder;
use crate::ai::ledger::Ledger;
use crate::ai::routing::board::Board;
use crate::ai::semantic::SemanticCache;
use crate::ai::vector::VectorStore;
use crate::auth::jwks::JwksPool;
use crate::base::clock::Clock;
use crate::bot::verify::DnsVerifier;
use crate::cache::purge::Rule;
use crate::cache::store::disk::DiskStore;
use crate::fetch::Fetcher;
use crate::limit::Limiter;
use crate::mcp;
use crate::observe::access_log::Log;
use crate::observe::metrics::Metrics;
use crate::upstream::pool::Pool;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::Semaphore;

/// Things by name, each with the configuration it was made from. One compilation at a time stages into it.
#[derive(Debug)]
pub struct Kept<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug, Clone)]
struct Entry<T> {
    made_from: String,
    thing: T,
}

#[derive(Debug)]
struct State<T> {
    /// What the live plan was given.
    live: BTreeMap<String, Entry<T>>,
    /// What the compilation under way has asked for.
    staged: BTreeMap<String, Entry<T>>,
    /// What no live plan wants, but a request on an older one may still use.
    retired: Vec<(String, Entry<T>)>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept { state: Mutex::new(State { live: BTreeMap::new(), staged: BTreeMap::new(), retired: Vec::new() }) }
    }
}

impl<T: Clone> State<T> {
    /// The thing of that name that `fits`, wherever it is.
    fn find(&self, name: &str, fits: impl Fn(&str) -> bool) -> Option<Entry<T>> {
        let here = [self.staged.get(name), self.live.get(name)].into_iter().flatten();
        let retired = self.retired.iter().rev().filter(|(n, _)| n == name).map(|(_, e)| e);
        here.chain(retired).find(|e| fits(&e.made_from)).cloned()
    }
}

fn holds<T>(map: &BTreeMap<String, Entry<T>>, name: &str, made_from: &str) -> bool {
    map.get(name).is_some_and(|e| e.made_from == made_from)
}

impl<T: Clone> Kept<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thing called `name` if it was made from `config`, else a new one. Nobody waits while it is made.
    pub fn get<C: serde::Serialize, E>(
        &self,
        name: &str,
        config: &C,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let wanted = serde_json::to_string(config).unwrap_or_default();
        let found = self.state().find(name, |made_from| made_from == wanted);
        self.stage(name, found, wanted, make)
    }

    /// The thing called `name`, whatever it was made from, else a new one: for things of which there can be only one.
    /// The second part tells that the present one was made from another configuration.
    pub fn get_open<C: serde::Serialize, E>(
        &self,
        name: &str,
        config: &C,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<(T, bool), E> {
        let wanted = serde_json::to_string(config).unwrap_or_default();
        let found = self.state().find(name, |_| true);
        let other = found.as_ref().is_some_and(|e| e.made_from != wanted);
        Ok((self.stage(name, found, wanted, make)?, other))
    }

    fn stage<E>(
        &self,
        name: &str,
        found: Option<Entry<T>>,
        made_from: String,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let entry = match found {
            Some(e) => e,
            None => Entry { made_from, thing: make()? },
        };
        let thing = entry.thing.clone();
        self.state().staged.insert(name.to_owned(), entry);
        Ok(thing)
    }

    /// All of the live plan's.
    pub fn all(&self) -> Vec<(String, T)> {
        self.state().live.iter().map(|(n, e)| (n.clone(), e.thing.clone())).collect()
    }

    /// Those that the live plan no longer wants.
    pub fn retired(&self) -> Vec<T> {
        self.state().retired.iter().map(|(_, e)| e.thing.clone()).collect()
    }

    /// What was staged is what the live plan has; the rest retires. Gives what came back from retirement.
    fn commit(&self) -> Vec<T> {
        let mut guard = self.state();
        let s = &mut *guard;
        let before = std::mem::replace(&mut s.live, std::mem::take(&mut s.staged));
        let (back, retired) =
            std::mem::take(&mut s.retired).into_iter().partition(|(n, e)| holds(&s.live, n, &e.made_from));
        s.retired = retired;
        let gone = before.into_iter().filter(|(n, e)| !holds(&s.live, n, &e.made_from));
        s.retired.extend(gone);
        let back: Vec<(String, Entry<T>)> = back;
        back.into_iter().map(|(_, e)| e.thing).collect()
    }

    /// Forgets what was staged. What was newly made retires.
    fn discard(&self) {
        let mut guard = self.state();
        let s = &mut *guard;
        for (name, e) in std::mem::take(&mut s.staged) {
            let known = holds(&s.live, &name, &e.made_from)
                || s.retired.iter().any(|(n, r)| *n == name && r.made_from == e.made_from);
            if !known {
                s.retired.push((name, e));
            }
        }
    }

    /// Takes out what is retired and `idle`. The caller drops it, which may take a while.
    fn release(&self, idle: impl Fn(&T) -> bool) -> Vec<T> {
        let mut s = self.state();
        let (idle, busy) = std::mem::take(&mut s.retired).into_iter().partition(|(_, e)| idle(&e.thing));
        s.retired = busy;
        let idle: Vec<(String, Entry<T>)> = idle;
        idle.into_iter().map(|(_, e)| e.thing).collect()
    }
}

/// Whether nobody else holds it.
fn unshared<T: ?Sized>(thing: &Arc<T>) -> bool {
    Arc::strong_count(thing) == 1
}

/// Answers coded while they are sent, at once. Each holds two to three MiB for as long as its client takes.
const CODERS_MAX: usize = 128;

/// Everything that outlives a reload.
pub struct Shared {
    /// Metric families.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: Clock,
    /// Outbound calls.
    pub fetcher: Fetcher,
    /// Nothing is opened, loaded or made on disk: a configuration is only being checked, maybe beside a gateway that runs.
    pub check_only: bool,
    /// HTTP caches.
    pub stores: Kept<&'static HttpStore>,
    /// Their disk levels, by folder.
    pub disks: Kept<Arc<DiskStore>>,
    /// Caches of model answers.
    pub answers: Kept<Arc<AnswerCache>>,
    /// Their semantic parts.
    pub semantics: Kept<Arc<SemanticCache>>,
    /// How the models stand.
    pub board: Arc<Board>,
    /// What model calls used and what was spared.
    pub ledger: Ledger,
    /// Published key sets.
    pub jwks: JwksPool,
    /// Embedders.
    pub embedders: Kept<Arc<dyn Embedder>>,
    /// Vector stores.
    pub vectors: Kept<Arc<dyn VectorStore>>,
    /// Upstreams.
    pub pools: Kept<Arc<Pool>>,
    /// What MCP routes remember.
    pub mcp: Kept<Arc<mcp::State>>,
    /// The access log.
    pub logs: Kept<Option<Log>>,
    /// Forward-confirmed reverse DNS.
    pub dns: Kept<Arc<DnsVerifier>>,
    /// What has been spent, by the folder that remembers it.
    pub books: Kept<Arc<Book>>,
    /// What clients have asked for, within their limits.
    pub limiter: Arc<Limiter>,
    /// Leave to code answers while they are sent.
    pub coders: Arc<Semaphore>,
    /// Plans that were replaced; requests may still hold one.
    replaced: Mutex<Vec<Weak<Plan>>>,
}

impl Shared {
    /// Nothing kept yet.
    pub fn new(metrics: Arc<Metrics>, clock: Clock) -> Self {
        Shared {
            limiter: Limiter::new(clock.clone()),
            books: Kept::default(),
            metrics,
            clock,
            fetcher: Fetcher::new(),
            check_only: false,
            stores: Kept::default(),
            disks: Kept::default(),
            answers: Kept::default(),
            semantics: Kept::default(),
            board: Arc::default(),
            ledger: Ledger::default(),
            jwks: JwksPool::default(),
            embedders: Kept::default(),
            vectors: Kept::default(),
            pools: Kept::default(),
            mcp: Kept::default(),
            logs: Kept::default(),
            dns: Kept::default(),
            coders: Arc::new(Semaphore::new(CODERS_MAX)),
            replaced: Mutex::default(),
        }
    }

    /// For a compilation that is only to find faults.
    pub fn for_check(metrics: Arc<Metrics>, clock: Clock) -> Self {
        Shared { check_only: true, ..Shared::new(metrics, clock) }
    }

    /// The plan compiled last is live, in place of `before`: what it did not ask for retires.
    pub fn commit(&self, before: Option<&Arc<Plan>>) {
        self.replaced().extend(before.map(Arc::downgrade));
        self.answers.commit();
        self.semantics.commit();
        self.embedders.commit();
        self.vectors.commit();
        self.pools.commit();
        self.mcp.commit();
        self.logs.commit();
        self.dns.commit();
        self.books.commit();
        // An HTTP cache cannot be given back (Pingora refers to it for ever): it is emptied, and used again when the
        // same configuration comes back, after purges that it did not see.
        let back = self.stores.commit();
        back.into_iter().for_each(HttpStore::clear);
        self.stores.retired().into_iter().for_each(HttpStore::retire);
        // The same for a disk level that a reload takes out of use: purges that come later do not reach it.
        let before = self.disks.all();
        self.disks.commit();
        let now = self.disks.all();
        let gone = before.iter().filter(|(_, d)| !now.iter().any(|(_, other)| Arc::ptr_eq(d, other)));
        gone.for_each(|(_, disk)| {
            // Kept in its log, so that what is still being written counts as purged too, should it come back.
            disk.book().set(&[Rule::all(false)]);
            disk.clear();
        });
    }

    /// The compilation came to nothing: what it made is not kept.
    pub fn discard(&self) {
        self.answers.discard();
        self.semantics.discard();
        self.embedders.discard();
        self.vectors.discard();
        self.pools.discard();
        self.mcp.discard();
        self.logs.discard();
        self.dns.discard();
        self.books.discard();
        self.stores.discard();
        self.stores.retired().into_iter().for_each(HttpStore::retire);
        self.disks.discard();
    }

    /// Drops what is retired and unused. Blocks (a vector store writes its last entries), and must not run beside a
    /// compilation, which might want back what is being dropped.
    pub fn release(&self) {
        // A request on an old plan may have filled an emptied cache again.
        let old_plans = {
            let mut plans = self.replaced();
            let any = !plans.is_empty();
            plans.retain(|p| p.strong_count() > 0);
            any
        };
        if old_plans {
            self.stores.retired().into_iter().for_each(HttpStore::retire);
        }
        drop(self.disks.release(unshared));
        drop(self.answers.release(unshared));
        drop(self.semantics.release(unshared));
        drop(self.vectors.release(unshared));
        drop(self.embedders.release(unshared));
        drop(self.pools.release(unshared));
        drop(self.dns.release(unshared));
        drop(self.books.release(unshared));
        drop(self.mcp.release(unshared));
        drop(self.logs.release(|_| true));
    }

    fn replaced(&self) -> MutexGuard<'_, Vec<Weak<Plan>>> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpStore {
    /// Empties its memory.
    fn clear(&self) {
        self.adapter.store().clear_memory();
    }

    /// Nobody will use it any more: its disk level may be another's by now.
    fn retire(&self) {
        self.adapter.store().detach();
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(v: u32) -> impl FnOnce() -> Result<Arc<u32>, ()> {
        move || Ok(Arc::new(v))
    }

    #[test]
    fn a_thing_is_kept_until_its_configuration_changes() {
        let k: Kept<Arc<u32>> = Kept::default();
        let a = k.get("x", &1, make(1)).unwrap();
        k.commit();
        assert!(Arc::ptr_eq(&a, &k.get("x", &1, make(2)).unwrap()));
        k.commit();
        assert_eq!(*k.get("x", &2, make(3)).unwrap(), 3);
        k.commit();
        assert!(k.get("x", &4, || Err::<Arc<u32>, _>("no")).is_err());
        assert_eq!(*k.all()[0].1, 3);
    }

    #[test]
    fn a_refused_reload_leaves_everything_as_it_was() {
        let k: Kept<Arc<u32>> = Kept::default();
        let live = k.get("x", &1, make(1)).unwrap();
        k.commit();
        k.get("x", &2, make(2)).unwrap();
        k.get("y", &1, make(3)).unwrap();
        assert_eq!(k.all().len(), 1, "what is staged is not live");
        k.discard();
        assert_eq!(k.release(unshared).len(), 2, "what it made is dropped");
        assert!(Arc::ptr_eq(&live, &k.get("x", &1, make(4)).unwrap()));
    }

    #[test]
    fn a_name_no_longer_used_is_forgotten_once_nobody_holds_it() {
        let k: Kept<Arc<u32>> = Kept::default();
        let held = k.get("x", &1, make(1)).unwrap();
        k.commit();
        k.commit();
        assert!(k.all().is_empty());
        assert!(k.release(unshared).is_empty(), "a request may still hold it");
        assert!(Arc::ptr_eq(&held, &k.get("x", &1, make(2)).unwrap()), "it comes back rather than being made twice");
        assert_eq!(k.commit().len(), 1);
        k.commit();
        drop(held);
        assert_eq!(k.release(unshared).len(), 1);
    }

    #[test]
    fn of_a_thing_that_can_be_open_only_once_the_open_one_is_used() {
        let k: Kept<Arc<u32>> = Kept::default();
        let (first, other) = k.get_open("folder", &1, make(1)).unwrap();
        assert!(!other);
        k.commit();
        let (second, other) = k.get_open("folder", &2, make(2)).unwrap();
        assert!(other && Arc::ptr_eq(&first, &second));
    }
}
