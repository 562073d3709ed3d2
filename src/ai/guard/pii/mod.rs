//! Recognisers of personal data and secrets: a pattern finds candidates, a check (sum, length, syntax, neighbourhood)
//! decides. Patterns are compiled once per plan and matched in linear time.

mod number;
mod secret;
mod sums;
#[cfg(test)]
mod tests;

use super::output::replaced;
use super::vault::label;
use crate::config::ai::guard::PiiKind;
use regex::{Regex, RegexBuilder};
use std::ops::Range;

/// Bytes that one compiled pattern may take.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// Characters within which a value with blanks in it (a card, an account, a phone number) has its end.
pub const SPACED_CHARS_MAX: usize = 64;

/// A value found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: PiiKind,
    /// Where it is, in bytes.
    pub at: Range<usize>,
}

/// Narrows a candidate to the value, or rejects it.
type Check = fn(&str, Range<usize>) -> Option<Range<usize>>;

struct Row {
    kind: PiiKind,
    /// Bytes of which one must be there before the pattern is tried.
    gate: &'static [u8],
    pattern: &'static str,
    check: Check,
}

/// One row for each pattern; a kind may have several. The order is that of the kinds.
const ROWS: [Row; 14] = [
    Row { kind: PiiKind::PrivateKey, gate: b"-", pattern: secret::PEM, check: |_, at| Some(at) },
    Row { kind: PiiKind::Jwt, gate: b".", pattern: secret::JWT, check: secret::jwt },
    Row { kind: PiiKind::AwsKey, gate: b"AK", pattern: secret::AWS_ID, check: secret::apart },
    Row { kind: PiiKind::AwsKey, gate: b"=:", pattern: secret::AWS_SECRET, check: secret::last_word },
    Row { kind: PiiKind::ApiKey, gate: b"_-", pattern: secret::TOKENS, check: secret::apart },
    Row { kind: PiiKind::ApiKey, gate: b"-", pattern: secret::SK, check: secret::random_looking },
    Row { kind: PiiKind::Iban, gate: DIGITS, pattern: number::IBAN, check: number::iban },
    Row { kind: PiiKind::CreditCard, gate: DIGITS, pattern: number::CARD, check: number::card },
    Row { kind: PiiKind::Email, gate: b"@", pattern: EMAIL, check: email },
    Row { kind: PiiKind::UsSsn, gate: DIGITS, pattern: number::SSN, check: number::ssn },
    Row { kind: PiiKind::DeTaxId, gate: DIGITS, pattern: number::TAX_ID, check: number::tax_id },
    Row { kind: PiiKind::Ip, gate: b".", pattern: number::V4, check: number::v4 },
    Row { kind: PiiKind::Ip, gate: b":", pattern: number::V6, check: number::v6 },
    Row { kind: PiiKind::Phone, gate: DIGITS, pattern: number::PHONE, check: number::phone },
];

const DIGITS: &[u8] = b"0123456789";

/// The sign in the middle of a mailbox; its two sides are read by hand, as Unicode's letters make large automata.
const EMAIL: &str = r"@[\p{L}\p{N}]";

/// Octets of a mailbox and of its local part (RFC 5321 §4.5.3.1).
const MAILBOX_BYTES_MAX: usize = 254;
const LOCAL_BYTES_MAX: usize = 64;

/// What follows the dot in file names such as `icon@2x.png`.
const FILE_ENDINGS: [&str; 12] = ["png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "json", "html", "pdf"];

/// The recognisers of some kinds.
pub struct Finder {
    rows: Vec<(&'static Row, Regex)>,
}

impl Finder {
    /// Compiles the patterns of these kinds. It cannot fail as long as the tests pass: the patterns are our own.
    pub fn new(kinds: &[PiiKind]) -> Result<Finder, regex::Error> {
        let wanted = ROWS.iter().filter(|row| kinds.contains(&row.kind));
        let compiled = wanted.map(|row| {
            let re = RegexBuilder::new(row.pattern).size_limit(REGEX_BYTES_MAX).build()?;
            Ok((row, re))
        });
        Ok(Finder { rows: compiled.collect::<Result<_, regex::Error>>()? })
    }

    /// Every value in the text, in order, none overlapping another.
    pub fn find(&self, text: &str) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        for (row, re) in &self.rows {
            if !text.bytes().any(|b| row.gate.contains(&b)) {
                continue;
            }
            let mut from = 0;
            while let Some(m) = re.find_at(text, from) {
                match (row.check)(text, m.range()) {
                    Some(at) => {
                        from = at.end.max(m.start() + 1);
                        let free = !found.iter().any(|f| f.at.start < at.end && at.start < f.at.end);
                        found.extend(free.then_some(Found { kind: row.kind, at }));
                    }
                    None => from = past(text, m.range()),
                }
                from = ceil(text, from);
            }
        }
        found.sort_by_key(|f| f.at.start);
        found
    }

    /// The text with the name of its kind in each value's place: `[EMAIL]`.
    pub fn redacted(&self, text: &str) -> String {
        let found = self.find(text).into_iter();
        replaced(text, found.map(|f| (f.at, format!("[{}]", label(f.kind)))))
    }
}

/// Where to look on after a rejected candidate: behind its first word, as a value may begin at the second.
fn past(text: &str, at: Range<usize>) -> usize {
    let inside = text.get(at.clone()).unwrap_or_default();
    let word = inside.find([' ', '\t', '\n']).map_or(inside.len(), |n| n + 1);
    at.start + word.max(1)
}

/// The next place at which a character begins.
fn ceil(text: &str, mut at: usize) -> usize {
    while at < text.len() && !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

/// The text before `at`, at most so many bytes of it, in lower case.
fn before(text: &str, at: usize, bytes: usize) -> String {
    let from = ceil(text, at.saturating_sub(bytes));
    text.get(from..at).unwrap_or_default().to_lowercase()
}

/// Whether the value stands by itself and is no part of a longer word or number.
fn isolated(text: &str, at: &Range<usize>) -> bool {
    let wordy = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut left = text.get(..at.start).unwrap_or_default().chars().rev();
    let mut right = text.get(at.end..).unwrap_or_default().chars();
    let joins = |first: Option<char>, second: Option<char>| match first {
        Some(c) if wordy(c) => true,
        Some('.' | '-' | ',' | '/') => second.is_some_and(|c| c.is_ascii_digit()),
        _ => false,
    };
    !joins(left.next(), left.next()) && !joins(right.next(), right.next())
}

/// An unquoted local part and a name of at least two labels, the last of letters only (RFC 5321 §4.1.2).
fn email(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let local = text.get(..at.start)?;
    let begins = local.char_indices().rev().take_while(|(_, c)| c.is_alphanumeric() || "._%+'-".contains(*c));
    let local = local.get(begins.last()?.0..)?.trim_start_matches(['.', '-', '\'', '%', '+']);
    let after = text.get(at.start + 1..)?;
    let ends = after.char_indices().find(|(_, c)| !(c.is_alphanumeric() || "-.".contains(*c)));
    let domain = after.get(..ends.map_or(after.len(), |(n, _)| n))?.trim_end_matches(['.', '-']);
    let at = at.start - local.len()..at.start + 1 + domain.len();
    let labels: Vec<&str> = domain.split('.').collect();
    let last = labels.last()?.to_lowercase();
    let sound = |l: &&str| !l.is_empty() && l.len() <= 63 && !l.starts_with('-') && !l.ends_with('-');
    let named = labels.len() >= 2 && labels.iter().all(sound) && (2..=24).contains(&last.chars().count());
    let named = named && last.chars().all(char::is_alphabetic) && !FILE_ENDINGS.contains(&last.as_str());
    let boxed = !local.is_empty() && !local.ends_with('.') && !local.contains("..") && local.len() <= LOCAL_BYTES_MAX;
    // `git@host:path` and `user:password@host` name machines, as does what goes on behind the name.
    let next = text.get(at.end..)?.chars().next();
    let machine = (local == "git" && next == Some(':')) || next == Some('@');
    (named && boxed && !machine && at.len() <= MAILBOX_BYTES_MAX).then_some(at)
}
