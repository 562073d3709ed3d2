//! What is known of each model while the process runs: its breaker, its pace, its calls in flight. The board outlives
//! reloads; the plans' gateways hold what they use.

use super::breaker::{Admit, Breaker, Went, Why};
use super::dice::Dice;
use super::pace::Pace;
use super::purse::Purse;
use crate::base::clock::Clock;
use crate::config::ai::Health;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Repeated calls that a provider takes beyond their share, and unused ones that are kept for later.
const RETRIES_BURST: u32 = 10;
/// The same of calls to a second model.
const HEDGES_FIRST: u32 = 1;
const HEDGES_BURST: u32 = 10;

/// All standings that some gateway holds.
#[derive(Debug)]
pub struct Board {
    models: Mutex<HashMap<String, Weak<Standing>>>,
    providers: Mutex<HashMap<String, Weak<Allowance>>>,
    /// For draws and jitter.
    pub dice: Dice,
}

/// What is known of a model.
#[derive(Debug)]
pub struct Standing {
    /// Its name in the configuration.
    pub model: String,
    /// Its provider's name.
    pub provider: String,
    /// How many extra calls its provider may be asked.
    pub allowance: Arc<Allowance>,
    breaker: Mutex<Breaker>,
    /// Of whole answers, and of streams.
    paces: [Mutex<Pace>; 2],
    in_flight: AtomicU32,
}

/// The extra calls that one provider may be asked.
#[derive(Debug)]
pub struct Allowance {
    /// Repeated calls.
    pub retries: Purse,
    /// Calls to a second model while one is still waited for.
    pub hedges: Purse,
}

/// How a model stands, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// `closed`, `half_open` or `open`.
    pub state: &'static str,
    /// How long it is left alone, and why.
    pub cooling: Option<(Duration, &'static str)>,
    /// Calls in flight.
    pub in_flight: u32,
    /// Time to the first content of streams of late.
    pub first_content: Option<Duration>,
}

impl Default for Board {
    fn default() -> Self {
        Board::with(Dice::shaken())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thing under that key while somebody holds it, else a new one.
fn keep<T>(all: &Mutex<HashMap<String, Weak<T>>>, key: &str, make: impl FnOnce() -> T) -> Arc<T> {
    let mut all = lock(all);
    if let Some(known) = all.get(key).and_then(Weak::upgrade) {
        return known;
    }
    all.retain(|_, thing| thing.strong_count() > 0);
    let made = Arc::new(make());
    all.insert(key.to_owned(), Arc::downgrade(&made));
    made
}

impl Board {
    /// An empty board with this generator.
    pub fn with(dice: Dice) -> Board {
        Board { models: Mutex::default(), providers: Mutex::default(), dice }
    }

    /// How the model stands. `id` tells apart what a provider would: its address, the key, its name for the model; a
    /// changed one starts afresh.
    pub fn standing(&self, (provider_id, id): (&str, &str), (provider, model): (&str, &str)) -> Arc<Standing> {
        let allowance = keep(&self.providers, provider_id, || Allowance {
            retries: Purse::new(RETRIES_BURST, RETRIES_BURST),
            hedges: Purse::new(HEDGES_FIRST, HEDGES_BURST),
        });
        keep(&self.models, id, || Standing {
            model: model.to_owned(),
            provider: provider.to_owned(),
            allowance,
            breaker: Mutex::default(),
            paces: Default::default(),
            in_flight: AtomicU32::new(0),
        })
    }

    /// All models, by provider and name.
    pub fn shown(&self, now: Duration) -> Vec<Shown> {
        let all: Vec<Arc<Standing>> = lock(&self.models).values().filter_map(Weak::upgrade).collect();
        let mut out: Vec<Shown> = all.iter().map(|s| s.shown(now)).collect();
        out.sort_by(|a, b| (&a.provider, &a.model).cmp(&(&b.provider, &b.model)));
        out
    }
}

impl Standing {
    /// Whether a call may be made now, and the pass for it. `last` says that no other model can be asked.
    pub fn admit(self: &Arc<Self>, rules: &Rules, last: bool) -> Result<Pass, (Duration, Why)> {
        let now = rules.clock.elapsed();
        let mut breaker = lock(&self.breaker);
        let admit = if last { breaker.admit_last(now, &rules.health) } else { breaker.admit(now, &rules.health) };
        drop(breaker);
        let trial = match admit {
            Admit::Cooling(until, why) => return Err((until.saturating_sub(now), why)),
            Admit::Go => false,
            Admit::Trial => true,
        };
        if trial {
            tracing::info!(model = self.model, provider = self.provider, "model is tried again");
        }
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(Pass { standing: self.clone(), rules: rules.clone(), trial, asked: now, told: false, began: false })
    }

    /// How long it is to be left alone.
    pub fn rests_for(&self, now: Duration) -> Duration {
        lock(&self.breaker).cooling(now).map_or(Duration::ZERO, |(left, _)| left)
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The time to its first content of late, of streams or of whole answers.
    pub fn latency(&self, stream: bool, now: Duration) -> Option<Duration> {
        lock(self.pace(stream)).average(now)
    }

    /// The time within which this share of its last calls had begun to answer.
    pub fn quantile(&self, stream: bool, share: f64) -> Option<Duration> {
        lock(self.pace(stream)).quantile(share)
    }

    fn pace(&self, stream: bool) -> &Mutex<Pace> {
        let [whole, streamed] = &self.paces;
        if stream { streamed } else { whole }
    }

    fn report(&self, went: Went, trial: bool, rules: &Rules) {
        let now = rules.clock.elapsed();
        let (before, after) = {
            let mut breaker = lock(&self.breaker);
            let before = breaker.cooling(now);
            breaker.report(went, trial, now, &rules.health);
            (before, breaker.cooling(now))
        };
        let (model, provider) = (&self.model, &self.provider);
        match (before, after) {
            (None, Some((pause, why))) => {
                let seconds = pause.as_secs_f64();
                tracing::warn!(model, provider, seconds, reason = why.as_str(), "model is left alone for a while");
            }
            (_, None) if trial && went == Went::Well => tracing::info!(model, provider, "model works again"),
            _ => {}
        }
    }

    fn shown(&self, now: Duration) -> Shown {
        let breaker = lock(&self.breaker);
        let cooling = breaker.cooling(now).map(|(left, why)| (left, why.as_str()));
        let state = match cooling {
            Some(_) => "open",
            None if breaker.half_open(now) => "half_open",
            None => "closed",
        };
        drop(breaker);
        let (provider, model) = (self.provider.clone(), self.model.clone());
        let first_content = self.latency(true, now);
        Shown { provider, model, state, cooling, in_flight: self.in_flight(), first_content }
    }
}

impl Why {
    /// The one spelling used in logs and in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Failures => "failures",
            Why::Credentials => "credentials",
            Why::Told => "retry_after",
        }
    }
}

/// By which rules standings are judged.
#[derive(Clone, Debug)]
pub struct Rules {
    /// When a model is left alone.
    pub health: Health,
    /// The gateway's clock.
    pub clock: Clock,
}

/// A call that may be made, and is being made. Dropped without a word, it says nothing about the model's health.
#[derive(Debug)]
pub struct Pass {
    standing: Arc<Standing>,
    rules: Rules,
    trial: bool,
    asked: Duration,
    told: bool,
    began: bool,
}

impl Pass {
    /// The answer has begun. `measured` says of which kind it is, where the time that it took is worth keeping.
    pub fn began(&mut self, measured: Option<bool>) {
        self.began = true;
        let now = self.rules.clock.elapsed();
        lock(&self.standing.breaker).began(self.trial, &self.rules.health);
        if let Some(stream) = measured {
            lock(self.standing.pace(stream)).add(now.saturating_sub(self.asked), now);
        }
    }

    /// How the call went in the end.
    pub fn report(mut self, went: Went) {
        self.told = true;
        self.standing.report(went, self.trial && !self.began, &self.rules);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.standing.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.trial && !self.told && !self.began {
            lock(&self.standing.breaker).abandon(self.rules.clock.elapsed());
        }
    }
}
