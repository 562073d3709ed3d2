//! Records a stream of response events into the complete response, which its last event tells.

use super::super::Record;
use super::super::chat::text_in;
use super::output;
use crate::ai::usage::Usage;
use serde_json::Value;
use std::collections::BTreeMap;

/// Items that are followed; more is no sane answer.
const ITEMS_MAX: usize = 1024;

/// A response in the making.
pub struct Recorder {
    /// Whole items by their index, for servers whose last event holds none.
    items: BTreeMap<u64, Value>,
    response: Option<Value>,
    usage: Option<Usage>,
    next: u64,
    bytes_left: usize,
    whole: bool,
    content: bool,
}

impl Recorder {
    /// A recorder that gives up recording (but not following) after `bytes_max` of events.
    pub fn new(bytes_max: usize) -> Self {
        let (items, bytes_left) = (BTreeMap::new(), bytes_max);
        Recorder { items, response: None, usage: None, next: 0, bytes_left, whole: true, content: false }
    }
}

impl Record for Recorder {
    fn add(&mut self, event: &Value, bytes: usize) {
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => self.bytes_left = left,
            None => self.whole = false,
        }
        if let Some(number) = event.get("sequence_number").and_then(Value::as_u64) {
            self.next = number.saturating_add(1);
        }
        self.content |= super::begins(event);
        match text_in(event, "type") {
            Some("response.output_item.done") if self.whole && self.items.len() < ITEMS_MAX => {
                let index = event.get("output_index").and_then(Value::as_u64).unwrap_or(0);
                self.items.extend(event.get("item").map(|item| (index, item.clone())));
            }
            Some(super::COMPLETED | super::INCOMPLETE) => {
                let response = event.get("response");
                self.usage = response.and_then(|r| r.get("usage")).and_then(Usage::from_responses);
                self.response = response.cloned();
            }
            _ => {}
        }
    }

    fn has_content(&self) -> bool {
        self.content
    }

    /// A response has ended when it says so, and not before.
    fn finished(&self) -> bool {
        self.response.is_some()
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn answer(self: Box<Self>) -> Option<Value> {
        let mut response = self.response.filter(|r| self.whole && super::stop(r).is_some())?;
        if output(&response).is_empty() {
            let items: Vec<Value> = self.items.into_values().collect();
            response.as_object_mut()?.insert("output".to_owned(), items.into());
        }
        Some(response)
    }

    fn next_number(&self) -> Option<u64> {
        Some(self.next)
    }
}
