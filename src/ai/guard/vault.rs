//! What stands for a value while a model works: placeholders such as `<EMAIL_1>`, and the way back.
//!
//! A vault belongs to one request and is never stored. Equal values have equal placeholders, and numbers follow the
//! order of first appearance, so that equal conversations are masked equally: the provider's prompt cache and the
//! gateway's own stay of use.

use crate::config::ai::guard::PiiKind;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Different values of one request.
const VALUES_MAX: usize = 4096;
/// Bytes of a placeholder, at most; with escaped brackets.
const PLACEHOLDER_BYTES_MAX: usize = 40;

/// The values of one request.
#[derive(Debug, Default)]
pub struct Vault {
    values: Vec<String>,
    by_name: HashMap<String, usize>,
    by_value: HashMap<(PiiKind, String), String>,
    next: HashMap<PiiKind, usize>,
    used: HashSet<String>,
}

/// More different values than a request may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Vault {
    /// Names that stand in the request itself and must not be given to values.
    pub fn avoid(&mut self, text: &str) {
        self.used.extend(placeholders(text, false).into_iter().map(|(_, name)| name));
    }

    /// The placeholder of a value.
    pub fn mask(&mut self, kind: PiiKind, value: &str) -> Result<String, TooMany> {
        if let Some(name) = self.by_value.get(&(kind, value.to_owned())) {
            return Ok(name.clone());
        }
        if self.values.len() >= VALUES_MAX {
            return Err(TooMany);
        }
        let next = self.next.entry(kind).or_default();
        let name = loop {
            *next += 1;
            let name = format!("<{}_{next}>", label(kind));
            if !self.used.contains(&name) {
                break name;
            }
        };
        self.by_name.insert(name.clone(), self.values.len());
        self.by_value.insert((kind, value.to_owned()), name.clone());
        self.values.push(value.to_owned());
        Ok(name)
    }

    /// Whether nothing is masked.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether two values of one kind could be confused by who answers another question of the same shape.
    pub fn ambiguous(&self) -> bool {
        self.next.values().any(|n| *n > 1)
    }

    /// The value behind a placeholder.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).and_then(|i| self.values.get(*i)).map(String::as_str)
    }

    /// Placeholders of this vault in a text, with what belongs there. In JSON text the value is written as it stands
    /// within a JSON string.
    pub fn restorations(&self, text: &str, json: bool) -> Vec<(Range<usize>, String)> {
        if self.is_empty() {
            return Vec::new();
        }
        let known = placeholders(text, json).into_iter();
        known.filter_map(|(at, name)| Some((at, as_written(self.value(&name)?, json)))).collect()
    }

    /// Whether a text has placeholders that are not of this vault.
    pub fn has_strangers(&self, text: &str) -> bool {
        placeholders(text, false).iter().any(|(_, name)| self.value(name).is_none() && !self.used.contains(name))
    }
}

/// The upper-case name of a kind, as it stands in placeholders.
pub fn label(kind: PiiKind) -> String {
    kind.as_str().to_ascii_uppercase()
}

/// A value within the quotes of a JSON string.
fn as_written(value: &str, json: bool) -> String {
    if !json {
        return value.to_owned();
    }
    let quoted = serde_json::Value::from(value).to_string();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// Everything that is written like a placeholder, by its plain name. In JSON text the brackets may be escaped, as some
/// serialisers do.
fn placeholders(text: &str, json: bool) -> Vec<(Range<usize>, String)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some((start, inner)) = opening(text, from, json) {
        let rest = text.get(inner..).unwrap_or_default();
        let name_len = rest.bytes().take_while(|b| is_name(*b)).count();
        let name = rest.get(..name_len).unwrap_or_default();
        from = inner;
        let after = rest.get(name_len..).unwrap_or_default();
        let close = if after.starts_with('>') {
            1
        } else if json && after.get(..6).is_some_and(|t| t.eq_ignore_ascii_case(r"\u003e")) {
            6
        } else {
            continue;
        };
        if is_placeholder(name) {
            from = inner + name_len + close;
            found.push((start..from, format!("<{name}>")));
        }
    }
    found
}

/// The next opening bracket: where it begins and where the name does.
fn opening(text: &str, from: usize, json: bool) -> Option<(usize, usize)> {
    let rest = text.get(from..)?;
    let plain = rest.find('<').map(|at| (from + at, from + at + 1));
    if !json {
        return plain;
    }
    let escaped = rest.match_indices('\\').map(|(at, _)| from + at);
    let mut escaped = escaped.filter(|at| text.get(*at..at + 6).is_some_and(|t| t.eq_ignore_ascii_case(r"\u003c")));
    let escaped = escaped.next().map(|at| (at, at + 6));
    [plain, escaped].into_iter().flatten().min()
}

fn is_name(b: u8) -> bool {
    b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'
}

/// `EMAIL_1`.
fn is_placeholder(name: &str) -> bool {
    let Some((kind, number)) = name.rsplit_once('_') else { return false };
    let numbered = (1..=4).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    numbered && PiiKind::ALL.iter().any(|k| label(*k) == kind)
}

/// Where a placeholder begins that the text breaks off in, if it may be one.
pub fn unfinished(text: &str, json: bool) -> Option<usize> {
    let mut from = text.len().saturating_sub(PLACEHOLDER_BYTES_MAX);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let tail = text.get(from..)?;
    let begins = tail.char_indices().filter(|(_, c)| *c == '<' || (json && *c == '\\')).map(|(at, _)| at);
    let open = |at: &usize| tail.get(*at..).is_some_and(|t| breaks_off(t, json));
    begins.into_iter().find(open).map(|at| from + at)
}

/// Whether a text is the beginning of a placeholder and no whole one.
fn breaks_off(text: &str, json: bool) -> bool {
    let begins = |whole: &str| whole.get(..text.len()).is_some_and(|w| w.eq_ignore_ascii_case(text));
    if json && text.len() < 6 && begins(r"\u003c") {
        return true;
    }
    let escaped = text.get(..6).filter(|t| json && t.eq_ignore_ascii_case(r"\u003c"));
    let inner = if escaped.is_some() { text.get(6..) } else { text.strip_prefix('<') };
    let Some(inner) = inner else { return false };
    let after = inner.trim_start_matches(|c: char| u8::try_from(c).is_ok_and(is_name));
    let closing = r"\u003e".get(..after.len().min(6)).is_some_and(|c| after.len() < 6 && c.eq_ignore_ascii_case(after));
    after.is_empty() || (json && closing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_equal_placeholders_and_used_names_are_left_alone() {
        let mut v = Vault::default();
        v.avoid("what does <EMAIL_1> mean, and <FOO_1>?");
        assert_eq!(v.mask(PiiKind::Email, "a@x.org").unwrap(), "<EMAIL_2>");
        assert_eq!(v.mask(PiiKind::Email, "b@x.org").unwrap(), "<EMAIL_3>");
        assert_eq!(v.mask(PiiKind::Email, "a@x.org").unwrap(), "<EMAIL_2>");
        assert_eq!(v.mask(PiiKind::CreditCard, "4").unwrap(), "<CREDIT_CARD_1>");
        let back = v.restorations("<EMAIL_1> <EMAIL_3>, <EMAIL_2>>", false);
        assert_eq!(back, [(10..19, "b@x.org".to_owned()), (21..30, "a@x.org".to_owned())]);
        assert!(!v.has_strangers("<EMAIL_1> <EMAIL_3>") && v.has_strangers("<PHONE_1>") && v.ambiguous());
    }

    #[test]
    fn in_json_text_values_are_escaped_and_brackets_may_be() {
        let mut v = Vault::default();
        v.mask(PiiKind::PrivateKey, "a\"b\nc").unwrap();
        let text = r#"{"k":"\u003cPRIVATE_KEY_1\u003E","l":"<PRIVATE_KEY_1>"}"#;
        let back = v.restorations(text, true);
        assert_eq!(back.len(), 2);
        assert!(back.iter().all(|(_, value)| value == r#"a\"b\nc"#));
        assert_eq!(&text[back[0].0.clone()], r"\u003cPRIVATE_KEY_1\u003E");
    }

    #[test]
    fn an_unfinished_placeholder_is_seen_at_every_cut() {
        for (whole, json) in [("<CREDIT_CARD_12>", false), ("<EMAIL_1>", true), (r"\u003cEMAIL_1\u003e", true)] {
            for cut in 1..whole.len() {
                let text = format!("größe {}", &whole[..cut]);
                assert_eq!(unfinished(&text, json), Some("größe ".len()), "{text}");
            }
            assert_eq!(unfinished(&format!("x {whole}"), json), None, "{whole}");
        }
        for text in ["a < b", "x <div", "plain", "", "<EMAIL_1> and on", "\\"] {
            assert_eq!(unfinished(text, false), None, "{text}");
        }
    }
}
