//! The parts of a client's contents, read into blocks: what is said, shown, called and answered.

use super::super::chat::{Block, Call, Dropped, Fields, Media, Outcome, Part, Unsupported};
use super::members::{either, either_list, either_object, either_text};
use super::sign;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::VecDeque;

/// Calls that may wait for their results; more is no sane conversation.
const CALLS_MAX: usize = 4096;
/// What Google's files and buckets are addressed by: nobody else can open them.
const OWN_FILES: [&str; 2] = ["gs://", "https://generativelanguage.googleapis.com/"];

/// The calls of a conversation that no result has answered yet. Google's clients need not name calls: one without an id
/// gets one, and a result without an id answers the first call of its function.
#[derive(Default)]
pub struct Calls {
    open: VecDeque<(String, String)>,
    given: usize,
}

impl Calls {
    fn begin(&mut self, name: &str, id: Option<String>) -> String {
        let id = id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{}", self.given));
        self.given += 1;
        if self.open.len() < CALLS_MAX {
            self.open.push_back((name.to_owned(), id.clone()));
        }
        id
    }

    fn answer(&mut self, name: &str, id: Option<&str>) -> Option<String> {
        let fits = |(n, own): &(String, String)| match id {
            Some(id) => own == id,
            None => n == name,
        };
        let at = self.open.iter().position(fits)?;
        self.open.remove(at).map(|(_, id)| id)
    }
}

/// The blocks of a content's parts.
pub fn parts(all: Vec<Value>, at: &str, calls: &mut Calls, dropped: &mut Dropped) -> Result<Vec<Block>, Unsupported> {
    let mut out: Vec<Block> = Vec::new();
    for (i, part) in all.into_iter().enumerate() {
        let at = format!("{at}.parts[{i}]");
        let Value::Object(mut part) = part else { return Err(Unsupported::at(at, "must be an object")) };
        let thought = either(&mut part, "thought") == Some(Value::Bool(true));
        let signed = either_text(&mut part, "thoughtSignature").filter(|s| !s.is_empty());
        if thought {
            self::thought(&mut out, either_text(&mut part, "text").unwrap_or_default(), signed);
            dropped.rest(&part);
            continue;
        }
        if let Some(signed) = signed {
            sign::before(&mut out, sign::read(&signed));
        }
        if let Some(read) = block(&mut part, &at, calls)? {
            out.push(Block { part: read, rest: part });
        } else {
            dropped.rest(&part);
        }
    }
    Ok(out)
}

/// A piece of a thought: pieces of one thought follow each other, and its signature ends it.
fn thought(out: &mut Vec<Block>, text: String, signed: Option<String>) {
    if let Some(Part::Reasoning(said, None)) = out.last_mut().map(|b| &mut b.part) {
        said.push_str(&text);
    } else {
        out.push(Block::new(Part::Reasoning(text, None)));
    }
    if let Some(signed) = signed {
        sign::before(out, sign::read(&signed));
    }
}

/// What a part says; `None` when it says nothing. The members that are read are taken out.
fn block(part: &mut Fields, at: &str, calls: &mut Calls) -> Result<Option<Part>, Unsupported> {
    if let Some(text) = either_text(part, "text") {
        return Ok(Some(text).filter(|t| !t.is_empty()).map(Part::Text));
    }
    if let Some(mut data) = either_object(part, "inlineData") {
        let kind = either_text(&mut data, "mimeType").unwrap_or_default();
        let (bytes, name) = (either_text(&mut data, "data").unwrap_or_default(), either_text(&mut data, "displayName"));
        let bytes = standard_base64(&bytes).ok_or_else(|| Unsupported::at(at, "the data is not base64"))?;
        return shown(kind.clone(), Media::Inline(kind, bytes), name, at).map(Some);
    }
    if let Some(mut file) = either_object(part, "fileData") {
        let kind = either_text(&mut file, "mimeType").unwrap_or_default();
        let (uri, name) =
            (either_text(&mut file, "fileUri").unwrap_or_default(), either_text(&mut file, "displayName"));
        if OWN_FILES.iter().any(|own| uri.starts_with(own)) {
            return Err(Unsupported::at(
                at,
                "a file kept at Google is not known to this model's provider; send it inline",
            ));
        }
        return shown(kind, Media::Url(uri), name, at).map(Some);
    }
    if let Some(mut call) = either_object(part, "functionCall") {
        let name = either_text(&mut call, "name").ok_or_else(|| Unsupported::at(at, "the call has no name"))?;
        let id = calls.begin(&name, either_text(&mut call, "id"));
        let arguments = either(&mut call, "args").unwrap_or_else(|| Value::Object(Fields::new())).to_string();
        return Ok(Some(Part::Call(Call { id, name, arguments })));
    }
    if let Some(response) = either_object(part, "functionResponse") {
        return result(response, at, calls).map(Some);
    }
    match part.iter().find(|(_, v)| !v.is_null()) {
        Some((name, _)) => Err(Unsupported::at(at, format!("{name} has no counterpart at this model's provider"))),
        None => Ok(None),
    }
}

/// An image, or a document of another kind.
fn shown(kind: String, media: Media, name: Option<String>, at: &str) -> Result<Part, Unsupported> {
    match kind.split('/').next().unwrap_or_default() {
        "image" => Ok(Part::Image(media)),
        "audio" | "video" => Err(Unsupported::at(at, "sound and video have no counterpart at this model's provider")),
        _ => Ok(Part::Document(media, name)),
    }
}

/// What a function returned: its `output` or `result`, its `error`, or the whole of the response.
fn result(mut told: Fields, at: &str, calls: &mut Calls) -> Result<Part, Unsupported> {
    let name = either_text(&mut told, "name").unwrap_or_default();
    let id = either_text(&mut told, "id").filter(|id| !id.is_empty());
    let id = calls
        .answer(&name, id.as_deref())
        .ok_or_else(|| Unsupported::at(at, format!("there is no open call of {name:?} that this answers")))?;
    let response = either_object(&mut told, "response").unwrap_or_default();
    let only = if response.len() == 1 { response.iter().next() } else { None };
    let plain = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let (text, failed) = match only {
        Some((key, value)) if matches!(key.as_str(), "output" | "result") => (plain(value), false),
        Some((key, value)) if key == "error" => (plain(value), true),
        _ => (Value::Object(response).to_string(), false),
    };
    let mut blocks = vec![Block::text(text)];
    for (i, part) in either_list(&mut told, "parts").into_iter().enumerate() {
        let at = format!("{at}.parts[{i}]");
        let Value::Object(mut part) = part else { return Err(Unsupported::at(at, "must be an object")) };
        if !["inlineData", "fileData"].iter().any(|name| super::members::get(&part, name).is_some()) {
            return Err(Unsupported::at(at, "must be inlineData or fileData"));
        }
        blocks.extend(block(&mut part, &at, calls)?.map(Block::new));
    }
    Ok(Part::Result(Outcome { id, blocks, failed }))
}

/// Base64 in the letters that the other dialects take: Google's SDKs write it in those for URLs.
fn standard_base64(text: &str) -> Option<String> {
    if !text.bytes().any(|b| b == b'-' || b == b'_') {
        return Some(text.to_owned());
    }
    sign::decoded(text).map(|bytes| STANDARD.encode(bytes))
}
