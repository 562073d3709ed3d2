//! A complete answer under guards: what it says on its own is judged, then the client's own values are put back.

use super::report::Done;
use super::vault::label;
use super::walk::{What, each};
use super::{Denied, Guarded, PII_DENIED, SCHEMA_MISMATCH, WORD_DENIED};
use crate::config::ai::guard::{PiiAction, SchemaAction, Verdict};
use serde_json::Value;
use std::convert::Infallible;
use std::ops::Range;

/// What happens to a place in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Something else stands there, for the record and for the client.
    Replace(&'static str, String),
    /// The client's own value is put back; the record keeps the placeholder.
    Restore(String),
    /// It is told.
    Flag,
    /// The answer is withheld.
    Deny(&'static str, &'static str),
}

/// A place in an answer with what happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) at: Range<usize>,
    pub(super) then: Then,
}

impl Guarded {
    /// Whether anything is to be looked for in answers, or put back into them.
    pub fn watches_answers(&self) -> bool {
        !self.vault.is_empty() || self.judges() || self.schema.is_some()
    }

    fn judges(&self) -> bool {
        self.set.pii.as_ref().is_some_and(|p| p.output) || self.set.list.as_ref().is_some_and(|l| l.output)
    }

    /// Bytes at the end of a text on which nothing can be said yet.
    pub(super) fn window(&self) -> usize {
        let pii = self.set.pii.as_ref().filter(|p| p.output).map_or(0, |_| super::pii::SPACED_CHARS_MAX);
        pii.max(self.set.list.as_ref().filter(|l| l.output).map_or(0, |l| l.words.window()))
    }

    /// Every hit in a text, in order; where two meet, the first has the place.
    pub(super) fn hits(&self, text: &str, json: bool) -> Vec<Hit> {
        let mut hits: Vec<Hit> = Vec::new();
        if let Some(list) = self.set.list.as_ref().filter(|l| l.output) {
            let then = if list.verdict == Verdict::Deny { Then::Deny(WORD_DENIED, "word") } else { Then::Flag };
            hits.extend(list.words.find(text).into_iter().map(|at| Hit { at, then: then.clone() }));
        }
        if let Some(pii) = self.set.pii.as_ref().filter(|p| p.output) {
            hits.extend(pii.finder.find(text).into_iter().map(|found| {
                let kind = found.kind.as_str();
                let then = match pii.action {
                    PiiAction::Deny => Then::Deny(PII_DENIED, kind),
                    _ => Then::Replace(kind, format!("[{}]", label(found.kind))),
                };
                Hit { at: found.at, then }
            }));
        }
        let back = self.vault.restorations(text, json).into_iter();
        hits.extend(back.map(|(at, value)| Hit { at, then: Then::Restore(value) }));
        hits.sort_by_key(|h| (h.at.start, h.at.end));
        let mut end = 0;
        // A flag takes no place.
        hits.retain(|h| {
            let free = h.at.start >= end || matches!(h.then, Then::Flag | Then::Deny(..));
            if free && h.then != Then::Flag {
                end = end.max(h.at.end);
            }
            free
        });
        hits
    }

    /// What a hit does, counted; an error where the answer is withheld.
    pub(super) fn settle(&self, hit: &Hit) -> Result<(), Denied> {
        match &hit.then {
            Then::Replace(kind, _) => self.note(kind, Done::Redacted),
            Then::Restore(_) => self.note("value", Done::Restored),
            Then::Flag => self.note("word", Done::Flagged),
            Then::Deny(reason, kind) => {
                let message = match *reason {
                    WORD_DENIED => "the answer holds a word that may not be said here".to_owned(),
                    _ => format!("the answer holds personal data or a secret of the kind {kind}"),
                };
                return Err(self.denied(Denied::new(reason, kind, message)));
            }
        }
        Ok(())
    }

    /// The judgement on a complete answer: as it may be stored, and as the client gets it. Schemas are checked on the
    /// latter.
    pub fn whole(&self, json: &Value) -> Result<(Value, Value), Denied> {
        let mut stored = json.clone();
        if self.judges() {
            each(&mut stored, &mut |what, text| self.judged(what, text))?;
        }
        let shown = self.restored(&stored);
        self.keeps_to_schema(&shown)?;
        Ok((stored, shown))
    }

    pub(super) fn judged(&self, what: What, text: &str) -> Result<Option<String>, Denied> {
        let mut hits = self.hits(text, what == What::Json);
        hits.retain(|h| !matches!(h.then, Then::Restore(_)));
        hits.iter().try_for_each(|h| self.settle(h))?;
        hits.retain(|h| h.then != Then::Flag);
        if hits.is_empty() {
            return Ok(None);
        }
        let instead = |hit: &Hit| match &hit.then {
            Then::Replace(_, text) => text.clone(),
            _ => String::new(),
        };
        Ok(Some(replaced(text, hits.iter().map(|h| (h.at.clone(), instead(h))))))
    }

    /// An answer with the client's own values put back.
    pub fn restored(&self, json: &Value) -> Value {
        self.put_back(json).unwrap_or_else(|| json.clone())
    }

    /// The same, where it is another.
    pub(super) fn put_back(&self, json: &Value) -> Option<Value> {
        if self.vault.is_empty() {
            return None;
        }
        let (mut out, mut count) = (json.clone(), 0);
        let back = each(&mut out, &mut |what, text| {
            let back = self.vault.restorations(text, what == What::Json);
            count += back.len();
            Ok::<_, Infallible>((!back.is_empty()).then(|| replaced(text, back.into_iter())))
        });
        let Ok(()) = back;
        (0..count).for_each(|_| self.note("value", Done::Restored));
        (count > 0).then_some(out)
    }

    /// A stored answer for this request, with its own values. `None` when it cannot be read, when it was made for other
    /// masked values than this request has, or when with these it does not keep to the schema.
    pub fn again(&self, stored: &[u8]) -> Option<Value> {
        let json: Value = serde_json::from_slice(stored).ok()?;
        let shown = (!self.is_foreign(&json)).then(|| self.restored(&json))?;
        self.schema.as_ref().is_none_or(|s| s.holds(&shown)).then_some(shown)
    }

    fn is_foreign(&self, json: &Value) -> bool {
        let mut copy = json.clone();
        let masks = self.set.pii.as_ref().is_some_and(|p| p.action == PiiAction::MaskAndRestore);
        let foreign = |_: What, text: &str| if self.vault.has_strangers(text) { Err(()) } else { Ok(None) };
        masks && each(&mut copy, &mut { foreign }).is_err()
    }

    /// Checks an answer, as the client gets it, against the schema asked for.
    pub fn keeps_to_schema(&self, shown: &Value) -> Result<(), Denied> {
        let Some(schema) = &self.schema else { return Ok(()) };
        if schema.holds(shown) {
            return Ok(());
        }
        let retry = self.set.check.as_ref().is_some_and(|c| c.action == SchemaAction::Retry);
        let message = "the model's answer does not keep to the JSON schema that was asked for";
        Err(self.denied(Denied { retry, ..Denied::new(SCHEMA_MISMATCH, "schema", message) }))
    }
}

/// A text with other texts at some places, in order.
pub(super) fn replaced(text: &str, places: impl Iterator<Item = (Range<usize>, String)>) -> String {
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for (place, instead) in places {
        out.push_str(text.get(at..place.start).unwrap_or_default());
        out.push_str(&instead);
        at = place.end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}
