//! The scripted provider of the Gemini API.

use super::asked::{Asked, Members, Piece, Read, Turn};
use super::script::{Answer, Play, USAGE};
use super::server::{Server, key, sse};
use crate::harness::origin::Seen;
use serde_json::{Value, json};

/// The Gemini API.
pub struct Gemini;

/// What the first call of an answer is signed with; it must come back with that call.
const SIGNATURE: &str = "c2lnbmVkKy8=";

impl Server for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn read(&self, seen: &Seen) -> Read<Asked> {
        let method = seen.target.strip_prefix("/v1beta/models/up-gemini:");
        let stream = match method {
            Some("generateContent") => false,
            Some("streamGenerateContent?alt=sse") => true,
            _ => return Err(format!("no such endpoint: {}", seen.target)),
        };
        key(seen, "x-goog-api-key", "sk-gemini")?;
        let mut asked = request(&camel(serde_json::from_slice(&seen.body).map_err(|e| e.to_string())?))?;
        (asked.stream, asked.model) = (stream, "up-gemini".to_owned());
        Ok(asked)
    }

    fn whole(&self, answer: &Answer) -> Value {
        let mut parts = vec![json!({ "text": answer.text })];
        parts.extend(calls(answer, false));
        piece(parts, true)
    }

    fn events(&self, answer: &Answer, _: &Asked) -> Vec<Vec<u8>> {
        let mut out: Vec<Vec<u8>> =
            answer.streamed().iter().map(|text| sse(&piece(vec![json!({ "text": text })], false))).collect();
        if answer.play != Play::Whole {
            return out;
        }
        // Each call comes whole, in an event of its own.
        out.extend(calls(answer, true).into_iter().map(|call| sse(&piece(vec![call], false))));
        out.push(sse(&piece(vec![json!({ "text": "" })], true)));
        out
    }

    fn broken(&self, message: &str) -> Vec<u8> {
        sse(&self.error(503, message))
    }

    fn error(&self, status: u16, message: &str) -> Value {
        let word = match status {
            400 => "INVALID_ARGUMENT",
            401 => "UNAUTHENTICATED",
            429 => "RESOURCE_EXHAUSTED",
            503 => "UNAVAILABLE",
            _ => "INTERNAL",
        };
        json!({ "error": { "code": status, "message": message, "status": word } })
    }
}

fn piece(parts: Vec<Value>, last: bool) -> Value {
    let mut candidate = json!({ "content": { "parts": parts, "role": "model" }, "index": 0 });
    let mut usage = json!({ "promptTokenCount": USAGE.0, "totalTokenCount": USAGE.0 });
    if last {
        // Gemini says STOP for calls, too.
        candidate["finishReason"] = json!("STOP");
        usage = json!({
            "promptTokenCount": USAGE.0, "cachedContentTokenCount": USAGE.1, "candidatesTokenCount": USAGE.2,
            "totalTokenCount": USAGE.0 + USAGE.2,
            "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": USAGE.0 }],
        });
    }
    json!({ "candidates": [candidate], "usageMetadata": usage, "modelVersion": "up-gemini", "responseId": "resp7" })
}

/// Whole answers have calls without ids, as those of older models do.
fn calls(answer: &Answer, ids: bool) -> Vec<Value> {
    let call = |(i, (name, args)): (usize, &(&str, &str))| {
        let args: Value = serde_json::from_str(args).unwrap();
        let mut part = json!({ "functionCall": { "name": name, "args": args } });
        if ids {
            part["functionCall"]["id"] = json!(format!("gem{i}call"));
        }
        if i == 0 {
            part["thoughtSignature"] = json!(SIGNATURE);
        }
        part
    };
    answer.calls.iter().enumerate().map(call).collect()
}

/// Names are taken in either spelling, as everywhere at Google; what clients name themselves stays as it is.
fn camel(value: Value) -> Value {
    const FREE: [&str; 6] =
        ["args", "response", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema"];
    let member = |(name, value): (String, Value)| {
        let mut words = name.split('_');
        let first = words.next().unwrap_or_default().to_owned();
        let name = words.fold(first, |all, w| format!("{all}{}{}", w[..1].to_uppercase(), &w[1..]));
        let value = if FREE.contains(&name.as_str()) { value } else { camel(value) };
        (name, value)
    };
    match value {
        Value::Object(map) => Value::Object(map.into_iter().map(member).collect()),
        Value::Array(all) => all.into_iter().map(camel).collect(),
        other => other,
    }
}

fn request(body: &Value) -> Read<Asked> {
    let m = Members::of(body, "request")?;
    let mut asked = Asked::default();
    if let Some(system) = m.some("systemInstruction")? {
        system.get("role");
        for part in system.list("parts")? {
            let p = Members::of(part, "systemInstruction.parts")?;
            asked.system += p.text("text")?;
            p.end()?;
        }
        system.end()?;
    }
    for (i, content) in m.list("contents")?.iter().enumerate() {
        asked.turns.push(turn(content, &format!("contents[{i}]"))?);
    }
    for tool in m.some_list("tools")? {
        let t = Members::of(tool, "tools")?;
        for function in t.list("functionDeclarations")? {
            let f = Members::of(function, "functionDeclarations")?;
            let schema = match (f.get("parametersJsonSchema"), f.get("parameters")) {
                (Some(schema), None) => schema.clone(),
                (None, Some(schema)) => plain_schema(schema),
                _ => return Err(format!("{}: one of parameters and parametersJsonSchema", f.at())),
            };
            asked.tools.push((f.text("name")?.to_owned(), f.text("description")?.to_owned(), schema));
            f.end()?;
        }
        t.end()?;
    }
    if let Some(config) = m.some("toolConfig")? {
        let calling = config.inner("functionCallingConfig")?;
        asked.must_call = match calling.text("mode")? {
            "ANY" => Some(true),
            "AUTO" | "NONE" => Some(false),
            mode => return Err(format!("mode {mode:?}")),
        };
        calling.texts("allowedFunctionNames")?;
        calling.end()?;
        config.end()?;
    }
    if let Some(generation) = m.some("generationConfig")? {
        asked.max_tokens = generation.count("maxOutputTokens")?;
        asked.temperature = generation.number("temperature", 2.0)?;
        asked.stop = generation.texts("stopSequences")?;
        asked.schema = match (generation.get("responseJsonSchema"), generation.get("responseSchema")) {
            (Some(schema), None) => Some(schema.clone()),
            (None, Some(schema)) => Some(plain_schema(schema)),
            (None, None) => None,
            _ => return Err("responseSchema and responseJsonSchema".to_owned()),
        };
        if asked.schema.is_some() {
            generation.is("responseMimeType", "application/json")?;
        }
        generation.end()?;
    }
    m.end()?;
    Ok(asked)
}

/// Google's own schemas write their types in capitals.
fn plain_schema(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let member = |(k, v): (&String, &Value)| match (k.as_str(), v) {
                ("type", Value::String(t)) => (k.clone(), json!(t.to_lowercase())),
                _ => (k.clone(), plain_schema(v)),
            };
            Value::Object(map.iter().map(member).collect())
        }
        Value::Array(all) => all.iter().map(plain_schema).collect(),
        other => other.clone(),
    }
}

fn turn(content: &Value, at: &str) -> Read<Turn> {
    let m = Members::of(content, at)?;
    let user = match m.text("role")? {
        "user" => true,
        "model" => false,
        role => return Err(format!("{at}: Please use a valid role: user, model; not {role:?}")),
    };
    let mut pieces = Vec::new();
    for part in m.list("parts")? {
        let p = Members::of(part, format!("{at}.parts"))?;
        let first_call = !pieces.iter().any(|p| matches!(p, Piece::Call(..)));
        let signature = p.get("thoughtSignature");
        if let Some(call) = p.some("functionCall")? {
            if first_call && signature.and_then(Value::as_str) != Some(SIGNATURE) {
                return Err(format!("{at}: Function call is missing a thought_signature: {part}"));
            }
            let name = call.text("name")?;
            let id = call.get("id").and_then(Value::as_str).unwrap_or(name);
            pieces.push(Piece::Call(id.to_owned(), name.to_owned(), call.need("args")?.clone()));
            call.end()?;
        } else if let Some(response) = p.some("functionResponse")? {
            let name = response.text("name")?;
            let id = response.get("id").and_then(Value::as_str).unwrap_or(name);
            let told = response.inner("response")?;
            pieces.push(Piece::Outcome(id.to_owned(), told.text("result")?.to_owned()));
            told.end()?;
            response.end()?;
        } else if let Some(data) = p.some("inlineData")? {
            // Both alphabets of base64 are taken.
            let standard = data.text("data")?.replace('-', "+").replace('_', "/");
            pieces.push(Piece::Image(data.text("mimeType")?.to_owned(), standard));
            data.end()?;
        } else if !(p.text("text")?.is_empty() && p.len() == 1) {
            pieces.push(Piece::Text(p.text("text")?.to_owned()));
        }
        p.end()?;
    }
    m.end()?;
    Ok(Turn { user, pieces })
}
