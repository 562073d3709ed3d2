//! One model request, read once: what it asks (for the policy and the caches) and its original bytes (for the provider).

use super::dialect::Dialect;
use super::error::AiError;
use super::json::{Edit, ask_for_usage, members, splice};
use crate::base::strict_json;
use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value};
use std::ops::Range;

/// Characters of embedding input that the policy gets to see; a batch may hold megabytes.
const INPUT_CHARS_MAX: usize = 16_384;

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

impl Operation {
    /// The operation at `path`, which ends in the endpoint's name whatever prefix the route has.
    pub fn of(method: &Method, path: &str) -> Result<Operation, AiError> {
        let path = path.trim_end_matches('/');
        let (operation, allowed) = if path.ends_with("/chat/completions") {
            (Operation::Chat, Method::POST)
        } else if path.ends_with("/messages") {
            (Operation::Messages, Method::POST)
        } else if path.ends_with("/messages/count_tokens") {
            (Operation::CountTokens, Method::POST)
        } else if path.ends_with("/embeddings") {
            (Operation::Embeddings, Method::POST)
        } else if path.ends_with("/models") {
            (Operation::Models, Method::GET)
        } else if model_in(path).is_some() {
            (Operation::Model, Method::GET)
        } else {
            return Err(AiError::NoEndpoint(path.to_owned()));
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

/// What the policy script and the caches want to know about a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The model or tier as the client wrote it.
    pub model: String,
    /// The text of the last user message, its text parts joined by newlines; for embeddings the input texts, joined
    /// likewise and cut to the first 16384 characters.
    pub text: String,
    /// The text of all system and developer messages.
    pub system: String,
    /// Characters of text in all messages.
    pub chars: usize,
    /// User messages.
    pub turns: usize,
    /// Messages of any role.
    pub messages: usize,
    /// Tools offered to the model.
    pub tools: usize,
    /// Message parts that are not text (images, audio, files).
    pub parts: usize,
    /// Whether the client wants a stream.
    pub stream: bool,
    /// Whether the client wants a usage chunk at the end of the stream.
    pub wants_usage: bool,
    /// The sampling temperature, where given.
    pub temperature: Option<f64>,
    /// The limit on output tokens, where given.
    pub max_tokens: Option<u64>,
    /// How many answers are wanted.
    pub n: u64,
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
        Operation::Chat => chat_facts(&fields)?,
        Operation::Messages | Operation::CountTokens => messages_facts(&fields)?,
        _ => embeddings_facts(&fields)?,
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

    /// The chat messages; empty for other operations.
    pub(super) fn messages(&self) -> &[Value] {
        self.fields.get("messages").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}

fn embeddings_facts(fields: &Map<String, Value>) -> Result<Facts, AiError> {
    let model = model_name(fields)?;
    let texts: Vec<&str> = match fields.get("input") {
        Some(Value::String(s)) => vec![s],
        Some(Value::Array(all)) if !all.is_empty() => all.iter().filter_map(Value::as_str).collect(),
        _ => return Err(missing("input", "a string or a list of strings or tokens")),
    };
    let chars = texts.iter().map(|t| t.chars().count()).sum();
    let mut text = String::new();
    let mut left = INPUT_CHARS_MAX;
    for (i, t) in texts.into_iter().enumerate() {
        if left == 0 {
            break;
        }
        if i > 0 {
            text.push('\n');
        }
        text.extend(t.chars().take(left));
        left = left.saturating_sub(t.chars().count());
    }
    Ok(Facts { model, text, chars, n: 1, ..Facts::default() })
}

fn chat_facts(fields: &Map<String, Value>) -> Result<Facts, AiError> {
    let mut facts = Facts { model: model_name(fields)?, n: 1, ..Facts::default() };
    let messages = messages_in(fields)?;
    facts.messages = messages.len();
    for (i, message) in messages.iter().enumerate() {
        let Some(role) = message.get("role").and_then(Value::as_str) else {
            return Err(missing(&format!("messages[{i}].role"), "a string such as \"user\""));
        };
        let (text, parts) = text_of(message.get("content"));
        facts.chars += text.chars().count();
        facts.parts += parts;
        match role {
            "system" | "developer" => {
                if !facts.system.is_empty() {
                    facts.system.push('\n');
                }
                facts.system.push_str(&text);
            }
            "user" => {
                facts.turns += 1;
                facts.text = text;
            }
            _ => {}
        }
    }
    facts.tools = fields.get("tools").and_then(Value::as_array).map_or(0, Vec::len);
    facts.stream = flag(fields.get("stream"), "stream")?;
    let options = fields.get("stream_options").and_then(|o| o.get("include_usage"));
    facts.wants_usage = flag(options, "stream_options.include_usage")?;
    facts.temperature = fields.get("temperature").and_then(Value::as_f64);
    let limit = fields.get("max_completion_tokens").or_else(|| fields.get("max_tokens"));
    facts.max_tokens = limit.and_then(Value::as_u64);
    facts.n = fields.get("n").and_then(Value::as_u64).unwrap_or(1);
    Ok(facts)
}

/// The facts of an Anthropic request. A user's message of nothing but tool results is no turn of the user's.
fn messages_facts(fields: &Map<String, Value>) -> Result<Facts, AiError> {
    let mut facts = Facts { model: model_name(fields)?, n: 1, ..Facts::default() };
    let messages = messages_in(fields)?;
    facts.messages = messages.len();
    let (system, _) = text_of(fields.get("system"));
    facts.chars = system.chars().count();
    facts.system = system;
    for (i, message) in messages.iter().enumerate() {
        let Some(role) = message.get("role").and_then(Value::as_str) else {
            return Err(missing(&format!("messages[{i}].role"), "a string such as \"user\""));
        };
        let (text, parts) = text_of(message.get("content"));
        facts.chars += text.chars().count();
        facts.parts += parts;
        match role {
            "user" if !only_results(message) => {
                facts.turns += 1;
                facts.text = text;
            }
            "system" => {
                if !facts.system.is_empty() {
                    facts.system.push('\n');
                }
                facts.system.push_str(&text);
            }
            _ => {}
        }
    }
    facts.tools = fields.get("tools").and_then(Value::as_array).map_or(0, Vec::len);
    facts.stream = flag(fields.get("stream"), "stream")?;
    facts.temperature = fields.get("temperature").and_then(Value::as_f64);
    facts.max_tokens = fields.get("max_tokens").and_then(Value::as_u64);
    Ok(facts)
}

fn only_results(message: &Value) -> bool {
    let blocks = message.get("content").and_then(Value::as_array);
    blocks.is_some_and(|all| {
        !all.is_empty() && all.iter().all(|b| b.get("type").and_then(Value::as_str) == Some("tool_result"))
    })
}

fn messages_in(fields: &Map<String, Value>) -> Result<&Vec<Value>, AiError> {
    match fields.get("messages") {
        Some(Value::Array(all)) if !all.is_empty() => Ok(all),
        _ => Err(missing("messages", "a list of at least one message")),
    }
}

/// The text of a message's content, its text parts joined by newlines, and how many parts are not text.
pub(super) fn text_of(content: Option<&Value>) -> (String, usize) {
    match content {
        Some(Value::String(s)) => (s.clone(), 0),
        Some(Value::Array(parts)) => {
            let texts: Vec<&str> = parts.iter().filter_map(part_text).collect();
            let others = parts.len().saturating_sub(texts.len());
            (texts.join("\n"), others)
        }
        _ => (String::new(), 0),
    }
}

/// The text of a text part.
pub(super) fn part_text(part: &Value) -> Option<&str> {
    match part.get("type").and_then(Value::as_str) {
        Some("text") => part.get("text").and_then(Value::as_str),
        _ => None,
    }
}

fn model_name(fields: &Map<String, Value>) -> Result<String, AiError> {
    match fields.get("model") {
        Some(Value::String(s)) if !s.is_empty() => Ok(s.clone()),
        _ => Err(missing("model", "a model or tier name, or \"auto\"")),
    }
}

fn missing(param: &str, wanted: &str) -> AiError {
    AiError::invalid(format!("{param} must be {wanted}"), Some(param), "invalid_value")
}

fn flag(v: Option<&Value>, param: &str) -> Result<bool, AiError> {
    match v {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(b)) => Ok(*b),
        Some(_) => Err(missing(param, "true or false")),
    }
}
