//! Signals: SIGHUP reloads and opens the log again, SIGTERM and SIGINT drain and leave.

use super::Running;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Serves until a signal says to leave.
pub async fn run_until_told(running: Running) -> anyhow::Result<()> {
    let mut hup = signal(SignalKind::hangup())?;
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let running = Arc::new(running);
    loop {
        tokio::select! {
            _ = hup.recv() => {
                running.reopen_log();
                let r = Arc::clone(&running);
                // The fault, if any, is in the log; a signal has nobody to answer to.
                drop(tokio::task::spawn_blocking(move || r.reload("SIGHUP")).await);
            }
            _ = term.recv() => break,
            _ = int.recv() => break,
        }
    }
    tracing::info!("draining");
    match Arc::try_unwrap(running) {
        Ok(r) => r.stop().await,
        Err(_) => tracing::error!("still in use at the end"),
    }
    Ok(())
}
