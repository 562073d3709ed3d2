//! Time as an injected value: the wall clock for people and protocols, the monotonic one for ages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// CPU time that the calling thread has used; it stands still while the thread waits or is kept off its core.
pub fn thread_cpu() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// Where time comes from. Cloning is cheap; all clones of a manual clock move together.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
    skew_ms: Option<Arc<AtomicU64>>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Clock { started: Instant::now(), skew_ms: None }
    }

    /// A clock that a test moves forward by hand; it starts at the machine's present time.
    pub fn manual() -> Self {
        Clock { started: Instant::now(), skew_ms: Some(Arc::new(AtomicU64::new(0))) }
    }

    /// Moves a manual clock forward; does nothing to the system clock.
    pub fn advance(&self, by: Duration) {
        if let Some(skew) = &self.skew_ms {
            let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            skew.fetch_add(ms, Ordering::SeqCst);
        }
    }

    fn skew(&self) -> Duration {
        self.skew_ms.as_ref().map_or(Duration::ZERO, |s| Duration::from_millis(s.load(Ordering::SeqCst)))
    }

    /// Time since this clock was made; never goes back (ages, TTLs in process).
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed() + self.skew()
    }

    /// The wall clock (HTTP dates, JWT claims, expiry on disk).
    pub fn now(&self) -> SystemTime {
        SystemTime::now() + self.skew()
    }

    /// Whole seconds since the Unix epoch.
    pub fn unix_secs(&self) -> u64 {
        self.now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
    }
}
