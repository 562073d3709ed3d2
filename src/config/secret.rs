//! Secrets: written only as `env:NAME` or `file:/path`, never printed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a secret is to be found; the value itself never stands in the YAML.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct SecretRef(#[schemars(regex(pattern = r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$"))] String);

/// A secret's value. It has no `Display`, and `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why a secret could not be had. The value is never part of the message.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Neither `env:` nor `file:`.
    #[error("a secret is written env:NAME or file:/path, never in clear")]
    Form,
    /// The environment variable is missing or empty.
    #[error("environment variable {0} is not set")]
    Env(String),
    /// The file cannot be read.
    #[error("cannot read {path}: {cause}")]
    File {
        /// The path as written.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
}

impl SecretRef {
    /// For tests and defaults.
    pub fn new(text: impl Into<String>) -> Self {
        SecretRef(text.into())
    }

    /// Reads the value; surrounding white space is dropped (files end in a newline).
    pub fn resolve(&self) -> Result<Secret, SecretError> {
        if let Some(name) = self.0.strip_prefix("env:") {
            let v = std::env::var(name).unwrap_or_default();
            return if v.trim().is_empty() {
                Err(SecretError::Env(name.to_owned()))
            } else {
                Ok(Secret(v.trim().to_owned()))
            };
        }
        let path = self.0.strip_prefix("file:").ok_or(SecretError::Form)?;
        match std::fs::read_to_string(path) {
            Ok(v) => Ok(Secret(v.trim().to_owned())),
            Err(cause) => Err(SecretError::File { path: path.to_owned(), cause }),
        }
    }
}

impl Secret {
    /// For tests.
    pub fn new(v: impl Into<String>) -> Self {
        Secret(v.into())
    }

    /// The value, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A value put here by mistake instead of a reference must not reach a log.
        let shown =
            if self.0.starts_with("env:") || self.0.starts_with("file:") { self.0.as_str() } else { "(redacted)" };
        write!(f, "SecretRef({shown})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_clear_is_refused_and_never_shown() {
        let r = SecretRef::new("sk-live-canary");
        assert!(matches!(r.resolve(), Err(SecretError::Form)));
        assert!(!format!("{r:?} {:?}", r.resolve()).contains("canary"));
        assert!(!format!("{:?}", Secret::new("canary")).contains("canary"));
    }

    #[test]
    fn reads_files_and_names_what_is_missing() {
        let f = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(f.path(), "abc\n").unwrap();
        let r = SecretRef::new(format!("file:{}", f.path().display()));
        assert_eq!(r.resolve().unwrap().expose(), "abc");
        let e = SecretRef::new("env:SLUICEGATE_SURELY_UNSET").resolve().unwrap_err();
        assert_eq!(e.to_string(), "environment variable SLUICEGATE_SURELY_UNSET is not set");
    }
}
