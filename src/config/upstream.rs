//! `upstreams:` groups of origin servers.

use crate::base::units::Dur;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A group of origin servers, used in turn.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// `host:port` of each server; names are resolved when the configuration is loaded and again every 30 s.
    pub servers: Vec<String>,
    /// Speak TLS to the servers.
    #[serde(default)]
    pub tls: Option<UpstreamTls>,
    /// HTTP version spoken to the servers.
    #[serde(default)]
    pub protocol: UpstreamProtocol,
    /// How long the servers may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How long an idle connection to a server is kept for the next request.
    #[serde(default = "idle")]
    pub keepalive: Dur,
}

fn idle() -> Dur {
    Dur::secs(60)
}

/// HTTP version spoken to an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    H1,
    /// HTTP/2 (prior knowledge on clear text, ALPN under TLS); what gRPC needs.
    H2,
}

/// TLS towards an upstream.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// Name in the handshake and in the certificate; default: the server's own host name.
    #[serde(default)]
    pub sni: Option<String>,
    /// Check the server's certificate. Turn off only for tests.
    #[serde(default = "yes")]
    pub verify: bool,
}

fn yes() -> bool {
    true
}

/// How long an origin server may take.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// To accept a connection (and finish a TLS handshake).
    pub connect: Dur,
    /// From the request to the first byte of the answer, and between two reads after it.
    pub read: Dur,
    /// Between two writes of the request body.
    pub write: Dur,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { connect: Dur::secs(2), read: Dur::secs(60), write: Dur::secs(60) }
    }
}
