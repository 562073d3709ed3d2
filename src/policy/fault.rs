//! What can be wrong: with a script when it is loaded, and with a hook when it is called.

use super::hook::Hook;
use rhai::{EvalAltResult, Position};
use std::fmt;

/// One thing wrong with a script. Loading reports all of them at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyFault {
    /// The script's name, as given to `Policy::load`.
    pub script: String,
    /// Line, from 1; 0 when the fault is the script's as a whole.
    pub line: usize,
    /// Column, from 1; 0 when unknown.
    pub column: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => write!(f, "{}: {}", self.script, self.message),
            (line, 0) => write!(f, "{}:{line}: {}", self.script, self.message),
            (line, column) => write!(f, "{}:{line}:{column}: {}", self.script, self.message),
        }
    }
}

/// Why a hook call gave no decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The script threw, or did something that is an error (unknown property, wrong type, verb not allowed here).
    ScriptError,
    /// More than `max_operations`.
    TooManyOperations,
    /// Longer than `max_time`.
    TooSlow,
    /// A string, array, map or call stack over its limit.
    TooLarge,
    /// The hook returned something that is no decision.
    BadReturn,
    /// A host function panicked: a bug of ours, contained.
    HostPanic,
}

impl Failure {
    /// Every failure, for metric registration.
    pub const ALL: [Failure; 6] = [
        Failure::ScriptError,
        Failure::TooManyOperations,
        Failure::TooSlow,
        Failure::TooLarge,
        Failure::BadReturn,
        Failure::HostPanic,
    ];

    /// The one spelling used in logs, metrics and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Failure::ScriptError => "script_error",
            Failure::TooManyOperations => "too_many_operations",
            Failure::TooSlow => "too_slow",
            Failure::TooLarge => "too_large",
            Failure::BadReturn => "bad_return",
            Failure::HostPanic => "host_panic",
        }
    }
}

/// A hook call that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{place}: {message} (in {})", hook.as_str())]
pub struct PolicyError {
    /// The kind of failure.
    pub failure: Failure,
    /// The hook that was called.
    pub hook: Hook,
    /// `script:line:column`: of the failing expression if known, else of the hook.
    pub place: String,
    /// What went wrong, for the log; never shown to clients.
    pub message: String,
}

impl PolicyError {
    /// The failure's name.
    pub fn as_str(&self) -> &'static str {
        self.failure.as_str()
    }

    /// From what Rhai reported.
    pub(super) fn from_rhai(script: &str, hook: Hook, error: &EvalAltResult) -> Self {
        let inner = innermost(error);
        PolicyError { failure: classify(inner), hook, place: place(script, inner.position()), message: describe(inner) }
    }
}

/// Calls nest errors; the innermost one says what happened and where.
fn innermost(error: &EvalAltResult) -> &EvalAltResult {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) => innermost(inner),
        other => other,
    }
}

fn classify(error: &EvalAltResult) -> Failure {
    match error {
        EvalAltResult::ErrorTooManyOperations(_) => Failure::TooManyOperations,
        EvalAltResult::ErrorTerminated(..) => Failure::TooSlow,
        EvalAltResult::ErrorDataTooLarge(..)
        | EvalAltResult::ErrorStackOverflow(_)
        | EvalAltResult::ErrorTooManyVariables(_) => Failure::TooLarge,
        _ => Failure::ScriptError,
    }
}

/// The error's text without its position, which has its own field.
pub(super) fn describe(error: &EvalAltResult) -> String {
    let mut message = match innermost(error) {
        EvalAltResult::ErrorTerminated(..) => return "took longer than max_time".to_owned(),
        EvalAltResult::ErrorTooManyOperations(_) => return "took more than max_operations".to_owned(),
        EvalAltResult::ErrorRuntime(token, _) => token.to_string(),
        other => {
            let text = other.to_string();
            text.rsplit_once(" (line ").map_or(text.clone(), |(head, _)| head.to_owned())
        }
    };
    // A script may throw kilobytes; a log line need not carry them.
    let cut = message.char_indices().nth(300).map_or(message.len(), |(at, _)| at);
    message.truncate(cut);
    message.replace(['\r', '\n'], " ")
}

/// `script:line:column`, as far as known.
pub(super) fn place(script: &str, position: Position) -> String {
    match (position.line(), position.position()) {
        (Some(line), Some(column)) => format!("{script}:{line}:{column}"),
        (Some(line), None) => format!("{script}:{line}"),
        _ => script.to_owned(),
    }
}

/// `; did you mean "cheap"?` when one of `known` is near enough, else what is known, else nothing.
pub(super) fn suggest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(wrong, k), k))
        .filter(|(distance, k)| *distance <= 1 + k.len().max(wrong.len()) / 4)
        .min();
    near.map_or(String::new(), |(_, k)| format!("; did you mean {k:?}?"))
}
