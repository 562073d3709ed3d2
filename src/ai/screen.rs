//! Where guards stand in a call: before anything is asked, and behind every complete answer.

use super::call::CallRecord;
use super::catalog::Model;
use super::error::AiError;
use super::guard::report::Report;
use super::guard::{GUARD_FAILED, GuardSet, Guarded};
use super::prompt::{Operation, Prompt};
use super::provider::Opened;
use super::verdict::{Failure, garbage, withheld};
use super::{AiDirectives, Context, Gateway, Run};
use http::StatusCode;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The request as it goes on where that is not as it came, and what looks at its answer.
type Screened = (Option<Prompt>, Option<Arc<Guarded>>);

impl Gateway {
    /// The same gateway with these guards.
    pub fn with_guards(mut self, guards: BTreeMap<String, Arc<GuardSet>>) -> Gateway {
        self.guards = guards;
        self
    }

    /// Has the guards look at a request.
    pub(super) fn screen(
        &self,
        prompt: &Prompt,
        directives: &AiDirectives,
        context: &Context,
        record: &CallRecord,
    ) -> Result<Screened, AiError> {
        let Some(set) = self.guards_of(directives, context)? else { return Ok((None, None)) };
        match set.screen(prompt.text(), &prompt.fields, prompt.operation.is_chat()) {
            Ok(screened) => {
                record.note(|c| c.guard = screened.guarded.report());
                let edited = !screened.edits.is_empty();
                let prompt = edited.then(|| prompt.edited(screened.edits)).transpose()?;
                Ok((prompt, Some(Arc::new(screened.guarded))))
            }
            Err((denied, report)) => {
                tracing::info!(guard = set.name, reason = denied.reason, kind = denied.kind, "request refused");
                record.note(|c| c.guard = report);
                Err(denied.of_request())
            }
        }
    }

    /// What passes unread cannot be looked at: where there are guards it is refused.
    pub(super) fn unguarded(&self, directives: &AiDirectives, context: &Context) -> Result<(), AiError> {
        match self.guards_of(directives, context)? {
            None => Ok(()),
            Some(_) => {
                let message = "this endpoint passes unread, and the guards of the call could not look at it".to_owned();
                Err(AiError::Refused { message, reason: GUARD_FAILED, status: StatusCode::FORBIDDEN })
            }
        }
    }

    /// The guards of a call. A choice of the script's that the route does not allow refuses the call: to go on under
    /// other guards than those meant would be worse.
    fn guards_of(&self, directives: &AiDirectives, context: &Context) -> Result<Option<&Arc<GuardSet>>, AiError> {
        let options = &context.options;
        let own = options.guards.as_ref();
        let chosen = directives.guard.as_ref();
        let allowed = |name: &String| own.is_none_or(|own| own == name) || options.guards_allowed.contains(name);
        if let Some(name) = chosen.filter(|name| !allowed(name)) {
            let message = format!("the policy chose the guards {name:?}, which this route does not allow");
            return Err(refused(message, "guard_not_allowed"));
        }
        let Some(name) = chosen.or(own) else { return Ok(None) };
        match self.guards.get(name) {
            Some(set) => Ok(Some(set)),
            None => Err(refused(format!("there are no guards {name:?}"), "no_such_guard")),
        }
    }
}

fn refused(message: String, reason: &'static str) -> AiError {
    AiError::Refused { message, reason, status: StatusCode::INTERNAL_SERVER_ERROR }
}

impl Run<'_> {
    /// A complete answer after its guards: as JSON for the caches, as bytes for the client. A withheld answer is billed
    /// like any other.
    pub(super) fn judged(&self, opened: Opened, model: &Model) -> Result<Opened, Failure> {
        let operation = self.prompt.operation;
        let texts = operation != Operation::Embeddings && !operation.is_count();
        let guarded = self.guarded.as_ref().filter(|g| texts && g.watches_answers());
        let (guarded, headers, mut body, json, usage, dropped) = match (guarded, opened) {
            (Some(guarded), Opened::Whole { headers, body, json, usage, dropped }) => {
                (guarded, headers, body, json, usage, dropped)
            }
            (_, opened) => return Ok(opened),
        };
        let (stored, shown) = guarded.whole(&json).map_err(|denied| {
            self.record.lose(model, usage, self.gateway.clock.unix_secs());
            self.record.note(|c| c.guard = guarded.report());
            withheld(denied.of_answer(), denied.retry)
        })?;
        if shown != json {
            let facts = &self.prompt.facts;
            body = if facts.stream {
                let text = self.prompt.dialect.wire().replay(&shown, facts.wants_usage);
                text.ok_or_else(|| garbage(model, "JSON that is no answer to this request"))?.into()
            } else {
                shown.to_string().into()
            };
        }
        Ok(Opened::Whole { headers, body, json: stored, usage, dropped })
    }

    /// What the guards did so far.
    pub(super) fn guard_report(&self) -> Report {
        self.guarded.as_ref().map(|g| g.report()).unwrap_or_default()
    }
}
