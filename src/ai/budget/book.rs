//! All accounts of a gateway; it outlives reloads.

use super::account::{Account, Balance};
use super::{Budget, Budgets};
use crate::base::clock::Clock;
use crate::base::ids::{hex, sha256_parts};
use crate::kv::Kv;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

/// Locks are per shard and held for a map operation only.
const SHARDS: usize = 64;
/// Longer subjects (of tokens) are known by their digest.
const SUBJECT_BYTES_MAX: usize = 200;
/// What the names of the cells begin with; others keep other things in the same store.
const KIND: &str = "budget";
/// Between the parts of a cell's name; the first two never hold it.
const SEPARATOR: char = '\u{1f}';
/// Longer than any period that ends, in seconds.
const PERIOD_SECS_MAX: u64 = 32 * 86_400;

/// The accounts.
pub struct Book {
    kv: Arc<Kv>,
    shards: Vec<Mutex<HashMap<String, Arc<Account>>>>,
    hasher: RandomState,
    clock: Clock,
}

/// One account as operators see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The budget's name.
    pub budget: Arc<str>,
    /// Whose account: `key:alice`, `team:web`, `user:…`, `route:chat`.
    pub subject: String,
    /// What it says.
    pub balance: Balance,
}

impl Book {
    /// The accounts whose spending this store remembers.
    pub fn new(kv: Arc<Kv>, clock: Clock) -> Arc<Book> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Arc::new(Book { kv, shards, hasher: RandomState::new(), clock })
    }

    /// The store behind it.
    pub fn kv(&self) -> &Arc<Kv> {
        &self.kv
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.unix_secs()
    }

    /// The account of a subject; `None` when there is no room for another.
    pub fn account(&self, budget: &Budget, subject: &str) -> Option<Arc<Account>> {
        let digest;
        let subject = if subject.len() > SUBJECT_BYTES_MAX {
            digest = format!("sha256:{}", hex(&sha256_parts([subject.as_bytes()])));
            &digest
        } else {
            subject
        };
        let name = format!("{KIND}{SEPARATOR}{}{SEPARATOR}{subject}", budget.name);
        if let Some(known) = self.known(&name) {
            return Some(known);
        }
        let cell = self.kv.cell(&name).or_else(|| {
            self.forget_old();
            self.kv.cell(&name)
        })?;
        let mut shard = self.shard(&name)?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(shard.entry(name).or_insert_with(|| Arc::new(Account::new(cell)))))
    }

    fn shard(&self, name: &str) -> Option<&Mutex<HashMap<String, Arc<Account>>>> {
        self.shards.get(usize::try_from(self.hasher.hash_one(name) % SHARDS as u64).ok()?)
    }

    fn known(&self, name: &str) -> Option<Arc<Account>> {
        self.shard(name)?.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Forgets accounts whose period is over.
    pub fn forget_old(&self) {
        let now = self.now();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, a| Arc::strong_count(a) > 1 || !a.is_over(now));
        }
        // Those that nobody has used since the start; what never ends began in 1970.
        let ours = |name: &str| name.strip_prefix(KIND).is_some_and(|r| r.starts_with(SEPARATOR));
        self.kv.forget(|name, v| ours(name) && v.since > 0 && v.since.saturating_add(PERIOD_SECS_MAX) < now);
    }

    /// Every account of these budgets, by budget and subject.
    pub fn lines(&self, budgets: &Budgets) -> Vec<Line> {
        let mut names = Vec::new();
        self.kv.each(|name, _| names.push(name.to_owned()));
        names.sort_unstable();
        let line = |name: &String| {
            let mut parts = name.splitn(3, SEPARATOR);
            let (kind, budget, subject) = (parts.next()?, parts.next()?, parts.next()?);
            let budget = budgets.get(budget).filter(|_| kind == KIND)?;
            let account = self.account(budget, subject)?;
            let balance = account.balance(budget.period, self.now());
            Some(Line { budget: Arc::clone(&budget.name), subject: subject.to_owned(), balance })
        };
        names.iter().filter_map(line).collect()
    }

    /// Begins the spending of a budget anew: of one subject, or of all. Says how many accounts that were.
    pub fn reset(&self, budget: &Arc<Budget>, subject: Option<&str>) -> usize {
        let only = Budgets::from([(budget.name.to_string(), Arc::clone(budget))]);
        let lines = self.lines(&only).into_iter().filter(|l| subject.is_none_or(|s| l.subject == s));
        let accounts: Vec<_> = lines.filter_map(|l| self.account(budget, &l.subject)).collect();
        accounts.iter().for_each(|a| a.reset(budget.period, self.now()));
        accounts.len()
    }
}
