//! A provider's stream of response events, read event by event. What is told in pieces is told again as a whole; some
//! servers send only the wholes, so that each whole is good for what its pieces left out.

use super::super::chat::{Event, Part, Stop, text_in};
use super::super::{Garbage, Progress, Reader as Read};
use super::{answer, items, output, stop};
use crate::ai::usage::Usage;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Calls that are followed, and texts; more is no sane answer.
const CALLS_MAX: usize = 256;
const TEXTS_MAX: usize = 4096;

/// What grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Said,
    Refused,
    Thought,
    Summary,
    Arguments,
}

/// Where: the item's index, and the part's.
type Place = (Kind, u64, u64);

/// The reader.
#[derive(Default)]
pub struct Reader {
    started: bool,
    /// Bytes told of each text.
    told: BTreeMap<Place, usize>,
    /// The number of the call at each index.
    calls: BTreeMap<u64, usize>,
    /// Items that are whole.
    done: BTreeSet<u64>,
    refused: bool,
    progress: Progress,
}

impl Read for Reader {
    fn read(&mut self, event: &Value, out: &mut Vec<Event>) -> Result<(), Garbage> {
        let number = |name| event.get(name).and_then(Value::as_u64).unwrap_or(0);
        let kind = text_in(event, "type").unwrap_or_default();
        if !kind.starts_with("response.") {
            return Ok(());
        }
        self.start(event, out);
        let (index, part) = (number("output_index"), number("content_index"));
        let at = match kind.rsplit_once('.').map_or(kind, |(what, _)| what) {
            "response.output_text" => (Kind::Said, index, part),
            "response.refusal" => (Kind::Refused, index, part),
            "response.reasoning_text" => (Kind::Thought, index, part),
            "response.reasoning_summary_text" => (Kind::Summary, index, number("summary_index")),
            "response.function_call_arguments" => (Kind::Arguments, index, 0),
            _ => return self.other(kind, index, event, out),
        };
        match (text_in(event, "delta"), whole(event, at.0)) {
            (Some(piece), _) if kind.ends_with(".delta") => self.tell(at, piece, out),
            (_, Some(text)) if kind.ends_with(".done") => self.rest(at, text, out),
            _ => Ok(()),
        }
    }

    fn progress(&self) -> &Progress {
        &self.progress
    }

    /// A stream of this dialect has not ended before it says so.
    fn may_end(&self) -> bool {
        false
    }
}

impl Reader {
    fn start(&mut self, event: &Value, out: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.started, true) {
            let response = event.get("response").unwrap_or(&Value::Null);
            let word = |name| text_in(response, name).unwrap_or_default().to_owned();
            out.push(Event::Start(word("id"), word("model"), None));
        }
    }

    fn other(&mut self, kind: &str, index: u64, event: &Value, out: &mut Vec<Event>) -> Result<(), Garbage> {
        let item = event.get("item").unwrap_or(&Value::Null);
        match kind {
            "response.output_item.added" if text_in(item, "type") == Some("function_call") => {
                self.call(index, item, out)
            }
            "response.output_item.done" => self.item(index, item, out),
            "response.output_text.annotation.added" => {
                self.progress.dropped.note("annotations");
                Ok(())
            }
            super::COMPLETED => self.finish(event, Stop::End, out),
            super::INCOMPLETE => self.finish(event, Stop::Length, out),
            // Event types may be added at any time.
            _ => Ok(()),
        }
    }

    /// A piece of a text.
    fn tell(&mut self, at: Place, piece: &str, out: &mut Vec<Event>) -> Result<(), Garbage> {
        let (kind, index, part) = at;
        if piece.is_empty() {
            return Ok(());
        }
        let call = self.calls.get(&index).copied();
        if kind == Kind::Arguments && call.is_none() {
            // The whole call is still to come.
            return Ok(());
        }
        if self.told.len() >= TEXTS_MAX {
            return Err(Garbage);
        }
        let first = !self.told.contains_key(&at);
        *self.told.entry(at).or_default() += piece.len();
        let text = piece.to_owned();
        match (kind, call) {
            (Kind::Said, _) => out.push(Event::Text(text)),
            (Kind::Refused, _) => {
                self.refused = true;
                out.push(Event::Text(text));
            }
            (Kind::Thought | Kind::Summary, _) => {
                let paragraph = if first && part > 0 { items::PARAGRAPH } else { "" };
                out.push(Event::Reasoning(format!("{paragraph}{text}")));
            }
            (Kind::Arguments, Some(k)) => out.push(Event::Arguments(k, text)),
            (Kind::Arguments, None) => {}
        }
        Ok(())
    }

    /// What the pieces of a text have left out.
    fn rest(&mut self, at: Place, whole: &str, out: &mut Vec<Event>) -> Result<(), Garbage> {
        let told = self.told.get(&at).copied().unwrap_or(0);
        self.tell(at, whole.get(told..).unwrap_or_default(), out)
    }

    fn call(&mut self, index: u64, item: &Value, out: &mut Vec<Event>) -> Result<(), Garbage> {
        // A call that is announced without its name begins when it is whole.
        let Some(call) = answer::call(item) else { return Ok(()) };
        let k = self.calls.len();
        if k >= CALLS_MAX {
            return Err(Garbage);
        }
        if let std::collections::btree_map::Entry::Vacant(place) = self.calls.entry(index) {
            place.insert(k);
            out.push(Event::Call(k, call.id, call.name));
        }
        self.rest((Kind::Arguments, index, 0), &call.arguments, out)
    }

    /// A whole item.
    fn item(&mut self, index: u64, item: &Value, out: &mut Vec<Event>) -> Result<(), Garbage> {
        if !self.done.insert(index) {
            return Ok(());
        }
        match text_in(item, "type").unwrap_or_default() {
            "message" => {
                let parts = item.get("content").and_then(Value::as_array);
                for (i, part) in (0..).zip(parts.into_iter().flatten()) {
                    match (text_in(part, "text"), text_in(part, "refusal")) {
                        (_, Some(text)) => self.rest((Kind::Refused, index, i), text, out)?,
                        (Some(text), None) => self.rest((Kind::Said, index, i), text, out)?,
                        (None, None) => {}
                    }
                }
                out.push(Event::Break);
            }
            "function_call" => {
                self.call(index, item, out)?;
                // Nothing has begun: a call without a name.
                if !self.calls.contains_key(&index) {
                    return Err(Garbage);
                }
            }
            "reasoning" => self.thought(index, item, out)?,
            other => self.progress.dropped.note(other),
        }
        Ok(())
    }

    fn thought(&mut self, index: u64, item: &Value, out: &mut Vec<Event>) -> Result<(), Garbage> {
        let known = |k: Kind| self.told.range((k, index, 0)..=(k, index, u64::MAX)).next().is_some();
        if !known(Kind::Thought) && !known(Kind::Summary) {
            self.tell((Kind::Thought, index, 0), &items::thought_text(item), out)?;
        }
        match items::thought(item) {
            Some(Part::Reasoning(_, Some(signature))) => out.push(Event::Signature(signature)),
            Some(Part::Redacted(data)) => out.push(Event::Redacted(data)),
            _ => {}
        }
        out.push(Event::Break);
        Ok(())
    }

    fn finish(&mut self, event: &Value, default: Stop, out: &mut Vec<Event>) -> Result<(), Garbage> {
        if std::mem::replace(&mut self.progress.finished, true) {
            return Ok(());
        }
        let response = event.get("response").unwrap_or(&Value::Null);
        // A server that tells no item by itself tells them all here.
        if self.done.is_empty() {
            for (index, item) in (0..).zip(output(response)) {
                self.item(index, item, out)?;
            }
        }
        let stop = stop(response).unwrap_or(default);
        out.push(Event::Finish(stop.given(!self.calls.is_empty(), self.refused)));
        self.progress.usage = response.get("usage").and_then(Usage::from_responses);
        out.extend(self.progress.usage.map(Event::Usage));
        Ok(())
    }
}

/// The whole text that a `done` event tells.
fn whole(event: &Value, kind: Kind) -> Option<&str> {
    let member = match kind {
        Kind::Refused => "refusal",
        Kind::Arguments => "arguments",
        Kind::Said | Kind::Thought | Kind::Summary => "text",
    };
    text_in(event, member)
}
