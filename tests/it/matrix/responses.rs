//! The scripted provider of OpenAI's Responses.

use super::asked::{Asked, Members, Piece, Read, arguments, data_url};
use super::script::{Answer, Play, USAGE, pieces};
use super::server::{Server, key};
use crate::harness::origin::Seen;
use serde_json::{Value, json};

/// OpenAI's Responses.
pub struct Responses;

impl Server for Responses {
    fn name(&self) -> &'static str {
        "responses"
    }

    fn read(&self, seen: &Seen) -> Read<Asked> {
        if seen.target != "/v1/responses" {
            return Err(format!("no such endpoint: {}", seen.target));
        }
        key(seen, "authorization", "Bearer sk-responses")?;
        request(&serde_json::from_slice(&seen.body).map_err(|e| e.to_string())?)
    }

    fn whole(&self, answer: &Answer) -> Value {
        let mut items = vec![message(&answer.text)];
        items.extend(answer.calls.iter().enumerate().map(|(i, (name, args))| call(i, name, args, "completed")));
        response("completed", &items, true)
    }

    fn events(&self, answer: &Answer, _: &Asked) -> Vec<Vec<u8>> {
        let mut out = Told::default();
        let beginning = response("in_progress", &[], false);
        out.tell("response.created", json!({ "response": beginning }));
        out.tell("response.in_progress", json!({ "response": beginning }));
        let at = json!({ "item_id": "msg_7", "output_index": 0, "content_index": 0 });
        let mut item = message("");
        (item["content"], item["status"]) = (json!([]), json!("in_progress"));
        out.tell("response.output_item.added", json!({ "output_index": 0, "item": item }));
        out.tell_at("response.content_part.added", &at, json!({ "part": text_part("") }));
        for text in answer.streamed() {
            let more = json!({ "delta": text, "logprobs": [], "obfuscation": "q7" });
            out.tell_at("response.output_text.delta", &at, more);
        }
        if answer.play != Play::Whole {
            return out.events;
        }
        out.tell_at("response.output_text.done", &at, json!({ "text": answer.text, "logprobs": [] }));
        out.tell_at("response.content_part.done", &at, json!({ "part": text_part(&answer.text) }));
        let mut items = vec![message(&answer.text)];
        out.tell("response.output_item.done", json!({ "output_index": 0, "item": items[0] }));
        for (i, (name, args)) in answer.calls.iter().enumerate() {
            let at = json!({ "item_id": format!("fc_{i}"), "output_index": i + 1 });
            let begun = call(i, name, "", "in_progress");
            out.tell("response.output_item.added", json!({ "output_index": i + 1, "item": begun }));
            for piece in pieces(args, 5) {
                let more = json!({ "delta": piece, "obfuscation": "q7" });
                out.tell_at("response.function_call_arguments.delta", &at, more);
            }
            out.tell_at("response.function_call_arguments.done", &at, json!({ "arguments": args, "name": name }));
            items.push(call(i, name, args, "completed"));
            out.tell("response.output_item.done", json!({ "output_index": i + 1, "item": items[i + 1] }));
        }
        out.tell("response.completed", json!({ "response": response("completed", &items, true) }));
        out.events
    }

    fn broken(&self, message: &str) -> Vec<u8> {
        let event = json!({
            "type": "error", "code": "server_error", "message": message, "param": null, "sequence_number": 99,
        });
        format!("event: error\ndata: {event}\n\n").into_bytes()
    }

    fn error(&self, status: u16, message: &str) -> Value {
        super::openai::Openai { azure: false }.error(status, message)
    }
}

/// The events told so far; each has a number.
#[derive(Default)]
struct Told {
    events: Vec<Vec<u8>>,
}

impl Told {
    fn tell(&mut self, kind: &str, members: Value) {
        let mut event = json!({ "type": kind, "sequence_number": self.events.len() });
        event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        self.events.push(format!("event: {kind}\ndata: {event}\n\n").into_bytes());
    }

    fn tell_at(&mut self, kind: &str, at: &Value, members: Value) {
        let mut all = at.clone();
        all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        self.tell(kind, all);
    }
}

fn text_part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn message(text: &str) -> Value {
    json!({ "id": "msg_7", "type": "message", "status": "completed", "role": "assistant", "content": [text_part(text)] })
}

fn call(i: usize, name: &str, args: &str, status: &str) -> Value {
    json!({
        "id": format!("fc_{i}"), "type": "function_call", "status": status, "call_id": format!("call_{i}Responses"),
        "name": name, "arguments": args,
    })
}

fn response(status: &str, output: &[Value], counted: bool) -> Value {
    let usage = json!({
        "input_tokens": USAGE.0, "input_tokens_details": { "cached_tokens": USAGE.1, "cache_write_tokens": 0 },
        "output_tokens": USAGE.2, "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": USAGE.0 + USAGE.2,
    });
    json!({
        "id": "resp_7", "object": "response", "created_at": 1_767_225_600, "status": status, "background": false,
        "error": null, "incomplete_details": null, "instructions": null, "max_output_tokens": null,
        "model": "up-responses", "output": output, "parallel_tool_calls": true, "previous_response_id": null,
        "reasoning": { "effort": null, "summary": null }, "service_tier": "default", "store": false,
        "temperature": 1.0, "text": { "format": { "type": "text" } }, "tool_choice": "auto", "tools": [],
        "top_p": 1.0, "truncation": "disabled", "usage": if counted { usage } else { Value::Null }, "user": null,
        "metadata": {},
    })
}

fn request(body: &Value) -> Read<Asked> {
    let m = Members::of(body, "request")?;
    let mut asked = Asked { stream: m.flag("stream")?.unwrap_or(false), ..Asked::default() };
    asked.model = m.text("model")?.to_owned();
    asked.system = m.get("instructions").and_then(Value::as_str).unwrap_or("").to_owned();
    match m.need("input")? {
        Value::String(text) => asked.say(true, vec![Piece::Text(text.clone())]),
        items => {
            for (i, item) in items.as_array().ok_or("input: must be a string or items")?.iter().enumerate() {
                read_item(item, &format!("input[{i}]"), &mut asked)?;
            }
        }
    }
    for tool in m.some_list("tools")? {
        let t = Members::of(tool, "tools")?;
        t.is("type", "function")?;
        // Here a tool is strict unless it says that it is not.
        if t.flag("strict")? != Some(false) {
            return Err("tools: strict must be false: nobody asked for it".to_owned());
        }
        asked.tools.push((
            t.text("name")?.to_owned(),
            t.text("description")?.to_owned(),
            t.need("parameters")?.clone(),
        ));
        t.end()?;
    }
    asked.must_call = match m.get("tool_choice") {
        None => None,
        Some(v) if v == "auto" || v == "none" => Some(false),
        Some(v) if v == "required" => Some(true),
        Some(v) => return Err(format!("tool_choice: {v}")),
    };
    m.flag("parallel_tool_calls")?;
    m.flag("store")?;
    m.texts("include")?;
    asked.max_tokens = m.count("max_output_tokens")?;
    asked.temperature = m.number("temperature", 2.0)?;
    if let Some(text) = m.some("text")? {
        let format = text.inner("format")?;
        if format.text("type")? != "text" {
            format.is("type", "json_schema")?;
            format.text("name")?;
            format.flag("strict")?;
            asked.schema = Some(format.need("schema")?.clone());
        }
        format.end()?;
        text.end()?;
    }
    m.end()?;
    Ok(asked)
}

fn read_item(item: &Value, at: &str, asked: &mut Asked) -> Read<()> {
    let m = Members::of(item, at)?;
    m.get("id");
    m.get("status");
    match m.get("type").map_or(Some("message"), Value::as_str) {
        Some("message") => match m.text("role")? {
            "system" | "developer" if asked.turns.is_empty() => {
                for piece in content(m.need("content")?, at, "input_text")? {
                    if let Piece::Text(text) = piece {
                        asked.system += &text;
                    }
                }
            }
            "user" => asked.say(true, content(m.need("content")?, at, "input_text")?),
            "assistant" => asked.say(false, content(m.need("content")?, at, "output_text")?),
            role => return Err(format!("{at}: role {role:?}")),
        },
        Some("function_call") => {
            let given = arguments(m.text("arguments")?, at)?;
            let call = Piece::Call(m.text("call_id")?.to_owned(), m.text("name")?.to_owned(), given);
            asked.say(false, vec![call]);
        }
        Some("function_call_output") => {
            let text = match m.need("output")? {
                Value::String(text) => text.clone(),
                parts => content(parts, at, "input_text")?
                    .into_iter()
                    .map(|p| if let Piece::Text(text) = p { text } else { String::new() })
                    .collect(),
            };
            asked.say(true, vec![Piece::Outcome(m.text("call_id")?.to_owned(), text)]);
        }
        kind => return Err(format!("{at}: item of type {kind:?}")),
    }
    m.end()
}

fn content(value: &Value, at: &str, text_type: &str) -> Read<Vec<Piece>> {
    if let Some(text) = value.as_str() {
        return Ok(vec![Piece::Text(text.to_owned())]);
    }
    let mut out = Vec::new();
    for part in value.as_array().ok_or_else(|| format!("{at}.content: must be a string or parts"))? {
        let p = Members::of(part, format!("{at}.content"))?;
        match p.text("type")? {
            "input_image" if text_type == "input_text" => {
                if !["auto", "low", "high"].contains(&p.text("detail")?) {
                    return Err(format!("{at}.content: detail"));
                }
                out.push(data_url(p.text("image_url")?, at)?);
            }
            kind if kind == text_type => {
                out.push(Piece::Text(p.text("text")?.to_owned()));
                p.some_list("annotations")?;
                p.some_list("logprobs")?;
            }
            kind => return Err(format!("{at}.content: part of type {kind:?}")),
        }
        p.end()?;
    }
    Ok(out)
}
