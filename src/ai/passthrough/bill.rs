//! The tokens of an answer that passes: read where it is JSON or an event stream, from a copy of nothing but `usage`.

use super::scan::Members;
use crate::ai::usage::Usage;
use serde_json::Value;

/// Where answers tell what they cost. Cohere's stands under `meta`.
const WANTED: [&str; 2] = ["usage", "meta"];
/// The longest value that is read.
const USAGE_BYTES_MAX: usize = 8 << 10;
/// What begins a line that is read.
const DATA: &[u8] = b"data:";

/// Reads an answer's usage as it goes by.
pub enum Tap {
    /// One JSON document.
    Json(Members),
    /// Events, each a JSON document on one line.
    Events(Events),
    /// Something that tells no usage.
    None,
}

/// Lines of an event stream.
pub struct Events {
    members: Members,
    /// Bytes of `data:` matched at the line's beginning; `None` on other lines.
    matched: Option<usize>,
    last: Option<Usage>,
}

impl Tap {
    /// For an answer of this content type.
    pub fn new(content_type: &str) -> Tap {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => Tap::Json(members()),
            "text/event-stream" => Tap::Events(Events { members: members(), matched: Some(0), last: None }),
            _ => Tap::None,
        }
    }

    /// Looks at a piece. What is no JSON tells no usage.
    pub fn feed(&mut self, piece: &[u8]) {
        match self {
            Tap::Json(members) => {
                if members.feed(piece).is_err() {
                    *self = Tap::None;
                }
            }
            Tap::Events(events) => events.feed(piece),
            Tap::None => {}
        }
    }

    /// The tokens told so far.
    pub fn usage(&self) -> Option<Usage> {
        match self {
            Tap::Json(members) => told(members),
            Tap::Events(events) => told(&events.members).or(events.last),
            Tap::None => None,
        }
    }
}

fn members() -> Members {
    Members::capturing(&WANTED, USAGE_BYTES_MAX)
}

impl Events {
    fn feed(&mut self, piece: &[u8]) {
        for line in piece.split_inclusive(|b| matches!(b, b'\n' | b'\r')) {
            self.part_of_line(line);
            if line.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
                self.last = told(&self.members).or(self.last);
                (self.members, self.matched) = (members(), Some(0));
            }
        }
    }

    fn part_of_line(&mut self, mut part: &[u8]) {
        while let Some(at) = self.matched.filter(|at| *at < DATA.len()) {
            let Some((first, rest)) = part.split_first() else { return };
            part = rest;
            self.matched = (DATA.get(at) == Some(first)).then_some(at + 1);
        }
        if self.matched.is_some() && self.members.feed(part).is_err() {
            self.matched = None;
        }
    }
}

fn told(members: &Members) -> Option<Usage> {
    usage(&serde_json::from_slice(members.captured()?).ok()?)
}

/// A `usage` object in the words of images and audio (`input_tokens`), of chats (`prompt_tokens`) or of rerankers
/// (`total_tokens`, or Cohere's `tokens`). Audio told in seconds has no tokens.
fn usage(v: &Value) -> Option<Usage> {
    let v = v.get("tokens").filter(|t| t.is_object()).unwrap_or(v);
    if v.get("prompt_tokens").is_some() {
        return Usage::from_openai(v);
    }
    let count = |name: &str| v.get(name).and_then(Value::as_u64);
    if count("input_tokens").is_none() && count("output_tokens").is_none() {
        let total = count("total_tokens")?;
        return Some(Usage { uncached_in: total, ..Usage::default() });
    }
    let part = |places: [&str; 2]| places.into_iter().find_map(|p| v.pointer(p)?.as_u64()).unwrap_or(0);
    let input = count("input_tokens").unwrap_or(0);
    let cache_read = part(["/input_tokens_details/cached_tokens", "/input_token_details/cached_tokens"]).min(input);
    let audio = part(["/input_tokens_details/audio_tokens", "/input_token_details/audio_tokens"]);
    let audio_in = audio.min(input - cache_read);
    let uncached_in = input - cache_read - audio_in;
    Some(Usage { uncached_in, cache_read, audio_in, out_text: count("output_tokens").unwrap_or(0), ..Usage::default() })
}
