//! The scripted provider of OpenAI's chat completions, and Azure's of the same with its own path, header and extras.

use super::asked::{Asked, Members, Piece, Read, arguments, data_url};
use super::script::{Answer, Play, USAGE, pieces};
use super::server::{Server, key, sse};
use crate::harness::origin::Seen;
use serde_json::{Value, json};

/// OpenAI's chat completions, or Azure's.
pub struct Openai {
    /// Whether it is Azure's.
    pub azure: bool,
}

/// Where Azure takes chats of the deployment `up-azure`.
const AZURE: &str = "/openai/deployments/up-azure/chat/completions?api-version=2024-10-21";

impl Server for Openai {
    fn name(&self) -> &'static str {
        if self.azure { "azure" } else { "openai" }
    }

    fn read(&self, seen: &Seen) -> Read<Asked> {
        let want = if self.azure { AZURE } else { "/v1/chat/completions" };
        if seen.target != want {
            return Err(format!("no such endpoint: {}", seen.target));
        }
        if self.azure {
            key(seen, "api-key", "sk-azure")?;
        } else {
            key(seen, "authorization", "Bearer sk-openai")?;
        }
        let body: Value = serde_json::from_slice(&seen.body).map_err(|e| e.to_string())?;
        self.request(&body)
    }

    fn whole(&self, answer: &Answer) -> Value {
        let mut message = json!({ "role": "assistant", "content": answer.text, "refusal": null });
        if !answer.calls.is_empty() {
            let calls = answer.calls.iter().enumerate().map(|(i, (name, args))| {
                json!({ "id": id(i), "type": "function", "function": { "name": name, "arguments": args } })
            });
            message["tool_calls"] = calls.collect();
        }
        let mut choice = json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": finish(answer) });
        let mut out = json!({
            "id": "chatcmpl-7", "object": "chat.completion", "created": 1_767_225_600, "model": self.model(),
            "service_tier": "default", "system_fingerprint": "fp_1", "usage": usage(),
        });
        if self.azure {
            choice["content_filter_results"] = filters();
            out["prompt_filter_results"] = json!([{ "prompt_index": 0, "content_filter_results": filters() }]);
        }
        out["choices"] = json!([choice]);
        out
    }

    fn events(&self, answer: &Answer, asked: &Asked) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        if self.azure {
            let results = json!([{ "prompt_index": 0, "content_filter_results": filters() }]);
            out.push(sse(&json!({
                "choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": results,
            })));
        }
        out.push(self.chunk(json!({ "role": "assistant", "content": "", "refusal": null }), None));
        out.extend(answer.streamed().into_iter().map(|text| self.chunk(json!({ "content": text }), None)));
        if answer.play != Play::Whole {
            return out;
        }
        for (i, (name, args)) in answer.calls.iter().enumerate() {
            let function = json!({ "name": name, "arguments": "" });
            let head = json!({ "index": i, "id": id(i), "type": "function", "function": function });
            out.push(self.chunk(json!({ "tool_calls": [head] }), None));
            for piece in pieces(args, 5) {
                let more = json!({ "index": i, "function": { "arguments": piece } });
                out.push(self.chunk(json!({ "tool_calls": [more] }), None));
            }
        }
        out.push(self.chunk(json!({}), Some(finish(answer))));
        if asked.usage_wanted {
            let mut last = self.bare();
            (last["choices"], last["usage"]) = (json!([]), usage());
            out.push(sse(&last));
        }
        out.push(b"data: [DONE]\n\n".to_vec());
        out
    }

    fn broken(&self, message: &str) -> Vec<u8> {
        sse(&self.error(500, message))
    }

    fn error(&self, status: u16, message: &str) -> Value {
        let (kind, code) = match status {
            429 => ("requests", json!("rate_limit_exceeded")),
            400 => ("invalid_request_error", Value::Null),
            _ => ("server_error", Value::Null),
        };
        json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
    }
}

impl Openai {
    fn model(&self) -> &'static str {
        if self.azure { "up-azure" } else { "up-openai" }
    }

    fn bare(&self) -> Value {
        json!({
            "id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1_767_225_600, "model": self.model(),
            "service_tier": "default", "system_fingerprint": "fp_1", "obfuscation": "q7",
        })
    }

    fn chunk(&self, delta: Value, finish: Option<&str>) -> Vec<u8> {
        let mut out = self.bare();
        let mut choice = json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish });
        if self.azure {
            choice["content_filter_results"] = json!({});
        }
        out["choices"] = json!([choice]);
        sse(&out)
    }

    fn request(&self, body: &Value) -> Read<Asked> {
        let m = Members::of(body, "request")?;
        let mut asked = Asked { stream: m.flag("stream")?.unwrap_or(false), ..Asked::default() };
        asked.model = if self.azure {
            m.get("model").and_then(Value::as_str).unwrap_or(self.model()).to_owned()
        } else {
            m.text("model")?.to_owned()
        };
        for (i, message) in m.list("messages")?.iter().enumerate() {
            read_message(message, &format!("messages[{i}]"), &mut asked)?;
        }
        for tool in m.some_list("tools")? {
            asked.tools.push(read_tool(tool)?);
        }
        asked.must_call = match m.get("tool_choice") {
            None => None,
            Some(v) if v == "auto" || v == "none" => Some(false),
            Some(v) if v == "required" => Some(true),
            Some(v) => return Err(format!("tool_choice: {v}")),
        };
        if (m.get("tool_choice").is_some() || m.flag("parallel_tool_calls")?.is_some()) && asked.tools.is_empty() {
            return Err("tool_choice and parallel_tool_calls need tools".to_owned());
        }
        if let Some(options) = m.some("stream_options")? {
            if !asked.stream {
                return Err("stream_options without stream".to_owned());
            }
            asked.usage_wanted = options.flag("include_usage")?.unwrap_or(false);
            options.end()?;
        }
        let old = m.count("max_tokens")?;
        asked.max_tokens = m.count("max_completion_tokens")?;
        if old.is_some() && asked.max_tokens.is_some() {
            return Err("max_tokens and max_completion_tokens".to_owned());
        }
        asked.max_tokens = asked.max_tokens.or(old);
        asked.temperature = m.number("temperature", 2.0)?;
        asked.stop = m.texts("stop")?;
        if let Some(format) = m.some("response_format")? {
            format.is("type", "json_schema")?;
            let inner = format.inner("json_schema")?;
            inner.text("name")?;
            inner.flag("strict")?;
            asked.schema = Some(inner.need("schema")?.clone());
            inner.end()?;
            format.end()?;
        }
        m.end()?;
        Ok(asked)
    }
}

fn id(i: usize) -> String {
    format!("call_{i}OpenAi")
}

fn finish(answer: &Answer) -> &'static str {
    if answer.calls.is_empty() { "stop" } else { "tool_calls" }
}

fn usage() -> Value {
    json!({
        "prompt_tokens": USAGE.0, "completion_tokens": USAGE.2, "total_tokens": USAGE.0 + USAGE.2,
        "prompt_tokens_details": { "cached_tokens": USAGE.1, "audio_tokens": 0 },
        "completion_tokens_details": { "reasoning_tokens": 0, "audio_tokens": 0 },
    })
}

fn filters() -> Value {
    json!({ "hate": { "filtered": false, "severity": "safe" } })
}

fn read_message(message: &Value, at: &str, asked: &mut Asked) -> Read<()> {
    let m = Members::of(message, at)?;
    match m.text("role")? {
        "system" | "developer" if asked.turns.is_empty() => {
            asked.system += &texts(&content(m.need("content")?, at)?)?;
        }
        "user" => asked.say(true, content(m.need("content")?, at)?),
        "tool" => {
            let text = texts(&content(m.need("content")?, at)?)?;
            asked.say(true, vec![Piece::Outcome(m.text("tool_call_id")?.to_owned(), text)]);
        }
        "assistant" => {
            let mut said = match m.get("content") {
                None | Some(Value::Null) => Vec::new(),
                Some(v) => content(v, at)?,
            };
            if m.get("refusal").is_some_and(|v| !v.is_null()) {
                return Err(format!("{at}: nobody refused anything"));
            }
            for call in m.some_list("tool_calls")? {
                let c = Members::of(call, format!("{at}.tool_calls"))?;
                c.is("type", "function")?;
                let f = c.inner("function")?;
                let given = arguments(f.text("arguments")?, f.at())?;
                said.push(Piece::Call(c.text("id")?.to_owned(), f.text("name")?.to_owned(), given));
                f.end()?;
                c.end()?;
            }
            if said.is_empty() {
                return Err(format!("{at}: content is required without tool_calls"));
            }
            asked.say(false, said);
        }
        role => return Err(format!("{at}: role {role:?}")),
    }
    m.end()
}

fn content(value: &Value, at: &str) -> Read<Vec<Piece>> {
    if let Some(text) = value.as_str() {
        return Ok(vec![Piece::Text(text.to_owned())]);
    }
    let parts = value.as_array().filter(|a| !a.is_empty());
    let parts = parts.ok_or_else(|| format!("{at}.content: must be a string or parts, is {value}"))?;
    let mut out = Vec::new();
    for part in parts {
        let p = Members::of(part, format!("{at}.content"))?;
        match p.text("type")? {
            "text" => out.push(Piece::Text(p.text("text")?.to_owned())),
            "image_url" => {
                let image = p.inner("image_url")?;
                image.get("detail");
                out.push(data_url(image.text("url")?, image.at())?);
                image.end()?;
            }
            kind => return Err(format!("{at}.content: part of type {kind:?}")),
        }
        p.end()?;
    }
    Ok(out)
}

fn texts(pieces: &[Piece]) -> Read<String> {
    let text = |p: &Piece| match p {
        Piece::Text(text) => Ok(text.clone()),
        other => Err(format!("only text may stand here, not {other:?}")),
    };
    pieces.iter().map(text).collect()
}

fn read_tool(tool: &Value) -> Read<(String, String, Value)> {
    let t = Members::of(tool, "tools")?;
    t.is("type", "function")?;
    let f = t.inner("function")?;
    if f.flag("strict")? == Some(true) {
        return Err("tools: strict was not asked for".to_owned());
    }
    let out = (f.text("name")?.to_owned(), f.text("description")?.to_owned(), f.need("parameters")?.clone());
    f.end()?;
    t.end()?;
    Ok(out)
}
