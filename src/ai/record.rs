//! Records a chat stream into the complete answer it spells, so that it can be stored and billed.

use super::dialect::Record;
use super::usage::Usage;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What a chat's answer calls itself.
const CHAT: &str = "chat.completion";
/// Choices and parallel tool calls that are followed; more is no sane answer.
const CHOICES_MAX: usize = 128;
const ITEMS_MAX: u64 = 1024;

#[derive(Default)]
struct Choice {
    message: Map<String, Value>,
    rest: Map<String, Value>,
    finish_reason: Option<Value>,
}

/// An answer in the making.
pub struct Recorder {
    /// The answer's name for itself; a completion has texts where a chat has messages.
    object: &'static str,
    top: Map<String, Value>,
    choices: BTreeMap<u64, Choice>,
    usage: Option<Value>,
    bytes_left: usize,
    whole: bool,
    content: bool,
}

impl Recorder {
    /// A recorder that gives up recording (but not following) after `bytes_max` of chunks.
    pub fn new(bytes_max: usize) -> Self {
        Recorder {
            object: CHAT,
            top: Map::new(),
            choices: BTreeMap::new(),
            usage: None,
            bytes_left: bytes_max,
            whole: true,
            content: false,
        }
    }

    /// The same for a stream of legacy completions.
    pub fn of_completions(bytes_max: usize) -> Self {
        Recorder { object: "text_completion", ..Recorder::new(bytes_max) }
    }

    fn add_choice(&mut self, choice: &Value) {
        let Value::Object(fields) = choice else { return };
        self.content |= has_content(fields);
        let index = fields.get("index").and_then(Value::as_u64).unwrap_or(0);
        if self.choices.len() >= CHOICES_MAX && !self.choices.contains_key(&index) {
            self.whole = false;
            return;
        }
        let whole = self.whole;
        let into = self.choices.entry(index).or_default();
        for (key, value) in fields {
            match key.as_str() {
                "index" => {}
                "finish_reason" if value.is_null() => {}
                "finish_reason" => into.finish_reason = Some(value.clone()),
                _ if !whole => {}
                "delta" => {
                    for (k, v) in value.as_object().into_iter().flatten() {
                        self.whole &= merge_member(&mut into.message, k, v);
                    }
                }
                // Lists that grow; what else stands there is told anew each time, such as Azure's filter results.
                "logprobs" => self.whole &= merge_member(&mut into.rest, key, value),
                _ => drop(into.rest.insert(key.clone(), value.clone())),
            }
        }
    }
}

impl Record for Recorder {
    fn add(&mut self, chunk: &Value, bytes: usize) {
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => self.bytes_left = left,
            None => self.whole = false,
        }
        let Value::Object(fields) = chunk else { return };
        for (key, value) in fields {
            match key.as_str() {
                "choices" => {
                    for choice in value.as_array().into_iter().flatten() {
                        self.add_choice(choice);
                    }
                }
                "usage" if value.is_null() => {}
                "usage" => self.usage = Some(value.clone()),
                "object" => {}
                _ => fill(&mut self.top, key, value),
            }
        }
    }

    fn has_content(&self) -> bool {
        self.content
    }

    fn finished(&self) -> bool {
        !self.choices.is_empty() && self.choices.values().all(|c| c.finish_reason.is_some())
    }

    fn usage(&self) -> Option<Usage> {
        self.usage.as_ref().and_then(Usage::from_openai)
    }

    fn answer(self: Box<Self>) -> Option<Value> {
        if !self.whole || !self.finished() {
            return None;
        }
        let (object, mut out) = (self.object, self.top);
        out.insert("object".to_owned(), self.object.into());
        let choices = self.choices.into_iter().map(|(index, c)| {
            let mut choice = c.rest;
            choice.insert("index".to_owned(), index.into());
            if object == CHAT {
                choice.insert("message".to_owned(), Value::Object(without_gaps(c.message)));
            }
            choice.insert("finish_reason".to_owned(), c.finish_reason.unwrap_or(Value::Null));
            Value::Object(choice)
        });
        out.insert("choices".to_owned(), choices.collect());
        if let Some(usage) = self.usage {
            out.insert("usage".to_owned(), usage);
        }
        Some(Value::Object(out))
    }
}

/// Whether a choice of a chunk carries more than a role: text (a completion's stands beside the delta), tool calls, reasoning, or the end.
pub fn has_content(choice: &Map<String, Value>) -> bool {
    let delta = choice.get("delta").and_then(Value::as_object);
    let says = delta.is_some_and(|d| d.iter().any(|(k, v)| k != "role" && !is_empty(v)));
    let text = choice.get("text").is_some_and(|t| !is_empty(t));
    says || text || choice.get("finish_reason").is_some_and(|v| !v.is_null())
}

fn is_empty(v: &Value) -> bool {
    match v {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        _ => false,
    }
}

/// Sets a member that has no value yet. Azure's first chunk has an empty id and model.
fn fill(map: &mut Map<String, Value>, key: &str, value: &Value) {
    match map.get_mut(key) {
        Some(old) if is_empty(old) => *old = value.clone(),
        Some(_) => {}
        None => drop(map.insert(key.to_owned(), value.clone())),
    }
}

/// Adds a fragment to a member; false when it is beyond all bounds.
fn merge_member(map: &mut Map<String, Value>, key: &str, fragment: &Value) -> bool {
    if fragment.is_null() {
        if !map.contains_key(key) {
            map.insert(key.to_owned(), Value::Null);
        }
        return true;
    }
    merge(map.entry(key).or_insert(Value::Null), key, fragment)
}

fn merge(old: &mut Value, key: &str, fragment: &Value) -> bool {
    match (&mut *old, fragment) {
        (Value::Null, Value::Array(_)) => {
            *old = Value::Array(Vec::new());
            merge(old, key, fragment)
        }
        (Value::Null, Value::Object(_)) => {
            *old = Value::Object(Map::new());
            merge(old, key, fragment)
        }
        (Value::Object(into), Value::Object(from)) => from.iter().all(|(k, v)| merge_member(into, k, v)),
        (Value::Array(into), Value::Array(from)) => from.iter().all(|item| merge_item(into, item)),
        (Value::String(into), Value::String(from)) => {
            merge_text(into, key, from);
            true
        }
        (_, other) => {
            *old = other.clone();
            true
        }
    }
}

/// Names and ids come once or are repeated whole; all other text comes in fragments.
fn merge_text(into: &mut String, key: &str, from: &str) {
    match key {
        "role" | "type" | "id" if !into.is_empty() => {}
        "name" if into == from => {}
        _ => into.push_str(from),
    }
}

/// An item with an `index` is a fragment of the item at that place; any other is a new item.
fn merge_item(into: &mut Vec<Value>, item: &Value) -> bool {
    let Some(index) = item.get("index").and_then(Value::as_u64) else {
        into.push(item.clone());
        return true;
    };
    let (true, Ok(place)) = (index < ITEMS_MAX, usize::try_from(index)) else { return false };
    if into.len() <= place {
        into.resize(place + 1, Value::Null);
    }
    let mut fragment = item.clone();
    if let Some(fields) = fragment.as_object_mut() {
        fields.shift_remove("index");
    }
    into.get_mut(place).is_some_and(|old| merge(old, "", &fragment))
}

/// Drops places that no fragment ever filled.
fn without_gaps(mut message: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
        calls.retain(|c| !c.is_null());
    }
    message
}
