//! Wire dialects: what a client speaks and what a provider speaks. Within one dialect bytes pass; between two, this
//! module translates by way of [`chat`]: requests, answers, streams frame by frame, errors. All of it is pure.

pub mod anthropic;
pub mod bedrock;
pub mod chat;
pub mod gemini;
pub mod openai_chat;

#[cfg(test)]
mod tests;

use super::prompt::Operation;
use super::sse::{self, DONE, Frame};
use super::usage::Usage;
use crate::config::ai as yaml;
use chat::{Dropped, Event, Fault, Fields, Unsupported};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use std::borrow::Cow;

/// A way of speaking about chats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's chat completions.
    #[default]
    Openai,
    /// Anthropic's messages.
    Anthropic,
    /// Google's Gemini. Providers only: what it would be as a client's dialect is answered as for OpenAI's.
    Gemini,
}

/// What a provider's frame is.
#[derive(Debug)]
pub enum Seen {
    /// A comment or an empty event.
    Blank,
    /// A piece of the answer.
    Data(Value),
    /// An error event.
    Error(Value),
    /// The mark of a clean end, where it is JSON.
    End(Value),
    /// Nothing that belongs in such a stream.
    Garbage,
}

/// A stream whose events make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Garbage;

/// Reads a provider's stream, one event at a time.
pub trait Reader: Send {
    /// What this event means.
    fn read(&mut self, chunk: &Value, out: &mut Vec<Event>) -> Result<(), Garbage>;
    /// The provider's stream has ended cleanly.
    fn end(&mut self, out: &mut Vec<Event>) -> Result<(), Garbage>;
    /// Whether the answer has ended, although the stream may not have.
    fn finished(&self) -> bool;
    /// What the provider has counted so far.
    fn usage(&self) -> Option<Usage>;
    /// What had no place in the internal form.
    fn dropped(&self) -> &Dropped;
}

/// Writes a client's stream, one event at a time.
pub trait Writer: Send {
    /// The events that tell this.
    fn write(&mut self, event: Event, out: &mut Vec<Value>);
}

/// Records a client's stream into the complete answer that it spells.
pub trait Record: Send {
    /// Takes one event, whose JSON has so many bytes.
    fn add(&mut self, chunk: &Value, bytes: usize);
    /// Whether anything of the answer itself has come.
    fn has_content(&self) -> bool;
    /// Whether the answer has ended.
    fn finished(&self) -> bool;
    /// The tokens told so far.
    fn usage(&self) -> Option<Usage>;
    /// The complete answer; `None` when it is unfinished or was too large to record.
    fn answer(self: Box<Self>) -> Option<Value>;
}

/// How the client wants its answer.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Seconds since 1970, for dialects that date their answers.
    pub created: u64,
    /// Whether the stream ends with usage (OpenAI's `include_usage`).
    pub usage: bool,
}

/// The model that a request is written for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The provider's name for it.
    pub model: &'a str,
    /// The limit on output tokens where the client sets none and the dialect needs one.
    pub max_tokens: u64,
    /// How it is told to think.
    pub thinking: yaml::Thinking,
}

impl From<yaml::Dialect> for Dialect {
    fn from(d: yaml::Dialect) -> Self {
        match d {
            yaml::Dialect::Openai => Dialect::Openai,
            yaml::Dialect::Anthropic => Dialect::Anthropic,
            yaml::Dialect::Gemini => Dialect::Gemini,
        }
    }
}

impl Dialect {
    /// The one spelling used in logs and keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Dialect::Openai => "openai",
            Dialect::Anthropic => "anthropic",
            Dialect::Gemini => "gemini",
        }
    }

    /// What a client speaks, judged before its request is understood: by the path, else by the version it sends.
    pub fn of_client(path: &str, headers: &HeaderMap) -> Dialect {
        let messages = path.trim_end_matches('/').ends_with("/messages") || path.contains("/messages/");
        let models = path.contains("/models") && headers.contains_key("anthropic-version");
        if messages || models { Dialect::Anthropic } else { Dialect::Openai }
    }

    /// Where a provider takes an operation, appended to its base URL; `None` where it has no such thing.
    pub fn path(self, operation: Operation, model: &str, stream: bool) -> Option<Cow<'static, str>> {
        let chat = operation.is_chat();
        Some(match (self, operation) {
            (Dialect::Openai, _) if chat => "/chat/completions".into(),
            (Dialect::Openai, Operation::Embeddings) => "/embeddings".into(),
            (Dialect::Anthropic, _) if chat => "/messages".into(),
            (Dialect::Anthropic, Operation::CountTokens) => "/messages/count_tokens".into(),
            (Dialect::Gemini, _) if chat => gemini::path(model, stream).into(),
            _ => return None,
        })
    }

    /// What a frame of a provider of this dialect is.
    pub fn look(self, frame: &Frame) -> Seen {
        let Some(data) = frame.data.as_deref().filter(|d| !d.is_empty()) else { return Seen::Blank };
        if self == Dialect::Openai && data == DONE {
            return Seen::End(Value::Null);
        }
        let Ok(chunk) = serde_json::from_str::<Value>(data) else { return Seen::Garbage };
        if chunk.get("error").is_some_and(|e| !e.is_null()) {
            return Seen::Error(chunk);
        }
        match (self, chunk.get("type").and_then(Value::as_str)) {
            (Dialect::Anthropic, Some("message_stop")) => Seen::End(chunk),
            (Dialect::Anthropic, None | Some("error")) => Seen::Garbage,
            _ => Seen::Data(chunk),
        }
    }

    /// Whether a provider's event carries something of the answer itself.
    pub fn begins(self, chunk: &Value) -> bool {
        match self {
            Dialect::Openai => openai_chat::begins(chunk),
            Dialect::Anthropic => anthropic::begins(chunk),
            Dialect::Gemini => gemini::begins(chunk),
        }
    }

    /// Whether a provider's JSON is an answer to a chat.
    pub fn is_answer(self, json: &Value) -> bool {
        match self {
            Dialect::Openai => json.get("choices").is_some_and(Value::is_array),
            Dialect::Anthropic => json.get("content").is_some_and(Value::is_array),
            Dialect::Gemini => gemini::is_answer(json),
        }
    }

    /// The tokens of a provider's complete answer.
    pub fn usage(self, json: &Value) -> Option<Usage> {
        match self {
            Dialect::Openai => Usage::from_openai(json.get("usage")?),
            Dialect::Anthropic => Usage::from_anthropic(json.get("usage")?),
            Dialect::Gemini => Usage::from_gemini(json.get("usageMetadata")?),
        }
    }

    /// A recorder that gives up recording (but not following) after `bytes_max`.
    pub fn recorder(self, bytes_max: usize) -> Box<dyn Record> {
        match self {
            Dialect::Openai | Dialect::Gemini => Box::new(super::record::Recorder::new(bytes_max)),
            Dialect::Anthropic => Box::new(anthropic::record::Recorder::new(bytes_max)),
        }
    }

    /// A complete answer of this dialect played as its stream; `None` when it is no answer.
    pub fn replay(self, answer: &Value, wants_usage: bool) -> Option<String> {
        match self {
            Dialect::Openai | Dialect::Gemini => super::replay::stream(answer, wants_usage),
            Dialect::Anthropic => anthropic::replay::stream(answer),
        }
    }

    /// One event as the client's stream carries it.
    pub fn framed(self, event: &Value) -> String {
        match (self, event.get("type").and_then(Value::as_str)) {
            (Dialect::Anthropic, Some(kind)) => format!("event: {kind}\n{}", sse::event(&event.to_string())),
            _ => sse::event(&event.to_string()),
        }
    }

    /// What follows the last event of a clean stream.
    pub fn close(self) -> &'static str {
        match self {
            Dialect::Openai | Dialect::Gemini => "data: [DONE]\n\n",
            Dialect::Anthropic => "",
        }
    }

    /// A sign of life that says nothing.
    pub fn ping(self) -> &'static str {
        match self {
            Dialect::Openai | Dialect::Gemini => ": ping\n\n",
            Dialect::Anthropic => "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        }
    }

    /// An error object.
    pub fn error(self, status: StatusCode, fault: &Fault) -> Value {
        match self {
            Dialect::Openai | Dialect::Gemini => openai_chat::error(status, fault),
            Dialect::Anthropic => anthropic::error(status, fault),
        }
    }

    /// An error object of the gateway's own: `kind` and `code` in OpenAI's words.
    pub fn own_error(self, status: StatusCode, message: &str, code: &str) -> Value {
        let fault = Fault { message: message.to_owned(), code: Some(code.to_owned()), ..Fault::default() };
        self.error(status, &fault)
    }

    /// A status as clients of this dialect know it: Anthropic's 529 is nobody else's.
    pub fn status(self, status: StatusCode) -> StatusCode {
        if self == Dialect::Openai && status.as_u16() == 529 { StatusCode::SERVICE_UNAVAILABLE } else { status }
    }

    /// Whether a complete answer may be served to an equal request.
    pub fn may_keep(self, json: &Value) -> bool {
        match self {
            Dialect::Openai | Dialect::Gemini => openai_chat::may_keep(json),
            Dialect::Anthropic => anthropic::may_keep(json),
        }
    }

    /// Whether a complete answer may be served to a similar question: one complete text, no refusal, no tool call.
    pub fn may_share(self, json: &Value) -> bool {
        match self {
            Dialect::Openai | Dialect::Gemini => openai_chat::may_share(json),
            Dialect::Anthropic => anthropic::may_share(json),
        }
    }
}

/// A client's request in a provider's words, with what had to be left out.
pub fn request(
    (from, to): (Dialect, Dialect),
    fields: &Fields,
    target: &Target<'_>,
) -> Result<(Value, Dropped), Unsupported> {
    let mut dropped = Dropped::default();
    let request = match from {
        Dialect::Openai => openai_chat::read::request(fields, &mut dropped)?,
        Dialect::Anthropic => anthropic::read::request(fields, &mut dropped)?,
        Dialect::Gemini => return Err(Unsupported::at("dialect", "no client speaks it")),
    };
    let written = match to {
        Dialect::Openai => openai_chat::write::request(&request, target, &mut dropped)?,
        Dialect::Anthropic => anthropic::write::request(&request, target, &mut dropped)?,
        Dialect::Gemini => gemini::write::request(&request, &mut dropped)?,
    };
    Ok((written, dropped))
}

/// A provider's complete answer in the client's words.
pub fn answer(
    (from, to): (Dialect, Dialect),
    json: &Value,
    wanted: Wanted,
    dropped: &mut Dropped,
) -> Result<Value, Garbage> {
    let answer = match from {
        Dialect::Openai => openai_chat::answer::read(json, dropped)?,
        Dialect::Anthropic => anthropic::answer::read(json, dropped)?,
        Dialect::Gemini => gemini::answer::read(json, dropped)?,
    };
    match to {
        Dialect::Openai | Dialect::Gemini => Ok(openai_chat::answer::write(&answer, wanted)),
        Dialect::Anthropic => anthropic::answer::write(&answer),
    }
}

/// What a provider's error says. Google's code is the status once more; its word stands under `status`.
pub fn fault(json: &Value) -> Fault {
    let word = |name: &str| {
        let found = json.pointer(name)?;
        found.as_str().map(str::to_owned).or_else(|| found.as_u64().map(|n| n.to_string()))
    };
    Fault {
        message: word("/error/message").unwrap_or_default(),
        kind: word("/error/type").unwrap_or_default(),
        code: word("/error/status").or_else(|| word("/error/code")),
        param: word("/error/param"),
    }
}

/// A reader of a provider's stream.
pub fn reader(from: Dialect) -> Box<dyn Reader> {
    match from {
        Dialect::Openai => Box::new(openai_chat::stream_in::Reader::default()),
        Dialect::Anthropic => Box::new(anthropic::stream_in::Reader::default()),
        Dialect::Gemini => Box::new(gemini::stream_in::Reader::default()),
    }
}

/// A writer of a client's stream.
pub fn writer(to: Dialect, wanted: Wanted) -> Box<dyn Writer> {
    match to {
        Dialect::Openai | Dialect::Gemini => Box::new(openai_chat::stream_out::Writer::new(wanted)),
        Dialect::Anthropic => Box::new(anthropic::stream_out::Writer::default()),
    }
}
