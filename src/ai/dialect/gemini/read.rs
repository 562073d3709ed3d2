//! A client's `generateContent` request, read into the internal form. Members may be written in camelCase, as the SDKs
//! send them, or in snake_case, which Google's own servers take as well.

use super::super::chat::{
    Block, Dropped, Fields, Format, Message, Reasoning, Request, Role, Tool, ToolChoice, Unsupported,
};
use super::content::{Calls, parts};
use super::members::{count, either, either_list, either_object, either_text};
use super::schema;
use crate::ai::json::members;
use crate::ai::prompt::Operation;
use serde_json::Value;
use std::ops::Range;

/// Members without which the provider would do something else, with what they ask for.
const NEEDED: [(&str, &str); 2] =
    [("cachedContent", "context kept at Google"), ("continuationToken", "an answer kept at Google")];
/// Members that say how the answer is delivered, for which the gateway itself answers.
const DELIVERY: [&str; 3] = ["model", "stream", "automaticContinuation"];

/// The request. What has no place in the internal form but changes what is asked is refused.
pub fn request(fields: &Fields, dropped: &mut Dropped) -> Result<Request, Unsupported> {
    let mut f = fields.clone();
    let stream = f.get("stream").and_then(Value::as_bool).unwrap_or(false);
    for name in DELIVERY {
        either(&mut f, name);
    }
    for (name, what) in NEEDED {
        if either(&mut f, name).is_some() {
            return Err(Unsupported::at(name, format!("names {what}, which this model's provider does not know")));
        }
    }
    let mut r = Request { stream, ..Request::default() };
    let mut calls = Calls::default();
    if let Some(system) = either(&mut f, "systemInstruction") {
        r.system = instruction(system, &mut calls, dropped)?;
    }
    for (i, content) in either_list(&mut f, "contents").into_iter().enumerate() {
        r.messages.push(message(content, i, &mut calls, dropped)?);
    }
    for (i, t) in either_list(&mut f, "tools").into_iter().enumerate() {
        tools(t, i, &mut r.tools, dropped)?;
    }
    if let Some(config) = either_object(&mut f, "toolConfig") {
        tool_config(config, &mut r, dropped)?;
    }
    if let Some(config) = either_object(&mut f, "generationConfig") {
        generation(config, &mut r, dropped)?;
    }
    r.rest = f;
    Ok(r)
}

/// Instructions: a content, or its text alone.
fn instruction(system: Value, calls: &mut Calls, dropped: &mut Dropped) -> Result<Vec<Block>, Unsupported> {
    match system {
        Value::String(text) => Ok(Some(text).filter(|t| !t.is_empty()).map(Block::text).into_iter().collect()),
        Value::Object(mut content) => {
            let list = either_list(&mut content, "parts");
            parts(list, "systemInstruction", calls, dropped)
        }
        _ => Err(Unsupported::at("systemInstruction", "must be a content")),
    }
}

fn message(content: Value, i: usize, calls: &mut Calls, dropped: &mut Dropped) -> Result<Message, Unsupported> {
    let at = format!("contents[{i}]");
    let Value::Object(mut content) = content else { return Err(Unsupported::at(at, "must be an object")) };
    let role = match either_text(&mut content, "role").as_deref() {
        // A single content without a role is the user's.
        None | Some("" | "user" | "function" | "tool") => Role::User,
        Some("model") => Role::Assistant,
        Some(_) => return Err(Unsupported::at(format!("{at}.role"), "must be user or model")),
    };
    let blocks = parts(either_list(&mut content, "parts"), &at, calls, dropped)?;
    Ok(Message { role, blocks, rest: content })
}

/// The functions of one entry of `tools`; Google's own tools run at Google only.
fn tools(tool: Value, i: usize, out: &mut Vec<Tool>, dropped: &mut Dropped) -> Result<(), Unsupported> {
    let at = format!("tools[{i}]");
    let Value::Object(mut tool) = tool else { return Err(Unsupported::at(at, "must be an object")) };
    let functions = either_list(&mut tool, "functionDeclarations");
    if let Some((name, _)) = tool.iter().find(|(_, v)| !v.is_null()) {
        return Err(Unsupported::at(format!("{at}.{name}"), "is a tool that runs at Google only"));
    }
    for (k, function) in functions.into_iter().enumerate() {
        let at = format!("{at}.functionDeclarations[{k}]");
        let Value::Object(mut f) = function else { return Err(Unsupported::at(at, "must be an object")) };
        let name = either_text(&mut f, "name").ok_or_else(|| Unsupported::at(&at, "has no name"))?;
        let description = either_text(&mut f, "description");
        let parameters = either(&mut f, "parameters").map(|s| schema::json_schema(&s));
        let schema = either(&mut f, "parametersJsonSchema").or(parameters);
        // What the function returns is told to no model elsewhere.
        for name in ["response", "responseJsonSchema"] {
            if either(&mut f, name).is_some() {
                dropped.note(name);
            }
        }
        out.push(Tool { name, description, schema, strict: None, rest: f });
    }
    Ok(())
}

fn tool_config(mut config: Fields, r: &mut Request, dropped: &mut Dropped) -> Result<(), Unsupported> {
    let calling = either_object(&mut config, "functionCallingConfig");
    dropped.rest(&config);
    let Some(mut calling) = calling else { return Ok(()) };
    let mode = either_text(&mut calling, "mode").unwrap_or_default();
    let names = either_list(&mut calling, "allowedFunctionNames");
    let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
    dropped.rest(&calling);
    let choice = match (mode.to_ascii_uppercase().as_str(), names.as_slice()) {
        ("" | "MODE_UNSPECIFIED", _) => return Ok(()),
        ("AUTO", _) => ToolChoice::Auto,
        ("NONE", _) => ToolChoice::None,
        ("ANY", [one]) => ToolChoice::Named((*one).to_owned()),
        ("ANY", _) => ToolChoice::Any,
        ("VALIDATED", _) => {
            dropped.note("functionCallingConfig.mode");
            ToolChoice::Auto
        }
        _ => return Err(Unsupported::at("toolConfig.functionCallingConfig.mode", "must be AUTO, ANY or NONE")),
    };
    // A choice among some of the tools is a choice among all when only those are offered.
    if !names.is_empty() && matches!(choice, ToolChoice::Any | ToolChoice::Named(_)) {
        r.tools.retain(|t| names.contains(&t.name.as_str()));
    }
    r.tool_choice = Some(choice);
    Ok(())
}

fn generation(mut c: Fields, r: &mut Request, dropped: &mut Dropped) -> Result<(), Unsupported> {
    r.max_tokens = either(&mut c, "maxOutputTokens").as_ref().and_then(count);
    r.temperature = either(&mut c, "temperature").and_then(|v| v.as_f64());
    r.top_p = either(&mut c, "topP").and_then(|v| v.as_f64());
    r.top_k = either(&mut c, "topK").as_ref().and_then(count);
    let stops = either_list(&mut c, "stopSequences");
    r.stop = stops.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    r.reasoning = either_object(&mut c, "thinkingConfig").and_then(|t| thinking(t, dropped));
    r.format = format(&mut c)?;
    let modalities = either_list(&mut c, "responseModalities");
    if modalities.iter().filter_map(Value::as_str).any(|m| !m.eq_ignore_ascii_case("text")) {
        return Err(Unsupported::at(
            "generationConfig.responseModalities",
            "text is all that this model's provider answers with",
        ));
    }
    // What these say, their absence says, too.
    let idle = [("candidateCount", 1.0), ("presencePenalty", 0.0), ("frequencyPenalty", 0.0)];
    for (name, value) in idle {
        let told = either(&mut c, name);
        if told.as_ref().and_then(Value::as_f64).is_some_and(|v| (v - value).abs() > f64::EPSILON) {
            dropped.note(name);
        }
    }
    c.retain(|_, v| *v != Value::Bool(false));
    dropped.rest(&c);
    Ok(())
}

/// The form of the answer: its media type with a schema in one of two spellings.
fn format(c: &mut Fields) -> Result<Option<Format>, Unsupported> {
    let kind = either_text(c, "responseMimeType").unwrap_or_default();
    let own = either(c, "responseSchema").map(|s| schema::json_schema(&s));
    let schema = either(c, "responseJsonSchema").or(own);
    match (kind.as_str(), schema) {
        ("application/json", Some(schema)) => Ok(Some(Format::Schema(schema, None))),
        ("application/json", None) => Ok(Some(Format::Json)),
        ("" | "text/plain", None) => Ok(None),
        // Google itself refuses a schema for plain text.
        ("" | "text/plain", Some(_)) => {
            Err(Unsupported::at("generationConfig.responseSchema", "needs the responseMimeType application/json"))
        }
        _ => Err(Unsupported::at("generationConfig.responseMimeType", "must be text/plain or application/json")),
    }
}

/// A level, or a budget of which 0 is none and -1 as much as the model finds right.
fn thinking(mut t: Fields, dropped: &mut Dropped) -> Option<Reasoning> {
    let level = either_text(&mut t, "thinkingLevel").map(|l| l.to_ascii_lowercase());
    let budget = either(&mut t, "thinkingBudget").and_then(|v| v.as_i64());
    // Thoughts come along wherever a provider shows them.
    either(&mut t, "includeThoughts");
    dropped.rest(&t);
    match (level.as_deref(), budget) {
        (None | Some("" | "thinking_level_unspecified"), None) => None,
        (None | Some("" | "thinking_level_unspecified"), Some(0)) => Some(Reasoning::Off),
        (None | Some("" | "thinking_level_unspecified"), Some(tokens)) => {
            Some(u64::try_from(tokens).map_or(Reasoning::Free, Reasoning::Budget))
        }
        (Some(level), _) => Some(Reasoning::Effort(level.to_owned())),
    }
}

/// The members of a request with what its path says. A request for a count may wrap the one that is to be counted.
pub fn with_path(mut fields: Fields, operation: Operation, model: String) -> Fields {
    if operation == Operation::CountContents
        && let Some(counted) = either_object(&mut fields, "generateContentRequest")
    {
        fields = counted;
    }
    fields.insert("model".to_owned(), model.into());
    fields.insert("stream".to_owned(), (operation == Operation::StreamGenerate).into());
    fields
}

/// Where a request for a count names the model of the request that it wraps.
pub fn counted_model(body: &str) -> Option<Range<usize>> {
    // Most bodies need no second look.
    if !body.contains("generateContentRequest") && !body.contains("generate_content_request") {
        return None;
    }
    let outer = members(body).ok()?;
    let wrapper = |key: &str| matches!(key, "generateContentRequest" | "generate_content_request");
    let (_, place) = outer.into_iter().find(|(key, _)| wrapper(key))?;
    let inner = members(body.get(place.clone())?).ok()?;
    let (_, span) = inner.into_iter().find(|(key, _)| key == "model")?;
    Some(place.start + span.start..place.start + span.end)
}
