//! A client's stream of response events, written event by event.

use super::super::chat::{Call, Event, Stop};
use super::super::whole::Whole;
use super::super::{Wanted, Writer as Write};
use super::events::Events;
use super::items::{self, Head};
use super::status;
use crate::ai::usage::Usage;
use serde_json::Value;

/// The item that is open, beside calls.
enum Open {
    /// A message with its whole parts, and the text of the one that grows.
    Message(usize, Vec<Value>, Option<String>),
    /// Thinking and what it is signed with.
    Thought(usize, String, Option<String>),
}

/// A call's item.
struct CallItem {
    /// The number that the provider's stream gives it.
    k: usize,
    index: usize,
    call: Call,
    open: bool,
    whole: Whole,
}

/// The writer. One item is open at a time; only a call whose arguments are not yet whole stays open when the next one
/// begins, because some providers interleave their fragments.
pub struct Writer {
    events: Events,
    head: Head,
    /// Whole items in their places.
    items: Vec<Value>,
    open: Option<Open>,
    calls: Vec<CallItem>,
    stop: Option<Stop>,
    usage: Option<Usage>,
}

impl Writer {
    /// A writer of a response of this date.
    pub fn new(wanted: Wanted) -> Writer {
        let head = Head::new("", "", wanted.created);
        let (events, items, calls) = (Events::default(), Vec::new(), Vec::new());
        Writer { events, head, items, open: None, calls, stop: None, usage: None }
    }
}

impl Write for Writer {
    fn write(&mut self, event: Event, out: &mut Vec<Value>) {
        match event {
            Event::Start(id, model, usage) => {
                (self.head, self.usage) = (Head::new(&id, &model, self.head.created), usage);
                self.events.begin(&self.head.response(None, Vec::new(), None));
            }
            Event::Text(text) => self.text(&text),
            Event::Reasoning(text) => self.thought(&text),
            Event::Signature(signature) => {
                self.enter_thought();
                if let Some(Open::Thought(_, _, signed)) = &mut self.open {
                    *signed = Some(items::seal(&signature));
                }
            }
            Event::Redacted(data) => {
                self.leave();
                self.enter_thought();
                if let Some(Open::Thought(_, _, signed)) = &mut self.open {
                    *signed = Some(items::seal_redacted(&data));
                }
                self.leave();
            }
            Event::Call(k, id, name) => self.call(k, Call { id, name, arguments: String::new() }),
            Event::Arguments(k, text) => self.arguments(k, &text),
            Event::Break => self.pause(),
            Event::Ping => {}
            Event::Finish(stop) => {
                self.stop = Some(stop);
                self.leave();
                self.end_calls(true);
            }
            Event::Usage(usage) => self.usage = Some(usage),
            Event::End => {
                let (stop, items) = (self.stop.take().unwrap_or(Stop::End), std::mem::take(&mut self.items));
                self.events.end(self.head.response(Some(&stop), items, self.usage.as_ref()));
            }
        }
        out.append(&mut self.events.take());
    }
}

impl Writer {
    fn text(&mut self, text: &str) {
        if !matches!(self.open, Some(Open::Message(..))) {
            self.leave();
            self.end_calls(false);
            let index = self.begin(|id| items::message(id, &[], "in_progress"), "msg");
            self.open = Some(Open::Message(index, Vec::new(), None));
        }
        let Some(Open::Message(index, parts, growing)) = &mut self.open else { return };
        let id = self.head.item_id("msg", *index);
        if growing.is_none() {
            self.events.part_added((*index, &id), parts.len(), &items::text_part(""));
        }
        growing.get_or_insert_default().push_str(text);
        self.events.part_delta((*index, &id), parts.len(), ("output_text", text));
    }

    fn enter_thought(&mut self) {
        if !matches!(self.open, Some(Open::Thought(..))) {
            self.leave();
            self.end_calls(false);
            let index = self.begin(|id| items::reasoning(id, "", None), "rs");
            self.open = Some(Open::Thought(index, String::new(), None));
        }
    }

    fn thought(&mut self, text: &str) {
        self.enter_thought();
        let Some(Open::Thought(index, all, _)) = &mut self.open else { return };
        let id = self.head.item_id("rs", *index);
        if all.is_empty() {
            self.events.summary_added((*index, &id), 0);
        }
        all.push_str(text);
        self.events.summary_delta((*index, &id), 0, text);
    }

    fn call(&mut self, k: usize, call: Call) {
        self.leave();
        self.end_calls(false);
        let index = self.begin(|id| items::call(id, &call, "in_progress"), "fc");
        self.calls.push(CallItem { k, index, call, open: true, whole: Whole::default() });
    }

    fn arguments(&mut self, k: usize, text: &str) {
        let Some(item) = self.calls.iter_mut().find(|c| c.k == k && c.open) else { return };
        item.whole.add(text);
        item.call.arguments.push_str(text);
        let id = self.head.item_id("fc", item.index);
        self.events.arguments_delta((item.index, &id), text);
    }

    /// Opens the next item.
    fn begin(&mut self, item: impl FnOnce(&str) -> Value, prefix: &str) -> usize {
        let index = self.items.len();
        self.items.push(Value::Null);
        self.events.added(index, item(&self.head.item_id(prefix, index)));
        index
    }

    /// The block ends: a part of a message, or the thinking. Another text may follow within the message.
    fn pause(&mut self) {
        match &mut self.open {
            Some(Open::Message(index, parts, growing)) => {
                let Some(text) = growing.take() else { return };
                let id = self.head.item_id("msg", *index);
                let part = items::text_part(&text);
                self.events.part_done((*index, &id), parts.len(), part.clone());
                parts.push(part);
            }
            Some(Open::Thought(..)) => self.leave(),
            None => {}
        }
    }

    /// Ends the open item.
    fn leave(&mut self) {
        if matches!(self.open, Some(Open::Message(..))) {
            self.pause();
        }
        match self.open.take() {
            Some(Open::Message(index, parts, _)) => {
                let item = items::message(&self.head.item_id("msg", index), &parts, self.status(index));
                self.done(index, item);
            }
            Some(Open::Thought(index, text, sealed)) => {
                let id = self.head.item_id("rs", index);
                if !text.is_empty() {
                    self.events.summary_done((index, &id), 0, &text);
                }
                self.done(index, items::reasoning(&id, &text, sealed.as_deref()));
            }
            None => {}
        }
    }

    /// Ends the calls whose arguments are whole, or all of them.
    fn end_calls(&mut self, all: bool) {
        let mut calls = std::mem::take(&mut self.calls);
        for c in calls.iter_mut().filter(|c| c.open && (all || c.whole.is_whole())) {
            c.open = false;
            let id = self.head.item_id("fc", c.index);
            if let Some(none) = items::no_arguments(&c.call.arguments) {
                c.call.arguments.push_str(none);
                self.events.arguments_delta((c.index, &id), none);
            }
            self.events.arguments_done((c.index, &id), &c.call.name, &c.call.arguments);
            self.done(c.index, items::call(&id, &c.call, self.status(c.index)));
        }
        self.calls = calls;
    }

    fn done(&mut self, index: usize, item: Value) {
        if let Some(place) = self.items.get_mut(index) {
            place.clone_from(&item);
        }
        self.events.done(index, item);
    }

    /// The last item of an incomplete response is incomplete itself.
    fn status(&self, index: usize) -> &'static str {
        let last = index + 1 == self.items.len();
        self.stop.as_ref().filter(|_| last).map_or("completed", |stop| status(stop).0)
    }
}
