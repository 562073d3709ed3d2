//! OpenAI's Responses: <https://platform.openai.com/docs/api-reference/responses>.

pub mod answer;
mod events;
mod facts;
mod items;
pub mod read;
pub mod record;
pub mod replay;
pub mod stream_in;
pub mod stream_out;
pub mod write;

#[cfg(test)]
mod tests;

use super::super::error::AiError;
use super::super::facts::Facts;
use super::super::json::{Edit, members};
use super::super::prompt::Operation;
use super::super::sse::{self, DONE, Frame};
use super::super::usage::Usage;
use super::chat::{Answer, Dropped, Fields, Request, Stop, Unsupported, text_in};
use super::wire::{self, Reader, Record, Seen, Wire, Writer};
use super::{Garbage, Target, Wanted, openai_chat};
use crate::config::secret::Secret;
use http::HeaderName;
pub use items::SIGNED;
use serde_json::{Value, json};
use std::borrow::Cow;

/// Members that do not change the answer. Whether it is stored is none of them: a stored one can be continued.
const NEUTRAL: [&str; 9] = [
    "model",
    "stream",
    "stream_options",
    "user",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
];
/// Members that tie a request to what its provider keeps and may change.
const STATEFUL: [&str; 3] = ["conversation", "background", "prompt"];

/// The dialect.
pub struct OpenaiResponses;

impl Wire for OpenaiResponses {
    fn path(&self, operation: Operation, _model: &str, _stream: bool) -> Option<Cow<'static, str>> {
        operation.is_chat().then_some("/responses".into())
    }

    fn credential(&self, key: &Secret) -> (HeaderName, String) {
        wire::bearer(key)
    }

    fn forwarded(&self) -> &'static [HeaderName] {
        &openai_chat::FORWARDED
    }

    fn look(&self, frame: &Frame) -> Seen {
        look(frame)
    }

    fn begins(&self, event: &Value) -> bool {
        begins(event)
    }

    fn is_answer(&self, json: &Value) -> bool {
        json.get("output").is_some_and(Value::is_array)
    }

    fn usage(&self, json: &Value) -> Option<Usage> {
        Usage::from_responses(json.get("usage")?)
    }

    fn write_request(&self, r: &Request, target: &Target<'_>, dropped: &mut Dropped) -> Result<Value, Unsupported> {
        write::request(r, target, dropped)
    }

    fn read_answer(&self, json: &Value, dropped: &mut Dropped) -> Result<Answer, Garbage> {
        answer::read(json, dropped)
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(stream_in::Reader::default())
    }

    fn facts(&self, fields: &Fields) -> Result<Facts, AiError> {
        facts::read(fields)
    }

    fn conversation(&self) -> &'static str {
        "input"
    }

    fn is_stateful(&self, fields: &Fields) -> bool {
        STATEFUL.iter().any(|name| fields.get(*name).is_some_and(|v| !v.is_null() && *v != Value::Bool(false)))
    }

    fn neutral(&self) -> &'static [&'static str] {
        &NEUTRAL
    }

    fn read_request(&self, fields: &Fields, dropped: &mut Dropped) -> Result<Request, Unsupported> {
        read::request(fields, dropped)
    }

    fn write_answer(&self, answer: &Answer, wanted: Wanted) -> Result<Value, Garbage> {
        Ok(answer::write(answer, wanted))
    }

    fn writer(&self, wanted: Wanted) -> Box<dyn Writer> {
        Box::new(stream_out::Writer::new(wanted))
    }

    fn recorder(&self, bytes_max: usize) -> Box<dyn Record> {
        Box::new(record::Recorder::new(bytes_max))
    }

    fn replay(&self, answer: &Value, _wants_usage: bool) -> Option<String> {
        let events = replay::events(answer)?;
        Some(events.iter().map(|event| self.framed(event)).collect())
    }

    /// An error object has no place in a stream as it stands; as an event it tells the same beside `error`, which the
    /// SDKs turn into exceptions.
    fn framed(&self, event: &Value) -> String {
        match text_in(event, "type") {
            Some(kind) => sse::named_event(kind, &event.to_string()),
            None => sse::named_event("error", &error_event(event).to_string()),
        }
    }

    fn close(&self) -> &'static str {
        ""
    }

    fn may_keep(&self, json: &Value) -> bool {
        may_keep(json)
    }

    fn may_share(&self, json: &Value) -> bool {
        may_share(json)
    }
}

/// The edit that takes other providers' thinking out of a request for OpenAI, which could not read it: a conversation
/// may have been led by several.
pub fn without_foreign(body: &str, fields: &Fields) -> Option<Edit> {
    let items = fields.get("input").and_then(Value::as_array).filter(|_| body.contains(items::MARKED))?;
    let own: Vec<&Value> = items.iter().filter(|item| !items::is_foreign(item)).collect();
    let (_, span) = members(body).ok()?.into_iter().find(|(name, _)| name == "input")?;
    (own.len() < items.len()).then(|| Edit { span, text: json!(own).to_string() })
}

fn error_event(object: &Value) -> Value {
    let error = object.get("error").cloned().unwrap_or_default();
    let member = |name: &str| error.get(name).cloned().unwrap_or_default();
    json!({
        "type": "error",
        "sequence_number": object.get("sequence_number").cloned().unwrap_or_default(),
        "code": member("code"),
        "message": member("message"),
        "param": member("param"),
        "error": error,
    })
}

/// The events that end a stream.
const COMPLETED: &str = "response.completed";
const INCOMPLETE: &str = "response.incomplete";

/// What a frame of a provider is. The end bears the whole response; there is no other mark of it, though some servers
/// send one.
fn look(frame: &Frame) -> Seen {
    let Some(data) = frame.data.as_deref().filter(|d| !d.is_empty() && *d != DONE) else { return Seen::Blank };
    let Ok(event) = serde_json::from_str::<Value>(data) else { return Seen::Garbage };
    match text_in(&event, "type") {
        Some("error" | "response.failed") => Seen::Error(failure(&event)),
        _ if event.get("error").is_some_and(|e| !e.is_null()) => Seen::Error(failure(&event)),
        Some(COMPLETED | INCOMPLETE) => Seen::End(event),
        Some(_) => Seen::Data(event),
        None => Seen::Garbage,
    }
}

/// The error of an event in the form of an answer's. It stands under `error`, within a failed response, or bare.
fn failure(event: &Value) -> Value {
    let told = ["/response/error", "/error"].iter().filter_map(|place| event.pointer(place)).find(|e| e.is_object());
    let bare = told.is_none() && text_in(event, "type") == Some("error");
    let error = told.or(bare.then_some(event)).unwrap_or(&Value::Null);
    let code = text_in(error, "code");
    let own = text_in(error, "type").filter(|kind| *kind != "error");
    let kind = own.unwrap_or(match code {
        Some("rate_limit_exceeded") => "rate_limit_error",
        None | Some("server_error") => "api_error",
        Some(_) => "invalid_request_error",
    });
    let mut out = json!({ "type": kind, "code": code, "param": error.get("param") });
    if let (Some(message), Some(out)) = (error.get("message"), out.as_object_mut()) {
        out.insert("message".to_owned(), message.clone());
    }
    json!({ "type": "error", "error": out })
}

/// Whether an event carries more than the announcement of what is to come.
fn begins(event: &Value) -> bool {
    let kind = text_in(event, "type").unwrap_or_default();
    match kind {
        "response.created" | "response.queued" | "response.in_progress" => false,
        "response.content_part.added" | "response.reasoning_summary_part.added" => false,
        "response.output_item.added" => {
            event.pointer("/item/type").and_then(Value::as_str).is_some_and(|t| t != "message" && t != "reasoning")
        }
        COMPLETED => !output(event.get("response").unwrap_or(&Value::Null)).is_empty(),
        _ => kind.starts_with("response."),
    }
}

/// A response's items.
fn output(response: &Value) -> &[Value] {
    response.get("output").and_then(Value::as_array).map_or(&[][..], Vec::as_slice)
}

/// A response's status for an end, and why it is incomplete if it is.
fn status(stop: &Stop) -> (&'static str, Option<&'static str>) {
    match stop {
        Stop::End | Stop::Sequence(_) | Stop::Calls | Stop::Pause => ("completed", None),
        Stop::Length | Stop::ContextFull => ("incomplete", Some("max_output_tokens")),
        Stop::Filtered => ("incomplete", Some("content_filter")),
    }
}

/// The end that a response tells; `None` when it has not ended, or failed.
fn stop(response: &Value) -> Option<Stop> {
    let reason = response.pointer("/incomplete_details/reason").and_then(Value::as_str);
    match (text_in(response, "status")?, reason) {
        ("completed", _) => Some(Stop::End),
        ("incomplete", Some("content_filter")) => Some(Stop::Filtered),
        ("incomplete", _) => Some(Stop::Length),
        _ => None,
    }
}

/// Whether an answer may be served to an equal request: it ended, and nothing was filtered away.
fn may_keep(json: &Value) -> bool {
    matches!(stop(json), Some(Stop::End | Stop::Length)) && json.get("error").is_none_or(Value::is_null)
}

/// Whether an answer may be served to a similar question: text and nothing else, complete, and no thought that only
/// its own conversation can be continued with.
fn may_share(json: &Value) -> bool {
    let said = |item: &Value| match text_in(item, "type") {
        Some("message") => {
            let parts = item.get("content").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let only_text = parts.iter().all(|p| text_in(p, "type") == Some("output_text"));
            only_text.then(|| parts.iter().any(|p| text_in(p, "text").is_some_and(|t| !t.trim().is_empty())))
        }
        Some("reasoning") => item.get("encrypted_content").is_none_or(Value::is_null).then_some(false),
        _ => None,
    };
    let told: Option<Vec<bool>> = output(json).iter().map(said).collect();
    text_in(json, "status") == Some("completed") && told.is_some_and(|all| all.contains(&true))
}
