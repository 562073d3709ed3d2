//! A request before anything else sees it: refused, or edited where a value must not leave.

use super::report::{Done, Report};
use super::vault::{Vault, label};
use super::walk::{Piece, What, pieces};
use super::{Denied, GuardSet, Guarded, INJECTION_DENIED, PII_DENIED, Pii, WORD_DENIED};
use crate::ai::json::Edit;
use crate::config::ai::guard::{PiiAction, Verdict};
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex};

/// Values that are replaced in one request.
const EDITS_MAX: usize = 20_000;
/// Bytes of one value that is given back.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// A request that may go on.
pub struct Screened {
    /// The edits of the original bytes; empty when they stay as they are.
    pub edits: Vec<Edit>,
    /// What looks at the answer.
    pub guarded: Guarded,
}

/// What a request brings that may go on: its edits, its values and its schema.
type Passed = (Vec<Edit>, Vault, Option<Arc<super::Schema>>);

/// A refusal with the report of what was found until then.
pub type Refused = (Denied, Report);

impl GuardSet {
    /// Looks at a request: `body` is its bytes, `fields` the same parsed. Whether it is a chat decides if it can attack
    /// instructions at all.
    pub fn screen(self: &Arc<Self>, body: &str, fields: &Map<String, Value>, chat: bool) -> Result<Screened, Refused> {
        let mut report = Report::of(&self.name);
        match self.try_screen(body, fields, chat, &mut report) {
            Ok((edits, vault, schema)) => {
                let guarded = Guarded { set: Arc::clone(self), vault, schema, report: Mutex::new(report) };
                Ok(Screened { edits, guarded })
            }
            Err(denied) => {
                report.note(denied.kind, Done::Denied);
                Err((denied, report))
            }
        }
    }

    fn try_screen(
        &self,
        body: &str,
        fields: &Map<String, Value>,
        chat: bool,
        report: &mut Report,
    ) -> Result<Passed, Denied> {
        if chat {
            self.attacks(fields, report)?;
        }
        let all = pieces(body).ok_or_else(|| Denied::failed("the request cannot be looked at by its guards"))?;
        self.words(&all, report)?;
        let mut vault = Vault::default();
        let edits = match &self.pii {
            Some(pii) if pii.input => personal(pii, &all, &mut vault, report)?,
            _ => Vec::new(),
        };
        let schema = if chat { self.schema(fields)? } else { None };
        Ok((edits, vault, schema))
    }

    fn attacks(&self, fields: &Map<String, Value>, report: &mut Report) -> Result<(), Denied> {
        let Some((injector, verdict, threshold)) = &self.injection else { return Ok(()) };
        for text in said(fields) {
            if injector.score(text) < *threshold {
                continue;
            }
            if *verdict == Verdict::Deny {
                let message = "the request looks like an attempt to overrule the instructions";
                return Err(Denied::new(INJECTION_DENIED, "injection", message));
            }
            report.note("injection", Done::Flagged);
        }
        Ok(())
    }

    fn words(&self, all: &[Piece<'_>], report: &mut Report) -> Result<(), Denied> {
        let Some(list) = self.list.as_ref().filter(|l| l.input) else { return Ok(()) };
        for _ in all.iter().flat_map(|p| list.words.find(&p.text)) {
            if list.verdict == Verdict::Deny {
                return Err(Denied::new(WORD_DENIED, "word", "the request holds a word that may not be said here"));
            }
            report.note("word", Done::Flagged);
        }
        Ok(())
    }

    /// The schema to check against. A schema that cannot be used is refused now, before anything is spent.
    fn schema(&self, fields: &Map<String, Value>) -> Result<Option<Arc<super::Schema>>, Denied> {
        let Some(check) = &self.check else { return Ok(None) };
        if let Some(fixed) = &check.fixed {
            return Ok(Some(Arc::clone(fixed)));
        }
        let asked = super::schema::asked(fields);
        asked.map(|schema| check.schemas.compiled(&schema)).transpose().map_err(Denied::failed)
    }
}

/// The edits that take personal data out.
fn personal(pii: &Pii, all: &[Piece<'_>], vault: &mut Vault, report: &mut Report) -> Result<Vec<Edit>, Denied> {
    let found: Vec<_> = all.iter().map(|p| (p, pii.finder.find(&p.text))).filter(|(_, f)| !f.is_empty()).collect();
    if pii.action == PiiAction::MaskAndRestore && !found.is_empty() {
        all.iter().for_each(|p| vault.avoid(&p.text));
    }
    let (mut edits, mut count) = (Vec::new(), 0);
    for (piece, values) in found {
        count += values.len();
        let mut text = String::with_capacity(piece.text.len());
        let mut at = 0;
        for value in values {
            let kind = value.kind.as_str();
            if pii.action == PiiAction::Deny || piece.what == What::Name {
                let message = format!("the request holds personal data or a secret of the kind {kind}");
                return Err(Denied::new(PII_DENIED, kind, message));
            }
            let own = piece.text.get(value.at.clone()).unwrap_or_default();
            let (instead, done) = match pii.action {
                PiiAction::MaskAndRestore => (masked(vault, &value, own, piece.what)?, Done::Masked),
                _ => (format!("[{}]", label(value.kind)), Done::Redacted),
            };
            report.note(kind, done);
            text.push_str(piece.text.get(at..value.at.start).unwrap_or_default());
            text.push_str(&instead);
            at = value.at.end;
        }
        text.push_str(piece.text.get(at..).unwrap_or_default());
        edits.push(Edit { span: piece.span.clone(), text: Value::String(text).to_string() });
    }
    if count > EDITS_MAX {
        return Err(Denied::failed("the request holds more personal data than its guards can replace"));
    }
    Ok(edits)
}

fn masked(vault: &mut Vault, found: &super::pii::Found, own: &str, what: What) -> Result<String, Denied> {
    let too_many = || Denied::failed("the request holds more personal data than its guards can replace");
    if own.len() > VALUE_BYTES_MAX {
        return Err(too_many());
    }
    // Within JSON text the value stands escaped; the vault keeps what it means.
    let plain = (what == What::Json).then(|| serde_json::from_str::<String>(&format!("\"{own}\"")).ok()).flatten();
    vault.mask(found.kind, plain.as_deref().unwrap_or(own)).map_err(|_| too_many())
}

/// What users and tools say: every text of the conversation that is neither the model's nor an instruction.
fn said(fields: &Map<String, Value>) -> Vec<&str> {
    let mut out = Vec::new();
    for name in ["messages", "input", "contents", "prompt"] {
        match fields.get(name) {
            Some(Value::String(text)) => out.push(text.as_str()),
            Some(Value::Array(all)) => all.iter().filter(|item| is_said(item)).for_each(|item| gather(item, &mut out)),
            _ => {}
        }
    }
    out
}

fn is_said(item: &Value) -> bool {
    let role = item.get("role").and_then(Value::as_str);
    let kind = item.get("type").and_then(Value::as_str);
    let models = matches!(kind, Some("function_call" | "reasoning" | "custom_tool_call"));
    !models && !matches!(role, Some("system" | "developer" | "assistant" | "model"))
}

/// Strings however deep; depth is bounded by the reading of the request.
fn gather<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => out.push(text),
        Value::Array(all) => all.iter().for_each(|v| gather(v, out)),
        Value::Object(fields) => fields.values().for_each(|v| gather(v, out)),
        _ => {}
    }
}
