//! What a request asks, as the policy and the caches see it; every fault is named with its place.

use super::error::AiError;
use serde_json::{Map, Value};

/// Characters of embedding input that the policy gets to see; a batch may hold megabytes.
const INPUT_CHARS_MAX: usize = 16_384;

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

/// The facts of a request for embeddings.
pub fn embeddings(fields: &Map<String, Value>) -> Result<Facts, AiError> {
    texts(fields, "input")
}

/// The facts of a request whose member of this name holds texts, or tokens.
pub fn texts(fields: &Map<String, Value>, member: &str) -> Result<Facts, AiError> {
    let model = model_name(fields)?;
    let texts: Vec<&str> = match fields.get(member) {
        Some(Value::String(s)) => vec![s],
        Some(Value::Array(all)) if !all.is_empty() => all.iter().filter_map(Value::as_str).collect(),
        _ => return Err(missing(member, "a string or a list of strings or tokens")),
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

/// What chats of every dialect with `messages` share. A user's message is a turn where `asks` says so.
pub fn chat(fields: &Map<String, Value>, asks: impl Fn(&Value) -> bool) -> Result<Facts, AiError> {
    let mut facts = Facts { model: model_name(fields)?, n: 1, ..Facts::default() };
    let (system, _) = text_of(fields.get("system"));
    facts.chars = system.chars().count();
    facts.system = system;
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
            "system" | "developer" => facts.instructed(&text),
            "user" if asks(message) => facts.asked(text),
            _ => {}
        }
    }
    facts.tools = fields.get("tools").and_then(Value::as_array).map_or(0, Vec::len);
    facts.stream = flag(fields.get("stream"), "stream")?;
    facts.temperature = fields.get("temperature").and_then(Value::as_f64);
    Ok(facts)
}

impl Facts {
    /// Adds an instruction.
    pub fn instructed(&mut self, text: &str) {
        if !self.system.is_empty() {
            self.system.push('\n');
        }
        self.system.push_str(text);
    }

    /// Adds a turn of the user's, which is the last one so far.
    pub fn asked(&mut self, text: String) {
        self.turns += 1;
        self.text = text;
    }
}

fn messages_in(fields: &Map<String, Value>) -> Result<&Vec<Value>, AiError> {
    match fields.get("messages") {
        Some(Value::Array(all)) if !all.is_empty() => Ok(all),
        _ => Err(missing("messages", "a list of at least one message")),
    }
}

/// The text of a message's content, its text parts joined by newlines, and how many parts are not text.
pub fn text_of(content: Option<&Value>) -> (String, usize) {
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
pub fn part_text(part: &Value) -> Option<&str> {
    match part.get("type").and_then(Value::as_str) {
        Some("input_text" | "output_text") => part.get("text").and_then(Value::as_str),
        // Gemini's parts have no type.
        Some("text") | None if part.get("thought").is_none() => part.get("text").and_then(Value::as_str),
        _ => None,
    }
}

/// The model's name.
pub fn model_name(fields: &Map<String, Value>) -> Result<String, AiError> {
    match fields.get("model") {
        Some(Value::String(s)) if !s.is_empty() => Ok(s.clone()),
        _ => Err(missing("model", "a model or tier name, or \"auto\"")),
    }
}

/// A member is missing or of the wrong kind.
pub fn missing(param: &str, wanted: &str) -> AiError {
    AiError::invalid(format!("{param} must be {wanted}"), Some(param), "invalid_value")
}

/// A member that says yes or no; absent means no.
pub fn flag(v: Option<&Value>, param: &str) -> Result<bool, AiError> {
    match v {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(b)) => Ok(*b),
        Some(_) => Err(missing(param, "true or false")),
    }
}
