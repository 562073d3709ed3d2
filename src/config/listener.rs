//! `listeners:` and `certificates:` sockets, protocols and TLS.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A socket to listen on.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// `host:port`; port 0 lets the system choose.
    pub address: String,
    /// TLS; without it the port speaks clear text.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Protocols spoken: `h1`, `h2`. On a clear-text port `h2` means h2c with prior knowledge (RFC 9113 §3.3).
    #[serde(default = "both")]
    pub protocols: Vec<Protocol>,
    /// Expect a PROXY protocol header (v1 or v2) in front of every connection and believe it.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Answer every request with a redirect to the same URL under https.
    #[serde(default)]
    pub redirect_to_https: bool,
}

fn both() -> Vec<Protocol> {
    vec![Protocol::H1, Protocol::H2]
}

/// An HTTP version on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 and 1.0.
    H1,
    /// HTTP/2.
    H2,
}

/// TLS on a listener.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Names from `certificates`; the one whose names fit the client's SNI is used, else the first.
    pub certificates: Vec<String>,
    /// Lowest version accepted.
    #[serde(default)]
    pub min_version: TlsVersion,
}

/// A TLS version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

/// A certificate chain and its key, as PEM files; re-read on every reload.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Path of the chain (leaf first).
    pub cert: String,
    /// Path of the private key.
    pub key: String,
}
