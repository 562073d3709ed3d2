//! Servers of the Model Context Protocol (streamable HTTP, revisions 2025-03-26 to 2026-07-28) behind the gateway: its
//! credentials instead of the client's, only the tools that are allowed, limits, and results kept for a while.
//! `Mcp::answer` tells the whole story. What is not about tools passes as it came.

mod answer;
pub mod cache;
mod events;
pub mod message;
pub mod rate;
pub mod record;
mod server;
pub mod tools;

#[cfg(test)]
mod tests;

pub use server::{Fault, Server};

use crate::base::clock::Clock;
use crate::base::reply::Reply;
use crate::base::source::Source;
use crate::config::mcp::McpRoute;
use crate::config::secret::Secret;
use crate::fetch::Fetcher;
use answer::Waiting;
use base64::Engine;
use bytes::Bytes;
use cache::{Results, Whose, key};
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use message::{HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, Messages, SERVER_ERROR};
use rate::Rate;
use record::Record;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use tools::Known;

/// The session that a server has given to a client.
pub const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// The revision that both have agreed on.
pub const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// The message's method and what it is about, repeated (2026-07-28).
pub const METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// See [`METHOD`].
pub const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// What of a route outlives reloads: nobody's limit is reset by one.
pub struct State {
    rate: Option<Rate>,
    results: Option<Results>,
    known: BTreeMap<String, Known>,
}

impl State {
    /// A state without a past.
    pub fn new(config: &McpRoute, clock: &Clock) -> State {
        State {
            rate: config.rate_limit.as_ref().map(|r| Rate::new(r, clock.clone())),
            results: config.cache.as_ref().map(|c| Results::new(c, clock.clone())),
            known: config.servers.iter().map(|(name, s)| (name.clone(), Known::of(&s.tools))).collect(),
        }
    }
}

/// A route's servers.
pub struct Mcp {
    servers: BTreeMap<String, Arc<Server>>,
    origins: Vec<String>,
    answer_bytes_max: usize,
    state: Arc<State>,
    fetcher: Fetcher,
}

/// One request.
pub struct Asking<'a> {
    /// `POST`, `GET` or `DELETE`.
    pub method: &'a Method,
    /// The client's header fields.
    pub headers: &'a HeaderMap,
    /// The body; empty but for `POST`.
    pub body: Bytes,
    /// Whose request it is, as a digest or a word: results are never shared between tenants.
    pub tenant: &'a str,
}

/// A client's messages, sorted.
#[derive(Default)]
struct Sorted {
    /// What the server gets.
    passed: Vec<Value>,
    /// What the gateway answers itself.
    own: Vec<Value>,
    /// Tool calls that the server will answer.
    waiting: Vec<Waiting>,
    /// Whether anything is left out of `passed`.
    short: bool,
    /// Whether all of the gateway's own answers come from the cache.
    cached: bool,
}

impl Mcp {
    /// Compiles a route; `keys` holds the resolved tokens by server. All faults are reported together.
    pub fn compile(
        config: &McpRoute,
        keys: &BTreeMap<String, Secret>,
        state: Arc<State>,
        fetcher: Fetcher,
    ) -> Result<Mcp, Vec<Fault>> {
        let mut faults = server::check(config);
        let mut servers = BTreeMap::new();
        for (name, s) in &config.servers {
            match Server::compile(name, s, keys.get(name)) {
                Ok(server) => drop(servers.insert(name.clone(), Arc::new(server))),
                Err(list) => faults.extend(list),
            }
        }
        let answer_bytes_max = config.max_answer.as_usize();
        let origins = config.origins.iter().map(|o| o.to_ascii_lowercase()).collect();
        if faults.is_empty() { Ok(Mcp { servers, origins, answer_bytes_max, state, fetcher }) } else { Err(faults) }
    }

    /// The server for a request, judged by its head alone, or the refusal.
    pub fn admit(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<&Arc<Server>, Box<Reply>> {
        // Revision 2025-06-18, "Security Warning" of the transport: what a web page sends must be told by its origin.
        let strange = |v: &http::HeaderValue| {
            let origin = v.to_str().map(str::to_ascii_lowercase).unwrap_or_default();
            !self.origins.contains(&origin)
        };
        if headers.get_all(header::ORIGIN).iter().any(strange) {
            let message = "this Origin is not let in (mcp.origins)";
            return Err(refusal(StatusCode::FORBIDDEN, INVALID_REQUEST, message, "origin_refused"));
        }
        if !matches!(*method, Method::POST | Method::GET | Method::DELETE) {
            let reply =
                *refusal(StatusCode::METHOD_NOT_ALLOWED, INVALID_REQUEST, "no such method", "method_not_allowed");
            return Err(Box::new(reply.with(header::ALLOW, "POST, GET, DELETE")));
        }
        let is_json = |v: &http::HeaderValue| {
            let text = v.to_str().unwrap_or_default();
            text.split(';').next().is_some_and(|e| e.trim().eq_ignore_ascii_case("application/json"))
        };
        if *method == Method::POST && !headers.get(header::CONTENT_TYPE).is_some_and(is_json) {
            let message = "a message is application/json";
            return Err(refusal(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                INVALID_REQUEST,
                message,
                "unsupported_media_type",
            ));
        }
        let named = path.trim_end_matches('/').rsplit('/').next().and_then(|last| self.servers.get(last));
        let only = self.servers.values().next().filter(|_| self.servers.len() == 1);
        only.or(named).ok_or_else(|| {
            refusal(StatusCode::NOT_FOUND, INVALID_REQUEST, "no server of that name on this route", "no_mcp_server")
        })
    }

    /// Answers a request that was admitted to `server`.
    pub async fn answer(&self, server: &Arc<Server>, asking: Asking<'_>, record: &Arc<Record>) -> Reply {
        record.about(&server.name, "");
        if *asking.method != Method::POST {
            return self.ask(server, &asking, (Bytes::new(), Sorted::default(), false), record).await;
        }
        let messages = match message::read(&asking.body) {
            Ok(m) => m,
            Err(e) => return *refusal(StatusCode::BAD_REQUEST, e.0, &e.1, "invalid_message"),
        };
        if !repeats(asking.headers, &messages) {
            let text = "Mcp-Method or Mcp-Name is not what the message says";
            return *refusal(StatusCode::BAD_REQUEST, HEADER_MISMATCH, text, "header_mismatch");
        }
        record.about(&server.name, messages.all.first().and_then(message::method).unwrap_or_default());
        let listed = messages.listed;
        let sorted = self.sort(server, messages, &asking, record);
        if sorted.passed.is_empty() {
            return own_answers(sorted, listed);
        }
        let body = match (sorted.short, listed) {
            (false, _) => asking.body.clone(),
            (true, _) => Value::from(sorted.passed.clone()).to_string().into(),
        };
        self.ask(server, &asking, (body, sorted, listed), record).await
    }

    /// Tool calls that are not allowed, too many, or known already are answered here; the rest is the server's.
    fn sort(&self, server: &Server, messages: Messages, asking: &Asking<'_>, record: &Record) -> Sorted {
        let mut sorted = Sorted { cached: true, ..Sorted::default() };
        for message in messages.all {
            if message::method(&message) != Some("tools/call") {
                sorted.passed.push(Value::Object(message));
                continue;
            }
            let id = message.get("id").cloned();
            match self.tool_call(server, &message, asking, record) {
                Ok(waiting) => {
                    sorted.waiting.push(waiting);
                    sorted.passed.push(Value::Object(message));
                }
                Err((answer, cached)) => {
                    sorted.short = true;
                    sorted.cached &= cached;
                    // A call without an id wants no answer.
                    sorted.own.extend(id.is_some().then_some(answer));
                }
            }
        }
        sorted
    }

    /// A tool call that is the server's, or the answer to it and whether that was kept.
    fn tool_call(
        &self,
        server: &Server,
        message: &Map<String, Value>,
        asking: &Asking<'_>,
        record: &Record,
    ) -> Result<Waiting, (Value, bool)> {
        let id = message.get("id").cloned().unwrap_or_default();
        let known = self.state.known.get(&server.name);
        let params = message::tool_call(message);
        let Some((params, tool)) = params.and_then(|p| Some((p, p.get("name")?.as_str()?))) else {
            return Err((message::error(&id, INVALID_PARAMS, "tools/call needs params with a name"), false));
        };
        let label = known.map_or_else(String::new, |k| k.label(tool));
        if !server.rules.allows(tool) {
            record.call(label, "refused");
            let shown: String = tool.chars().take(64).collect();
            return Err((message::error(&id, INVALID_PARAMS, &format!("Unknown tool: {shown}")), false));
        }
        let read_only = known.is_some_and(|k| k.reads_only(tool));
        let kept = self.state.results.as_ref().and_then(|r| Some((r, r.ttl(tool, read_only)?)));
        let keep = kept.map(|(results, ttl)| (results, key(&server.whose(asking), params), ttl));
        if let Some(result) = keep.as_ref().and_then(|(results, key, _)| results.get(key)) {
            record.call(label, "cached");
            return Err((message::answer(&id, &result), true));
        }
        if let Err(wait) = self.state.rate.as_ref().map_or(Ok(()), |r| r.take(asking.tenant)) {
            record.call(label, "rate_limited");
            let seconds = wait.as_secs().saturating_add(1);
            let text = format!("too many tool calls; try again in {seconds} s");
            return Err((message::error(&id, SERVER_ERROR, &text), false));
        }
        let number = record.call(label, "unfinished");
        Ok(Waiting { id, number, keep: keep.map(|(_, key, ttl)| (key, ttl)) })
    }

    /// Sends what is the server's and delivers its answer.
    async fn ask(
        &self,
        server: &Arc<Server>,
        asking: &Asking<'_>,
        (body, sorted, listed): (Bytes, Sorted, bool),
        record: &Arc<Record>,
    ) -> Reply {
        let listens = *asking.method == Method::GET;
        let endpoint = if listens { &server.listening } else { &server.endpoint };
        let headers = server.request_headers(asking.method, asking.headers);
        let method = asking.method.clone();
        let sent = self.fetcher.send(endpoint, method, server.path_end, headers, body).await;
        let delivery = answer::Delivery {
            server: Arc::clone(server),
            state: Arc::clone(&self.state),
            record: Arc::clone(record),
            own: sorted.own,
            waiting: sorted.waiting,
            listed,
            bytes_max: self.answer_bytes_max,
        };
        match sent {
            Ok(fetched) => delivery.deliver(fetched).await,
            Err(e) => delivery.unreachable(&e),
        }
    }
}

impl Server {
    /// Whose calls these are.
    fn whose<'a>(&'a self, asking: &'a Asking<'_>) -> Whose<'a> {
        let shown = asking.headers.get(header::AUTHORIZATION).filter(|_| self.passes_credentials);
        Whose {
            server: &self.digest,
            version: asking.headers.get(VERSION).map(http::HeaderValue::as_bytes).unwrap_or_default(),
            tenant: asking.tenant,
            credentials: shown.map(http::HeaderValue::as_bytes).unwrap_or_default(),
        }
    }
}

/// Whether the fields that repeat the message say the same: a server may go by them.
fn repeats(headers: &HeaderMap, messages: &Messages) -> bool {
    let one = messages.all.first().filter(|_| messages.all.len() == 1);
    let same = |field: &HeaderName, told: Option<&str>| {
        let mut values = headers.get_all(field).iter();
        let says = |v: &http::HeaderValue| told.is_some_and(|t| v == t || v.as_bytes() == coded(t).as_bytes());
        values.next().is_none_or(|v| says(v) && values.next().is_none())
    };
    same(&METHOD, one.and_then(message::method)) && same(&NAME, one.and_then(message::named))
}

/// A text as a field carries it that it would not survive.
fn coded(text: &str) -> String {
    format!("=?base64?{}?=", base64::engine::general_purpose::STANDARD.encode(text))
}

/// The answer to messages of which none is the server's.
fn own_answers(sorted: Sorted, listed: bool) -> Reply {
    let source = if sorted.cached { Source::McpCache } else { Source::Gateway };
    let reason = if sorted.cached { "mcp_cached" } else { "mcp_refused" };
    let mut own = sorted.own;
    let body = match (own.pop(), listed) {
        (None, _) => return Reply::new(StatusCode::ACCEPTED, source).because(reason),
        (Some(one), false) => one,
        (Some(last), true) => {
            own.push(last);
            Value::Array(own)
        }
    };
    uncached(Reply::json(StatusCode::OK, source, &body).because(reason))
}

/// Shared caches in front must not keep what was made for one client.
fn uncached(reply: Reply) -> Reply {
    reply.with(header::CACHE_CONTROL, "no-store")
}

/// A refusal of a whole request, as a JSON-RPC error that answers no message in particular.
fn refusal(status: StatusCode, code: i64, text: &str, reason: &'static str) -> Box<Reply> {
    let body = message::error(&Value::Null, code, text);
    Box::new(uncached(Reply::json(status, Source::Gateway, &body).because(reason)))
}

/// The largest message, or list of them, where the route sets no limit.
pub const BODY_BYTES_MAX: usize = 4 << 20;
