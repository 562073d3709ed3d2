//! Which answers are good enough, judged without a provider.

use super::judge::{Heard, Wanted, fault};
use crate::ai::dialect::chat::{Format, Stop};
use crate::config::ai::{Cascade, EscalateOn};
use serde_json::json;

fn rules() -> Cascade {
    serde_yaml::from_str("{ tiers: [cheap, best] }").unwrap()
}

fn said(text: &str) -> Heard {
    Heard { text: text.into(), stop: Some(Stop::End), ..Heard::default() }
}

#[test]
fn what_is_no_good_is_told_and_why() {
    let judged = |heard: &Heard| fault(heard, &rules(), &Wanted::default());
    for (text, want) in [
        ("Paris.", None),
        ("I\u{2019}m sorry, but I can\u{2019}t help with that.", Some(EscalateOn::Refusal)),
        ("Es tut mir leid, aber ich kann das nicht.", Some(EscalateOn::Refusal)),
        ("I'm not sure, but it may be 42.", Some(EscalateOn::LowConfidence)),
        ("Je ne sais pas.", Some(EscalateOn::LowConfidence)),
        ("  \n", Some(EscalateOn::Empty)),
    ] {
        assert_eq!(judged(&said(text)), want, "{text}");
    }
    let essay = format!("{} The senator said: I cannot help it.", "Long ago it was so. ".repeat(80));
    assert_eq!(judged(&said(&essay)), None, "a quotation in a long text refuses nothing");
    assert_eq!(judged(&Heard { stop: Some(Stop::Filtered), ..said("Well") }), Some(EscalateOn::Refusal));
    assert_eq!(judged(&Heard { stop: Some(Stop::Length), ..said("Well") }), Some(EscalateOn::Length));
    assert_eq!(judged(&Heard { calls: true, ..said("") }), None, "a tool call is an answer");
}

#[test]
fn improbable_tokens_are_low_confidence() {
    let with = |p: f64| {
        let mut heard = said("42");
        heard.weigh(&json!({ "choices": [{ "logprobs": { "content": [{ "logprob": p }, { "logprob": -0.2 }] } }] }));
        fault(&heard, &rules(), &Wanted::default())
    };
    assert_eq!((with(-0.5), with(-2.0)), (None, Some(EscalateOn::LowConfidence)));
}

#[test]
fn json_is_checked_where_json_was_asked_for() {
    let judged = |text: &str, form: Format| fault(&said(text), &rules(), &Wanted::form(form));
    let schema = || Format::Schema(json!({ "type": "object", "required": ["a"] }), None);
    let bad = Some(EscalateOn::SchemaFailure);
    assert_eq!(judged(r#"{"a":1}"#, schema()), None);
    assert_eq!(judged(r#"{"b":1}"#, schema()), bad);
    assert_eq!(judged("Here you are: {\"a\":1}", Format::Json), bad);
    assert_eq!(judged("{}", Format::Json), None);
}

#[test]
fn only_what_is_named_escalates() {
    let rules = Cascade { escalate_on: vec![EscalateOn::Empty], ..rules() };
    assert_eq!(fault(&said("I don't know."), &rules, &Wanted::default()), None);
}
