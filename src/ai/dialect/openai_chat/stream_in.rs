//! A provider's stream of chat completion chunks, read event by event.

use super::super::chat::{Event, Stop, text_in};
use super::super::{Garbage, Progress, Reader as Read};
use super::answer::{texts, thought};
use super::stop;
use crate::ai::usage::Usage;
use serde_json::Value;

/// Parallel calls that are followed; more is no sane answer.
const CALLS_MAX: usize = 256;
/// Bytes of arguments that may come before the name of their call.
const EARLY_BYTES_MAX: usize = 64 << 10;

/// What is known of a call.
#[derive(Default)]
struct Known {
    id: String,
    name: String,
    early: String,
    told: bool,
}

/// The reader.
#[derive(Default)]
pub struct Reader {
    started: bool,
    calls: Vec<Known>,
    refused: bool,
    progress: Progress,
}

impl Read for Reader {
    fn read(&mut self, chunk: &Value, out: &mut Vec<Event>) -> Result<(), Garbage> {
        let choices = chunk.get("choices").and_then(Value::as_array);
        let first = choices.into_iter().flatten().find(|c| c.get("index").and_then(Value::as_u64).unwrap_or(0) == 0);
        if let Some(choice) = first {
            self.start(chunk, out);
            if let Some(delta) = choice.get("delta") {
                self.delta(delta, out)?;
            }
            if let Some(reason) = text_in(choice, "finish_reason") {
                self.finish(stop(reason), out)?;
            }
        }
        if let Some(usage) = chunk.get("usage").and_then(Usage::from_openai) {
            self.progress.usage = Some(usage);
            out.push(Event::Usage(usage));
        }
        Ok(())
    }

    fn progress(&self) -> &Progress {
        &self.progress
    }
}

impl Reader {
    fn start(&mut self, chunk: &Value, out: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.started, true) {
            let word = |name| text_in(chunk, name).unwrap_or_default().to_owned();
            out.push(Event::Start(word("id"), word("model"), None));
        }
    }

    fn delta(&mut self, delta: &Value, out: &mut Vec<Event>) -> Result<(), Garbage> {
        out.extend(thought(delta).map(Event::Reasoning));
        let said = texts(delta.get("content"));
        if !said.is_empty() {
            out.push(Event::Text(said));
        }
        if let Some(refusal) = text_in(delta, "refusal").filter(|r| !r.is_empty()) {
            self.refused = true;
            out.push(Event::Text(refusal.to_owned()));
        }
        for name in ["annotations", "audio", "function_call"] {
            if delta.get(name).is_some_and(|v| !v.is_null()) {
                self.progress.dropped.note(name);
            }
        }
        let calls = delta.get("tool_calls").and_then(Value::as_array);
        for call in calls.into_iter().flatten() {
            self.call(call, out)?;
        }
        Ok(())
    }

    /// A fragment of a call. Arguments that come before the name wait for it: a call cannot begin without one.
    fn call(&mut self, call: &Value, out: &mut Vec<Event>) -> Result<(), Garbage> {
        let told = call.get("index").and_then(Value::as_u64).map(usize::try_from);
        let k = match told {
            Some(k) => k.map_err(|_| Garbage)?,
            // Some servers send whole calls without an index, one after the other.
            None => self.calls.len(),
        };
        if k >= CALLS_MAX {
            return Err(Garbage);
        }
        if self.calls.len() <= k {
            self.calls.resize_with(k + 1, Known::default);
        }
        let known = self.calls.get_mut(k).ok_or(Garbage)?;
        if let Some(id) = text_in(call, "id").filter(|_| known.id.is_empty()) {
            id.clone_into(&mut known.id);
        }
        let word = |place: &str| call.pointer(place).and_then(Value::as_str).unwrap_or_default();
        let (name, fragment) = (word("/function/name"), word("/function/arguments"));
        if !known.told && !name.is_empty() {
            name.clone_into(&mut known.name);
            known.told = true;
            if known.id.is_empty() {
                known.id = format!("call_{k}");
            }
            out.push(Event::Call(k, known.id.clone(), known.name.clone()));
            let early = std::mem::take(&mut known.early);
            if !early.is_empty() {
                out.push(Event::Arguments(k, early));
            }
        }
        if fragment.is_empty() {
            return Ok(());
        }
        if known.told {
            out.push(Event::Arguments(k, fragment.to_owned()));
            return Ok(());
        }
        known.early.push_str(fragment);
        if known.early.len() > EARLY_BYTES_MAX { Err(Garbage) } else { Ok(()) }
    }

    fn finish(&mut self, stop: Stop, out: &mut Vec<Event>) -> Result<(), Garbage> {
        if std::mem::replace(&mut self.progress.finished, true) {
            return Ok(());
        }
        // Arguments for a call that never got a name.
        if self.calls.iter().any(|c| !c.told && !c.early.is_empty()) {
            return Err(Garbage);
        }
        out.push(Event::Finish(stop.given(!self.calls.is_empty(), self.refused)));
        Ok(())
    }
}
