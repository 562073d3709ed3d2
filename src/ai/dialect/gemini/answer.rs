//! A complete answer of Gemini's, read into the internal form.

use super::super::Garbage;
use super::super::chat::{Answer, Block, Call, Dropped, Part, text_in};
use super::{call_id, finish_reason, parts, signature, stop};
use crate::ai::usage::Usage;
use serde_json::Value;

/// Reads the first candidate.
pub fn read(json: &Value, dropped: &mut Dropped) -> Result<Answer, Garbage> {
    let id = text_in(json, "responseId").unwrap_or_default().to_owned();
    let (mut blocks, mut calls): (Vec<Block>, usize) = (Vec::new(), 0);
    for part in parts(json) {
        let signed = signature(part);
        if part.get("thought").and_then(Value::as_bool) == Some(true) {
            blocks.push(Block::new(Part::Reasoning(text_in(part, "text").unwrap_or_default().to_owned(), signed)));
            continue;
        }
        // A signature stands before what it signs, as a thought without words.
        blocks.extend(signed.map(|s| Block::new(Part::Reasoning(String::new(), Some(s)))));
        if let Some(text) = text_in(part, "text") {
            match blocks.last_mut().map(|b| &mut b.part) {
                Some(Part::Text(said)) => said.push_str(text),
                _ => blocks.push(Block::text(text)),
            }
        } else if let Some(call) = part.get("functionCall") {
            let name = text_in(call, "name").ok_or(Garbage)?.to_owned();
            let arguments = call.get("args").map_or_else(|| "{}".to_owned(), Value::to_string);
            blocks.push(Block::new(Part::Call(Call { id: call_id(part, &id, calls), name, arguments })));
            calls += 1;
        } else {
            part.as_object().into_iter().flatten().for_each(|(name, _)| dropped.note(name));
        }
    }
    blocks.retain(|b| !matches!(&b.part, Part::Text(t) if t.is_empty()));
    let reason = finish_reason(json).ok_or(Garbage)?;
    Ok(Answer {
        id,
        model: text_in(json, "modelVersion").unwrap_or_default().to_owned(),
        blocks,
        stop: stop(reason).given(calls > 0, false),
        usage: json.get("usageMetadata").and_then(Usage::from_gemini),
    })
}
