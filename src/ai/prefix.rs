//! Marks on the long prefix of a prompt, by which a provider caches it: Anthropic's `cache_control`, OpenAI's
//! `prompt_cache_key`. The marks are spliced into the bytes; all else stays as it is. A client's own marks win.

use super::catalog::Peer;
use super::dialect::Dialect;
use super::json::{Edit, elements, members, splice};
use crate::config::ai::{PrefixTtl, PromptCache};
use serde_json::Value;
use std::ops::Range;

/// Bytes of JSON that make a token, about.
const BYTES_PER_TOKEN: u64 = 4;
/// Blocks that Anthropic lets be marked.
const MARKABLE: [&str; 5] = ["text", "image", "document", "tool_result", "tool_use"];

/// What is to be marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The rule.
    pub rule: PromptCache,
    /// A name for the prefix, for `prompt_cache_key`.
    pub name: String,
}

/// The request with its marks; `None` where none are to be made.
pub fn mark(peer: Peer<'_>, body: &str, prefix: &Prefix) -> Option<String> {
    match peer.dialect {
        Dialect::Anthropic => anthropic(body, &prefix.rule),
        // Servers with quirks may refuse what they do not know.
        Dialect::Openai | Dialect::Responses if peer.quirks().is_none() => openai(body, prefix),
        _ => None,
    }
}

/// Names the prefix, so that OpenAI sends prompts with the same one to the same machine.
fn openai(body: &str, prefix: &Prefix) -> Option<String> {
    let long = u64::try_from(body.len()).unwrap_or(u64::MAX) / BYTES_PER_TOKEN >= prefix.rule.min_tokens;
    if !long || members(body).ok()?.iter().any(|(name, _)| name == "prompt_cache_key") {
        return None;
    }
    let open = body.find('{')? + 1;
    let text = format!("\"prompt_cache_key\":{},", Value::from(prefix.name.as_str()));
    Some(splice(body, vec![Edit { span: open..open, text }]))
}

/// Marks the ends of tools, system and the last but one turn of the user's: three of the four marks that there may be.
/// The provider reads tools, then system, then messages; a mark is made where what stands before is long enough.
fn anthropic(body: &str, rule: &PromptCache) -> Option<String> {
    if body.contains("\"cache_control\"") {
        return None;
    }
    let all = members(body).ok()?;
    let place = |name: &str| all.iter().find(|(key, _)| key == name).map(|(_, span)| span.clone());
    let mut marks = Marks { body, rule, before: 0, edits: Vec::new() };
    if let Some(tools) = place("tools") {
        marks.list(&tools);
    }
    if let Some(system) = place("system") {
        marks.content(&system);
    }
    if let Some(messages) = place("messages") {
        marks.turn(&messages);
    }
    (!marks.edits.is_empty()).then(|| splice(body, marks.edits))
}

struct Marks<'a> {
    body: &'a str,
    rule: &'a PromptCache,
    /// Bytes of the prefix so far.
    before: usize,
    edits: Vec<Edit>,
}

impl<'a> Marks<'a> {
    fn mark(&self) -> &'static str {
        match self.rule.ttl {
            PrefixTtl::FiveMinutes => "\"cache_control\":{\"type\":\"ephemeral\"}",
            PrefixTtl::Hour => "\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"1h\"}",
        }
    }

    fn text(&self, span: &Range<usize>) -> &'a str {
        self.body.get(span.clone()).unwrap_or_default()
    }

    fn is_long(&self) -> bool {
        u64::try_from(self.before).unwrap_or(u64::MAX) / BYTES_PER_TOKEN >= self.rule.min_tokens
    }

    /// Marks the last element of a list of objects.
    fn list(&mut self, span: &Range<usize>) {
        self.before += span.len();
        let Some(last) = elements(self.text(span)).ok().and_then(|all| all.last().cloned()) else { return };
        self.object(&(span.start + last.start..span.start + last.end));
    }

    /// Marks a text, which becomes a list with one block, or the last block of a list.
    fn content(&mut self, span: &Range<usize>) {
        let text = self.text(span);
        if !text.starts_with('"') {
            let blocks = elements(text).ok();
            let last = blocks.and_then(|all| all.last().cloned()).and_then(|last| text.get(last));
            let kind = last.and_then(|t| serde_json::from_str::<Value>(t).ok());
            let kind = kind.as_ref().and_then(|v| v.get("type")?.as_str());
            if kind.is_some_and(|k| MARKABLE.contains(&k)) {
                self.list(span);
            } else {
                self.before += span.len();
            }
            return;
        }
        self.before += span.len();
        // An empty block cannot be marked.
        if text.len() > 2 && self.is_long() {
            let text = format!("[{{\"type\":\"text\",\"text\":{text},{}}}]", self.mark());
            self.edits.push(Edit { span: span.clone(), text });
        }
    }

    fn object(&mut self, span: &Range<usize>) {
        let text = self.text(span);
        let empty = members(text).map_or(true, |all| all.is_empty());
        if self.is_long() && !empty {
            let open = span.start + 1;
            self.edits.push(Edit { span: open..open, text: format!("{},", self.mark()) });
        }
    }

    /// Marks the user's last turn but one: what comes after it is new, what comes before was there the last time.
    fn turn(&mut self, messages: &Range<usize>) {
        let Ok(all) = elements(self.text(messages)) else { return };
        let at = |m: &Range<usize>| messages.start + m.start..messages.start + m.end;
        let is_user = |m: &Range<usize>| {
            let fields = members(self.text(&at(m))).unwrap_or_default();
            fields.iter().any(|(k, v)| k == "role" && self.text(&at(m)).get(v.clone()) == Some("\"user\""))
        };
        let Some(place) = (0..all.len()).rev().filter(|i| all.get(*i).is_some_and(is_user)).nth(1) else { return };
        let Some(message) = all.get(place).map(at) else { return };
        self.before += message.start.saturating_sub(messages.start);
        let fields = members(self.text(&message)).unwrap_or_default();
        if let Some((_, v)) = fields.iter().find(|(k, _)| k == "content") {
            self.content(&(message.start + v.start..message.start + v.end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(min_tokens: u64) -> PromptCache {
        PromptCache { auto: true, min_tokens, ttl: PrefixTtl::FiveMinutes }
    }

    fn marked(body: &Value, min_tokens: u64) -> Option<Value> {
        anthropic(&body.to_string(), &rule(min_tokens)).map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn tools_system_and_the_last_turn_but_one_are_marked() {
        let body = json!({ "model": "m", "max_tokens": 5, "system": "be \"good\"", "tools": [{"name": "a"}, {"name": "b"}],
            "messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"},
                {"role": "user", "content": [{"type": "text", "text": "three"}, {"type": "text", "text": "four"}]},
                {"role": "assistant", "content": "five"}, {"role": "user", "content": "six"}] });
        let got = marked(&body, 0).unwrap();
        let mark = json!({"type": "ephemeral"});
        let mut want = body.clone();
        want["tools"][1]["cache_control"] = mark.clone();
        want["system"] = json!([{"type": "text", "text": "be \"good\"", "cache_control": mark}]);
        want["messages"][2]["content"][1]["cache_control"] = mark;
        assert_eq!(got, want);
    }

    #[test]
    fn only_what_is_long_enough_is_marked() {
        let body = json!({ "tools": [{"name": "a"}], "system": "x".repeat(4000), "messages": [{"role": "user", "content": "q"}] });
        let got = marked(&body, 1000).unwrap();
        assert!(got["tools"][0].get("cache_control").is_none() && got["system"][0]["cache_control"].is_object());
        assert_eq!(got["messages"], body["messages"], "one turn has none before it");
        assert_eq!(marked(&body, 1100), None);
    }

    #[test]
    fn a_clients_own_marks_win_and_what_cannot_be_marked_is_left() {
        let own = json!({ "system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}], "messages": [] });
        assert_eq!(marked(&own, 0), None);
        let thinking = json!({ "system": [{"type": "thinking", "thinking": "hm"}], "messages": [] });
        assert_eq!(marked(&thinking, 0), None);
        assert_eq!(marked(&json!({ "system": "", "tools": [], "messages": [] }), 0), None);
        let said = json!({ "system": "what does \"cache_control\" do?", "messages": [] });
        assert!(marked(&said, 0).is_some(), "a text that speaks of it marks nothing");
    }

    #[test]
    fn openai_gets_a_name_unless_the_client_gave_one() {
        let prefix = Prefix { rule: rule(10), name: "sg-1".into() };
        let body = format!("{{ \"model\": \"m\", \"x\": \"{}\"}}", "y".repeat(40));
        let got = openai(&body, &prefix).unwrap();
        assert_eq!(got, body.replacen('{', "{\"prompt_cache_key\":\"sg-1\",", 1));
        assert_eq!(openai(&got, &prefix), None);
        assert_eq!(openai("{\"model\":\"m\"}", &prefix), None);
    }
}
