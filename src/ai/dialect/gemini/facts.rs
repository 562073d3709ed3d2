//! What the policy script and the caches want to know about a request of Gemini's dialect.

use super::members::{count, get, get_in};
use crate::ai::error::AiError;
use crate::ai::facts::{Facts, missing};
use serde_json::{Map, Value};

/// The facts; model and stream stand in the path and are added to the members by the parser. A user's content of
/// nothing but functions' responses is no turn of the user's.
pub fn facts(fields: &Map<String, Value>) -> Result<Facts, AiError> {
    let model = fields.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
    let stream = fields.get("stream").and_then(Value::as_bool).unwrap_or(false);
    let mut facts = Facts { model, stream, wants_usage: true, n: 1, ..Facts::default() };
    let contents = match get(fields, "contents") {
        Some(Value::Array(all)) if !all.is_empty() => all,
        _ => return Err(missing("contents", "a list of at least one content")),
    };
    facts.messages = contents.len();
    if let Some(system) = get(fields, "systemInstruction") {
        facts.system = system.as_str().map_or_else(|| text_of(system).0, str::to_owned);
    }
    facts.chars = facts.system.chars().count();
    for content in contents {
        let (text, others) = text_of(content);
        facts.chars += text.chars().count();
        facts.parts += others;
        if !is_model(content) && !only_responses(content) {
            facts.asked(text);
        }
    }
    let tools = get(fields, "tools").and_then(Value::as_array).into_iter().flatten();
    // A tool of Google's own counts as one.
    facts.tools = tools.map(|t| get_in(t, "functionDeclarations").and_then(Value::as_array).map_or(1, Vec::len)).sum();
    if let Some(config) = get(fields, "generationConfig") {
        facts.temperature = get_in(config, "temperature").and_then(Value::as_f64);
        facts.max_tokens = get_in(config, "maxOutputTokens").and_then(count);
        facts.n = get_in(config, "candidateCount").and_then(count).unwrap_or(1);
    }
    Ok(facts)
}

fn parts(content: &Value) -> &[Value] {
    content.get("parts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice)
}

/// Whether the model speaks.
fn is_model(content: &Value) -> bool {
    content.get("role").and_then(Value::as_str) == Some("model")
}

fn only_responses(content: &Value) -> bool {
    let all = parts(content);
    !all.is_empty() && all.iter().all(|p| get_in(p, "functionResponse").is_some())
}

/// The text of a content, its parts joined by newlines, and how many parts are not text. Thoughts are neither.
fn text_of(content: &Value) -> (String, usize) {
    let (mut texts, mut others) = (Vec::new(), 0);
    for part in parts(content) {
        let thought = part.get("thought").and_then(Value::as_bool) == Some(true);
        match part.get("text").and_then(Value::as_str) {
            Some(text) if !thought => texts.push(text),
            Some(_) => {}
            None => others += 1,
        }
    }
    (texts.join("\n"), others)
}
