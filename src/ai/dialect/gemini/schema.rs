//! Google's schemas, a subset of OpenAPI's, as JSON schemas: types in lower case, `nullable` as a type of its own.

use super::super::chat::Fields;
use super::members::{count, either};
use serde_json::{Value, json};

/// Schemas within schemas; what lies deeper says nothing.
const DEPTH_MAX: usize = 64;
/// Members that JSON schemas have under the same name, beside those that are treated below.
const SAME: [&str; 10] =
    ["title", "description", "format", "enum", "default", "pattern", "minimum", "maximum", "required", "example"];
/// Bounds, which may come as text because they are 64-bit numbers.
const BOUNDS: [&str; 6] = ["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"];

/// The JSON schema. The order of properties, which JSON schemas do not have, becomes the order in which they stand.
pub fn json_schema(schema: &Value) -> Value {
    convert(schema, DEPTH_MAX)
}

fn convert(schema: &Value, depth: usize) -> Value {
    let (Some(s), Some(depth)) = (schema.as_object(), depth.checked_sub(1)) else { return json!({}) };
    let mut s = s.clone();
    let mut out = Fields::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
    };
    let nullable = either(&mut s, "nullable") == Some(Value::Bool(true));
    set("type", either(&mut s, "type").and_then(|t| kind(&t, nullable)));
    let order = either(&mut s, "propertyOrdering");
    for name in SAME {
        // JSON schemas have a list of examples.
        let name_there = if name == "example" { "examples" } else { name };
        let value = either(&mut s, name).map(|v| match (name, v) {
            ("example", v) => json!([v]),
            ("enum", Value::Array(mut all)) if nullable && !all.contains(&Value::Null) => {
                all.push(Value::Null);
                all.into()
            }
            (_, v) => v,
        });
        set(name_there, value);
    }
    for name in BOUNDS {
        set(name, either(&mut s, name).as_ref().and_then(count).map(Value::from));
    }
    set("items", either(&mut s, "items").map(|i| convert(&i, depth)));
    let properties = either(&mut s, "properties");
    set("properties", properties.as_ref().and_then(Value::as_object).map(|p| ordered(p, order.as_ref(), depth)));
    set("anyOf", any_of(either(&mut s, "anyOf"), nullable, depth));
    let more = either(&mut s, "additionalProperties");
    set("additionalProperties", more.map(|m| if m.is_object() { convert(&m, depth) } else { m }));
    let defs = either(&mut s, "defs").or_else(|| s.shift_remove("$defs"));
    set("$defs", defs.as_ref().and_then(Value::as_object).map(|d| ordered(d, None, depth)));
    set("$ref", either(&mut s, "ref").or_else(|| s.shift_remove("$ref")));
    // What is left is a JSON schema's already.
    out.extend(s.into_iter().filter(|(_, v)| !v.is_null()));
    Value::Object(out)
}

/// The type in lower case, with `null` beside it where that is a value, too.
fn kind(told: &Value, nullable: bool) -> Option<Value> {
    let Some(name) = told.as_str() else { return Some(told.clone()) };
    let name = name.to_ascii_lowercase();
    match (name.as_str(), nullable) {
        ("type_unspecified" | "", _) => None,
        (_, true) => Some(json!([name, "null"])),
        (_, false) => Some(name.into()),
    }
}

fn any_of(told: Option<Value>, nullable: bool, depth: usize) -> Option<Value> {
    let Some(Value::Array(all)) = told else { return None };
    let mut out: Vec<Value> = all.iter().map(|s| convert(s, depth)).collect();
    let null = json!({ "type": "null" });
    if nullable && !out.contains(&null) {
        out.push(null);
    }
    Some(out.into())
}

fn ordered(properties: &Fields, order: Option<&Value>, depth: usize) -> Value {
    let mut out = Fields::new();
    let named = order.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for name in named.chain(properties.keys().map(String::as_str)) {
        if let Some(schema) = properties.get(name).filter(|_| !out.contains_key(name)) {
            out.insert(name.to_owned(), convert(schema, depth));
        }
    }
    Value::Object(out)
}
