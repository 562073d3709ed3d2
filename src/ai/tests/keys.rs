//! Canonical keys and partitions: spelling does not matter, meaning does.

use super::super::key::{self, Scope};
use super::super::seam::unfit;
use super::*;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const SCOPE: Scope<'static> = Scope { tenant: "t", route: "r", policy: "p", target: "m", beta: b"", namespace: b"" };

fn exact(v: &Value) -> key::Key {
    key::exact(&chat(&v.to_string()), &SCOPE)
}
fn partition(v: &Value) -> key::Key {
    key::partition(&chat(&v.to_string()), &SCOPE)
}
fn base() -> Value {
    json!({ "model": "m", "temperature": 0.5, "messages": [
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "Hi" }, { "role": "assistant", "content": "Hello" },
        { "role": "user", "content": "Boiling point of water?" } ] })
}
fn changed(path: &str, to: Value) -> Value {
    let mut v = base();
    match v.pointer_mut(path) {
        Some(place) => *place = to,
        None => drop(v.as_object_mut().unwrap().insert(path[1..].to_owned(), to)),
    }
    v
}

#[test]
fn spelling_does_not_change_the_key() {
    let a = r#"{"model":"m","temperature":1,"messages":[{"role":"user","content":"a"}],"n":1}"#;
    let b = "{ \"n\" : 1.0e0, \"messages\": [ {\"content\":\"\\u0061\", \"role\":\"user\"} ],\n \"temperature\": 1.0, \"model\":\"m\"}";
    assert_eq!(key::exact(&chat(a), &SCOPE), key::exact(&chat(b), &SCOPE));
}

#[test]
fn delivery_and_billing_fields_do_not_change_the_key() {
    for (name, value) in [
        ("stream", json!(true)),
        ("stream_options", json!({ "include_usage": true })),
        ("user", json!("u")),
        ("metadata", json!({ "a": "b" })),
        ("store", json!(true)),
        ("model", json!("other: the target stands in the scope")),
    ] {
        assert_eq!(exact(&base()), exact(&changed(&format!("/{name}"), value)), "{name}");
    }
}

#[test]
fn everything_else_changes_key_and_partition() {
    let changes = [
        ("/temperature", json!(0.6)),
        ("/top_p", json!(0.9)),
        ("/seed", json!(7)),
        ("/n", json!(2)),
        ("/stop", json!(["x"])),
        ("/max_tokens", json!(5)),
        ("/tools", json!([{ "type": "function" }])),
        ("/tool_choice", json!("none")),
        ("/response_format", json!({ "type": "json_object" })),
        ("/some_field_of_next_year", json!(null)),
        ("/messages/0/content", json!("Be long.")),
        ("/messages/0/role", json!("developer")),
        ("/messages/1/content", json!("Ho")),
        ("/messages/2/content", json!("Bonjour")),
        ("/messages/3/content", json!([{ "type": "image_url", "image_url": { "url": "x" } }])),
    ];
    for (path, to) in changes {
        let v = changed(path, to);
        assert_ne!(exact(&base()), exact(&v), "{path}");
        assert_ne!(partition(&base()), partition(&v), "{path}");
    }
}

#[test]
fn only_the_last_user_text_may_vary_within_a_partition() {
    let other = changed("/messages/3/content", json!("At what heat does water boil?"));
    assert_eq!(partition(&base()), partition(&other));
    assert_ne!(exact(&base()), exact(&other));
    let image = |text: &str, url: &str| {
        changed(
            "/messages/3/content",
            json!([{ "type": "text", "text": text }, { "type": "image_url", "image_url": { "url": url } }]),
        )
    };
    assert_eq!(partition(&image("a", "x")), partition(&image("b", "x")));
    assert_ne!(partition(&image("a", "x")), partition(&image("a", "y")));
}

#[test]
fn scope_parts_never_run_into_each_other() {
    let p = chat(&base().to_string());
    let scopes = [
        SCOPE,
        Scope { tenant: "tr", route: "", ..SCOPE },
        Scope { tenant: "t2", ..SCOPE },
        Scope { route: "r2", ..SCOPE },
        Scope { policy: "p2", ..SCOPE },
        Scope { target: "m2", ..SCOPE },
        Scope { namespace: b"n", ..SCOPE },
    ];
    let mut keys: Vec<_> = scopes.iter().flat_map(|s| [key::exact(&p, s), key::partition(&p, s)]).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 14);
}

#[test]
fn prompts_unfit_for_the_semantic_cache_are_named() {
    let reason = |v: Value| unfit(&chat(&v.to_string()));
    assert_eq!(reason(base()), None);
    assert_eq!(reason(changed("/n", json!(2))), Some("many_choices"));
    assert_eq!(reason(changed("/temperature", json!(1.2))), Some("temperature"));
    assert_eq!(reason(changed("/messages/3/role", json!("assistant"))), Some("last_role_not_user"));
    assert_eq!(reason(changed("/messages/2/role", json!("tool"))), Some("tools_in_history"));
    let called = json!({ "role": "assistant", "content": null, "tool_calls": [{}] });
    assert_eq!(reason(changed("/messages/2", called)), Some("tools_in_history"));
    assert_eq!(reason(changed("/messages/3/content", json!(" \n"))), Some("no_text"));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Fractions that decimal text holds exactly: serde_json may read others off by the last bit.
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 64.0)),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// The same value with every object's members in reverse order.
fn reversed(v: &Value) -> Value {
    match v {
        Value::Array(a) => a.iter().map(reversed).collect(),
        Value::Object(m) => Value::Object(m.iter().rev().map(|(k, v)| (k.clone(), reversed(v))).collect()),
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn canonical_text_ignores_order_and_tells_values_apart(a in any_json(), b in any_json()) {
        let text = |v: &Value| { let mut out = String::new(); super::super::canon::write(v, &mut out); out };
        prop_assert_eq!(text(&a), text(&reversed(&a)));
        // It is JSON of the same value, so two different values never share it.
        let back: Value = serde_json::from_str(&text(&a)).unwrap();
        prop_assert_eq!(text(&back), text(&a));
        prop_assert_eq!(a == b || reversed(&a) == b, text(&a) == text(&b));
    }

    #[test]
    fn the_key_sees_every_unknown_field(extra in any_json()) {
        let with = changed("/x_field", extra);
        prop_assert_ne!(exact(&base()), exact(&with));
        prop_assert_eq!(exact(&with), exact(&reversed(&with)));
    }
}
