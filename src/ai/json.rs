//! JSON as received: spans of top-level values, and splices that leave every other byte as it was.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::ops::Range;

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
