//! The seam to the semantic cache: what the pipeline asks of it, and when a prompt may not be asked at all.

use super::prompt::Prompt;
pub use super::semantic::{Hit, Query, StoredAnswer as Answer};
use async_trait::async_trait;
use serde_json::Value;

/// Conversations with more user messages than this are too particular to share answers.
const TURNS_MAX: usize = 6;
/// Above this temperature the client wants variety.
const TEMPERATURE_MAX: f64 = 1.0;

/// What a look-up brought.
pub enum Lookup {
    /// A stored answer.
    Hit(Hit),
    /// None; a new answer may be filed under this ticket.
    Miss(Box<dyn Ticket>),
    /// The semantic cache takes no part, for this reason.
    Bypass(&'static str),
}

/// The place that a miss reserved: it remembers what the look-up computed (the vector), so that filing is cheap.
#[async_trait]
pub trait Ticket: Send {
    /// Files the answer. Failures are the cache's own business: the client has been served.
    async fn store(self: Box<Self>, answer: Answer);
}

/// A semantic cache. It never fails outward: an unreachable store is a bypass.
#[async_trait]
pub trait SemanticLookup: Send + Sync {
    /// Looks for an answer to the same question in other words.
    async fn lookup(&self, query: &Query) -> Lookup;

    /// A place for an answer without looking for an older one: filing under it replaces the entry of the same text.
    /// The error is the reason of a bypass.
    async fn ticket(&self, query: &Query) -> Result<Box<dyn Ticket>, &'static str>;
}

/// Why a prompt is not for the semantic cache; `None` when it is.
pub fn unfit(prompt: &Prompt) -> Option<&'static str> {
    let messages = prompt.messages();
    let last_role = messages.last().and_then(|m| m.get("role")).and_then(Value::as_str);
    let one_text = prompt.conversation().is_some_and(Value::is_string);
    if last_role != Some("user") && !one_text {
        return Some("last_role_not_user");
    }
    if messages.iter().any(uses_tools) {
        return Some("tools_in_history");
    }
    let facts = &prompt.facts;
    if facts.n > 1 {
        return Some("many_choices");
    }
    if facts.temperature.is_some_and(|t| t > TEMPERATURE_MAX) {
        return Some("temperature");
    }
    if facts.turns > TURNS_MAX {
        return Some("too_many_turns");
    }
    if facts.text.trim().is_empty() { Some("no_text") } else { None }
}

fn uses_tools(message: &Value) -> bool {
    let role = message.get("role").and_then(Value::as_str);
    let called = ["tool_calls", "function_call"].iter().any(|k| message.get(k).is_some_and(|v| !v.is_null()));
    // Items of OpenAI's Responses other than what is said and thought are calls and what they returned.
    let kind = message.get("type").and_then(Value::as_str);
    let an_item = kind.is_some_and(|k| k != "message" && k != "reasoning");
    let an_item = an_item || parts_of_tools(message);
    called || an_item || matches!(role, Some("tool" | "function")) || blocks_of_tools(message)
}

/// Gemini's calls and responses, in either of its spellings.
fn parts_of_tools(message: &Value) -> bool {
    let parts = message.get("parts").and_then(Value::as_array);
    let mut names = parts.into_iter().flatten().filter_map(Value::as_object).flat_map(|p| p.keys());
    names.any(|n| matches!(n.as_str(), "functionCall" | "function_call" | "functionResponse" | "function_response"))
}

/// Anthropic's `tool_use`, `tool_result`, `server_tool_use`, `web_search_tool_result` and whatever is like them.
fn blocks_of_tools(message: &Value) -> bool {
    let blocks = message.get("content").and_then(Value::as_array);
    let mut kinds = blocks.into_iter().flatten().filter_map(|b| b.get("type").and_then(Value::as_str));
    kinds.any(|kind| kind.ends_with("tool_use") || kind.ends_with("tool_result"))
}
