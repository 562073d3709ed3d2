//! What calls may cost. Money is reserved before a model is asked and settled by the real cost after; a call is let
//! through while less than the limit is spent and reserved, so that a budget is exceeded by one reservation at most,
//! however many calls there are at once. Spending is remembered by [`crate::kv`]; reservations are not: a killed
//! process forgets what its calls in flight would have cost.

mod account;
mod book;
mod period;

#[cfg(test)]
mod tests;

use super::caller::Caller;
use super::catalog::{Catalog, Choice, Fault, Model, Stage};
use super::error::AiError;
use super::tokens::Estimate;
use crate::base::units::Money;
use crate::config::ai::{self as yaml, BudgetKey, OnExhausted, Period, Unpriced};
use http::StatusCode;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use account::{Account, Balance};
pub use book::{Book, Line};
pub use period::{Span, span};

/// A budget, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Its name.
    pub name: Arc<str>,
    /// What may be spent in a period.
    pub limit: Money,
    /// When spending begins anew.
    pub period: Period,
    /// Whose calls are paid from one account.
    pub key: BudgetKey,
    /// What happens when nothing is left.
    pub on_exhausted: OnExhausted,
    /// Models without a price.
    pub unpriced: Unpriced,
}

/// All budgets of a plan, by name.
pub type Budgets = BTreeMap<String, Arc<Budget>>;

/// One account that a call is paid from.
#[derive(Clone)]
pub struct Purse {
    /// The budget.
    pub budget: Arc<Budget>,
    /// The account in it.
    pub account: Arc<Account>,
}

/// All accounts that a call is paid from.
#[derive(Clone)]
pub struct Wallet {
    purses: Vec<Purse>,
    book: Arc<Book>,
}

/// Money reserved for one call. Dropped without a cost it is given back.
pub struct Hold {
    wallet: Wallet,
    amount: u64,
}

/// Checks and compiles the section.
pub fn compile(ai: &yaml::Ai) -> Result<Budgets, Vec<Fault>> {
    let (mut out, mut faults) = (Budgets::new(), Vec::new());
    for (name, b) in &ai.budgets {
        let mut fault = |key: &str, message: String| {
            faults.push(Fault { path: format!("ai.budgets.{name}{key}"), message });
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            fault("", "a budget's name is made of at most 64 letters, digits and -_.".to_owned());
        }
        if !(0.0..=9e9).contains(&b.limit_usd) {
            fault(".limit_usd", "US dollars, 0 to 9000000000".to_owned());
        }
        if let OnExhausted::Tier(tier) = &b.on_exhausted
            && !ai.tiers.contains_key(tier)
        {
            fault(".on_exhausted", super::names::unknown("tier", tier, ai.tiers.keys()));
        }
        let budget = Budget {
            name: name.as_str().into(),
            limit: Money::from_usd(b.limit_usd),
            period: b.period,
            key: b.key,
            on_exhausted: b.on_exhausted.clone(),
            unpriced: b.unpriced,
        };
        out.insert(name.clone(), Arc::new(budget));
    }
    if faults.is_empty() { Ok(out) } else { Err(faults) }
}

impl Budget {
    /// The account's name for a call; `None` where the budget has nothing to do with it.
    fn subject(&self, caller: &Caller, route: &str) -> Option<String> {
        let key = || caller.key.as_ref().map(|k| format!("key:{k}"));
        match self.key {
            BudgetKey::ApiKey => key(),
            BudgetKey::Team => caller.team.as_ref().map(|t| format!("team:{t}")).or_else(key),
            BudgetKey::User => caller.user.as_ref().map(|u| format!("user:{u}")),
            BudgetKey::Route => Some(format!("route:{route}")),
        }
    }
}

impl Wallet {
    /// The accounts of a call on a route that names `own` budgets, beside those of the caller's key and team.
    pub fn of(
        (budgets, book): (&Budgets, &Arc<Book>),
        own: &[String],
        caller: &Caller,
        route: &str,
    ) -> Result<Wallet, AiError> {
        let mut purses: Vec<Purse> = Vec::new();
        for name in own.iter().chain(caller.grants.iter().flat_map(|g| &g.budgets)) {
            let known = purses.iter().any(|p| *p.budget.name == **name);
            let Some(budget) = budgets.get(name).filter(|_| !known) else { continue };
            // A budget that a call is to be paid from and that cannot tell whose it is pays for nobody.
            let subject = budget.subject(caller, route).ok_or_else(|| refused(budget, "budget_without_payer"))?;
            let account = book.account(budget, &subject).ok_or_else(|| refused(budget, "budget_accounts_full"))?;
            purses.push(Purse { budget: Arc::clone(budget), account });
        }
        Ok(Wallet { purses, book: Arc::clone(book) })
    }

    /// Whether nobody counts.
    pub fn is_empty(&self) -> bool {
        self.purses.is_empty()
    }

    /// The exhausted budget that sends the call to a cheaper tier, as things stand now.
    pub fn cheaper(&self) -> Option<&Budget> {
        let now = self.book.now();
        let exhausted = |p: &&Purse| {
            let b = p.account.balance(p.budget.period, now);
            b.spent + b.reserved >= p.budget.limit
        };
        let turning = self.purses.iter().filter(|p| p.budget.on_exhausted != OnExhausted::Refuse);
        turning.filter(exhausted).map(|p| &*p.budget).next()
    }

    /// Lets through what nobody counts: not where a budget is strict, or exhausted.
    pub fn uncounted(&self) -> Result<(), AiError> {
        let now = self.book.now();
        for p in &self.purses {
            if p.budget.unpriced == Unpriced::Refuse {
                return Err(refused(&p.budget, "uncounted"));
            }
            let b = p.account.balance(p.budget.period, now);
            if b.spent + b.reserved >= p.budget.limit {
                return Err(exhausted(&p.budget, now));
            }
        }
        Ok(())
    }

    /// What of a choice can be counted: a budget that refuses models without a price leaves those out.
    pub fn countable(&self, mut choice: Choice) -> Result<Choice, AiError> {
        let Some(strict) = self.purses.iter().find(|p| p.budget.unpriced == Unpriced::Refuse) else {
            return Ok(choice);
        };
        let priced = |stage: &mut Stage| stage.retain(|m| m.tariff.is_known());
        priced(&mut choice.first);
        choice.fallback.iter_mut().for_each(priced);
        if choice.first.models.is_empty() {
            return Err(refused(&strict.budget, "model_unpriced"));
        }
        Ok(choice)
    }

    /// Reserves what the dearest of the models may cost. With `downgraded`, budgets that allow a cheaper tier do not
    /// refuse. The error is the budget that is exhausted.
    pub fn reserve(&self, choice: &Choice, estimate: &Estimate, downgraded: bool) -> Result<Hold, Arc<Budget>> {
        let stages = std::iter::once(&choice.first).chain(&choice.fallback);
        self.hold(stages.flat_map(|s| &s.models), estimate, downgraded)
    }

    /// The same for a list of models.
    pub fn hold<'a>(
        &self,
        models: impl Iterator<Item = &'a Arc<Model>>,
        estimate: &Estimate,
        downgraded: bool,
    ) -> Result<Hold, Arc<Budget>> {
        let now = self.book.now();
        let amount = models.map(|m| at_most(m, estimate, now)).max().unwrap_or(0);
        let mut hold = Hold { wallet: Wallet { purses: Vec::new(), book: Arc::clone(&self.book) }, amount };
        for p in &self.purses {
            let force = downgraded && p.budget.on_exhausted != OnExhausted::Refuse;
            // What was reserved before goes back with the hold.
            if !p.account.reserve((p.budget.period, now), amount, (p.budget.limit.nano_usd, force)) {
                return Err(Arc::clone(&p.budget));
            }
            hold.wallet.purses.push(p.clone());
        }
        Ok(hold)
    }
}

/// What a call to this model may cost; nothing where its price is not known.
fn at_most(model: &Model, estimate: &Estimate, now: u64) -> u64 {
    let output = estimate.output.unwrap_or(model.max_tokens);
    model.rate(now).map_or(0, |r| r.at_most(estimate.input, output).nano_usd)
}

impl Hold {
    /// What it reserves.
    pub fn amount(&self) -> Money {
        Money { nano_usd: self.amount }
    }

    /// The call has ended and did cost so much.
    pub fn settle(mut self, cost: Money) {
        self.end(cost.nano_usd);
    }

    fn end(&mut self, cost: u64) {
        let now = self.wallet.book.now();
        for p in self.wallet.purses.drain(..) {
            p.account.settle((p.budget.period, now), self.amount, cost);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.end(0);
    }
}

/// The tier that takes the place of a choice when `budget` is exhausted; the refusal where there is none.
pub fn instead(budget: &Budget, (catalog, caller): (&Catalog, &Caller), now: u64) -> Result<Choice, AiError> {
    let OnExhausted::Tier(tier) = &budget.on_exhausted else { return Err(exhausted(budget, now)) };
    let first = catalog.stage(tier).ok_or_else(|| exhausted(budget, now))?;
    caller.permitted(Choice { name: tier.clone(), first, fallback: Vec::new() }, catalog)
}

/// Nothing is left in this budget.
pub fn exhausted(budget: &Budget, now: u64) -> AiError {
    let until = span(budget.period, now).until.and_then(|s| i64::try_from(s).ok());
    let until = until.and_then(|s| time::OffsetDateTime::from_unix_timestamp(s).ok()).map(|t| t.date());
    let until = until.map_or(String::new(), |day| format!(" until {day} 00:00 UTC"));
    let message = format!("the budget {:?} is exhausted{until}", budget.name);
    AiError::Refused { status: StatusCode::TOO_MANY_REQUESTS, message, reason: "budget_exhausted" }
}

fn refused(budget: &Budget, reason: &'static str) -> AiError {
    let name = &budget.name;
    let (status, message) = match reason {
        "model_unpriced" => {
            let what = format!("the model has no price, and the budget {name:?} refuses what it cannot count");
            (StatusCode::FORBIDDEN, what)
        }
        "uncounted" => (
            StatusCode::FORBIDDEN,
            format!("what this costs is not counted, and the budget {name:?} refuses such calls"),
        ),
        "budget_without_payer" => {
            (StatusCode::FORBIDDEN, format!("nobody is known from whose account in the budget {name:?} to pay"))
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, format!("the budget {name:?} has no room for another account")),
    };
    AiError::Refused { status, message, reason }
}
