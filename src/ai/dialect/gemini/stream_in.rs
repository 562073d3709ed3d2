//! Gemini's stream, read event by event: each event is a piece of an answer, calls come whole, and there is no mark of
//! the end.

use super::super::chat::{Event, text_in};
use super::super::{Garbage, Progress, Reader as Read};
use super::{call_id, finish_reason, parts, signature, stop};
use crate::ai::usage::Usage;
use serde_json::Value;

/// Calls that are followed; more is no sane answer.
const CALLS_MAX: usize = 256;

/// The reader.
#[derive(Default)]
pub struct Reader {
    id: Option<String>,
    calls: usize,
    progress: Progress,
}

impl Read for Reader {
    fn read(&mut self, event: &Value, out: &mut Vec<Event>) -> Result<(), Garbage> {
        if self.id.is_none() {
            let word = |name| text_in(event, name).unwrap_or_default().to_owned();
            self.id = Some(word("responseId"));
            out.push(Event::Start(word("responseId"), word("modelVersion"), None));
        }
        for part in parts(event) {
            self.part(part, out)?;
        }
        if let Some(usage) = event.get("usageMetadata").and_then(Usage::from_gemini) {
            self.progress.usage = Some(usage);
            out.push(Event::Usage(usage));
        }
        if let Some(reason) = finish_reason(event).filter(|_| !self.progress.finished) {
            self.progress.finished = true;
            out.push(Event::Finish(stop(reason).given(self.calls > 0, false)));
        }
        Ok(())
    }

    fn progress(&self) -> &Progress {
        &self.progress
    }
}

impl Reader {
    fn part(&mut self, part: &Value, out: &mut Vec<Event>) -> Result<(), Garbage> {
        let (signed, text) = (signature(part), text_in(part, "text"));
        if part.get("thought").and_then(Value::as_bool) == Some(true) {
            out.extend(text.filter(|t| !t.is_empty()).map(|t| Event::Reasoning(t.to_owned())));
            if let Some(s) = signed {
                out.extend([Event::Signature(s), Event::Break]);
            }
            return Ok(());
        }
        if let Some(s) = signed {
            out.extend([Event::Break, Event::Signature(s), Event::Break]);
        }
        if let Some(text) = text {
            out.extend(Some(text).filter(|t| !t.is_empty()).map(|t| Event::Text(t.to_owned())));
        } else if let Some(call) = part.get("functionCall") {
            if self.calls >= CALLS_MAX {
                return Err(Garbage);
            }
            let name = text_in(call, "name").ok_or(Garbage)?.to_owned();
            let id = call_id(part, self.id.as_deref().unwrap_or_default(), self.calls);
            let arguments = call.get("args").map_or_else(|| "{}".to_owned(), Value::to_string);
            out.extend([Event::Call(self.calls, id, name), Event::Arguments(self.calls, arguments)]);
            self.calls += 1;
        } else {
            part.as_object().into_iter().flatten().for_each(|(name, _)| self.progress.dropped.note(name));
        }
        Ok(())
    }
}
