//! The program's own log: `tracing` events on standard error, one line each, filtered by `SLUICEGATE_LOG`.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// What is logged when nothing else is asked for. Pingora's own lines are off: the access log and the metrics tell what
/// happened to a request, once.
const DEFAULT: &str = "info,pingora_proxy=off,pingora_core=off,pingora_cache=off,ort=warn";

/// Starts logging; a second call (in tests) changes nothing.
pub fn init() {
    let filter = EnvFilter::try_from_env("SLUICEGATE_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let stderr = std::io::stderr();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(stderr.is_terminal()).with_target(false);
    if log.with_writer(std::io::stderr).try_init().is_err() {
        tracing::debug!("logging was already set up");
    }
}
