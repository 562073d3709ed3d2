//! A request of the internal form, written for a Messages provider.

use super::super::Target;
use super::super::chat::{
    Block, Dropped, Fields, Format, Media, Message, Part, Reasoning, Request, Role, Tool, ToolChoice, Unsupported,
    object,
};
use super::super::signature::is_anthropics;
use crate::config::ai::Thinking;
use serde_json::{Value, json};

/// The least that a thinking budget may be.
const BUDGET_MIN: u64 = 1024;

/// The request's body.
pub fn request(r: &Request, target: &Target<'_>, dropped: &mut Dropped) -> Result<Value, Unsupported> {
    let turns = r.turns();
    let messages = turns.iter().filter_map(|m| message(m, dropped).transpose()).collect::<Result<Vec<_>, _>>()?;
    let max_tokens = r.max_tokens.unwrap_or(target.max_tokens);
    let mut out = object([("model", target.model.into()), ("max_tokens", max_tokens.into())]);
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
    };
    let system = r.system.iter().map(|b| block(b, dropped)).collect::<Result<Vec<_>, _>>()?;
    set("system", (!system.is_empty()).then(|| system.into()));
    set("messages", Some(messages.into()));
    let thinks = thinking(r, &turns, (max_tokens, target.thinking), dropped);
    let effort = thinks.as_ref().and_then(|(_, effort)| effort.clone());
    set("output_config", output_config(r.format.as_ref(), effort, dropped));
    let (temperature, top_p) = sampling(r, thinks.is_some(), dropped);
    set("thinking", thinks.map(|(how, _)| how));
    set("temperature", temperature.map(Value::from));
    set("top_p", top_p.map(Value::from));
    set("top_k", r.top_k.map(Value::from));
    set("stop_sequences", stop_sequences(&r.stop, dropped));
    if !r.tools.is_empty() {
        set("tools", Some(r.tools.iter().map(|t| tool(t, dropped)).collect()));
        set("tool_choice", tool_choice(r));
    }
    set("metadata", r.user.as_ref().map(|u| json!({ "user_id": u })));
    set("stream", r.stream.then(|| true.into()));
    dropped.rest(&r.rest);
    Ok(Value::Object(out))
}

/// `None` for a message of which nothing can be said there.
fn message(m: &Message, dropped: &mut Dropped) -> Result<Option<Value>, Unsupported> {
    dropped.rest(&m.rest);
    // Thinking without Anthropic's signature is another provider's, and refused.
    let signed = |b: &&Block| match &b.part {
        Part::Reasoning(_, signature) => signature.as_deref().is_some_and(is_anthropics),
        _ => true,
    };
    if !m.blocks.iter().all(|b| signed(&b)) {
        dropped.note("thinking");
    }
    // Results stand before everything else, right behind the calls that they answer.
    let (results, others): (Vec<&Block>, Vec<&Block>) =
        m.blocks.iter().partition(|b| matches!(b.part, Part::Result(_)));
    // A block of nothing but white space is refused there, and says nothing as long as another block stands beside it.
    let speaks = |b: &&Block| !matches!(&b.part, Part::Text(text) if text.trim().is_empty());
    let alone = results.is_empty() && !others.iter().any(speaks);
    let all = results.into_iter().chain(others).filter(|b| signed(b) && (alone || speaks(b)));
    let blocks = all.map(|b| block(b, dropped)).collect::<Result<Vec<_>, _>>()?;
    let role = match m.role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::System => "system",
    };
    Ok((!blocks.is_empty()).then(|| json!({ "role": role, "content": blocks })))
}

fn block(b: &Block, dropped: &mut Dropped) -> Result<Value, Unsupported> {
    dropped.rest(&b.rest);
    Ok(match &b.part {
        Part::Text(text) => json!({ "type": "text", "text": text }),
        Part::Image(media) => json!({ "type": "image", "source": source(media) }),
        Part::Document(media, title) => {
            let mut out = object([("type", "document".into()), ("source", source(media))]);
            out.extend(title.clone().map(|t| ("title".to_owned(), t.into())));
            Value::Object(out)
        }
        Part::Reasoning(text, signature) => {
            json!({ "type": "thinking", "thinking": text, "signature": signature.as_deref().unwrap_or_default() })
        }
        Part::Redacted(data) => json!({ "type": "redacted_thinking", "data": data }),
        Part::Call(c) => {
            let input = input(&c.arguments).ok_or_else(|| {
                Unsupported::at("messages", format!("the arguments of the call {:?} are not a JSON object", c.id))
            })?;
            json!({ "type": "tool_use", "id": id(&c.id), "name": c.name, "input": input })
        }
        Part::Result(o) => {
            let blocks = o.blocks.iter().map(|b| block(b, dropped)).collect::<Result<Vec<_>, _>>()?;
            let mut out = object([("type", "tool_result".into()), ("tool_use_id", id(&o.id).into())]);
            out.insert("content".to_owned(), blocks.into());
            out.extend(o.failed.then(|| ("is_error".to_owned(), true.into())));
            Value::Object(out)
        }
    })
}

/// A call's id in the letters that are allowed here. Call and result are spelt alike, so they still belong together.
fn id(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' }).collect()
}

/// Arguments as the object that they are here; a call without any has an empty text elsewhere.
pub fn input(arguments: &str) -> Option<Value> {
    if arguments.trim().is_empty() {
        return Some(json!({}));
    }
    serde_json::from_str::<Value>(arguments).ok().filter(Value::is_object)
}

fn source(media: &Media) -> Value {
    match media {
        Media::Inline(kind, data) => json!({ "type": "base64", "media_type": kind, "data": data }),
        Media::Url(url) => json!({ "type": "url", "url": url }),
        Media::Plain(text) => json!({ "type": "text", "media_type": "text/plain", "data": text }),
    }
}

fn tool(t: &Tool, dropped: &mut Dropped) -> Value {
    dropped.rest(&t.rest);
    let mut out = object([("name", t.name.clone().into())]);
    out.extend(t.description.clone().map(|d| ("description".to_owned(), d.into())));
    let schema = t.schema.clone().unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
    out.insert("input_schema".to_owned(), schema);
    out.extend(t.strict.filter(|s| *s).map(|s| ("strict".to_owned(), s.into())));
    Value::Object(out)
}

fn tool_choice(r: &Request) -> Option<Value> {
    let one_at_a_time = r.parallel_calls == Some(false);
    let mut out = match r.tool_choice.as_ref() {
        None if !one_at_a_time => return None,
        None | Some(ToolChoice::Auto) => object([("type", "auto".into())]),
        Some(ToolChoice::Any) => object([("type", "any".into())]),
        Some(ToolChoice::None) => return Some(json!({ "type": "none" })),
        Some(ToolChoice::Named(name)) => object([("type", "tool".into()), ("name", name.clone().into())]),
    };
    out.extend(one_at_a_time.then(|| ("disable_parallel_tool_use".to_owned(), true.into())));
    Some(Value::Object(out))
}

fn output_config(format: Option<&Format>, effort: Option<String>, dropped: &mut Dropped) -> Option<Value> {
    let mut out = object([]);
    out.extend(effort.map(|e| ("effort".to_owned(), e.into())));
    match format {
        Some(Format::Schema(schema, _)) => {
            out.insert("format".to_owned(), json!({ "type": "json_schema", "schema": closed(schema) }));
        }
        // JSON without a schema cannot be asked for.
        Some(Format::Json) => dropped.note("response_format"),
        None => {}
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

/// The schema with every object closed that does not say whether it is: only such are taken here.
fn closed(schema: &Value) -> Value {
    match schema {
        Value::Array(all) => all.iter().map(closed).collect(),
        Value::Object(members) => {
            let mut out: Fields = members.iter().map(|(name, value)| (name.clone(), closed(value))).collect();
            let is_object = members.get("type").is_some_and(|t| t == "object") && members.get("properties").is_some();
            if is_object && !out.contains_key("additionalProperties") {
                out.insert("additionalProperties".to_owned(), false.into());
            }
            Value::Object(out)
        }
        other => other.clone(),
    }
}

/// The `thinking` member with the effort beside it. What Anthropic would refuse is left out: thinking with a forced
/// tool, after calls whose own thinking is not there, or without room for its budget.
pub fn thinking(
    r: &Request,
    turns: &[Message],
    (max_tokens, how): (u64, Thinking),
    dropped: &mut Dropped,
) -> Option<(Value, Option<String>)> {
    let effort = match r.reasoning.as_ref()? {
        Reasoning::Effort(e) => e.as_str(),
        Reasoning::Off => return None,
        Reasoning::Free | Reasoning::Budget(_) => "medium",
    };
    let forced = matches!(r.tool_choice, Some(ToolChoice::Any | ToolChoice::Named(_)));
    let (effort, budget) = match effort {
        "minimal" | "low" => ("low", 2048),
        "medium" => ("medium", 8192),
        "xhigh" => ("xhigh", 32_768),
        "max" => ("max", 32_768),
        _ => ("high", 16_384),
    };
    let room = max_tokens.saturating_sub(1).min(budget);
    if forced || calls_without_thought(turns) || (how == Thinking::Budget && room < BUDGET_MIN) {
        dropped.note("reasoning_effort");
        return None;
    }
    Some(match how {
        Thinking::Adaptive => (json!({ "type": "adaptive" }), Some(effort.to_owned())),
        Thinking::Budget => (json!({ "type": "enabled", "budget_tokens": room }), None),
    })
}

fn calls_without_thought(turns: &[Message]) -> bool {
    let last = turns.iter().rev().find(|m| m.role == Role::Assistant);
    last.is_some_and(|m| {
        let called = m.blocks.iter().any(|b| matches!(b.part, Part::Call(_)));
        let first = m.blocks.first().map(|b| &b.part);
        called && !matches!(first, Some(Part::Reasoning(_, Some(_)) | Part::Redacted(_)))
    })
}

/// A text of white space alone cannot end an answer there.
pub fn stop_sequences(stop: &[String], dropped: &mut Dropped) -> Option<Value> {
    let fit: Vec<&String> = stop.iter().filter(|s| !s.trim().is_empty()).collect();
    if fit.len() < stop.len() {
        dropped.note("stop");
    }
    (!fit.is_empty()).then(|| json!(fit))
}

/// Temperatures end at 1 here, a thinking model takes none but 1, and newer models take only one of the two knobs.
pub fn sampling(r: &Request, thinks: bool, dropped: &mut Dropped) -> (Option<f64>, Option<f64>) {
    let is_one = |x: f64| (x - 1.0).abs() < f64::EPSILON;
    // One means the same as nothing for both.
    let (mut temperature, mut top_p) = (r.temperature.filter(|t| !is_one(*t)), r.top_p.filter(|p| !is_one(*p)));
    if temperature.is_some_and(|t| thinks || t > 1.0) {
        dropped.note("temperature");
        temperature = None;
    }
    if top_p.is_some_and(|p| temperature.is_some() || (thinks && p < 0.95)) {
        dropped.note("top_p");
        top_p = None;
    }
    (temperature, top_p)
}
