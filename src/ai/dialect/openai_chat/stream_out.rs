//! A client's stream of chat completion chunks, written event by event.

use super::super::chat::{Event, Fields, object};
use super::super::{Wanted, Writer as Write};
use super::finish_reason;
use crate::ai::usage::Usage;
use serde_json::{Value, json};

/// The writer.
pub struct Writer {
    wanted: Wanted,
    id: String,
    model: String,
    /// Blocks of thinking that have ended.
    thoughts: usize,
    thinking: bool,
    usage: Option<Usage>,
}

impl Writer {
    /// A writer of chunks that all bear the same date.
    pub fn new(wanted: Wanted) -> Writer {
        Writer { wanted, id: String::new(), model: String::new(), thoughts: 0, thinking: false, usage: None }
    }

    fn chunk(&self, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let mut out: Fields = object([
            ("id", self.id.clone().into()),
            ("object", "chat.completion.chunk".into()),
            ("created", self.wanted.created.into()),
            ("model", self.model.clone().into()),
            ("choices", choices.into()),
        ]);
        match usage {
            Some(usage) => drop(out.insert("usage".to_owned(), usage)),
            None if self.wanted.usage => drop(out.insert("usage".to_owned(), Value::Null)),
            None => {}
        }
        Value::Object(out)
    }

    fn delta(&self, delta: Value) -> Value {
        self.chunk(vec![json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": null })], None)
    }

    fn thought(&mut self, member: &str, value: String) -> Value {
        self.thinking = true;
        let block = json!([{ "index": self.thoughts, "type": "thinking", member: value }]);
        if member == "thinking" {
            return self.delta(json!({ "reasoning_content": value, "thinking_blocks": block }));
        }
        let block = json!([{ "index": self.thoughts, "type": "thinking", "thinking": "", "signature": value }]);
        self.delta(json!({ "thinking_blocks": block }))
    }

    fn next_thought(&mut self) {
        if std::mem::replace(&mut self.thinking, false) {
            self.thoughts += 1;
        }
    }
}

impl Write for Writer {
    fn write(&mut self, event: Event, out: &mut Vec<Value>) {
        match event {
            Event::Start(id, model, usage) => {
                (self.id, self.model, self.usage) = (id, model, usage);
                out.push(self.delta(json!({ "role": "assistant", "content": null, "refusal": null })));
            }
            Event::Text(text) => {
                self.next_thought();
                out.push(self.delta(json!({ "content": text })));
            }
            Event::Reasoning(text) => out.push(self.thought("thinking", text)),
            Event::Signature(text) => out.push(self.thought("signature", text)),
            Event::Redacted(data) => {
                self.next_thought();
                let block = json!([{ "index": self.thoughts, "type": "redacted_thinking", "data": data }]);
                self.thoughts += 1;
                out.push(self.delta(json!({ "thinking_blocks": block })));
            }
            Event::Call(k, id, name) => {
                let function = json!({ "name": name, "arguments": "" });
                let call = json!([{ "index": k, "id": id, "type": "function", "function": function }]);
                out.push(self.delta(json!({ "tool_calls": call })));
            }
            Event::Arguments(k, text) => {
                out.push(self.delta(json!({ "tool_calls": [{ "index": k, "function": { "arguments": text } }] })));
            }
            Event::Break => self.next_thought(),
            Event::Ping => {}
            Event::Finish(stop) => {
                let reason = finish_reason(&stop);
                let choice = json!({ "index": 0, "delta": {}, "logprobs": null, "finish_reason": reason });
                out.push(self.chunk(vec![choice], None));
            }
            Event::Usage(usage) => self.usage = Some(usage),
            Event::End => out.extend(self.usage.map(|u| self.chunk(Vec::new(), Some(u.to_openai())))),
        }
    }
}
