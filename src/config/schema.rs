//! The JSON Schema of the configuration, and a walk of a document along it that reports every unknown key and every
//! value of the wrong kind at once (serde alone stops at the first).

use super::Config;
use super::error::{Fault, did_you_mean};
use super::positions::join;
use serde_json::Value as Json;
use serde_yaml::Value as Yaml;

/// The schema of the whole configuration.
pub fn json_schema() -> Json {
    let mut schema = schemars::schema_for!(Config).to_value();
    if let Some(o) = schema.as_object_mut() {
        o.insert("title".to_owned(), Json::from("Sluicegate configuration"));
    }
    schema
}

/// Every fault that the schema can see in `doc`.
pub fn walk(schema: &Json, doc: &Yaml) -> Vec<Fault> {
    let mut faults = Vec::new();
    Walk { root: schema, depth: 0 }.node(schema, doc, "", &mut faults);
    faults
}

struct Walk<'a> {
    root: &'a Json,
    depth: usize,
}

/// Deeper documents than this are no configuration of ours.
const DEPTH_MAX: usize = 32;

impl Walk<'_> {
    fn resolve<'s>(&'s self, mut schema: &'s Json) -> &'s Json {
        while let Some(name) = schema.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix("#/$defs/")) {
            match self.root.get("$defs").and_then(|d| d.get(name)) {
                Some(s) => schema = s,
                None => break,
            }
        }
        schema
    }

    fn node(&self, schema: &Json, doc: &Yaml, path: &str, faults: &mut Vec<Fault>) {
        let schema = self.resolve(schema);
        if self.depth > DEPTH_MAX {
            faults.push(Fault::at(path, "nested too deeply"));
            return;
        }
        if let Some(any) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
            return self.union(any, doc, path, faults);
        }
        if let Some(message) = kind_fault(schema, doc) {
            faults.push(Fault::at(path, message));
            return;
        }
        if let Some(list) = schema.get("enum").and_then(Json::as_array) {
            enum_fault(list, doc, path, faults);
        }
        match doc {
            Yaml::Mapping(m) => self.mapping(schema, m, path, faults),
            Yaml::Sequence(items) => {
                if let Some(item) = schema.get("items") {
                    for (i, d) in items.iter().enumerate() {
                        self.deeper().node(item, d, &format!("{path}[{i}]"), faults);
                    }
                }
            }
            _ => {}
        }
    }

    fn deeper(&self) -> Walk<'_> {
        Walk { root: self.root, depth: self.depth + 1 }
    }

    /// Of several forms, judges by the one that takes this kind of value; the one with the fewest faults speaks.
    fn union(&self, forms: &[Json], doc: &Yaml, path: &str, faults: &mut Vec<Fault>) {
        // Words with a description each stand as forms of one constant.
        let words: Vec<Json> = forms.iter().filter_map(|f| f.get("const").cloned()).collect();
        if words.len() == forms.len() && doc.is_string() {
            return enum_fault(&words, doc, path, faults);
        }
        let fitting: Vec<&Json> =
            forms.iter().map(|f| self.resolve(f)).filter(|f| kind_fault(f, doc).is_none()).collect();
        if fitting.is_empty() {
            let kinds: Vec<String> = forms.iter().filter_map(|f| kinds_of(self.resolve(f))).collect();
            faults.push(Fault::at(path, format!("expected {}, found {}", kinds.join(" or "), kind_of(doc))));
            return;
        }
        let best = fitting
            .into_iter()
            .map(|f| {
                let mut found = Vec::new();
                self.deeper().node(f, doc, path, &mut found);
                found
            })
            .min_by_key(Vec::len);
        faults.extend(best.unwrap_or_default());
    }

    fn mapping(&self, schema: &Json, doc: &serde_yaml::Mapping, path: &str, faults: &mut Vec<Fault>) {
        let known = schema.get("properties").and_then(Json::as_object);
        let patterns = schema.get("patternProperties").and_then(Json::as_object);
        let extra = schema.get("additionalProperties");
        for (k, v) in doc {
            let Some(key) = k.as_str() else {
                faults.push(Fault::at(path, format!("keys are texts; quote {}", scalar(k))));
                continue;
            };
            let here = join(path, key);
            match (known.and_then(|p| p.get(key)).or_else(|| by_pattern(patterns?, key)), extra) {
                (Some(s), _) => self.deeper().node(s, v, &here, faults),
                (None, Some(Json::Bool(false))) => {
                    let names = || known.into_iter().flat_map(|p| p.keys().map(String::as_str));
                    let hint = match did_you_mean(key, names()) {
                        Some(n) => format!("; did you mean {n:?}?"),
                        None => format!("; there is {}", names().collect::<Vec<_>>().join(", ")),
                    };
                    faults.push(Fault::at(here, format!("unknown key{hint}")));
                }
                (None, Some(s)) if s.is_object() => self.deeper().node(s, v, &here, faults),
                _ => {}
            }
        }
        for name in schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
            if !doc.contains_key(name) {
                faults.push(Fault::at(path, format!("{name:?} is missing")));
            }
        }
    }
}

/// The schema of the first pattern that fits `key`. Patterns are ours, few, and used only while a file is read.
fn by_pattern<'s>(patterns: &'s serde_json::Map<String, Json>, key: &str) -> Option<&'s Json> {
    let fits = |pattern: &str| regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(key));
    patterns.iter().find(|(pattern, _)| fits(pattern)).map(|(_, schema)| schema)
}

fn kind_of(doc: &Yaml) -> &'static str {
    match doc {
        Yaml::Null => "nothing",
        Yaml::Bool(_) => "true or false",
        Yaml::Number(_) => "a number",
        Yaml::String(_) => "a text",
        Yaml::Sequence(_) => "a list",
        Yaml::Mapping(_) => "a map",
        Yaml::Tagged(_) => "a tagged value",
    }
}

fn type_fits(name: &str, doc: &Yaml) -> bool {
    match name {
        "null" => doc.is_null(),
        "boolean" => doc.is_bool(),
        "integer" => doc.is_i64() || doc.is_u64(),
        "number" => doc.is_number(),
        "string" => doc.is_string(),
        "array" => doc.is_sequence(),
        // A key with nothing behind it (`server:`) reads as an empty map.
        "object" => doc.is_mapping(),
        _ => true,
    }
}

fn type_names(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(s)) => vec![s.as_str()],
        Some(Json::Array(a)) => a.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

fn kinds_of(schema: &Json) -> Option<String> {
    if schema.get("pattern").is_some() {
        return schema.get("description").and_then(Json::as_str).map(str::to_owned);
    }
    let names: Vec<&str> = type_names(schema)
        .into_iter()
        .filter(|n| *n != "null")
        .map(|n| match n {
            "boolean" => "true or false",
            "integer" => "a whole number",
            "number" => "a number",
            "string" => "a text",
            "array" => "a list",
            "object" => "a map",
            other => other,
        })
        .collect();
    if names.is_empty() { None } else { Some(names.join(" or ")) }
}

fn kind_fault(schema: &Json, doc: &Yaml) -> Option<String> {
    let names = type_names(schema);
    if names.is_empty() || names.iter().any(|n| type_fits(n, doc)) {
        return None;
    }
    Some(format!("expected {}, found {}", kinds_of(schema).unwrap_or_default(), kind_of(doc)))
}

fn scalar(doc: &Yaml) -> String {
    match doc {
        Yaml::String(s) => format!("{s:?}"),
        Yaml::Bool(b) => b.to_string(),
        Yaml::Number(n) => n.to_string(),
        other => kind_of(other).to_owned(),
    }
}

fn enum_fault(list: &[Json], doc: &Yaml, path: &str, faults: &mut Vec<Fault>) {
    let names: Vec<&str> = list.iter().filter_map(Json::as_str).collect();
    if let Some(word) = doc.as_str()
        && !names.contains(&word)
    {
        let hint = did_you_mean(word, names.iter().copied())
            .map_or_else(|| format!("one of {}", names.join(", ")), |n| format!("did you mean {n:?}?"));
        faults.push(Fault::at(path, format!("{word:?} is not known here; {hint}")));
    }
}
