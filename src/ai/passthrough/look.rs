//! A look at the beginning of a body: as far as is needed to know its model and what the policy may want to read. The
//! rest is watched as it goes by, so that nothing that was decided on comes a second time.

use super::endpoint::{Asks, Called};
use super::form::Form;
use super::scan::{Found, Members};
use crate::ai::error::AiError;
use bytes::{Bytes, BytesMut};
use serde_json::Value;
use std::ops::Range;

/// The member, or field, that names the model.
const MODEL: &str = "model";
/// The members, or fields, that are looked for: the model, and where text of the client's stands.
const WANTED: [&str; 6] = [MODEL, "prompt", "input", "query", "documents", "instructions"];
/// As far as a body is read before it is passed on even where the model is known sooner: small ones are then known
/// whole, and can be sent again.
const EARLY_BYTES: usize = 64 << 10;

/// How a body is read.
enum Reader {
    /// A JSON object.
    Json(Members),
    /// A form.
    Form(Box<Form>),
    /// Not at all.
    Blind,
}

impl Reader {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), AiError> {
        let told = match self {
            Reader::Json(members) => members.feed(bytes).map_err(|e| (e.to_string(), "invalid_json")),
            Reader::Form(form) => form.feed(bytes).map_err(|e| (e.to_string(), "invalid_form")),
            Reader::Blind => Ok(()),
        };
        told.map_err(|(message, code)| AiError::invalid(message, None, code))
    }

    fn found(&self) -> &[Found] {
        match self {
            Reader::Json(members) => members.found(),
            Reader::Form(form) => form.found(),
            Reader::Blind => &[],
        }
    }

    fn ended(&self) -> bool {
        match self {
            Reader::Json(members) => members.ended(),
            Reader::Form(form) => form.ended(),
            Reader::Blind => true,
        }
    }
}

/// A look under way.
pub struct Look {
    reader: Reader,
    head: BytesMut,
    bytes_max: usize,
    thorough: bool,
}

/// What was seen.
pub struct Seen {
    /// The body's beginning.
    pub head: Bytes,
    /// Whether that is all of it.
    pub whole: bool,
    /// The model's name as the client wrote it, and its place.
    pub model: Option<(String, Range<usize>)>,
    /// The client's text, for the policy.
    pub text: String,
    json: bool,
}

/// Watches the rest of a body.
pub struct Watched {
    reader: Reader,
    found: usize,
    bytes_max: usize,
    thorough: bool,
}

impl Look {
    /// A look into at most `bytes_max` of a body. A thorough one finds everything that the policy may want to read, or
    /// else the body is refused.
    pub fn new(called: &Called, content_type: &str, bytes_max: usize, thorough: bool) -> Result<Look, AiError> {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let reader = match (called.asks, essence.as_str()) {
            (Asks::Nothing, _) => Reader::Blind,
            (Asks::Model, "" | "application/json") => Reader::Json(Members::new(&WANTED)),
            (Asks::Model, "multipart/form-data") => {
                let form = Form::new(content_type, &WANTED);
                Reader::Form(Box::new(form.map_err(|e| AiError::invalid(e.to_string(), None, "invalid_form"))?))
            }
            (Asks::Model, _) => {
                let message = "this endpoint takes application/json or multipart/form-data";
                return Err(AiError::invalid(message, None, "unsupported_media_type"));
            }
        };
        Ok(Look { reader, head: BytesMut::new(), bytes_max, thorough })
    }

    /// Takes a piece of the body.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), AiError> {
        self.head.extend_from_slice(piece);
        self.reader.feed(piece)
    }

    /// Whether more of the body would change nothing.
    pub fn enough(&self) -> bool {
        let known = !self.thorough && self.reader.found().iter().any(|f| f.name == MODEL);
        match &self.reader {
            Reader::Blind => true,
            _ => self.head.len() >= self.bytes_max || (known && self.head.len() >= EARLY_BYTES),
        }
    }

    /// What was seen, and the watch over the rest. `whole` says that there is none.
    pub fn end(self, whole: bool) -> Result<(Seen, Watched), AiError> {
        let Look { reader, head, bytes_max, thorough } = self;
        if whole && !reader.ended() {
            return Err(AiError::invalid("the request body is incomplete", None, "invalid_body"));
        }
        let (head, json) = (head.freeze(), matches!(reader, Reader::Json(_)));
        let place = reader.found().iter().find(|f| f.name == MODEL).map(|f| f.span.clone());
        let model = match place {
            Some(span) => Some((name(&head, &span, json)?, span)),
            None if matches!(reader, Reader::Blind) => None,
            None if whole => return Err(AiError::invalid("model must be a string", Some(MODEL), "missing_field")),
            None => return Err(late(MODEL, bytes_max)),
        };
        let text = if thorough { text(&head, reader.found(), json) } else { String::new() };
        let found = reader.found().len();
        Ok((Seen { head, whole, model, text, json }, Watched { reader, found, bytes_max, thorough }))
    }
}

/// The body is larger than what is looked at, and a field that decides comes after that.
fn late(name: &str, bytes_max: usize) -> AiError {
    let message = format!("the field {name:?} must stand within the first {bytes_max} bytes; put it before large ones");
    AiError::invalid(message, Some(name), "field_too_late")
}

fn name(head: &Bytes, span: &Range<usize>, json: bool) -> Result<String, AiError> {
    let bytes = head.get(span.clone()).unwrap_or_default();
    let name = if json { serde_json::from_slice(bytes).ok() } else { String::from_utf8(bytes.to_vec()).ok() };
    name.ok_or_else(|| AiError::invalid("model must be a string", Some(MODEL), "missing_field"))
}

/// The client's text, part by part on lines of their own.
fn text(head: &Bytes, found: &[Found], json: bool) -> String {
    let mut out = Vec::new();
    for f in found.iter().filter(|f| f.name != MODEL) {
        let bytes = head.get(f.span.clone()).unwrap_or_default();
        if json {
            let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
            texts(&value, &mut out);
        } else {
            out.push(String::from_utf8_lossy(bytes).into_owned());
        }
    }
    out.join("\n")
}

/// The strings in a value: of objects those called `text` (images stand there under other names).
fn texts(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(s) => out.push(s.clone()),
        Value::Array(all) => all.iter().for_each(|v| texts(v, out)),
        Value::Object(map) => map.get("text").into_iter().for_each(|v| texts(v, out)),
        _ => {}
    }
}

impl Seen {
    /// The beginning for a provider: the client's bytes with its name for the model.
    pub fn head_for(&self, upstream: &str) -> Bytes {
        let Some((_, span)) = self.model.as_ref().filter(|(name, _)| name != upstream) else {
            return self.head.clone();
        };
        let name = if self.json { Value::from(upstream).to_string() } else { upstream.to_owned() };
        let (before, after) = (self.head.get(..span.start), self.head.get(span.end..));
        [before.unwrap_or_default(), name.as_bytes(), after.unwrap_or_default()].concat().into()
    }
}

impl Watched {
    /// Looks at a piece that goes by. A model named twice is refused, and so is text that the policy has not read.
    pub fn check(&mut self, piece: &[u8]) -> Result<(), AiError> {
        self.reader.feed(piece)?;
        let new = self.reader.found().get(self.found..).and_then(|new| new.first());
        match new.filter(|f| self.thorough || f.name == MODEL) {
            Some(f) => Err(late(f.name, self.bytes_max)),
            None => Ok(()),
        }
    }
}
