//! The scripted provider of Anthropic's Messages.

use super::asked::{Asked, Members, Piece, Read, Turn};
use super::script::{Answer, Play, USAGE, pieces};
use super::server::{Server, key};
use crate::harness::origin::Seen;
use serde_json::{Value, json};

/// Anthropic's Messages.
pub struct Anthropic;

impl Server for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn read(&self, seen: &Seen) -> Read<Asked> {
        let path = seen.target.split('?').next().unwrap_or("");
        if path != "/v1/messages" {
            return Err(format!("no such endpoint: {}", seen.target));
        }
        key(seen, "x-api-key", "sk-anthropic")?;
        // The gateway's own, or that of the SDKs, whose word counts where they speak to their own provider.
        if !["2023-06-01", "2026-10-21"].contains(&seen.header("anthropic-version")) {
            return Err(format!("anthropic-version: {:?} is not a valid version", seen.header("anthropic-version")));
        }
        request(&serde_json::from_slice(&seen.body).map_err(|e| e.to_string())?)
    }

    fn whole(&self, answer: &Answer) -> Value {
        let mut content = vec![json!({ "type": "text", "text": answer.text, "citations": null })];
        for (i, (name, args)) in answer.calls.iter().enumerate() {
            let input: Value = serde_json::from_str(args).unwrap();
            content.push(json!({ "type": "tool_use", "id": id(i), "name": name, "input": input }));
        }
        json!({
            "id": "msg_7", "type": "message", "role": "assistant", "model": "up-anthropic", "content": content,
            "stop_reason": stop(answer), "stop_sequence": null, "usage": usage(USAGE.2),
        })
    }

    fn events(&self, answer: &Answer, _: &Asked) -> Vec<Vec<u8>> {
        let mut out = vec![event(&json!({ "type": "message_start", "message": {
            "id": "msg_7", "type": "message", "role": "assistant", "model": "up-anthropic", "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": usage(1),
        } }))];
        let start = |i: usize, block: Value| {
            event(&json!({ "type": "content_block_start", "index": i, "content_block": block }))
        };
        let delta =
            |i: usize, delta: Value| event(&json!({ "type": "content_block_delta", "index": i, "delta": delta }));
        let end = |i: usize| event(&json!({ "type": "content_block_stop", "index": i }));
        out.push(start(0, json!({ "type": "text", "text": "" })));
        out.push(event(&json!({ "type": "ping" })));
        out.extend(answer.streamed().iter().map(|t| delta(0, json!({ "type": "text_delta", "text": t }))));
        if answer.play != Play::Whole {
            return out;
        }
        out.push(end(0));
        for (i, (name, args)) in answer.calls.iter().enumerate() {
            out.push(start(i + 1, json!({ "type": "tool_use", "id": id(i), "name": name, "input": {} })));
            for piece in pieces(args, 5) {
                out.push(delta(i + 1, json!({ "type": "input_json_delta", "partial_json": piece })));
            }
            out.push(end(i + 1));
        }
        out.push(event(&json!({
            "type": "message_delta", "delta": { "stop_reason": stop(answer), "stop_sequence": null },
            "usage": usage(USAGE.2),
        })));
        out.push(event(&json!({ "type": "message_stop" })));
        out
    }

    fn broken(&self, message: &str) -> Vec<u8> {
        event(&self.error(529, message))
    }

    fn error(&self, status: u16, message: &str) -> Value {
        let kind = match status {
            400 => "invalid_request_error",
            401 => "authentication_error",
            429 => "rate_limit_error",
            529 => "overloaded_error",
            _ => "api_error",
        };
        json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": "req_7" })
    }

    fn overload(&self) -> u16 {
        529
    }
}

fn id(i: usize) -> String {
    format!("toolu_{i}Anthropic")
}

fn stop(answer: &Answer) -> &'static str {
    if answer.calls.is_empty() { "end_turn" } else { "tool_use" }
}

fn usage(output: u64) -> Value {
    json!({
        "input_tokens": USAGE.0 - USAGE.1, "cache_read_input_tokens": USAGE.1, "cache_creation_input_tokens": 0,
        "output_tokens": output,
    })
}

fn event(data: &Value) -> Vec<u8> {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap()).into_bytes()
}

fn request(body: &Value) -> Read<Asked> {
    let m = Members::of(body, "request")?;
    let mut asked = Asked { stream: m.flag("stream")?.unwrap_or(false), ..Asked::default() };
    asked.model = m.text("model")?.to_owned();
    asked.max_tokens = m.count("max_tokens")?;
    asked.max_tokens.ok_or("max_tokens: Field required")?;
    match m.get("system") {
        None => {}
        Some(Value::String(text)) => asked.system.clone_from(text),
        Some(blocks) => {
            for block in blocks.as_array().ok_or("system: must be a string or blocks")? {
                asked.system += &text_of(block, "system")?;
            }
        }
    }
    for (i, message) in m.list("messages")?.iter().enumerate() {
        asked.turns.push(turn(message, &format!("messages.{i}"))?);
    }
    for tool in m.some_list("tools")? {
        let t = Members::of(tool, "tools")?;
        asked.tools.push((
            t.text("name")?.to_owned(),
            t.text("description")?.to_owned(),
            t.need("input_schema")?.clone(),
        ));
        t.end()?;
    }
    if let Some(choice) = m.some("tool_choice")? {
        let kind = choice.text("type")?;
        if asked.tools.is_empty() || !["auto", "any"].contains(&kind) {
            return Err(format!("tool_choice {kind:?} with {} tools", asked.tools.len()));
        }
        asked.must_call = Some(kind == "any");
        choice.flag("disable_parallel_tool_use")?;
        choice.end()?;
    }
    asked.temperature = m.number("temperature", 1.0)?;
    asked.stop = m.texts("stop_sequences")?;
    if let Some(config) = m.some("output_config")? {
        let format = config.inner("format")?;
        format.is("type", "json_schema")?;
        asked.schema = Some(format.need("schema")?.clone());
        format.end()?;
        config.end()?;
    }
    m.end()?;
    Ok(asked)
}

fn text_of(block: &Value, at: &str) -> Read<String> {
    let b = Members::of(block, at)?;
    b.is("type", "text")?;
    let text = b.text("text")?.to_owned();
    if text.trim().is_empty() {
        return Err(format!("{at}: text content blocks must contain non-whitespace text"));
    }
    if b.get("citations").is_some_and(|c| !c.is_null()) {
        return Err(format!("{at}: nobody cited anything"));
    }
    b.end()?;
    Ok(text)
}

fn turn(message: &Value, at: &str) -> Read<Turn> {
    let m = Members::of(message, at)?;
    let user = match m.text("role")? {
        "user" => true,
        "assistant" => false,
        role => return Err(format!("{at}: role {role:?}")),
    };
    let content = m.need("content")?;
    let pieces = match content.as_str() {
        Some(text) => vec![Piece::Text(text.to_owned())],
        None => {
            let blocks = content.as_array().ok_or_else(|| format!("{at}.content: must be a string or blocks"))?;
            blocks.iter().map(|b| piece(b, at)).collect::<Read<Vec<_>>>()?
        }
    };
    m.end()?;
    let first_other = pieces.iter().position(|p| !matches!(p, Piece::Outcome(..))).unwrap_or(pieces.len());
    if pieces.iter().skip(first_other).any(|p| matches!(p, Piece::Outcome(..))) {
        return Err(format!("{at}: tool_result blocks must stand first"));
    }
    Ok(Turn { user, pieces })
}

fn piece(block: &Value, at: &str) -> Read<Piece> {
    let b = Members::of(block, at)?;
    let named = |id: &str| match id.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) {
        true if !id.is_empty() => Ok(id.to_owned()),
        _ => Err(format!("{at}: id {id:?} should match pattern '^[a-zA-Z0-9_-]+$'")),
    };
    let piece = match b.text("type")? {
        "text" => return text_of(block, at).map(Piece::Text),
        "image" => {
            let source = b.inner("source")?;
            source.is("type", "base64")?;
            let image = Piece::Image(source.text("media_type")?.to_owned(), source.text("data")?.to_owned());
            source.end()?;
            image
        }
        "tool_use" => {
            let input = b.need("input")?.clone();
            if !input.is_object() {
                return Err(format!("{at}: input must be an object"));
            }
            Piece::Call(named(b.text("id")?)?, b.text("name")?.to_owned(), input)
        }
        "tool_result" => {
            let text = match b.need("content")? {
                Value::String(text) => text.clone(),
                blocks => {
                    let blocks = blocks.as_array().ok_or_else(|| format!("{at}: content"))?;
                    blocks.iter().map(|b| text_of(b, at)).collect::<Read<String>>()?
                }
            };
            b.flag("is_error")?;
            Piece::Outcome(named(b.text("tool_use_id")?)?, text)
        }
        kind => return Err(format!("{at}: block of type {kind:?}")),
    };
    b.end()?;
    Ok(piece)
}
