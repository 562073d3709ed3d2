//! JSON as received: strict reading (no duplicate keys), spans of top-level values, and splices that leave every
//! other byte as it was.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use std::fmt;
use std::ops::Range;

/// A JSON value in which no object repeats a key. Parsers disagree on which of two equal keys counts, so a request
/// with such a pair could mean one thing here and another at the provider. Nesting is limited by serde_json to 128.
pub struct Strict(pub Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Number::from_f64(v).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(v)) = seq.next_element()? {
            all.push(v);
        }
        Ok(Value::Array(all))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if all.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {key:?} is given twice")));
            }
            let Strict(v) = map.next_value()?;
            all.insert(key, v);
        }
        Ok(Value::Object(all))
    }
}

/// The members of a JSON object with the place of each value in the text.
pub fn members(object: &str) -> Result<Vec<(String, Range<usize>)>, serde_json::Error> {
    let Members(all) = serde_json::from_str(object)?;
    // A borrowed RawValue points into the text it was read from, so its place is a difference of addresses.
    let base = object.as_ptr() as usize;
    let place = |raw: &RawValue| {
        let start = (raw.get().as_ptr() as usize).saturating_sub(base);
        start..start + raw.get().len()
    };
    Ok(all.into_iter().map(|(key, raw)| (key, place(raw))).collect())
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(all)
            }
        }
        d.deserialize_map(V).map(Members)
    }
}

/// One replacement: the bytes in `span` give way to `text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What is replaced; empty to insert.
    pub span: Range<usize>,
    /// What stands there afterwards.
    pub text: String,
}

/// The text with every edit applied. Edits must not overlap; one that lies outside the text is left out.
pub fn splice(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|e| e.span.start);
    let mut out = String::with_capacity(text.len() + edits.iter().map(|e| e.text.len()).sum::<usize>());
    let mut at = 0;
    for e in edits {
        let Some(kept) = text.get(at..e.span.start) else { continue };
        out.push_str(kept);
        out.push_str(&e.text);
        at = e.span.end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

/// The edit that makes a streaming request ask for usage: sets `stream_options.include_usage` to true.
/// `options` is the place of the request's `stream_options` value, if it has one.
pub fn ask_for_usage(body: &str, options: Option<&Range<usize>>) -> Option<Edit> {
    const MEMBER: &str = "\"include_usage\":true";
    let Some(place) = options else {
        let open = body.find('{')? + 1;
        return Some(Edit { span: open..open, text: format!("\"stream_options\":{{{MEMBER}}},") });
    };
    let value = body.get(place.clone())?;
    let Ok(inner) = members(value) else {
        return Some(Edit { span: place.clone(), text: format!("{{{MEMBER}}}") });
    };
    if let Some((_, span)) = inner.iter().find(|(key, _)| key == "include_usage") {
        let span = place.start + span.start..place.start + span.end;
        return Some(Edit { span, text: "true".to_owned() });
    }
    let open = place.start + 1;
    let comma = if inner.is_empty() { "" } else { "," };
    Some(Edit { span: open..open, text: format!("{MEMBER}{comma}") })
}
