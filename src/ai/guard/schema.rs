//! The check of JSON answers against the schema that was asked for.
//!
//! A client's schema is compiled when its request comes, because it is known no earlier: it is bounded in size and depth,
//! its patterns run in linear time, references leave the document for nowhere, and what is compiled is kept by digest.

use crate::base::ids::sha256_parts;
use jsonschema::{PatternOptions, Validator};
use moka::sync::Cache;
use serde_json::{Map, Value};
use std::sync::Arc;

/// The largest schema that is compiled.
const SCHEMA_BYTES_MAX: usize = 64 << 10;
/// Compiled schemas that are kept.
const KEPT_MAX: u64 = 256;
/// Bytes that one compiled pattern of a schema may take.
const REGEX_BYTES_MAX: usize = 256 << 10;

/// Compiled schemas by digest. Cheap to clone.
#[derive(Clone)]
pub struct Schemas {
    kept: Cache<[u8; 32], Arc<Schema>>,
}

/// A compiled schema.
pub struct Schema {
    validator: Validator,
}

impl Default for Schemas {
    fn default() -> Self {
        Schemas { kept: Cache::new(KEPT_MAX) }
    }
}

impl Schemas {
    /// The compiled form; the error says why there is none, and quotes nothing of the schema.
    pub fn compiled(&self, schema: &Value) -> Result<Arc<Schema>, &'static str> {
        let text = schema.to_string();
        if text.len() > SCHEMA_BYTES_MAX {
            return Err("the JSON schema is larger than 64 KiB");
        }
        let digest = sha256_parts([text.as_bytes()]);
        if let Some(known) = self.kept.get(&digest) {
            return Ok(known);
        }
        let made = Arc::new(Schema::compile(schema)?);
        self.kept.insert(digest, Arc::clone(&made));
        Ok(made)
    }
}

impl Schema {
    fn compile(schema: &Value) -> Result<Schema, &'static str> {
        let linear = PatternOptions::regex().size_limit(REGEX_BYTES_MAX);
        let built = jsonschema::options().with_pattern_options(linear).build(schema);
        built.map(|validator| Schema { validator }).map_err(|_| "the JSON schema cannot be used for checking answers")
    }

    /// Whether an answer keeps to the schema: every text it gives is JSON of this schema. An answer that says nothing
    /// (a refusal, a call of tools) is not looked at.
    pub fn holds(&self, answer: &Value) -> bool {
        texts(answer).iter().all(|text| {
            let json: Option<Value> = serde_json::from_str(text).ok();
            json.is_some_and(|json| self.validator.is_valid(&json))
        })
    }
}

/// The schema that a request brings, in whichever dialect.
pub fn asked(fields: &Map<String, Value>) -> Option<Value> {
    let at = |path: &[&str]| {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(fields.get(*first)?, |v, name| v.get(*name)).filter(|v| v.is_object()).cloned()
    };
    at(&["response_format", "json_schema", "schema"])
        .or_else(|| at(&["text", "format", "schema"]))
        .or_else(|| at(&["output_config", "format", "schema"]))
        .or_else(|| at(&["output_format", "schema"]))
        .or_else(|| at(&["generationConfig", "responseJsonSchema"]))
        .or_else(|| at(&["generationConfig", "responseSchema"]).map(from_openapi))
}

/// Gemini's own schemas are OpenAPI's: types in capitals, and `nullable`.
fn from_openapi(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(fields) => {
            let nullable = fields.shift_remove("nullable") == Some(Value::Bool(true));
            for (name, value) in fields.iter_mut() {
                match value {
                    Value::String(kind) if name == "type" => {
                        let kind = kind.to_lowercase();
                        *value = if nullable { serde_json::json!([kind, "null"]) } else { kind.into() };
                    }
                    _ => *value = from_openapi(value.take()),
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|v| *v = from_openapi(v.take())),
        _ => {}
    }
    schema
}

/// The complete texts of an answer, in whichever dialect.
fn texts(answer: &Value) -> Vec<String> {
    let list = |v: &Value, name: &str| v.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let joined = |parts: &[Value], is_text: &dyn Fn(&Value) -> bool| -> String {
        parts.iter().filter(|p| is_text(p)).filter_map(|p| p.get("text").and_then(Value::as_str)).collect()
    };
    let typed = |kind: &'static str| move |p: &Value| p.get("type").and_then(Value::as_str) == Some(kind);
    let of_choice = |c: &Value| c.pointer("/message/content").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut all: Vec<String> = list(answer, "choices").iter().map(of_choice).collect();
    all.push(joined(&list(answer, "content"), &typed("text")));
    for item in list(answer, "output") {
        all.push(joined(&list(&item, "content"), &typed("output_text")));
    }
    for candidate in list(answer, "candidates") {
        let parts = candidate.get("content").map(|c| list(c, "parts")).unwrap_or_default();
        all.push(joined(&parts, &|p| p.get("thought") != Some(&Value::Bool(true))));
    }
    all.retain(|t| !t.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" } } })
    }

    #[test]
    fn answers_of_every_dialect_are_checked() {
        let schemas = Schemas::default();
        let schema = schemas.compiled(&schema()).unwrap();
        for (text, holds) in [("{\"n\":1}", true), ("{\"n\":\"1\"}", false), ("{\"n\":", false), ("sorry", false)] {
            let answers = [
                json!({ "choices": [{ "message": { "content": text } }] }),
                json!({ "content": [{ "type": "thinking", "thinking": "hm" }, { "type": "text", "text": text }] }),
                json!({ "output": [{ "type": "message", "content": [{ "type": "output_text", "text": text }] }] }),
                json!({ "candidates": [{ "content": { "parts": [{ "text": "hm", "thought": true }, { "text": text }] } }] }),
            ];
            for answer in answers {
                assert_eq!(schema.holds(&answer), holds, "{answer}");
            }
        }
        let call = json!({ "choices": [{ "message": { "content": null, "tool_calls": [{}] } }] });
        assert!(schema.holds(&call), "a call of tools is no JSON answer");
    }

    #[test]
    fn the_schema_is_found_in_every_dialect() {
        let s = schema();
        let requests = [
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "x", "schema": s } } }),
            json!({ "text": { "format": { "type": "json_schema", "schema": s } } }),
            json!({ "output_config": { "format": { "type": "json_schema", "schema": s } } }),
            json!({ "generationConfig": { "responseJsonSchema": s } }),
            json!({ "generationConfig": { "responseSchema": { "type": "OBJECT", "required": ["n"],
                "properties": { "n": { "type": "INTEGER" } } } } }),
        ];
        for request in requests {
            assert_eq!(asked(request.as_object().unwrap()), Some(s.clone()), "{request}");
        }
        assert_eq!(asked(json!({ "response_format": { "type": "json_object" } }).as_object().unwrap()), None);
    }

    #[test]
    fn schemas_that_reach_outside_or_are_too_large_are_refused() {
        let schemas = Schemas::default();
        let large = json!({ "enum": ["x".repeat(SCHEMA_BYTES_MAX)] });
        let outside = json!({ "$ref": "http://127.0.0.1:9/schema.json" });
        let slow = json!({ "type": "string", "pattern": "(?=a)b" });
        for bad in [large, outside, slow, json!({ "type": 3 })] {
            assert!(schemas.compiled(&bad).is_err());
        }
        let (a, b) = (schemas.compiled(&schema()).unwrap(), schemas.compiled(&schema()).unwrap());
        assert!(Arc::ptr_eq(&a, &b), "compiled once");
    }
}
