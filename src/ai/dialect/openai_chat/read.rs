//! A client's chat completions request, read into the internal form.

use super::super::chat::{
    Block, Call, Dropped, Fields, Format, Media, Message, Outcome, Part, Reasoning, Request, Role, Tool, ToolChoice,
    Unsupported, take, take_list, take_text,
};
use serde_json::Value;

/// Fields about delivery, which the gateway itself answers for.
const DELIVERY: [&str; 3] = ["model", "stream", "stream_options"];
/// Fields with a value that says what their absence says, too.
const IDLE: [(&str, &str); 7] = [
    ("n", "1"),
    ("logprobs", "false"),
    ("store", "false"),
    ("presence_penalty", "0"),
    ("frequency_penalty", "0"),
    ("modalities", "[\"text\"]"),
    ("service_tier", "\"auto\""),
];

/// The request. What has no place in the internal form but changes what is asked is refused.
pub fn request(fields: &Fields, dropped: &mut Dropped) -> Result<Request, Unsupported> {
    let mut f = fields.clone();
    let stream = f.get("stream").and_then(Value::as_bool).unwrap_or(false);
    for name in DELIVERY {
        f.shift_remove(name);
    }
    f.retain(|name, value| !IDLE.iter().any(|(n, v)| n == name && *v == value.to_string().replace(".0", "")));
    for name in ["functions", "function_call"] {
        if take(&mut f, name).is_some() {
            return Err(Unsupported::at(name, "is not translated for this model's provider; use tools"));
        }
    }
    for name in ["audio", "modalities", "web_search_options"] {
        if f.get(name).is_some_and(|v| !v.is_null()) {
            return Err(Unsupported::at(name, "has no counterpart at this model's provider"));
        }
    }
    let mut r = Request { stream, ..Request::default() };
    messages(take_list(&mut f, "messages").unwrap_or_default(), &mut r, dropped)?;
    for (i, t) in take_list(&mut f, "tools").unwrap_or_default().into_iter().enumerate() {
        r.tools.push(tool(t, i)?);
    }
    r.tool_choice = take(&mut f, "tool_choice").map(|v| tool_choice(&v)).transpose()?;
    r.parallel_calls = take(&mut f, "parallel_tool_calls").and_then(|v| v.as_bool());
    let old = take(&mut f, "max_tokens");
    r.max_tokens = take(&mut f, "max_completion_tokens").or(old).and_then(|v| v.as_u64());
    r.temperature = take(&mut f, "temperature").and_then(|v| v.as_f64());
    r.top_p = take(&mut f, "top_p").and_then(|v| v.as_f64());
    r.top_k = take(&mut f, "top_k").and_then(|v| v.as_u64());
    r.stop = match take(&mut f, "stop") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    r.format = take(&mut f, "response_format").map(format).transpose()?.flatten();
    r.reasoning = take_text(&mut f, "reasoning_effort").map(|e| match e.as_str() {
        "none" => Reasoning::Off,
        _ => Reasoning::Effort(e),
    });
    let old = take_text(&mut f, "user");
    r.user = take_text(&mut f, "safety_identifier").or(old);
    r.rest = f;
    Ok(r)
}

fn messages(all: Vec<Value>, r: &mut Request, dropped: &mut Dropped) -> Result<(), Unsupported> {
    for (i, message) in all.into_iter().enumerate() {
        let Value::Object(mut m) = message else { continue };
        let role = take_text(&mut m, "role").unwrap_or_default();
        let at = format!("messages[{i}].content");
        let blocks = content(take(&mut m, "content"), &at)?;
        match role.as_str() {
            "system" | "developer" => {
                if !r.messages.is_empty() {
                    // The instructions all stand in front there.
                    dropped.note("system_position");
                }
                r.system.extend(blocks);
                dropped.rest(&m);
            }
            "tool" => {
                let id = take_text(&mut m, "tool_call_id")
                    .ok_or_else(|| Unsupported::at(format!("messages[{i}].tool_call_id"), "must be a string"))?;
                let part = Part::Result(Outcome { id, blocks, failed: false });
                r.messages.push(Message { role: Role::User, blocks: vec![Block::new(part)], rest: m });
            }
            "assistant" => r.messages.push(assistant(m, blocks, i)?),
            "user" => r.messages.push(Message { role: Role::User, blocks, rest: m }),
            _ => return Err(Unsupported::at(format!("messages[{i}].role"), format!("{role:?} has no counterpart"))),
        }
    }
    Ok(())
}

/// Thinking first, then text, then calls: the order in which they came.
fn assistant(mut m: Fields, text: Vec<Block>, i: usize) -> Result<Message, Unsupported> {
    let mut blocks = Vec::new();
    for block in take_list(&mut m, "thinking_blocks").unwrap_or_default() {
        let Value::Object(mut b) = block else { continue };
        match (take_text(&mut b, "thinking"), take_text(&mut b, "data")) {
            (Some(thinking), _) => {
                blocks.push(Block::new(Part::Reasoning(thinking, take_text(&mut b, "signature"))));
            }
            (None, Some(data)) => blocks.push(Block::new(Part::Redacted(data))),
            (None, None) => {}
        }
    }
    // The same thinking without its signatures.
    if !blocks.is_empty() {
        m.shift_remove("reasoning_content");
    }
    blocks.extend(text);
    if let Some(refusal) = take_text(&mut m, "refusal") {
        blocks.push(Block::text(refusal));
    }
    for (k, call) in take_list(&mut m, "tool_calls").unwrap_or_default().into_iter().enumerate() {
        let at = format!("messages[{i}].tool_calls[{k}]");
        let word = |place: &str| call.pointer(place).and_then(Value::as_str).map(str::to_owned);
        let (Some(id), Some(name)) = (word("/id"), word("/function/name")) else {
            return Err(Unsupported::at(at, "must be a function call with an id and a name"));
        };
        let arguments = word("/function/arguments").unwrap_or_default();
        blocks.push(Block::new(Part::Call(Call { id, name, arguments })));
    }
    Ok(Message { role: Role::Assistant, blocks, rest: m })
}

fn content(value: Option<Value>, at: &str) -> Result<Vec<Block>, Unsupported> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(Some(text).filter(|t| !t.is_empty()).map(Block::text).into_iter().collect()),
        Some(Value::Array(parts)) => {
            let parts = parts.into_iter().enumerate();
            parts
                .map(|(i, p)| block(p, &format!("{at}[{i}]")))
                .collect::<Result<Vec<_>, _>>()
                .map(|all| all.into_iter().filter(|b| !matches!(&b.part, Part::Text(t) if t.is_empty())).collect())
        }
        Some(_) => Err(Unsupported::at(at, "must be a string or a list of parts")),
    }
}

fn block(part: Value, at: &str) -> Result<Block, Unsupported> {
    let Value::Object(mut p) = part else { return Err(Unsupported::at(at, "must be an object")) };
    let kind = take_text(&mut p, "type").unwrap_or_default();
    let part = match kind.as_str() {
        "text" => Part::Text(take_text(&mut p, "text").unwrap_or_default()),
        "refusal" => Part::Text(take_text(&mut p, "refusal").unwrap_or_default()),
        "image_url" => {
            let Some(Value::Object(mut image)) = take(&mut p, "image_url") else {
                return Err(Unsupported::at(at, "must have an image_url object"));
            };
            let url = take_text(&mut image, "url").unwrap_or_default();
            image.retain(|name, value| !(name == "detail" && value == "auto"));
            p.extend(image);
            Part::Image(media(&url, at)?)
        }
        "file" => {
            let Some(Value::Object(mut file)) = take(&mut p, "file") else {
                return Err(Unsupported::at(at, "must have a file object"));
            };
            let Some(data) = take_text(&mut file, "file_data") else {
                return Err(Unsupported::at(
                    at,
                    "a file known to one provider is not known to another; send file_data",
                ));
            };
            Part::Document(media(&data, at)?, take_text(&mut file, "filename"))
        }
        _ => return Err(Unsupported::at(at, format!("a part of type {kind:?} has no counterpart"))),
    };
    Ok(Block { part, rest: p })
}

/// `data:image/png;base64,…` or an address.
pub fn media(url: &str, at: &str) -> Result<Media, Unsupported> {
    let Some(inline) = url.strip_prefix("data:") else { return Ok(Media::Url(url.to_owned())) };
    match inline.split_once(";base64,") {
        Some((kind, data)) => {
            let kind = kind.split(';').next().unwrap_or_default();
            Ok(Media::Inline(kind.to_owned(), data.to_owned()))
        }
        None => Err(Unsupported::at(at, "a data: URL must be in base64")),
    }
}

fn tool(tool: Value, i: usize) -> Result<Tool, Unsupported> {
    let wrong = || Unsupported::at(format!("tools[{i}]"), "only tools of type \"function\" are translated");
    let Value::Object(mut outer) = tool else { return Err(wrong()) };
    let kind = take_text(&mut outer, "type");
    let (Some("function"), Some(Value::Object(mut f))) = (kind.as_deref(), take(&mut outer, "function")) else {
        return Err(wrong());
    };
    let name = take_text(&mut f, "name").ok_or_else(wrong)?;
    let description = take_text(&mut f, "description");
    let (schema, strict) = (take(&mut f, "parameters"), take(&mut f, "strict").and_then(|v| v.as_bool()));
    f.extend(outer);
    Ok(Tool { name, description, schema, strict, rest: f })
}

fn tool_choice(v: &Value) -> Result<ToolChoice, Unsupported> {
    match (v.as_str(), v.pointer("/function/name").and_then(Value::as_str)) {
        (Some("auto"), _) => Ok(ToolChoice::Auto),
        (Some("required"), _) => Ok(ToolChoice::Any),
        (Some("none"), _) => Ok(ToolChoice::None),
        (None, Some(name)) => Ok(ToolChoice::Named(name.to_owned())),
        _ => Err(Unsupported::at("tool_choice", "must be auto, required, none or a function")),
    }
}

fn format(v: Value) -> Result<Option<Format>, Unsupported> {
    match v.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Format::Json)),
        Some("json_schema") => {
            let name = v.pointer("/json_schema/name").and_then(Value::as_str).map(str::to_owned);
            match v.pointer("/json_schema/schema") {
                Some(schema) => Ok(Some(Format::Schema(schema.clone(), name))),
                None => Err(Unsupported::at("response_format.json_schema.schema", "is missing")),
            }
        }
        _ => Err(Unsupported::at("response_format", "must be text, json_object or json_schema")),
    }
}
