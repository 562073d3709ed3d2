//! Secrets: keys, tokens and certificates' private halves, by the shapes that their issuers give them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::ops::Range;

/// A PEM private key (RFC 7468); to the end of the text where its own end is missing.
pub const PEM: &str = r"-----BEGIN [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----|\z)";
/// Three or five parts of base64url, the first beginning with an encoded `{"` (RFC 7519).
pub const JWT: &str = r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{2,}(?:\.[A-Za-z0-9_-]*){1,3}";
/// Access key ids.
pub const AWS_ID: &str = r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}";
/// Secret access keys have no shape of their own but forty characters; their name tells.
pub const AWS_SECRET: &str =
    r#"(?i)(?:aws_?)?secret_?(?:access_?)?key(?:_id)?["']?\s{0,4}[=:]\s{0,4}["']?[A-Za-z0-9/+]{40}"#;
/// Tokens that their prefix gives away.
pub const TOKENS: &str = concat!(
    r"gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9_]{60,100}|glpat-[A-Za-z0-9_-]{20,64}",
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,250}|xapp-[0-9]-[A-Za-z0-9-]{20,200}",
    r"|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,128}|whsec_[A-Za-z0-9+/=]{24,80}",
    r"|AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z0-9]{30,64}|gsk_[A-Za-z0-9]{40,80}|xai-[A-Za-z0-9]{60,100}",
    r"|SG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{40,50}|dop_v1_[a-f0-9]{64}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}",
);
/// `sk-…`: OpenAI, Anthropic and many others.
pub const SK: &str = r"sk-[A-Za-z0-9_-]{20,250}";

/// Different characters that a random key of twenty or more has at least.
const DIFFERENT_MIN: usize = 8;

/// The token is no part of a longer word.
pub fn apart(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let joins = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let left = text.get(..at.start)?.chars().next_back().is_some_and(|c| joins(c) || c == '-');
    let right = text.get(at.end..)?.chars().next().is_some_and(joins);
    (!left && !right).then_some(at)
}

/// The token looks random: names with hyphens (`sk-learn-…`) have no digits, placeholders (`sk-xxxx`) repeat.
pub fn random_looking(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let token = text.get(at.clone())?.get(3..)?;
    let mut seen: Vec<char> = token.chars().collect();
    seen.sort_unstable();
    seen.dedup();
    let digits = token.bytes().filter(u8::is_ascii_digit).count();
    (digits >= 2 && seen.len() >= DIFFERENT_MIN).then_some(at).and_then(|at| apart(text, at))
}

/// The forty characters at the end, if they are no more than forty.
pub fn last_word(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let goes_on = |c: char| c.is_ascii_alphanumeric() || "/+".contains(c);
    let longer = text.get(at.end..)?.chars().next().is_some_and(goes_on);
    (!longer).then(|| at.end.saturating_sub(40)..at.end)
}

/// The header decodes to an object that names an algorithm.
pub fn jwt(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let at = apart(text, at)?;
    let header = text.get(at.clone())?.split('.').next()?;
    let json = URL_SAFE_NO_PAD.decode(header).ok()?;
    let header: Value = serde_json::from_slice(&json).ok()?;
    header.get("alg").is_some_and(Value::is_string).then_some(at)
}
