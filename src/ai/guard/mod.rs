//! Guards: what may not reach a provider as it is, and what may not come back.
//!
//! A [`GuardSet`] is compiled with the plan. [`GuardSet::screen`] looks at a request before any cache is asked and gives
//! a [`Guarded`] call with the edits of its bytes; that looks at the answer, whole or as a stream.
//!
//! **Invariant of masking.** The request is masked before its cache key is made, before it joins calls in flight and
//! before a provider sees it. So whatever comes back was made of masked text, and that is what is recorded, stored and
//! handed to followers: it holds nothing of the values. They stand in the [`vault::Vault`] of the request alone, never
//! in a cache, and are put back on the last step to the client, after the recorder. Equal masked requests may therefore
//! share an answer whatever their values are. The digest of the guards is part of every key, so an answer is served
//! only under the guards that looked at it.
//!
//! **Streams** are looked at with a window: text is held back until nothing that follows can change the judgement on
//! it. With recognisers of personal data these are the last 64 characters and the unbroken word before them; with deny
//! lists the longest entry, 257 characters if the list has patterns; with masked values alone nothing but a placeholder
//! that has begun. Frames keep their order and their number.
//!
//! Guards fail closed: what cannot be looked at is refused.

mod frames;
pub mod inject;
mod input;
mod output;
pub mod pii;
pub mod report;
mod schema;
mod slots;
#[cfg(test)]
mod tests;
mod vault;
mod walk;
mod words;

use super::error::AiError;
use crate::base::ids::{hex, sha256_parts};
use crate::config::ai::guard::{Guards, PiiAction, SchemaAction, Side, Verdict};
pub use frames::{Held, Released, Shown};
use http::StatusCode;
use inject::Injector;
pub use input::Screened;
use pii::Finder;
use report::{Done, Report};
use schema::{Schema, Schemas};
pub use slots::finishes;
use std::sync::{Arc, Mutex};
use vault::Vault;
use words::Words;

/// Reason of a refusal for personal data.
pub const PII_DENIED: &str = "pii_denied";
/// Reason of a refusal for an attack on the instructions.
pub const INJECTION_DENIED: &str = "injection_denied";
/// Reason of a refusal for a word of the list.
pub const WORD_DENIED: &str = "word_denied";
/// Reason of a withheld answer that does not keep to its schema.
pub const SCHEMA_MISMATCH: &str = "schema_mismatch";
/// Reason of a refusal because a guard could not look.
pub const GUARD_FAILED: &str = "guard_failed";

/// The recognisers of a set with what they do.
struct Pii {
    finder: Finder,
    action: PiiAction,
    input: bool,
    output: bool,
}

/// The deny list of a set with what it does.
struct List {
    words: Words,
    verdict: Verdict,
    input: bool,
    output: bool,
}

/// The schema check of a set.
struct Check {
    action: SchemaAction,
    fixed: Option<Arc<Schema>>,
    schemas: Schemas,
}

/// A compiled set of guards, immutable.
pub struct GuardSet {
    /// Its name.
    pub name: String,
    /// Stands for the whole set in cache keys.
    pub digest: String,
    pii: Option<Pii>,
    injection: Option<(Injector, Verdict, f64)>,
    list: Option<List>,
    check: Option<Check>,
}

/// A call under guards.
pub struct Guarded {
    set: Arc<GuardSet>,
    vault: Vault,
    schema: Option<Arc<Schema>>,
    report: Mutex<Report>,
}

/// A refusal: the reason for log, metric and client, and a message without the text that caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The one word.
    pub reason: &'static str,
    /// What was found, as metrics count it.
    pub kind: &'static str,
    /// For the client.
    pub message: String,
    /// Whether another model may do better.
    pub retry: bool,
}

impl Denied {
    fn new(reason: &'static str, kind: &'static str, message: impl Into<String>) -> Denied {
        Denied { reason, kind, message: message.into(), retry: false }
    }

    fn failed(message: &str) -> Denied {
        Denied::new(GUARD_FAILED, "guard", message)
    }

    /// As the refusal of a request.
    pub fn of_request(&self) -> AiError {
        let status = if self.reason == GUARD_FAILED { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::FORBIDDEN };
        AiError::Refused { message: self.message.clone(), reason: self.reason, status }
    }

    /// As the withholding of an answer.
    pub fn of_answer(&self) -> AiError {
        let ours = matches!(self.reason, SCHEMA_MISMATCH | GUARD_FAILED);
        let status = if ours { StatusCode::BAD_GATEWAY } else { StatusCode::FORBIDDEN };
        AiError::Refused { message: self.message.clone(), reason: self.reason, status }
    }
}

impl GuardSet {
    /// Compiles a set; `words` is the text of its words file. Faults come with the key below the set's own.
    pub fn compile(name: &str, c: &Guards, words: &str) -> Result<GuardSet, Vec<(String, String)>> {
        let mut faults: Vec<(String, String)> = Vec::new();
        let has = |on: &[Side], side| on.contains(&side);
        let pii = c.pii.as_ref().and_then(|p| match Finder::new(&p.kinds) {
            Ok(finder) => {
                let (input, output) = (has(&p.on, Side::Input), has(&p.on, Side::Output));
                Some(Pii { finder, action: p.action, input, output })
            }
            Err(e) => {
                faults.push(("pii".to_owned(), e.to_string()));
                None
            }
        });
        let injection = c.injection.as_ref().and_then(|i| match Injector::new() {
            Ok(made) => Some((made, i.action, i.threshold)),
            Err(e) => {
                faults.push(("injection".to_owned(), e.to_string()));
                None
            }
        });
        let list = c.deny.as_ref().and_then(|d| match Words::compile(d, words) {
            Ok(words) => {
                let (input, output) = (has(&d.on, Side::Input), has(&d.on, Side::Output));
                Some(List { words, verdict: d.action, input, output })
            }
            Err(list) => {
                faults.extend(list.into_iter().map(|(k, m)| (dotted("deny", &k), m)));
                None
            }
        });
        let schemas = Schemas::default();
        let check = c.output_schema.as_ref().map(|s| {
            let fixed = s.schema.as_ref().map(|schema| schemas.compiled(schema)).transpose().unwrap_or_else(|e| {
                faults.push(("output_schema.schema".to_owned(), e.to_owned()));
                None
            });
            Check { action: s.action, fixed, schemas: schemas.clone() }
        });
        faults.extend(plain_faults(c));
        let told = serde_json::to_vec(c).unwrap_or_default();
        let digest = hex(&sha256_parts([name.as_bytes(), told.as_slice(), words.as_bytes()]));
        let set = GuardSet { name: name.to_owned(), digest, pii, injection, list, check };
        if faults.is_empty() { Ok(set) } else { Err(faults) }
    }
}

fn dotted(key: &str, rest: &str) -> String {
    if rest.is_empty() { key.to_owned() } else { format!("{key}.{rest}") }
}

/// Keys that would have no effect, or none that anyone can mean.
fn plain_faults(c: &Guards) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut fault = |key: &str, message: &str| faults.push((key.to_owned(), message.to_owned()));
    if let Some(p) = &c.pii {
        if p.kinds.is_empty() {
            fault("pii.kinds", "is empty; leave it out for every kind");
        }
        if p.on.is_empty() {
            fault("pii.on", "is empty");
        }
        if p.action == PiiAction::MaskAndRestore && !p.on.contains(&Side::Input) {
            fault("pii.action", "mask_and_restore masks what clients send: `on` must have `input`");
        }
    }
    if c.injection.as_ref().is_some_and(|i| !(i.threshold > 0.0 && i.threshold <= 1.0)) {
        fault("injection.threshold", "must be above 0.0 and at most 1.0");
    }
    if c.deny.as_ref().is_some_and(|d| d.on.is_empty()) {
        fault("deny.on", "is empty");
    }
    if *c == Guards::default() {
        fault("", "guards nothing: give it pii, injection, deny or output_schema");
    }
    faults
}

impl Guarded {
    /// The digest that belongs into cache keys.
    pub fn digest(&self) -> &str {
        &self.set.digest
    }

    /// Why the semantic cache must not answer; `None` when it may. Of two masked values of one kind a similar question
    /// may mean the other one.
    pub fn unfit(&self) -> Option<&'static str> {
        self.vault.ambiguous().then_some("masked_values")
    }

    /// What was done so far.
    pub fn report(&self) -> Report {
        match self.report.lock() {
            Ok(report) => report.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    /// Whether streams must be checked against a schema before their end is told.
    pub fn has_schema(&self) -> bool {
        self.schema.is_some()
    }

    /// Checks the complete answer of a stream, as it was recorded. One that was too large to record cannot be checked.
    pub fn checked(&self, recorded: Option<&serde_json::Value>) -> Result<(), Denied> {
        match recorded {
            _ if self.schema.is_none() => Ok(()),
            Some(answer) => self.keeps_to_schema(&self.restored(answer)),
            None => Err(self.denied(Denied::failed("the answer cannot be looked at by its guards"))),
        }
    }

    fn note(&self, kind: &'static str, done: Done) {
        match self.report.lock() {
            Ok(mut report) => report.note(kind, done),
            Err(poisoned) => poisoned.into_inner().note(kind, done),
        }
    }

    /// The refusal, counted.
    fn denied(&self, denied: Denied) -> Denied {
        self.note(denied.kind, Done::Denied);
        denied
    }
}
