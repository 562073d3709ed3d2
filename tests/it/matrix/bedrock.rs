//! The scripted provider of Bedrock Converse: it checks signatures itself and streams binary events.

use super::asked::{Asked, Members, Piece, Read, Turn};
use super::script::{Answer, Play, USAGE, pieces};
use super::server::Server;
use super::sigv4;
use crate::harness::origin::Seen;
use serde_json::{Value, json};

/// Bedrock Converse.
pub struct Bedrock;

impl Server for Bedrock {
    fn name(&self) -> &'static str {
        "bedrock"
    }

    fn read(&self, seen: &Seen) -> Read<Asked> {
        let stream = match seen.target.strip_prefix("/model/up-bedrock%3A0/") {
            Some("converse") => false,
            Some("converse-stream") => true,
            _ => return Err(format!("no such endpoint: {}", seen.target)),
        };
        if seen.header("content-type") != "application/json" {
            return Err("content-type must be application/json".to_owned());
        }
        sigv4::check(seen)?;
        let mut asked = request(&serde_json::from_slice(&seen.body).map_err(|e| e.to_string())?)?;
        (asked.stream, asked.model) = (stream, "up-bedrock".to_owned());
        Ok(asked)
    }

    fn whole(&self, answer: &Answer) -> Value {
        let mut content = vec![json!({ "text": answer.text })];
        for (i, (name, args)) in answer.calls.iter().enumerate() {
            let input: Value = serde_json::from_str(args).unwrap();
            content.push(json!({ "toolUse": { "toolUseId": id(i), "name": name, "input": input } }));
        }
        json!({
            "output": { "message": { "role": "assistant", "content": content } }, "stopReason": stop(answer),
            "usage": usage(), "metrics": { "latencyMs": 7 },
        })
    }

    fn events(&self, answer: &Answer, _: &Asked) -> Vec<Vec<u8>> {
        let delta = |i: usize, delta: Value| {
            event("contentBlockDelta", &json!({ "contentBlockIndex": i, "delta": delta, "p": "abcd" }))
        };
        let end = |i: usize| event("contentBlockStop", &json!({ "contentBlockIndex": i, "p": "ab" }));
        let mut out = vec![event("messageStart", &json!({ "role": "assistant", "p": "abcdef" }))];
        out.extend(answer.streamed().iter().map(|t| delta(0, json!({ "text": t }))));
        if answer.play != Play::Whole {
            return out;
        }
        out.push(end(0));
        for (i, (name, args)) in answer.calls.iter().enumerate() {
            let start = json!({ "toolUse": { "toolUseId": id(i), "name": name } });
            out.push(event("contentBlockStart", &json!({ "contentBlockIndex": i + 1, "start": start })));
            out.extend(pieces(args, 5).iter().map(|p| delta(i + 1, json!({ "toolUse": { "input": p } }))));
            out.push(end(i + 1));
        }
        out.push(event("messageStop", &json!({ "stopReason": stop(answer) })));
        out.push(event("metadata", &json!({ "usage": usage(), "metrics": { "latencyMs": 7 } })));
        out
    }

    fn broken(&self, message: &str) -> Vec<u8> {
        let headers = [
            (":exception-type", "serviceUnavailableException"),
            (":content-type", "application/json"),
            (":message-type", "exception"),
        ];
        frame(&headers, &json!({ "message": message }).to_string())
    }

    fn error(&self, _: u16, message: &str) -> Value {
        json!({ "message": message })
    }

    fn error_fields(&self, status: u16) -> Vec<(&'static str, &'static str)> {
        let kind = match status {
            400 => "ValidationException",
            401 | 403 => "AccessDeniedException",
            429 => "ThrottlingException",
            503 => "ServiceUnavailableException",
            _ => "InternalServerException",
        };
        vec![("x-amzn-errortype", kind)]
    }

    fn stream_type(&self) -> &'static str {
        "application/vnd.amazon.eventstream"
    }
}

fn id(i: usize) -> String {
    format!("tooluse_{i}Bedrock")
}

fn stop(answer: &Answer) -> &'static str {
    if answer.calls.is_empty() { "end_turn" } else { "tool_use" }
}

fn usage() -> Value {
    json!({
        "inputTokens": USAGE.0 - USAGE.1, "cacheReadInputTokens": USAGE.1, "cacheWriteInputTokens": 0,
        "outputTokens": USAGE.2, "totalTokens": USAGE.0 + USAGE.2,
    })
}

fn event(kind: &str, payload: &Value) -> Vec<u8> {
    let headers = [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
    frame(&headers, &payload.to_string())
}

/// A message of `application/vnd.amazon.eventstream`: lengths, their checksum, headers, payload, checksum of all.
fn frame(headers: &[(&str, &str)], payload: &str) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(name.len() as u8);
        head.extend(name.as_bytes());
        head.push(7);
        head.extend((value.len() as u16).to_be_bytes());
        head.extend(value.as_bytes());
    }
    let mut out = ((head.len() + payload.len() + 16) as u32).to_be_bytes().to_vec();
    out.extend((head.len() as u32).to_be_bytes());
    out.extend(crc32(&out).to_be_bytes());
    out.extend(head);
    out.extend(payload.as_bytes());
    out.extend(crc32(&out).to_be_bytes());
    out
}

/// CRC-32 as in zip files.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xEDB8_8320 } else { c >> 1 })
    };
    !bytes.iter().fold(!0, step)
}

#[test]
fn checksums_are_those_of_the_standard() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
}

fn request(body: &Value) -> Read<Asked> {
    let m = Members::of(body, "request")?;
    let mut asked = Asked::default();
    for block in m.some_list("system")? {
        let b = Members::of(block, "system")?;
        asked.system += b.text("text")?;
        b.end()?;
    }
    for (i, message) in m.list("messages")?.iter().enumerate() {
        asked.turns.push(turn(message, &format!("messages.{i}"))?);
    }
    if let Some(config) = m.some("inferenceConfig")? {
        asked.max_tokens = config.count("maxTokens")?;
        asked.temperature = config.number("temperature", 1.0)?;
        asked.stop = config.texts("stopSequences")?;
        config.end()?;
    }
    let config = m.some("toolConfig")?;
    let uses_tools = asked.turns.iter().flat_map(|t| &t.pieces).any(|p| matches!(p, Piece::Call(..)));
    if uses_tools && config.is_none() {
        return Err("The toolConfig field must be defined when using toolUse and toolResult content blocks.".to_owned());
    }
    if let Some(config) = config {
        for tool in config.list("tools")? {
            let t = Members::of(tool, "toolConfig.tools")?;
            let spec = t.inner("toolSpec")?;
            let schema = spec.inner("inputSchema")?;
            let read =
                (spec.text("name")?.to_owned(), spec.text("description")?.to_owned(), schema.need("json")?.clone());
            asked.tools.push(read);
            spec.flag("strict")?;
            schema.end()?;
            spec.end()?;
            t.end()?;
        }
        if let Some(choice) = config.some("toolChoice")? {
            asked.must_call = Some(choice.some("any")?.is_some());
            if choice.some("auto")?.is_some() == (asked.must_call == Some(true)) {
                return Err("toolChoice: one of auto and any".to_owned());
            }
            choice.end()?;
        }
        config.end()?;
    }
    if let Some(output) = m.some("outputConfig")? {
        let format = output.inner("textFormat")?;
        format.is("type", "json_schema")?;
        let structure = format.inner("structure")?;
        let inner = structure.inner("jsonSchema")?;
        asked.schema = Some(serde_json::from_str(inner.text("schema")?).map_err(|e| format!("schema: {e}"))?);
        inner.get("name");
        inner.end()?;
        structure.end()?;
        format.end()?;
        output.end()?;
    }
    m.end()?;
    Ok(asked)
}

fn turn(message: &Value, at: &str) -> Read<Turn> {
    let m = Members::of(message, at)?;
    let user = match m.text("role")? {
        "user" => true,
        "assistant" => false,
        role => return Err(format!("{at}: role {role:?}")),
    };
    let pieces = m.list("content")?.iter().map(|b| piece(b, at)).collect::<Read<Vec<_>>>()?;
    m.end()?;
    Ok(Turn { user, pieces })
}

fn piece(block: &Value, at: &str) -> Read<Piece> {
    let b = Members::of(block, at)?;
    let fit = |id: &str| match id.chars().all(|c| c.is_ascii_alphanumeric() || "_.:-".contains(c)) {
        true if (1..=64).contains(&id.len()) => Ok(id.to_owned()),
        _ => Err(format!("{at}: toolUseId {id:?} must have 1 to 64 of [a-zA-Z0-9_.:-]")),
    };
    let piece = if let Some(image) = b.some("image")? {
        let source = image.inner("source")?;
        let piece = Piece::Image(format!("image/{}", image.text("format")?), source.text("bytes")?.to_owned());
        source.end()?;
        image.end()?;
        piece
    } else if let Some(call) = b.some("toolUse")? {
        let input = call.need("input")?.clone();
        if !input.is_object() {
            return Err(format!("{at}: toolUse.input must be an object"));
        }
        let piece = Piece::Call(fit(call.text("toolUseId")?)?, call.text("name")?.to_owned(), input);
        call.end()?;
        piece
    } else if let Some(result) = b.some("toolResult")? {
        let mut told = String::new();
        for part in result.list("content")? {
            let p = Members::of(part, format!("{at}.toolResult"))?;
            told += p.text("text")?;
            p.end()?;
        }
        result.get("status");
        let piece = Piece::Outcome(fit(result.text("toolUseId")?)?, told);
        result.end()?;
        piece
    } else {
        let text = b.text("text")?;
        if text.trim().is_empty() {
            return Err(format!("{at}: The text field in the ContentBlock object is blank"));
        }
        Piece::Text(text.to_owned())
    };
    b.end()?;
    Ok(piece)
}
