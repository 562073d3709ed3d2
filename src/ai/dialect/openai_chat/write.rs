//! A request of the internal form, written for a chat completions provider.

use super::super::Target;
use super::super::chat::{
    Block, Dropped, Fields, Format, Media, Message, Outcome, Part, Reasoning, Request, Role, Tool, ToolChoice,
    Unsupported, object,
};
use serde_json::{Value, json};

/// Fields of the same name and meaning in all of OpenAI's dialects.
const SHARED: [&str; 7] = [
    "metadata",
    "moderation",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "store",
    "verbosity",
];
/// What may be asked for as `service_tier` there.
const SERVICE_TIERS: [&str; 5] = ["default", "fast", "flex", "priority", "ultrafast"];
/// OpenAI takes no more stop texts.
const STOPS_MAX: usize = 4;
/// Thinking budgets in tokens up to which an effort is low, and medium.
const LOW_MAX: u64 = 2048;
const MEDIUM_MAX: u64 = 8192;

/// The request's body.
pub fn request(r: &Request, target: &Target<'_>, dropped: &mut Dropped) -> Result<Value, Unsupported> {
    let mut out = object([("model", target.model.into()), ("messages", messages(r, dropped)?.into())]);
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
    };
    set("max_completion_tokens", r.max_tokens.map(Value::from));
    set("temperature", r.temperature.map(Value::from));
    set("top_p", r.top_p.map(Value::from));
    if r.top_k.is_some() {
        dropped.note("top_k");
    }
    if r.stop.len() > STOPS_MAX {
        dropped.note("stop_sequences");
    }
    let stops: Vec<&String> = r.stop.iter().take(STOPS_MAX).collect();
    set("stop", (!stops.is_empty()).then(|| json!(stops)));
    set("tools", (!r.tools.is_empty()).then(|| r.tools.iter().map(|t| tool(t, dropped)).collect()));
    if !r.tools.is_empty() {
        set("tool_choice", r.tool_choice.as_ref().map(tool_choice));
        set("parallel_tool_calls", r.parallel_calls.filter(|p| !p).map(Value::from));
    }
    set("response_format", r.format.as_ref().map(format));
    set("reasoning_effort", r.reasoning.as_ref().and_then(|how| effort(how, dropped)).map(Value::from));
    set("user", r.user.clone().map(Value::from));
    if r.stream {
        set("stream", Some(true.into()));
        set("stream_options", Some(json!({ "include_usage": true })));
    }
    out.extend(shared(&r.rest, dropped));
    Ok(Value::Object(out))
}

/// What a request says in the words that OpenAI's dialects share; the rest is dropped and named.
pub fn shared(rest: &Fields, dropped: &mut Dropped) -> Fields {
    // Another dialect's tiers of service are not OpenAI's.
    let known = |(name, value): &(&String, &Value)| match name.as_str() {
        "service_tier" => value.as_str().is_some_and(|tier| SERVICE_TIERS.contains(&tier)),
        name => SHARED.contains(&name) && !value.is_null(),
    };
    let (kept, left): (Vec<_>, Vec<_>) = rest.iter().partition(known);
    let owned = |all: Vec<(&String, &Value)>| all.into_iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    dropped.rest(&owned(left));
    owned(kept)
}

fn messages(r: &Request, dropped: &mut Dropped) -> Result<Vec<Value>, Unsupported> {
    let mut out = Vec::new();
    out.extend(system(&r.system, dropped));
    for m in r.turns() {
        dropped.rest(&m.rest);
        match m.role {
            Role::User => user(&m, &mut out, dropped)?,
            Role::Assistant => out.extend(assistant(&m, dropped)),
            Role::System => out.extend(system(&m.blocks, dropped)),
        }
    }
    Ok(out)
}

/// Instructions as one text, which every server takes.
fn system(blocks: &[Block], dropped: &mut Dropped) -> Option<Value> {
    let texts: Vec<&str> = blocks.iter().filter_map(|b| plain(b, dropped)).collect();
    (!texts.is_empty()).then(|| json!({ "role": "system", "content": texts.join("\n\n") }))
}

fn plain<'a>(b: &'a Block, dropped: &mut Dropped) -> Option<&'a str> {
    dropped.rest(&b.rest);
    match &b.part {
        Part::Text(text) => Some(text),
        _ => None,
    }
}

/// What tools returned comes first, a message each; images among it move to the user's message behind.
fn user(m: &Message, out: &mut Vec<Value>, dropped: &mut Dropped) -> Result<(), Unsupported> {
    let mut parts = Vec::new();
    let mut moved = Vec::new();
    for b in &m.blocks {
        dropped.rest(&b.rest);
        match &b.part {
            Part::Result(outcome) => out.push(tool_message(outcome, &mut moved, dropped)?),
            part => parts.extend(content_part(part, dropped)?),
        }
    }
    moved.append(&mut parts);
    let only = match moved.as_slice() {
        [] => return Ok(()),
        [one] => one.get("text").cloned(),
        _ => None,
    };
    out.push(json!({ "role": "user", "content": only.unwrap_or(Value::Array(moved)) }));
    Ok(())
}

fn tool_message(o: &Outcome, moved: &mut Vec<Value>, dropped: &mut Dropped) -> Result<Value, Unsupported> {
    if o.failed {
        dropped.note("is_error");
    }
    let mut texts = Vec::new();
    for b in &o.blocks {
        dropped.rest(&b.rest);
        match &b.part {
            Part::Text(text) => texts.push(text.as_str()),
            part => moved.extend(content_part(part, dropped)?),
        }
    }
    Ok(json!({ "role": "tool", "tool_call_id": o.id, "content": texts.join("\n") }))
}

fn content_part(part: &Part, dropped: &mut Dropped) -> Result<Option<Value>, Unsupported> {
    let text = |text: &str| json!({ "type": "text", "text": text });
    Ok(Some(match part {
        Part::Text(t) | Part::Image(Media::Plain(t)) | Part::Document(Media::Plain(t), _) => text(t),
        Part::Image(Media::Inline(kind, data)) => {
            json!({ "type": "image_url", "image_url": { "url": format!("data:{kind};base64,{data}") } })
        }
        Part::Image(Media::Url(url)) => json!({ "type": "image_url", "image_url": { "url": url } }),
        Part::Document(Media::Inline(kind, data), name) => {
            let name = name.as_deref().unwrap_or("document");
            json!({ "type": "file", "file": { "filename": name, "file_data": format!("data:{kind};base64,{data}") } })
        }
        Part::Document(Media::Url(_), _) => {
            return Err(Unsupported::at("messages", "a document by URL has no counterpart; send it in base64"));
        }
        Part::Reasoning(..) | Part::Redacted(_) => {
            dropped.note("thinking");
            return Ok(None);
        }
        Part::Call(_) | Part::Result(_) => return Err(Unsupported::at("messages", "a tool's block out of place")),
    }))
}

/// The thinking stays behind: only its own provider can read the signatures.
fn assistant(m: &Message, dropped: &mut Dropped) -> Option<Value> {
    let (mut texts, mut calls) = (Vec::new(), Vec::new());
    for b in &m.blocks {
        dropped.rest(&b.rest);
        match &b.part {
            Part::Text(text) => texts.push(text.as_str()),
            Part::Call(c) => calls.push(json!({
                "id": c.id, "type": "function", "function": { "name": c.name, "arguments": c.arguments },
            })),
            Part::Reasoning(..) | Part::Redacted(_) => dropped.note("thinking"),
            Part::Image(_) | Part::Document(..) | Part::Result(_) => dropped.note("content"),
        }
    }
    if texts.is_empty() && calls.is_empty() {
        return None;
    }
    let content = if texts.is_empty() { Value::Null } else { texts.concat().into() };
    let mut out = object([("role", "assistant".into()), ("content", content)]);
    if !calls.is_empty() {
        out.insert("tool_calls".to_owned(), calls.into());
    }
    Some(Value::Object(out))
}

fn tool(t: &Tool, dropped: &mut Dropped) -> Value {
    dropped.rest(&t.rest);
    let mut f: Fields = object([("name", t.name.clone().into())]);
    f.extend(t.description.clone().map(|d| ("description".to_owned(), d.into())));
    f.extend(t.schema.clone().map(|s| ("parameters".to_owned(), s)));
    f.extend(t.strict.map(|s| ("strict".to_owned(), s.into())));
    json!({ "type": "function", "function": f })
}

fn tool_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::Any => "required".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Named(name) => json!({ "type": "function", "function": { "name": name } }),
    }
}

fn format(f: &Format) -> Value {
    match f {
        Format::Json => json!({ "type": "json_object" }),
        Format::Schema(schema, name) => {
            let name = name.as_deref().unwrap_or("answer");
            let strict = is_strict(schema);
            json!({ "type": "json_schema", "json_schema": { "name": name, "schema": schema, "strict": strict } })
        }
    }
}

/// Whether OpenAI's strict mode takes a schema: every object lists all its properties as required and allows no others.
/// Elsewhere optional properties are fine, and a schema with such must not become an error.
pub fn is_strict(schema: &Value) -> bool {
    match schema {
        Value::Array(all) => all.iter().all(is_strict),
        Value::Object(members) => {
            let closed = match members.get("properties").and_then(Value::as_object) {
                Some(properties) => {
                    let required = members.get("required").and_then(Value::as_array);
                    let named = |p: &String| required.is_some_and(|all| all.iter().any(|r| r.as_str() == Some(p)));
                    members.get("additionalProperties") == Some(&Value::Bool(false)) && properties.keys().all(named)
                }
                None => true,
            };
            closed && members.values().all(is_strict)
        }
        _ => true,
    }
}

/// Thinking that is off or left to the model is each model's own default here: many refuse the field altogether.
pub fn effort(how: &Reasoning, dropped: &mut Dropped) -> Option<String> {
    match how {
        Reasoning::Off => None,
        Reasoning::Free => {
            dropped.note("thinking");
            None
        }
        Reasoning::Effort(e) => Some(if e == "max" { "xhigh".to_owned() } else { e.clone() }),
        Reasoning::Budget(0..=LOW_MAX) => Some("low".to_owned()),
        Reasoning::Budget(0..=MEDIUM_MAX) => Some("medium".to_owned()),
        Reasoning::Budget(_) => Some("high".to_owned()),
    }
}
