//! How hard does a prompt look? A number from 0 to 1, from what can be counted: a weighted sum through the logistic
//! function. It decides on a tier, never on a right, and it can be wrong: a short question may be deep. The weights of
//! the text's own features were fitted to two thirds of `tests/fixtures/complexity/prompts.tsv`, and a test measures
//! how well they do on the rest (prompts and words are by the same hand: real traffic is less clear); those of the surroundings (context, turns, tools, images, form) are set by hand.

mod words;

#[cfg(test)]
mod tests;

use super::prompt::Prompt;
use serde_json::Value;
use words::Kind;

/// Bytes of a text that are looked at.
const TEXT_BYTES_MAX: usize = 8192;
/// Characters that code and formulas are made of.
const SYMBOLS: &[u8] = b"{}()[];=<>|&\\^+*";
/// A text with one of them in so many bytes is code.
const BYTES_PER_SYMBOL: usize = 14;
/// Words of languages that are written without spaces (Chinese, Japanese): reasoning, then work.
const HARD_ELSEWHERE: [&str; 8] = ["证明", "为什么", "分析", "推导", "優化", "优化", "なぜ", "証明"];
const TASK_ELSEWHERE: [&str; 6] = ["写", "解释", "比较", "書いて", "説明", "比較"];

/// What the score is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signals<'a> {
    /// The last user turn.
    pub text: &'a str,
    /// Characters of all messages.
    pub chars: usize,
    /// User turns.
    pub turns: usize,
    /// Tools offered.
    pub tools: usize,
    /// Images and other parts that are no text.
    pub parts: usize,
    /// Whether JSON is asked for.
    pub structured: bool,
}

/// The weights; each stands beside what it weighs, which is 0 to 1 but for the logarithms.
mod weight {
    /// An empty prompt.
    pub const BIAS: f64 = -1.6;
    /// ln(1 + words/12), at most 4.
    pub const LENGTH: f64 = 1.4;
    /// A code fence, or many symbols.
    pub const CODE: f64 = 0.2;
    /// Words of programming, of 3.
    pub const CODE_WORDS: f64 = 0.2;
    /// Words of reasoning, of 4.
    pub const REASONING: f64 = 1.8;
    /// Words of work, of 3.
    pub const TASK: f64 = 0.7;
    /// Words of small talk and look-ups, of 2.
    pub const EASY: f64 = -0.9;
    /// Words and signs of mathematics, of 3.
    pub const MATH: f64 = 1.0;
    /// List items, and a third for each comma, of 6.
    pub const ITEMS: f64 = 0.1;
    /// ln(1 + characters of the whole conversation beyond the last turn / 4000), at most 3.
    pub const CONTEXT: f64 = 0.4;
    /// Turns before the last, of 8.
    pub const TURNS: f64 = 0.6;
    /// Tools, of 6.
    pub const TOOLS: f64 = 0.9;
    /// Images and files, of 3.
    pub const PARTS: f64 = 0.8;
    /// A form to be kept to.
    pub const STRUCTURED: f64 = 0.4;
}

/// What was counted in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    words: u32,
    hard: u32,
    task: u32,
    easy: u32,
    math: u32,
    code: u32,
    items: f64,
    is_code: bool,
}

/// The complexity, 0 to 1.
pub fn complexity(s: &Signals<'_>) -> f64 {
    let text = s.text.get(..s.text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default();
    let c = count(text);
    let of = |n: u32, most: u32| f64::from(n.min(most)) / f64::from(most);
    let many = |n: usize, most: u32| of(u32::try_from(n).unwrap_or(most), most);
    // Of a longer text the length is known, and the words by their usual size.
    let unread = s.text.len().saturating_sub(text.len()) / 6;
    let words = f64::from(c.words) + real(unread);
    let context = real(s.chars.saturating_sub(s.text.len())) / 4000.0;
    let sum = weight::BIAS
        + weight::LENGTH * (words / 12.0).ln_1p().min(4.0)
        + weight::CODE * f64::from(u8::from(c.is_code))
        + weight::CODE_WORDS * of(c.code, 3)
        + weight::REASONING * of(c.hard, 4)
        + weight::TASK * of(c.task, 3)
        + weight::EASY * of(c.easy, 2)
        + weight::MATH * of(c.math, 3)
        + weight::ITEMS * c.items.min(6.0) / 6.0
        + weight::CONTEXT * context.ln_1p().min(3.0)
        + weight::TURNS * many(s.turns.saturating_sub(1), 8)
        + weight::TOOLS * many(s.tools, 6)
        + weight::PARTS * many(s.parts, 3)
        + weight::STRUCTURED * f64::from(u8::from(s.structured));
    1.0 / (1.0 + (-sum).exp())
}

fn real(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

fn count(text: &str) -> Counts {
    let mut c = Counts::default();
    let mut word = String::with_capacity(32);
    let (mut symbols, mut commas, mut fresh) = (0usize, 0u32, true);
    for ch in text.chars().chain(std::iter::once(' ')) {
        if ch.is_alphanumeric() {
            match ch.is_ascii() {
                true => word.push(ch.to_ascii_lowercase()),
                false => word.extend(ch.to_lowercase()),
            }
            continue;
        }
        let first = fresh;
        fresh = ch == '\n' || (fresh && word.is_empty() && ch == ' ');
        if !word.is_empty() {
            c.add(&word);
            let number = first && matches!(ch, '.' | ')') && word.bytes().all(|b| b.is_ascii_digit());
            c.items += f64::from(u8::from(number));
            word.clear();
        }
        match ch {
            ',' => commas += 1,
            ';' => (c.items, symbols) = (c.items + 1.0, symbols + 1),
            '-' | '*' | '•' if first => c.items += 1.0,
            '^' | '=' => (c.math, symbols) = (c.math + 1, symbols + 1),
            '√' | '∑' | '∫' | '≤' | '≥' | '∞' => c.math += 1,
            _ => symbols += usize::from(u8::try_from(ch).is_ok_and(|b| SYMBOLS.contains(&b))),
        }
    }
    c.items += f64::from(commas) / 3.0;
    c.is_code = symbols.saturating_mul(BYTES_PER_SYMBOL) > text.len() || text.contains("```");
    if !text.is_ascii() {
        let found = |all: &[&str]| all.iter().map(|w| u32::from(text.contains(w))).sum::<u32>();
        c.hard += found(&HARD_ELSEWHERE);
        c.task += found(&TASK_ELSEWHERE);
    }
    c
}

impl Counts {
    fn add(&mut self, word: &str) {
        self.words += 1;
        match words::kind(word) {
            Some(Kind::Hard) => self.hard += 1,
            Some(Kind::Task) => self.task += 1,
            Some(Kind::Easy) => self.easy += 1,
            Some(Kind::Math) => self.math += 1,
            Some(Kind::Code) => self.code += 1,
            None => {}
        }
    }
}

impl Prompt {
    /// What its complexity is told by.
    pub fn signals(&self) -> Signals<'_> {
        let f = &self.facts;
        let (text, chars, turns, tools) = (f.text.as_str(), f.chars, f.turns, f.tools);
        Signals { text, chars, turns, tools, parts: f.parts, structured: self.is_structured() }
    }

    /// Whether the client asks for JSON, in whichever dialect.
    pub fn is_structured(&self) -> bool {
        let plain = |v: &Value| v.get("type").and_then(Value::as_str).is_none_or(|t| t == "text");
        let at = |outer: &str, inner: &str| self.fields.get(outer).and_then(|v| v.get(inner));
        let format = self.fields.get("response_format").or(at("text", "format")).or(at("output_config", "format"));
        let kind = at("generationConfig", "responseMimeType").or(at("generation_config", "response_mime_type"));
        format.is_some_and(|f| !plain(f)) || kind.and_then(Value::as_str) == Some("application/json")
    }
}
