//! `POST /purge`: one wish (`{"url": "https://host/path"}`, or `prefix`, `host`, `tag`, `tags`, `"all": true`; with
//! `"soft": true`, with `"store": "name"`) or many: `{"purges": [{…}, …]}`. All are carried out, or none.

use super::Answer;
use crate::base::strict_json;
use crate::proxy::Edge;
use crate::proxy::purge::{Order, Scope, Wish};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

/// Most wishes of one call.
const WISHES_MAX: usize = 1000;

/// How deep JSON may nest.
const DEPTH_MAX: u8 = 4;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    url: Option<String>,
    prefix: Option<String>,
    host: Option<String>,
    tag: Option<String>,
    tags: Option<Vec<String>>,
    all: Option<bool>,
    #[serde(default)]
    soft: bool,
    store: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    purges: Vec<Value>,
}

/// Carries out what the body asks for.
pub async fn purge(edge: &Edge, body: &[u8]) -> Answer {
    let plan = edge.plan.load_full();
    let mut order = Order::default();
    let understood = wishes(body).and_then(|wishes| {
        wishes.iter().try_for_each(|(at, wish)| order.add(&plan, wish).map_err(|e| format!("{at}{e}")))
    });
    if let Err(e) = understood {
        edge.shared.metrics.purges.with_label_values(&["none", "admin", "refused"]).inc();
        return Answer::json(StatusCode::BAD_REQUEST, &json!({ "error": e }));
    }
    match order.carry_out("admin", &edge.shared.metrics).await {
        Ok(done) => Answer::json(StatusCode::OK, &done),
        Err(e) => Answer::json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": e })),
    }
}

/// Wishes with how faults call their place.
fn wishes(body: &[u8]) -> Result<Vec<(String, Wish)>, String> {
    let value = strict_json::value(body, DEPTH_MAX).map_err(|e| format!("{HINT}: {e}"))?;
    if value.get("purges").is_none() {
        return Ok(vec![(String::new(), wish(value).map_err(|e| format!("{HINT}: {e}"))?)]);
    }
    let batch = Batch::deserialize(value).map_err(|e| format!("{HINT}: {e}"))?;
    if batch.purges.is_empty() || batch.purges.len() > WISHES_MAX {
        return Err(format!("purges: 1 to {WISHES_MAX} entries, not {}", batch.purges.len()));
    }
    let one = |(i, value)| {
        let at = format!("purges[{i}]: ");
        wish(value).map_err(|e| format!("{at}{e}")).map(|w| (at, w))
    };
    batch.purges.into_iter().enumerate().map(one).collect()
}

const HINT: &str = "send {\"url\": \"https://host/path\"} (or prefix, host, tag, tags, all), or {\"purges\": [{…}]}";

fn wish(value: Value) -> Result<Wish, String> {
    let asked = Asked::deserialize(value).map_err(|e| e.to_string())?;
    let scopes = [
        asked.url.map(Scope::Url),
        asked.prefix.map(Scope::Prefix),
        asked.host.map(Scope::Host),
        asked.tag.map(|t| Scope::Tags(vec![t])),
        asked.tags.map(Scope::Tags),
        asked.all.map(|_| Scope::All),
    ];
    if asked.all == Some(false) {
        return Err("all: only true means something".to_owned());
    }
    let mut scopes = scopes.into_iter().flatten();
    match (scopes.next(), scopes.next()) {
        (Some(Scope::Tags(tags)), None) if tags.is_empty() => Err("tags: name at least one".to_owned()),
        (Some(scope), None) => Ok(Wish { scope, soft: asked.soft, store: asked.store }),
        (None, _) => Err("nothing to purge: give url, prefix, host, tag, tags or all".to_owned()),
        _ => Err("give exactly one of url, prefix, host, tag, tags, all".to_owned()),
    }
}
