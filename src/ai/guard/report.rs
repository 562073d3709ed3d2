//! What guards did in one call: kinds and counts, never the text.

use std::collections::BTreeMap;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Done {
    /// The call was refused or the answer withheld.
    Denied,
    /// A value was taken out.
    Redacted,
    /// A value was masked, to be put back in the answer.
    Masked,
    /// A value was put back.
    Restored,
    /// It was told and nothing else.
    Flagged,
}

impl Done {
    /// The one spelling used in headers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Done::Denied => "deny",
            Done::Redacted => "redact",
            Done::Masked => "mask",
            Done::Restored => "restore",
            Done::Flagged => "flag",
        }
    }
}

/// The report of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The guards' name; empty where there were none.
    pub guard: String,
    done: BTreeMap<(&'static str, Done), u64>,
}

impl Report {
    /// An empty report of these guards.
    pub fn of(guard: &str) -> Report {
        Report { guard: guard.to_owned(), done: BTreeMap::new() }
    }

    /// Counts once more.
    pub fn note(&mut self, kind: &'static str, done: Done) {
        *self.done.entry((kind, done)).or_default() += 1;
    }

    /// Adds what another report counted.
    pub fn extend(&mut self, other: &Report) {
        if self.guard.is_empty() {
            self.guard.clone_from(&other.guard);
        }
        for (what, n) in &other.done {
            *self.done.entry(*what).or_default() += n;
        }
    }

    /// Kinds, what was done, and how often.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, Done, u64)> + '_ {
        self.done.iter().map(|((kind, done), n)| (*kind, *done, *n))
    }

    /// As the header field tells it: `email;mask=2, injection;flag=1`.
    pub fn told(&self) -> Option<String> {
        let all: Vec<String> = self.counts().map(|(k, d, n)| format!("{k};{}={n}", d.as_str())).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}
