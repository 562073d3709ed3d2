//! Which media types gain by a coding.

use super::Fault;

/// Text in all its forms, and fonts and programs that are not packed already.
const USUAL: [&str; 23] = [
    "text/*",
    "*+json",
    "*+xml",
    "*+yaml",
    "application/json",
    "application/javascript",
    "application/x-javascript",
    "application/ecmascript",
    "application/xml",
    "application/yaml",
    "application/graphql",
    "application/x-ndjson",
    "application/jsonl",
    "application/sql",
    "application/rtf",
    "application/x-sh",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "application/x-font-ttf",
    "application/x-font-opentype",
    "font/ttf",
    "font/otf",
    "font/collection",
];

/// Each event must go out at once, and a coding holds bytes back; so these are left alone even where a list names them.
const NEVER: &[u8] = b"text/event-stream";

/// A set of media types: exact ones, whole families (`text/*`), and structured suffixes (`*+json`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Types {
    exact: Vec<Box<[u8]>>,
    families: Vec<Box<[u8]>>,
    suffixes: Vec<Box<[u8]>>,
}

impl Types {
    /// What is coded where nothing is said: text, JSON, XML, JavaScript, SVG, WebAssembly and plain fonts; never images,
    /// video, archives or `woff`, which are packed already.
    pub fn usual() -> Self {
        let mut types = Types::default();
        USUAL.iter().for_each(|t| types.add(t));
        types
    }

    /// From a list in the configuration.
    pub fn compile(list: &[String], faults: &mut Vec<Fault>) -> Self {
        let mut types = Types::default();
        for (i, text) in list.iter().enumerate() {
            match fault_of(text) {
                None => types.add(&text.to_ascii_lowercase()),
                Some(why) => faults.push(Fault { path: format!(".types[{i}]"), why }),
            }
        }
        types
    }

    fn add(&mut self, pattern: &str) {
        let pattern = pattern.as_bytes();
        if let Some(suffix) = pattern.strip_prefix(b"*") {
            self.suffixes.push(suffix.into());
        } else if let Some(family) = pattern.strip_suffix(b"*") {
            self.families.push(family.into());
        } else {
            self.exact.push(pattern.into());
        }
    }

    /// Whether a `Content-Type` is in the set; parameters do not matter.
    pub fn have(&self, content_type: &[u8]) -> bool {
        let essence = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        if essence.eq_ignore_ascii_case(NEVER) {
            return false;
        }
        let starts = |f: &[u8]| essence.get(..f.len()).is_some_and(|e| e.eq_ignore_ascii_case(f));
        let ends = |s: &[u8]| {
            let from = essence.len().checked_sub(s.len());
            from.and_then(|at| essence.get(at..)).is_some_and(|e| e.eq_ignore_ascii_case(s))
        };
        self.families.iter().any(|f| starts(f))
            || self.exact.iter().any(|t| essence.eq_ignore_ascii_case(t))
            || self.suffixes.iter().any(|s| ends(s))
    }
}

fn fault_of(text: &str) -> Option<String> {
    if text.eq_ignore_ascii_case("text/event-stream") {
        return Some("events must go out one by one and are never coded".to_owned());
    }
    let stars = text.matches('*').count();
    let family = text.strip_suffix("/*").is_some_and(|f| !f.is_empty() && !f.contains('/'));
    let suffix = text.strip_prefix("*+").is_some_and(|s| !s.is_empty() && !s.contains('/'));
    let parts = |t: &str| t.split_once('/').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty() && !b.contains('/'));
    let clean = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b';' | b',' | b'"'));
    let good = clean && if stars == 0 { parts(text) } else { stars == 1 && (family || suffix) };
    (!good).then(|| format!("{text:?} is no media type (application/json), family (text/*) or suffix (*+json)"))
}
