//! Tests of what is particular to this dialect; the golden tables stand beside them.

use super::schema::json_schema;
use super::sign::{Signature, foreign, read, sealed, written};
use crate::ai::json::splice;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn nullable_and_ordered_schemas_become_json_schemas() {
    let google = json!({
        "type": "OBJECT",
        "properties": {
            "b": { "type": "STRING", "enum": ["x"], "nullable": true },
            "a": { "any_of": [{ "type": "INTEGER" }], "nullable": true, "max_items": "3" },
            "c": { "type": "TYPE_UNSPECIFIED", "example": 1 },
        },
        "propertyOrdering": ["a", "b", "ghost"],
    });
    let want = json!({
        "type": "object",
        "properties": {
            "a": { "maxItems": 3, "anyOf": [{ "type": "integer" }, { "type": "null" }] },
            "b": { "type": ["string", "null"], "enum": ["x", null] },
            "c": { "examples": [1] },
        },
    });
    assert_eq!(json_schema(&google).to_string(), want.to_string(), "in this order");
    let plain = json!({ "type": "object", "properties": { "a": { "type": ["string", "null"] } }, "additionalProperties": false });
    assert_eq!(json_schema(&plain), plain, "a JSON schema is one already");
    let mut deep = json!({ "type": "STRING" });
    for _ in 0..200 {
        deep = json!({ "type": "ARRAY", "items": deep });
    }
    assert!(!json_schema(&deep).to_string().contains("string"), "what lies too deep says nothing");
}

#[test]
fn googles_own_signatures_stay_what_they_are() {
    assert_eq!(read("c2ln"), Signature::Of("gemini:c2ln".to_owned()));
    assert_eq!(written("gemini:c2ln"), "c2ln");
    assert_eq!(foreign(r#"{"thoughtSignature":"c2ln","text":"a \"c2x1aWNlZ2F0ZTpz"}"#), []);
}

proptest! {
    /// Other providers' signatures come back whole, also from clients that write base64 in the letters for URLs; and
    /// they are found in a body, however it is spelt around them.
    #[test]
    fn foreign_signatures_travel_and_are_kept_from_google(text in "\\PC{0,40}", url in any::<bool>()) {
        for (told, want) in [(written(&text), Signature::Of(text.clone())), (sealed(&text), Signature::Sealed(text.clone()))] {
            let told = if url { told.replace('+', "-").replace('/', "_").replace('=', "") } else { told };
            prop_assert_eq!(read(&told), if text.starts_with("gemini:") { read(&told) } else { want });
            let body = json!({ "parts": [{ "thoughtSignature": told }], "text": text }).to_string();
            if !text.starts_with("gemini:") {
                let clean = splice(&body, foreign(&body));
                let clean: serde_json::Value = serde_json::from_str(&clean).unwrap();
                prop_assert_eq!(&clean["parts"][0]["thoughtSignature"], "skip_thought_signature_validator");
            }
        }
    }
}
