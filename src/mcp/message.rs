//! JSON-RPC messages as clients of the Model Context Protocol send them: one, or a list of them (2025-03-26).

use crate::base::strict_json;
use serde_json::{Map, Value, json};

/// How deep a message may nest.
pub const DEPTH_MAX: u8 = 64;
/// Messages in one list.
const MESSAGES_MAX: usize = 64;

/// JSON-RPC 2.0 §5.1: the text is no JSON.
pub const PARSE_ERROR: i64 = -32700;
/// The JSON is no message.
pub const INVALID_REQUEST: i64 = -32600;
/// There is no such tool (as servers say it, 2025-06-18 "Error Handling" of tools).
pub const INVALID_PARAMS: i64 = -32602;
/// What the header says of the message is not what the message says (2026-07-28).
pub const HEADER_MISMATCH: i64 = -32020;
/// The gateway's own: the server is not there, or too much is asked of it.
pub const SERVER_ERROR: i64 = -32000;

/// What a client sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Messages {
    /// Its messages.
    pub all: Vec<Map<String, Value>>,
    /// Whether they came as a list, and their answers go as one.
    pub listed: bool,
}

/// A body that is none: a JSON-RPC error code and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{1}")]
pub struct Malformed(pub i64, pub String);

/// Reads a body. A name given twice is refused: it could be one tool here and another at the server.
pub fn read(body: &[u8]) -> Result<Messages, Malformed> {
    let value = strict_json::value(body, DEPTH_MAX).map_err(|e| Malformed(PARSE_ERROR, format!("not JSON: {e}")))?;
    let invalid = |what: &str| Malformed(INVALID_REQUEST, what.to_owned());
    let (all, listed) = match value {
        Value::Array(all) => (all, true),
        one => (vec![one], false),
    };
    if all.is_empty() || all.len() > MESSAGES_MAX {
        return Err(invalid("a list holds 1 to 64 messages"));
    }
    let objects = all.into_iter().map(|m| match m {
        Value::Object(m) => Ok(m),
        _ => Err(invalid("a message is a JSON object")),
    });
    Ok(Messages { all: objects.collect::<Result<_, _>>()?, listed })
}

/// The method; `None` for an answer.
pub fn method(message: &Map<String, Value>) -> Option<&str> {
    message.get("method").and_then(Value::as_str)
}

/// The parameters of a tool call.
pub fn tool_call(message: &Map<String, Value>) -> Option<&Map<String, Value>> {
    (method(message) == Some("tools/call")).then(|| message.get("params").and_then(Value::as_object))?
}

/// What the header field `Mcp-Name` repeats of a message (2026-07-28).
pub fn named(message: &Map<String, Value>) -> Option<&str> {
    let member = match method(message)? {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        _ => return None,
    };
    message.get("params")?.get(member)?.as_str()
}

/// A good answer.
pub fn answer(id: &Value, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

/// An error; `id` is null where it is not known whose.
pub fn error(id: &Value, code: i64, text: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": text } })
}

/// The result of a tool call in the words of metrics, and whether it may be kept.
pub fn outcome(answer: &Map<String, Value>) -> (&'static str, bool) {
    match answer.get("result") {
        None => ("error", false),
        Some(result) if result.get("isError").and_then(Value::as_bool) == Some(true) => ("tool_error", false),
        // A question back (2026-07-28) belongs to this call alone.
        Some(result) => ("ok", result.get("resultType").and_then(Value::as_str).is_none_or(|t| t == "complete")),
    }
}
