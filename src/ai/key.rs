//! Cache keys of model requests: equal requests share a key, and nothing that changes the answer is left out.

use super::canon;
use super::facts::part_text;
use super::prompt::Prompt;
use crate::base::ids::sha256_parts;
use serde_json::{Map, Value};

/// A SHA-256 digest that stands for a request.
pub type Key = [u8; 32];

/// What a key covers beside the request itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    /// Whose cache it is; answers never cross tenants.
    pub tenant: &'a str,
    /// The route's name.
    pub route: &'a str,
    /// The revision of the policy that decided.
    pub policy: &'a str,
    /// The model or tier decided on, with the models behind it.
    pub target: &'a str,
    /// The client's fields that select a version or a beta, which the provider gets to see and which may change its
    /// answer.
    pub beta: &'a [u8],
}

fn telling(prompt: &Prompt) -> impl Iterator<Item = (&str, &Value)> {
    let neutral = prompt.dialect.wire().neutral();
    prompt.fields.iter().map(|(k, v)| (k.as_str(), v)).filter(|(k, _)| !neutral.contains(k))
}

/// The key of the exact cache: everything that changes the answer. The requested model stands in the scope's
/// target, as the script decided it.
pub fn exact(prompt: &Prompt, scope: &Scope<'_>) -> Key {
    let mut text = String::with_capacity(1024);
    canon::object(telling(prompt), &mut text);
    digest("exact", prompt, scope, &text)
}

/// The partition of the semantic cache: everything that changes the answer except the text of the last user message.
pub fn partition(prompt: &Prompt, scope: &Scope<'_>) -> Key {
    let conversation = prompt.dialect.wire().conversation();
    let blank = match (prompt.conversation(), prompt.messages().split_last()) {
        (_, Some((last, earlier))) => {
            let mut all: Vec<Value> = earlier.to_vec();
            all.push(without_text(last));
            Value::Array(all)
        }
        (Some(Value::String(_)), None) => Value::from(""),
        _ => Value::Null,
    };
    let fields = telling(prompt).map(|(k, v)| (k, if k == conversation { &blank } else { v }));
    let mut text = String::with_capacity(1024);
    canon::object(fields, &mut text);
    digest("semantic", prompt, scope, &text)
}

/// The message with its text emptied; parts that are not text stay, in their places.
fn without_text(message: &Value) -> Value {
    let Value::Object(fields) = message else { return message.clone() };
    let mut out: Map<String, Value> = fields.clone();
    // Gemini's contents have parts in the place of a content.
    let content = if out.contains_key("parts") { "parts" } else { "content" };
    match out.get_mut(content) {
        Some(Value::String(s)) => s.clear(),
        Some(Value::Array(parts)) => {
            for part in parts.iter_mut().filter(|p| part_text(p).is_some()) {
                if let Some(text) = part.get_mut("text") {
                    *text = Value::from("");
                }
            }
        }
        _ => {}
    }
    Value::Object(out)
}

/// The operation stands for the client's dialect: what is stored is an answer in that dialect, so it may be served to
/// clients of that dialect only. Equal questions of two dialects are different requests anyway (one must set
/// `max_tokens`, the other rarely does).
fn digest(kind: &str, prompt: &Prompt, scope: &Scope<'_>, text: &str) -> Key {
    let operation = prompt.operation.as_str();
    let [kind, operation, text] = [kind, operation, text].map(str::as_bytes);
    let [tenant, route, policy, target] = [scope.tenant, scope.route, scope.policy, scope.target].map(str::as_bytes);
    sha256_parts([b"2".as_slice(), kind, operation, tenant, route, policy, target, scope.beta, text])
}
