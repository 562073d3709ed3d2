//! A complete answer of Gemini's: a provider's, read; a client's, written.

use super::super::Garbage;
use super::super::chat::{Answer, Block, Call, Dropped, Fields, Part, object, text_in};
use super::{call_id, finish_reason, parts, reason, sign, signature, stop};
use crate::ai::usage::Usage;
use serde_json::{Value, json};

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

/// Writes it with one candidate. Arguments that are no JSON object cannot be said here.
pub fn write(answer: &Answer) -> Result<Value, Garbage> {
    let mut parts = Vec::new();
    for b in &answer.blocks {
        match &b.part {
            Part::Text(text) => parts.push(json!({ "text": text })),
            Part::Reasoning(text, signature) => {
                let mut part = object([("text", text.clone().into()), ("thought", true.into())]);
                part.extend(signature.as_deref().map(signed));
                parts.push(Value::Object(part));
            }
            Part::Redacted(data) => {
                parts.push(json!({ "text": "", "thought": true, "thoughtSignature": sign::sealed(data) }));
            }
            Part::Call(c) => {
                let args = arguments(&c.arguments).ok_or(Garbage)?;
                parts.push(json!({ "functionCall": { "id": c.id, "name": c.name, "args": args } }));
            }
            Part::Image(_) | Part::Document(..) | Part::Result(_) => {}
        }
    }
    Ok(candidate(parts, Some(reason(&answer.stop)), (&answer.model, &answer.id), answer.usage))
}

/// The member that carries a signature.
pub(super) fn signed(signature: &str) -> (String, Value) {
    ("thoughtSignature".to_owned(), sign::written(signature).into())
}

/// A call's arguments as the object that they are here; a call without any has an empty text elsewhere.
pub(super) fn arguments(text: &str) -> Option<Value> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    serde_json::from_str::<Value>(text).ok().filter(Value::is_object)
}

/// An answer, or a piece of one, with one candidate.
pub(super) fn candidate(
    parts: Vec<Value>,
    ended: Option<&str>,
    (model, id): (&str, &str),
    usage: Option<Usage>,
) -> Value {
    let mut content = Fields::new();
    if !parts.is_empty() {
        content.insert("parts".to_owned(), parts.into());
    }
    content.insert("role".to_owned(), "model".into());
    let mut candidate = object([("content", Value::Object(content))]);
    candidate.extend(ended.map(|e| ("finishReason".to_owned(), e.into())));
    candidate.insert("index".to_owned(), 0.into());
    let mut out = object([("candidates", Value::Array(vec![Value::Object(candidate)]))]);
    out.extend(usage.map(|u| ("usageMetadata".to_owned(), u.to_gemini())));
    out.insert("modelVersion".to_owned(), model.into());
    out.insert("responseId".to_owned(), id.into());
    Value::Object(out)
}
