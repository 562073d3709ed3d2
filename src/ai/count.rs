//! `POST /v1/messages/count_tokens`: the count of a provider that has such an endpoint, else an estimate that says so.

use super::catalog::Model;
use super::prompt::{Operation, Prompt};
use super::settle::Files;
use super::verdict::Failure;
use super::{Run, dress};
use crate::base::reply::Reply;
use crate::base::source::Source;
use http::{HeaderName, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// The field that marks an estimate.
const ESTIMATED: HeaderName = HeaderName::from_static("x-sluicegate-estimated");
/// Bytes of text to a token: what English prose has on average with the tokenizers of the large providers.
const BYTES_PER_TOKEN: u64 = 4;
/// What a role and its markers take.
const TOKENS_PER_MESSAGE: u64 = 4;
/// What an image takes at the size to which providers scale large ones.
const TOKENS_PER_IMAGE: u64 = 1600;
/// Depth of JSON that is looked into.
const DEPTH_MAX: usize = 16;

impl Run<'_> {
    /// The count. A provider that cannot tell leaves the client with the estimate; a request that it refuses is refused.
    pub(super) async fn count(self) -> Reply {
        let models = self.choice.first.models.iter();
        let own = |m: &Arc<Model>| m.peer(self.prompt.dialect).dialect.wire();
        let counts = models.filter(|m| own(m).path(Operation::CountTokens, "", false).is_some()).count();
        if counts == 0 {
            return self.estimate();
        }
        match self.reach().await {
            Ok(reached) => self.deliver(reached, Files::default()),
            Err(Failure { next: true, .. }) => self.estimate(),
            Err(failure) => self.give_up(failure),
        }
    }

    fn estimate(&self) -> Reply {
        let reply = Reply::json(StatusCode::OK, Source::Gateway, &json!({ "input_tokens": tokens(self.prompt) }));
        dress(reply.because("estimate").with(ESTIMATED, "input_tokens"), &self.record.read(), None)
    }
}

/// The estimate: all text, tools and their schemas included, at four bytes a token.
pub fn tokens(prompt: &Prompt) -> u64 {
    let fields = &prompt.fields;
    let (mut bytes, mut images) = (0, 0);
    for name in ["system", "messages", "tools"] {
        if let Some(value) = fields.get(name) {
            weigh(value, DEPTH_MAX, (&mut bytes, &mut images));
        }
    }
    let messages = u64::try_from(prompt.facts.messages).unwrap_or(u64::MAX);
    (bytes / BYTES_PER_TOKEN)
        .saturating_add(messages.saturating_mul(TOKENS_PER_MESSAGE))
        .saturating_add(images * TOKENS_PER_IMAGE)
        .max(1)
}

fn weigh(value: &Value, depth: usize, (bytes, images): (&mut u64, &mut u64)) {
    let Some(depth) = depth.checked_sub(1) else { return };
    match value {
        Value::String(text) => *bytes += u64::try_from(text.len()).unwrap_or(0),
        Value::Array(all) => all.iter().for_each(|v| weigh(v, depth, (bytes, images))),
        Value::Object(all) if all.get("type").and_then(Value::as_str) == Some("image") => *images += 1,
        Value::Object(all) => {
            for (name, value) in all {
                *bytes += u64::try_from(name.len()).unwrap_or(0);
                weigh(value, depth, (bytes, images));
            }
        }
        _ => *bytes += 1,
    }
}
