//! `GET /v1/models`: the names a client may ask for.

use super::catalog::{AUTO, Catalog};
use crate::base::reply::Reply;
use crate::base::source::Source;
use crate::config::ai::AiRoute;
use http::StatusCode;
use serde_json::{Value, json};

/// The OpenAI list of every model and tier of the route, and `auto` where the route has a tier for it.
pub fn list(catalog: &Catalog, route: &AiRoute) -> Reply {
    let owner = |name: &str| catalog.models().find(|m| m.name == name).map(|m| m.provider.name.clone());
    let mut names: Vec<&str> = catalog.offered(route).map(String::as_str).collect();
    if route.tier.is_some() {
        names.push(AUTO);
    }
    let data: Vec<Value> = names
        .into_iter()
        .map(|name| {
            let owned_by = owner(name).unwrap_or_else(|| "sluicegate".to_owned());
            json!({ "id": name, "object": "model", "created": 0, "owned_by": owned_by })
        })
        .collect();
    Reply::json(StatusCode::OK, Source::Gateway, &json!({ "object": "list", "data": data })).because("models")
}
