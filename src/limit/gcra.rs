//! The generic cell rate algorithm (ITU-T I.371, virtual scheduling) with cells of any weight, in whole nanoseconds.

use std::time::Duration;

/// So much in a time, and so much of it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How much in a period; at least 1.
    pub count: u64,
    /// The period; longer than 0.
    pub period: Duration,
    /// How much at once after a pause; at least 1.
    pub burst: u64,
}

impl Rate {
    /// The time that `n` are worth, in nanoseconds.
    fn worth(&self, n: u64) -> u64 {
        let nanos = self.period.as_nanos().saturating_mul(u128::from(n)) / u128::from(self.count.max(1));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// Takes `n` at `now`; gives when all that was let through is due, or how long to wait.
    pub(super) fn take(&self, due: u64, now: u64, n: u64) -> Result<u64, Duration> {
        let next = due.max(now).saturating_add(self.worth(n));
        let ahead = next - now;
        match ahead.checked_sub(self.worth(self.burst)) {
            None | Some(0) => Ok(next),
            Some(wait) => Err(Duration::from_nanos(wait)),
        }
    }

    /// Replaces a taking by another of the same moment.
    pub(super) fn correct(&self, due: u64, now: u64, (taken, real): (u64, u64)) -> u64 {
        if real >= taken {
            due.max(now).saturating_add(self.worth(real - taken))
        } else {
            due.saturating_sub(self.worth(taken - real))
        }
    }

    /// How much is left, and when all of it is there again.
    pub(super) fn left(&self, due: u64, now: u64) -> (u64, Duration) {
        let ahead = due.saturating_sub(now);
        let free = u128::from(self.worth(self.burst).saturating_sub(ahead));
        let left = free.saturating_mul(u128::from(self.count)) / self.period.as_nanos().max(1);
        (u64::try_from(left).unwrap_or(u64::MAX), Duration::from_nanos(ahead))
    }
}
