//! `server:` process-wide settings: threads, limits on connections and headers, trusted proxies, the admin port.

use super::secret::SecretRef;
use crate::base::units::{Dur, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Process-wide settings.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Worker threads; 0 means one for each core.
    pub threads: usize,
    /// How long requests in flight may go on after SIGTERM; the process leaves as soon as the last one ends.
    pub grace_period: Dur,
    /// Addresses (CIDR) of proxies whose `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Request-Id` are believed.
    pub trusted_proxies: Vec<String>,
    /// Total time a client may take to send a request header (and to finish a TLS handshake).
    pub header_timeout: Dur,
    /// How long an idle keep-alive connection is kept.
    pub idle_timeout: Dur,
    /// How long a client may pause while sending a body or taking an answer.
    pub io_timeout: Dur,
    /// Most client connections at once, over all listeners; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Largest request header block, over HTTP/1 and HTTP/2; a larger one is answered 431.
    pub max_header_size: Size,
    /// The operators' port.
    pub admin: Option<Admin>,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            threads: 0,
            grace_period: Dur::secs(10),
            trusted_proxies: Vec::new(),
            header_timeout: Dur::secs(10),
            idle_timeout: Dur::secs(60),
            io_timeout: Dur::secs(60),
            max_connections: 20_000,
            max_header_size: Size::kib(32),
            admin: None,
        }
    }
}

/// The operators' port: metrics, status, purge, reload.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Address to listen on; without a token only a loopback address is allowed.
    pub listen: String,
    /// Bearer token that every call but `/healthz` must carry.
    #[serde(default)]
    pub token: Option<SecretRef>,
}
