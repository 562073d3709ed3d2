//! The look at a body, cut at every byte.

use super::super::endpoint::{Called, Place, at};
use super::super::form::{Form, FormError};
use super::super::look::{Look, Seen, Watched};
use super::super::scan::{Members, ScanError};
use crate::ai::error::AiError;
use http::Method;
use proptest::prelude::*;

const FORM: &str = "multipart/form-data; boundary=\"-x-\"";

fn called(path: &str) -> Called {
    match at(&Method::POST, path, None) {
        Place::Called(c) => c,
        other => panic!("{other:?}"),
    }
}

/// A look at a body that is cut once.
fn look(kind: &str, body: &[u8], cut: usize, thorough: bool) -> Result<(Seen, Watched), AiError> {
    let mut look = Look::new(&called("/v1/images/edits"), kind, 1 << 20, thorough)?;
    let (a, b) = body.split_at(cut.min(body.len()));
    look.take(a)?;
    look.take(b)?;
    look.end(true)
}

fn form(parts: &[(&str, &str)]) -> String {
    let part =
        |(head, body): &(&str, &str)| format!("---x-\r\nContent-Disposition: form-data; {head}\r\n\r\n{body}\r\n");
    let all: String = parts.iter().map(part).collect();
    format!("{all}---x---\r\n")
}

fn code(e: &AiError) -> &'static str {
    e.reason()
}

#[test]
fn the_model_is_replaced_and_every_other_byte_stays() {
    let bodies = [
        (
            "application/json",
            r#" { "prompt" : "a \" } model", "n":[{"model":"x"}], "mod\u0065l" : "fast","z":1} "#.to_owned(),
        ),
        ("application/json", r#"{"model":"fast"}"#.to_owned()),
        (
            FORM,
            form(&[
                ("name=\"image\"; filename=\"a;b.png\"", "\r\n--\x00-x-\r\n---y"),
                ("name=model", "fast"),
                ("name=\"prompt\"", "a cat"),
            ]),
        ),
        (FORM, format!("preamble\r\n{}epilogue", form(&[("name=\"model\"", "fast")]))),
    ];
    for (kind, body) in bodies {
        for cut in 0..=body.len() {
            let (seen, _) = look(kind, body.as_bytes(), cut, true).unwrap_or_else(|e| panic!("{e} in {body} at {cut}"));
            assert_eq!(seen.model.as_ref().unwrap().0, "fast");
            assert_eq!(seen.head_for("fast"), body);
            let quoted =
                body.replace(": \"fast\"", ": \"gp\\\"t\"").replace("\"model\":\"fast\"", "\"model\":\"gp\\\"t\"");
            let expected = if kind == FORM { body.replace("fast", "gp\"t") } else { quoted };
            assert_eq!(seen.head_for("gp\"t"), expected, "cut at {cut}");
        }
    }
}

#[test]
fn the_policy_gets_the_text_wherever_it_stands() {
    let json = r#"{"model":"m","input":["one",{"type":"text","text":"two"},{"image_url":{"url":"data:x"}}],"query":"three","documents":[{"text":"four"}]}"#;
    assert_eq!(look("application/json", json.as_bytes(), 5, true).unwrap().0.text, "one\ntwo\nthree\nfour");
    let body = form(&[("name=model", "m"), ("name=prompt", "a cat")]);
    assert_eq!(look(FORM, body.as_bytes(), 9, true).unwrap().0.text, "a cat");
}

#[test]
fn a_body_that_could_be_read_in_two_ways_is_refused() {
    for (kind, body, why) in [
        ("application/json", r#"{"model":"a","model":"b"}"#.to_owned(), "invalid_json"),
        ("application/json", r#"{"model":"a","mod\u0065l":"b"}"#.to_owned(), "invalid_json"),
        ("application/json", r#"{"model":"a"}{"model":"b"}"#.to_owned(), "invalid_json"),
        ("application/json", r#"[{"model":"a"}]"#.to_owned(), "invalid_json"),
        ("application/json", r#"{"model":"a""#.to_owned(), "invalid_body"),
        ("application/json", r#"{"model":7}"#.to_owned(), "missing_field"),
        ("application/json", r#"{"n":1}"#.to_owned(), "missing_field"),
        ("application/json", format!("{{\"a\":{}", "[".repeat(200)), "invalid_json"),
        ("text/plain", "x".to_owned(), "unsupported_media_type"),
        ("multipart/form-data", form(&[]), "invalid_form"),
        ("multipart/form-data; boundary=-x-; boundary=y", form(&[]), "invalid_form"),
        (FORM, form(&[("name=model", "a"), ("name=\"model\"", "b")]), "invalid_form"),
        (FORM, form(&[("name=model; name=prompt", "a")]), "invalid_form"),
        (FORM, form(&[("name*=utf-8''model", "a")]), "invalid_form"),
        (FORM, form(&[("name=\"mo\\del\"", "a")]), "invalid_form"),
        (FORM, form(&[("filename=x", "a")]), "invalid_form"),
        (FORM, form(&[("name=model\r\nContent-Disposition: form-data; name=x", "a")]), "invalid_form"),
        (FORM, form(&[("name=model", "a")]).replace("---x---", "---x"), "invalid_body"),
        (FORM, form(&[("name=model", "a")]).replace("---x---\r\n", ""), "invalid_body"),
    ] {
        for cut in 0..=body.len().min(300) {
            let refused = look(kind, body.as_bytes(), cut, false).err().map(|e| code(&e));
            assert_eq!(refused, Some(why), "{body} cut at {cut}");
        }
    }
}

#[test]
fn what_was_decided_on_cannot_come_again_in_the_rest() {
    let file = "x".repeat(100_000);
    let head = format!("{{\"model\":\"m\",\"file\":\"{file}");
    for (thorough, rest, refused) in [
        (false, "\",\"z\":1}", None),
        (false, "\",\"prompt\":\"p\"}", None),
        (false, "\",\"model\":\"other\"}", Some("invalid_json")),
        (true, "\",\"prompt\":\"unseen\"}", Some("field_too_late")),
        (true, "\",\"z\":1}", None),
    ] {
        let mut look = Look::new(&called("/v1/images/edits"), "application/json", 90_000, thorough).unwrap();
        look.take(head.as_bytes()).unwrap();
        assert!(look.enough());
        let (seen, mut watched) = look.end(false).unwrap();
        assert!(!seen.whole);
        let all = rest.bytes().map(|b| watched.check(&[b])).find_map(Result::err);
        assert_eq!(all.map(|e| code(&e)), refused, "{rest} {thorough}");
    }
}

#[test]
fn a_model_that_comes_too_late_is_told_so() {
    let body = format!("{{\"file\":\"{}", "x".repeat(2_000));
    let mut look = Look::new(&called("/v1/images/edits"), "", 1_000, false).unwrap();
    look.take(body.as_bytes()).unwrap();
    let e = look.end(false).err().unwrap();
    assert_eq!(code(&e), "field_too_late");
    assert!(e.to_string().contains("1000 bytes"), "{e}");
}

#[test]
fn bodies_that_name_no_model_are_not_looked_at() {
    let look = Look::new(&called("/v1/files"), FORM, 1_000, true).unwrap();
    assert!(look.enough());
    assert!(look.end(false).unwrap().0.model.is_none());
}

const WANTED: [&str; 2] = ["model", "prompt"];

proptest! {
    #[test]
    fn a_scan_finds_what_a_parser_finds(
        text in "\\PC{0,12}", other in "[a-z]{0,4}", deep in "[\\[{}\\]\",:\\\\ a]{0,12}", at in 0usize..80,
    ) {
        let value = serde_json::json!({ "a": deep, "model": text, "c": { "model": [other, { "prompt": deep }] }, "prompt": [deep, 1, null, true] });
        for body in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let mut members = Members::capturing(&WANTED, 1000);
            let (a, b) = body.as_bytes().split_at(at.min(body.len()));
            members.feed(a).unwrap();
            members.feed(b).unwrap();
            prop_assert!(members.ended());
            for found in members.found() {
                let there: serde_json::Value = serde_json::from_str(&body[found.span.clone()]).unwrap();
                prop_assert_eq!(&there, &value[found.name]);
            }
            prop_assert_eq!(members.found().len(), 2);
            let captured: serde_json::Value = serde_json::from_slice(members.captured().unwrap()).unwrap();
            prop_assert_eq!(&captured, &value["prompt"]);
        }
    }

    #[test]
    fn a_form_finds_its_fields_however_it_is_cut(file in "[-\\r\\nx]{0,40}", name in "[a-z-]{0,9}", at in 0usize..300) {
        prop_assume!(!file.contains("---x-") && !name.contains("---x-"));
        let body = form(&[("name=file; filename=f", &file), ("name=\"model\"", &name), ("name=prompt", "")]);
        let mut form = Form::new(FORM, &WANTED).unwrap();
        let (a, b) = body.as_bytes().split_at(at.min(body.len()));
        form.feed(a).unwrap();
        form.feed(b).unwrap();
        prop_assert!(form.ended());
        let texts: Vec<&str> = form.found().iter().map(|f| &body[f.span.clone()]).collect();
        prop_assert_eq!(texts, [name.as_str(), ""]);
    }

    #[test]
    fn whatever_comes_nothing_breaks(body in prop::collection::vec(any::<u8>(), 0..200), json in "[\\[{}\\]\",:\\\\ a1]{0,60}") {
        let _ = Members::new(&WANTED).feed(&body);
        let _ = Members::new(&WANTED).feed(json.as_bytes());
        let mut form = Form::new(FORM, &WANTED).unwrap();
        let _: Result<(), FormError> = form.feed(b"---x-\r\n").and_then(|()| form.feed(&body));
    }
}

#[test]
fn faults_are_named() {
    assert_eq!(Members::new(&WANTED).feed(b"[]"), Err(ScanError::NoObject));
    assert!(ScanError::Twice("model").to_string().contains("\"model\""));
}
