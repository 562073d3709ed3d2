//! Realtime sessions: a websocket to a provider, opened with the gateway's key and the provider's name for the model.
//! Its messages are not read: they pass as they are, and what they cost is not known here.

use super::endpoint::parameter;
use super::open;
use crate::ai::call::{CallRecord, Ending};
use crate::ai::catalog::Peer;
use crate::ai::dialect::Dialect;
use crate::ai::error::AiError;
use crate::ai::prompt::Operation;
use crate::ai::provider::forwarded;
use crate::ai::{AiDirectives, Context, Gateway, MODEL_CHARS_MAX};
use crate::config::ai::passthrough::Endpoint;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Subprotocols by which browsers send what they have no field for. The first holds a key; all of them choose an
/// account, which is the gateway's choice.
const PRIVATE: [&str; 3] = ["openai-insecure-api-key.", "openai-organization.", "openai-project."];
/// Fields of the handshake (RFC 6455 §4.1), subprotocols apart.
const HANDSHAKE: [HeaderName; 3] =
    [header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_VERSION, header::SEC_WEBSOCKET_EXTENSIONS];

/// The way to a provider for one session.
pub struct Line {
    /// The provider's addresses, never none.
    pub addresses: Vec<SocketAddr>,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// Its host name, for TLS.
    pub host: String,
    /// Path and query there.
    pub path: String,
    /// The request's fields, the key among them.
    pub headers: HeaderMap,
    /// Limit for the connection and the TLS handshake.
    pub connect: Duration,
    /// The longest silence of the provider.
    pub idle: Duration,
    /// When the session has lasted long enough.
    pub until: Instant,
    record: Arc<CallRecord>,
    since: Instant,
}

/// The model that a request for a session names.
pub fn model(query: Option<&str>) -> Result<String, AiError> {
    let named = query.and_then(|q| parameter(q, "model")).filter(|m| !m.is_empty());
    named.ok_or_else(|| AiError::invalid("realtime needs ?model=", Some("model"), "missing_field"))
}

impl Gateway {
    /// Chooses the provider of a session and finds out where it is.
    pub async fn line(
        &self,
        (asked, query): (&str, Option<&str>),
        directives: &AiDirectives,
        context: &Context,
        record: Arc<CallRecord>,
    ) -> Result<Line, AiError> {
        record.note(|c| {
            c.operation = Some(Operation::Pass(Endpoint::Realtime));
            c.stream = true;
            c.requested = asked.chars().take(MODEL_CHARS_MAX).collect();
        });
        let limits = open(&context.options, Endpoint::Realtime)?.realtime.clone();
        self.unguarded(directives, context)?;
        self.uncounted(context)?;
        let models = self.models_for(asked, Endpoint::Realtime, directives, (context, &record))?;
        let model = models.first().ok_or_else(|| AiError::NoModel("no model".to_owned()))?;
        let endpoint = &model.provider.endpoint;
        let addresses = self.fetcher.addresses(endpoint).await.map_err(|e| AiError::Provider {
            message: format!("the provider {:?} gave no answer: {e}", model.provider.name),
            timeout: e.is_timeout(),
            reason: e.as_str(),
        })?;
        record.note(|c| {
            (c.model, c.provider) = (Some(model.name.clone()), Some(model.provider.name.clone()));
        });
        let url = &endpoint.url;
        let since = Instant::now();
        Ok(Line {
            addresses,
            tls: url.tls,
            host: url.host.clone(),
            path: path(&url.path, &model.upstream, query),
            headers: headers(Peer { model, dialect: Dialect::Openai }, &url.authority(), &context.headers),
            connect: endpoint.connect,
            idle: limits.idle.0,
            until: since.checked_add(limits.total.0).unwrap_or(since),
            record,
            since,
        })
    }
}

impl Line {
    /// Whether the session has lasted long enough.
    pub fn over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Closes the record: the session has ended, or there was none.
    pub fn ended(&self, opened: bool) {
        let ending = if opened { Ending::Complete } else { Ending::Failed("realtime_refused") };
        self.record.note(|c| (c.took, c.ending) = (Some(self.since.elapsed()), ending));
    }
}

/// The path of a session. Of the client's query only what it is for passes: a key may stand in the rest.
fn path(prefix: &str, upstream: &str, query: Option<&str>) -> String {
    let mut out = format!("{prefix}/realtime?model={}", escaped(upstream));
    if let Some(intent) = query.and_then(|q| parameter(q, "intent")) {
        out.push_str("&intent=");
        out.push_str(&escaped(&intent));
    }
    out
}

/// A text with everything but RFC 3986's unreserved characters escaped.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

/// The request's fields: the handshake's, the gateway's, and of the client's what passes with every call.
fn headers(peer: Peer<'_>, authority: &str, client: &HeaderMap) -> HeaderMap {
    let mut out = forwarded(peer, (peer.dialect, client));
    out.remove(header::ACCEPT_ENCODING);
    out.extend(HeaderValue::from_str(authority).ok().map(|v| (header::HOST, v)));
    out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    for name in HANDSHAKE {
        out.extend(client.get(&name).map(|v| (name, v.clone())));
    }
    let asked = client.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    if let Some(protocols) = protocols(asked).and_then(|p| HeaderValue::from_str(&p).ok()) {
        out.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols);
    }
    out.extend(peer.model.provider.headers.iter().map(|(n, v)| (n.clone(), v.clone())));
    out
}

/// The subprotocols without those that carry credentials.
fn protocols<'a>(asked: impl Iterator<Item = &'a str>) -> Option<String> {
    let private = |p: &str| PRIVATE.iter().any(|prefix| p.to_ascii_lowercase().starts_with(prefix));
    let kept: Vec<&str> =
        asked.flat_map(|v| v.split(',')).map(str::trim).filter(|p| !p.is_empty() && !private(p)).collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_subprotocols_stay_here() {
        let asked = ["realtime, openai-insecure-api-key.sk-canary", "OpenAI-Project.p,openai-beta.realtime-v1"];
        assert_eq!(protocols(asked.into_iter()).unwrap(), "realtime, openai-beta.realtime-v1");
        assert_eq!(protocols(["openai-insecure-api-key.sk-canary"].into_iter()), None);
    }

    #[test]
    fn keys_in_the_query_stay_here_and_names_cannot_break_out() {
        let query = Some("api_key=sk-canary&model=rt&intent=trans%26cription&key=canary");
        assert_eq!(path("/v1", "gpt/rt?x=1", query), "/v1/realtime?model=gpt%2Frt%3Fx%3D1&intent=trans%26cription");
    }
}
