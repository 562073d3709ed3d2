//! How fast a model begins to answer: a moving average that forgets by time, and quantiles of the last calls.

use std::time::Duration;

/// The time after which a measurement has lost two thirds of its weight.
const MEMORY: Duration = Duration::from_secs(60);
/// The age at which the average says nothing any more: the model is to be measured again.
const STALE: Duration = Duration::from_secs(300);
/// Measurements kept for quantiles.
const KEPT: usize = 128;
/// Measurements below which a quantile says nothing.
const KEPT_MIN: usize = 20;

/// Times to the first content of one model.
#[derive(Debug, Default)]
pub struct Pace {
    average: f64,
    /// When the last measurement was taken.
    at: Option<Duration>,
    ring: Vec<f32>,
    next: usize,
}

impl Pace {
    /// Takes a measurement.
    pub fn add(&mut self, took: Duration, now: Duration) {
        let took = took.as_secs_f64();
        let age = self.at.map(|at| now.saturating_sub(at));
        // What came long ago weighs little against this one; what came just now, as much as a tenth of it.
        let keep = age.map_or(0.0, |age| (-age.as_secs_f64() / MEMORY.as_secs_f64()).exp() * 0.9);
        self.average = self.average * keep + took * (1.0 - keep);
        self.at = Some(now);
        #[expect(clippy::cast_possible_truncation, reason = "seconds of a call; a float of 32 bits is fine enough")]
        let took = took as f32;
        match self.ring.get_mut(self.next) {
            Some(old) => *old = took,
            None => self.ring.push(took),
        }
        self.next = (self.next + 1) % KEPT;
    }

    /// The average; `None` without a recent measurement.
    pub fn average(&self, now: Duration) -> Option<Duration> {
        let at = self.at?;
        (now.saturating_sub(at) < STALE).then(|| Duration::try_from_secs_f64(self.average).ok())?
    }

    /// The time within which this share of the last calls had begun to answer; `None` after too few.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        if self.ring.len() < KEPT_MIN {
            return None;
        }
        let mut sorted = self.ring.clone();
        sorted.sort_by(f32::total_cmp);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small length")]
        let place = (share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64).ceil() as usize;
        sorted.get(place).and_then(|s| Duration::try_from_secs_f32(*s).ok())
    }
}
