//! Signatures of thoughts as Gemini's clients keep them: base64 on the part behind. What another provider signed, or
//! enclosed in a thought that only it can read, travels in the same place under a mark of our own.

use super::super::chat::{Block, Part};
use super::SIGNED;
use crate::ai::json::Edit;
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// What stands before another provider's signature.
const FOREIGN: &str = "sluicegate:sign:";
/// What stands before a thought that only its provider can read.
const SEALED: &str = "sluicegate:seal:";
/// The beginning of a JSON string that holds either in base64.
const MARKED: &str = "\"c2x1aWNlZ2F0ZTpz";
/// What Google takes in the place of a signature for a turn that another model took:
/// <https://ai.google.dev/gemini-api/docs/thought-signatures>.
const ANOTHER_MODELS: &str = "\"skip_thought_signature_validator\"";

/// What a signature is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// Gemini's own or another provider's, in the internal form.
    Of(String),
    /// A thought that only its provider can read.
    Sealed(String),
}

/// Base64 of either alphabet: clients that keep bytes write them anew in that for URLs.
pub fn decoded(text: &str) -> Option<Vec<u8>> {
    let for_urls = text.bytes().any(|b| b == b'-' || b == b'_');
    let alphabet = if for_urls { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    let padded_or_not = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, padded_or_not).decode(text).ok()
}

fn encoded(mark: &str, text: &str) -> String {
    STANDARD.encode(format!("{mark}{text}"))
}

/// The signature behind a `thoughtSignature`.
pub fn read(told: &str) -> Signature {
    let text = decoded(told).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    match (text.strip_prefix(FOREIGN), text.strip_prefix(SEALED)) {
        (Some(signature), _) => Signature::Of(signature.to_owned()),
        (_, Some(data)) => Signature::Sealed(data.to_owned()),
        (None, None) => Signature::Of(format!("{SIGNED}{told}")),
    }
}

/// The `thoughtSignature` of a signature in the internal form.
pub fn written(signature: &str) -> String {
    signature.strip_prefix(SIGNED).map_or_else(|| encoded(FOREIGN, signature), str::to_owned)
}

/// The `thoughtSignature` of a thought that only its provider can read.
pub fn sealed(data: &str) -> String {
    encoded(SEALED, data)
}

/// Puts a signature behind the blocks so far: it ends an unsigned thought of another provider's, and stands for itself
/// otherwise. Gemini's own signs what follows, not the thought before.
pub fn before(out: &mut Vec<Block>, signature: Signature) {
    match (signature, out.last_mut().map(|b| &mut b.part)) {
        (Signature::Of(s), Some(Part::Reasoning(_, open @ None))) if !s.starts_with(SIGNED) => *open = Some(s),
        (Signature::Of(s), _) => out.push(Block::new(Part::Reasoning(String::new(), Some(s)))),
        (Signature::Sealed(data), Some(Part::Reasoning(text, None))) if text.is_empty() => {
            out.pop();
            out.push(Block::new(Part::Redacted(data)));
        }
        (Signature::Sealed(data), _) => out.push(Block::new(Part::Redacted(data))),
    }
}

/// The edits that take other providers' signatures out of a request for Google, which would refuse them.
pub fn foreign(body: &str) -> Vec<Edit> {
    // A member's value, and not the same letters in somebody's text, where the quote before them is escaped.
    let is_member = |at: &usize| {
        let before = body.get(..*at).and_then(|b| b.trim_end().strip_suffix(':')).map(str::trim_end);
        before.is_some_and(|b| b.ends_with("\"thoughtSignature\"") || b.ends_with("\"thought_signature\""))
    };
    let begins = body.match_indices(MARKED).map(|(at, _)| at).filter(is_member);
    let whole = begins.filter_map(|at| {
        let inside = at + 1;
        let length = body.get(inside..)?.find('"')?;
        Some(Edit { span: at..inside + length + 1, text: ANOTHER_MODELS.to_owned() })
    });
    whole.collect()
}
