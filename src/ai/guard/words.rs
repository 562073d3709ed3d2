//! Deny lists: whole words and phrases in one automaton, patterns in linear time.

use crate::config::ai::guard::Deny;
use aho_corasick::{AhoCorasick, AhoCorasickBuilder};
use regex::{Regex, RegexBuilder};
use std::collections::BTreeSet;
use std::ops::Range;

/// Words of a list, its file included.
const WORDS_MAX: usize = 10_000;
/// Bytes of one word or phrase.
const WORD_BYTES_MAX: usize = 256;
/// Patterns of a list.
const PATTERNS_MAX: usize = 64;
/// Bytes that one compiled pattern may take.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// Bytes within which a pattern's match has its end, for streams.
pub const PATTERN_BYTES_MAX: usize = 256;

/// A compiled list.
pub struct Words {
    words: AhoCorasick,
    patterns: Vec<Regex>,
    longest: usize,
}

impl Words {
    /// Compiles a list; `file` is the text of its file. Faults come with the key they are about.
    pub fn compile(list: &Deny, file: &str) -> Result<Words, Vec<(String, String)>> {
        let mut faults = Vec::new();
        let lines = file.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        let own = list.words.iter().map(|w| w.trim()).enumerate().map(|(i, w)| (format!("words[{i}]"), w));
        let mut spellings = BTreeSet::new();
        let mut longest = 0;
        for (key, word) in own.chain(lines.map(|l| ("words_file".to_owned(), l))) {
            if word.is_empty() || word.len() > WORD_BYTES_MAX {
                faults.push((key, format!("a word has 1 to {WORD_BYTES_MAX} bytes")));
                continue;
            }
            longest = longest.max(word.len());
            spellings.extend(spelled(word));
        }
        if spellings.len() > 4 * WORDS_MAX {
            faults.push(("words".to_owned(), format!("more than {WORDS_MAX} words")));
        }
        if list.patterns.len() > PATTERNS_MAX {
            faults.push(("patterns".to_owned(), format!("more than {PATTERNS_MAX} patterns")));
        }
        if spellings.is_empty() && list.patterns.is_empty() {
            faults.push((String::new(), "has neither words nor patterns".to_owned()));
        }
        let mut patterns = Vec::new();
        for (i, text) in list.patterns.iter().enumerate().take(PATTERNS_MAX) {
            match RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build() {
                Ok(re) if re.is_match("") => {
                    faults.push((format!("patterns[{i}]"), "matches the empty text".to_owned()));
                }
                Ok(re) => patterns.push(re),
                Err(e) => faults.push((format!("patterns[{i}]"), last_line(&e))),
            }
        }
        let words = AhoCorasickBuilder::new().ascii_case_insensitive(true).build(&spellings);
        match words {
            Ok(words) if faults.is_empty() => Ok(Words { words, patterns, longest }),
            Ok(_) => Err(faults),
            Err(e) => {
                faults.push(("words".to_owned(), e.to_string()));
                Err(faults)
            }
        }
    }

    /// Every match, in order; they may overlap.
    pub fn find(&self, text: &str) -> Vec<Range<usize>> {
        let all = self.words.find_overlapping_iter(text).map(|m| m.range());
        let mut found: Vec<Range<usize>> = all.filter(|at| stands_alone(text, at)).collect();
        for re in &self.patterns {
            found.extend(re.find_iter(text).map(|m| m.range()));
        }
        // Spellings of one word may meet.
        found.sort_by_key(|at| (at.start, at.end));
        found.dedup();
        found
    }

    /// Bytes that must be known to decide about a place.
    pub fn window(&self) -> usize {
        if self.patterns.is_empty() { self.longest + 1 } else { self.longest.max(PATTERN_BYTES_MAX) + 1 }
    }
}

/// The automaton folds the case of ASCII letters only; other letters come in their usual spellings.
fn spelled(word: &str) -> Vec<String> {
    if word.is_ascii() {
        return vec![word.to_ascii_lowercase()];
    }
    let lower = word.to_lowercase();
    let mut rest = lower.chars();
    let title = rest.next().map(|c| c.to_uppercase().collect::<String>() + rest.as_str()).unwrap_or_default();
    vec![word.to_owned(), word.to_uppercase(), title, lower]
}

fn stands_alone(text: &str, at: &Range<usize>) -> bool {
    let left = text.get(..at.start).and_then(|t| t.chars().next_back());
    let right = text.get(at.end..).and_then(|t| t.chars().next());
    ![left, right].into_iter().flatten().any(char::is_alphanumeric)
}

/// The regex crate draws the place over several lines; its last line says what is wrong.
fn last_line(e: &regex::Error) -> String {
    let text = e.to_string();
    let last = text.lines().last().unwrap_or_default();
    format!("bad regular expression: {}", last.trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str], patterns: &[&str]) -> Deny {
        let own = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect();
        Deny { words: own(words), patterns: own(patterns), ..Deny::default() }
    }

    #[test]
    fn whole_words_count_whatever_their_case() {
        let w = Words::compile(&list(&["ass", "Project Zephyr", "äpfel"], &[]), "# more\nnightfall\n\n").unwrap();
        for text in ["an ASS!", "about project zephyr, then", "Nightfall", "ÄPFEL", "class ass"] {
            assert_eq!(w.find(text).len(), 1, "{text}");
        }
        for text in ["class", "assassin", "project zephyrs", "more"] {
            assert!(w.find(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn patterns_match_in_linear_time_and_faults_name_their_place() {
        let w = Words::compile(&list(&[], &[r"(?i)case-\d{4}"]), "").unwrap();
        assert_eq!(w.find("see CASE-1234"), vec![4..13]);
        let faults = |l: &Deny| Words::compile(l, "").err().unwrap();
        assert_eq!(faults(&list(&["", "x"], &["("]))[0].0, "words[0]");
        assert_eq!(faults(&list(&["x"], &["x", "("]))[0].0, "patterns[1]");
        assert_eq!(faults(&list(&["x"], &["a*"]))[0].1, "matches the empty text");
        assert_eq!(faults(&list(&[], &[]))[0].0, "");
    }
}
