//! A server's answer on its way to the client: tools that are not allowed taken out, results noted and kept.

use super::cache::Key;
use super::events::Events;
use super::message::{self, DEPTH_MAX, SERVER_ERROR};
use super::record::Record;
use super::server::Server;
use super::tools::Known;
use super::{SESSION, State, VERSION, uncached};
use crate::base::reply::{Body, Reply};
use crate::base::source::Source;
use crate::base::strict_json;
use crate::fetch::{FetchError, Fetched};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;

/// The largest error body that is passed on.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// Fields of the server that reach the client.
const RETURNED: [HeaderName; 3] = [SESSION, VERSION, header::RETRY_AFTER];

/// A tool call that the server will answer.
pub struct Waiting {
    /// Its id.
    pub id: Value,
    /// Its number in the record.
    pub number: Option<usize>,
    /// Where its result is kept, and for how long.
    pub keep: Option<(Key, Duration)>,
}

/// Everything that an answer must be seen with.
pub struct Delivery {
    pub(super) server: Arc<Server>,
    pub(super) state: Arc<State>,
    pub(super) record: Arc<Record>,
    /// Answers of the gateway's own, to go with the server's.
    pub(super) own: Vec<Value>,
    pub(super) waiting: Vec<Waiting>,
    /// Whether the client sent a list.
    pub(super) listed: bool,
    pub(super) bytes_max: usize,
}

impl Delivery {
    /// The server's answer as the client gets it.
    pub async fn deliver(mut self, fetched: Fetched) -> Reply {
        let status = fetched.status;
        if !status.is_success() {
            return self.refused(fetched).await;
        }
        let headers = self.returned(&fetched.headers);
        let reply = match essence(&fetched.headers).as_str() {
            "text/event-stream" => {
                let mut reply = Reply::new(status, Source::Mcp);
                reply.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
                reply.body = Body::Stream(Box::new(Events::new(fetched, self)));
                reply
            }
            "application/json" => match self.whole(fetched).await {
                Ok(body) => Reply::full(status, Source::Mcp, "application/json", body),
                Err(reply) => return *reply,
            },
            _ => match fetched.bytes(0).await {
                Ok(_) if self.own.is_empty() => Reply::new(status, Source::Mcp),
                Ok(_) => Reply::json(StatusCode::OK, Source::Gateway, &Value::Array(self.own)),
                Err(_) => return *self.broken("an answer that is neither JSON nor an event stream"),
            },
        };
        let mut reply = uncached(reply);
        reply.headers.extend(headers);
        reply
    }

    async fn whole(&mut self, fetched: Fetched) -> Result<Bytes, Box<Reply>> {
        let body = match fetched.bytes(self.bytes_max).await {
            Ok(body) => body,
            Err(e @ FetchError::TooLarge { .. }) => return Err(self.broken(&e.to_string())),
            Err(e) => return Err(Box::new(self.failed(&e))),
        };
        // An answer without content belongs to messages that want none.
        if body.is_empty() && self.own.is_empty() {
            return Ok(body);
        }
        let Ok(mut message) = strict_json::value(&body, DEPTH_MAX) else {
            return Err(self.broken("JSON that cannot be read"));
        };
        let changed = self.see(&mut message);
        if self.own.is_empty() {
            return Ok(if changed { message.to_string().into() } else { body });
        }
        let mut all = std::mem::take(&mut self.own);
        match message {
            Value::Array(more) => all.extend(more),
            one => all.push(one),
        }
        Ok(Value::Array(all).to_string().into())
    }

    /// Looks at a message of the server; true when something was taken out of it.
    pub fn see(&mut self, message: &mut Value) -> bool {
        match &*message {
            Value::Array(all) => all.iter().filter_map(Value::as_object).for_each(|m| self.settle(m)),
            Value::Object(one) => self.settle(one),
            _ => {}
        }
        let unknown = Known::default();
        self.server.rules.filter(message, self.state.known.get(&self.server.name).unwrap_or(&unknown))
    }

    /// The answer to a tool call is noted, and kept where it may be.
    fn settle(&self, answer: &Map<String, Value>) {
        let Some(id) = answer.get("id").filter(|_| !answer.contains_key("method")) else { return };
        let Some(waiting) = self.waiting.iter().find(|w| w.id == *id) else { return };
        let (result, good) = message::outcome(answer);
        self.record.result(waiting.number, result);
        if let (true, Some((key, ttl)), Some(results)) = (good, waiting.keep, &self.state.results)
            && let Some(result) = answer.get("result")
        {
            results.put(key, result, ttl);
        }
    }

    /// The gateway's own answers, as a stream's first events.
    pub fn own_events(&mut self) -> Option<Bytes> {
        let own = std::mem::take(&mut self.own);
        let text: String = own.iter().map(|a| crate::base::sse::event(&a.to_string())).collect();
        (!text.is_empty()).then(|| text.into())
    }

    fn returned(&self, headers: &HeaderMap) -> HeaderMap {
        let mut out = HeaderMap::new();
        for name in RETURNED {
            out.extend(headers.get(&name).map(|v| (name, v.clone())));
        }
        if self.server.passes_credentials {
            let name = header::WWW_AUTHENTICATE;
            out.extend(headers.get(&name).map(|v| (name, v.clone())));
        }
        out
    }

    /// An error of the server. What it says about credentials is the client's business only where they are its own.
    async fn refused(self, fetched: Fetched) -> Reply {
        let status = fetched.status;
        let own_key = matches!(status.as_u16(), 401 | 403) && !self.server.passes_credentials;
        if own_key || !(status.is_client_error() || status.is_server_error()) {
            let what = if own_key { "the gateway's credentials were refused" } else { "a redirect" };
            return *self.broken(what);
        }
        self.note_all("error");
        let (headers, kind) = (self.returned(&fetched.headers), essence(&fetched.headers));
        let mut reply = Reply::new(status, Source::Mcp).because("mcp_error");
        if let ("application/json" | "text/plain", Ok(body)) = (kind.as_str(), fetched.bytes(ERROR_BYTES_MAX).await) {
            reply = reply.with(header::CONTENT_TYPE, &kind);
            reply.body = Body::Full(body);
        }
        reply.headers.extend(headers);
        uncached(reply)
    }

    /// No answer at all.
    pub fn unreachable(self, e: &FetchError) -> Reply {
        self.failed(e)
    }

    fn failed(&self, e: &FetchError) -> Reply {
        self.note_all("unreachable");
        let status = if e.is_timeout() { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
        let text = format!("the server {:?} gave no answer: {e}", self.server.name);
        uncached(self.error(status, &text).because(e.as_str()))
    }

    /// An answer that cannot be passed on.
    fn broken(&self, what: &str) -> Box<Reply> {
        self.note_all("error");
        let text = format!("the server {:?} gave no usable answer: {what}", self.server.name);
        Box::new(uncached(self.error(StatusCode::BAD_GATEWAY, &text).because("mcp_garbage")))
    }

    fn error(&self, status: StatusCode, text: &str) -> Reply {
        let id = self.waiting.first().filter(|_| !self.listed).map_or(Value::Null, |w| w.id.clone());
        Reply::json(status, Source::Gateway, &message::error(&id, SERVER_ERROR, text))
    }

    fn note_all(&self, result: &'static str) {
        self.waiting.iter().for_each(|w| self.record.result(w.number, result));
    }
}

/// The media type without parameters.
fn essence(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
