//! Is an answer good enough? Pure, from what was said.

use crate::ai::dialect::chat::{Answer, Dropped, Format, Part, Stop};
use crate::ai::prompt::Prompt;
use crate::config::ai::{Cascade, EscalateOn};
use serde_json::Value;

/// A refusal is short, and begins as one: in so many characters of so many.
const REFUSAL_CHARS_MAX: usize = 800;
const REFUSAL_HEAD_CHARS: usize = 160;
/// A longer answer that hedges has said something beside it.
const HEDGE_CHARS_MAX: usize = 1200;

/// How refusals begin, in lower case and with straight apostrophes.
const REFUSALS: [&str; 24] = [
    "i can't help",
    "i can't assist",
    "i can't provide",
    "i can't do that",
    "i cannot help",
    "i cannot assist",
    "i cannot provide",
    "i cannot answer",
    "i'm sorry, but i can",
    "i am sorry, but i can",
    "i'm unable to",
    "i am unable to",
    "i'm not able to",
    "i am not able to",
    "i won't be able to",
    "as an ai language model",
    "i must decline",
    "ich kann dir dabei nicht helfen",
    "ich kann ihnen dabei nicht helfen",
    "tut mir leid, aber ich kann",
    "je ne peux pas vous aider",
    "je suis désolé, mais je ne peux",
    "lo siento, pero no puedo",
    "no puedo ayudar",
];

/// How one says that one does not know.
const HEDGES: [&str; 18] = [
    "i don't know",
    "i do not know",
    "i'm not sure",
    "i am not sure",
    "i'm not certain",
    "i am not certain",
    "i'm not confident",
    "i have no idea",
    "i'm only guessing",
    "i don't have enough information",
    "i do not have enough information",
    "it's impossible to say",
    "ich weiß es nicht",
    "ich bin mir nicht sicher",
    "je ne sais pas",
    "je ne suis pas sûr",
    "no lo sé",
    "no estoy seguro",
];

/// What an answer says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// Its text.
    pub text: String,
    /// Whether it calls tools.
    pub calls: bool,
    /// Why it ended.
    pub stop: Option<Stop>,
    /// The stream is over.
    pub ended: bool,
    /// The stream made no sense; whoever gets it will see.
    pub garbled: bool,
    /// The sum of its tokens' log-probabilities, and how many there are.
    pub logprobs: (f64, u32),
}

/// What form the client asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    format: Option<Format>,
}

impl Wanted {
    /// What this request asks for.
    pub fn of(prompt: &Prompt) -> Wanted {
        let request = prompt.dialect.wire().read_request(&prompt.fields, &mut Dropped::default());
        Wanted { format: request.ok().and_then(|r| r.format) }
    }

    #[cfg(test)]
    pub fn form(format: Format) -> Wanted {
        Wanted { format: Some(format) }
    }
}

impl Heard {
    /// A complete answer, with the JSON that it was read from.
    pub fn answer(answer: &Answer, json: &Value) -> Heard {
        let mut heard = Heard { stop: Some(answer.stop.clone()), ended: true, ..Heard::default() };
        for block in &answer.blocks {
            match &block.part {
                Part::Text(text) => heard.text.push_str(text),
                Part::Call(_) => heard.calls = true,
                _ => {}
            }
        }
        heard.weigh(json);
        heard
    }

    /// Takes the log-probabilities of OpenAI's chats, whole or in pieces.
    pub fn weigh(&mut self, json: &Value) {
        let tokens = json.pointer("/choices/0/logprobs/content").and_then(Value::as_array);
        for p in tokens.into_iter().flatten().filter_map(|t| t.get("logprob")?.as_f64()) {
            self.logprobs = (self.logprobs.0 + p, self.logprobs.1.saturating_add(1));
        }
    }

    fn logprob(&self) -> Option<f64> {
        let (sum, tokens) = self.logprobs;
        (tokens > 0).then(|| sum / f64::from(tokens))
    }
}

/// What is wrong with an answer, of what the cascade looks for.
pub fn fault(heard: &Heard, cascade: &Cascade, wanted: &Wanted) -> Option<EscalateOn> {
    let said = Said { heard, small: small(&heard.text), chars: heard.text.chars().count() };
    let wrong = |what: &EscalateOn| match what {
        EscalateOn::Refusal => said.refuses(),
        EscalateOn::LowConfidence => said.hedges(cascade.logprob_min),
        // A call is no text in any form.
        EscalateOn::SchemaFailure => !heard.calls && wanted.format.as_ref().is_some_and(|f| !fits(&heard.text, f)),
        EscalateOn::Empty => !heard.calls && heard.text.trim().is_empty(),
        EscalateOn::Length => matches!(heard.stop, Some(Stop::Length | Stop::ContextFull)),
    };
    cascade.escalate_on.iter().copied().find(wrong)
}

/// The outcome of an attempt whose answer has this fault.
pub fn outcome(fault: EscalateOn) -> &'static str {
    match fault {
        EscalateOn::Refusal => "escalated_refusal",
        EscalateOn::LowConfidence => "escalated_low_confidence",
        EscalateOn::SchemaFailure => "escalated_schema_failure",
        EscalateOn::Empty => "escalated_empty",
        EscalateOn::Length => "escalated_length",
    }
}

struct Said<'a> {
    heard: &'a Heard,
    small: String,
    chars: usize,
}

impl Said<'_> {
    fn refuses(&self) -> bool {
        let short = self.chars <= REFUSAL_CHARS_MAX && !self.heard.calls;
        let head = self.small.get(..head(&self.small)).unwrap_or_default();
        self.heard.stop == Some(Stop::Filtered) || (short && REFUSALS.iter().any(|r| head.contains(r)))
    }

    fn hedges(&self, logprob_min: f64) -> bool {
        let short = self.chars <= HEDGE_CHARS_MAX && !self.heard.calls;
        self.heard.logprob().is_some_and(|p| p < logprob_min)
            || (short && HEDGES.iter().any(|h| self.small.contains(h)))
    }
}

fn head(text: &str) -> usize {
    text.char_indices().nth(REFUSAL_HEAD_CHARS).map_or(text.len(), |(at, _)| at)
}

/// The beginning in lower case with straight apostrophes.
fn small(text: &str) -> String {
    let straight = |c: char| if c == '\u{2019}' { '\'' } else { c };
    text.chars().take(HEDGE_CHARS_MAX).map(straight).flat_map(char::to_lowercase).collect()
}

/// A light check: it is JSON, and has what the schema requires of the outermost object.
fn fits(text: &str, format: &Format) -> bool {
    let Ok(json) = serde_json::from_str::<Value>(text.trim()) else { return false };
    match format {
        Format::Json => json.is_object(),
        Format::Schema(schema, _) => {
            let kind = schema.get("type").and_then(Value::as_str);
            let required = schema.get("required").and_then(Value::as_array);
            let has = |name: &Value| name.as_str().is_none_or(|n| json.get(n).is_some());
            (kind != Some("object") || json.is_object())
                && (kind != Some("array") || json.is_array())
                && required.into_iter().flatten().all(has)
        }
    }
}
