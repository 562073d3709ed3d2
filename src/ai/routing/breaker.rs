//! The breaker of one model: closed, open for a while after failures, half open for one trial. Pure; `now` is passed in.

use crate::config::ai::Health;
use std::time::Duration;

/// Calls within the window before their share of failures says anything.
const CALLS_MIN: u32 = 10;
/// The parts of the window, which moves by one of them at a time.
const SLOTS: usize = 8;

/// Why a model is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It failed too often.
    Failures,
    /// It refuses the gateway's key.
    Credentials,
    /// The provider asked for it (`Retry-After`).
    Told,
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Yes.
    Go,
    /// Yes, as the one trial on which the state depends.
    Trial,
    /// No: not before this time, and for this reason.
    Cooling(Duration, Why),
}

/// How a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    /// Well, or the request itself was at fault: the model answers.
    Well,
    /// It failed.
    Badly,
    /// The key was refused.
    Refused,
    /// The provider wants to be left alone for so long.
    Told(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Duration,
        why: Why,
    },
    /// One trial is under way; it began then.
    HalfOpen {
        since: Duration,
        why: Why,
    },
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    number: u128,
    calls: u32,
    failures: u32,
}

/// The breaker.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    in_a_row: u32,
    slots: [Slot; SLOTS],
    /// The last cool-down; nothing after a call that went well.
    pause: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker { state: State::Closed, in_a_row: 0, slots: [Slot::default(); SLOTS], pause: Duration::ZERO }
    }
}

impl Breaker {
    /// Whether a call may be made now.
    pub fn admit(&mut self, now: Duration, health: &Health) -> Admit {
        match self.state {
            State::Closed => Admit::Go,
            State::Open { until, why } if now < until => Admit::Cooling(until, why),
            // The provider said when to come back, and that is now.
            State::Open { why: Why::Told, .. } => {
                self.state = State::Closed;
                Admit::Go
            }
            State::Open { why, .. } => self.try_out(now, why),
            State::HalfOpen { since, why } => Admit::Cooling(since + health.cool_down.0.max(now - since.min(now)), why),
        }
    }

    /// Where no other model can be asked: one call at a time is made all the same, unless the provider forbade it.
    pub fn admit_last(&mut self, now: Duration, health: &Health) -> Admit {
        match self.state {
            State::Open { why, .. } if why != Why::Told => self.try_out(now, why),
            _ => self.admit(now, health),
        }
    }

    fn try_out(&mut self, now: Duration, why: Why) -> Admit {
        self.state = State::HalfOpen { since: now, why };
        Admit::Trial
    }

    /// The trial's answer has begun: others may call again, but the next failure opens the breaker at once.
    pub fn began(&mut self, trial: bool, health: &Health) {
        if trial && matches!(self.state, State::HalfOpen { .. }) {
            self.state = State::Closed;
            self.in_a_row = health.failures.saturating_sub(1);
            self.slots = [Slot::default(); SLOTS];
        }
    }

    /// Takes note of how a call went.
    pub fn report(&mut self, went: Went, trial: bool, now: Duration, health: &Health) {
        let ours = trial && matches!(self.state, State::HalfOpen { .. });
        match went {
            Went::Well => {
                self.count(now, health, false);
                if ours || self.state == State::Closed {
                    (self.state, self.in_a_row, self.pause) = (State::Closed, 0, Duration::ZERO);
                }
            }
            Went::Badly => {
                self.count(now, health, true);
                self.in_a_row = self.in_a_row.saturating_add(1);
                let closed = self.state == State::Closed;
                if ours || closed && (self.in_a_row >= health.failures || self.too_many(now, health)) {
                    let pause = (self.pause * 2).clamp(health.cool_down.0, health.cool_down_max.0);
                    self.open(now, pause, Why::Failures);
                }
            }
            Went::Refused => self.open(now, health.cool_down_max.0, Why::Credentials),
            Went::Told(wait) => {
                // A shorter wish does not end a longer rest.
                let until = now + wait.min(health.cool_down_max.0);
                if !matches!(self.state, State::Open { until: later, .. } if later >= until) {
                    self.state = State::Open { until, why: Why::Told };
                }
            }
        }
    }

    /// The trial came to nothing: nobody waited for its outcome. The next call is the trial.
    pub fn abandon(&mut self, now: Duration) {
        if let State::HalfOpen { why, .. } = self.state {
            self.state = State::Open { until: now, why };
        }
    }

    /// How long it stays open, and why; nothing while calls are made.
    pub fn cooling(&self, now: Duration) -> Option<(Duration, Why)> {
        match self.state {
            State::Open { until, why } if now < until => Some((until.saturating_sub(now), why)),
            _ => None,
        }
    }

    /// Whether it waits for a trial, or for the outcome of one.
    pub fn half_open(&self, now: Duration) -> bool {
        match self.state {
            State::HalfOpen { .. } => true,
            State::Open { until, why } => now >= until && why != Why::Told,
            State::Closed => false,
        }
    }

    fn open(&mut self, now: Duration, pause: Duration, why: Why) {
        self.pause = pause;
        self.state = State::Open { until: now + pause, why };
        self.slots = [Slot::default(); SLOTS];
    }

    fn count(&mut self, now: Duration, health: &Health, failed: bool) {
        let number = slot_at(now, health);
        let place = usize::try_from(number % SLOTS as u128).unwrap_or(0);
        let Some(slot) = self.slots.get_mut(place) else { return };
        if slot.number != number {
            *slot = Slot { number, ..Slot::default() };
        }
        slot.calls = slot.calls.saturating_add(1);
        slot.failures = slot.failures.saturating_add(u32::from(failed));
    }

    fn too_many(&self, now: Duration, health: &Health) -> bool {
        let newest = slot_at(now, health);
        let recent = self.slots.iter().filter(|s| s.number + SLOTS as u128 > newest);
        let (calls, failures) =
            recent.fold((0u32, 0u32), |(c, f), s| (c.saturating_add(s.calls), f.saturating_add(s.failures)));
        calls >= CALLS_MIN && f64::from(failures) >= f64::from(calls) * health.share.0
    }
}

fn slot_at(now: Duration, health: &Health) -> u128 {
    now.as_nanos() / (health.window.0.as_nanos() / SLOTS as u128).max(1)
}
