//! `POST /v1/messages/count_tokens` and Gemini's `:countTokens`: the count of a provider that has such an endpoint, else an estimate that says so.

use super::catalog::Model;
use super::prompt::Operation;
use super::routing::cause::Cause;
use super::settle::Files;
use super::verdict::Failure;
use super::{Run, dress, tokens};
use crate::base::reply::Reply;
use crate::base::source::Source;
use http::{HeaderName, StatusCode};
use serde_json::json;
use std::sync::Arc;

/// The field that marks an estimate.
const ESTIMATED: HeaderName = HeaderName::from_static("x-sluicegate-estimated");

impl Run<'_> {
    /// The count. A provider that cannot tell leaves the client with the estimate; a request that it refuses is refused.
    pub(super) async fn count(self) -> Reply {
        let models = self.choice.first.models.iter();
        let own = |m: &Arc<Model>| m.peer(self.prompt.dialect).dialect.wire();
        let counts = models.filter(|m| own(m).path(self.prompt.operation, "", false).is_some()).count();
        if counts == 0 {
            return self.estimate();
        }
        match self.reach(self.deadline()).await {
            Ok(reached) => self.deliver(reached, Files::default()),
            Err(Failure { cause, .. }) if cause != Cause::Request => self.estimate(),
            Err(failure) => self.give_up(failure),
        }
    }

    fn estimate(&self) -> Reply {
        let member = if self.prompt.operation == Operation::CountContents { "totalTokens" } else { "input_tokens" };
        let reply = Reply::json(StatusCode::OK, Source::Gateway, &json!({ member: tokens::likely(self.prompt) }));
        dress(reply.because("estimate").with(ESTIMATED, member), &self.record.read(), None)
    }
}
