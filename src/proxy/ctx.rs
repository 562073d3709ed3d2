//! What the spine knows about one request, filled in station by station.

use super::cache::CacheState;
use crate::ai::call::CallRecord;
use crate::ai::dialect::Dialect;
use crate::ai::passthrough::realtime::Line;
use crate::auth::identity::Identity;
use crate::base::coding::Coding;
use crate::base::source::Source;
use crate::limit::Taken;
use crate::mcp::record::Record as McpRecord;
use crate::plan::{Plan, Route};
use crate::policy::decision::RequestDirectives;
use crate::policy::facts::RequestFacts;
use crate::upstream::pool::Tries;
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// One request on its way.
pub struct Ctx {
    /// The configuration it was accepted under.
    pub plan: Arc<Plan>,
    /// Its route, once known.
    pub route: Option<Arc<Route>>,
    /// When its head had been read.
    pub started: Instant,
    /// Its id.
    pub id: String,
    /// The client's address, from trusted hops.
    pub client: IpAddr,
    /// Whether the connection's own peer is a trusted proxy.
    pub peer_trusted: bool,
    /// The port it came in on.
    pub port: Option<u16>,
    /// TLS, as the client sees it.
    pub tls: bool,
    /// Host asked for, lower case, with its port if one was given.
    pub authority: String,
    /// The path that routes see; `None` when it is the request's own.
    pub path: Option<String>,
    /// Who answers.
    pub source: Source,
    /// Why.
    pub reason: &'static str,
    /// A refusal that was found before routing.
    pub refused: Option<(u16, &'static str)>,
    /// Who the route's auth rule found the client to be.
    pub user: Option<Identity>,
    /// What the client has taken of its limits.
    pub taken: Vec<Taken>,
    /// Facts for the policy script, on routes that ask it.
    pub facts: Option<Arc<RequestFacts>>,
    /// What `on_request` decided.
    pub directives: RequestDirectives,
    /// Notes of the later hooks.
    pub notes: Vec<(String, String)>,
    /// A new sticky id to set as a cookie, if an experiment asks for it.
    pub sticky: Option<String>,
    /// The HTTP cache's part.
    pub cache: CacheState,
    /// The coding that the answer was given here.
    pub coding: Option<Coding>,
    /// Another client could get the answer in another coding.
    pub varies_by_coding: bool,
    /// What the client of an AI route speaks; other routes have no use for it.
    pub dialect: Dialect,
    /// The model call.
    pub call: Option<Arc<CallRecord>>,
    /// The request to an MCP server.
    pub mcp: Option<Arc<McpRecord>>,
    /// The realtime session that this request opens.
    pub line: Option<Box<Line>>,
    /// Origin server used.
    pub upstream: Option<SocketAddr>,
    /// Tries at origin servers.
    pub tries: Tries,
    /// Interim answers passed on.
    pub interim: u32,
    /// Request body bytes seen.
    pub body_bytes: u64,
    /// What went wrong underway, for the log.
    pub error: Option<String>,
    /// A refresh that the cache asked for; no client waits for it.
    pub background: bool,
}

impl Ctx {
    /// A request that nothing is known about yet.
    pub fn new(plan: Arc<Plan>) -> Self {
        Ctx {
            plan,
            route: None,
            started: Instant::now(),
            id: String::new(),
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            peer_trusted: false,
            port: None,
            tls: false,
            authority: String::new(),
            path: None,
            source: Source::Origin,
            reason: "",
            refused: None,
            user: None,
            taken: Vec::new(),
            facts: None,
            directives: RequestDirectives::default(),
            notes: Vec::new(),
            sticky: None,
            cache: CacheState::default(),
            coding: None,
            varies_by_coding: false,
            dialect: Dialect::default(),
            call: None,
            mcp: None,
            line: None,
            upstream: None,
            tries: Tries::default(),
            interim: 0,
            body_bytes: 0,
            error: None,
            background: false,
        }
    }

    /// Host without port.
    pub fn host(&self) -> &str {
        host_of(&self.authority)
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// The route's name for logs.
    pub fn route_name(&self) -> &str {
        self.route.as_ref().map_or("none", |r| r.name.as_str())
    }

    /// The path that routes see.
    pub fn path<'a>(&'a self, raw: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(self.path.as_deref().unwrap_or(raw))
    }
}

/// The host of an authority, without port and with the brackets of an IPv6 literal.
pub fn host_of(authority: &str) -> &str {
    match authority.rfind(']') {
        Some(end) => authority.get(..=end).unwrap_or(authority),
        None => authority.split_once(':').map_or(authority, |(h, _)| h),
    }
}
