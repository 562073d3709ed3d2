//! One try at one provider: the request as the provider wants it, and what of the answer can be used.

use super::catalog::Model;
use super::prompt::{Operation, Prompt};
use super::record::has_content;
use super::replay;
use super::sse::{DONE, Frame, Parser};
use super::verdict::{Failure, broken, error_in_success, garbage, refused, returned, unreachable};
use crate::fetch::{Fetched, Fetcher};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::Value;
use std::time::Duration;

/// The largest complete answer.
pub const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Events held back at most while waiting to see whether a stream starts with an error.
const PEEK_FRAMES_MAX: usize = 8;

/// Request fields of the client that reach the provider. Never its credentials, and nothing that selects an account
/// (`openai-organization`, `openai-project`): the key is the gateway's.
const FORWARDED: [HeaderName; 3] = [BETA, HeaderName::from_static("x-client-request-id"), IDEMPOTENCY_KEY];
const BETA: HeaderName = HeaderName::from_static("openai-beta");
/// Names one call to one model. A second model gets none: to the same provider it would be a repetition, to be
/// answered with the first one's failure or refused as another request under a used key.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// A provider's good answer.
pub enum Opened {
    /// A complete JSON answer.
    Whole {
        /// Fields for the client.
        headers: HeaderMap,
        /// The bytes as received.
        body: Bytes,
        /// The same, parsed.
        json: Value,
    },
    /// A stream that has begun well.
    Live {
        /// Fields for the client.
        headers: HeaderMap,
        /// The stream.
        live: Box<Live>,
    },
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
pub async fn ask(fetcher: &Fetcher, model: &Model, prompt: &Prompt, client: &HeaderMap) -> Result<Opened, Failure> {
    let headers = request_headers(model, prompt.facts.stream, client);
    let (path, body) = (prompt.operation.path(), prompt.body_for(&model.upstream));
    let sent = fetcher.send(&model.provider.endpoint, Method::POST, path, headers, body).await;
    let fetched = sent.map_err(|e| unreachable(model, &e))?;
    if !fetched.status.is_success() {
        return Err(refused(model, fetched).await);
    }
    let kind = media_type(&fetched.headers);
    match (prompt.facts.stream, kind.as_str()) {
        (true, "text/event-stream") => open_stream(model, fetched).await,
        (stream, "application/json") => {
            let opened = open_whole(model, prompt.operation, fetched).await?;
            if stream { as_stream(model, prompt, opened) } else { Ok(opened) }
        }
        _ => Err(garbage(model, "an answer of another media type than asked for")),
    }
}

/// The client's `openai-beta` as it is forwarded; empty when there is none.
pub fn beta(client: &HeaderMap) -> &[u8] {
    client.get(BETA).map_or(&[], HeaderValue::as_bytes)
}

fn request_headers(model: &Model, stream: bool, client: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::new();
    for name in FORWARDED {
        if let Some(value) = client.get(&name) {
            out.insert(name, value.clone());
        }
    }
    let accept = if stream { "text/event-stream" } else { "application/json" };
    out.insert(header::ACCEPT, HeaderValue::from_static(accept));
    out.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    out.insert(header::USER_AGENT, HeaderValue::from_static(concat!("sluicegate/", env!("CARGO_PKG_VERSION"))));
    out.extend(model.provider.headers.iter().map(|(n, v)| (n.clone(), v.clone())));
    out
}

/// The media type without parameters; an encoded body is no media type that was asked for.
fn media_type(headers: &HeaderMap) -> String {
    let encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|v| v.as_bytes() != b"identity");
    let text = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if encoded { String::new() } else { essence }
}

async fn open_whole(model: &Model, operation: Operation, fetched: Fetched) -> Result<Opened, Failure> {
    let headers = returned(&fetched.headers);
    let body = fetched.bytes(ANSWER_BYTES_MAX).await.map_err(|e| unreachable(model, &e))?;
    let Ok(json) = serde_json::from_slice::<Value>(&body) else {
        return Err(garbage(model, "a body that is not JSON"));
    };
    if json.get("error").is_some_and(|e| !e.is_null()) {
        return Err(error_in_success(model, &json));
    }
    let list = if operation == Operation::Chat { "choices" } else { "data" };
    match json.get(list) {
        Some(Value::Array(_)) => Ok(Opened::Whole { headers, body, json }),
        _ => Err(garbage(model, "JSON that is no answer to this request")),
    }
}

/// A provider that answers a streaming request with one complete JSON: the client gets its stream all the same.
fn as_stream(model: &Model, prompt: &Prompt, opened: Opened) -> Result<Opened, Failure> {
    let Opened::Whole { headers, json, .. } = opened else { return Ok(opened) };
    let text = replay::stream(&json, prompt.facts.wants_usage);
    let body = text.ok_or_else(|| garbage(model, "JSON that is no answer to this request"))?.into();
    Ok(Opened::Whole { headers, body, json })
}

/// Looks at a stream's first events: an error before any content is a failure like any other, and the next model
/// can still be tried.
async fn open_stream(model: &Model, fetched: Fetched) -> Result<Opened, Failure> {
    let headers = returned(&fetched.headers);
    let mut live = Live { peeked: Vec::new(), fetched, parser: Parser::default(), ended: false };
    let mut seen: Vec<Frame> = Vec::new();
    let mut begun = false;
    while !begun && seen.len() < PEEK_FRAMES_MAX {
        let more = live.frames().await.map_err(|reason| broken(model, reason))?;
        let Some(frames) = more else { return Err(broken(model, "cut")) };
        for frame in &frames {
            // What comes after the first content is the running stream's business, whatever it is.
            begun = begun || begins(model, frame)?;
        }
        seen.extend(frames);
    }
    live.peeked = seen;
    Ok(Opened::Live { headers, live: Box::new(live) })
}

/// Whether a frame carries content. An error, a malformed event or an empty stream is a failure.
fn begins(model: &Model, frame: &Frame) -> Result<bool, Failure> {
    let Some(data) = &frame.data else { return Ok(false) };
    if data == DONE {
        return Err(garbage(model, "an empty stream"));
    }
    let Ok(chunk) = serde_json::from_str::<Value>(data) else {
        return Err(garbage(model, "an event that is not JSON"));
    };
    if chunk.get("error").is_some_and(|e| !e.is_null()) {
        return Err(error_in_success(model, &chunk));
    }
    let choices = chunk.get("choices").and_then(Value::as_array);
    Ok(choices.into_iter().flatten().filter_map(Value::as_object).any(has_content))
}
