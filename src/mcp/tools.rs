//! Which tools of a server clients may use, and what the server has told about them.

use crate::config::mcp::McpTools;
use glob::Pattern;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

/// Tools of one server that are remembered.
const KNOWN_MAX: usize = 512;
/// The longest name that is remembered.
const NAME_BYTES_MAX: usize = 128;
/// How a tool is called in metrics that its server never listed.
const OTHER: &str = "other";

/// A server's rules, compiled.
#[derive(Debug)]
pub struct Rules {
    allow: Option<Vec<Pattern>>,
    deny: Vec<Pattern>,
}

/// A pattern that is none: where, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct BadPattern {
    /// `allow[0]` or `deny[2]`.
    pub place: String,
    /// What is wrong.
    pub message: String,
}

impl Rules {
    /// Compiles the rules; all faults together.
    pub fn compile(config: &McpTools) -> Result<Rules, Vec<BadPattern>> {
        let mut faults = Vec::new();
        let mut patterns = |list: &[String], name: &str| {
            let mut out = Vec::new();
            for (i, text) in list.iter().enumerate() {
                match Pattern::new(text) {
                    Ok(p) => out.push(p),
                    Err(e) => faults.push(BadPattern { place: format!("{name}[{i}]"), message: e.to_string() }),
                }
            }
            out
        };
        let (allow, deny) = (config.allow.as_ref().map(|a| patterns(a, "allow")), patterns(&config.deny, "deny"));
        if faults.is_empty() { Ok(Rules { allow, deny }) } else { Err(faults) }
    }

    /// Whether clients see the tool and may call it.
    pub fn allows(&self, tool: &str) -> bool {
        let any = |list: &[Pattern]| list.iter().any(|p| p.matches(tool));
        self.allow.as_deref().is_none_or(any) && !any(&self.deny)
    }

    /// Takes the tools that are not allowed out of a message of the server, be it an answer or a list of answers; true
    /// when there were any. What the others are said to be is noted.
    pub fn filter(&self, message: &mut Value, known: &Known) -> bool {
        if let Some(all) = message.as_array_mut() {
            return all.iter_mut().fold(false, |changed, m| self.filter(m, known) | changed);
        }
        let tools = message.get_mut("result").and_then(|r| r.get_mut("tools")).and_then(Value::as_array_mut);
        let Some(tools) = tools else { return false };
        let before = tools.len();
        tools.retain(|t| name(t).is_some_and(|n| self.allows(n)));
        tools.iter().for_each(|t| known.note(t));
        tools.len() != before
    }
}

fn name(tool: &Value) -> Option<&str> {
    tool.get("name").and_then(Value::as_str)
}

/// The tools that a server has listed. It outlives reloads.
#[derive(Debug, Default)]
pub struct Known(RwLock<BTreeMap<String, bool>>);

impl Known {
    /// Knows the tools that the configuration names.
    pub fn of(config: &McpTools) -> Known {
        let named = config.allow.iter().flatten().filter(|n| !n.contains(['*', '?', '[']));
        Known(RwLock::new(named.take(KNOWN_MAX).map(|n| (n.clone(), false)).collect()))
    }

    fn note(&self, tool: &Value) {
        let Some(name) = name(tool).filter(|n| n.len() <= NAME_BYTES_MAX) else { return };
        let read_only = tool.pointer("/annotations/readOnlyHint").and_then(Value::as_bool).unwrap_or(false);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < KNOWN_MAX || known.contains_key(name) {
            known.insert(name.to_owned(), read_only);
        }
    }

    /// Whether the server says that the tool only reads.
    pub fn reads_only(&self, tool: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(tool).copied().unwrap_or(false)
    }

    /// The tool's name in metrics: there are only as many as the server has listed.
    pub fn label(&self, tool: &str) -> String {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(tool);
        if known { tool.to_owned() } else { OTHER.to_owned() }
    }
}
