//! How much a client may ask for: requests and tokens in a time, and requests at once. Each subject (a key, an address,
//! a user …) of each rule has one row; rows outlive reloads and go when they are idle.
//!
//! Rates are held as GCRA (ITU-T I.371): one number for each rate, the time at which all that was let through would
//! have been due. Tokens are taken by an estimate before a model is asked and corrected when its count is known.

pub mod fields;
mod gcra;
mod table;

#[cfg(test)]
mod tests;

use crate::base::clock::Clock;
use std::sync::Arc;
use std::time::Duration;
use table::{Row, Table};

pub use gcra::Rate;

/// What a subject may have; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Requests in a time.
    pub requests: Option<Rate>,
    /// Tokens in a time, input and output together.
    pub tokens: Option<Rate>,
    /// Requests under way at once.
    pub concurrency: Option<u32>,
}

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Requests in a time.
    Requests,
    /// Tokens in a time.
    Tokens,
    /// Requests at once.
    Concurrency,
}

impl What {
    /// The one spelling used in logs, metrics and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            What::Requests => "rate_limited",
            What::Tokens => "tokens_limited",
            What::Concurrency => "concurrency_limited",
        }
    }
}

/// A request is too many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The rule's name.
    pub rule: Arc<str>,
    /// What there is too much of.
    pub what: What,
    /// When it is worth trying again.
    pub retry_after: Duration,
    /// Where the subject stands, for the answer's fields.
    pub standing: Standing,
}

/// Where a subject stands within one rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The rule's name.
    pub rule: Arc<str>,
    /// Whether tokens are meant, not requests.
    pub tokens: bool,
    /// What is let through in a time; `None` where only the number at once is limited.
    pub rate: Option<Rate>,
    /// What is left now.
    pub remaining: u64,
    /// When all of it is there again.
    pub reset: Duration,
}

/// The rows of all rules.
pub struct Limiter {
    table: Table,
    clock: Clock,
}

/// A request that was let through; it is under way until this is dropped.
pub struct Taken {
    limiter: Arc<Limiter>,
    rule: Arc<str>,
    row: Box<str>,
    quota: Quota,
    /// Tokens taken by estimate and not yet settled.
    tokens: Option<u64>,
    standing: Option<Standing>,
}

impl Limiter {
    /// No rows yet.
    pub fn new(clock: Clock) -> Arc<Limiter> {
        Arc::new(Limiter { table: Table::default(), clock })
    }

    /// Lets one more request of this subject through, or says when to come again. A refused request costs nothing.
    pub fn take(self: &Arc<Self>, rule: &Arc<str>, subject: &str, quota: &Quota) -> Result<Taken, Refused> {
        // A separator that no rule's name has.
        let row: Box<str> = format!("{rule}\0{subject}").into();
        let now = self.now();
        let standing = self.table.with(&row, now, |r| admit(r, rule, quota, now))?;
        Ok(Taken { limiter: Arc::clone(self), rule: Arc::clone(rule), row, quota: *quota, tokens: None, standing })
    }

    /// Rows held now.
    pub fn rows(&self) -> usize {
        self.table.len()
    }

    /// Nanoseconds of the limiter's clock.
    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

fn admit(r: &mut Row, rule: &Arc<str>, quota: &Quota, now: u64) -> Result<Option<Standing>, Refused> {
    let standing = |rate: Option<Rate>, due: u64| {
        let (remaining, reset) = rate.map_or((0, Duration::ZERO), |rate| rate.left(due, now));
        Standing { rule: Arc::clone(rule), tokens: false, rate, remaining, reset }
    };
    if quota.concurrency.is_some_and(|max| r.under_way >= max) {
        let standing = standing(None, 0);
        // Nobody knows when one of the others ends.
        let retry_after = Duration::from_secs(1);
        return Err(Refused { rule: Arc::clone(rule), what: What::Concurrency, retry_after, standing });
    }
    let mut told = None;
    if let Some(rate) = quota.requests {
        match rate.take(r.requests_due, now, 1) {
            Ok(due) => r.requests_due = due,
            Err(retry_after) => {
                let standing = standing(Some(rate), r.requests_due);
                return Err(Refused { rule: Arc::clone(rule), what: What::Requests, retry_after, standing });
            }
        }
        told = Some(standing(Some(rate), r.requests_due));
    }
    r.under_way = r.under_way.saturating_add(1);
    Ok(told)
}

impl Taken {
    /// Takes tokens by estimate. An estimate over what can be had at once counts as all of that: such a call goes
    /// through when nothing else has been taken, and its real count is owed afterwards.
    pub fn reserve(&mut self, estimate: u64) -> Result<(), Refused> {
        let (Some(rate), None) = (self.quota.tokens, self.tokens) else { return Ok(()) };
        let now = self.limiter.now();
        let tokens = estimate.min(rate.burst);
        let taken = self.limiter.table.with(&self.row, now, |r| {
            let taken = rate.take(r.tokens_due, now, tokens);
            taken.map(|due| r.tokens_due = due).map_err(|wait| (wait, r.tokens_due))
        });
        match taken {
            Ok(()) => {
                self.tokens = Some(tokens);
                Ok(())
            }
            Err((retry_after, due)) => {
                let standing = self.tokens_at(rate, due, now);
                Err(Refused { rule: Arc::clone(&self.rule), what: What::Tokens, retry_after, standing })
            }
        }
    }

    /// Corrects the estimate by the real count; without it, all that was reserved is given back.
    pub fn settle(&mut self, tokens: u64) {
        let (Some(rate), Some(reserved)) = (self.quota.tokens, self.tokens.take()) else { return };
        let now = self.limiter.now();
        self.limiter.table.with(&self.row, now, |r| r.tokens_due = rate.correct(r.tokens_due, now, (reserved, tokens)));
    }

    /// Undoes the whole taking: another rule has refused the request.
    pub fn give_back(mut self) {
        self.settle(0);
        if let Some(rate) = self.quota.requests {
            let now = self.limiter.now();
            self.limiter.table.with(&self.row, now, |r| r.requests_due = rate.correct(r.requests_due, now, (1, 0)));
        }
    }

    /// Where the subject stands: requests as of the taking, tokens as of now.
    pub fn standings(&self) -> Vec<Standing> {
        let mut out: Vec<Standing> = self.standing.iter().cloned().collect();
        if let Some(rate) = self.quota.tokens {
            let now = self.limiter.now();
            let due = self.limiter.table.with(&self.row, now, |r| r.tokens_due);
            out.push(self.tokens_at(rate, due, now));
        }
        out
    }

    fn tokens_at(&self, rate: Rate, due: u64, now: u64) -> Standing {
        let (remaining, reset) = rate.left(due, now);
        Standing { rule: Arc::clone(&self.rule), tokens: true, rate: Some(rate), remaining, reset }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // Tokens whose count never came stay taken: the model may have been asked.
        let now = self.limiter.now();
        self.limiter.table.with(&self.row, now, |r| r.under_way = r.under_way.saturating_sub(1));
    }
}
