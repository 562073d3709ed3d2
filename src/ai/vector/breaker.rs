//! A circuit breaker: after some failures in a row a server is left alone for a while, so that it costs nobody time.

use super::VectorError;
use crate::base::clock::Clock;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Failures in a row that open the breaker.
const FAILURES_MAX: u32 = 3;
/// How long it stays open at first, and at most; each failed trial doubles it.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// While open: when the next trial may be made, and how long the pause was.
    open: Option<(Duration, Duration)>,
}

/// Counts failures of one server.
pub(super) struct Breaker {
    name: String,
    clock: Clock,
    state: Mutex<State>,
}

impl Breaker {
    pub(super) fn new(name: String, clock: Clock) -> Self {
        Breaker { name, clock, state: Mutex::default() }
    }

    /// May a call be made? While open, one call per pause is let through as a trial.
    pub(super) fn admit(&self) -> Result<(), VectorError> {
        let now = self.clock.elapsed();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.open {
            Some((until, _)) if now < until => Err(VectorError::Open),
            Some((_, pause)) => {
                // The trial holds the door shut for everybody else until it has reported.
                state.open = Some((now + pause, pause));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes note of how a call went. Says so once when the state changes.
    pub(super) fn report(&self, error: Option<&VectorError>) {
        let now = self.clock.elapsed();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(error) = error else {
            state.failures = 0;
            if state.open.take().is_some() {
                tracing::info!(server = %self.name, "vector store works again");
            }
            return;
        };
        state.failures = state.failures.saturating_add(1);
        match state.open {
            Some((_, pause)) => {
                let longer = (pause * 2).min(PAUSE_MAX);
                state.open = Some((now + longer, longer));
            }
            None if state.failures >= FAILURES_MAX => {
                state.open = Some((now + PAUSE_FIRST, PAUSE_FIRST));
                tracing::warn!(server = %self.name, %error, "vector store fails, semantic cache off until it works");
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_three_failures_tries_once_per_pause_and_closes_on_success() {
        let clock = Clock::manual();
        let b = Breaker::new("q".to_owned(), clock.clone());
        for _ in 0..FAILURES_MAX {
            assert!(b.admit().is_ok());
            b.report(Some(&VectorError::Timeout));
        }
        assert!(b.admit().is_err());
        clock.advance(Duration::from_millis(1100));
        assert!(b.admit().is_ok(), "one trial");
        assert!(b.admit().is_err(), "and no second beside it");
        b.report(Some(&VectorError::Timeout));
        clock.advance(Duration::from_millis(1500));
        assert!(b.admit().is_err(), "the pause has doubled");
        clock.advance(Duration::from_secs(1));
        assert!(b.admit().is_ok());
        b.report(None);
        assert!(b.admit().is_ok() && b.admit().is_ok());
    }
}
