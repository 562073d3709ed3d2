//! What outlives a reload: caches, keys, embedders, logs, metrics, the clock. A thing is kept as long as its own
//! configuration stays the same.

use crate::ai::AnswerCache;
use crate::ai::embed::Embedder;
use crate::ai::vector::VectorStore;
use crate::auth::jwks::JwksPool;
use crate::base::clock::Clock;
use crate::bot::verify::DnsVerifier;
use crate::fetch::Fetcher;
use crate::observe::access_log::Log;
use crate::observe::metrics::Metrics;
use crate::plan::HttpStore;
use crate::upstream::pool::Pool;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Things by name, each with the configuration it was made from.
#[derive(Debug)]
pub struct Kept<T> {
    things: Mutex<BTreeMap<String, (String, T)>>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept { things: Mutex::default() }
    }
}

impl<T: Clone> Kept<T> {
    /// The thing called `name` if it was made from `config`, else a new one.
    pub fn get<C: serde::Serialize, E>(
        &self,
        name: &str,
        config: &C,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let fingerprint = serde_json::to_string(config).unwrap_or_default();
        let mut things = self.things.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((f, t)) = things.get(name)
            && *f == fingerprint
        {
            return Ok(t.clone());
        }
        let t = make()?;
        things.insert(name.to_owned(), (fingerprint, t.clone()));
        Ok(t)
    }

    /// All of them.
    pub fn all(&self) -> Vec<(String, T)> {
        let things = self.things.lock().unwrap_or_else(PoisonError::into_inner);
        things.iter().map(|(n, (_, t))| (n.clone(), t.clone())).collect()
    }
}

/// Everything that outlives a reload.
pub struct Shared {
    /// Metric families.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: Clock,
    /// Outbound calls.
    pub fetcher: Fetcher,
    /// HTTP caches.
    pub stores: Kept<&'static HttpStore>,
    /// Caches of model answers.
    pub answers: Kept<Arc<AnswerCache>>,
    /// Published key sets.
    pub jwks: JwksPool,
    /// Embedders.
    pub embedders: Kept<Arc<dyn Embedder>>,
    /// Vector stores.
    pub vectors: Kept<Arc<dyn VectorStore>>,
    /// Upstreams.
    pub pools: Kept<Arc<Pool>>,
    /// The access log.
    pub logs: Kept<Option<Log>>,
    /// Forward-confirmed reverse DNS.
    pub dns: Kept<Arc<DnsVerifier>>,
}

impl Shared {
    /// Nothing kept yet.
    pub fn new(metrics: Arc<Metrics>, clock: Clock) -> Self {
        Shared {
            metrics,
            clock,
            fetcher: Fetcher::new(),
            stores: Kept::default(),
            answers: Kept::default(),
            jwks: JwksPool::default(),
            embedders: Kept::default(),
            vectors: Kept::default(),
            pools: Kept::default(),
            logs: Kept::default(),
            dns: Kept::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_kept_until_its_configuration_changes() {
        let k: Kept<Arc<u32>> = Kept::default();
        let make = |v| move || Ok::<_, ()>(Arc::new(v));
        let a = k.get("x", &1, make(1)).unwrap();
        assert!(Arc::ptr_eq(&a, &k.get("x", &1, make(2)).unwrap()));
        assert_eq!(*k.get("x", &2, make(3)).unwrap(), 3);
        assert!(k.get("x", &4, || Err::<Arc<u32>, _>("no")).is_err());
        assert_eq!(*k.all()[0].1, 3);
    }
}
