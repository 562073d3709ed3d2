//! Plays a stored complete answer back as the stream a client asked for. It is the inverse of `record`.

use super::super::chat::{Fields, object, text_in};
use crate::ai::replay::pieces;
use crate::ai::sse;
use serde_json::{Value, json};

/// The whole stream; `None` when `answer` is no answer.
pub fn stream(answer: &Value) -> Option<String> {
    let mut top = answer.as_object()?.clone();
    let candidates = match top.shift_remove("candidates") {
        Some(Value::Array(all)) => all,
        None if super::is_answer(answer) => Vec::new(),
        _ => return None,
    };
    let usage = top.shift_remove("usageMetadata");
    let feedback = top.shift_remove("promptFeedback");
    let mut out = String::new();
    let mut push = |more: Fields| {
        let mut event = more;
        event.extend(top.clone());
        out.push_str(&sse::event(&Value::Object(event).to_string()));
    };
    let mut last = Vec::new();
    for candidate in &candidates {
        let parts = candidate.pointer("/content/parts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for part in parts.iter().flat_map(cut) {
            let mut piece = object([("content", json!({ "parts": [part], "role": "model" }))]);
            piece.extend(candidate.get("index").map(|i| ("index".to_owned(), i.clone())));
            push(object([("candidates", json!([piece]))]));
        }
        let mut end = candidate.as_object()?.clone();
        let silence = if parts.is_empty() { None } else { Some(("parts", json!([{ "text": "" }]))) };
        let content = silence.into_iter().chain([("role", "model".into())]);
        end.insert("content".to_owned(), content.map(|(k, v)| (k.to_owned(), v)).collect());
        last.push(Value::Object(end));
    }
    let mut end = Fields::new();
    if !last.is_empty() {
        end.insert("candidates".to_owned(), last.into());
    }
    end.extend(usage.map(|u| ("usageMetadata".to_owned(), u)));
    end.extend(feedback.map(|f| ("promptFeedback".to_owned(), f)));
    push(end);
    Some(out)
}

/// A text or a thought in pieces; whatever has more to it than that stays whole.
fn cut(part: &Value) -> Vec<Value> {
    let plain = part.as_object().is_some_and(|m| m.keys().all(|k| k == "text" || k == "thought"));
    match text_in(part, "text").filter(|t| plain && !t.is_empty()) {
        Some(text) => {
            let piece = |text: &str| {
                let mut piece = part.clone();
                if let Some(member) = piece.get_mut("text") {
                    *member = text.into();
                }
                piece
            };
            pieces(text).into_iter().map(piece).collect()
        }
        None => vec![part.clone()],
    }
}
