//! A request of the internal form, written for a Responses provider.

use super::super::Target;
use super::super::chat::{
    Block, Dropped, Fields, Format, Media, Message, Outcome, Part, Reasoning, Request, Role, Tool, ToolChoice,
    Unsupported, object,
};
use super::super::openai_chat::write::{effort, is_strict, shared};
use super::items;
use serde_json::{Value, json};

/// The request's body. Nothing is kept at the provider unless the client asks for it: who translates has no way to
/// come back for it.
pub fn request(r: &Request, target: &Target<'_>, dropped: &mut Dropped) -> Result<Value, Unsupported> {
    if !r.stop.is_empty() {
        return Err(Unsupported::at("stop", "has no counterpart at this model's provider"));
    }
    let mut input = Vec::new();
    for m in r.turns() {
        message(&m, &mut input, dropped)?;
    }
    let encrypted = r.reasoning.is_some() || input.iter().any(|i| i.get("encrypted_content").is_some());
    let mut out = object([("model", target.model.into())]);
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
    };
    set("instructions", instructions(&r.system, dropped).map(Value::from));
    set("input", Some(input.into()));
    set("max_output_tokens", r.max_tokens.map(Value::from));
    set("temperature", r.temperature.map(Value::from));
    set("top_p", r.top_p.map(Value::from));
    if r.top_k.is_some() {
        dropped.note("top_k");
    }
    if !r.tools.is_empty() {
        set("tools", Some(r.tools.iter().map(|t| tool(t, dropped)).collect()));
        set("tool_choice", r.tool_choice.as_ref().map(tool_choice));
        set("parallel_tool_calls", r.parallel_calls.filter(|p| !p).map(Value::from));
    }
    let mut rest = shared(&r.rest, dropped);
    set("text", text(r.format.as_ref(), rest.shift_remove("verbosity")));
    set("reasoning", r.reasoning.as_ref().and_then(|how| reasoning(how, dropped)));
    set("include", encrypted.then(|| json!(["reasoning.encrypted_content"])));
    set("store", Some(false.into()));
    set("safety_identifier", r.user.clone().map(Value::from));
    set("stream", r.stream.then(|| true.into()));
    out.extend(rest);
    Ok(Value::Object(out))
}

fn instructions(blocks: &[Block], dropped: &mut Dropped) -> Option<String> {
    let mut texts = Vec::new();
    for b in blocks {
        dropped.rest(&b.rest);
        if let Part::Text(text) = &b.part {
            texts.push(text.as_str());
        }
    }
    (!texts.is_empty()).then(|| texts.join("\n\n"))
}

/// A turn as items. What tools returned comes first, right behind the calls that it answers.
fn message(m: &Message, out: &mut Vec<Value>, dropped: &mut Dropped) -> Result<(), Unsupported> {
    dropped.rest(&m.rest);
    let (mut parts, mut words) = (Vec::new(), Vec::new());
    for b in &m.blocks {
        dropped.rest(&b.rest);
        match (&b.part, m.role) {
            (Part::Result(outcome), _) => out.push(result(outcome, dropped)?),
            (Part::Text(text), Role::Assistant) => words.push(text.as_str()),
            (Part::Call(_) | Part::Reasoning(..) | Part::Redacted(_), Role::Assistant) => {
                out.extend(spoken(&mut words));
                out.extend(item(&b.part, dropped));
            }
            (_, Role::Assistant) => dropped.note("content"),
            (part, _) => parts.push(input(part)?),
        }
    }
    out.extend(spoken(&mut words));
    let role = if m.role == Role::System { "system" } else { "user" };
    if !parts.is_empty() {
        out.push(json!({ "type": "message", "role": role, "content": parts }));
    }
    Ok(())
}

/// What the model said, in the form that needs no id.
fn spoken(words: &mut Vec<&str>) -> Option<Value> {
    let text = std::mem::take(words).concat();
    (!text.is_empty()).then(|| json!({ "type": "message", "role": "assistant", "content": text }))
}

/// A call, or thinking that OpenAI itself signed; other thinking stays behind.
fn item(part: &Part, dropped: &mut Dropped) -> Option<Value> {
    let item = match part {
        Part::Call(c) => {
            let arguments = items::no_arguments(&c.arguments).unwrap_or(&c.arguments);
            Some(json!({ "type": "function_call", "call_id": c.id, "name": c.name, "arguments": arguments }))
        }
        Part::Reasoning(text, signature) => signature.as_deref().and_then(|s| items::unsigned(text, s)),
        _ => None,
    };
    if item.is_none() {
        dropped.note("thinking");
    }
    item
}

fn result(o: &Outcome, dropped: &mut Dropped) -> Result<Value, Unsupported> {
    if o.failed {
        dropped.note("is_error");
    }
    let mut texts = Vec::new();
    for b in &o.blocks {
        dropped.rest(&b.rest);
        if let Part::Text(text) = &b.part {
            texts.push(text.as_str());
        }
    }
    let output = if texts.len() == o.blocks.len() {
        texts.join("\n").into()
    } else {
        o.blocks.iter().map(|b| input(&b.part)).collect::<Result<Vec<_>, _>>()?.into()
    };
    Ok(object([("type", "function_call_output".into()), ("call_id", o.id.clone().into()), ("output", output)]).into())
}

fn input(part: &Part) -> Result<Value, Unsupported> {
    let text = |text: &str| json!({ "type": "input_text", "text": text });
    let inline = |kind: &str, data: &str| format!("data:{kind};base64,{data}");
    let image = |url: &str| json!({ "type": "input_image", "image_url": url, "detail": "auto" });
    Ok(match part {
        Part::Text(t) | Part::Image(Media::Plain(t)) | Part::Document(Media::Plain(t), _) => text(t),
        Part::Image(Media::Inline(kind, data)) => image(&inline(kind, data)),
        Part::Image(Media::Url(url)) => image(url),
        Part::Document(Media::Inline(kind, data), name) => {
            let name = name.as_deref().unwrap_or("document");
            json!({ "type": "input_file", "filename": name, "file_data": inline(kind, data) })
        }
        Part::Document(Media::Url(url), _) => json!({ "type": "input_file", "file_url": url }),
        Part::Call(_) | Part::Result(_) | Part::Reasoning(..) | Part::Redacted(_) => {
            return Err(Unsupported::at("messages", "a block of the model's or a tool's out of place"));
        }
    })
}

/// Functions are strict here unless it is said that they are not.
fn tool(t: &Tool, dropped: &mut Dropped) -> Value {
    dropped.rest(&t.rest);
    let schema = t.schema.clone().unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
    let mut f: Fields = object([("type", "function".into()), ("name", t.name.clone().into())]);
    f.extend(t.description.clone().map(|d| ("description".to_owned(), d.into())));
    f.extend(object([("parameters", schema), ("strict", t.strict.unwrap_or(false).into())]));
    Value::Object(f)
}

fn tool_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::Any => "required".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Named(name) => json!({ "type": "function", "name": name }),
    }
}

fn text(format: Option<&Format>, verbosity: Option<Value>) -> Option<Value> {
    let mut out = Fields::new();
    match format {
        Some(Format::Json) => drop(out.insert("format".to_owned(), json!({ "type": "json_object" }))),
        Some(Format::Schema(schema, name)) => {
            let (name, strict) = (name.as_deref().unwrap_or("answer"), is_strict(schema));
            let form = json!({ "type": "json_schema", "name": name, "schema": schema, "strict": strict });
            out.insert("format".to_owned(), form);
        }
        None => {}
    }
    out.extend(verbosity.map(|v| ("verbosity".to_owned(), v)));
    (!out.is_empty()).then_some(Value::Object(out))
}

fn reasoning(how: &Reasoning, dropped: &mut Dropped) -> Option<Value> {
    effort(how, dropped).map(|effort| json!({ "effort": effort }))
}
