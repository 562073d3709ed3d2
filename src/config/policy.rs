//! The `policy:` section: which script decides, how much it may spend, and what happens when it fails.

use crate::base::units::Dur;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The policy script and its limits.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// The Rhai script; a relative path starts at the folder of this YAML file.
    pub script: PathBuf,
    /// Operations (roughly: expressions evaluated) that one hook call may spend; 1 to 10000000.
    #[serde(default = "max_operations")]
    pub max_operations: u64,
    /// Time that one hook call may take; 1ms to 1s.
    #[serde(default = "max_time")]
    pub max_time: Dur,
    /// What happens to a request whose hook fails; a route may set its own.
    #[serde(default)]
    pub on_error: OnError,
}

/// What happens to a request whose hook fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The request is refused with 500.
    #[default]
    FailClosed,
    /// The request goes on as if the hook were not defined.
    FailOpen,
}

impl OnError {
    /// The spelling used in YAML, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            OnError::FailClosed => "fail_closed",
            OnError::FailOpen => "fail_open",
        }
    }
}

fn max_operations() -> u64 {
    50_000
}

fn max_time() -> Dur {
    Dur::millis(5)
}

impl PolicyConfig {
    /// What is out of range: the key below `policy` and what to do. Rhai reads a limit of 0 as "no limit", so 0 is refused.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut out = Vec::new();
        if !(1..=10_000_000).contains(&self.max_operations) {
            out.push(("max_operations", format!("{} is not within 1 to 10000000", self.max_operations)));
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(1)).contains(&self.max_time.0) {
            out.push(("max_time", format!("{} is not within 1ms to 1s", self.max_time)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_tight_and_unknown_keys_are_refused() {
        let p: PolicyConfig = serde_yaml::from_str("script: policy.rhai").unwrap();
        assert_eq!((p.max_operations, p.max_time, p.on_error), (50_000, Dur::millis(5), OnError::FailClosed));
        assert!(p.faults().is_empty());
        assert!(serde_yaml::from_str::<PolicyConfig>("{script: a, max_ops: 1}").is_err());
    }

    #[test]
    fn a_limit_of_zero_is_refused_because_it_would_mean_none() {
        let p: PolicyConfig = serde_yaml::from_str("{script: a, max_operations: 0, max_time: 2s}").unwrap();
        assert_eq!(p.faults().iter().map(|f| f.0).collect::<Vec<_>>(), ["max_operations", "max_time"]);
    }
}
