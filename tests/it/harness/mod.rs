//! What the integration tests stand on: a gateway from YAML, an origin and a model that follow a script and count,
//! clients that speak raw HTTP. No fixed ports; waiting is always for a condition.

pub mod client;
pub mod edge;
pub mod gemini;
pub mod llm;
pub mod messages;
pub mod origin;
pub mod process;
pub mod secure;
pub mod sf;
pub mod token;

use std::future::Future;
use std::time::{Duration, Instant};

/// How long a test waits for anything before it calls it a failure.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds; panics with `what` when it does not within `PATIENCE`.
pub async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// `future`, or a panic naming `what` when it takes longer than `PATIENCE`.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("took too long: {what}"),
    }
}
