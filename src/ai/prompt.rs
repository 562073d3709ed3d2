//! One model request, read once: what it asks (for the policy and the caches) and its original bytes (for the provider).

use super::dialect::{Dialect, gemini, openai_responses};
use super::error::AiError;
use super::facts::{self, Facts};
use super::headers::ClientWish;
use super::json::{Edit, ask_for_usage, members, spelt, splice, without};
use super::prefix::Prefix;
use crate::base::strict_json;
use crate::base::url::unescaped;
use crate::config::ai::passthrough::Endpoint;
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
    /// `POST …/completions`.
    Completions,
    /// `POST …/responses`.
    Responses,
    /// `POST …/messages`.
    Messages,
    /// `POST …/messages/count_tokens`.
    CountTokens,
    /// `POST …/models/{model}:generateContent`.
    Generate,
    /// `POST …/models/{model}:streamGenerateContent?alt=sse`.
    StreamGenerate,
    /// `POST …/models/{model}:countTokens`.
    CountContents,
    /// `POST …/embeddings`.
    Embeddings,
    /// `GET …/models`.
    Models,
    /// `GET …/models/{id}`.
    Model,
    /// What passes without being understood.
    Pass(Endpoint),
}

/// What the paths of the endpoints end in.
const ENDPOINTS: [(&str, Operation); 7] = [
    ("/chat/completions", Operation::Chat),
    ("/completions", Operation::Completions),
    ("/responses", Operation::Responses),
    ("/messages", Operation::Messages),
    ("/messages/count_tokens", Operation::CountTokens),
    ("/embeddings", Operation::Embeddings),
    ("/models", Operation::Models),
];

/// The methods of Google's models.
const METHODS: [(&str, Operation); 3] = [
    ("generateContent", Operation::Generate),
    ("streamGenerateContent", Operation::StreamGenerate),
    ("countTokens", Operation::CountContents),
];

impl Operation {
    /// The operation at `path`, which ends in the endpoint's name whatever prefix the route has.
    pub fn of(method: &Method, path: &str) -> Result<Operation, AiError> {
        let path = path.trim_end_matches('/');
        let endpoint = ENDPOINTS.iter().find(|(end, _)| path.ends_with(end)).map(|(_, operation)| *operation);
        let operation = match gemini::method_at(path) {
            Some((_, method)) => METHODS.iter().find(|(name, _)| *name == method).map(|(_, operation)| *operation),
            None => endpoint.or_else(|| model_in(path).map(|_| Operation::Model)),
        };
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
            Operation::Completions => "completions",
            Operation::Responses => "responses",
            Operation::Messages => "messages",
            Operation::CountTokens => "count_tokens",
            // A stream and a whole answer are one question.
            Operation::Generate | Operation::StreamGenerate => "generate_content",
            Operation::CountContents => "count_contents",
            Operation::Embeddings => "embeddings",
            Operation::Models => "models",
            Operation::Model => "model",
            Operation::Pass(endpoint) => endpoint.as_str(),
        }
    }

    /// What a client that asks so speaks.
    pub fn dialect(self) -> Dialect {
        match self {
            Operation::Messages | Operation::CountTokens | Operation::Pass(Endpoint::MessageBatches) => {
                Dialect::Anthropic
            }
            Operation::Completions => Dialect::Completions,
            Operation::Responses => Dialect::Responses,
            Operation::Generate | Operation::StreamGenerate | Operation::CountContents => Dialect::Gemini,
            _ => Dialect::Openai,
        }
    }

    /// Whether a provider bills it.
    pub fn is_billed(self) -> bool {
        !self.is_count() && !matches!(self, Operation::Models | Operation::Model | Operation::Pass(_))
    }

    /// Whether it is a chat, in whichever dialect.
    pub fn is_chat(self) -> bool {
        matches!(
            self,
            Operation::Chat
                | Operation::Completions
                | Operation::Responses
                | Operation::Messages
                | Operation::Generate
                | Operation::StreamGenerate
        )
    }

    /// Whether tokens are to be counted, in whichever dialect.
    pub fn is_count(self) -> bool {
        matches!(self, Operation::CountTokens | Operation::CountContents)
    }
}

/// The model that a path `…/models/{id}` or `…/models/{id}:{method}` asks about, its percent-escapes decoded. An id may
/// have slashes.
pub fn model_in(path: &str) -> Option<String> {
    let path = gemini::method_at(path).map_or(path, |(model, _)| model);
    let (_, id) = path.trim_end_matches('/').split_once("/models/")?;
    unescaped(id)
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
    /// What its body said to the gateway; it is no part of it any more.
    pub wish: ClientWish,
    /// What of it providers are asked to cache.
    pub prefix: Option<Prefix>,
    /// Its fields, parsed.
    pub(super) fields: Map<String, Value>,
    body: Bytes,
    /// Where the body names the model.
    model_at: Option<Range<usize>>,
    stream_options_at: Option<Range<usize>>,
}

/// Reads a request body. Every fault is named with its place.
pub fn parse(operation: Operation, body: Bytes, bytes_max: usize) -> Result<Prompt, AiError> {
    parse_at(operation, None, body, bytes_max)
}

/// Reads a request whose model may stand in its path, as Google's does. Its fields are then those of the body with
/// `model` and `stream`, as if they stood there.
pub fn parse_at(operation: Operation, model: Option<String>, body: Bytes, bytes_max: usize) -> Result<Prompt, AiError> {
    let dialect = operation.dialect();
    if matches!(operation, Operation::Models | Operation::Model) {
        let (facts, wish, fields, body) = (Facts::default(), ClientWish::default(), Map::new(), Bytes::new());
        let prefix = None;
        return Ok(Prompt {
            operation,
            dialect,
            facts,
            wish,
            prefix,
            fields,
            body,
            model_at: None,
            stream_options_at: None,
        });
    }
    if body.len() > bytes_max {
        return Err(AiError::TooLarge { bytes_max });
    }
    let not_json = |e: &dyn std::fmt::Display| {
        AiError::invalid(format!("the request body is not valid JSON: {e}"), None, "invalid_json")
    };
    let text = std::str::from_utf8(&body).map_err(|e| not_json(&e))?;
    let document = strict_json::value(text.as_bytes(), DEPTH_MAX).map_err(|e| not_json(&e))?;
    let Value::Object(mut fields) = document else {
        let message = "the request body must be a JSON object, such as {\"model\": \"auto\", \"messages\": [...]}";
        return Err(AiError::invalid(message, None, "invalid_json"));
    };
    let taken = ClientWish::take(&mut fields)?;
    let mut body = body.clone();
    let mut wish = ClientWish::default();
    let mut text = text;
    let shorter;
    if let Some((said, names)) = taken {
        let spelt = spelt(text).map_err(|e| not_json(&e))?;
        shorter = splice(text, without(&spelt, &names));
        (wish, text) = (said, &shorter);
        body = Bytes::copy_from_slice(shorter.as_bytes());
    }
    if dialect == Dialect::Gemini {
        fields = gemini::read::with_path(fields, operation, model.unwrap_or_default());
    }
    let places = members(text).map_err(|e| not_json(&e))?;
    let place = |name: &str| places.iter().find(|(key, _)| key == name).map(|(_, span)| span.clone());
    let facts = match operation {
        Operation::Embeddings => facts::embeddings(&fields)?,
        _ => dialect.wire().facts(&fields)?,
    };
    let model_at = place("model");
    let stream_options_at = place("stream_options");
    Ok(Prompt { operation, dialect, facts, wish, prefix: None, fields, model_at, stream_options_at, body })
}

impl Prompt {
    /// The body for a provider: the original bytes with the model's name replaced and, in a stream, usage asked for.
    pub fn body_for(&self, model: &str) -> Bytes {
        let Ok(text) = std::str::from_utf8(&self.body) else { return self.body.clone() };
        let mut edits = Vec::new();
        if self.dialect == Dialect::Gemini {
            edits = gemini::edits(text, model, self.model_at.as_ref());
        } else if let Some(span) = self.model_at.clone().filter(|_| model != self.facts.model) {
            edits.push(Edit { span, text: Value::from(model).to_string() });
        }
        if self.dialect == Dialect::Responses {
            edits.extend(openai_responses::without_foreign(text, &self.fields));
        }
        if self.dialect.asks_for_usage() && self.facts.stream && !self.facts.wants_usage {
            edits.extend(ask_for_usage(text, self.stream_options_at.as_ref()));
        }
        if edits.is_empty() { self.body.clone() } else { splice(text, edits).into() }
    }

    /// The length of the body as received.
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// The bytes as received, which are JSON and therefore text.
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_default()
    }

    /// The same request with some of its bytes replaced. What stood in the path stays.
    pub(super) fn edited(&self, edits: Vec<Edit>) -> Result<Prompt, AiError> {
        let body = splice(self.text(), edits);
        let mut new = parse_at(self.operation, Some(self.facts.model.clone()), body.into(), usize::MAX)?;
        new.dialect = self.dialect;
        Ok(new)
    }

    /// The conversation: a list of messages, or one text of the user's. Nothing for other operations.
    pub(super) fn conversation(&self) -> Option<&Value> {
        self.fields.get(self.dialect.wire().conversation()).filter(|_| self.operation.is_chat())
    }

    /// The messages, where it is a list.
    pub(super) fn messages(&self) -> &[Value] {
        self.conversation().and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}
