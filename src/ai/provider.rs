//! One try at one provider: the request as the provider wants it, and what of the answer can be used.

use super::catalog::{Model, Peer};
use super::dialect::chat::Dropped;
use super::dialect::{self, Seen, Target, Wanted, anthropic, openai_chat};
use super::prompt::{Operation, Prompt};
use super::sse::{Frame, Parser};
use super::usage::Usage;
use super::verdict::{Failure, broken, error_in_success, garbage, refused, returned, unreachable, unsupported};
use crate::fetch::{Fetched, Fetcher};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::Value;
use std::borrow::Cow;
use std::time::Duration;

/// The largest complete answer.
pub const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Events held back at most while waiting to see whether a stream starts with an error.
const PEEK_FRAMES_MAX: usize = 8;

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
    fetched: Fetched,
    parser: Parser,
    ended: bool,
}

impl Live {
    /// The next frames; `None` at the provider's clean end.
    pub async fn frames(&mut self) -> Result<Option<Vec<Frame>>, &'static str> {
        if !self.peeked.is_empty() {
            return Ok(Some(std::mem::take(&mut self.peeked)));
        }
        if self.ended {
            return Ok(None);
        }
        match self.fetched.chunk().await {
            Ok(Some(bytes)) => self.parser.push(&bytes).map(Some).map_err(|_| "event_too_large"),
            Ok(None) => {
                self.ended = true;
                Ok(Some(self.parser.finish().into_iter().collect()))
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
    let headers = request_headers(peer, asking);
    let sent = fetcher.send(&model.provider.endpoint, Method::POST, &path, headers, body).await;
    let fetched = sent.map_err(|e| unreachable(model, &e))?;
    if !fetched.status.is_success() {
        return Err(refused(peer, fetched).await);
    }
    let kind = media_type(&fetched.headers);
    match (prompt.facts.stream, kind.as_str()) {
        (true, "text/event-stream") => open_stream(peer, fetched, dropped).await,
        (stream, "application/json") => {
            let opened = open_whole(peer, asking, fetched, dropped).await?;
            if stream { as_stream(model, prompt, opened) } else { Ok(opened) }
        }
        _ => Err(garbage(model, "an answer of another media type than asked for")),
    }
}

/// Where and what to send. Within one dialect these are the client's bytes with the model's name replaced.
fn order(peer: Peer<'_>, prompt: &Prompt) -> Result<(Cow<'static, str>, Bytes, Dropped), Failure> {
    let model = peer.model;
    let Some(path) = peer.dialect.wire().path(prompt.operation, &model.upstream, prompt.facts.stream) else {
        let operation = prompt.operation.as_str();
        let message = format!("the provider {:?} has no endpoint for {operation}", model.provider.name);
        return Err(unsupported(message, None));
    };
    if peer.dialect == prompt.dialect {
        return Ok((path, prompt.body_for(&model.upstream), Dropped::default()));
    }
    let (body, dropped) = translated(peer, prompt)?;
    Ok((path, body.to_string().into(), dropped))
}

/// The request in the provider's dialect.
fn translated(peer: Peer<'_>, prompt: &Prompt) -> Result<(Value, Dropped), Failure> {
    let model = peer.model;
    let target = Target { model: &model.upstream, max_tokens: model.max_tokens, thinking: model.thinking };
    dialect::request((prompt.dialect, peer.dialect), &prompt.fields, &target)
        .map_err(|e| unsupported(format!("{} {}", e.param, e.message), Some(&e.param)))
}

/// What a translation for this model leaves out of the request: the same as when its stored answer was made, as
/// everything in the request is part of the key.
pub fn dropped(model: &Model, prompt: &Prompt) -> Dropped {
    let peer = model.peer(prompt.dialect);
    if prompt.dialect == peer.dialect || !prompt.operation.is_chat() {
        return Dropped::default();
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

fn request_headers(peer: Peer<'_>, asking: &Asking<'_>) -> HeaderMap {
    let (mut out, stream) = (HeaderMap::new(), asking.prompt.facts.stream);
    let wire = peer.dialect.wire();
    let own = if peer.dialect == asking.prompt.dialect { wire.forwarded() } else { &[] };
    for name in FORWARDED.iter().chain(own) {
        for value in asking.client.get_all(name) {
            out.append(name.clone(), value.clone());
        }
    }
    wire.required(&mut out);
    let accept = if stream { "text/event-stream" } else { "application/json" };
    out.insert(header::ACCEPT, HeaderValue::from_static(accept));
    out.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    out.insert(header::USER_AGENT, HeaderValue::from_static(concat!("sluicegate/", env!("CARGO_PKG_VERSION"))));
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
    let headers = returned(&fetched.headers);
    let body = fetched.bytes(ANSWER_BYTES_MAX).await.map_err(|e| unreachable(model, &e))?;
    let Ok(json) = serde_json::from_slice::<Value>(&body) else {
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
        _ => wire.is_answer(&json),
    };
    if !fits {
        return Err(no_answer());
    }
    let usage = wire.usage(&json);
    if peer.dialect == prompt.dialect {
        return Ok(Opened::Whole { headers, body, json, usage, dropped });
    }
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

/// Looks at a stream's first events: an error before any content is a failure like any other, and the next model
/// can still be tried.
async fn open_stream(peer: Peer<'_>, fetched: Fetched, dropped: Dropped) -> Result<Opened, Failure> {
    let model = peer.model;
    let headers = returned(&fetched.headers);
    let mut live = Live { peeked: Vec::new(), fetched, parser: Parser::default(), ended: false };
    let mut seen: Vec<Frame> = Vec::new();
    let mut begun = false;
    while !begun && seen.len() < PEEK_FRAMES_MAX {
        let more = live.frames().await.map_err(|reason| broken(model, reason))?;
        let Some(frames) = more else { return Err(broken(model, "cut")) };
        for frame in &frames {
            // What comes after the first content is the running stream's business, whatever it is.
            begun = begun || begins(peer, frame)?;
        }
        seen.extend(frames);
    }
    live.peeked = seen;
    Ok(Opened::Live { headers, live: Box::new(live), dropped })
}

/// Whether a frame carries content. An error, a malformed event or an empty stream is a failure.
fn begins(peer: Peer<'_>, frame: &Frame) -> Result<bool, Failure> {
    let (model, wire) = (peer.model, peer.dialect.wire());
    match wire.look(frame) {
        Seen::Blank => Ok(false),
        Seen::Data(chunk) => Ok(wire.begins(&chunk)),
        Seen::End(_) => Err(garbage(model, "an empty stream")),
        Seen::Error(chunk) => Err(error_in_success(peer, &chunk)),
        Seen::Garbage => Err(garbage(model, "an event that is not JSON")),
    }
}
