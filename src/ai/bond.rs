//! What belongs together in the eyes of a provider's prompt cache: conversations, prefixes, users.

use super::prompt::Prompt;
use super::routing::sticky::{self, BondKey};
use super::{Context, Run};
use crate::base::ids::sha256_parts;
use crate::config::ai::{Sticky, StickyBy};
use serde_json::Value;
use std::sync::Arc;

/// The field in which many clients name a session.
const SESSION: &str = "x-session-id";

/// A bond: its name, and the model that it is with.
pub(super) struct Bond {
    pub(super) key: BondKey,
    pub(super) model: Option<Arc<str>>,
}

impl Run<'_> {
    /// The bond of this call, where the route keeps any.
    pub(super) fn bond(&self) -> Option<Bond> {
        let sticky = self.context.options.sticky.or(self.gateway.steering.sticky)?;
        if !self.prompt.operation.is_chat() {
            return None;
        }
        let key = key(self.prompt, self.context, &self.choice.name, sticky);
        let now = self.gateway.clock.elapsed();
        let model = self.gateway.routing.board.bonds.model(&key, sticky.ttl.0, now);
        Some(Bond { key, model })
    }

    /// This model has answered: the next one of the same kind goes there first.
    pub(super) fn bind(&self, bond: Bond, model: &str) {
        let told = match bond.model.as_deref() {
            None => "new",
            Some(before) if before == model => "kept",
            Some(_) => "moved",
        };
        self.record.note(|c| c.sticky = Some(told));
        self.gateway.routing.board.bonds.keep(bond.key, model, self.gateway.clock.elapsed());
    }
}

fn key(prompt: &Prompt, context: &Context, target: &str, sticky: Sticky) -> BondKey {
    let owner = [context.tenant.as_str(), context.route.as_str(), target];
    let named = |place: &str| prompt.fields.get(place).and_then(Value::as_str);
    let session = || context.headers.get(SESSION).map(http::HeaderValue::as_bytes);
    let user = || named("user").or_else(|| named("safety_identifier")).or_else(|| metadata(prompt));
    let name = match sticky.by {
        StickyBy::Conversation => {
            session().or_else(|| named("prompt_cache_key").or_else(|| named("conversation")).map(str::as_bytes))
        }
        StickyBy::Prefix => named("prompt_cache_key").map(str::as_bytes),
        // The tenant stands in the key in any case.
        StickyBy::User => Some(user().unwrap_or_default().as_bytes()),
    };
    if let Some(name) = name {
        return sticky::key(owner, [b"name".as_slice(), name]);
    }
    let rest = match sticky.by {
        StickyBy::Prefix => prompt.fields.get("tools").map(Value::to_string),
        _ => first_question(prompt),
    };
    sticky::key(owner, [b"text".as_slice(), prompt.facts.system.as_bytes(), rest.unwrap_or_default().as_bytes()])
}

fn metadata(prompt: &Prompt) -> Option<&str> {
    prompt.fields.get("metadata")?.get("user_id")?.as_str()
}

/// The first message of the user's, with which a conversation begins whatever comes later.
fn first_question(prompt: &Prompt) -> Option<String> {
    let is_user = |m: &&Value| m.get("role").and_then(Value::as_str).is_none_or(|r| r == "user");
    match prompt.conversation()? {
        Value::String(text) => Some(text.clone()),
        _ => prompt.messages().iter().find(is_user).map(|m| {
            // Not the marks that a client moves through its conversation.
            ["content", "parts"].iter().find_map(|k| m.get(*k)).map_or_else(String::new, words)
        }),
    }
}

fn words(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|p| p.get("text")?.as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

/// A name for a prompt's long prefix that tells a provider nothing about whose it is.
pub(super) fn prefix_name(prompt: &Prompt, tenant: &str) -> String {
    let tools = prompt.fields.get("tools").map(Value::to_string).unwrap_or_default();
    let parts = [b"prefix".as_slice(), tenant.as_bytes(), prompt.facts.system.as_bytes(), tools.as_bytes()];
    let digest = crate::base::ids::hex(&sha256_parts(parts));
    format!("sg-{}", digest.get(..24).unwrap_or_default())
}
