//! Members in either of the two spellings that Google's servers take: `maxOutputTokens` and `max_output_tokens`.

use super::super::chat::Fields;
use serde_json::Value;

/// The name in snake_case.
fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// A member, looked at; `name` is in camelCase.
pub fn get<'a>(fields: &'a Fields, name: &str) -> Option<&'a Value> {
    fields.get(name).or_else(|| fields.get(&snake(name))).filter(|v| !v.is_null())
}

/// The same of any JSON.
pub fn get_in<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.as_object().and_then(|fields| get(fields, name))
}

/// A member, taken out in both spellings; `null` counts as absent.
pub fn either(fields: &mut Fields, name: &str) -> Option<Value> {
    let camel = fields.shift_remove(name).filter(|v| !v.is_null());
    let other = fields.shift_remove(&snake(name)).filter(|v| !v.is_null());
    camel.or(other)
}

/// A string, taken out.
pub fn either_text(fields: &mut Fields, name: &str) -> Option<String> {
    match either(fields, name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// An object, taken out.
pub fn either_object(fields: &mut Fields, name: &str) -> Option<Fields> {
    match either(fields, name) {
        Some(Value::Object(members)) => Some(members),
        _ => None,
    }
}

/// A list, taken out; one that is absent is empty.
pub fn either_list(fields: &mut Fields, name: &str) -> Vec<Value> {
    match either(fields, name) {
        Some(Value::Array(all)) => all,
        _ => Vec::new(),
    }
}

/// A whole number that is not negative; SDKs send some of them as `40.0`, and 64-bit ones may come as text.
pub fn count(value: &Value) -> Option<u64> {
    let text = || value.as_str().and_then(|t| t.parse().ok());
    let whole =
        || value.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0).and_then(|n| format!("{n:.0}").parse().ok());
    value.as_u64().or_else(whole).or_else(text)
}
