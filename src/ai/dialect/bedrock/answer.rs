//! A complete answer of Converse, read into the internal form.

use super::super::Garbage;
use super::super::chat::{Answer, Block, Call, Dropped, Part, text_in};
use super::stop;
use crate::ai::usage::Usage;
use serde_json::Value;

/// Reads it. Blocks that only Bedrock knows are dropped and named. An answer of Converse bears neither an id nor the
/// model's name; both may have been added to it.
pub fn read(json: &Value, dropped: &mut Dropped) -> Result<Answer, Garbage> {
    let content = json.pointer("/output/message/content").and_then(Value::as_array).ok_or(Garbage)?;
    let mut blocks = Vec::new();
    for (kind, b) in content.iter().filter_map(Value::as_object).flatten() {
        part(kind, b, &mut blocks, dropped);
    }
    let calls = blocks.iter().any(|b: &Block| matches!(b.part, Part::Call(_)));
    let word = |name: &str| text_in(json, name).unwrap_or_default().to_owned();
    Ok(Answer {
        id: word("id"),
        model: word("model"),
        blocks,
        stop: stop(text_in(json, "stopReason").ok_or(Garbage)?).given(calls, false),
        usage: json.get("usage").and_then(Usage::from_bedrock),
    })
}

fn part(kind: &str, b: &Value, out: &mut Vec<Block>, dropped: &mut Dropped) {
    let word = |name: &str| text_in(b, name).unwrap_or_default().to_owned();
    match kind {
        "text" => out.extend(b.as_str().map(Block::text)),
        "toolUse" if b.get("type").is_none() => {
            let arguments = b.get("input").map_or_else(|| "{}".to_owned(), Value::to_string);
            out.push(Block::new(Part::Call(Call { id: word("toolUseId"), name: word("name"), arguments })));
        }
        "reasoningContent" => {
            if let Some(said) = b.get("reasoningText") {
                let signature = text_in(said, "signature").filter(|s| !s.is_empty()).map(str::to_owned);
                let text = text_in(said, "text").unwrap_or_default().to_owned();
                out.push(Block::new(Part::Reasoning(text, signature)));
            }
            out.extend(text_in(b, "redactedContent").map(|data| Block::new(Part::Redacted(data.to_owned()))));
        }
        "citationsContent" => {
            let said = b.get("content").and_then(Value::as_array).into_iter().flatten();
            let text: String = said.filter_map(|c| text_in(c, "text")).collect();
            dropped.note("citations");
            out.push(Block::text(text));
        }
        // What the provider's own tools did.
        "toolUse" => dropped.note("server_tool_use"),
        other => dropped.note(other),
    }
}
