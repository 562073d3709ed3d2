//! A fault in the configuration: where it stands, what is wrong, what was meant.

use std::fmt;

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Path of the file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where in the tree: `routes[3].ai.tier`; empty for the whole file.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
    /// Where in the text, when known.
    pub place: Option<Place>,
}

impl Fault {
    /// A fault at a path; the loader finds its place.
    pub fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Fault { path: path.into(), message: message.into(), place: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(p) = &self.place {
            write!(f, "{}:{}:{}: ", p.file, p.line, p.column)?;
        }
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// The nearest of `known` to `word`, when it is near enough to be a slip of the pen.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(word, k), k))
        .filter(|(d, k)| *d <= 1 + k.len().max(word.len()) / 4)
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// `no tier "chaep"; did you mean "cheap"?`, or the list of what there is.
pub fn unknown<'a>(kind: &str, word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match did_you_mean(word, known.iter().copied()) {
        Some(k) => format!("no {kind} {word:?}; did you mean {k:?}?"),
        None if known.is_empty() => format!("no {kind} {word:?}; none is defined"),
        None => format!("no {kind} {word:?}; there is {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_near_names_only() {
        assert_eq!(unknown("tier", "chaep", ["cheap", "best"]), "no tier \"chaep\"; did you mean \"cheap\"?");
        assert_eq!(unknown("tier", "zzzzzz", ["cheap", "best"]), "no tier \"zzzzzz\"; there is cheap, best");
    }
}
