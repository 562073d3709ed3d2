//! The events of a client's stream, numbered as they go out. Each pair of a beginning and an end is told in full, as
//! clients of this dialect may follow either the pieces or the wholes.

use super::super::chat::{object, text_in};
use super::items::{summary_part, text_part};
use serde_json::Value;

/// An item's place: its index in the output, and its id.
pub type At<'a> = (usize, &'a str);

/// The events so far.
#[derive(Default)]
pub struct Events {
    sequence: u64,
    out: Vec<Value>,
}

impl Events {
    /// Takes the events that were not taken yet.
    pub fn take(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.out)
    }

    fn push<const N: usize>(&mut self, kind: &str, members: [(&str, Value); N]) {
        let mut event = object([("type", kind.into()), ("sequence_number", self.sequence.into())]);
        event.extend(object(members));
        self.sequence += 1;
        self.out.push(Value::Object(event));
    }

    fn within<const N: usize>(&mut self, kind: &str, (index, id): At<'_>, members: [(&str, Value); N]) {
        self.push(kind, [("item_id", id.into()), ("output_index", index.into())]);
        if let Some(Value::Object(event)) = self.out.last_mut() {
            event.extend(object(members));
        }
    }

    /// The response as it begins.
    pub fn begin(&mut self, response: &Value) {
        self.push("response.created", [("response", response.clone())]);
        self.push("response.in_progress", [("response", response.clone())]);
    }

    /// The response as it ended.
    pub fn end(&mut self, response: Value) {
        let kind =
            if text_in(&response, "status") == Some("incomplete") { super::INCOMPLETE } else { super::COMPLETED };
        self.push(kind, [("response", response)]);
    }

    /// An item begins, as far as it is known.
    pub fn added(&mut self, index: usize, item: Value) {
        self.push("response.output_item.added", [("output_index", index.into()), ("item", item)]);
    }

    /// An item is whole.
    pub fn done(&mut self, index: usize, item: Value) {
        self.push("response.output_item.done", [("output_index", index.into()), ("item", item)]);
    }

    /// A part of a message begins, of the kind of this one.
    pub fn part_added(&mut self, at: At<'_>, i: usize, part: &Value) {
        let empty = match text_in(part, "type") {
            Some("output_text") => text_part(""),
            kind => {
                let kind = kind.unwrap_or_default();
                Value::Object(object([("type", kind.into()), (member(kind), "".into())]))
            }
        };
        self.within("response.content_part.added", at, [("content_index", i.into()), ("part", empty)]);
    }

    /// More text of a part.
    pub fn part_delta(&mut self, at: At<'_>, i: usize, (kind, piece): (&str, &str)) {
        let event = format!("response.{kind}.delta");
        self.within(&event, at, [("content_index", i.into()), ("delta", piece.into())]);
        self.logprobs(kind);
    }

    /// A part is whole.
    pub fn part_done(&mut self, at: At<'_>, i: usize, part: Value) {
        let kind = text_in(&part, "type").unwrap_or_default().to_owned();
        let text = part.get(member(&kind)).cloned().unwrap_or_default();
        self.within(&format!("response.{kind}.done"), at, [("content_index", i.into()), (member(&kind), text)]);
        self.logprobs(&kind);
        self.within("response.content_part.done", at, [("content_index", i.into()), ("part", part)]);
    }

    /// Text events must have this member.
    fn logprobs(&mut self, kind: &str) {
        if let Some(Value::Object(event)) = self.out.last_mut().filter(|_| kind == "output_text") {
            event.insert("logprobs".to_owned(), Value::Array(Vec::new()));
        }
    }

    /// A part of a summary begins.
    pub fn summary_added(&mut self, at: At<'_>, i: usize) {
        let members = [("summary_index", i.into()), ("part", summary_part(""))];
        self.within("response.reasoning_summary_part.added", at, members);
    }

    /// More of a part of a summary.
    pub fn summary_delta(&mut self, at: At<'_>, i: usize, piece: &str) {
        let members = [("summary_index", i.into()), ("delta", piece.into())];
        self.within("response.reasoning_summary_text.delta", at, members);
    }

    /// A part of a summary is whole.
    pub fn summary_done(&mut self, at: At<'_>, i: usize, text: &str) {
        let index = || ("summary_index", Value::from(i));
        self.within("response.reasoning_summary_text.done", at, [index(), ("text", text.into())]);
        self.within("response.reasoning_summary_part.done", at, [index(), ("part", summary_part(text))]);
    }

    /// More arguments of a call.
    pub fn arguments_delta(&mut self, at: At<'_>, piece: &str) {
        self.within("response.function_call_arguments.delta", at, [("delta", piece.into())]);
    }

    /// A call's arguments are whole.
    pub fn arguments_done(&mut self, at: At<'_>, name: &str, arguments: &str) {
        let members = [("name", name.into()), ("arguments", arguments.into())];
        self.within("response.function_call_arguments.done", at, members);
    }
}

/// The member that holds the words of a part.
pub fn member(kind: &str) -> &'static str {
    if kind == "refusal" { "refusal" } else { "text" }
}
