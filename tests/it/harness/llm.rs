//! A scripted model provider of the OpenAI dialect, on top of the scripted origin: it counts calls and can misbehave.

use super::origin::{Gate, Origin, Seen, Step, chunk, chunked, reply};
use serde_json::{Value, json};
use std::time::Duration;

/// How the provider treats one call.
#[derive(Clone)]
pub enum Play {
    /// A good answer with this text; streamed if the call asks for it, a word per event.
    Say(String),
    /// A good streamed answer whose words after the first wait, one permit each.
    Gated(String, Gate),
    /// A good answer that begins only when the gate opens.
    Late(String, Gate),
    /// An error status with an OpenAI-shaped body.
    Fail(u16),
    /// Status 200 and a body that is no JSON.
    Garbage,
    /// A stream cut after this many words, without an end; a whole answer cut in its middle.
    CutAfter(String, usize),
    /// No answer for a long time.
    Hang,
}

/// The provider.
#[derive(Clone)]
pub struct Llm {
    origin: Origin,
}

impl Llm {
    /// Plays `script` for each chat call; embeddings and the model list are answered by themselves.
    pub async fn start(script: impl Fn(&Value, &Seen) -> Play + Send + Sync + 'static) -> Llm {
        let origin = Origin::start(move |seen| match seen.target.as_str() {
            "/v1/chat/completions" => {
                let call = seen.json();
                steps(script(&call, seen), &call)
            }
            "/v1/embeddings" => {
                reply(200, &[("content-type", "application/json")], embedding(&seen.json()).to_string())
            }
            _ => reply(404, &[("content-type", "application/json")], error("no such endpoint").to_string()),
        })
        .await;
        Llm { origin }
    }

    /// Says the same to everybody.
    pub async fn saying(text: &str) -> Llm {
        let text = text.to_owned();
        Llm::start(move |_, _| Play::Say(text.clone())).await
    }

    /// Repeats the question: a wrong answer from a cache shows at once.
    pub async fn echo() -> Llm {
        Llm::start(|call, _| Play::Say(format!("You said: {}", question(call)))).await
    }

    /// The base URL for the YAML.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.origin.address)
    }

    /// How many chat calls have arrived.
    pub fn calls(&self) -> usize {
        self.origin.seen().iter().filter(|seen| seen.target == "/v1/chat/completions").count()
    }

    /// How many calls the gateway gave up before they were answered.
    pub fn abandoned(&self) -> usize {
        self.origin.abandoned()
    }

    /// The last request.
    pub fn last(&self) -> Seen {
        self.origin.last()
    }
}

/// The text of the last message.
pub fn question(call: &Value) -> String {
    let last = call["messages"].as_array().and_then(|m| m.last()).cloned().unwrap_or_default();
    last["content"].as_str().map_or_else(|| last["content"].to_string(), str::to_owned)
}

/// A chat call with one user message.
pub fn chat(model: &str, text: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": text }], "temperature": 0 })
}

/// The same as a stream.
pub fn streamed(model: &str, text: &str) -> Value {
    let mut call = chat(model, text);
    call["stream"] = json!(true);
    call
}

/// The text of a whole answer.
pub fn answer_text(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap_or("")
}

fn steps(play: Play, call: &Value) -> Vec<Step> {
    let stream = call["stream"].as_bool().unwrap_or(false);
    let json_head = [("content-type", "application/json")];
    match play {
        Play::Say(text) if stream => events(&text, call, None),
        Play::Say(text) => reply(200, &json_head, whole(&text, call).to_string()),
        Play::Gated(text, gate) => events(&text, call, Some(gate)),
        Play::Late(text, gate) => [vec![Step::Wait(gate)], steps(Play::Say(text), call)].concat(),
        Play::Fail(status) => reply(status, &json_head, error("scripted failure").to_string()),
        Play::Garbage => reply(200, &json_head, "<html>this is no JSON"),
        Play::CutAfter(text, words) if stream => {
            let mut steps = events(&text, call, None);
            // the head and the role event come first
            steps.truncate(2 + words);
            steps.push(Step::Cut);
            steps
        }
        Play::CutAfter(text, _) => {
            let mut bytes = match reply(200, &json_head, whole(&text, call).to_string()).remove(0) {
                Step::Send(bytes) => bytes,
                _ => Vec::new(),
            };
            bytes.truncate(bytes.len() - 10);
            vec![Step::Send(bytes), Step::Cut]
        }
        Play::Hang => vec![Step::Pause(Duration::from_secs(600))],
    }
}

fn usage(text: &str) -> Value {
    let words = text.split_whitespace().count();
    json!({ "prompt_tokens": 10, "completion_tokens": words, "total_tokens": 10 + words })
}

fn whole(text: &str, call: &Value) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": call["model"],
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
        "usage": usage(text),
    })
}

fn events(text: &str, call: &Value, gate: Option<Gate>) -> Vec<Step> {
    let event = |delta: Value, finish: Value| {
        let data = json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": call["model"],
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
        });
        chunk(format!("data: {data}\n\n"))
    };
    let mut steps = vec![chunked(200, &[("content-type", "text/event-stream")])];
    steps.push(event(json!({ "role": "assistant", "content": "" }), Value::Null));
    for (index, word) in text.split_inclusive(' ').enumerate() {
        if let Some(gate) = gate.as_ref().filter(|_| index > 0) {
            steps.push(Step::Wait(gate.clone()));
        }
        steps.push(event(json!({ "content": word }), Value::Null));
    }
    steps.push(event(json!({}), json!("stop")));
    if call["stream_options"]["include_usage"] == json!(true) {
        let data = json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": call["model"],
            "choices": [], "usage": usage(text),
        });
        steps.push(chunk(format!("data: {data}\n\n")));
    }
    steps.extend([chunk("data: [DONE]\n\n"), chunk("")]);
    steps
}

fn embedding(call: &Value) -> Value {
    let count = call["input"].as_array().map_or(1, Vec::len);
    let data: Vec<Value> =
        (0..count).map(|i| json!({ "object": "embedding", "index": i, "embedding": [0.5, -0.5, 0.25] })).collect();
    json!({ "object": "list", "data": data, "model": call["model"], "usage": { "prompt_tokens": 3, "total_tokens": 3 } })
}

fn error(message: &str) -> Value {
    json!({ "error": { "message": message, "type": "server_error", "param": null, "code": null } })
}
