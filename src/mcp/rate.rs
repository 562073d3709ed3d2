//! How many tool calls a tenant may make: the generic cell rate algorithm, one time stamp for each tenant.

use crate::base::clock::Clock;
use crate::config::mcp::McpRateLimit;
use moka::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Tenants that are remembered; the ones not seen for longest are forgotten first.
const TENANTS_MAX: u64 = 100_000;

/// The limit with its memory. It outlives reloads.
pub struct Rate {
    clock: Clock,
    /// Nanoseconds that one call takes of the time.
    each: u64,
    /// Nanoseconds that may be taken in advance.
    burst: u64,
    /// By tenant, when the calls so far will have been paid off, in nanoseconds of the clock.
    paid: Cache<String, Arc<AtomicU64>>,
}

impl Rate {
    /// A limit that nobody has used yet.
    pub fn new(limit: &McpRateLimit, clock: Clock) -> Self {
        let per = nanos(limit.per.0);
        let each = per.checked_div(u64::from(limit.calls)).unwrap_or(per).max(1);
        let paid = Cache::builder().max_capacity(TENANTS_MAX).time_to_idle(limit.per.0.saturating_mul(2)).build();
        Rate { clock, each, burst: per, paid }
    }

    /// Takes one call; how long to wait where there is none left.
    pub fn take(&self, tenant: &str) -> Result<(), Duration> {
        let paid = self.paid.get_with_by_ref(tenant, || Arc::new(AtomicU64::new(0)));
        let now = nanos(self.clock.elapsed());
        let next = |paid: u64| {
            let after = paid.max(now).saturating_add(self.each);
            (after <= now.saturating_add(self.burst)).then_some(after)
        };
        match paid.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) {
            Ok(_) => Ok(()),
            Err(paid) => {
                let free = paid.saturating_add(self.each).saturating_sub(self.burst);
                Err(Duration::from_nanos(free.saturating_sub(now)))
            }
        }
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}
