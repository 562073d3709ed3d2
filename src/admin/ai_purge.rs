//! `POST /ai/purge`: `{"tag": "docs"}` or `{"tags": ["docs", "v2"]}` forgets the model answers with any of these tags.

use super::Answer;
use crate::ai::headers::wish::TAG_BYTES_MAX;
use crate::base::strict_json;
use crate::proxy::Edge;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

/// Most tags of one call.
const TAGS_MAX: usize = 100;
/// How deep JSON may nest.
const DEPTH_MAX: u8 = 2;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    tag: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
}

/// Carries out what the body asks for; the answer tells how many answers are gone from each cache.
pub async fn purge(edge: &Edge, body: &[u8]) -> Answer {
    let tags = match tags(body) {
        Ok(tags) => tags,
        Err(e) => return Answer::json(StatusCode::BAD_REQUEST, &json!({ "error": e })),
    };
    let plan = edge.plan.load_full();
    // It looks at every entry, which is too much for a thread that serves requests.
    let done = tokio::task::spawn_blocking(move || {
        let mut purged: BTreeMap<String, u64> = BTreeMap::new();
        let Some(gateway) = &plan.ai else { return purged };
        for tag in &tags {
            for (cache, n) in gateway.purge_tag(tag) {
                *purged.entry(cache).or_default() += n;
            }
        }
        purged
    });
    match done.await {
        Ok(purged) => Answer::json(StatusCode::OK, &json!({ "purged": purged })),
        Err(e) => Answer::json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": e.to_string() })),
    }
}

fn tags(body: &[u8]) -> Result<Vec<String>, String> {
    const HINT: &str = "send {\"tag\": \"name\"} or {\"tags\": [\"one\", \"two\"]}";
    let value = strict_json::value(body, DEPTH_MAX).map_err(|e| format!("{HINT}: {e}"))?;
    let asked = Asked::deserialize(value).map_err(|e| format!("{HINT}: {e}"))?;
    let tags: Vec<String> = asked.tags.into_iter().chain(asked.tag).collect();
    if tags.is_empty() || tags.len() > TAGS_MAX {
        return Err(format!("{HINT}: 1 to {TAGS_MAX} tags, not {}", tags.len()));
    }
    let bad = tags.iter().any(|t| t.is_empty() || t.len() > TAG_BYTES_MAX);
    if bad { Err(format!("a tag has 1 to {TAG_BYTES_MAX} bytes")) } else { Ok(tags) }
}

#[cfg(test)]
mod tests {
    use super::tags;

    #[test]
    fn one_tag_or_many_and_nothing_else() {
        assert_eq!(tags(br#"{"tag":"a"}"#), Ok(vec!["a".to_owned()]));
        assert_eq!(tags(br#"{"tags":["a","b"]}"#), Ok(vec!["a".to_owned(), "b".to_owned()]));
        for bad in [&br#"{}"#[..], br#"{"tags":[]}"#, br#"{"tag":""}"#, br#"{"all":true}"#, b"a"] {
            assert!(tags(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
