//! The program's own log: `tracing` events on standard error, one line each, filtered by `SLUICEGATE_LOG`.

use tracing_subscriber::EnvFilter;

/// Starts logging; a second call (in tests) changes nothing.
pub fn init() {
    let filter = EnvFilter::try_from_env("SLUICEGATE_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,pingora_proxy=off,pingora_core=off,pingora_cache=off,ort=warn"));
    let set =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).try_init();
    if set.is_err() {
        tracing::debug!("logging was already set up");
    }
}
