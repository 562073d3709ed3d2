//! The map: the compiled configuration, immutable, swapped whole. A request pins one plan from its first line to its
//! log entry; a reload never changes a request under way.

mod auth;
pub mod compile;
mod disk;
mod gateway;
pub mod limits;
pub mod listener;
mod mcp;
mod organs;
pub mod router;
mod semantic;
pub mod shared;
pub mod tls;

use crate::ai;
use crate::auth::identity::Rule;
use crate::bot::lists::Lists;
use crate::bot::verify::DnsVerifier;
use crate::cache::RouteCache;
use crate::cache::hints::Hints;
use crate::cache::predict::Known;
use crate::cache::purge::Book;
use crate::cache::purge::sweep::Sweep;
use crate::cache::store::adapter::Adapter;
use crate::cache::store::tiered::TieredStore;
use crate::compress::RouteCompress;
use crate::compress::whole::Precoded;
use crate::config::ai::AiRoute;
use crate::config::policy::OnError;
use crate::mcp::Mcp;
use crate::observe::access_log::Log;
use crate::observe::metrics::{Metrics, RouteMetrics};
use crate::policy::Policy;
use crate::upstream::pool::Pool;
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use pingora_cache::lock::CacheKeyLockImpl;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The compiled configuration.
pub struct Plan {
    /// First digits of the SHA-256 over all files it was made of.
    pub revision: String,
    /// Which route takes a request.
    pub router: router::Router,
    /// The routes, by the router's numbers.
    pub routes: Vec<Arc<Route>>,
    /// Whether the hits of some route can be answered from the request head alone.
    pub express: bool,
    /// Listeners by name.
    pub listeners: BTreeMap<String, listener::Listener>,
    /// Most client connections at once.
    pub connections_max: usize,
    /// Networks of proxies that are believed.
    pub trusted: Vec<IpNet>,
    /// Clients that are told the cache key.
    pub cache_key_for: Vec<IpNet>,
    /// Largest request header.
    pub header_bytes_max: usize,
    /// Upstreams by name.
    pub pools: BTreeMap<String, Arc<Pool>>,
    /// Auth rules by name.
    pub auth: BTreeMap<String, Arc<Rule>>,
    /// Lists of known bots.
    pub bots: Lists,
    /// Checks declared bots by forward-confirmed reverse DNS.
    pub bots_dns: Option<Arc<DnsVerifier>>,
    /// The policy script.
    pub policy: Option<Arc<Policy>>,
    /// First digits of the SHA-256 of the script; empty without one.
    pub policy_revision: String,
    /// Metric families.
    pub metrics: Arc<Metrics>,
    /// Leave to code an answer while it is sent; without it an answer goes out plain.
    pub coders: Arc<Semaphore>,
    /// Largest body on AI routes that set none of their own.
    pub ai_body_bytes_max: usize,
    /// Pause allowed inside a body or an answer.
    pub io_timeout: std::time::Duration,
    /// How long requests in flight may go on when the process drains.
    pub grace: std::time::Duration,
    /// HTTP caches by name.
    pub stores: BTreeMap<String, &'static HttpStore>,
    /// The model catalogue and its caches.
    pub ai: Option<Arc<ai::Gateway>>,
    /// The access log.
    pub log: Option<Log>,
    /// Files it was made of: a change of one asks for a reload.
    pub files: Vec<PathBuf>,
    /// What is odd but no fault.
    pub warnings: Vec<crate::config::error::Fault>,
}

/// One route, compiled.
pub struct Route {
    /// Name in logs and metrics.
    pub name: String,
    /// What it does.
    pub handler: Handler,
    /// Who may come in.
    pub auth: Option<Arc<Rule>>,
    /// How much clients may ask for.
    pub limits: Vec<Arc<limits::RouteLimit>>,
    /// HTTP cache.
    pub cache: Option<RouteStore>,
    /// Content codings.
    pub compress: Option<Arc<RouteCompress>>,
    /// Whether `103 Early Hints` are sent; only with a cache.
    pub early_hints: bool,
    /// Whether the policy script is asked, and what happens when it fails.
    pub policy: Option<OnError>,
    /// Changes to the origin's request.
    pub request_headers: Vec<HeaderChange>,
    /// Changes to the client's answer.
    pub response_headers: Vec<HeaderChange>,
    /// Largest request body.
    pub body_bytes_max: Option<u64>,
    /// Its metrics.
    pub metrics: RouteMetrics,
}

impl Route {
    /// Whether its hits can be answered from the request head alone: nobody is asked first.
    pub fn is_open(&self) -> bool {
        let asks = self.auth.is_some() || self.policy.is_some() || !self.limits.is_empty();
        self.cache.is_some() && !asks && matches!(self.handler, Handler::Proxy(_))
    }
}

/// A route's HTTP cache: rules, and the store they act on.
pub struct RouteStore {
    /// The rules.
    pub rules: RouteCache,
    /// The store; it outlives every plan.
    pub store: &'static HttpStore,
}

/// An HTTP cache as Pingora wants it: for ever. Made once for each configuration of it, in `organs.rs`.
pub struct HttpStore {
    /// Both levels.
    pub adapter: Adapter<TieredStore>,
    /// Collapses identical requests in flight.
    pub lock: Box<CacheKeyLockImpl>,
    /// URLs whose answers are known not to be stored: nobody waits for those.
    pub known: Known,
    /// Links of pages, for `103 Early Hints`.
    pub hints: Hints,
    /// Leave to code a stored body: as many at a time as there are cores.
    pub coders: Semaphore,
    /// Where reclaiming purged objects is.
    pub sweep: tokio::sync::Mutex<Sweep>,
}

/// Objects looked at in one round of [`HttpStore::sweep`].
const SWEEP_OBJECTS: usize = 1 << 16;

impl HttpStore {
    /// The purges that all its levels heed.
    pub fn book(&self) -> &Arc<Book> {
        self.adapter.store().book()
    }

    /// One round of reclaiming purged objects.
    pub async fn sweep(&self) {
        let mut sweep = self.sweep.lock().await;
        sweep.go_on(self.book(), self.adapter.store(), SWEEP_OBJECTS).await;
    }
}

/// What a route does.
pub enum Handler {
    /// Proxies to an upstream.
    Proxy(Arc<Pool>),
    /// Answers a model call.
    Ai(Arc<AiRoute>),
    /// Passes messages to servers of the Model Context Protocol.
    Mcp(Arc<Mcp>),
    /// Answers the same always.
    Respond {
        /// Status.
        status: http::StatusCode,
        /// Media type.
        content_type: HeaderValue,
        /// Body.
        body: bytes::Bytes,
        /// The body in the route's codings.
        precoded: Arc<Precoded>,
    },
    /// Sends elsewhere.
    Redirect {
        /// Status.
        status: http::StatusCode,
        /// Template of the target.
        to: String,
    },
}

/// One change to a header.
#[derive(Debug, Clone)]
pub enum HeaderChange {
    /// Replace.
    Set(HeaderName, HeaderValue),
    /// Remove.
    Remove(HeaderName),
}

impl HeaderChange {
    /// The field it changes.
    pub fn name(&self) -> &HeaderName {
        match self {
            HeaderChange::Set(name, _) | HeaderChange::Remove(name) => name,
        }
    }
}
