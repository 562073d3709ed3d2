//! Wire dialects: what a client speaks and what a provider speaks. Within one dialect bytes pass; between two, this
//! module translates by way of [`chat`]: requests, answers, streams frame by frame, errors. All of it is pure. Each
//! dialect is a folder whose front page implements [`Wire`].

pub mod anthropic;
pub mod bedrock;
pub mod chat;
pub mod gemini;
pub mod openai_chat;
pub mod openai_responses;
pub mod signature;
pub mod whole;
pub mod wire;

#[cfg(test)]
mod tests;

use crate::config::ai as yaml;
use chat::{Dropped, Fault, Fields, Unsupported};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
pub use wire::{Identity, Progress, Reader, Record, Seen, Wire, Writer};

/// A way of speaking about chats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's chat completions.
    #[default]
    Openai,
    /// Anthropic's messages.
    Anthropic,
    /// OpenAI's legacy completions.
    Completions,
    /// OpenAI's Responses.
    Responses,
    /// Google's Gemini.
    Gemini,
    /// Amazon Bedrock's Converse. Providers only, like Gemini's.
    Bedrock,
}

/// A stream whose events make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Garbage;

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
            yaml::Dialect::OpenaiResponses => Dialect::Responses,
            yaml::Dialect::Anthropic => Dialect::Anthropic,
            yaml::Dialect::Gemini => Dialect::Gemini,
            yaml::Dialect::Bedrock => Dialect::Bedrock,
        }
    }
}

impl Dialect {
    /// The one spelling used in logs and keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Dialect::Openai => "openai",
            Dialect::Completions => "openai_completions",
            Dialect::Responses => "openai_responses",
            Dialect::Anthropic => "anthropic",
            Dialect::Gemini => "gemini",
            Dialect::Bedrock => "bedrock",
        }
    }

    /// What the dialect can say and read.
    pub fn wire(self) -> &'static dyn Wire {
        match self {
            Dialect::Openai => &openai_chat::OpenaiChat,
            Dialect::Completions => &openai_chat::completions::OpenaiCompletions,
            Dialect::Responses => &openai_responses::OpenaiResponses,
            Dialect::Anthropic => &anthropic::Anthropic,
            Dialect::Gemini => &gemini::Gemini,
            Dialect::Bedrock => &bedrock::Bedrock,
        }
    }

    /// What a client speaks, judged before its request is understood: by the path, else by the version or the key that
    /// it sends.
    pub fn of_client(path: &str, headers: &HeaderMap) -> Dialect {
        let messages = path.trim_end_matches('/').ends_with("/messages") || path.contains("/messages/");
        let models = path.contains("/models");
        if messages || models && headers.contains_key("anthropic-version") {
            Dialect::Anthropic
        } else if models && (gemini::is_at(path) || headers.contains_key(gemini::API_KEY)) {
            Dialect::Gemini
        } else {
            Dialect::Openai
        }
    }

    /// Whether its streams tell usage in a chunk of its own, and only if it is asked for.
    pub fn asks_for_usage(self) -> bool {
        matches!(self, Dialect::Openai | Dialect::Completions)
    }

    /// An error object of the gateway's own: the code is the gateway's word.
    pub fn own_error(self, status: StatusCode, message: &str, code: &str) -> Value {
        let fault = Fault { message: message.to_owned(), code: Some(code.to_owned()), ..Fault::default() };
        self.wire().error(status, &fault)
    }
}

/// A client's request in a provider's words, with what had to be left out.
pub fn request(
    (from, to): (Dialect, Dialect),
    fields: &Fields,
    target: &Target<'_>,
) -> Result<(Value, Dropped), Unsupported> {
    let mut dropped = Dropped::default();
    let request = from.wire().read_request(fields, &mut dropped)?;
    let written = to.wire().write_request(&request, target, &mut dropped)?;
    Ok((written, dropped))
}

/// A provider's complete answer in the client's words.
pub fn answer(
    (from, to): (Dialect, Dialect),
    json: &Value,
    wanted: Wanted,
    dropped: &mut Dropped,
) -> Result<Value, Garbage> {
    let answer = from.wire().read_answer(json, dropped)?;
    to.wire().write_answer(&answer, wanted)
}
