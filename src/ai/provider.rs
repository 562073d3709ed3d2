//! One try at one provider: the request as the provider wants it, and what of the answer can be used.

use super::call::CallRecord;
use super::catalog::{Model, Peer, Provider};
use super::dialect::chat::{Dropped, Fields};
use super::dialect::{self, Dialect, Identity, Target, Wanted, anthropic, openai_chat};
use super::framing::Framing;
use super::peek;
use super::prompt::{Operation, Prompt};
use super::sse::Frame;
use super::usage::Usage;
use super::verdict::{Failure, error_in_success, garbage, refused, returned, unreachable, unsupported};
use crate::config::ai::Streaming;
use crate::fetch::{Endpoint, FetchError, Fetched, Fetcher};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::Value;
use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

/// The largest complete answer.
pub const ANSWER_BYTES_MAX: usize = 32 << 20;
/// The field in which AWS names a request, and the longest name that is taken over.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const REQUEST_ID_CHARS_MAX: usize = 64;

/// Request fields of the client that reach the provider. Never its credentials, and nothing that selects an account
/// (`openai-organization`, `openai-project`): the key is the gateway's.
const FORWARDED: [HeaderName; 2] = [HeaderName::from_static("x-client-request-id"), IDEMPOTENCY_KEY];
/// Names one call to one model. A second model gets none: to the same provider it would be a repetition, to be
/// answered with the first one's failure or refused as another request under a used key.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// A provider's good answer.
pub enum Opened {
    /// A complete JSON answer.
    Whole {
        /// Fields for the client.
        headers: HeaderMap,
        /// What the client gets: the bytes as received, or what a translation made of them.
        body: Bytes,
        /// The answer in the client's dialect.
        json: Value,
        /// What the provider counted.
        usage: Option<Usage>,
        /// What the translation left out.
        dropped: Dropped,
    },
    /// A stream that has begun well.
    Live {
        /// Fields for the client.
        headers: HeaderMap,
        /// The stream.
        live: Box<Live>,
        /// What the translation of the request left out.
        dropped: Dropped,
    },
}

/// What is asked of whichever model.
pub struct Asking<'a> {
    /// The client's request.
    pub prompt: &'a Prompt,
    /// The client's header fields.
    pub client: &'a HeaderMap,
    /// Seconds since 1970.
    pub now: u64,
    /// How a stream's start is watched.
    pub watch: Streaming,
    /// Where it is noted what a provider counted for an answer that nobody gets.
    pub record: &'a CallRecord,
}

impl Asking<'_> {
    fn wanted(&self) -> Wanted {
        Wanted { created: self.now, usage: self.prompt.facts.wants_usage }
    }
}

/// A running stream: frames as the provider produces them.
pub struct Live {
    /// Frames already read, in order.
    pub peeked: Vec<Frame>,
    /// What the answer is called where the provider gives it no name.
    pub identity: Identity,
    fetched: Fetched,
    framing: Framing,
    ended: bool,
}

impl Live {
    /// A stream of which nothing was read.
    pub(super) fn new(model: &Model, fetched: Fetched) -> Live {
        let (identity, framing) = (identity(model, &fetched.headers), Framing::of(&media_type(&fetched.headers)));
        Live { peeked: Vec::new(), identity, fetched, framing, ended: false }
    }

    /// The next frames; `None` at the provider's clean end.
    pub async fn frames(&mut self) -> Result<Option<Vec<Frame>>, &'static str> {
        if !self.peeked.is_empty() {
            return Ok(Some(std::mem::take(&mut self.peeked)));
        }
        if self.ended {
            return Ok(None);
        }
        match self.fetched.chunk().await {
            Ok(Some(bytes)) => self.framing.push(&bytes).map(Some),
            Ok(None) => {
                self.ended = true;
                Ok(Some(self.framing.finish()?.into_iter().collect()))
            }
            Err(e) => Err(e.as_str()),
        }
    }

    /// Reads what follows the last event, so that the connection can serve again; gives up after a second.
    pub fn drain(mut self) {
        if !self.ended {
            tokio::spawn(async move {
                let rest = async { while let Ok(Some(_)) = self.fetched.chunk().await {} };
                let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
            });
        }
    }
}

/// Asks one model.
pub async fn ask(fetcher: &Fetcher, model: &Model, asking: &Asking<'_>) -> Result<Opened, Failure> {
    let prompt = asking.prompt;
    let peer = model.peer(prompt.dialect);
    let (path, body, dropped) = order(peer, prompt)?;
    let mut headers = request_headers(peer, asking);
    sign(model, &path, (&mut headers, &body), asking.now)?;
    let sent = fetcher.send(&model.provider.endpoint, Method::POST, &path, headers, body).await;
    let fetched = sent.map_err(|e| unreachable(model, &e))?;
    if !fetched.status.is_success() {
        return Err(refused(peer, fetched).await);
    }
    let kind = media_type(&fetched.headers);
    match (prompt.facts.stream, kind.as_str()) {
        (true, kind) if kind == peer.dialect.wire().stream_type() => {
            let headers = returned(&fetched.headers);
            let live = peek::open(peer, asking, Live::new(model, fetched)).await?;
            Ok(Opened::Live { headers, live: Box::new(live), dropped })
        }
        (stream, "application/json") => {
            let opened = open_whole(peer, asking, fetched, dropped).await?;
            if stream { as_stream(model, prompt, opened) } else { Ok(opened) }
        }
        _ => Err(garbage(model, "an answer of another media type than asked for")),
    }
}

/// Signs what is about to be sent, where the provider wants it.
fn sign(model: &Model, path: &str, (headers, body): (&mut HeaderMap, &Bytes), now: u64) -> Result<(), Failure> {
    let Provider { signer: Some(signer), endpoint: Endpoint { url, .. }, .. } = &*model.provider else { return Ok(()) };
    let now = UNIX_EPOCH + Duration::from_secs(now);
    let signed = signer.sign((url, &format!("{}{path}", url.path)), headers, body, now);
    signed.map_err(|e| unreachable(model, &FetchError::Request(e.to_string())))
}

/// What an answer is called where the provider gives it no name: by the id that its header has, else by a new one.
fn identity(model: &Model, headers: &HeaderMap) -> Identity {
    let told = headers.get(REQUEST_ID).and_then(|v| v.to_str().ok()).filter(|id| id.len() <= REQUEST_ID_CHARS_MAX);
    let id = told.map_or_else(|| format!("msg_{}", uuid::Uuid::new_v4().simple()), str::to_owned);
    Identity { id, model: model.name.clone() }
}

/// Where and what to send. Within one dialect these are the client's bytes with the model's name replaced.
fn order(peer: Peer<'_>, prompt: &Prompt) -> Result<(Cow<'static, str>, Bytes, Dropped), Failure> {
    let model = peer.model;
    let Some(path) = peer.path(prompt.operation, prompt.facts.stream) else {
        let operation = prompt.operation.as_str();
        let message = format!("the provider {:?} has no endpoint for {operation}", model.provider.name);
        return Err(unsupported(message, None));
    };
    let (body, dropped) = if peer.dialect == prompt.dialect {
        (prompt.body_for(&model.upstream), not_taken(peer, &prompt.fields))
    } else {
        let (body, dropped) = translated(peer, prompt)?;
        (body.to_string().into(), dropped)
    };
    let Some(quirks) = peer.quirks() else { return Ok((path, body, dropped)) };
    let fitted = std::str::from_utf8(&body).map(|text| quirks.fit(text));
    let body = match fitted {
        Ok(Cow::Owned(text)) => text.into(),
        _ => body,
    };
    Ok((path, body, dropped))
}

/// The request in the provider's dialect.
fn translated(peer: Peer<'_>, prompt: &Prompt) -> Result<(Value, Dropped), Failure> {
    let model = peer.model;
    let target = Target { model: &model.upstream, max_tokens: model.max_tokens, thinking: model.thinking };
    let (body, mut dropped) = dialect::request((prompt.dialect, peer.dialect), &prompt.fields, &target)
        .map_err(|e| unsupported(format!("{} {}", e.param, e.message), Some(&e.param)))?;
    if let Some(fields) = body.as_object() {
        dropped.extend(&not_taken(peer, fields));
    }
    Ok((body, dropped))
}

/// What the server does not take of a request in its own dialect.
fn not_taken(peer: Peer<'_>, fields: &Fields) -> Dropped {
    peer.quirks().map(|q| q.dropped(fields)).unwrap_or_default()
}

/// What a translation for this model leaves out of the request: the same as when its stored answer was made, as
/// everything in the request is part of the key.
pub fn dropped(model: &Model, prompt: &Prompt) -> Dropped {
    let peer = model.peer(prompt.dialect);
    if !prompt.operation.is_chat() {
        return Dropped::default();
    }
    if prompt.dialect == peer.dialect {
        return not_taken(peer, &prompt.fields);
    }
    translated(peer, prompt).map_or_else(|_| Dropped::default(), |(_, dropped)| dropped)
}

/// The client's fields that select a version or a beta, as they are forwarded.
pub fn beta(client: &HeaderMap) -> Vec<u8> {
    let mut out = Vec::new();
    for name in openai_chat::FORWARDED.iter().chain(&anthropic::FORWARDED) {
        for value in client.get_all(name) {
            // OpenAI's alone stands without its name, as it always has: keys on disk stay what they are.
            let named = !openai_chat::FORWARDED.contains(name);
            if named {
                out.extend_from_slice(name.as_str().as_bytes());
                out.push(b'=');
            }
            out.extend_from_slice(value.as_bytes());
            if named {
                out.push(b'\n');
            }
        }
    }
    out
}

/// The client's fields that reach the provider, and those that the provider must have.
pub fn forwarded(peer: Peer<'_>, client: (Dialect, &HeaderMap)) -> HeaderMap {
    let mut out = HeaderMap::new();
    let wire = peer.dialect.wire();
    let own = if peer.dialect == client.0 { wire.forwarded() } else { &[] };
    for name in FORWARDED.iter().chain(own) {
        for value in client.1.get_all(name) {
            out.append(name.clone(), value.clone());
        }
    }
    wire.required(&mut out);
    out.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    out.insert(header::USER_AGENT, HeaderValue::from_static(concat!("sluicegate/", env!("CARGO_PKG_VERSION"))));
    out
}

fn request_headers(peer: Peer<'_>, asking: &Asking<'_>) -> HeaderMap {
    let (stream, wire) = (asking.prompt.facts.stream, peer.dialect.wire());
    let mut out = forwarded(peer, (asking.prompt.dialect, asking.client));
    let accept = if stream { wire.stream_type() } else { "application/json" };
    out.insert(header::ACCEPT, HeaderValue::from_static(accept));
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    out.extend(peer.model.provider.headers.iter().map(|(n, v)| (n.clone(), v.clone())));
    out
}

/// The media type without parameters; an encoded body is no media type that was asked for.
fn media_type(headers: &HeaderMap) -> String {
    let encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|v| v.as_bytes() != b"identity");
    let text = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if encoded { String::new() } else { essence }
}

async fn open_whole(
    peer: Peer<'_>,
    asking: &Asking<'_>,
    fetched: Fetched,
    mut dropped: Dropped,
) -> Result<Opened, Failure> {
    let (model, wire) = (peer.model, peer.dialect.wire());
    let (headers, identity) = (returned(&fetched.headers), identity(model, &fetched.headers));
    let body = fetched.bytes(ANSWER_BYTES_MAX).await.map_err(|e| unreachable(model, &e))?;
    let Ok(mut json) = serde_json::from_slice::<Value>(&body) else {
        return Err(garbage(model, "a body that is not JSON"));
    };
    if json.get("error").is_some_and(|e| !e.is_null()) {
        return Err(error_in_success(peer, &json));
    }
    let prompt = asking.prompt;
    let no_answer = || garbage(model, "JSON that is no answer to this request");
    let fits = match prompt.operation {
        Operation::Embeddings => json.get("data").is_some_and(Value::is_array),
        Operation::CountTokens => json.get("input_tokens").is_some_and(Value::is_u64),
        Operation::CountContents => json.get("totalTokens").is_some_and(Value::is_u64),
        _ => wire.is_answer(&json),
    };
    if !fits {
        return Err(no_answer());
    }
    let usage = wire.usage(&json);
    if peer.dialect == prompt.dialect {
        return Ok(Opened::Whole { headers, body, json, usage, dropped });
    }
    wire.name(&mut json, &identity);
    let told = dialect::answer((peer.dialect, prompt.dialect), &json, asking.wanted(), &mut dropped);
    let json = told.map_err(|_| no_answer())?;
    Ok(Opened::Whole { headers, body: json.to_string().into(), json, usage, dropped })
}

/// A provider that answers a streaming request with one complete JSON: the client gets its stream all the same.
fn as_stream(model: &Model, prompt: &Prompt, opened: Opened) -> Result<Opened, Failure> {
    let Opened::Whole { headers, json, usage, dropped, .. } = opened else { return Ok(opened) };
    let text = prompt.dialect.wire().replay(&json, prompt.facts.wants_usage);
    let body = text.ok_or_else(|| garbage(model, "JSON that is no answer to this request"))?.into();
    Ok(Opened::Whole { headers, body, json, usage, dropped })
}
