//! Plays a stored complete response back as the stream a client asked for. It is the inverse of `record`.

use super::super::chat::{Fields, text_in};
use super::events::{At, Events, member};
use crate::ai::replay::pieces;
use serde_json::{Value, json};

/// The events of the whole stream; `None` when `answer` is no response.
pub fn events(answer: &Value) -> Option<Vec<Value>> {
    let response = answer.as_object()?;
    let items = response.get("output")?.as_array()?;
    let mut events = Events::default();
    events.begin(&Value::Object(begun(response)));
    for (index, item) in items.iter().enumerate() {
        play(&mut events, index, item);
    }
    events.end(answer.clone());
    Some(events.take())
}

/// The response as it was when it began.
fn begun(response: &Fields) -> Fields {
    let mut out = response.clone();
    let empty = [
        ("status", "in_progress".into()),
        ("output", json!([])),
        ("usage", Value::Null),
        ("completed_at", Value::Null),
        ("incomplete_details", Value::Null),
    ];
    for (name, value) in empty {
        if let Some(member) = out.get_mut(name) {
            *member = value;
        }
    }
    out
}

/// An item's beginning holds what does not grow; the rest follows in deltas.
fn play(events: &mut Events, index: usize, item: &Value) {
    let mut start = item.clone();
    let mut set = |name: &str, value: Value| {
        if let Some(member) = start.get_mut(name) {
            *member = value;
        }
    };
    set("status", "in_progress".into());
    let kind = text_in(item, "type").unwrap_or_default();
    match kind {
        "message" => set("content", json!([])),
        "reasoning" => {
            set("summary", json!([]));
            set("content", json!([]));
            set("encrypted_content", Value::Null);
        }
        "function_call" => set("arguments", "".into()),
        _ => {}
    }
    events.added(index, start);
    let at = (index, text_in(item, "id").unwrap_or_default());
    match kind {
        "message" => parts(events, at, item),
        "reasoning" => {
            summary(events, at, item);
            parts(events, at, item);
        }
        "function_call" => {
            let word = |name| text_in(item, name).unwrap_or_default();
            if !word("arguments").is_empty() {
                events.arguments_delta(at, word("arguments"));
            }
            events.arguments_done(at, word("name"), word("arguments"));
        }
        _ => {}
    }
    events.done(index, item.clone());
}

fn parts(events: &mut Events, at: At<'_>, item: &Value) {
    for (i, part) in item.get("content").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let kind = text_in(part, "type").unwrap_or_default();
        events.part_added(at, i, part);
        for piece in pieces(text_in(part, member(kind)).unwrap_or_default()) {
            events.part_delta(at, i, (kind, piece));
        }
        events.part_done(at, i, part.clone());
    }
}

fn summary(events: &mut Events, at: At<'_>, item: &Value) {
    for (i, part) in item.get("summary").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let text = text_in(part, "text").unwrap_or_default();
        events.summary_added(at, i);
        for piece in pieces(text) {
            events.summary_delta(at, i, piece);
        }
        events.summary_done(at, i, text);
    }
}
