//! A client's Messages request, read into the internal form.

use super::super::chat::{
    Block, Call, Dropped, Fields, Format, Media, Message, Outcome, Part, Reasoning, Request, Role, Tool, ToolChoice,
    Unsupported, take, take_list, take_text, text_in,
};
use serde_json::Value;

/// Fields without which the provider would do something else.
const NEEDED: [&str; 3] = ["container", "mcp_servers", "prefill"];

/// The request. What has no place in the internal form but changes what is asked is refused.
pub fn request(fields: &Fields, dropped: &mut Dropped) -> Result<Request, Unsupported> {
    let mut f = fields.clone();
    let stream = f.get("stream").and_then(Value::as_bool).unwrap_or(false);
    for name in ["model", "stream"] {
        f.shift_remove(name);
    }
    for name in NEEDED {
        if f.get(name).is_some_and(|v| !v.is_null()) {
            return Err(Unsupported::at(name, "has no counterpart at this model's provider"));
        }
    }
    let mut r = Request { stream, system: content(take(&mut f, "system"), "system")?, ..Request::default() };
    for (i, m) in take_list(&mut f, "messages").unwrap_or_default().into_iter().enumerate() {
        r.messages.extend(message(m, i)?);
    }
    for (i, t) in take_list(&mut f, "tools").unwrap_or_default().into_iter().enumerate() {
        r.tools.push(tool(t, i)?);
    }
    if let Some(choice) = take(&mut f, "tool_choice") {
        r.parallel_calls = choice.get("disable_parallel_tool_use").and_then(Value::as_bool).map(|off| !off);
        r.tool_choice = Some(tool_choice(&choice)?);
    }
    r.max_tokens = take(&mut f, "max_tokens").and_then(|v| v.as_u64());
    r.temperature = take(&mut f, "temperature").and_then(|v| v.as_f64());
    r.top_p = take(&mut f, "top_p").and_then(|v| v.as_f64());
    r.top_k = take(&mut f, "top_k").and_then(|v| v.as_u64());
    let stops = take_list(&mut f, "stop_sequences").unwrap_or_default();
    r.stop = stops.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    output(&mut f, &mut r, dropped)?;
    if let Some(Value::Object(mut metadata)) = take(&mut f, "metadata") {
        r.user = take_text(&mut metadata, "user_id");
        dropped.rest(&metadata);
    }
    r.rest = f;
    Ok(r)
}

/// `output_config` and `thinking`: the form of the answer, and how much thought goes before it.
fn output(f: &mut Fields, r: &mut Request, dropped: &mut Dropped) -> Result<(), Unsupported> {
    let thinking = take(f, "thinking");
    if let Some(Value::Object(mut config)) = take(f, "output_config") {
        if let Some(form) = take(&mut config, "format") {
            match (text_in(&form, "type"), form.get("schema")) {
                (Some("json_schema"), Some(schema)) => r.format = Some(Format::Schema(schema.clone(), None)),
                _ => return Err(Unsupported::at("output_config.format", "must be a json_schema with a schema")),
            }
        }
        r.reasoning = take_text(&mut config, "effort").map(Reasoning::Effort);
        dropped.rest(&config);
    }
    let Some(thinking) = thinking else { return Ok(()) };
    let budget = thinking.get("budget_tokens").and_then(Value::as_u64);
    r.reasoning = match (text_in(&thinking, "type"), budget, r.reasoning.take()) {
        (Some("disabled"), _, _) => Some(Reasoning::Off),
        (_, _, Some(effort)) => Some(effort),
        (_, Some(tokens), None) => Some(Reasoning::Budget(tokens)),
        (_, None, None) => Some(Reasoning::Free),
    };
    Ok(())
}

fn message(message: Value, i: usize) -> Result<Vec<Message>, Unsupported> {
    let Value::Object(mut m) = message else { return Ok(Vec::new()) };
    let role = match take_text(&mut m, "role").as_deref() {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => return Err(Unsupported::at(format!("messages[{i}].role"), "must be user, assistant or system")),
    };
    let blocks = content(take(&mut m, "content"), &format!("messages[{i}].content"))?;
    Ok(vec![Message { role, blocks, rest: m }])
}

fn content(value: Option<Value>, at: &str) -> Result<Vec<Block>, Unsupported> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(Some(text).filter(|t| !t.is_empty()).map(Block::text).into_iter().collect()),
        Some(Value::Array(all)) => {
            let mut out = Vec::new();
            for (i, b) in all.into_iter().enumerate() {
                out.push(block(b, &format!("{at}[{i}]"))?);
            }
            Ok(out)
        }
        Some(_) => Err(Unsupported::at(at, "must be a string or a list of blocks")),
    }
}

fn block(block: Value, at: &str) -> Result<Block, Unsupported> {
    let Value::Object(mut b) = block else { return Err(Unsupported::at(at, "must be an object")) };
    let kind = take_text(&mut b, "type").unwrap_or_default();
    let mut word = |name: &str| take_text(&mut b, name).unwrap_or_default();
    let part = match kind.as_str() {
        "text" => Part::Text(word("text")),
        "thinking" => Part::Reasoning(word("thinking"), Some(word("signature")).filter(|s| !s.is_empty())),
        "redacted_thinking" => Part::Redacted(word("data")),
        "tool_use" => {
            let (id, name) = (word("id"), word("name"));
            let arguments = take(&mut b, "input").unwrap_or_else(|| Value::Object(Fields::new())).to_string();
            Part::Call(Call { id, name, arguments })
        }
        "tool_result" => {
            let id = word("tool_use_id");
            let failed = take(&mut b, "is_error").and_then(|v| v.as_bool()).unwrap_or(false);
            let blocks = content(take(&mut b, "content"), &format!("{at}.content"))?;
            Part::Result(Outcome { id, blocks, failed })
        }
        "image" => Part::Image(media(take(&mut b, "source"), at)?),
        "document" => Part::Document(media(take(&mut b, "source"), at)?, take_text(&mut b, "title")),
        _ => return Err(Unsupported::at(at, format!("a block of type {kind:?} has no counterpart"))),
    };
    Ok(Block { part, rest: b })
}

fn media(source: Option<Value>, at: &str) -> Result<Media, Unsupported> {
    let source = source.unwrap_or_default();
    let word = |name: &str| text_in(&source, name).unwrap_or_default().to_owned();
    match text_in(&source, "type") {
        Some("base64") => Ok(Media::Inline(word("media_type"), word("data"))),
        Some("url") => Ok(Media::Url(word("url"))),
        Some("text") => Ok(Media::Plain(word("data"))),
        Some("file") => {
            Err(Unsupported::at(at, "a file known to one provider is not known to another; send it in base64"))
        }
        _ => Err(Unsupported::at(at, "the source's type must be base64, url or text")),
    }
}

fn tool(tool: Value, i: usize) -> Result<Tool, Unsupported> {
    let at = || format!("tools[{i}]");
    let Value::Object(mut t) = tool else { return Err(Unsupported::at(at(), "must be an object")) };
    if let Some(kind) = take_text(&mut t, "type").filter(|k| k != "custom") {
        return Err(Unsupported::at(at(), format!("the tool {kind:?} runs at Anthropic only")));
    }
    let name = take_text(&mut t, "name").ok_or_else(|| Unsupported::at(at(), "has no name"))?;
    let description = take_text(&mut t, "description");
    let (schema, strict) = (take(&mut t, "input_schema"), take(&mut t, "strict").and_then(|v| v.as_bool()));
    Ok(Tool { name, description, schema, strict, rest: t })
}

fn tool_choice(choice: &Value) -> Result<ToolChoice, Unsupported> {
    match (text_in(choice, "type"), text_in(choice, "name")) {
        (Some("auto"), _) => Ok(ToolChoice::Auto),
        (Some("any"), _) => Ok(ToolChoice::Any),
        (Some("none"), _) => Ok(ToolChoice::None),
        (Some("tool"), Some(name)) => Ok(ToolChoice::Named(name.to_owned())),
        _ => Err(Unsupported::at("tool_choice", "must be auto, any, none or a named tool")),
    }
}
