//! The one internal form between dialects, in our own words: a request, an answer, the events of a stream, an error.
//!
//! It is used only where client and provider speak differently; within one dialect the bytes pass as they came. What a
//! reader does not know it keeps under `rest`, so that a writer can name what it has no place for.

use super::super::usage::Usage;
use serde_json::{Map, Value};

/// Members of a JSON object.
pub type Fields = Map<String, Value>;

/// Names told in one header field at most.
const DROPPED_MAX: usize = 16;
/// Characters of a refusal's place and of its reason that are told.
const UNSUPPORTED_CHARS_MAX: usize = 200;
/// Characters of a name that are told.
const NAME_CHARS_MAX: usize = 48;

/// A model request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Instructions, in order.
    pub system: Vec<Block>,
    /// The conversation; neighbours of the same role may follow each other.
    pub messages: Vec<Message>,
    /// Tools offered.
    pub tools: Vec<Tool>,
    /// Which tool is to be called.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several calls may come in one answer.
    pub parallel_calls: Option<bool>,
    /// The limit on output tokens.
    pub max_tokens: Option<u64>,
    /// The sampling temperature.
    pub temperature: Option<f64>,
    /// The share of probability sampled from.
    pub top_p: Option<f64>,
    /// The number of tokens sampled from.
    pub top_k: Option<u64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// The form of the answer.
    pub format: Option<Format>,
    /// How much the model thinks first.
    pub reasoning: Option<Reasoning>,
    /// A name for the end user.
    pub user: Option<String>,
    /// Whether a stream is wanted.
    pub stream: bool,
    /// Fields that the reader does not know.
    pub rest: Fields,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The user, and what tools returned.
    User,
    /// The model.
    Assistant,
    /// Instructions in the middle of the conversation.
    System,
}

/// One turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Whose turn it is.
    pub role: Role,
    /// What is said.
    pub blocks: Vec<Block>,
    /// Members that the reader does not know.
    pub rest: Fields,
}

/// A piece of a turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// What it is.
    pub part: Part,
    /// Members that the reader does not know (`cache_control`, `citations` …).
    pub rest: Fields,
}

/// What a piece is.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Text.
    Text(String),
    /// An image.
    Image(Media),
    /// A document with its title or file name.
    Document(Media, Option<String>),
    /// The model's thinking, with the provider's signature where there is one.
    Reasoning(String, Option<String>),
    /// Thinking that only its provider can read.
    Redacted(String),
    /// A tool call.
    Call(Call),
    /// What a tool returned.
    Result(Outcome),
}

/// A tool call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its id.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments as JSON text.
    pub arguments: String,
}

/// What a tool returned.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The call's id.
    pub id: String,
    /// The content.
    pub blocks: Vec<Block>,
    /// Whether the tool failed.
    pub failed: bool,
}

/// Where an image or a document is.
#[derive(Clone, Debug, PartialEq)]
pub enum Media {
    /// Here, in base64, with its media type.
    Inline(String, String),
    /// At this address.
    Url(String),
    /// Here, as plain text.
    Plain(String),
}

/// A tool offered.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// The JSON schema of its arguments.
    pub schema: Option<Value>,
    /// Whether the arguments must keep to the schema.
    pub strict: Option<bool>,
    /// Members that the reader does not know.
    pub rest: Fields,
}

/// Which tool is to be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// Any or none.
    Auto,
    /// Any.
    Any,
    /// None.
    None,
    /// This one.
    Named(String),
}

/// The form of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// Some JSON object.
    Json,
    /// JSON of this schema, with the schema's name.
    Schema(Value, Option<String>),
}

/// How much a model thinks before it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reasoning {
    /// Not at all.
    Off,
    /// As much as it finds right.
    Free,
    /// This much: `minimal`, `low`, `medium`, `high`, `xhigh`.
    Effort(String),
    /// At most so many tokens.
    Budget(u64),
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is complete.
    End,
    /// One of the client's stop texts came, where the provider tells: this one.
    Sequence(Option<String>),
    /// The limit on tokens.
    Length,
    /// The model's context is full.
    ContextFull,
    /// Tools are to be called.
    Calls,
    /// The provider paused a long turn.
    Pause,
    /// A filter or a refusal.
    Filtered,
}

/// A complete answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The provider's id for it.
    pub id: String,
    /// The model, as the provider calls it.
    pub model: String,
    /// What it says, in order.
    pub blocks: Vec<Block>,
    /// Why it ended.
    pub stop: Stop,
    /// What it took.
    pub usage: Option<Usage>,
}

/// What happens in a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The answer begins: id, model, and the usage known so far.
    Start(String, String, Option<Usage>),
    /// More text.
    Text(String),
    /// More thinking.
    Reasoning(String),
    /// The signature of the thinking before.
    Signature(String),
    /// A whole block of unreadable thinking.
    Redacted(String),
    /// The call of this number begins: id and name.
    Call(usize, String, String),
    /// More of the arguments of the call of this number.
    Arguments(usize, String),
    /// The block ends.
    Break,
    /// The provider is still there.
    Ping,
    /// The answer has ended.
    Finish(Stop),
    /// What it took so far, in all.
    Usage(Usage),
    /// The stream has ended cleanly.
    End,
}

/// An error as a provider words it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub message: String,
    /// The provider's word for it.
    pub kind: String,
    /// The code, where there is one.
    pub code: Option<String>,
    /// The field at fault, where it is told.
    pub param: Option<String>,
}

/// Something without which the request would mean something else, and for which the provider's dialect has no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// The place in the client's request.
    pub param: String,
    /// What is wrong.
    pub message: String,
}

impl Unsupported {
    /// At this place, for this reason; both may hold words of the client's, which are cut.
    pub fn at(param: impl AsRef<str>, message: impl AsRef<str>) -> Self {
        let cut = |text: &str| text.chars().take(UNSUPPORTED_CHARS_MAX).collect();
        Unsupported { param: cut(param.as_ref()), message: cut(message.as_ref()) }
    }
}

/// Names of what was left out of a translation because it has no target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    names: Vec<String>,
    more: usize,
}

impl Dropped {
    /// Notes a name once. Names may come from clients: only what a header field can carry is kept of them.
    pub fn note(&mut self, name: &str) {
        let fit = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '?' };
        let name: String = name.chars().take(NAME_CHARS_MAX).map(fit).collect();
        if self.names.contains(&name) {
            return;
        }
        if self.names.len() < DROPPED_MAX {
            self.names.push(name);
        } else {
            self.more += 1;
        }
    }

    /// Notes the members that say something: `null` and an empty list are what their absence means, too.
    pub fn rest(&mut self, rest: &Fields) {
        let silent = |v: &Value| v.is_null() || v.as_array().is_some_and(Vec::is_empty);
        for (name, _) in rest.iter().filter(|(_, v)| !silent(v)) {
            self.note(name);
        }
    }

    /// Takes over what another list noted.
    pub fn extend(&mut self, other: &Dropped) {
        for name in &other.names {
            self.note(name);
        }
        self.more += other.more;
    }

    /// The names with commas between, as the header field tells them; `None` when nothing was dropped.
    pub fn told(&self) -> Option<String> {
        let mut text = self.names.join(",");
        if self.more > 0 {
            text.push_str(&format!(",+{}", self.more));
        }
        (!text.is_empty()).then_some(text)
    }
}

impl Block {
    /// A block without anything unknown.
    pub fn new(part: Part) -> Block {
        Block { part, rest: Fields::new() }
    }

    /// A block of text.
    pub fn text(text: impl Into<String>) -> Block {
        Block::new(Part::Text(text.into()))
    }
}

impl Request {
    /// The messages with neighbours of one role joined, and without those that say nothing.
    pub fn turns(&self) -> Vec<Message> {
        let mut out: Vec<Message> = Vec::new();
        for m in self.messages.iter().filter(|m| !m.blocks.is_empty()) {
            match out.last_mut().filter(|last| last.role == m.role) {
                Some(last) => {
                    last.blocks.extend(m.blocks.iter().cloned());
                    last.rest.extend(m.rest.iter().map(|(k, v)| (k.clone(), v.clone())));
                }
                None => out.push(m.clone()),
            }
        }
        out
    }
}

impl Stop {
    /// Some servers say "stop" although tools are to be called or the answer was refused.
    pub fn given(self, calls: bool, refused: bool) -> Stop {
        match self {
            Stop::End if calls => Stop::Calls,
            Stop::End if refused => Stop::Filtered,
            other => other,
        }
    }
}

/// A string member, taken out.
pub fn take_text(fields: &mut Fields, name: &str) -> Option<String> {
    match fields.get(name) {
        Some(Value::String(_)) => match fields.shift_remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// A member, taken out; `null` counts as absent.
pub fn take(fields: &mut Fields, name: &str) -> Option<Value> {
    fields.shift_remove(name).filter(|v| !v.is_null())
}

/// A list member, taken out.
pub fn take_list(fields: &mut Fields, name: &str) -> Option<Vec<Value>> {
    match fields.shift_remove(name) {
        Some(Value::Array(all)) => Some(all),
        _ => None,
    }
}

/// A string member.
pub fn text_in<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

/// An object out of members.
pub fn object<const N: usize>(members: [(&str, Value); N]) -> Fields {
    members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}
