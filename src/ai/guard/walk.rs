//! The texts in a request or an answer of whichever dialect, and what kind of text each is.
//!
//! It goes by exclusion: what is not known to be structure (roles, ids, media) is text. A member that a dialect gains
//! tomorrow is guarded without being known.

use serde_json::Value;
use std::borrow::Cow;
use std::ops::Range;

/// Members that hold structure, not text.
const STRUCTURE: [&str; 38] = [
    "model",
    "role",
    "type",
    "id",
    "object",
    "tool_call_id",
    "tool_use_id",
    "call_id",
    "item_id",
    "response_id",
    "previous_response_id",
    "message_id",
    "finish_reason",
    "stop_reason",
    "finishReason",
    "status",
    "signature",
    "thoughtSignature",
    "thought_signature",
    "encrypted_content",
    "file_id",
    "fileUri",
    "file_uri",
    "mimeType",
    "media_type",
    "mime_type",
    "format",
    "detail",
    "service_tier",
    "system_fingerprint",
    "modelVersion",
    "responseId",
    "event",
    "effort",
    "reasoning_effort",
    "verbosity",
    "truncation",
    "obfuscation",
];
/// Members whose text is JSON once more.
const JSON: [&str; 2] = ["arguments", "partial_json"];
/// Members in which files travel.
const FILES: [&str; 5] = ["data", "b64_json", "file_data", "image_url", "url"];
/// Objects whose members are all a user's or a tool's own.
const FREE: [&str; 5] = ["args", "arguments", "input", "metadata", "partial_args"];
/// Objects of which only descriptions are text: schemas and settings.
const TERSE: [&str; 11] = [
    "tools",
    "functions",
    "response_format",
    "output_format",
    "output_config",
    "generationConfig",
    "generation_config",
    "tool_choice",
    "toolConfig",
    "tool_config",
    "safetySettings",
];
/// Digits of a bare number that may be somebody's.
const NUMBER_DIGITS_MIN: usize = 12;
/// Characters from which text of base64's alphabet is a file.
const BASE64_CHARS_MIN: usize = 64;

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Text.
    Text,
    /// JSON written as text.
    Json,
    /// The name of a member of somebody's own object.
    Name,
    /// A bare number in such an object.
    Number,
}

/// A text with its place in the document, the quotes included.
#[derive(Debug)]
pub struct Piece<'a> {
    /// The literal's place.
    pub span: Range<usize>,
    /// What it says.
    pub text: Cow<'a, str>,
    /// What it is.
    pub what: What,
}

/// Where in a document a value stands.
#[derive(Clone, Copy, Default)]
struct Place {
    free: bool,
    terse: bool,
    /// Within a function's response, whose `response` is free.
    response: bool,
    /// Among the items of a list; the member's name is the list's.
    listed: bool,
}

impl Place {
    /// Inside the object or list that the member `key` of this place holds.
    fn inside(self, key: &str, list: bool) -> Place {
        let own = !list && !self.listed;
        let free = self.free || (own && (FREE.contains(&key) || (self.response && key == "response")));
        let terse = self.terse || TERSE.contains(&key) || (own && key == "text");
        let response = matches!(key, "functionResponse" | "function_response");
        Place { free, terse: terse && !free, response, listed: list }
    }

    /// What the string member `key` of this place is; `None` for structure.
    fn text(self, key: &str, text: &str) -> Option<What> {
        match () {
            () if self.free => Some(What::Text),
            () if self.terse => (key == "description").then_some(What::Text),
            () if STRUCTURE.contains(&key) => None,
            () if JSON.contains(&key) => Some(What::Json),
            () if FILES.contains(&key) && is_file(text) => None,
            () => Some(What::Text),
        }
    }
}

/// A data URL, or so much base64 that it can be nothing else.
fn is_file(text: &str) -> bool {
    let encoded = |b: u8| b.is_ascii_alphanumeric() || b"+/=-_\\".contains(&b);
    let head = text.get(..128).unwrap_or(text);
    (text.starts_with("data:") && head.contains(";base64,"))
        || (text.len() >= BASE64_CHARS_MIN && text.bytes().all(encoded))
}

struct Level<'a> {
    place: Place,
    list: bool,
    key: Cow<'a, str>,
    wants_key: bool,
}

/// Every text of a document. `None` when it is no JSON document that this can read; callers then refuse it.
pub fn pieces(body: &str) -> Option<Vec<Piece<'_>>> {
    let bytes = body.as_bytes();
    let (mut out, mut levels): (Vec<Piece<'_>>, Vec<Level<'_>>) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(b) = bytes.get(at) {
        let start = at;
        at += 1;
        match b {
            b'{' | b'[' => {
                let list = *b == b'[';
                let level = match levels.last() {
                    Some(up) => {
                        let key = if list { up.key.clone() } else { Cow::Borrowed("") };
                        Level { place: up.place.inside(&up.key, list), list, key, wants_key: !list }
                    }
                    None => Level { place: Place::default(), list, key: Cow::Borrowed(""), wants_key: !list },
                };
                levels.push(level);
            }
            b'}' | b']' => drop(levels.pop()?),
            b',' => {
                let top = levels.last_mut()?;
                top.wants_key = !top.list;
            }
            b':' => levels.last_mut()?.wants_key = false,
            b'"' => {
                at = string_end(bytes, at)?;
                let text: Cow<'_, str> = read(body.get(start..at)?)?;
                let Some(top) = levels.last_mut() else { continue };
                let what = if top.wants_key {
                    top.key = text.clone();
                    top.place.free.then_some(What::Name)
                } else {
                    top.place.text(&top.key, &text)
                };
                out.extend(what.map(|what| Piece { span: start..at, text, what }));
            }
            b'-' | b'0'..=b'9' => {
                let more = |b: &&u8| b.is_ascii_alphanumeric() || b"+-.".contains(*b);
                at += bytes.get(at..)?.iter().take_while(more).count();
                let text = body.get(start..at)?;
                let free = levels.last().is_some_and(|l| l.place.free);
                if free && text.len() >= NUMBER_DIGITS_MIN {
                    out.push(Piece { span: start..at, text: text.into(), what: What::Number });
                }
            }
            _ => {}
        }
    }
    levels.is_empty().then_some(out)
}

fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn read(literal: &str) -> Option<Cow<'_, str>> {
    match literal.contains('\\') {
        true => serde_json::from_str::<String>(literal).ok().map(Cow::Owned),
        false => literal.get(1..literal.len().checked_sub(1)?).map(Cow::Borrowed),
    }
}

/// Shows every text of a value to `change`, which may give another; bare numbers and names only as long as they are
/// looked at. Stops at the first error.
pub fn each<E>(json: &mut Value, change: &mut impl FnMut(What, &str) -> Result<Option<String>, E>) -> Result<(), E> {
    visit(json, Place::default(), "", change)
}

fn visit<E>(
    json: &mut Value,
    place: Place,
    key: &str,
    change: &mut impl FnMut(What, &str) -> Result<Option<String>, E>,
) -> Result<(), E> {
    match json {
        Value::String(text) => {
            if let Some(what) = place.text(key, text)
                && let Some(new) = change(what, text)?
            {
                *text = new;
            }
        }
        Value::Number(n) if place.free => {
            let text = n.to_string();
            if text.len() >= NUMBER_DIGITS_MIN
                && let Some(new) = change(What::Number, &text)?
            {
                *json = Value::String(new);
            }
        }
        Value::Array(all) => {
            let inside = place.inside(key, true);
            for item in all {
                visit(item, inside, key, change)?;
            }
        }
        Value::Object(fields) => {
            let inside = place.inside(key, false);
            if inside.free && !fields.is_empty() {
                let named = std::mem::take(fields);
                for (name, mut value) in named {
                    let new = change(What::Name, &name)?;
                    visit(&mut value, inside, &name, change)?;
                    fields.insert(new.unwrap_or(name), value);
                }
            } else {
                for (name, value) in fields.iter_mut() {
                    visit(value, inside, name, change)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(body: &str) -> Vec<(String, What)> {
        pieces(body).unwrap().into_iter().map(|p| (p.text.into_owned(), p.what)).collect()
    }

    #[test]
    fn texts_of_every_dialect_are_seen_and_structure_is_not() {
        let file = "A".repeat(80);
        let docs = [
            json!({ "model": "gpt", "messages": [
                { "role": "system", "content": "t1" },
                { "role": "user", "content": [{ "type": "text", "text": "t2" },
                    { "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{file}") } }] },
                { "role": "assistant", "tool_calls": [{ "id": "c1", "type": "function",
                    "function": { "name": "t3", "arguments": "j1" } }] },
                { "role": "tool", "tool_call_id": "c1", "content": "t4" },
            ], "tools": [{ "type": "function", "function": { "name": "f", "description": "t5",
                "parameters": { "type": "object", "properties": { "a": { "enum": ["x"], "description": "t6" } } } } }] }),
            json!({ "system": [{ "type": "text", "text": "t1" }], "messages": [{ "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "u", "content": "t2" },
                { "type": "tool_use", "id": "u", "name": "t3", "input": { "id": "t4", "deep": [{ "role": "t5" }] } },
                { "type": "document", "source": { "type": "text", "media_type": "text/plain", "data": "t6" } },
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": file } }] }],
                "metadata": { "user_id": "t7" } }),
            json!({ "input": [{ "role": "user", "content": [{ "type": "input_text", "text": "t1" }] },
                { "type": "function_call", "call_id": "c", "name": "t2", "arguments": "j1" },
                { "type": "function_call_output", "call_id": "c", "output": "t3" }], "instructions": "t4",
                "text": { "format": { "type": "json_schema", "name": "n" } } }),
            json!({ "contents": [{ "role": "user", "parts": [{ "text": "t1" },
                { "functionCall": { "name": "t2", "args": { "x": "t3" } } },
                { "functionResponse": { "name": "t4", "response": { "status": "t5" } } },
                { "inlineData": { "mimeType": "image/png", "data": file } }] }],
                "systemInstruction": { "parts": [{ "text": "t6" }] } }),
        ];
        for doc in docs {
            let body = doc.to_string();
            let found = texts(&body);
            let plain: Vec<&str> = found.iter().filter(|(_, w)| *w == What::Text).map(|(t, _)| t.as_str()).collect();
            let wanted: Vec<String> = (1..=plain.len()).map(|n| format!("t{n}")).collect();
            assert_eq!(plain, wanted, "{body}");
            let mut walked = Vec::new();
            let mut copy = doc.clone();
            let keep = each::<()>(&mut copy, &mut |w, t| {
                walked.push((t.to_owned(), w));
                Ok(None)
            });
            assert_eq!((keep, &copy), (Ok(()), &doc));
            assert_eq!(walked, found, "both walks see the same");
        }
    }

    #[test]
    fn names_and_numbers_of_own_objects_are_seen() {
        let body = r#"{"input":{"a\"b":4111111111111111,"n":12},"seed":4111111111111111}"#;
        let found = texts(body);
        let name = |t: &str| (t.to_owned(), What::Name);
        assert_eq!(found, [name("a\"b"), ("4111111111111111".to_owned(), What::Number), name("n")]);
    }

    #[test]
    fn spans_are_the_literals() {
        let body = "{ \"content\" : \"gr\\u00fcn\\\" \" }";
        let all = pieces(body).unwrap();
        assert_eq!((all[0].text.as_ref(), &body[all[0].span.clone()]), ("grün\" ", "\"gr\\u00fcn\\\" \""));
        for broken in ["{\"a\"", "{\"a\":\"b", "}", "[", "{\"a\":\"\\q\"}"] {
            assert!(pieces(broken).is_none(), "{broken}");
        }
    }
}
