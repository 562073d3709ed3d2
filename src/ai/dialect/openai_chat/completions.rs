//! OpenAI's legacy completions: <https://platform.openai.com/docs/api-reference/completions>. Providers that speak
//! chat completions take them as they are; any other is asked with the prompt as one message of the user's, and what
//! it says beside text is left out.

use super::super::chat::{Answer, Dropped, Event, Fields, Part, Request, Stop, Unsupported, object, take, text_in};
use super::super::wire::{Reader, Record, Seen, Wire, Writer as Write};
use super::super::{Garbage, Target, Wanted};
use super::{FORWARDED, OpenaiChat, finish_reason, read};
use crate::ai::error::AiError;
use crate::ai::facts::{self, Facts};
use crate::ai::prompt::Operation;
use crate::ai::record::Recorder;
use crate::ai::replay::pieces;
use crate::ai::sse::{self, Frame};
use crate::ai::usage::Usage;
use crate::config::secret::Secret;
use http::HeaderName;
use serde_json::{Value, json};
use std::borrow::Cow;

/// What an answer calls itself, streamed or not.
const OBJECT: &str = "text_completion";

/// The dialect. A provider is spoken to so only for clients that do the same, so nothing is ever translated into it.
pub struct OpenaiCompletions;

impl Wire for OpenaiCompletions {
    fn path(&self, operation: Operation, _model: &str, _stream: bool) -> Option<Cow<'static, str>> {
        (operation == Operation::Completions).then_some("/completions".into())
    }

    fn credential(&self, key: &Secret) -> (HeaderName, String) {
        OpenaiChat.credential(key)
    }

    fn forwarded(&self) -> &'static [HeaderName] {
        &FORWARDED
    }

    fn look(&self, frame: &Frame) -> Seen {
        OpenaiChat.look(frame)
    }

    fn begins(&self, chunk: &Value) -> bool {
        OpenaiChat.begins(chunk)
    }

    fn is_answer(&self, json: &Value) -> bool {
        OpenaiChat.is_answer(json)
    }

    fn usage(&self, json: &Value) -> Option<Usage> {
        OpenaiChat.usage(json)
    }

    fn write_request(&self, _: &Request, _: &Target<'_>, _: &mut Dropped) -> Result<Value, Unsupported> {
        Err(Unsupported::at("dialect", "a chat is no completion"))
    }

    fn read_answer(&self, _json: &Value, _dropped: &mut Dropped) -> Result<Answer, Garbage> {
        Err(Garbage)
    }

    fn reader(&self) -> Box<dyn Reader> {
        OpenaiChat.reader()
    }

    fn facts(&self, fields: &Fields) -> Result<Facts, AiError> {
        let facts = facts::texts(fields, "prompt")?;
        super::settings(fields, Facts { messages: 1, turns: 1, ..facts })
    }

    /// Texts to be continued are alike in another way than questions are.
    fn conversation(&self) -> &'static str {
        ""
    }

    fn read_request(&self, fields: &Fields, dropped: &mut Dropped) -> Result<Request, Unsupported> {
        request(fields, dropped)
    }

    fn write_answer(&self, answer: &Answer, wanted: Wanted) -> Result<Value, Garbage> {
        let mut text = String::new();
        for b in &answer.blocks {
            if let Part::Text(t) = &b.part {
                text.push_str(t);
            }
        }
        let choice = choice(&text, Some(&answer.stop));
        let mut out = completion((&answer.id, &answer.model), wanted, vec![choice]);
        out.extend(answer.usage.map(|u| ("usage".to_owned(), u.to_openai())));
        Ok(Value::Object(out))
    }

    fn writer(&self, wanted: Wanted) -> Box<dyn Write> {
        Box::new(Writer { wanted, id: String::new(), model: String::new(), usage: None })
    }

    fn recorder(&self, bytes_max: usize) -> Box<dyn Record> {
        Box::new(Recorder::of_completions(bytes_max))
    }

    fn replay(&self, answer: &Value, wants_usage: bool) -> Option<String> {
        replay(answer, wants_usage)
    }

    fn may_share(&self, _json: &Value) -> bool {
        false
    }
}

/// The prompt as a message. What asks for more than its continuation is refused.
fn request(fields: &Fields, dropped: &mut Dropped) -> Result<Request, Unsupported> {
    let mut f = fields.clone();
    let prompt = match take(&mut f, "prompt") {
        Some(Value::String(text)) => text,
        Some(Value::Array(mut all)) if all.len() == 1 => match all.pop() {
            Some(Value::String(text)) => text,
            _ => return Err(Unsupported::at("prompt", "must be text: tokens mean something to their own model only")),
        },
        _ => return Err(Unsupported::at("prompt", "must be one text: a chat has one answer")),
    };
    f.retain(|name, value| !matches!((name.as_str(), value), ("echo", Value::Bool(false))));
    f.retain(|name, value| !(name == "suffix" && value.as_str() == Some("")));
    f.retain(|name, value| !(name == "best_of" && value.as_u64() == Some(1)));
    for name in ["echo", "suffix"] {
        if f.get(name).is_some_and(|v| !v.is_null()) {
            return Err(Unsupported::at(name, "has no counterpart in a chat"));
        }
    }
    f.insert("messages".to_owned(), json!([{ "role": "user", "content": prompt }]));
    read::request(&f, dropped)
}

fn choice(text: &str, stop: Option<&Stop>) -> Value {
    json!({ "text": text, "index": 0, "logprobs": null, "finish_reason": stop.map(word) })
}

/// The word for an end; calls of tools are none here.
fn word(stop: &Stop) -> &'static str {
    if *stop == Stop::Calls { "stop" } else { finish_reason(stop) }
}

fn completion((id, model): (&str, &str), wanted: Wanted, choices: Vec<Value>) -> Fields {
    object([
        ("id", id.into()),
        ("object", OBJECT.into()),
        ("created", wanted.created.into()),
        ("model", model.into()),
        ("choices", choices.into()),
    ])
}

/// Writes a client's stream, event by event.
struct Writer {
    wanted: Wanted,
    id: String,
    model: String,
    usage: Option<Usage>,
}

impl Writer {
    fn chunk(&self, choices: Vec<Value>) -> Fields {
        let mut out = completion((&self.id, &self.model), self.wanted, choices);
        if self.wanted.usage {
            out.insert("usage".to_owned(), Value::Null);
        }
        out
    }
}

impl Write for Writer {
    fn write(&mut self, event: Event, out: &mut Vec<Value>) {
        match event {
            Event::Start(id, model, usage) => (self.id, self.model, self.usage) = (id, model, usage),
            Event::Text(text) => out.push(Value::Object(self.chunk(vec![choice(&text, None)]))),
            Event::Finish(stop) => out.push(Value::Object(self.chunk(vec![choice("", Some(&stop))]))),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::End => {
                if let Some(usage) = self.usage {
                    let mut last = self.chunk(Vec::new());
                    last.insert("usage".to_owned(), usage.to_openai());
                    out.push(Value::Object(last));
                }
            }
            _ => {}
        }
    }
}

/// A stored completion as its stream: each choice's text in pieces, then its end.
fn replay(answer: &Value, wants_usage: bool) -> Option<String> {
    let fields = answer.as_object()?;
    let mut template = fields.clone();
    let usage = template.shift_remove("usage").filter(|u| wants_usage && !u.is_null());
    if wants_usage {
        template.insert("usage".to_owned(), Value::Null);
    }
    let mut out = String::new();
    let mut push = |name: &str, value: Value| {
        template.insert(name.to_owned(), value);
        if name == "choices" {
            out.push_str(&sse::event(&Value::Object(template.clone()).to_string()));
        }
    };
    for choice in fields.get("choices")?.as_array()? {
        let index = choice.get("index").cloned().unwrap_or_else(|| 0.into());
        for piece in pieces(text_in(choice, "text").unwrap_or_default()) {
            push("choices", json!([{ "text": piece, "index": index, "logprobs": null, "finish_reason": null }]));
        }
        let mut last = choice.clone();
        last.as_object_mut()?.insert("text".to_owned(), "".into());
        push("choices", json!([last]));
    }
    if let Some(usage) = usage {
        push("usage", usage);
        push("choices", json!([]));
    }
    out.push_str(&sse::event(sse::DONE));
    Some(out)
}
