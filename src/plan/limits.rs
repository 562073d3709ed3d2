//! What a plan limits and whom: rate limits of routes, budgets with their accounts, and that each can tell whose it is.

use super::organs::Making;
use super::shared::Shared;
use crate::ai::budget::{self, Book, Budgets};
use crate::config::Config;
use crate::config::ai::BudgetKey;
use crate::config::error::{Fault, unknown};
use crate::config::limit::{LimitKey, RateLimit};
use crate::config::route::Route;
use crate::kv::{Kv, Options};
use crate::limit::{Quota, Rate};
use std::path::Path;
use std::sync::Arc;

/// A rate limit of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteLimit {
    /// Its name.
    pub name: Arc<str>,
    /// Whose requests are counted together.
    pub key: LimitKey,
    /// How much they may have.
    pub quota: Quota,
}

/// Checks `rate_limits` by themselves.
pub(super) fn check(c: &Config, faults: &mut Vec<Fault>) {
    for (name, l) in &c.rate_limits {
        let at = |key: &str| format!("rate_limits.{name}{key}");
        if name.is_empty() || name.contains(char::is_control) {
            faults.push(Fault::at(at(""), "a limit has a name without control characters"));
        }
        if l.rate.is_none() && l.tokens.is_none() && l.concurrency.is_none() {
            faults.push(Fault::at(at(""), "limits nothing; give rate, tokens or concurrency"));
        }
        if l.burst.is_some() && l.rate.is_none() {
            faults.push(Fault::at(at(".burst"), "has no effect without a rate"));
        }
        if l.burst == Some(0) || l.concurrency == Some(0) {
            let key = if l.burst == Some(0) { ".burst" } else { ".concurrency" };
            faults.push(Fault::at(at(key), "at least 1"));
        }
    }
}

/// The limits of a route.
pub(super) fn of_route(c: &Config, (i, r): (usize, &Route), faults: &mut Vec<Fault>) -> Vec<Arc<RouteLimit>> {
    let mut out = Vec::new();
    for name in r.rate_limit.as_slice() {
        let at = format!("routes[{i}].rate_limit");
        let Some(limit) = c.rate_limits.get(name) else {
            let known = c.rate_limits.keys().map(String::as_str);
            faults.push(Fault::at(at, unknown("rate limit", name, known)));
            continue;
        };
        if let Err(what) = tells(c, r, limit.key) {
            faults.push(Fault::at(&at, format!("{name:?} counts by {what}")));
        }
        if limit.tokens.is_some() && r.ai.is_none() && limit.rate.is_none() && limit.concurrency.is_none() {
            faults.push(Fault::at(&at, format!("{name:?} limits tokens only, which this route has none of")));
        }
        out.push(Arc::new(RouteLimit { name: name.as_str().into(), key: limit.key, quota: quota(limit) }));
    }
    out
}

/// Budgets that a route names.
pub(super) fn check_budgets(c: &Config, (i, r): (usize, &Route), faults: &mut Vec<Fault>) {
    let Some(ai) = &r.ai else { return };
    for (n, name) in ai.budgets.iter().enumerate() {
        let at = format!("routes[{i}].ai.budgets[{n}]");
        let key = match c.ai.budgets.get(name).map(|b| b.key) {
            None => {
                faults.push(Fault::at(at, unknown("budget", name, c.ai.budgets.keys().map(String::as_str))));
                continue;
            }
            Some(BudgetKey::ApiKey) => LimitKey::ApiKey,
            Some(BudgetKey::Team) => LimitKey::Team,
            Some(BudgetKey::User) => LimitKey::User,
            Some(BudgetKey::Route) => LimitKey::Route,
        };
        if let Err(what) = tells(c, r, key) {
            faults.push(Fault::at(at, format!("{name:?} is kept by {what}")));
        }
    }
}

/// Whether a route can tell whose requests they are.
fn tells(c: &Config, r: &Route, key: LimitKey) -> Result<(), &'static str> {
    let auth = r.auth.as_ref().and_then(|name| c.auth.get(name));
    // An auth rule that does not exist has a fault of its own.
    let missing = r.auth.is_some() && auth.is_none();
    let (keys, tokens) = (auth.is_some_and(|a| a.api_key.is_some()), auth.is_some_and(|a| a.jwt.is_some()));
    match key {
        LimitKey::ApiKey | LimitKey::Team if !keys && !missing => {
            Err("virtual keys: give the route an auth rule with api_key")
        }
        LimitKey::User if !tokens && !missing => Err("users of tokens: give the route an auth rule with jwt"),
        _ => Ok(()),
    }
}

fn quota(l: &RateLimit) -> Quota {
    Quota {
        requests: l.rate.map(|r| Rate { count: r.count, period: r.period.0, burst: l.burst.unwrap_or(r.count).max(1) }),
        tokens: l.tokens.map(|t| Rate { count: t.count, period: t.period.0, burst: t.count }),
        concurrency: l.concurrency,
    }
}

impl Making<'_> {
    /// The budgets, and the accounts that outlive this plan.
    pub(super) fn budgets(&mut self) -> Option<(Budgets, Arc<Book>)> {
        let ai = &self.c.ai;
        if ai.budgets.is_empty() {
            return None;
        }
        let budgets = match budget::compile(ai) {
            Ok(b) => b,
            Err(list) => {
                list.into_iter().for_each(|f| self.fault(f.path, f.message));
                return None;
            }
        };
        match open(self.base, ai, self.shared) {
            Ok(book) => Some((budgets, book)),
            Err(e) => {
                self.fault("ai.state.path", e);
                None
            }
        }
    }
}

fn open(base: &Path, ai: &crate::config::ai::Ai, shared: &Shared) -> Result<Arc<Book>, String> {
    let folder = base.join(&ai.state.path);
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    let clock = shared.clock.clone();
    if shared.check_only {
        super::semantic::can_be_made(&folder)?;
        return Ok(Book::new(Arc::new(Kv::memory()), clock));
    }
    let options = Options { folder: folder.clone(), sync: ai.state.sync };
    let make = || Kv::open(&options).map(|kv| Book::new(Arc::new(kv), clock));
    let (book, _) = shared.books.get_open(&folder.display().to_string(), &(), make).map_err(|e| e.to_string())?;
    book.kv().set_sync(ai.state.sync);
    Ok(book)
}
