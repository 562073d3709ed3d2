//! Which texts of a client's stream grow from event to event, told by the shape of the events: every dialect says
//! unmistakably what it is.

use serde_json::Value;
use std::borrow::Cow;

/// A text that grows: the same slot in two events is one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The choice, block or output item; what ends, ends for all of it.
    pub group: u64,
    item: u64,
    name: Cow<'static, str>,
}

/// A fragment in an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Which text it belongs to.
    pub slot: Slot,
    /// Where it stands in the event, as a JSON pointer.
    pub path: String,
    /// Whether the text is JSON.
    pub json: bool,
}

/// Which texts an event ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Those of these groups.
    Groups(Vec<u64>),
    /// All.
    All,
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    value.get(name).and_then(Value::as_array).into_iter().flatten().enumerate()
}

fn number(value: &Value, name: &str) -> Option<u64> {
    value.get(name).and_then(Value::as_u64)
}

fn kind(event: &Value) -> &str {
    event.get("type").and_then(Value::as_str).unwrap_or_default()
}

struct Found(Vec<Delta>);

impl Found {
    /// Notes a fragment if there is a text at this place.
    fn add(&mut self, event: &Value, path: String, (group, item, name): (u64, u64, &'static str), json: bool) {
        if event.pointer(&path).is_some_and(Value::is_string) {
            self.0.push(Delta { slot: Slot { group, item, name: Cow::Borrowed(name) }, path, json });
        }
    }
}

/// The fragments in an event.
pub fn deltas(event: &Value) -> Vec<Delta> {
    let mut found = Found(Vec::new());
    for (i, choice) in list(event, "choices") {
        of_choice(event, choice, i, &mut found);
    }
    for (i, candidate) in list(event, "candidates") {
        let group = number(candidate, "index").unwrap_or(i as u64);
        let content = candidate.get("content").unwrap_or(&Value::Null);
        for (j, part) in list(content, "parts") {
            let thought = u64::from(part.get("thought") == Some(&Value::Bool(true)));
            found.add(event, format!("/candidates/{i}/content/parts/{j}/text"), (group, thought, "text"), false);
        }
    }
    let index = number(event, "index").unwrap_or(0);
    match kind(event) {
        "content_block_delta" => {
            for (name, json) in [("text", false), ("thinking", false), ("partial_json", true)] {
                found.add(event, format!("/delta/{name}"), (index, 0, name), json);
            }
        }
        kind if kind.starts_with("response.") && kind.ends_with(".delta") && !kind.ends_with("audio.delta") => {
            let group = number(event, "output_index").unwrap_or(0);
            let item = number(event, "content_index").or_else(|| number(event, "summary_index")).unwrap_or(0);
            found.add(event, "/delta".to_owned(), (group, item, ""), kind.contains("arguments"));
            for delta in &mut found.0 {
                delta.slot.name = Cow::Owned(kind.to_owned());
            }
        }
        _ => {}
    }
    found.0
}

/// OpenAI's chat completions, and the older completions.
fn of_choice(event: &Value, choice: &Value, i: usize, found: &mut Found) {
    let group = number(choice, "index").unwrap_or(i as u64);
    found.add(event, format!("/choices/{i}/text"), (group, 0, "text"), false);
    for name in ["content", "refusal", "reasoning_content", "reasoning"] {
        found.add(event, format!("/choices/{i}/delta/{name}"), (group, 0, name), false);
    }
    let delta = choice.get("delta").unwrap_or(&Value::Null);
    found.add(event, format!("/choices/{i}/delta/audio/transcript"), (group, 0, "transcript"), false);
    found.add(event, format!("/choices/{i}/delta/function_call/arguments"), (group, 0, "function_call"), true);
    for (j, block) in list(delta, "thinking_blocks") {
        let item = number(block, "index").unwrap_or(j as u64);
        let path = format!("/choices/{i}/delta/thinking_blocks/{j}/thinking");
        found.add(event, path, (group, item, "thinking_block"), false);
    }
    for (j, call) in list(delta, "tool_calls") {
        let item = number(call, "index").unwrap_or(j as u64);
        let path = format!("/choices/{i}/delta/tool_calls/{j}/function/arguments");
        found.add(event, path, (group, item, "arguments"), true);
    }
}

/// What an event ends.
pub fn ends(event: &Value) -> Ends {
    let told = |item: &Value, name: &str| item.get(name).is_some_and(|r| !r.is_null());
    let mut groups = Vec::new();
    for (i, choice) in list(event, "choices").filter(|(_, c)| told(c, "finish_reason")) {
        groups.push(number(choice, "index").unwrap_or(i as u64));
    }
    for (i, candidate) in list(event, "candidates").filter(|(_, c)| told(c, "finishReason")) {
        groups.push(number(candidate, "index").unwrap_or(i as u64));
    }
    match kind(event) {
        "content_block_stop" => groups.extend(number(event, "index")),
        "message_delta" | "message_stop" | "response.completed" | "response.incomplete" | "response.failed" => {
            return Ends::All;
        }
        kind if kind.starts_with("response.") && kind.ends_with(".done") => {
            groups.extend(number(event, "output_index"))
        }
        _ => {}
    }
    Ends::Groups(groups)
}

/// Whether an event tells the end of the answer, after which a client takes it for complete.
pub fn finishes(event: &Value) -> bool {
    match ends(event) {
        Ends::All => true,
        Ends::Groups(groups) => {
            !groups.is_empty() && (event.get("choices").is_some() || event.get("candidates").is_some())
        }
    }
}
