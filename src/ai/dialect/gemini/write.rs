//! A request of the internal form, written for Gemini.

use super::super::chat::{
    Block, Dropped, Fields, Format, Media, Message, Outcome, Part, Reasoning, Request, Role, Tool, ToolChoice,
    Unsupported, object,
};
use super::SIGNED;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Gemini takes no more stop texts.
const STOPS_MAX: usize = 5;

/// Names of the calls by id: a result must name its tool here.
type Names = BTreeMap<String, String>;

/// The request's body; the model stands in the path.
pub fn request(r: &Request, dropped: &mut Dropped) -> Result<Value, Unsupported> {
    let mut out = Fields::new();
    let turns = r.turns();
    let (mut system, mut contents, mut names) = (texts(&r.system, dropped), Vec::new(), Names::new());
    for m in &turns {
        dropped.rest(&m.rest);
        if m.role == Role::System {
            dropped.note("system_position");
            system.extend(texts(&m.blocks, dropped));
            continue;
        }
        let parts = parts(m, &mut names, dropped)?;
        let role = if m.role == Role::User { "user" } else { "model" };
        if !parts.is_empty() {
            contents.push(json!({ "role": role, "parts": parts }));
        }
    }
    if !system.is_empty() {
        out.insert("systemInstruction".to_owned(), json!({ "parts": system }));
    }
    out.insert("contents".to_owned(), contents.into());
    if !r.tools.is_empty() {
        let tools: Vec<Value> = r.tools.iter().map(|t| tool(t, dropped)).collect();
        out.insert("tools".to_owned(), json!([{ "functionDeclarations": tools }]));
        out.extend(r.tool_choice.as_ref().map(|c| ("toolConfig".to_owned(), tool_config(c))));
        if r.parallel_calls == Some(false) {
            dropped.note("parallel_tool_calls");
        }
    }
    let generation = generation(r, dropped);
    if !generation.is_empty() {
        out.insert("generationConfig".to_owned(), Value::Object(generation));
    }
    if r.user.is_some() {
        dropped.note("user");
    }
    dropped.rest(&r.rest);
    Ok(Value::Object(out))
}

fn texts(blocks: &[Block], dropped: &mut Dropped) -> Vec<Value> {
    let mut out = Vec::new();
    for b in blocks {
        dropped.rest(&b.rest);
        if let Part::Text(text) = &b.part {
            out.push(json!({ "text": text }));
        }
    }
    out
}

fn parts(m: &Message, names: &mut Names, dropped: &mut Dropped) -> Result<Vec<Value>, Unsupported> {
    let (mut out, mut signature) = (Vec::new(), None);
    for (i, b) in m.blocks.iter().enumerate() {
        dropped.rest(&b.rest);
        let mut part = match &b.part {
            Part::Reasoning(_, signed) => {
                // The words of a thought are not taken back, only Gemini's own signature of what follows.
                match signed.as_deref().and_then(|s| s.strip_prefix(SIGNED)) {
                    Some(s) => signature = Some(s.to_owned()),
                    None => dropped.note("thinking"),
                }
                continue;
            }
            Part::Redacted(_) => {
                dropped.note("thinking");
                continue;
            }
            Part::Text(text) => object([("text", text.clone().into())]),
            Part::Image(media) | Part::Document(media, _) => inline(media)?,
            Part::Call(c) => {
                names.insert(c.id.clone(), c.name.clone());
                let args = if c.arguments.trim().is_empty() { "{}" } else { c.arguments.as_str() };
                let args = serde_json::from_str::<Value>(args).ok().filter(Value::is_object);
                let args = args.ok_or_else(|| {
                    Unsupported::at("messages", format!("the arguments of the call {:?} are not a JSON object", c.id))
                })?;
                object([("functionCall", json!({ "id": c.id, "name": c.name, "args": args }))])
            }
            Part::Result(o) => {
                result(o, names, &mut out, dropped)?;
                continue;
            }
        };
        // Clients of OpenAI's dialect keep thoughts before the text: the signature of a call must pass over it.
        let for_a_call = matches!(b.part, Part::Text(_))
            && m.blocks.iter().skip(i + 1).any(|later| matches!(later.part, Part::Call(_)));
        if for_a_call {
            out.push(Value::Object(part));
            continue;
        }
        part.extend(signature.take().map(|s| ("thoughtSignature".to_owned(), s.into())));
        out.push(Value::Object(part));
    }
    Ok(out)
}

/// What a tool returned, then the images among it.
fn result(o: &Outcome, names: &Names, out: &mut Vec<Value>, dropped: &mut Dropped) -> Result<(), Unsupported> {
    let name = names
        .get(&o.id)
        .ok_or_else(|| Unsupported::at("messages", format!("there is no call {:?} before its result", o.id)))?;
    let (mut said, mut media) = (Vec::new(), Vec::new());
    for b in &o.blocks {
        dropped.rest(&b.rest);
        match &b.part {
            Part::Text(text) => said.push(text.as_str()),
            Part::Image(m) | Part::Document(m, _) => media.push(Value::Object(inline(m)?)),
            _ => return Err(Unsupported::at("messages", "a block out of place in a tool's result")),
        }
    }
    let key = if o.failed { "error" } else { "result" };
    let response = json!({ key: said.join("\n") });
    out.push(json!({ "functionResponse": { "id": o.id, "name": name, "response": response } }));
    out.extend(media);
    Ok(())
}

fn inline(media: &Media) -> Result<Fields, Unsupported> {
    match media {
        Media::Inline(kind, data) => Ok(object([("inlineData", json!({ "mimeType": kind, "data": data }))])),
        Media::Plain(text) => Ok(object([("text", text.clone().into())])),
        Media::Url(_) => Err(Unsupported::at("messages", "a picture by URL has no counterpart; send it in base64")),
    }
}

fn tool(t: &Tool, dropped: &mut Dropped) -> Value {
    dropped.rest(&t.rest);
    if t.strict == Some(true) {
        dropped.note("strict");
    }
    let mut out = object([("name", t.name.clone().into())]);
    out.extend(t.description.clone().map(|d| ("description".to_owned(), d.into())));
    out.extend(t.schema.clone().map(|s| ("parametersJsonSchema".to_owned(), s)));
    Value::Object(out)
}

fn tool_config(choice: &ToolChoice) -> Value {
    let config = match choice {
        ToolChoice::Auto => json!({ "mode": "AUTO" }),
        ToolChoice::Any => json!({ "mode": "ANY" }),
        ToolChoice::None => json!({ "mode": "NONE" }),
        ToolChoice::Named(name) => json!({ "mode": "ANY", "allowedFunctionNames": [name] }),
    };
    json!({ "functionCallingConfig": config })
}

fn generation(r: &Request, dropped: &mut Dropped) -> Fields {
    let mut out = Fields::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
    };
    set("maxOutputTokens", r.max_tokens.map(Value::from));
    set("temperature", r.temperature.map(Value::from));
    set("topP", r.top_p.map(Value::from));
    set("topK", r.top_k.map(Value::from));
    if r.stop.len() > STOPS_MAX {
        dropped.note("stop");
    }
    let stops: Vec<&String> = r.stop.iter().take(STOPS_MAX).collect();
    set("stopSequences", (!stops.is_empty()).then(|| json!(stops)));
    if let Some(format) = &r.format {
        set("responseMimeType", Some("application/json".into()));
        if let Format::Schema(schema, _) = format {
            set("responseJsonSchema", Some(schema.clone()));
        }
    }
    set("thinkingConfig", r.reasoning.as_ref().map(thinking));
    out
}

/// Efforts as Google's own OpenAI endpoint counts them.
fn thinking(how: &Reasoning) -> Value {
    let budget = match how {
        Reasoning::Off => return json!({ "thinkingBudget": 0 }),
        Reasoning::Free => -1,
        Reasoning::Budget(tokens) => i64::try_from(*tokens).unwrap_or(i64::MAX),
        Reasoning::Effort(e) => match e.as_str() {
            "minimal" | "low" => 1024,
            "medium" => 8192,
            _ => 24_576,
        },
    };
    json!({ "thinkingBudget": budget, "includeThoughts": true })
}
