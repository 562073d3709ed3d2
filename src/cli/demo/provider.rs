//! The demo's model provider: the OpenAI dialect, answers from a small FAQ, at the pace of a real model.

use super::faq;
use super::serve::{Asked, Site};
use crate::base::clock::Clock;
use crate::base::reply::{Body, Broken, Chunks, Reply};
use crate::base::source::Source;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many model calls (chat and embeddings) have been answered so far.
const CALLS: HeaderName = HeaderName::from_static("x-model-calls");
/// The models on offer.
const MODELS: [&str; 3] = ["demo-small", "demo-large", EMBEDDING_MODEL];
const EMBEDDING_MODEL: &str = "demo-embedding";
/// The length of an embedding.
const DIMENSIONS: usize = 384;
/// What the provider adds to each message's text when it counts prompt tokens.
const TOKENS_PER_MESSAGE: usize = 4;

/// The provider.
pub struct Provider {
    clock: Clock,
    latency: Duration,
    calls: AtomicU64,
}

#[derive(Deserialize)]
struct Chat {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    stream: bool,
    stream_options: Option<StreamOptions>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Value,
}

#[derive(Deserialize)]
struct Embed {
    model: String,
    input: Value,
    encoding_format: Option<String>,
}

/// Why a call is refused; becomes an error in the dialect's form.
struct Refusal {
    status: StatusCode,
    message: String,
    code: &'static str,
}

/// A finished answer, before it is shown as JSON or as a stream.
struct Completion {
    id: String,
    created: u64,
    model: String,
    text: String,
    usage: Value,
}

#[async_trait]
impl Site for Provider {
    async fn answer(&self, asked: Asked) -> Reply {
        let reply = match (&asked.method, asked.path.as_str()) {
            (&Method::POST, "/v1/chat/completions") => match self.chat(&asked.body) {
                Ok(reply) => reply.ready().await,
                Err(refusal) => refusal.reply(),
            },
            (&Method::POST, "/v1/embeddings") => self.embeddings(&asked.body).unwrap_or_else(Refusal::reply),
            (&Method::GET, "/v1/models") => self.models(),
            (method, path) => {
                let message = format!("Unknown request URL: {method} {path}");
                Refusal { status: StatusCode::NOT_FOUND, message, code: "unknown_url" }.reply()
            }
        };
        reply.with(CALLS, &self.calls.load(Ordering::Relaxed).to_string())
    }
}

/// A reply that is due only after a while.
struct Due {
    after: Duration,
    reply: Reply,
}

impl Due {
    async fn ready(self) -> Reply {
        tokio::time::sleep(self.after).await;
        self.reply
    }
}

impl Provider {
    /// A provider whose whole answer takes `latency`.
    pub fn new(clock: Clock, latency: Duration) -> Self {
        Provider { clock, latency, calls: AtomicU64::new(0) }
    }

    fn chat(&self, body: &[u8]) -> Result<Due, Refusal> {
        let chat: Chat = parse(body)?;
        let model = known(chat.model)?;
        let question = chat.messages.iter().rev().find(|m| m.role == "user").map(|m| text_of(&m.content));
        let question = question.ok_or_else(|| bad_request("messages must contain a user message"))?;
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let prompt: usize =
            chat.messages.iter().map(|m| faq::token_count(&text_of(&m.content)) + TOKENS_PER_MESSAGE).sum();
        let text = faq::answer(&question);
        let completion_tokens = faq::token_count(&text);
        let usage = json!({
            "prompt_tokens": prompt,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt + completion_tokens,
        });
        let made =
            Completion { id: format!("chatcmpl-demo-{number}"), created: self.clock.unix_secs(), model, text, usage };
        if !chat.stream {
            return Ok(Due {
                after: self.latency,
                reply: Reply::json(StatusCode::OK, Source::Provider, &made.whole()),
            });
        }
        let with_usage = chat.stream_options.is_some_and(|o| o.include_usage);
        // The head comes at once, as from real providers; the first token after a quarter of the time.
        Ok(Due { after: Duration::ZERO, reply: stream(made.events(with_usage), self.latency) })
    }

    fn embeddings(&self, body: &[u8]) -> Result<Reply, Refusal> {
        let embed: Embed = parse(body)?;
        let model = known(embed.model)?;
        let texts: Vec<String> = match &embed.input {
            Value::String(one) => vec![one.clone()],
            Value::Array(many) => many.iter().map(text_of).collect(),
            _ => return Err(bad_request("input must be a string or an array of strings")),
        };
        self.calls.fetch_add(1, Ordering::Relaxed);
        let packed = embed.encoding_format.as_deref() == Some("base64");
        let data: Vec<Value> = texts
            .iter()
            .enumerate()
            .map(|(index, text)| json!({ "object": "embedding", "index": index, "embedding": vector(text, packed) }))
            .collect();
        let tokens: usize = texts.iter().map(|text| faq::token_count(text)).sum();
        let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
        let body = json!({ "object": "list", "data": data, "model": model, "usage": usage });
        Ok(Reply::json(StatusCode::OK, Source::Provider, &body))
    }

    fn models(&self) -> Reply {
        let created = self.clock.unix_secs();
        let list: Vec<Value> = MODELS
            .iter()
            .map(|id| json!({ "id": id, "object": "model", "created": created, "owned_by": "demo" }))
            .collect();
        Reply::json(StatusCode::OK, Source::Provider, &json!({ "object": "list", "data": list }))
    }
}

impl Completion {
    fn whole(&self) -> Value {
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": self.text, "refusal": null },
                "logprobs": null, "finish_reason": "stop",
            }],
            "usage": self.usage,
        })
    }

    /// The events of a stream: the role, a delta per token, the finish, the usage if asked for, the end mark.
    fn events(&self, with_usage: bool) -> VecDeque<Bytes> {
        let chunk = |delta: Value, finish: Value| {
            let mut chunk = json!({
                "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
                "choices": [{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish }],
            });
            if with_usage && let Some(fields) = chunk.as_object_mut() {
                fields.insert("usage".to_owned(), Value::Null);
            }
            frame(&chunk)
        };
        let mut events = VecDeque::from([chunk(json!({ "role": "assistant", "content": "" }), Value::Null)]);
        events.extend(faq::tokens(&self.text).into_iter().map(|token| chunk(json!({ "content": token }), Value::Null)));
        events.push_back(chunk(json!({}), json!("stop")));
        if with_usage {
            events.push_back(frame(&json!({
                "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
                "choices": [], "usage": self.usage,
            })));
        }
        events.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
        events
    }
}

/// Events one after the other: the first after a quarter of the whole time, the others spread over the rest.
struct Paced {
    events: VecDeque<Bytes>,
    first: Duration,
    each: Duration,
    begun: bool,
}

#[async_trait]
impl Chunks for Paced {
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        let event = self.events.pop_front()?;
        tokio::time::sleep(if self.begun { self.each } else { self.first }).await;
        self.begun = true;
        Some(Ok(event))
    }
}

fn stream(events: VecDeque<Bytes>, latency: Duration) -> Reply {
    let first = latency / 4;
    let each = (latency - first) / u32::try_from(events.len()).unwrap_or(u32::MAX).max(1);
    let mut reply = Reply::new(StatusCode::OK, Source::Provider);
    reply.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    reply.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply.body = Body::Stream(Box::new(Paced { events, first, each, begun: false }));
    reply
}

fn frame(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|fault| bad_request(&format!("We could not parse the JSON body: {fault}")))
}

fn known(model: String) -> Result<String, Refusal> {
    if MODELS.contains(&model.as_str()) {
        return Ok(model);
    }
    let message = format!("The model `{model}` does not exist");
    Err(Refusal { status: StatusCode::NOT_FOUND, message, code: "model_not_found" })
}

fn bad_request(message: &str) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, message: message.to_owned(), code: "invalid_value" }
}

impl Refusal {
    fn reply(self) -> Reply {
        let body = json!({
            "error": { "message": self.message, "type": "invalid_request_error", "param": null, "code": self.code },
        });
        Reply::json(self.status, Source::Provider, &body)
    }
}

/// The text of a message's content: a string, or the text parts of an array.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|p| p.get("text").and_then(Value::as_str)).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// A stand-in for an embedding: each word adds to one dimension, the whole has length one. Equal texts have equal
/// vectors and texts with common words are near each other; that is all a demo needs.
fn vector(text: &str, packed: bool) -> Value {
    let mut vector = vec![0.0_f32; DIMENSIONS];
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let hash = xxhash_rust::xxh3::xxh3_64(word.to_lowercase().as_bytes());
        let dimension = usize::try_from(hash % DIMENSIONS as u64).unwrap_or(0);
        if let Some(value) = vector.get_mut(dimension) {
            *value += 1.0;
        }
    }
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt().max(1.0);
    let unit: Vec<f32> = vector.iter().map(|v| v / length).collect();
    if packed {
        let bytes: Vec<u8> = unit.iter().flat_map(|v| v.to_le_bytes()).collect();
        return json!(BASE64.encode(bytes));
    }
    json!(unit)
}
