//! One model request, read once: what it asks (for the policy and the caches) and its original bytes (for the provider).

use super::dialect::Dialect;
use super::error::AiError;
use super::facts::{self, Facts};
use super::json::{Edit, ask_for_usage, members, splice};
use crate::base::strict_json;
use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value};
use std::ops::Range;

/// How deep a request body may nest.
const DEPTH_MAX: u8 = 100;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `POST …/chat/completions`.
    Chat,
    /// `POST …/messages`.
    Messages,
    /// `POST …/messages/count_tokens`.
    CountTokens,
    /// `POST …/embeddings`.
    Embeddings,
    /// `GET …/models`.
    Models,
    /// `GET …/models/{id}`.
    Model,
}

/// What the paths of the endpoints end in.
const ENDPOINTS: [(&str, Operation); 5] = [
    ("/chat/completions", Operation::Chat),
    ("/messages", Operation::Messages),
    ("/messages/count_tokens", Operation::CountTokens),
    ("/embeddings", Operation::Embeddings),
    ("/models", Operation::Models),
];

impl Operation {
    /// The operation at `path`, which ends in the endpoint's name whatever prefix the route has.
    pub fn of(method: &Method, path: &str) -> Result<Operation, AiError> {
        let path = path.trim_end_matches('/');
        let endpoint = ENDPOINTS.iter().find(|(end, _)| path.ends_with(end)).map(|(_, operation)| *operation);
        let operation = endpoint.or_else(|| model_in(path).map(|_| Operation::Model));
        let operation = operation.ok_or_else(|| AiError::NoEndpoint(path.to_owned()))?;
        let allowed = match operation {
            Operation::Models | Operation::Model => Method::GET,
            _ => Method::POST,
        };
        if *method == allowed { Ok(operation) } else { Err(AiError::Method { allowed }) }
    }

    /// The one spelling used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Chat => "chat",
            Operation::Messages => "messages",
            Operation::CountTokens => "count_tokens",
            Operation::Embeddings => "embeddings",
            Operation::Models => "models",
            Operation::Model => "model",
        }
    }

    /// What a client that asks so speaks.
    pub fn dialect(self) -> Dialect {
        match self {
            Operation::Messages | Operation::CountTokens => Dialect::Anthropic,
            _ => Dialect::Openai,
        }
    }

    /// Whether a provider bills it.
    pub fn is_billed(self) -> bool {
        !matches!(self, Operation::CountTokens | Operation::Models | Operation::Model)
    }

    /// Whether it is a chat, in whichever dialect.
    pub fn is_chat(self) -> bool {
        matches!(self, Operation::Chat | Operation::Messages)
    }
}

/// The model that a path `…/models/{id}` asks about, its percent-escapes decoded. An id may have slashes.
pub fn model_in(path: &str) -> Option<String> {
    let (_, id) = path.trim_end_matches('/').split_once("/models/")?;
    let mut bytes = Vec::with_capacity(id.len());
    let mut rest = id.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        let code = code.filter(|_| *first == b'%').and_then(|h| u8::from_str_radix(h, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8(bytes).ok()
}

/// One model request.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// What it asks for.
    pub operation: Operation,
    /// What the client speaks.
    pub dialect: Dialect,
    /// What it says.
    pub facts: Facts,
    /// Its fields, parsed.
    pub(super) fields: Map<String, Value>,
    body: Bytes,
    model_at: Range<usize>,
    stream_options_at: Option<Range<usize>>,
}

/// Reads a request body. Every fault is named with its place.
pub fn parse(operation: Operation, body: Bytes, bytes_max: usize) -> Result<Prompt, AiError> {
    let dialect = operation.dialect();
    if matches!(operation, Operation::Models | Operation::Model) {
        let (facts, fields, body) = (Facts::default(), Map::new(), Bytes::new());
        return Ok(Prompt { operation, dialect, facts, fields, body, model_at: 0..0, stream_options_at: None });
    }
    if body.len() > bytes_max {
        return Err(AiError::TooLarge { bytes_max });
    }
    let not_json = |e: &dyn std::fmt::Display| {
        AiError::invalid(format!("the request body is not valid JSON: {e}"), None, "invalid_json")
    };
    let text = std::str::from_utf8(&body).map_err(|e| not_json(&e))?;
    let document = strict_json::value(text.as_bytes(), DEPTH_MAX).map_err(|e| not_json(&e))?;
    let Value::Object(fields) = document else {
        let message = "the request body must be a JSON object, such as {\"model\": \"auto\", \"messages\": [...]}";
        return Err(AiError::invalid(message, None, "invalid_json"));
    };
    let places = members(text).map_err(|e| not_json(&e))?;
    let place = |name: &str| places.iter().find(|(key, _)| key == name).map(|(_, span)| span.clone());
    let facts = match operation {
        Operation::Embeddings => facts::embeddings(&fields)?,
        _ => dialect.wire().facts(&fields)?,
    };
    let model_at = place("model").unwrap_or_default();
    let stream_options_at = place("stream_options");
    Ok(Prompt { operation, dialect, facts, fields, model_at, stream_options_at, body })
}

impl Prompt {
    /// The body for a provider: the original bytes with the model's name replaced and, in a stream, usage asked for.
    pub fn body_for(&self, model: &str) -> Bytes {
        let Ok(text) = std::str::from_utf8(&self.body) else { return self.body.clone() };
        let mut edits = Vec::new();
        if model != self.facts.model {
            edits.push(Edit { span: self.model_at.clone(), text: Value::from(model).to_string() });
        }
        if self.dialect == Dialect::Openai && self.facts.stream && !self.facts.wants_usage {
            edits.extend(ask_for_usage(text, self.stream_options_at.as_ref()));
        }
        if edits.is_empty() { self.body.clone() } else { splice(text, edits).into() }
    }

    /// The length of the body as received.
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// The chat messages; empty for other operations.
    pub(super) fn messages(&self) -> &[Value] {
        self.fields.get("messages").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}
