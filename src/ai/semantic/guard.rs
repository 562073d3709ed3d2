//! Hard guards beside the score: what changes an answer but hardly a vector must agree in both texts.

use std::collections::{BTreeMap, BTreeSet};

/// What did not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Guard {
    /// Numbers, in figures or words, and codes with figures in them.
    Number,
    /// One text denies, the other does not.
    Negation,
    /// What stands in quotation marks or backticks.
    Quote,
}

impl Guard {
    /// The one spelling for log, metric and header.
    pub fn as_str(self) -> &'static str {
        match self {
            Guard::Number => "number",
            Guard::Negation => "negation",
            Guard::Quote => "quote",
        }
    }

    /// Every guard, for metric registration.
    pub const ALL: [Guard; 3] = [Guard::Number, Guard::Negation, Guard::Quote];
}

/// What the guards look at, taken out of a normalised text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// Numbers by value and codes by spelling, each with how often it occurs.
    numbers: BTreeMap<String, usize>,
    negated: bool,
    quotes: BTreeSet<String>,
}

/// Words that deny, beside everything ending in "n't".
const NEGATIONS: &[&str] = &[
    "not",
    "no",
    "never",
    "none",
    "without",
    "neither",
    "nor",
    "cannot",
    "cant",
    "dont",
    "doesnt",
    "didnt",
    "wont",
    "isnt",
    "arent",
    "wasnt",
    "werent",
    "shouldnt",
    "couldnt",
    "wouldnt",
    "havent",
    "hasnt",
    "unable",
    "unless",
    "except",
    "excluding",
    "non",
];

/// Number words. Those that mostly mean something else are left out: one, second, half, first, double.
const NUMBER_WORDS: &[(&str, f64)] = &[
    ("zero", 0.0),
    ("two", 2.0),
    ("three", 3.0),
    ("four", 4.0),
    ("five", 5.0),
    ("six", 6.0),
    ("seven", 7.0),
    ("eight", 8.0),
    ("nine", 9.0),
    ("ten", 10.0),
    ("eleven", 11.0),
    ("twelve", 12.0),
    ("thirteen", 13.0),
    ("fourteen", 14.0),
    ("fifteen", 15.0),
    ("sixteen", 16.0),
    ("seventeen", 17.0),
    ("eighteen", 18.0),
    ("nineteen", 19.0),
    ("twenty", 20.0),
    ("thirty", 30.0),
    ("forty", 40.0),
    ("fifty", 50.0),
    ("sixty", 60.0),
    ("seventy", 70.0),
    ("eighty", 80.0),
    ("ninety", 90.0),
    ("hundred", 100.0),
    ("thousand", 1e3),
    ("million", 1e6),
    ("billion", 1e9),
    ("third", 3.0),
    ("fourth", 4.0),
    ("fifth", 5.0),
    ("sixth", 6.0),
    ("seventh", 7.0),
    ("eighth", 8.0),
    ("ninth", 9.0),
    ("tenth", 10.0),
    ("twice", 2.0),
];

impl Marks {
    /// Reads a normalised text.
    pub fn of(text: &str) -> Self {
        let low = text.to_lowercase().replace('’', "'");
        let mut marks = Marks { numbers: BTreeMap::new(), negated: false, quotes: quotes(&low) };
        let mut before = None;
        for token in tokens(&low) {
            marks.token(token, before);
            before = Some(token);
        }
        marks
    }

    fn token(&mut self, token: Token<'_>, before: Option<Token<'_>>) {
        let word = token.text;
        if NEGATIONS.contains(&word) || word.ends_with("n't") {
            self.negated = true;
        } else if let Some((_, value)) = NUMBER_WORDS.iter().find(|(w, _)| *w == word) {
            self.count(*value);
        } else if word.starts_with(|c: char| c.is_ascii_digit()) {
            match figure(word) {
                Some(value) if token.minus => self.count(-value),
                Some(value) => self.count(value),
                // Codes: 3b, 2x4, 1.2.3.
                None => *self.numbers.entry(word.to_owned()).or_default() += 1,
            }
        } else if word.chars().any(|c| c.is_ascii_digit()) {
            // Codes: cs101, gpt4.
            *self.numbers.entry(word.to_owned()).or_default() += 1;
        }
        // "5 k" is five thousand, as "5k" is.
        if word == "k"
            && let Some(value) = before.and_then(|b| figure(b.text))
        {
            self.numbers.remove(&value.to_string());
            self.count(value * 1000.0);
        }
    }

    fn count(&mut self, value: f64) {
        *self.numbers.entry(value.to_string()).or_default() += 1;
    }
}

/// The first guard that two texts fail, if any.
pub fn veto(a: &Marks, b: &Marks) -> Option<Guard> {
    if a.numbers != b.numbers {
        Some(Guard::Number)
    } else if a.negated != b.negated {
        Some(Guard::Negation)
    } else if a.quotes != b.quotes {
        Some(Guard::Quote)
    } else {
        None
    }
}

/// A run of letters, digits and what may stand inside a word or a number.
#[derive(Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    /// A minus sign stands before it, and nothing before that: a negative number, not a range or a compound.
    minus: bool,
}

fn tokens(low: &str) -> impl Iterator<Item = Token<'_>> {
    low.split_whitespace().flat_map(|chunk| {
        let mut first = true;
        chunk.split(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | ',' | '\''))).filter_map(move |part| {
            let minus = first && chunk.starts_with(['-', '−']);
            let text = part.trim_matches(|c: char| !c.is_alphanumeric());
            if text.is_empty() {
                return None;
            }
            first = false;
            Some(Token { text, minus })
        })
    })
}

/// The value of `1,234.5`, `10k`, `3rd`, `5m`; `None` for what only begins with a figure.
fn figure(word: &str) -> Option<f64> {
    let end = word.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ','))).unwrap_or(word.len());
    let (number, suffix) = word.split_at_checked(end)?;
    let value: f64 = number.replace(',', "").parse().ok()?;
    match suffix {
        "k" => Some(value * 1000.0),
        "" | "st" | "nd" | "rd" | "th" | "m" | "bn" => Some(value),
        _ => None,
    }
}

/// What stands between "…", “…” (2 to 80 characters) or `…` (1 to 80).
fn quotes(low: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = low;
    while let Some(at) = rest.find(['"', '“', '`']) {
        let Some((_, from)) = rest.split_at_checked(at) else { break };
        let mut chars = from.chars();
        let (close, min) = match chars.next() {
            Some('“') => ('”', 2),
            Some('`') => ('`', 1),
            _ => ('"', 2),
        };
        let inside = chars.as_str();
        rest = inside;
        if let Some((quoted, after)) = inside.split_once(close)
            && (min..=80).contains(&quoted.chars().count())
        {
            found.insert(quoted.trim().to_owned());
            rest = after;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &str, b: &str) -> Option<Guard> {
        let forth = veto(&Marks::of(a), &Marks::of(b));
        assert_eq!(forth, veto(&Marks::of(b), &Marks::of(a)), "both ways alike");
        forth
    }

    #[test]
    fn numbers_must_agree() {
        for (a, b) in [
            ("convert 10 miles to km", "convert 12 miles to km"),
            ("who takes cs101", "who takes cs102"),
            ("is -5 degrees cold", "is 5 degrees cold"),
            ("a list of five ideas", "a list of six ideas"),
            ("what is 2 plus 2", "what is 2 plus 3"),
            ("upgrade to 1.2.3 now", "upgrade to 1.2.4 now"),
        ] {
            assert_eq!(check(a, b), Some(Guard::Number), "{a} / {b}");
        }
        for (a, b) in [
            ("a list of five ideas", "give me 5 ideas"),
            ("salary of 10k euros", "a salary of 10,000 euros"),
            ("on the 3rd of may", "may 3 it is"),
            ("what is 10, exactly?", "exactly what is 10."),
            ("is it one of those", "is it some of those"),
        ] {
            assert_eq!(check(a, b), None, "{a} / {b}");
        }
    }

    #[test]
    fn negations_must_agree() {
        assert_eq!(check("can I refund it", "can I not refund it"), Some(Guard::Negation));
        assert_eq!(check("it doesn’t start", "it starts"), Some(Guard::Negation));
        assert_eq!(check("it doesn't start", "it does not start"), None);
    }

    #[test]
    fn quotations_must_agree() {
        assert_eq!(check("translate \"good day\"", "translate \"good night\""), Some(Guard::Quote));
        assert_eq!(check("what does `ls` do", "what does `rm` do"), Some(Guard::Quote));
        assert_eq!(check("translate “Good day”", "translate \"good day\" please"), None);
        assert_eq!(check("a \" lone mark", "a lone mark"), None);
    }
}
