//! What a Responses request asks, as the policy and the caches see it.

use super::super::chat::{Fields, text_in};
use crate::ai::error::AiError;
use crate::ai::facts::{Facts, flag, missing, model_name, text_of};
use serde_json::Value;

/// Fields that bring a conversation of their own.
const KEPT: [&str; 3] = ["previous_response_id", "conversation", "prompt"];

/// The facts.
pub fn read(fields: &Fields) -> Result<Facts, AiError> {
    let mut facts = Facts { model: model_name(fields)?, n: 1, ..Facts::default() };
    if let Some(text) = fields.get("instructions").and_then(Value::as_str) {
        facts.chars += text.chars().count();
        facts.instructed(text);
    }
    match fields.get("input") {
        Some(Value::String(text)) => {
            facts.messages = 1;
            facts.chars += text.chars().count();
            facts.asked(text.clone());
        }
        Some(Value::Array(items)) if !items.is_empty() => items.iter().for_each(|item| read_item(item, &mut facts)),
        None if KEPT.iter().any(|name| fields.get(*name).is_some_and(|v| !v.is_null())) => {}
        _ => return Err(missing("input", "a string or a list of at least one item")),
    }
    facts.tools = fields.get("tools").and_then(Value::as_array).map_or(0, Vec::len);
    facts.stream = flag(fields.get("stream"), "stream")?;
    facts.temperature = fields.get("temperature").and_then(Value::as_f64);
    facts.max_tokens = fields.get("max_output_tokens").and_then(Value::as_u64);
    Ok(facts)
}

/// A message, or what a tool returned; other items have no text of their own.
fn read_item(item: &Value, facts: &mut Facts) {
    facts.messages += 1;
    let (text, parts) = text_of(item.get("content").or_else(|| item.get("output")));
    facts.chars += text.chars().count();
    facts.parts += parts;
    match text_in(item, "role") {
        Some("system" | "developer") => facts.instructed(&text),
        Some("user") => facts.asked(text),
        _ => {}
    }
}
