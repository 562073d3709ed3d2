//! A complete response: a provider's, read; a client's, written.

use super::super::chat::{Answer, Block, Call, Dropped, Part, text_in};
use super::super::{Garbage, Wanted};
use super::items::{self, Head};
use super::{output, status, stop};
use crate::ai::usage::Usage;
use serde_json::Value;

/// Reads it. Items of tools that only OpenAI has are dropped and named.
pub fn read(json: &Value, dropped: &mut Dropped) -> Result<Answer, Garbage> {
    let (mut blocks, mut calls, mut refused) = (Vec::new(), false, false);
    for item in output(json) {
        match text_in(item, "type").unwrap_or_default() {
            "message" => refused |= message(item, &mut blocks, dropped),
            "reasoning" => blocks.extend(items::thought(item).map(Block::new)),
            "function_call" => {
                calls = true;
                blocks.push(Block::new(Part::Call(call(item).ok_or(Garbage)?)));
            }
            other => dropped.note(other),
        }
    }
    let word = |name| text_in(json, name).unwrap_or_default().to_owned();
    Ok(Answer {
        id: word("id"),
        model: word("model"),
        blocks,
        stop: stop(json).ok_or(Garbage)?.given(calls, refused),
        usage: json.get("usage").and_then(Usage::from_responses),
    })
}

/// The texts of a message; whether one of them is a refusal.
fn message(item: &Value, blocks: &mut Vec<Block>, dropped: &mut Dropped) -> bool {
    let mut refused = false;
    for part in item.get("content").and_then(Value::as_array).into_iter().flatten() {
        let text = match text_in(part, "type").unwrap_or_default() {
            "output_text" => text_in(part, "text"),
            "refusal" => {
                refused = true;
                text_in(part, "refusal")
            }
            other => {
                dropped.note(other);
                continue;
            }
        };
        if part.get("annotations").and_then(Value::as_array).is_some_and(|all| !all.is_empty()) {
            dropped.note("annotations");
        }
        blocks.extend(text.filter(|t| !t.is_empty()).map(Block::text));
    }
    refused
}

/// A call; `None` when it has no name.
pub(super) fn call(item: &Value) -> Option<Call> {
    let word = |name| text_in(item, name).filter(|w| !w.is_empty()).map(str::to_owned);
    let id = word("call_id").or_else(|| word("id")).unwrap_or_default();
    Some(Call { id, name: word("name")?, arguments: word("arguments").unwrap_or_default() })
}

/// Writes it: texts that follow each other are parts of one message.
pub fn write(answer: &Answer, wanted: Wanted) -> Value {
    let head = Head::new(&answer.id, &answer.model, wanted.created);
    let ended = status(&answer.stop).0;
    let said = |b: &&Block| match &b.part {
        Part::Text(text) => !text.is_empty(),
        Part::Reasoning(text, signature) => !text.is_empty() || signature.is_some(),
        Part::Redacted(_) | Part::Call(_) => true,
        Part::Image(_) | Part::Document(..) | Part::Result(_) => false,
    };
    let blocks: Vec<&Block> = answer.blocks.iter().filter(said).collect();
    let groups: Vec<&[&Block]> = blocks.chunk_by(|a, b| is_text(a) && is_text(b)).collect();
    let last = groups.len().saturating_sub(1);
    let write = |(index, group): (usize, &&[&Block])| {
        let status = if index == last { ended } else { "completed" };
        item(group, index, status, &head)
    };
    let output = groups.iter().enumerate().filter_map(write).collect();
    head.response(Some(&answer.stop), output, answer.usage.as_ref())
}

fn is_text(b: &Block) -> bool {
    matches!(b.part, Part::Text(_))
}

fn item(group: &[&Block], index: usize, status: &str, head: &Head) -> Option<Value> {
    let id = |prefix| head.item_id(prefix, index);
    Some(match &group.first()?.part {
        Part::Reasoning(text, signature) => {
            items::reasoning(&id("rs"), text, signature.as_deref().map(items::seal).as_deref())
        }
        Part::Redacted(data) => items::reasoning(&id("rs"), "", Some(&items::seal_redacted(data))),
        Part::Call(call) => {
            let mut call = call.clone();
            let none = items::no_arguments(&call.arguments);
            call.arguments.extend(none);
            items::call(&id("fc"), &call, status)
        }
        _ => {
            let text = |b: &&Block| match &b.part {
                Part::Text(text) => Some(items::text_part(text)),
                _ => None,
            };
            let parts: Vec<Value> = group.iter().filter_map(text).collect();
            items::message(&id("msg"), &parts, status)
        }
    })
}
