//! A provider's stream of message events, read event by event.

use super::super::chat::{Event, Fields, text_in};
use super::super::{Garbage, Progress, Reader as Read};
use super::stop;
use crate::ai::usage::Usage;
use serde_json::Value;

/// Calls that are followed; more is no sane answer.
const CALLS_MAX: usize = 256;

/// The reader.
#[derive(Default)]
pub struct Reader {
    /// The content index of each call, in order, and whether its arguments have begun.
    calls: Vec<(u64, bool)>,
    /// Counts as the events tell them, merged.
    counts: Fields,
    started: bool,
    progress: Progress,
}

impl Read for Reader {
    fn read(&mut self, event: &Value, out: &mut Vec<Event>) -> Result<(), Garbage> {
        let index = event.get("index").and_then(Value::as_u64).unwrap_or(0);
        match text_in(event, "type") {
            Some("message_start") => {
                let message = event.get("message").ok_or(Garbage)?;
                self.count(message.get("usage"));
                let word = |name| text_in(message, name).unwrap_or_default().to_owned();
                self.started = true;
                out.push(Event::Start(word("id"), word("model"), self.progress.usage));
            }
            Some("ping") => out.push(Event::Ping),
            // Nothing may come before the message has begun.
            _ if !self.started => return Err(Garbage),
            Some("content_block_start") => {
                self.block(index, event.get("content_block").unwrap_or(&Value::Null), out)?;
            }
            Some("content_block_delta") => self.delta(index, event.get("delta").unwrap_or(&Value::Null), out),
            Some("content_block_stop") => self.stopped(index, out),
            Some("message_delta") => self.message_delta(event, out),
            // Event types may be added at any time: <https://platform.claude.com/docs/en/build-with-claude/streaming>.
            _ => {}
        }
        Ok(())
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
    fn count(&mut self, told: Option<&Value>) {
        merge_usage(&mut self.counts, told);
        self.progress.usage = Usage::from_anthropic_fields(&self.counts);
    }

    fn block(&mut self, index: u64, block: &Value, out: &mut Vec<Event>) -> Result<(), Garbage> {
        let word = |name| text_in(block, name).unwrap_or_default().to_owned();
        match text_in(block, "type").unwrap_or_default() {
            "text" => push_text(out, Event::Text, word("text")),
            "thinking" => push_text(out, Event::Reasoning, word("thinking")),
            "redacted_thinking" => out.push(Event::Redacted(word("data"))),
            "tool_use" => {
                let k = self.calls.len();
                if k >= CALLS_MAX {
                    return Err(Garbage);
                }
                out.push(Event::Call(k, word("id"), word("name")));
                // Some servers send the whole input at once.
                let whole = block.get("input").filter(|i| i.as_object().is_some_and(|o| !o.is_empty()));
                self.calls.push((index, whole.is_some()));
                out.extend(whole.map(|i| Event::Arguments(k, i.to_string())));
            }
            other => self.progress.dropped.note(other),
        }
        Ok(())
    }

    fn delta(&mut self, index: u64, delta: &Value, out: &mut Vec<Event>) {
        let word = |name| text_in(delta, name).unwrap_or_default().to_owned();
        match text_in(delta, "type").unwrap_or_default() {
            "text_delta" => push_text(out, Event::Text, word("text")),
            "thinking_delta" => push_text(out, Event::Reasoning, word("thinking")),
            "signature_delta" => push_text(out, Event::Signature, word("signature")),
            "input_json_delta" => {
                // A server tool's input belongs to no call of the client's.
                let fragment = word("partial_json");
                let mut calls = self.calls.iter_mut().enumerate();
                if let Some((k, (_, begun))) = calls.find(|(_, (i, _))| *i == index && !fragment.is_empty()) {
                    *begun = true;
                    out.push(Event::Arguments(k, fragment));
                }
            }
            "citations_delta" => self.progress.dropped.note("citations"),
            other => self.progress.dropped.note(other),
        }
    }

    /// A call without arguments has an empty object of them, which is no text at all in this stream.
    fn stopped(&mut self, index: u64, out: &mut Vec<Event>) {
        let mut calls = self.calls.iter_mut().enumerate();
        if let Some((k, (_, begun))) = calls.find(|(_, (i, begun))| *i == index && !begun) {
            *begun = true;
            out.push(Event::Arguments(k, "{}".to_owned()));
        }
        out.push(Event::Break);
    }

    fn message_delta(&mut self, event: &Value, out: &mut Vec<Event>) {
        self.count(event.get("usage"));
        if let Some(reason) =
            event.pointer("/delta/stop_reason").and_then(Value::as_str).filter(|_| !self.progress.finished)
        {
            self.progress.finished = true;
            let sequence = event.pointer("/delta/stop_sequence").and_then(Value::as_str);
            out.push(Event::Finish(stop(reason, sequence).given(!self.calls.is_empty(), false)));
        }
        out.extend(self.progress.usage.map(Event::Usage));
    }
}

fn push_text(out: &mut Vec<Event>, event: impl FnOnce(String) -> Event, text: String) {
    if !text.is_empty() {
        out.push(event(text));
    }
}

/// Counts are cumulative: a later one replaces the earlier, and one that is not repeated stands.
pub(super) fn merge_usage(into: &mut Fields, usage: Option<&Value>) {
    for (name, value) in usage.and_then(Value::as_object).into_iter().flatten().filter(|(_, v)| !v.is_null()) {
        into.insert(name.clone(), value.clone());
    }
}
