//! A complete message: a provider's, read; a client's, written.

use super::super::Garbage;
use super::super::chat::{Answer, Block, Call, Dropped, Part, Stop, object, text_in};
use super::write::input;
use super::{stop, stop_reason};
use crate::ai::usage::Usage;
use serde_json::{Value, json};

/// Reads it. Blocks that only Anthropic knows are dropped and named.
pub fn read(json: &Value, dropped: &mut Dropped) -> Result<Answer, Garbage> {
    let content = json.get("content").and_then(Value::as_array).ok_or(Garbage)?;
    let mut blocks = Vec::new();
    for b in content {
        let word = |name: &str| text_in(b, name).unwrap_or_default().to_owned();
        let kind = text_in(b, "type").unwrap_or_default();
        if b.get("citations").is_some_and(|c| c.as_array().is_some_and(|all| !all.is_empty())) {
            dropped.note("citations");
        }
        blocks.push(Block::new(match kind {
            "text" => Part::Text(word("text")),
            "thinking" => Part::Reasoning(word("thinking"), Some(word("signature")).filter(|s| !s.is_empty())),
            "redacted_thinking" => Part::Redacted(word("data")),
            "tool_use" => {
                let arguments = b.get("input").map_or_else(|| "{}".to_owned(), Value::to_string);
                Part::Call(Call { id: word("id"), name: word("name"), arguments })
            }
            other => {
                dropped.note(other);
                continue;
            }
        }));
    }
    let reason = text_in(json, "stop_reason").ok_or(Garbage)?;
    let calls = blocks.iter().any(|b| matches!(b.part, Part::Call(_)));
    Ok(Answer {
        id: text_in(json, "id").unwrap_or_default().to_owned(),
        model: text_in(json, "model").unwrap_or_default().to_owned(),
        blocks,
        stop: stop(reason, text_in(json, "stop_sequence")).given(calls, false),
        usage: json.get("usage").and_then(Usage::from_anthropic),
    })
}

/// Writes it. Arguments that are no JSON object cannot be said here.
pub fn write(answer: &Answer) -> Result<Value, Garbage> {
    let mut content = Vec::new();
    for b in &answer.blocks {
        content.push(match &b.part {
            Part::Text(text) => json!({ "type": "text", "text": text }),
            Part::Reasoning(text, signature) => {
                json!({ "type": "thinking", "thinking": text, "signature": signature.as_deref().unwrap_or_default() })
            }
            Part::Redacted(data) => json!({ "type": "redacted_thinking", "data": data }),
            Part::Call(c) => {
                let input = input(&c.arguments).ok_or(Garbage)?;
                json!({ "type": "tool_use", "id": c.id, "name": c.name, "input": input })
            }
            Part::Image(_) | Part::Document(..) | Part::Result(_) => continue,
        });
    }
    let sequence = match &answer.stop {
        Stop::Sequence(text) => text.clone(),
        _ => None,
    };
    Ok(Value::Object(object([
        ("id", answer.id.clone().into()),
        ("type", "message".into()),
        ("role", "assistant".into()),
        ("model", answer.model.clone().into()),
        ("content", content.into()),
        ("stop_reason", stop_reason(&answer.stop).into()),
        ("stop_sequence", sequence.map_or(Value::Null, Value::from)),
        ("usage", answer.usage.unwrap_or_default().to_anthropic()),
    ])))
}
