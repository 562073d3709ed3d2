//! A client's Responses request, read into the internal form.

use super::super::chat::{
    Block, Call, Dropped, Fields, Format, Message, Outcome, Part, Reasoning, Request, Role, Tool, ToolChoice,
    Unsupported, take, take_list, take_text, text_in,
};
use super::super::openai_chat::read::media;
use super::items;
use serde_json::Value;

/// Fields about delivery, which the gateway itself answers for. Signatures come without being asked for, and no answer
/// that is translated is kept at its provider.
const DELIVERY: [&str; 3] = ["model", "stream", "stream_options"];
/// Fields that refer to what only OpenAI keeps or runs.
const NEEDED: [&str; 4] = ["previous_response_id", "conversation", "prompt", "background"];
/// Fields with a value that says what their absence says, too.
const IDLE: [(&str, &str); 8] = [
    ("background", "false"),
    ("store", "false"),
    ("truncation", "\"disabled\""),
    ("service_tier", "\"auto\""),
    ("include", "[\"reasoning.encrypted_content\"]"),
    ("top_logprobs", "0"),
    ("metadata", "{}"),
    ("text", "{}"),
];

/// The request. What has no place in the internal form but changes what is asked is refused.
pub fn request(fields: &Fields, dropped: &mut Dropped) -> Result<Request, Unsupported> {
    let mut f = fields.clone();
    let stream = f.get("stream").and_then(Value::as_bool).unwrap_or(false);
    for name in DELIVERY {
        f.shift_remove(name);
    }
    for (name, idle) in IDLE {
        let told = f.get(name).map(Value::to_string);
        if told.is_some_and(|told| told == idle) {
            f.shift_remove(name);
        }
    }
    for name in NEEDED {
        if f.get(name).is_some_and(|v| !v.is_null()) {
            return Err(Unsupported::at(
                name,
                "refers to what only OpenAI keeps; send the whole conversation as input",
            ));
        }
    }
    let mut r = Request { stream, ..Request::default() };
    r.system.extend(take_text(&mut f, "instructions").filter(|t| !t.is_empty()).map(Block::text));
    match take(&mut f, "input") {
        Some(Value::String(text)) => r.messages.push(said(Role::User, vec![Block::text(text)])),
        Some(Value::Array(all)) => {
            for (i, item) in all.into_iter().enumerate() {
                read_item(item, &format!("input[{i}]"), &mut r, dropped)?;
            }
        }
        _ => return Err(Unsupported::at("input", "must be a string or a list of items")),
    }
    for (i, t) in take_list(&mut f, "tools").unwrap_or_default().into_iter().enumerate() {
        r.tools.push(tool(t, i)?);
    }
    if let Some(choice) = take(&mut f, "tool_choice") {
        tool_choice(&choice, &mut r)?;
    }
    r.parallel_calls = take(&mut f, "parallel_tool_calls").and_then(|v| v.as_bool());
    r.max_tokens = take(&mut f, "max_output_tokens").and_then(|v| v.as_u64());
    r.temperature = take(&mut f, "temperature").and_then(|v| v.as_f64());
    r.top_p = take(&mut f, "top_p").and_then(|v| v.as_f64());
    settings(&mut f, &mut r, dropped)?;
    let old = take_text(&mut f, "user");
    r.user = take_text(&mut f, "safety_identifier").or(old);
    r.rest = f;
    Ok(r)
}

/// `text` and `reasoning`: the form of the answer, and how much thought goes before it.
fn settings(f: &mut Fields, r: &mut Request, dropped: &mut Dropped) -> Result<(), Unsupported> {
    if let Some(Value::Object(mut text)) = take(f, "text") {
        r.format = take(&mut text, "format").map(|v| format(&v)).transpose()?.flatten();
        f.extend(take(&mut text, "verbosity").map(|v| ("verbosity".to_owned(), v)));
        dropped.rest(&text);
    }
    if let Some(Value::Object(mut reasoning)) = take(f, "reasoning") {
        r.reasoning = take_text(&mut reasoning, "effort").map(|e| match e.as_str() {
            "none" => Reasoning::Off,
            _ => Reasoning::Effort(e),
        });
        // What other providers tell of their thinking is told anyway.
        for name in ["summary", "generate_summary"] {
            reasoning.shift_remove(name);
        }
        dropped.rest(&reasoning);
    }
    Ok(())
}

fn said(role: Role, blocks: Vec<Block>) -> Message {
    Message { role, blocks, rest: Fields::new() }
}

fn read_item(item: Value, at: &str, r: &mut Request, dropped: &mut Dropped) -> Result<(), Unsupported> {
    let Value::Object(mut m) = item else { return Err(Unsupported::at(at, "must be an object")) };
    let kind = take_text(&mut m, "type");
    let thought = matches!(kind.as_deref(), Some("reasoning")).then(|| items::thought(&Value::Object(m.clone())));
    // What this dialect calls its items is of no use elsewhere.
    for name in ["id", "status"] {
        m.shift_remove(name);
    }
    let mut word = |name: &str| take_text(&mut m, name).unwrap_or_default();
    let (role, part) = match kind.as_deref() {
        None | Some("message") => return message(m, at, r, dropped),
        Some("function_call") => {
            let call = Call { id: word("call_id"), name: word("name"), arguments: word("arguments") };
            if call.id.is_empty() || call.name.is_empty() {
                return Err(Unsupported::at(at, "must have a call_id and a name"));
            }
            (Role::Assistant, Part::Call(call))
        }
        Some("function_call_output") => {
            let id = word("call_id");
            let blocks = content(take(&mut m, "output"), &format!("{at}.output"))?;
            (Role::User, Part::Result(Outcome { id, blocks, failed: false }))
        }
        Some("reasoning") => match thought.flatten() {
            Some(part) => {
                for name in ["summary", "content", "encrypted_content"] {
                    m.shift_remove(name);
                }
                (Role::Assistant, part)
            }
            None => return Ok(()),
        },
        Some("item_reference") => {
            return Err(Unsupported::at(at, "refers to what only OpenAI keeps; send the item itself"));
        }
        Some(other) => return Err(Unsupported::at(at, format!("an item of type {other:?} has no counterpart"))),
    };
    r.messages.push(said(role, vec![Block { part, rest: m }]));
    Ok(())
}

fn message(mut m: Fields, at: &str, r: &mut Request, dropped: &mut Dropped) -> Result<(), Unsupported> {
    let role = take_text(&mut m, "role").unwrap_or_default();
    let blocks = content(take(&mut m, "content"), &format!("{at}.content"))?;
    let role = match role.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" | "developer" => {
            if !r.messages.is_empty() {
                // The instructions all stand in front there.
                dropped.note("system_position");
            }
            r.system.extend(blocks);
            dropped.rest(&m);
            return Ok(());
        }
        _ => return Err(Unsupported::at(format!("{at}.role"), "must be user, assistant, system or developer")),
    };
    r.messages.push(Message { role, blocks, rest: m });
    Ok(())
}

fn content(value: Option<Value>, at: &str) -> Result<Vec<Block>, Unsupported> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(Some(text).filter(|t| !t.is_empty()).map(Block::text).into_iter().collect()),
        Some(Value::Array(parts)) => {
            let mut out = Vec::new();
            for (i, part) in parts.into_iter().enumerate() {
                let block = block(part, &format!("{at}[{i}]"))?;
                out.extend(Some(block).filter(|b| !matches!(&b.part, Part::Text(t) if t.is_empty())));
            }
            Ok(out)
        }
        Some(_) => Err(Unsupported::at(at, "must be a string or a list of parts")),
    }
}

fn block(part: Value, at: &str) -> Result<Block, Unsupported> {
    let Value::Object(mut p) = part else { return Err(Unsupported::at(at, "must be an object")) };
    let kind = take_text(&mut p, "type").unwrap_or_default();
    p.retain(|name, value| !(name == "detail" && value == "auto"));
    let elsewhere = || Unsupported::at(at, "a file known to one provider is not known to another; send it in base64");
    let part = match kind.as_str() {
        "input_text" | "output_text" | "text" => Part::Text(take_text(&mut p, "text").unwrap_or_default()),
        "refusal" => Part::Text(take_text(&mut p, "refusal").unwrap_or_default()),
        "input_image" => {
            let url = take_text(&mut p, "image_url").ok_or_else(elsewhere)?;
            Part::Image(media(&url, at)?)
        }
        "input_file" => {
            let data = take_text(&mut p, "file_data");
            let url = data.or_else(|| take_text(&mut p, "file_url")).ok_or_else(elsewhere)?;
            Part::Document(media(&url, at)?, take_text(&mut p, "filename"))
        }
        _ => return Err(Unsupported::at(at, format!("a part of type {kind:?} has no counterpart"))),
    };
    Ok(Block { part, rest: p })
}

fn tool(tool: Value, i: usize) -> Result<Tool, Unsupported> {
    let at = || format!("tools[{i}]");
    let Value::Object(mut t) = tool else { return Err(Unsupported::at(at(), "must be an object")) };
    let kind = take_text(&mut t, "type").unwrap_or_default();
    if kind != "function" {
        return Err(Unsupported::at(at(), format!("the tool {kind:?} runs at OpenAI only; use functions")));
    }
    let name = take_text(&mut t, "name").ok_or_else(|| Unsupported::at(at(), "has no name"))?;
    let description = take_text(&mut t, "description");
    let (schema, strict) = (take(&mut t, "parameters"), take(&mut t, "strict").and_then(|v| v.as_bool()));
    Ok(Tool { name, description, schema, strict, rest: t })
}

/// The choice; one among allowed tools is one among these alone.
fn tool_choice(v: &Value, r: &mut Request) -> Result<(), Unsupported> {
    let mode = |mode: Option<&str>| match mode {
        Some("auto") => Some(ToolChoice::Auto),
        Some("required") => Some(ToolChoice::Any),
        Some("none") => Some(ToolChoice::None),
        _ => None,
    };
    let choice = match (text_in(v, "type"), text_in(v, "name")) {
        (None, _) => mode(v.as_str()),
        (Some("function"), Some(name)) => Some(ToolChoice::Named(name.to_owned())),
        (Some("allowed_tools"), _) => {
            let tools = v.get("tools").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let names: Vec<&str> = tools.iter().filter_map(|t| text_in(t, "name")).collect();
            r.tools.retain(|t| names.contains(&t.name.as_str()));
            mode(text_in(v, "mode"))
        }
        _ => None,
    };
    let wrong = || Unsupported::at("tool_choice", "must be auto, required, none, a function or allowed functions");
    r.tool_choice = Some(choice.ok_or_else(wrong)?);
    Ok(())
}

fn format(v: &Value) -> Result<Option<Format>, Unsupported> {
    match (text_in(v, "type"), v.get("schema")) {
        (Some("text"), _) => Ok(None),
        (Some("json_object"), _) => Ok(Some(Format::Json)),
        (Some("json_schema"), Some(schema)) => {
            Ok(Some(Format::Schema(schema.clone(), text_in(v, "name").map(str::to_owned))))
        }
        (Some("json_schema"), None) => Err(Unsupported::at("text.format.schema", "is missing")),
        _ => Err(Unsupported::at("text.format", "must be text, json_object or json_schema")),
    }
}
