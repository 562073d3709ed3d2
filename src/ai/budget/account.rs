//! One subject's account in one budget: what it has spent in this period, and what is reserved for calls in flight.

use super::period::{Span, span};
use crate::base::units::Money;
use crate::config::ai::Period;
use crate::kv::{Cell, Value};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An account. Its lock is held for a few additions, never while anything is waited for.
pub struct Account {
    cell: Arc<Cell>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// When the period began, in seconds since 1970.
    since: u64,
    /// When it ends.
    until: Option<u64>,
    /// Billionths of a US dollar.
    spent: u64,
    /// The same, of calls in flight.
    reserved: u64,
}

/// What an account says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Spent in this period.
    pub spent: Money,
    /// Reserved for calls in flight.
    pub reserved: Money,
    /// This period.
    pub span: Span,
}

impl Account {
    /// The account whose spending a cell remembers.
    pub(super) fn new(cell: Arc<Cell>) -> Self {
        let Value { since, amount } = cell.get();
        Account { cell, state: Mutex::new(State { since, spent: amount, ..State::default() }) }
    }

    /// The state in the period that `now` lies in. A clock that goes back does not bring a period back.
    fn at(&self, period: Period, now: u64) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let span = span(period, now);
        if span.from > state.since {
            (state.since, state.spent) = (span.from, 0);
        }
        state.until = span.until;
        state
    }

    /// Reserves `amount`, if less than `limit` is spent and reserved; `force` does it in any case.
    pub(super) fn reserve(&self, (period, now): (Period, u64), amount: u64, (limit, force): (u64, bool)) -> bool {
        let mut state = self.at(period, now);
        let admitted = force || state.spent.saturating_add(state.reserved) < limit;
        if admitted {
            state.reserved = state.reserved.saturating_add(amount);
        }
        admitted
    }

    /// Ends a reservation; what the call did cost is spent, and will be remembered.
    pub(super) fn settle(&self, (period, now): (Period, u64), reserved: u64, cost: u64) {
        let mut state = self.at(period, now);
        state.reserved = state.reserved.saturating_sub(reserved);
        if cost > 0 {
            state.spent = state.spent.saturating_add(cost);
            // Within the lock, so that the last one set is the last one counted.
            self.cell.set(Value { since: state.since, amount: state.spent });
        }
    }

    /// Begins the period's spending anew.
    pub(super) fn reset(&self, period: Period, now: u64) {
        let mut state = self.at(period, now);
        state.spent = 0;
        self.cell.set(Value { since: state.since, amount: 0 });
    }

    /// What it says now.
    pub fn balance(&self, period: Period, now: u64) -> Balance {
        let state = self.at(period, now);
        Balance {
            spent: Money { nano_usd: state.spent },
            reserved: Money { nano_usd: state.reserved },
            span: Span { from: state.since, until: state.until },
        }
    }

    /// Whether it says nothing any more: its period is over and no call is in flight.
    pub(super) fn is_over(&self, now: u64) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.reserved == 0 && state.until.is_some_and(|u| u <= now)
    }
}
