//! `observability:` logs and headers about decisions.

use crate::base::units::Share;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Logs.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Observability {
    /// One line for each request; `false` switches it off.
    pub access_log: AccessLogSetting,
    /// Addresses (CIDR) of clients that are told the cache key, as the `key` parameter of `Cache-Status` (RFC 9211 §2.8).
    pub cache_key_for: Vec<String>,
}

/// `false`, or the settings.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum AccessLogSetting {
    /// `true` (JSON on standard output) or `false` (none).
    Switch(bool),
    /// The settings.
    On(AccessLog),
}

impl Default for AccessLogSetting {
    fn default() -> Self {
        AccessLogSetting::Switch(true)
    }
}

/// One line for each request.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// `json`, or `combined` as Apache and nginx write it.
    pub format: LogFormat,
    /// `stdout`, or the path of a file that is appended to (opened again on SIGHUP).
    pub output: String,
    /// Share of requests logged, by class of status (`2xx`: 10%); a class not named is logged whole.
    pub sample: BTreeMap<StatusClass, Share>,
}

impl Default for AccessLog {
    fn default() -> Self {
        AccessLog { format: LogFormat::Json, output: "stdout".to_owned(), sample: BTreeMap::new() }
    }
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// The combined log format.
    Combined,
}

/// A class of status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum StatusClass {
    /// Informational (101 above all).
    #[serde(rename = "1xx")]
    C1,
    /// Success.
    #[serde(rename = "2xx")]
    C2,
    /// Redirection.
    #[serde(rename = "3xx")]
    C3,
    /// The client's fault.
    #[serde(rename = "4xx")]
    C4,
    /// Our or the origin's fault.
    #[serde(rename = "5xx")]
    C5,
}
