//! A complete chat completion: a provider's, read; a client's, written.

use super::super::chat::{Answer, Block, Call, Dropped, Part, object, text_in};
use super::super::{Garbage, Wanted};
use super::{finish_reason, stop};
use crate::ai::usage::Usage;
use serde_json::{Value, json};

/// Reads the first choice; requests that are translated ask for no more.
pub fn read(json: &Value, dropped: &mut Dropped) -> Result<Answer, Garbage> {
    let choice = json.pointer("/choices/0").ok_or(Garbage)?;
    let message = choice.get("message").ok_or(Garbage)?;
    let mut blocks = Vec::new();
    if let Some(thought) = thought(message) {
        blocks.push(Block::new(Part::Reasoning(thought, None)));
    }
    let said = texts(message.get("content"));
    if !said.is_empty() {
        blocks.push(Block::text(said));
    }
    let refusal = text_in(message, "refusal").filter(|r| !r.is_empty());
    blocks.extend(refusal.map(Block::text));
    let calls = message.get("tool_calls").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (k, call) in calls.iter().enumerate() {
        let word = |place: &str| call.pointer(place).and_then(Value::as_str).map(str::to_owned);
        let name = word("/function/name").ok_or(Garbage)?;
        let id = word("/id").filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{k}"));
        let arguments = word("/function/arguments").unwrap_or_default();
        blocks.push(Block::new(Part::Call(Call { id, name, arguments })));
    }
    for name in ["annotations", "audio", "function_call"] {
        if message.get(name).is_some_and(|v| !v.is_null() && v.as_array().is_none_or(|a| !a.is_empty())) {
            dropped.note(name);
        }
    }
    let reason = text_in(choice, "finish_reason").ok_or(Garbage)?;
    Ok(Answer {
        id: text_in(json, "id").unwrap_or_default().to_owned(),
        model: text_in(json, "model").unwrap_or_default().to_owned(),
        blocks,
        stop: stop(reason).given(!calls.is_empty(), refusal.is_some()),
        usage: json.get("usage").and_then(Usage::from_openai),
    })
}

/// The thinking of a message or of a piece of one, in one of the places where servers put it: a member of its own, or
/// (Mistral) among the parts of the content.
pub(super) fn thought(message: &Value) -> Option<String> {
    let own = text_in(message, "reasoning_content").or_else(|| text_in(message, "reasoning"));
    let parts = || {
        let parts = message.get("content").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let thinking = parts.iter().filter(|p| text_in(p, "type") == Some("thinking"));
        thinking.map(|p| texts(p.get("thinking"))).collect::<String>()
    };
    Some(own.map_or_else(parts, str::to_owned)).filter(|t| !t.is_empty())
}

/// The text of a content: a string, or a list of parts as some servers send it.
pub(super) fn texts(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|p| text_in(p, "text")).collect(),
        _ => String::new(),
    }
}

/// Writes it with one choice.
pub fn write(answer: &Answer, wanted: Wanted) -> Value {
    let (mut text, mut said) = (String::new(), false);
    let (mut thought, mut thinking, mut calls) = (String::new(), Vec::new(), Vec::new());
    for b in &answer.blocks {
        match &b.part {
            Part::Text(t) => {
                text.push_str(t);
                said = true;
            }
            Part::Reasoning(t, signature) => {
                thought.push_str(t);
                let mut block = object([("type", "thinking".into()), ("thinking", t.clone().into())]);
                block.extend(signature.clone().map(|s| ("signature".to_owned(), s.into())));
                thinking.push(Value::Object(block));
            }
            Part::Redacted(data) => thinking.push(json!({ "type": "redacted_thinking", "data": data })),
            Part::Call(c) => calls.push(json!({
                "id": c.id, "type": "function", "function": { "name": c.name, "arguments": c.arguments },
            })),
            Part::Image(_) | Part::Document(..) | Part::Result(_) => {}
        }
    }
    let content = if said { text.into() } else { Value::Null };
    let mut message = object([("role", "assistant".into()), ("content", content), ("refusal", Value::Null)]);
    let mut add = |name: &str, value: Value, present: bool| {
        if present {
            message.insert(name.to_owned(), value);
        }
    };
    add("reasoning_content", thought.clone().into(), !thought.is_empty());
    add("thinking_blocks", thinking.clone().into(), !thinking.is_empty());
    add("tool_calls", calls.clone().into(), !calls.is_empty());
    let choice = json!({
        "index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason(&answer.stop),
    });
    let mut out = object([
        ("id", answer.id.clone().into()),
        ("object", "chat.completion".into()),
        ("created", wanted.created.into()),
        ("model", answer.model.clone().into()),
        ("choices", Value::Array(vec![choice])),
    ]);
    out.extend(answer.usage.map(|u| ("usage".to_owned(), u.to_openai())));
    Value::Object(out)
}
