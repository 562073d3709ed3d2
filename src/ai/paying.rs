//! Where money comes into a call: reserved before a model is asked, settled by what the provider bills.

use super::Run;
use super::budget::{Book, Budgets, Hold, Wallet, exhausted, instead};
use super::call::CallRecord;
use super::catalog::{Choice, Model};
use super::error::AiError;
use super::price::Rate;
use super::tokens::{self, Estimate};
use super::{Context, Gateway, Prompt};
use crate::base::units::Money;
use std::sync::Arc;

/// Most tokens that are reserved for a request that passes through.
const PASSING_TOKENS_MAX: u64 = 10_000;

/// Money reserved for a call under way. Dropped while a model is being asked, it pays for the input: the provider has
/// read it. Dropped otherwise, it pays what the record says, which is nothing where no model answered.
pub struct Paying {
    hold: Option<Hold>,
    record: Arc<CallRecord>,
    estimate: Estimate,
    /// The input at the dearest model's price.
    input: Money,
}

/// Who pays for a call, and what is asked then.
pub(super) struct Funded {
    pub(super) choice: Choice,
    pub(super) wallet: Option<Wallet>,
}

impl Gateway {
    /// With budgets that calls are paid from.
    pub fn with_budgets(self, budgets: Budgets, book: Arc<Book>) -> Gateway {
        Gateway { funds: Some((budgets, book)), ..self }
    }

    /// The budgets and their accounts.
    pub fn funds(&self) -> Option<&(Budgets, Arc<Book>)> {
        self.funds.as_ref()
    }

    /// What of a choice the caller may use and pay for. An exhausted budget may send the call to a cheaper tier.
    pub(super) fn funded(&self, prompt: &Prompt, context: &Context, choice: Choice) -> Result<Funded, AiError> {
        let caller = &context.caller;
        let choice = caller.permitted(choice, &self.catalog)?;
        if !prompt.operation.is_billed() {
            return Ok(Funded { choice, wallet: None });
        }
        let Some(wallet) = self.wallet(context)? else { return Ok(Funded { choice, wallet: None }) };
        let choice = match wallet.cheaper() {
            Some(purse) => instead(purse, (&self.catalog, caller), self.clock.unix_secs())?,
            None => choice,
        };
        Ok(Funded { choice: wallet.countable(choice)?, wallet: Some(wallet) })
    }
}

/// What passes through: who may use it, and what cannot be counted.
impl Gateway {
    fn wallet(&self, context: &Context) -> Result<Option<Wallet>, AiError> {
        let Some((budgets, book)) = &self.funds else { return Ok(None) };
        let wallet = Wallet::of((budgets, book), &context.options.budgets, &context.caller, &context.route)?;
        Ok(Some(wallet).filter(|w| !w.is_empty()))
    }

    /// A request without a model's name: nothing for a key that has models of its own, and not to be counted.
    pub(super) fn unnamed(&self, context: &Context) -> Result<(), AiError> {
        context.caller.may_go_unnamed()?;
        self.uncounted(context)
    }

    /// Nothing is counted of this: a strict budget does not pay for it, and an exhausted one for nothing.
    pub(super) fn uncounted(&self, context: &Context) -> Result<(), AiError> {
        self.wallet(context)?.map_or(Ok(()), |w| w.uncounted())
    }

    /// What of a choice the caller may use and pay for.
    pub(super) fn passable(&self, choice: Choice, context: &Context) -> Result<Choice, AiError> {
        let choice = context.caller.permitted(choice, &self.catalog)?;
        self.wallet(context)?.map_or(Ok(choice.clone()), |w| w.countable(choice))
    }

    /// Reserves for a request that passes. Of its body the beginning is known, which may be media: it counts as text, up
    /// to a bound.
    pub(super) fn pay_for_passing(
        &self,
        models: &[Arc<Model>],
        (context, record): (&Context, &Arc<CallRecord>),
        head_bytes: usize,
    ) -> Result<Option<Paying>, AiError> {
        let Some(wallet) = self.wallet(context)? else { return Ok(None) };
        let estimate = Estimate { input: tokens::of_text(head_bytes).min(PASSING_TOKENS_MAX), output: Some(0) };
        let hold = wallet.hold(models.iter(), &estimate, false);
        let hold = hold.map_err(|b| exhausted(&b, self.clock.unix_secs()))?;
        Ok(Some(Paying { input: hold.amount(), hold: Some(hold), record: record.clone(), estimate }))
    }
}

impl Run<'_> {
    /// Reserves what the call may cost at most. A budget that has been exhausted meanwhile refuses the call, or turns it
    /// to a cheaper tier; the answer of that is then none to keep under the question for another.
    pub(super) fn pay(&mut self) -> Result<Option<Paying>, AiError> {
        let Some(wallet) = self.wallet.take() else { return Ok(None) };
        let estimate = tokens::reserve(self.prompt);
        let hold = match wallet.reserve(&self.choice, &estimate, false) {
            Ok(hold) => hold,
            Err(budget) => {
                let (catalog, now) = (&self.gateway.catalog, self.gateway.clock.unix_secs());
                let cheaper = instead(&budget, (catalog, &self.context.caller), now)?;
                let cheaper = wallet.countable(cheaper)?;
                self.turned = cheaper.name != self.choice.name;
                self.choice = cheaper;
                wallet.reserve(&self.choice, &estimate, true).map_err(|b| exhausted(&b, now))?
            }
        };
        let models = std::iter::once(&self.choice.first).chain(&self.choice.fallback).flat_map(|s| &s.models);
        let now = self.gateway.clock.unix_secs();
        let input = models.filter_map(|m| m.rate(now)).map(|r| r.at_most(estimate.input, 0)).max().unwrap_or_default();
        let record = self.record.clone();
        Ok(Some(Paying { hold: Some(hold), record, estimate, input }))
    }
}

impl Paying {
    /// The call has ended. Where its cost is not known because the provider did not tell, it is estimated: the input,
    /// and as many output tokens as have been seen.
    pub fn settle(mut self, rate: Option<Rate>, cost: Option<Money>, seen: u64) {
        let estimate = || rate.map(|r| r.at_most(self.estimate.input, seen)).unwrap_or_default();
        let cost = cost.unwrap_or_else(estimate);
        if let Some(hold) = self.hold.take() {
            hold.settle(with_lost(cost, &self.record));
        }
    }
}

impl Drop for Paying {
    fn drop(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        let call = self.record.read();
        // A withheld answer has its cost in the record already.
        let left = call.attempts.iter().any(|a| a.outcome == "client_gone").then_some(self.input);
        hold.settle(with_lost(call.cost.or(left).unwrap_or_default(), &self.record));
    }
}

/// With what was billed for answers that nobody got.
fn with_lost(cost: Money, record: &CallRecord) -> Money {
    let lost = record.read().lost.iter().filter_map(|l| l.cost).fold(0u64, |sum, m| sum.saturating_add(m.nano_usd));
    Money { nano_usd: cost.nano_usd.saturating_add(lost) }
}
