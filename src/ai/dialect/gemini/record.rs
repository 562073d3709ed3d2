//! Records a stream of answers in pieces into the complete answer that they spell.

use super::super::Record;
use super::super::chat::{Fields, text_in};
use super::begins;
use super::sign::{self, Signature};
use crate::ai::usage::Usage;
use serde_json::Value;
use std::collections::BTreeMap;

/// Candidates that are followed, and parts of each; more is no sane answer.
const CANDIDATES_MAX: usize = 64;
const PARTS_MAX: usize = 65_536;

/// What signs a part.
const SIGNATURE: &str = "thoughtSignature";

/// A candidate in the making.
#[derive(Default)]
struct Growing {
    parts: Vec<Value>,
    content: Fields,
    rest: Fields,
}

/// An answer in the making.
pub struct Recorder {
    top: Fields,
    candidates: BTreeMap<u64, Growing>,
    usage: Fields,
    bytes_left: usize,
    whole: bool,
    content: bool,
}

impl Recorder {
    /// A recorder that gives up recording (but not following) after `bytes_max` of events.
    pub fn new(bytes_max: usize) -> Self {
        Recorder {
            top: Fields::new(),
            candidates: BTreeMap::new(),
            usage: Fields::new(),
            bytes_left: bytes_max,
            whole: true,
            content: false,
        }
    }

    fn candidate(&mut self, candidate: &Value) {
        let Some(members) = candidate.as_object() else { return };
        let index = members.get("index").and_then(Value::as_u64).unwrap_or(0);
        if self.candidates.len() >= CANDIDATES_MAX && !self.candidates.contains_key(&index) {
            self.whole = false;
            return;
        }
        let whole = self.whole;
        let into = self.candidates.entry(index).or_default();
        for (name, value) in members {
            match name.as_str() {
                "content" if whole => self.whole &= into.add(value),
                "content" => {}
                _ => drop(into.rest.insert(name.clone(), value.clone())),
            }
        }
    }
}

impl Growing {
    /// Takes a piece of the content; false when it is beyond all bounds or comes in fragments that are not known here.
    fn add(&mut self, content: &Value) -> bool {
        for (name, value) in content.as_object().into_iter().flatten() {
            if name != "parts" {
                self.content.insert(name.clone(), value.clone());
            }
        }
        let parts = content.get("parts").and_then(Value::as_array);
        for part in parts.into_iter().flatten() {
            let fragment = |call: &Value| call.get("partialArgs").is_some() || call.get("willContinue").is_some();
            if self.parts.len() >= PARTS_MAX || part.get("functionCall").is_some_and(fragment) {
                return false;
            }
            match self.parts.last_mut() {
                Some(last) if continues(last, part) => more(last, part),
                _ => self.parts.push(part.clone()),
            }
        }
        true
    }
}

/// Whether a part is more of the text or of the thought before, or the signature of that thought. Any other part that
/// is signed stands alone.
fn continues(last: &Value, part: &Value) -> bool {
    let thought = |p: &Value| p.get("thought").and_then(Value::as_bool).unwrap_or(false);
    let plain = |p: &Value, more: &str| {
        let known = |k: &String| k == "text" || k == "thought" || k == more;
        p.get("text").is_some_and(Value::is_string) && p.as_object().is_some_and(|m| m.keys().all(known))
    };
    let signs = |p: &Value| {
        let of_thought = |s: &str| matches!(sign::read(s), Signature::Of(_));
        thought(p) && text_in(p, "text") == Some("") && text_in(p, SIGNATURE).is_some_and(of_thought)
    };
    plain(last, "") && thought(last) == thought(part) && (plain(part, "") || plain(part, SIGNATURE) && signs(part))
}

fn more(last: &mut Value, part: &Value) {
    if let (Some(Value::String(said)), Some(text)) = (last.get_mut("text"), text_in(part, "text")) {
        said.push_str(text);
    }
    if let (Some(members), Some(signature)) = (last.as_object_mut(), part.get(SIGNATURE)) {
        members.insert(SIGNATURE.to_owned(), signature.clone());
    }
}

impl Record for Recorder {
    fn add(&mut self, event: &Value, bytes: usize) {
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => self.bytes_left = left,
            None => self.whole = false,
        }
        self.content |= begins(event);
        for (name, value) in event.as_object().into_iter().flatten() {
            match (name.as_str(), value) {
                ("candidates", Value::Array(all)) => all.iter().for_each(|c| self.candidate(c)),
                ("usageMetadata", Value::Object(counts)) => {
                    self.usage.extend(counts.iter().map(|(k, v)| (k.clone(), v.clone())));
                }
                _ => drop(self.top.insert(name.clone(), value.clone())),
            }
        }
    }

    fn has_content(&self) -> bool {
        self.content
    }

    fn finished(&self) -> bool {
        let blocked = self.top.get("promptFeedback").is_some_and(|f| f.get("blockReason").is_some());
        let all = !self.candidates.is_empty() && self.candidates.values().all(|c| c.rest.contains_key("finishReason"));
        blocked || all
    }

    fn usage(&self) -> Option<Usage> {
        Usage::from_gemini_fields(&self.usage)
    }

    fn answer(self: Box<Self>) -> Option<Value> {
        if !self.whole || !self.finished() {
            return None;
        }
        let mut out = Fields::new();
        let candidates: Vec<Value> = self.candidates.into_values().map(Growing::whole).collect();
        if !candidates.is_empty() {
            out.insert("candidates".to_owned(), candidates.into());
        }
        if !self.usage.is_empty() {
            out.insert("usageMetadata".to_owned(), Value::Object(self.usage));
        }
        out.extend(self.top);
        Some(Value::Object(out))
    }
}

impl Growing {
    fn whole(mut self) -> Value {
        // The last piece of a stream often has an empty text, so that it has a part at all.
        let silent = |p: &Value| p.as_object().is_some_and(|m| m.len() == 1) && text_in(p, "text") == Some("");
        if self.parts.len() > 1 {
            self.parts.retain(|p| !silent(p));
        }
        let mut content = Fields::new();
        if !self.parts.is_empty() {
            content.insert("parts".to_owned(), self.parts.into());
        }
        content.extend(self.content);
        let mut out = Fields::new();
        out.insert("content".to_owned(), Value::Object(content));
        out.extend(self.rest);
        Value::Object(out)
    }
}
