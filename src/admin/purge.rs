//! `POST /purge {"url": "https://host/path", "soft": false}`: takes a URL, all its variants, out of the HTTP caches.

use super::Answer;
use crate::cache::purge::{PurgeError, url};
use crate::cache::store::Purge;
use crate::proxy::Edge;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    url: String,
    #[serde(default)]
    soft: bool,
}

/// Purges a URL under the key rules of every route that caches.
pub async fn purge(edge: &Edge, body: &[u8]) -> Answer {
    let wish: Wish = match serde_json::from_slice(body) {
        Ok(w) => w,
        Err(e) => return refused(edge, &format!("send {{\"url\": \"https://host/path\"}}: {e}")),
    };
    let how = if wish.soft { Purge::Soft } else { Purge::Hard };
    let plan = edge.plan.load_full();
    let mut purged = 0;
    for route in plan.routes.iter().filter_map(|r| r.cache.as_ref()) {
        match url(route.store.adapter.store(), &wish.url, &route.rules.key, how).await {
            Ok(n) => purged += n,
            Err(e @ PurgeError::Url(_)) => return refused(edge, &e.to_string()),
            Err(e) => {
                edge.shared.metrics.purges.with_label_values(&["failed"]).inc();
                return Answer::json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": e.to_string() }));
            }
        }
    }
    edge.shared.metrics.purges.with_label_values(&["ok"]).inc();
    tracing::info!(url = wish.url, soft = wish.soft, purged, "purged");
    Answer::json(StatusCode::OK, &json!({ "purged": purged }))
}

fn refused(edge: &Edge, message: &str) -> Answer {
    edge.shared.metrics.purges.with_label_values(&["refused"]).inc();
    Answer::json(StatusCode::BAD_REQUEST, &json!({ "error": message }))
}
