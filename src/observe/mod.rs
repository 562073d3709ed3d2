//! How we tell: metrics, the access log, the program's own log.

pub mod access_log;
pub mod ai_metrics;
pub mod metrics;
pub mod trace;
