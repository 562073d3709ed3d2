//! JSON as received: spans of top-level values, and splices that leave every other byte as it was.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::ops::Range;

/// The members of a JSON object with the place of each value in the text.
pub fn members(object: &str) -> Result<Vec<(String, Range<usize>)>, serde_json::Error> {
    let Members(all) = serde_json::from_str(object)?;
    Ok(all.into_iter().map(|(key, raw)| (key, place(object, raw))).collect())
}

/// A member of a JSON object with the places of its name and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, its escapes decoded.
    pub name: String,
    /// The name's place, the quotes included.
    pub key: Range<usize>,
    /// The value's place.
    pub value: Range<usize>,
}

/// The members of a JSON object with the place of each name and value in the text.
pub fn spelt(object: &str) -> Result<Vec<Member>, serde_json::Error> {
    let mut out: Vec<Member> = Vec::new();
    for (name, value) in members(object)? {
        // Between the end of the member before and this value stand a comma or brace, the name and a colon.
        let from = out.last().map_or(0, |m| m.value.end);
        let between = object.get(from..value.start).unwrap_or_default();
        let (start, end) = (between.find('"').unwrap_or_default(), between.rfind('"').unwrap_or_default());
        out.push(Member { name, key: from + start..from + end + 1, value });
    }
    Ok(out)
}

/// The edits that take members out of an object, with the commas that belong to them.
pub fn without(members: &[Member], names: &[&str]) -> Vec<Edit> {
    let goes = |m: &Member| names.contains(&m.name.as_str());
    let mut out = Vec::new();
    let mut kept: Option<&Member> = None;
    let mut rest = members.iter().peekable();
    while let Some(m) = rest.next() {
        if !goes(m) {
            kept = Some(m);
            continue;
        }
        let mut last = m;
        while let Some(next) = rest.next_if(|n| goes(n)) {
            last = next;
        }
        let span = match (rest.peek(), kept) {
            (Some(next), _) => m.key.start..next.key.start,
            (None, Some(before)) => before.value.end..last.value.end,
            (None, None) => m.key.start..last.value.end,
        };
        out.push(Edit { span, text: String::new() });
    }
    out
}

/// The places of a JSON list's elements in the text.
pub fn elements(list: &str) -> Result<Vec<Range<usize>>, serde_json::Error> {
    let all: Vec<&RawValue> = serde_json::from_str(list)?;
    Ok(all.into_iter().map(|raw| place(list, raw)).collect())
}

/// Where a part of the text stands: a borrowed RawValue points into the text it was read from, so its place is a
/// difference of addresses.
fn place(text: &str, raw: &RawValue) -> Range<usize> {
    let start = (raw.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    start..start + raw.get().len()
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
