//! The AI organ of a plan: models and providers from their sections, caches of answers made or kept.

use super::organs::Making;
use crate::ai::catalog::Catalog;
use crate::ai::collapse::InFlight;
use crate::ai::exact::ExactCache;
use crate::ai::guard::GuardSet;
use crate::ai::{AnswerCache, Gateway, Semantic, adapter, price};
use crate::config::ai::{PriceList, faults};
use crate::config::semantic as yaml_semantic;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

impl Making<'_> {
    pub(super) fn gateway(&mut self) -> Option<Arc<Gateway>> {
        let ai = &self.c.ai;
        let used = self.c.routes.iter().any(|r| r.ai.is_some());
        if !used && ai.providers.is_empty() && ai.models.is_empty() {
            return None;
        }
        let prices = self.prices();
        let mut keys = BTreeMap::new();
        for (name, p) in &ai.providers {
            match p.api_key.as_ref().map(crate::config::secret::SecretRef::resolve) {
                Some(Ok(k)) => drop(keys.insert(name.clone(), k)),
                Some(Err(e)) => self.fault(format!("ai.providers.{name}.api_key"), e.to_string()),
                None => {}
            }
        }
        let catalog = match Catalog::compile(ai, &prices, &keys) {
            Ok(c) => c,
            Err(list) => {
                for f in list {
                    self.fault(f.path, f.message);
                }
                return None;
            }
        };
        for (place, message) in faults(&ai.health, Some(&ai.retry), Some(&ai.stream)) {
            self.fault(format!("ai.{place}"), message);
        }
        if let Some(message) = ai.sticky.and_then(|s| s.fault()) {
            self.fault("ai.sticky.ttl", message);
        }
        let (caches, guards) = (self.answer_caches(), self.guards());
        let (fetcher, clock) = (self.shared.fetcher.clone(), self.shared.clock.clone());
        let gateway = Gateway::new(catalog, caches, fetcher, clock).on_board(&self.shared.board, ai);
        let gateway = gateway.with_guards(guards);
        Some(Arc::new(match self.budgets() {
            Some((budgets, book)) => gateway.with_budgets(budgets, book),
            None => gateway,
        }))
    }

    fn guards(&mut self) -> BTreeMap<String, Arc<GuardSet>> {
        let mut out = BTreeMap::new();
        for (name, g) in &self.c.ai.guards {
            let at = format!("ai.guards.{name}");
            let file = g.deny.as_ref().and_then(|d| d.words_file.as_ref());
            let words = match file.map(|f| self.read(Path::new(f), &format!("{at}.deny.words_file"))) {
                Some(None) => continue,
                Some(Some(text)) => text,
                None => String::new(),
            };
            match GuardSet::compile(name, g, &words) {
                Ok(set) => drop(out.insert(name.clone(), Arc::new(set))),
                Err(list) => {
                    for (key, message) in list {
                        let dot = if key.is_empty() { "" } else { "." };
                        self.fault(format!("{at}{dot}{key}"), message);
                    }
                }
            }
        }
        out
    }

    fn prices(&mut self) -> PriceList {
        let Some(path) = &self.c.ai.prices else { return PriceList::default() };
        let Some(text) = self.read(Path::new(path), "ai.prices") else { return PriceList::default() };
        price::parse_list(&text).unwrap_or_else(|e| {
            self.fault("ai.prices", e.to_string());
            PriceList::default()
        })
    }

    fn answer_caches(&mut self) -> BTreeMap<String, Arc<AnswerCache>> {
        let mut out = BTreeMap::new();
        for (name, a) in &self.c.ai.caches {
            let made_of = (a, a.semantic.as_ref().map(|s| super::semantic::made_of(s, self.c)));
            let semantic = match &a.semantic {
                None => None,
                Some(s) => match self.semantic(name, s, &made_of) {
                    Some(made) => Some(made),
                    None => continue,
                },
            };
            let clock = self.shared.clock.clone();
            let make = || {
                let exact = a.exact.as_ref().map(|e| Arc::new(ExactCache::new(e, clock)));
                Ok::<_, ()>(Arc::new(AnswerCache { exact, semantic, in_flight: Arc::new(InFlight::default()) }))
            };
            if let Ok(made) = self.shared.answers.get(name, &made_of, make) {
                out.insert(name.clone(), made);
            }
        }
        out
    }

    fn semantic<F: serde::Serialize>(
        &mut self,
        name: &str,
        s: &yaml_semantic::Semantic,
        made_of: &F,
    ) -> Option<Semantic> {
        let (c, base, shared) = (self.c, self.base, self.shared);
        let made = if shared.check_only {
            super::semantic::check(s, c, base).map(|()| None)
        } else {
            // Opened in any case, so that what it stands on is known to be in use.
            super::semantic::open(s, c, base, shared)
                .and_then(|new| shared.semantics.get(name, made_of, || Ok(new)))
                .map(Some)
        };
        match made {
            Ok(cache) => {
                let tenants_share = s.scope == yaml_semantic::Scope::Route;
                let cache = Arc::new(adapter::Shared(cache?));
                Some(Semantic { cache, threshold: s.threshold, ttl: s.ttl.0, tenants_share })
            }
            Err((key, message)) => {
                self.fault(format!("ai.caches.{name}.semantic.{key}"), message);
                None
            }
        }
    }
}
