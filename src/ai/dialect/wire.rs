//! The seam between the gateway and a wire dialect: what every dialect can say and read. A dialect that only providers
//! speak leaves the client's side as it stands here: whoever comes without a dialect of its own is answered as OpenAI's
//! clients are.

use super::chat::{Answer, Dropped, Event, Fault, Fields, Request, Unsupported};
use super::{Garbage, Target, Wanted, openai_chat};
use crate::ai::error::AiError;
use crate::ai::facts::Facts;
use crate::ai::prompt::Operation;
use crate::ai::sse::{self, Frame};
use crate::ai::usage::Usage;
use crate::config::secret::Secret;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use std::borrow::Cow;

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

/// What an answer is called where its provider gives it no name.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its id.
    pub id: String,
    /// The model, in the gateway's words.
    pub model: String,
}

/// How far the reading of a provider's stream has come.
#[derive(Debug, Default)]
pub struct Progress {
    /// The answer has ended, although the stream may not have.
    pub finished: bool,
    /// What the provider has counted so far.
    pub usage: Option<Usage>,
    /// What had no place in the internal form.
    pub dropped: Dropped,
}

/// Reads a provider's stream, one event at a time.
pub trait Reader: Send {
    /// What this event means.
    fn read(&mut self, chunk: &Value, out: &mut Vec<Event>) -> Result<(), Garbage>;

    /// How far it has come.
    fn progress(&self) -> &Progress;

    /// The provider's stream has ended cleanly. Without an end of the answer before it, it has not.
    fn end(&mut self, out: &mut Vec<Event>) -> Result<(), Garbage> {
        if !self.progress().finished {
            return Err(Garbage);
        }
        out.push(Event::End);
        Ok(())
    }

    /// Whether the stream may end here without saying so.
    fn may_end(&self) -> bool {
        self.progress().finished
    }
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
    /// The number that the next event bears, in dialects that number them.
    fn next_number(&self) -> Option<u64> {
        None
    }
}

/// A dialect. All of it is pure.
pub trait Wire: Sync {
    // Of providers.

    /// Where a provider takes an operation, appended to its base URL; `None` where it has no such thing.
    fn path(&self, operation: Operation, model: &str, stream: bool) -> Option<Cow<'static, str>>;

    /// The header field that carries the key.
    fn credential(&self, key: &Secret) -> (HeaderName, String);

    /// Header fields of the client's that a provider of the same dialect gets to see: versions and betas.
    fn forwarded(&self) -> &'static [HeaderName] {
        &[]
    }

    /// Header fields that every request has, unless the client has sent its own.
    fn required(&self, _headers: &mut HeaderMap) {}

    /// The media type of a provider's stream.
    fn stream_type(&self) -> &'static str {
        "text/event-stream"
    }

    /// A provider's refusal, told by its header and its body, in the envelope in which [`Wire::fault`] looks for what
    /// it says, and with the status that it stands for, if another than it came with. `None` where the body is in that
    /// envelope already.
    fn refusal(&self, _headers: &HeaderMap, _json: Option<&Value>) -> Option<(Option<StatusCode>, Value)> {
        None
    }

    /// Names an answer, or the event with which one begins, in a dialect whose answers bear no names.
    fn name(&self, _json: &mut Value, _identity: &Identity) {}

    /// What a frame of a stream is.
    fn look(&self, frame: &Frame) -> Seen;

    /// Whether an event carries something of the answer itself.
    fn begins(&self, chunk: &Value) -> bool;

    /// Whether JSON is an answer to a chat.
    fn is_answer(&self, json: &Value) -> bool;

    /// The tokens of a complete answer.
    fn usage(&self, json: &Value) -> Option<Usage>;

    /// A request in a provider's words.
    fn write_request(&self, r: &Request, target: &Target<'_>, dropped: &mut Dropped) -> Result<Value, Unsupported>;

    /// A complete answer of a provider.
    fn read_answer(&self, json: &Value, dropped: &mut Dropped) -> Result<Answer, Garbage>;

    /// A reader of a provider's stream.
    fn reader(&self) -> Box<dyn Reader>;

    /// What a provider's error says.
    fn fault(&self, json: &Value) -> Fault {
        let word = |name: &str| {
            let found = json.pointer(name)?;
            found.as_str().map(str::to_owned).or_else(|| found.as_u64().map(|n| n.to_string()))
        };
        Fault {
            message: word("/error/message").unwrap_or_default(),
            kind: word("/error/type").unwrap_or_default(),
            // Google's code is the status once more; its word stands under `status`, where Azure has the number.
            code: json
                .pointer("/error/status")
                .and_then(Value::as_str)
                .map(str::to_owned)
                .or_else(|| word("/error/code")),
            param: word("/error/param"),
        }
    }

    /// The error object of an answer that should have been none.
    fn error_in(&self, json: &Value) -> Value {
        serde_json::json!({ "error": json.get("error") })
    }

    // Of clients.

    /// What the policy and the caches want to know about a request; every fault is named with its place.
    fn facts(&self, fields: &Fields) -> Result<Facts, AiError> {
        openai_chat::facts(fields)
    }

    /// The member of a request that holds the conversation.
    fn conversation(&self) -> &'static str {
        "messages"
    }

    /// Whether a request reads or changes what its provider keeps: then no answer to it is one to another.
    fn is_stateful(&self, _fields: &Fields) -> bool {
        false
    }

    /// Members of a request that do not change the answer: how it is delivered, who is billed, how the provider caches
    /// its prefix.
    fn neutral(&self) -> &'static [&'static str] {
        &openai_chat::NEUTRAL
    }

    /// A client's request.
    fn read_request(&self, _fields: &Fields, _dropped: &mut Dropped) -> Result<Request, Unsupported> {
        Err(Unsupported::at("dialect", "no client speaks it"))
    }

    /// A complete answer in the client's words.
    fn write_answer(&self, answer: &Answer, wanted: Wanted) -> Result<Value, Garbage> {
        Ok(openai_chat::answer::write(answer, wanted))
    }

    /// A writer of a client's stream.
    fn writer(&self, wanted: Wanted) -> Box<dyn Writer> {
        Box::new(openai_chat::stream_out::Writer::new(wanted))
    }

    /// A recorder that gives up recording (but not following) after `bytes_max`.
    fn recorder(&self, bytes_max: usize) -> Box<dyn Record> {
        Box::new(crate::ai::record::Recorder::new(bytes_max))
    }

    /// A complete answer played as its stream; `None` when it is no answer.
    fn replay(&self, answer: &Value, wants_usage: bool) -> Option<String> {
        crate::ai::replay::stream(answer, wants_usage)
    }

    /// One event as the client's stream carries it.
    fn framed(&self, event: &Value) -> String {
        sse::event(&event.to_string())
    }

    /// What follows the last event of a clean stream.
    fn close(&self) -> &'static str {
        "data: [DONE]\n\n"
    }

    /// A sign of life that says nothing.
    fn ping(&self) -> &'static str {
        ": ping\n\n"
    }

    /// An error object.
    fn error(&self, status: StatusCode, fault: &Fault) -> Value {
        openai_chat::error(status, fault)
    }

    /// A status as clients know it: Anthropic's 529 and Bedrock's 424, for a model that failed, are nobody else's.
    fn status(&self, status: StatusCode) -> StatusCode {
        match status.as_u16() {
            424 => StatusCode::BAD_GATEWAY,
            529 => StatusCode::SERVICE_UNAVAILABLE,
            _ => status,
        }
    }

    /// Whether a complete answer may be served to an equal request.
    fn may_keep(&self, json: &Value) -> bool {
        openai_chat::may_keep(json)
    }

    /// Whether a complete answer may be served to a similar question: one complete text, no refusal, no tool call.
    fn may_share(&self, json: &Value) -> bool {
        openai_chat::may_share(json)
    }
}

/// The JSON of a frame that is no comment, with the errors told apart.
pub fn look(frame: &Frame) -> Seen {
    let Some(data) = frame.data.as_deref().filter(|d| !d.is_empty()) else { return Seen::Blank };
    let Ok(chunk) = serde_json::from_str::<Value>(data) else { return Seen::Garbage };
    if chunk.get("error").is_some_and(|e| !e.is_null()) { Seen::Error(chunk) } else { Seen::Data(chunk) }
}

/// A credential in `Authorization: Bearer`.
pub fn bearer(key: &Secret) -> (HeaderName, String) {
    (http::header::AUTHORIZATION, format!("Bearer {}", key.expose()))
}

/// Sets a field unless it is there.
pub fn default_field(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.entry(name).or_insert(HeaderValue::from_static(value));
}
