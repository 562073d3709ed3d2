//! The score on labelled prompts, and what moves it.

use super::words::WORDS;
use super::{Signals, complexity};
use std::time::Instant;

fn of(text: &str) -> f64 {
    complexity(&Signals { text, turns: 1, chars: text.len(), ..Signals::default() })
}

fn labelled() -> Vec<(String, f64)> {
    let text = std::fs::read_to_string("tests/fixtures/complexity/prompts.tsv").unwrap();
    let row = |line: &str| {
        let (label, prompt) = line.split_once('\t').unwrap();
        (label.to_owned(), of(&prompt.replace("\\n", "\n")))
    };
    text.lines().map(row).collect()
}

fn label(score: f64) -> &'static str {
    match score {
        s if s < 0.35 => "easy",
        s if s < 0.7 => "standard",
        _ => "hard",
    }
}

/// Of 100 pairs of a hard prompt and another, how many are in order.
fn auc(all: &[&(String, f64)]) -> f64 {
    type Rows<'a> = Vec<&'a (String, f64)>;
    let (hard, rest): (Rows, Rows) = all.iter().copied().partition(|(l, _)| l == "hard");
    let pairs = hard.iter().flat_map(|h| rest.iter().map(move |r| (h.1, r.1)));
    let won: f64 = pairs
        .map(|(h, r)| {
            if h > r {
                1.0
            } else if h < r {
                0.0
            } else {
                0.5
            }
        })
        .sum();
    won / (hard.len() * rest.len()) as f64
}

#[test]
fn labelled_prompts_are_told_apart_also_those_that_the_weights_were_not_fitted_to() {
    let all = labelled();
    assert_eq!(all.len(), 72);
    for (name, held) in [("fitted to", false), ("held out", true)] {
        let these: Vec<_> = all.iter().enumerate().filter(|(i, _)| (i % 3 == 2) == held).map(|(_, x)| x).collect();
        let right = these.iter().filter(|(l, s)| label(*s) == l).count() as f64 / these.len() as f64;
        let auc = auc(&these);
        println!("{name}: {} prompts, accuracy {right:.2}, AUC of hard against the rest {auc:.2}", these.len());
        assert!(right >= 0.85 && auc >= 0.93, "{name}: accuracy {right:.2}, AUC {auc:.2}");
    }
}

#[test]
fn whatever_makes_work_raises_the_score() {
    let plain = Signals { text: "Write a short text about the sea.", chars: 33, turns: 1, ..Signals::default() };
    let base = complexity(&plain);
    for (what, more) in [
        ("tools", Signals { tools: 4, ..plain }),
        ("turns", Signals { turns: 6, ..plain }),
        ("images", Signals { parts: 1, ..plain }),
        ("context", Signals { chars: 40_000, ..plain }),
        ("form", Signals { structured: true, ..plain }),
    ] {
        assert!(complexity(&more) > base, "{what}");
    }
    assert!(of("证明根号2是无理数，为什么？") > of("你好"));
    assert!(of("") < 0.35 && (0.0..=1.0).contains(&of(&"prove ".repeat(100_000))));
}

#[test]
fn the_words_are_sorted_and_stand_there_once() {
    let out_of_order = WORDS.iter().zip(WORDS.iter().skip(1)).find(|(a, b)| a.0 >= b.0);
    assert_eq!(out_of_order, None);
    assert!(WORDS.iter().all(|(w, _)| w.to_lowercase() == *w));
}

#[test]
fn two_kilobytes_take_microseconds() {
    let text = "Explain why the cache of the compiler is slow, and derive (x + 1)^2 step by step; then write code.\n"
        .repeat(21);
    let runs = 200;
    let started = Instant::now();
    let sum: f64 = (0..runs).map(|_| of(std::hint::black_box(&text))).sum();
    let each = started.elapsed() / runs;
    println!("{} bytes: {each:?} each ({sum:.1})", text.len());
    // The development profile is many times slower than the release; what is asserted is that nothing is quadratic.
    assert!(each.as_millis() < 20, "{each:?}");
}
