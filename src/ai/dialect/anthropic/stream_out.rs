//! A client's stream of message events, written event by event.

use super::super::Writer as Write;
use super::super::chat::{Event, Stop};
use super::super::whole::Whole;
use super::stop_reason;
use crate::ai::usage::Usage;
use serde_json::{Value, json};

/// What kind of block is open, beside calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
}

/// A call's block.
struct CallBlock {
    /// The number that the provider's stream gives it.
    k: usize,
    index: usize,
    open: bool,
    whole: Whole,
}

/// The writer. One block is open at a time, as clients expect it; only a call whose arguments are not yet whole stays
/// open when the next one begins, because some providers interleave their fragments.
#[derive(Default)]
pub struct Writer {
    blocks: usize,
    open: Option<(Kind, usize)>,
    calls: Vec<CallBlock>,
    stop: Option<Stop>,
    usage: Usage,
}

impl Write for Writer {
    fn write(&mut self, event: Event, out: &mut Vec<Value>) {
        match event {
            Event::Start(id, model, usage) => {
                self.usage = usage.unwrap_or_default();
                out.push(json!({ "type": "message_start", "message": {
                    "id": id, "type": "message", "role": "assistant", "model": model, "content": [],
                    "stop_reason": null, "stop_sequence": null, "usage": self.usage.to_anthropic(),
                } }));
            }
            Event::Text(text) => {
                let index = self.enter(Kind::Text, out);
                out.push(delta(index, json!({ "type": "text_delta", "text": text })));
            }
            Event::Reasoning(text) => {
                let index = self.enter(Kind::Thinking, out);
                out.push(delta(index, json!({ "type": "thinking_delta", "thinking": text })));
            }
            Event::Signature(text) => {
                let index = self.enter(Kind::Thinking, out);
                out.push(delta(index, json!({ "type": "signature_delta", "signature": text })));
            }
            Event::Redacted(data) => {
                self.leave(out);
                let index = self.begin(json!({ "type": "redacted_thinking", "data": data }), out);
                out.push(stopped(index));
            }
            Event::Call(k, id, name) => {
                self.leave(out);
                self.end_calls(out, false);
                let block = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
                let index = self.begin(block, out);
                self.calls.push(CallBlock { k, index, open: true, whole: Whole::default() });
            }
            Event::Arguments(k, text) => {
                if let Some(call) = self.calls.iter_mut().find(|c| c.k == k && c.open) {
                    call.whole.add(&text);
                    out.push(delta(call.index, json!({ "type": "input_json_delta", "partial_json": text })));
                }
            }
            Event::Break => self.leave(out),
            Event::Ping => out.push(json!({ "type": "ping" })),
            Event::Finish(stop) => {
                self.leave(out);
                self.end_calls(out, true);
                self.stop = Some(stop);
            }
            Event::Usage(usage) => self.usage = usage,
            Event::End => self.end(out),
        }
    }
}

impl Writer {
    /// The index of the open block of this kind.
    fn enter(&mut self, kind: Kind, out: &mut Vec<Value>) -> usize {
        if let Some((_, index)) = self.open.filter(|(open, _)| *open == kind) {
            return index;
        }
        self.leave(out);
        self.end_calls(out, false);
        let block = match kind {
            Kind::Text => json!({ "type": "text", "text": "" }),
            Kind::Thinking => json!({ "type": "thinking", "thinking": "", "signature": "" }),
        };
        let index = self.begin(block, out);
        self.open = Some((kind, index));
        index
    }

    fn begin(&mut self, block: Value, out: &mut Vec<Value>) -> usize {
        let index = self.blocks;
        self.blocks += 1;
        out.push(json!({ "type": "content_block_start", "index": index, "content_block": block }));
        index
    }

    fn leave(&mut self, out: &mut Vec<Value>) {
        out.extend(self.open.take().map(|(_, index)| stopped(index)));
    }

    /// Ends the calls whose arguments are whole, or all of them.
    fn end_calls(&mut self, out: &mut Vec<Value>, all: bool) {
        for call in self.calls.iter_mut().filter(|c| c.open && (all || c.whole.is_whole())) {
            call.open = false;
            out.push(stopped(call.index));
        }
    }

    fn end(&mut self, out: &mut Vec<Value>) {
        let stop = self.stop.take().unwrap_or(Stop::End);
        let sequence = match &stop {
            Stop::Sequence(text) => text.clone(),
            _ => None,
        };
        out.push(json!({
            "type": "message_delta",
            "delta": { "stop_reason": stop_reason(&stop), "stop_sequence": sequence },
            "usage": self.usage.to_anthropic(),
        }));
        out.push(json!({ "type": "message_stop" }));
    }
}

fn delta(index: usize, delta: Value) -> Value {
    json!({ "type": "content_block_delta", "index": index, "delta": delta })
}

fn stopped(index: usize) -> Value {
    json!({ "type": "content_block_stop", "index": index })
}
