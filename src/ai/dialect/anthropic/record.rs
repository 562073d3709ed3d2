//! Records a stream of message events into the complete message that it spells.

use super::super::Record;
use super::super::Wire;
use super::super::chat::{Fields, text_in};
use super::Anthropic;
use super::stream_in::merge_usage;
use super::write::input;
use crate::ai::usage::Usage;
use serde_json::Value;
use std::collections::BTreeMap;

/// Blocks that are followed; more is no sane answer.
const BLOCKS_MAX: usize = 1024;

/// A block in the making.
struct Growing {
    block: Fields,
    /// The text of a tool's input, which comes in fragments that are JSON only together.
    input: String,
}

/// A message in the making.
pub struct Recorder {
    message: Fields,
    blocks: BTreeMap<u64, Growing>,
    usage: Fields,
    bytes_left: usize,
    whole: bool,
    content: bool,
    stopped: bool,
}

impl Recorder {
    /// A recorder that gives up recording (but not following) after `bytes_max` of events.
    pub fn new(bytes_max: usize) -> Self {
        Recorder {
            message: Fields::new(),
            blocks: BTreeMap::new(),
            usage: Fields::new(),
            bytes_left: bytes_max,
            whole: true,
            content: false,
            stopped: false,
        }
    }

    fn start(&mut self, event: &Value) {
        if let Some(message) = event.get("message").and_then(Value::as_object) {
            merge_usage(&mut self.usage, message.get("usage"));
            self.message = message.clone();
        }
    }

    fn block(&mut self, index: u64, event: &Value) {
        match event.get("content_block").and_then(Value::as_object) {
            Some(block) if self.blocks.len() < BLOCKS_MAX => {
                self.blocks.insert(index, Growing { block: block.clone(), input: String::new() });
            }
            _ => self.whole = false,
        }
    }

    fn delta(&mut self, index: u64, delta: &Value) {
        let Some(growing) = self.blocks.get_mut(&index) else {
            self.whole = false;
            return;
        };
        let word = |name| text_in(delta, name).unwrap_or_default();
        match text_in(delta, "type").unwrap_or_default() {
            "text_delta" => append(&mut growing.block, "text", word("text")),
            "thinking_delta" => append(&mut growing.block, "thinking", word("thinking")),
            "signature_delta" => drop(growing.block.insert("signature".to_owned(), word("signature").into())),
            "input_json_delta" => growing.input.push_str(word("partial_json")),
            "citations_delta" => {
                let citation = delta.get("citation").cloned().unwrap_or_default();
                match growing.block.get_mut("citations") {
                    Some(Value::Array(all)) => all.push(citation),
                    _ => drop(growing.block.insert("citations".to_owned(), Value::Array(vec![citation]))),
                }
            }
            // A stream with what this recorder does not know is followed, but not stored.
            _ => self.whole = false,
        }
    }

    fn message_delta(&mut self, event: &Value) {
        merge_usage(&mut self.usage, event.get("usage"));
        for (name, value) in event.get("delta").and_then(Value::as_object).into_iter().flatten() {
            self.message.insert(name.clone(), value.clone());
        }
    }
}

fn append(block: &mut Fields, name: &str, text: &str) {
    match block.get_mut(name) {
        Some(Value::String(all)) => all.push_str(text),
        _ => drop(block.insert(name.to_owned(), text.into())),
    }
}

impl Record for Recorder {
    fn add(&mut self, event: &Value, bytes: usize) {
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => self.bytes_left = left,
            None => self.whole = false,
        }
        let index = event.get("index").and_then(Value::as_u64).unwrap_or(0);
        self.content |= Anthropic.begins(event);
        match text_in(event, "type") {
            Some("message_start") => self.start(event),
            Some("message_delta") => self.message_delta(event),
            Some("message_stop") => self.stopped = true,
            _ if !self.whole => {}
            Some("content_block_start") => self.block(index, event),
            Some("content_block_delta") => self.delta(index, event.get("delta").unwrap_or(&Value::Null)),
            _ => {}
        }
    }

    fn has_content(&self) -> bool {
        self.content
    }

    /// A message has ended when it says so, and not before.
    fn finished(&self) -> bool {
        self.stopped
    }

    fn usage(&self) -> Option<Usage> {
        Usage::from_anthropic_fields(&self.usage)
    }

    fn answer(self: Box<Self>) -> Option<Value> {
        let ended = self.message.get("stop_reason").is_some_and(|r| !r.is_null());
        if !self.whole || !self.stopped || !ended {
            return None;
        }
        let mut content = Vec::new();
        for (_, Growing { mut block, input: text }) in self.blocks {
            if !text.is_empty() {
                block.insert("input".to_owned(), input(&text)?);
            }
            content.push(Value::Object(block));
        }
        let mut out = self.message;
        out.insert("content".to_owned(), content.into());
        out.insert("usage".to_owned(), Value::Object(self.usage));
        Some(Value::Object(out))
    }
}
