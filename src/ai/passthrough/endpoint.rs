//! The endpoints that pass without being understood: which there are, how each one's provider is found, and where it
//! is at the provider. A path is taken apart here and put together anew, so that nothing but what is known gets through.

use crate::base::url::unescaped;
use crate::config::ai::passthrough::Endpoint as Name;
use http::Method;

/// The longest id of an object at a provider.
const ID_BYTES_MAX: usize = 128;

/// Query parameters that pass; everything else, keys above all, stays here.
const PARAMETERS: [&str; 14] = [
    "after",
    "after_id",
    "before",
    "before_id",
    "include",
    "include[]",
    "include_obfuscation",
    "limit",
    "order",
    "purpose",
    "scope_id",
    "starting_after",
    "stream",
    "variant",
];

/// How a request says which model it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// The member `model` of its JSON body, or the field of its form.
    Model,
    /// Not at all: it goes to the route's provider.
    Nothing,
}

/// A request to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// The endpoint's name in the configuration.
    pub name: Name,
    /// How the provider is found.
    pub asks: Asks,
    /// The path at the provider, below its base URL, with the query.
    pub path: String,
}

/// What stands at the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// No endpoint that passes.
    None,
    /// An endpoint, but not with this method.
    Method(Method),
    /// An endpoint.
    Called(Called),
}

/// One form of path: its end, where `*` is an id, and the methods with which it is taken.
struct Row(Name, Asks, &'static str, &'static [Method]);

const GET: &[Method] = &[Method::GET];
const POST: &[Method] = &[Method::POST];
const GET_POST: &[Method] = &[Method::GET, Method::POST];
const GET_DELETE: &[Method] = &[Method::GET, Method::DELETE];

/// Every form, the longer ones of an ending first.
const ROWS: [Row; 22] = [
    Row(Name::Images, Asks::Model, "images/generations", POST),
    Row(Name::Images, Asks::Model, "images/edits", POST),
    Row(Name::Images, Asks::Model, "images/variations", POST),
    Row(Name::Audio, Asks::Model, "audio/speech", POST),
    Row(Name::Audio, Asks::Model, "audio/transcriptions", POST),
    Row(Name::Audio, Asks::Model, "audio/translations", POST),
    Row(Name::Moderations, Asks::Model, "moderations", POST),
    Row(Name::Rerank, Asks::Model, "rerank", POST),
    Row(Name::MessageBatches, Asks::Nothing, "messages/batches", GET_POST),
    Row(Name::MessageBatches, Asks::Nothing, "messages/batches/*/cancel", POST),
    Row(Name::MessageBatches, Asks::Nothing, "messages/batches/*/results", GET),
    Row(Name::MessageBatches, Asks::Nothing, "messages/batches/*", GET_DELETE),
    Row(Name::Files, Asks::Nothing, "files", GET_POST),
    Row(Name::Files, Asks::Nothing, "files/*/content", GET),
    Row(Name::Files, Asks::Nothing, "files/*", GET_DELETE),
    Row(Name::Batches, Asks::Nothing, "batches", GET_POST),
    Row(Name::Batches, Asks::Nothing, "batches/*/cancel", POST),
    Row(Name::Batches, Asks::Nothing, "batches/*", GET),
    Row(Name::Responses, Asks::Nothing, "responses/*/cancel", POST),
    Row(Name::Responses, Asks::Nothing, "responses/*/input_items", GET),
    Row(Name::Responses, Asks::Nothing, "responses/*", GET_DELETE),
    Row(Name::Realtime, Asks::Model, "realtime", GET),
];

/// What stands at a path, whatever prefix the route has.
pub fn at(method: &Method, path: &str, query: Option<&str>) -> Place {
    let path = path.trim_end_matches('/');
    let Some((row, end)) = ROWS.iter().find_map(|row| ending(path, row.2).map(|end| (row, end))) else {
        return Place::None;
    };
    let Row(name, asks, _, methods) = row;
    if !methods.contains(method) {
        return methods.first().cloned().map_or(Place::None, Place::Method);
    }
    let mut path = format!("/{end}");
    // Where a model is named the query says nothing; that of a realtime session is made anew.
    for (i, pair) in query.into_iter().flat_map(known).enumerate().filter(|_| *asks == Asks::Nothing) {
        path.push(if i == 0 { '?' } else { '&' });
        path.push_str(pair);
    }
    Place::Called(Called { name: *name, asks: *asks, path })
}

/// The end of the path that has this form.
fn ending<'a>(path: &'a str, form: &str) -> Option<&'a str> {
    let mut start = path.len();
    let mut segments = path.rsplit('/');
    for wanted in form.rsplit('/') {
        let segment = segments.next()?;
        let fits = if wanted == "*" { is_id(segment) } else { segment == wanted };
        // The segment must follow a slash.
        start = start.checked_sub(segment.len() + 1).filter(|_| fits)?;
    }
    path.get(start + 1..)
}

/// Ids as providers make them. Dots and escapes could lead somewhere else.
fn is_id(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

/// The pairs of a query whose parameter passes. Values are left as they are, escapes included.
fn known(query: &str) -> impl Iterator<Item = &str> {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'#' | b'"' | b'<' | b'>');
    query.split('&').filter(move |pair| {
        let name = pair.split('=').next().unwrap_or_default().replace("%5B", "[").replace("%5D", "]");
        PARAMETERS.contains(&name.as_str()) && pair.bytes().all(plain)
    })
}

/// The first value of a query's parameter, its escapes read.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    let pair = query.split('&').filter_map(|p| p.split_once('=')).find(|(key, _)| *key == name)?;
    unescaped(pair.1)
}
