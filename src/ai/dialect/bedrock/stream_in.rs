//! A stream of Converse, read event by event: each is an object with one member, its type. The end of the answer comes
//! before its usage, and the stream just ends.

use super::super::chat::{Event, text_in};
use super::super::{Garbage, Progress, Reader as Read};
use super::stop;
use crate::ai::usage::Usage;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Calls that are followed; more is no sane answer.
const CALLS_MAX: usize = 256;
/// Bytes of unreadable thinking that are held until its block ends.
const REDACTED_BYTES_MAX: usize = 1 << 20;

/// The reader.
#[derive(Default)]
pub struct Reader {
    /// The content index of each call, in order, and whether its arguments have begun.
    calls: Vec<(u64, bool)>,
    /// Unreadable thinking of the open block. It is told in one piece, as its base64 cannot be joined.
    redacted: Vec<u8>,
    started: bool,
    progress: Progress,
}

impl Read for Reader {
    fn read(&mut self, event: &Value, out: &mut Vec<Event>) -> Result<(), Garbage> {
        let (kind, e) = event.as_object().and_then(|o| o.iter().next()).ok_or(Garbage)?;
        let index = e.get("contentBlockIndex").and_then(Value::as_u64).unwrap_or(0);
        match kind.as_str() {
            "messageStart" => {
                let word = |name| text_in(e, name).unwrap_or_default().to_owned();
                self.started = true;
                out.push(Event::Start(word("id"), word("model"), None));
                Ok(())
            }
            // Nothing may come before the message has begun.
            _ if !self.started => Err(Garbage),
            "contentBlockStart" => self.block(index, e.get("start").unwrap_or(&Value::Null), out),
            "contentBlockDelta" => {
                let parts = e.get("delta").and_then(Value::as_object).into_iter().flatten();
                parts.into_iter().try_for_each(|(kind, d)| self.delta(index, kind, d, out))
            }
            "contentBlockStop" => {
                self.stopped(index, out);
                Ok(())
            }
            "messageStop" => self.message_stop(e, out),
            "metadata" => {
                let usage = e.get("usage").and_then(Usage::from_bedrock);
                self.progress.usage = usage.or(self.progress.usage);
                out.extend(usage.map(Event::Usage));
                Ok(())
            }
            // Events of kinds to come.
            _ => Ok(()),
        }
    }

    fn progress(&self) -> &Progress {
        &self.progress
    }
}

impl Reader {
    /// Only calls announce themselves; text and thinking begin with their first piece.
    fn block(&mut self, index: u64, start: &Value, out: &mut Vec<Event>) -> Result<(), Garbage> {
        for (kind, b) in start.as_object().into_iter().flatten() {
            let word = |name| text_in(b, name).unwrap_or_default().to_owned();
            match kind.as_str() {
                "toolUse" if b.get("type").is_none() => {
                    let k = self.calls.len();
                    if k >= CALLS_MAX {
                        return Err(Garbage);
                    }
                    self.calls.push((index, false));
                    out.push(Event::Call(k, word("toolUseId"), word("name")));
                }
                "toolUse" => self.progress.dropped.note("server_tool_use"),
                other => self.progress.dropped.note(other),
            }
        }
        Ok(())
    }

    fn delta(&mut self, index: u64, kind: &str, d: &Value, out: &mut Vec<Event>) -> Result<(), Garbage> {
        match kind {
            "text" => push_text(out, Event::Text, d.as_str()),
            "toolUse" => {
                // The input of the provider's own tools belongs to no call of the client's.
                let fragment = text_in(d, "input").unwrap_or_default();
                let mut calls = self.calls.iter_mut().enumerate();
                if let Some((k, (_, begun))) = calls.find(|(_, (i, _))| *i == index && !fragment.is_empty()) {
                    *begun = true;
                    out.push(Event::Arguments(k, fragment.to_owned()));
                }
            }
            "reasoningContent" => {
                push_text(out, Event::Reasoning, text_in(d, "text"));
                push_text(out, Event::Signature, text_in(d, "signature"));
                if let Some(data) = text_in(d, "redactedContent") {
                    self.redacted.extend(STANDARD.decode(data).map_err(|_| Garbage)?);
                }
                if self.redacted.len() > REDACTED_BYTES_MAX {
                    return Err(Garbage);
                }
            }
            "citation" => self.progress.dropped.note("citations"),
            other => self.progress.dropped.note(other),
        }
        Ok(())
    }

    /// A call without arguments has an empty object of them, which is no text at all in this stream.
    fn stopped(&mut self, index: u64, out: &mut Vec<Event>) {
        let mut calls = self.calls.iter_mut().enumerate();
        if let Some((k, (_, begun))) = calls.find(|(_, (i, begun))| *i == index && !begun) {
            *begun = true;
            out.push(Event::Arguments(k, "{}".to_owned()));
        }
        if !self.redacted.is_empty() {
            let data = STANDARD.encode(std::mem::take(&mut self.redacted));
            out.push(Event::Redacted(data));
        }
        out.push(Event::Break);
    }

    fn message_stop(&mut self, e: &Value, out: &mut Vec<Event>) -> Result<(), Garbage> {
        let reason = text_in(e, "stopReason").ok_or(Garbage)?;
        if !std::mem::replace(&mut self.progress.finished, true) {
            out.push(Event::Finish(stop(reason).given(!self.calls.is_empty(), false)));
        }
        Ok(())
    }
}

fn push_text(out: &mut Vec<Event>, event: impl FnOnce(String) -> Event, text: Option<&str>) {
    out.extend(text.filter(|t| !t.is_empty()).map(|t| event(t.to_owned())));
}
