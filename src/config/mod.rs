//! What the YAML says: serde structs, nothing resolved, nothing opened. `load` reads a file with its includes and
//! reports every fault at once, each with its place.

pub mod ai;
pub mod apikey;
pub mod auth;
pub mod bots;
pub mod cache;
pub mod compress;
pub mod error;
pub mod limit;
pub mod listener;
pub mod load;
pub mod mcp;
pub mod observability;
pub mod policy;
pub mod positions;
pub mod route;
pub mod schema;
pub mod secret;
pub mod semantic;
pub mod server;
pub mod upstream;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A map from names that the user chose; sorted, so that messages and dumps are stable.
pub type Named<T> = BTreeMap<String, T>;

/// The whole configuration, as written.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Version of this format; only 1 exists.
    pub version: Option<u32>,
    /// Further files (globs, relative to this file) merged into this one; a name defined twice is an error.
    pub include: Vec<String>,
    /// Process-wide settings.
    pub server: server::Server,
    /// Sockets to listen on, by name.
    pub listeners: Named<listener::Listener>,
    /// TLS certificates, by name.
    pub certificates: Named<listener::Certificate>,
    /// Groups of origin servers, by name.
    pub upstreams: Named<upstream::Upstream>,
    /// HTTP caches, by name.
    pub caches: Named<cache::Cache>,
    /// Ways to authenticate a client, by name.
    pub auth: Named<auth::Auth>,
    /// How much a client may ask for, by name.
    pub rate_limits: Named<limit::RateLimit>,
    /// Bot detection.
    pub bots: bots::Bots,
    /// The policy script.
    pub policy: Option<policy::PolicyConfig>,
    /// What to do with a request; the most specific match wins.
    pub routes: Vec<route::Route>,
    /// Model providers, models, tiers and their caches.
    pub ai: ai::Ai,
    /// Logs.
    pub observability: observability::Observability,
}
