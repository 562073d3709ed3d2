//! The clocks of a stream.

use super::Step;
use crate::config::ai::Streaming;
use std::time::Duration;
use tokio::time::Instant;

/// When a stream is given up, and when its client is given a sign of life. What the client takes to read is not counted
/// against the provider.
pub struct Times {
    watch: Streaming,
    /// The longest silence.
    silence: Duration,
    /// When anything was last heard of the provider.
    pub heard: Instant,
    /// When the last event came that was no sign of life alone.
    pub event: Instant,
    /// When the client was last given something.
    pub handed: Instant,
    /// When it is over in any case.
    pub ends: Instant,
}

impl Times {
    /// From now on.
    pub fn new(watch: Streaming, silence: Duration) -> Times {
        let now = Instant::now();
        Times { watch, silence, heard: now, event: now, handed: now, ends: now + watch.total.0 }
    }

    /// When the wait ends, and with which step.
    pub fn next(&self) -> (Instant, Step) {
        let silent = (self.heard + self.silence, "between_bytes_timeout");
        let idle = (self.event + self.watch.idle.0, "idle_timeout");
        let (end, reason) = silent.min(idle).min((self.ends, "stream_timeout"));
        match self.watch.ping.map(|p| self.handed + p.0) {
            Some(ping) if ping < end => (ping, Step::Ping),
            _ => (end, Step::Fail(reason, true)),
        }
    }

    /// The client wants more; until now it was its turn.
    pub fn back(&mut self) {
        let away = self.handed.elapsed();
        self.heard += away;
        self.event += away;
        self.handed += away;
    }
}
