//! The tools of a request to Converse.

use super::super::chat::{Message, Part, Request, Tool, ToolChoice, Unsupported, object};
use super::Maker;
use super::write::Writer;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// `toolConfig`. It must be there as soon as the conversation holds calls, and there is no word for calling none: both
/// are met by leaving it out where that says the same.
pub(super) fn config(r: &Request, turns: &[Message], w: &mut Writer<'_>) -> Result<Option<Value>, Unsupported> {
    let called: BTreeSet<&str> = turns.iter().flat_map(|m| &m.blocks).filter_map(name).collect();
    if r.tools.is_empty() {
        // Tools that were called once and are not offered now are declared by their names, as the calls would be
        // refused otherwise.
        let stub = |name: &&str| json!({ "toolSpec": { "name": name, "inputSchema": { "json": no_arguments() } } });
        let tools: Vec<Value> = called.iter().map(stub).collect();
        return Ok((!tools.is_empty()).then(|| json!({ "tools": tools })));
    }
    if r.parallel_calls == Some(false) {
        w.dropped.note("parallel_tool_calls");
    }
    let choice = match &r.tool_choice {
        None => None,
        Some(ToolChoice::Auto) => Some(json!({ "auto": {} })),
        Some(ToolChoice::Any) => Some(json!({ "any": {} })),
        Some(ToolChoice::Named(name)) => Some(json!({ "tool": { "name": name } })),
        Some(ToolChoice::None) if called.is_empty() => return Ok(None),
        Some(ToolChoice::None) => {
            return Err(Unsupported::at("tool_choice", "none has no counterpart once there are calls"));
        }
    };
    let mut tools = Vec::new();
    for t in &r.tools {
        // Nova caches no tools.
        let point = w.rest(&t.rest);
        if point.is_some() && w.maker == Maker::Amazon {
            w.dropped.note("cache_control");
        }
        tools.push(spec(t));
        tools.extend(point.filter(|_| w.maker != Maker::Amazon));
    }
    let mut out = object([("tools", tools.into())]);
    out.extend(choice.map(|c| ("toolChoice".to_owned(), c)));
    Ok(Some(Value::Object(out)))
}

fn name(b: &super::super::chat::Block) -> Option<&str> {
    match &b.part {
        Part::Call(c) => Some(c.name.as_str()),
        _ => None,
    }
}

fn spec(t: &Tool) -> Value {
    let mut out = object([("name", t.name.clone().into())]);
    let description = t.description.clone().filter(|d| !d.is_empty());
    out.extend(description.map(|d| ("description".to_owned(), d.into())));
    let schema = t.schema.clone().unwrap_or_else(no_arguments);
    out.insert("inputSchema".to_owned(), json!({ "json": schema }));
    out.extend(t.strict.filter(|s| *s).map(|s| ("strict".to_owned(), s.into())));
    json!({ "toolSpec": out })
}

fn no_arguments() -> Value {
    json!({ "type": "object", "properties": {} })
}
