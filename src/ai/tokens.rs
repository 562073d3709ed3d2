//! How many tokens a request has, before anybody has counted them. Pure, and no tokenizer: every provider has its own,
//! and the count is needed before it is known which of them answers.

use super::prompt::{Operation, Prompt};
use serde_json::Value;

/// Bytes of text to a token: what English prose has on average with the tokenizers of the large providers.
pub(super) const BYTES_PER_TOKEN: u64 = 4;
/// The same where the estimate must rather be too high: code, numbers and other scripts have fewer bytes to a token.
const BYTES_PER_TOKEN_LOW: u64 = 3;
/// What a role and its markers take.
const TOKENS_PER_MESSAGE: u64 = 4;
/// What an image takes at the size to which providers scale large ones.
const TOKENS_PER_IMAGE: u64 = 1600;
/// Tokens expected of an answer to a client that sets no limit.
const OUTPUT: u64 = 1024;
/// Depth of JSON that is looked into.
const DEPTH_MAX: usize = 16;
/// Members of a request that reach the model.
const READ: [&str; 9] = [
    "system",
    "messages",
    "tools",
    "input",
    "instructions",
    "prompt",
    "contents",
    "systemInstruction",
    "system_instruction",
];
/// Kinds of parts that are no text; what they hold is encoded bytes, or a link.
const MEDIA: [&str; 7] = ["image", "image_url", "input_image", "document", "file", "input_file", "input_audio"];

/// Members that make a part of Gemini's one of these.
const GEMINI_MEDIA: [&str; 4] = ["inlineData", "inline_data", "fileData", "file_data"];

/// An estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Input tokens, rather too many than too few.
    pub input: u64,
    /// The most output tokens that the client allows, of all answers it wants; `None` where it sets no limit.
    pub output: Option<u64>,
}

impl Estimate {
    /// Input and output together, for limits on tokens in a time; they are corrected by the real count.
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output.unwrap_or(OUTPUT))
    }
}

/// What weighs in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weight {
    bytes: u64,
    media: u64,
}

/// The likely number of input tokens, for clients that ask for a count.
pub fn likely(prompt: &Prompt) -> u64 {
    let w = weigh(prompt);
    tokens(w, prompt, BYTES_PER_TOKEN)
}

/// The estimate that budgets and limits reserve by.
pub fn reserve(prompt: &Prompt) -> Estimate {
    let facts = &prompt.facts;
    // Without images and files all of the body is text and a little JSON.
    let w = if facts.parts == 0 { Weight { bytes: count(prompt.body_bytes()), media: 0 } } else { weigh(prompt) };
    let input = tokens(w, prompt, BYTES_PER_TOKEN_LOW);
    let output = match prompt.operation {
        Operation::Embeddings => Some(0),
        _ => facts.max_tokens.map(|n| n.saturating_mul(facts.n.max(1))),
    };
    Estimate { input, output }
}

/// Tokens of so many bytes of an answer, rather too many than too few.
pub(super) fn of_text(bytes: usize) -> u64 {
    count(bytes) / BYTES_PER_TOKEN_LOW
}

fn tokens(w: Weight, prompt: &Prompt, bytes_per_token: u64) -> u64 {
    let messages = count(prompt.facts.messages);
    (w.bytes / bytes_per_token)
        .saturating_add(messages.saturating_mul(TOKENS_PER_MESSAGE))
        .saturating_add(w.media.saturating_mul(TOKENS_PER_IMAGE))
        .max(1)
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn weigh(prompt: &Prompt) -> Weight {
    let mut w = Weight::default();
    for name in READ {
        if let Some(value) = prompt.fields.get(name) {
            add(value, DEPTH_MAX, &mut w);
        }
    }
    w
}

fn add(value: &Value, depth: usize, w: &mut Weight) {
    let Some(depth) = depth.checked_sub(1) else { return };
    match value {
        Value::String(text) => w.bytes = w.bytes.saturating_add(count(text.len())),
        Value::Array(all) => all.iter().for_each(|v| add(v, depth, w)),
        Value::Object(all) if is_media(all) => w.media += 1,
        Value::Object(all) => {
            for (name, value) in all {
                w.bytes = w.bytes.saturating_add(count(name.len()));
                add(value, depth, w);
            }
        }
        _ => w.bytes = w.bytes.saturating_add(1),
    }
}

fn is_media(part: &serde_json::Map<String, Value>) -> bool {
    let kind = part.get("type").and_then(Value::as_str);
    kind.is_some_and(|k| MEDIA.contains(&k)) || GEMINI_MEDIA.iter().any(|name| part.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use super::super::prompt;
    use super::*;
    use serde_json::json;

    fn chat(body: &Value) -> Prompt {
        prompt::parse(Operation::Chat, body.to_string().into(), 1 << 20).unwrap()
    }

    #[test]
    fn a_reservation_is_no_less_than_the_likely_count() {
        for text in ["hi", "a longer question about nothing in particular", "中文字符也要计算", "{\"a\": [1, 2, 3]}"]
        {
            let p = chat(&json!({ "model": "m", "messages": [{ "role": "user", "content": text }] }));
            assert!(reserve(&p).input >= likely(&p), "{text}");
        }
    }

    #[test]
    fn an_image_counts_as_one_however_long_its_bytes_are() {
        let part = |url: String| json!([{ "type": "text", "text": "look" }, { "type": "image_url", "image_url": { "url": url } }]);
        let of = |n: usize| {
            let content = part(format!("data:image/png;base64,{}", "A".repeat(n)));
            reserve(&chat(&json!({ "model": "m", "messages": [{ "role": "user", "content": content }] }))).input
        };
        assert_eq!(of(10), of(100_000));
        assert!((1600..1700).contains(&of(10)));
    }

    #[test]
    fn output_is_what_the_client_allows_of_all_answers() {
        let with = |extra: Value| {
            let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "x" }] });
            body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            reserve(&chat(&body))
        };
        assert_eq!(with(json!({})).output, None);
        assert_eq!(with(json!({ "max_tokens": 10 })).output, Some(10));
        assert_eq!(with(json!({ "max_tokens": 10, "n": 3 })).output, Some(30));
        assert_eq!(with(json!({ "max_tokens": u64::MAX, "n": 3 })).total(), u64::MAX);
    }
}
