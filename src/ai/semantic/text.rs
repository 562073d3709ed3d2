//! The text that is compared: one spelling for what looks the same, and the texts that cannot be compared.

use super::Bypass;
use unicode_normalization::UnicodeNormalization;

/// Words below which a text says too little to stand alone ("yes", "go on").
const WORDS_MIN: usize = 3;
/// Longest text worth normalising; the embedder's own bound in tokens is far lower.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// NFKC (so that full-width and compatibility forms agree), control characters dropped, white space collapsed.
pub fn normalise(text: &str) -> Result<String, Bypass> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Bypass::TextTooLong);
    }
    let mut out = String::with_capacity(text.len());
    let mut gap = false;
    for c in text.nfkc() {
        if c.is_whitespace() {
            gap = true;
        } else if !c.is_control() {
            if gap && !out.is_empty() {
                out.push(' ');
            }
            gap = false;
            out.push(c);
        }
    }
    if out.is_empty() {
        return Err(Bypass::TextEmpty);
    }
    if words(&out) < WORDS_MIN {
        return Err(Bypass::TextTooShort);
    }
    Ok(out)
}

/// Words, where each character of a script without spaces between words counts as one.
fn words(text: &str) -> usize {
    let mut count = 0;
    let mut inside = false;
    for c in text.chars() {
        let alone = matches!(u32::from(c), 0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3040..=0x9fff | 0xac00..=0xd7af | 0x20000..=0x3ffff);
        if alone {
            count += 1;
            inside = false;
        } else if c.is_alphanumeric() {
            if !inside {
                count += 1;
            }
            inside = true;
        } else if c != '\'' && c != '’' {
            inside = false;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_what_looks_the_same() {
        assert_eq!(normalise("  how\tare\n\nyou\u{a0}Ｔｏｄａｙ \u{0}").unwrap(), "how are you Today");
        assert_eq!(normalise("ﬁle a tax return").unwrap(), "file a tax return");
    }

    #[test]
    fn texts_that_say_too_little_or_too_much_are_left_alone() {
        assert_eq!(normalise(" \n "), Err(Bypass::TextEmpty));
        for short in ["yes", "go on", "don't stop", "!!! ???"] {
            assert_eq!(normalise(short), Err(Bypass::TextTooShort), "{short}");
        }
        assert!(normalise("今天天气怎么样").is_ok(), "no spaces between words");
        assert_eq!(normalise(&"word ".repeat(4000)), Err(Bypass::TextTooLong));
    }
}
