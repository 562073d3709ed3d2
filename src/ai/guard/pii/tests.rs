//! Tests of the recognisers against a table of values and hard negatives.

use super::*;
use std::collections::BTreeMap;

/// A text of the fixture with the values that it holds.
fn table() -> Vec<(String, Vec<Found>)> {
    let lines = include_str!("../../../../tests/fixtures/ai/guard/pii.txt").lines();
    lines.filter(|l| !l.is_empty() && !l.starts_with('#')).map(|l| marked(&l.replace(r"\n", "\n"))).collect()
}

fn marked(line: &str) -> (String, Vec<Found>) {
    let (mut text, mut found) = (String::new(), Vec::new());
    for (i, part) in line.split(['«', '»']).enumerate() {
        if i % 2 == 0 {
            text.push_str(part);
            continue;
        }
        let (kind, value) = part.split_once(':').unwrap();
        let kind = PiiKind::ALL.into_iter().find(|k| k.as_str() == kind).unwrap_or_else(|| panic!("{kind}"));
        found.push(Found { kind, at: text.len()..text.len() + value.len() });
        text.push_str(value);
    }
    (text, found)
}

#[test]
fn precision_and_recall_of_every_kind() {
    let finder = Finder::new(&PiiKind::ALL).unwrap();
    // Per kind: right, found, wanted.
    let mut score: BTreeMap<PiiKind, (u32, u32, u32)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (text, wanted) in table() {
        let found = finder.find(&text);
        for f in &found {
            let s = score.entry(f.kind).or_default();
            s.1 += 1;
            if wanted.contains(f) {
                s.0 += 1;
            } else {
                wrong.push(format!("false {}: {:?} in {text}", f.kind.as_str(), &text[f.at.clone()]));
            }
        }
        for w in wanted {
            score.entry(w.kind).or_default().2 += 1;
            if !found.contains(&w) {
                wrong.push(format!("missed {}: {:?} in {text}", w.kind.as_str(), &text[w.at.clone()]));
            }
        }
    }
    for (kind, (right, found, wanted)) in &score {
        let share = |of: u32| f64::from(*right) / f64::from(of.max(1));
        println!("{:12} precision {:.2} recall {:.2} of {wanted}", kind.as_str(), share(*found), share(*wanted));
    }
    println!("{}", wrong.join("\n"));
    assert_eq!(score.len(), PiiKind::ALL.len(), "every kind is in the table");
    assert!(wrong.is_empty(), "{} of the table's judgements are wrong", wrong.len());
}

#[test]
fn only_the_kinds_asked_for_are_found() {
    let finder = Finder::new(&[PiiKind::Email]).unwrap();
    let found = finder.find("a@b.example 4111111111111111");
    assert_eq!(found, [Found { kind: PiiKind::Email, at: 0..11 }]);
}

#[test]
fn check_digits() {
    use super::sums::*;
    let digits = |s: &str| s.bytes().map(|b| b - b'0').collect::<Vec<u8>>();
    assert!(luhn(&digits("79927398713")) && !luhn(&digits("79927398710")) && !luhn(&[]));
    assert!(iban("GB82WEST12345698765432") && !iban("GB82WEST12345698765423") && !iban("GB"));
    assert!(tax_id(&digits("86095742719")) && !tax_id(&digits("86095742710")) && !tax_id(&digits("12345678901")));
}

proptest::proptest! {
    /// Whatever the text, what is found lies within it, in order and apart, and redacting leaves nothing to be found
    /// where a value was.
    #[test]
    fn finding_never_leaves_the_text(text in "(?s)[ -~äß€«\n]{0,200}") {
        let finder = Finder::new(&PiiKind::ALL).unwrap();
        let mut end = 0;
        for f in finder.find(&text) {
            proptest::prop_assert!(f.at.start >= end && f.at.start < f.at.end);
            proptest::prop_assert!(text.get(f.at.clone()).is_some());
            end = f.at.end;
        }
    }

    /// Values of the table between any words are found, and gone after redaction.
    #[test]
    fn redaction_leaves_no_value(picks in proptest::collection::vec(0usize..100, 1..6), words in "[a-z ,]{0,20}") {
        let finder = Finder::new(&PiiKind::ALL).unwrap();
        let lines: Vec<_> = table().into_iter().filter(|(_, f)| !f.is_empty()).collect();
        let mut text = words.clone();
        let mut values = Vec::new();
        for pick in picks {
            let (line, found) = &lines[pick % lines.len()];
            // A key without an end runs to the end of the text.
            if line.contains("OPENSSH") {
                continue;
            }
            values.extend(found.iter().map(|f| line[f.at.clone()].to_owned()));
            text = format!("{text}\n{line}\n{words}");
        }
        let redacted = finder.redacted(&text);
        for value in values {
            // A value may also stand in a negative's neighbourhood of the same text, where it is none.
            let found = finder.find(&redacted).iter().any(|f| redacted[f.at.clone()] == value);
            proptest::prop_assert!(!found, "{value} is left in {redacted}");
        }
    }
}
