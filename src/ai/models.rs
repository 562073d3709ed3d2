//! `GET /v1/models` and `GET /v1/models/{id}`: the names a client may ask for.

use super::catalog::{AUTO, Catalog};
use super::error::AiError;
use crate::base::reply::Reply;
use crate::base::source::Source;
use crate::config::ai::AiRoute;
use http::StatusCode;
use serde_json::{Value, json};

/// The OpenAI list of every model and tier of the route, and `auto` where the route has a tier for it.
pub fn list(catalog: &Catalog, route: &AiRoute) -> Reply {
    let data: Vec<Value> = names(catalog, route).map(|name| entry(catalog, name)).collect();
    Reply::json(StatusCode::OK, Source::Gateway, &json!({ "object": "list", "data": data })).because("models")
}

/// One entry of that list.
pub fn one(catalog: &Catalog, route: &AiRoute, name: &str) -> Result<Reply, AiError> {
    let known = names(catalog, route).find(|n| *n == name).ok_or_else(|| catalog.no_model(name, route))?;
    Ok(Reply::json(StatusCode::OK, Source::Gateway, &entry(catalog, known)).because("models"))
}

fn names<'a>(catalog: &'a Catalog, route: &'a AiRoute) -> impl Iterator<Item = &'a str> {
    catalog.offered(route).map(String::as_str).chain(route.tier.is_some().then_some(AUTO))
}

fn entry(catalog: &Catalog, name: &str) -> Value {
    let owner = catalog.models().find(|m| m.name == name).map(|m| m.provider.name.as_str());
    json!({ "id": name, "object": "model", "created": 0, "owned_by": owner.unwrap_or("sluicegate") })
}
