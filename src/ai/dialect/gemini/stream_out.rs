//! A client's stream of answers in pieces, written event by event. Calls come whole here, so that their fragments are
//! gathered; there is no event for the start, and the last piece bears the end and the usage.

use super::super::Writer as Write;
use super::super::chat::{Event, Stop};
use super::answer::{arguments, candidate, signed};
use super::{reason, sign};
use crate::ai::usage::Usage;
use serde_json::{Value, json};

/// What a call is whose arguments are no JSON object.
const MALFORMED: &str = "MALFORMED_FUNCTION_CALL";

/// A call in the making.
struct Growing {
    /// The number that the provider's stream gives it.
    k: usize,
    id: String,
    name: String,
    arguments: String,
}

/// The writer.
#[derive(Default)]
pub struct Writer {
    id: String,
    model: String,
    calls: Vec<Growing>,
    ended: Option<&'static str>,
    usage: Option<Usage>,
}

impl Write for Writer {
    fn write(&mut self, event: Event, out: &mut Vec<Value>) {
        match event {
            Event::Start(id, model, usage) => (self.id, self.model, self.usage) = (id, model, usage),
            Event::Text(text) => self.part(json!({ "text": text }), out),
            Event::Reasoning(text) => self.part(json!({ "text": text, "thought": true }), out),
            Event::Signature(signature) => {
                let (name, value) = signed(&signature);
                self.part(json!({ "text": "", "thought": true, name: value }), out);
            }
            Event::Redacted(data) => {
                self.part(json!({ "text": "", "thought": true, "thoughtSignature": sign::sealed(&data) }), out);
            }
            Event::Call(k, id, name) => self.calls.push(Growing { k, id, name, arguments: String::new() }),
            Event::Arguments(k, text) => {
                if let Some(call) = self.calls.iter_mut().rev().find(|c| c.k == k) {
                    call.arguments.push_str(&text);
                }
            }
            Event::Break | Event::Ping => {}
            Event::Finish(stop) => self.finish(&stop, out),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::End => {
                let ended = self.ended.unwrap_or_else(|| reason(&Stop::End));
                out.push(self.piece(vec![json!({ "text": "" })], Some(ended), self.usage));
            }
        }
    }
}

impl Writer {
    fn piece(&self, parts: Vec<Value>, ended: Option<&str>, usage: Option<Usage>) -> Value {
        candidate(parts, ended, (&self.model, &self.id), usage)
    }

    fn part(&self, part: Value, out: &mut Vec<Value>) {
        out.push(self.piece(vec![part], None, None));
    }

    /// The calls, whose arguments are whole now, in the order in which they began.
    fn finish(&mut self, stop: &Stop, out: &mut Vec<Value>) {
        self.ended = Some(reason(stop));
        for call in std::mem::take(&mut self.calls) {
            match arguments(&call.arguments) {
                Some(args) => {
                    let call = json!({ "id": call.id, "name": call.name, "args": args });
                    self.part(json!({ "functionCall": call }), out);
                }
                None => self.ended = Some(MALFORMED),
            }
        }
    }
}
