//! `GET /v1/models` and `GET /v1/models/{id}`: the names a client may ask for, in its dialect.

use super::caller::Caller;
use super::catalog::{AUTO, Catalog};
use super::dialect::Dialect;
use super::error::AiError;
use crate::base::reply::Reply;
use crate::base::source::Source;
use crate::config::ai::AiRoute;
use http::StatusCode;
use serde_json::{Value, json};

/// The list of every model and tier of the route that the caller may use, and `auto` where the route has a tier for it.
pub fn list(catalog: &Catalog, (route, caller): (&AiRoute, &Caller), dialect: Dialect) -> Reply {
    let data: Vec<Value> = names(catalog, route, caller).map(|name| entry(catalog, name, dialect)).collect();
    let id = |entry: Option<&Value>| entry.and_then(|e| e.get("id")).cloned().unwrap_or_default();
    let list = match dialect {
        Dialect::Gemini => json!({ "models": data }),
        Dialect::Anthropic => {
            json!({ "first_id": id(data.first()), "last_id": id(data.last()), "has_more": false, "data": data })
        }
        _ => json!({ "object": "list", "data": data }),
    };
    Reply::json(StatusCode::OK, Source::Gateway, &list).because("models")
}

/// One entry of that list.
pub fn one(
    catalog: &Catalog,
    (route, caller): (&AiRoute, &Caller),
    (name, dialect): (&str, Dialect),
) -> Result<Reply, AiError> {
    let known = names(catalog, route, caller).find(|n| *n == name).ok_or_else(|| catalog.no_model(name, route))?;
    Ok(Reply::json(StatusCode::OK, Source::Gateway, &entry(catalog, known, dialect)).because("models"))
}

fn names<'a>(catalog: &'a Catalog, route: &'a AiRoute, caller: &'a Caller) -> impl Iterator<Item = &'a str> {
    let auto = route.tier.as_deref().filter(|t| caller.may_name(t, catalog)).map(|_| AUTO);
    catalog.offered(route).map(String::as_str).filter(|n| caller.may_name(n, catalog)).chain(auto)
}

/// When a name was configured is not known: the date is the first there is.
fn entry(catalog: &Catalog, name: &str, dialect: Dialect) -> Value {
    match dialect {
        Dialect::Anthropic => {
            return json!({ "type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z" });
        }
        Dialect::Gemini => {
            let methods = ["generateContent", "streamGenerateContent", "countTokens"];
            return json!({
                "name": format!("models/{name}"),
                "displayName": name,
                "supportedGenerationMethods": methods,
            });
        }
        _ => {}
    }
    let owner = catalog.models().find(|m| m.name == name).map(|m| m.provider.name.as_str());
    json!({ "id": name, "object": "model", "created": 0, "owned_by": owner.unwrap_or("sluicegate") })
}
