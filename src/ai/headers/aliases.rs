//! The names by which clients of other gateways ask the same of a cache, where the meaning is the same. One table; what
//! replaces a whole key (Cloudflare's `cf-aig-cache-key`) or widens anything has no place in it.

use super::CacheMode;
use super::wish::{ClientWish, span};
use crate::ai::dialect::chat::Fields;
use http::HeaderMap;
use serde_json::Value;

/// What a peer's field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// When it says yes: no cache at all.
    Off,
    /// When it says no: no cache at all.
    On,
    /// When it says yes: a new answer, which may be stored.
    Refresh,
    /// When it says yes: the answer is not stored.
    NoStore,
    /// For how long the answer may be kept.
    Ttl,
    /// The least similarity of a semantic hit.
    Threshold,
    /// A namespace.
    Namespace,
    /// `direct` or `semantic`.
    Kind,
    /// A list of directives: `no-cache`, `no-store`, `bypass`, `max-age=`, `ttl=`.
    Directives,
}

/// The fields with whose they are.
pub const ALIASES: [(&str, &str, Asks); 15] = [
    ("Portkey", "x-portkey-cache-namespace", Asks::Namespace),
    ("Portkey", "x-portkey-cache-force-refresh", Asks::Refresh),
    ("Bifrost", "x-bf-cache-key", Asks::Namespace),
    ("Bifrost", "x-bf-cache-ttl", Asks::Ttl),
    ("Bifrost", "x-bf-cache-threshold", Asks::Threshold),
    ("Bifrost", "x-bf-cache-type", Asks::Kind),
    ("Bifrost", "x-bf-cache-no-store", Asks::NoStore),
    ("Cloudflare", "cf-aig-skip-cache", Asks::Off),
    ("Cloudflare", "cf-aig-cache-ttl", Asks::Ttl),
    ("Helicone", "helicone-cache-enabled", Asks::On),
    ("Helicone", "helicone-cache-seed", Asks::Namespace),
    ("vLLM Semantic Router", "x-vsr-cache-control", Asks::Directives),
    ("Higress", "x-higress-skip-ai-cache", Asks::Off),
    ("LLMGateway", "x-no-cache", Asks::Off),
    ("OpenRouter", "x-openrouter-cache", Asks::On),
];

/// LiteLLM's member of the body.
const LITELLM: &str = "cache";
/// And what it may hold.
const LITELLM_KEYS: [&str; 6] = ["ttl", "s-maxage", "s-max-age", "no-cache", "no-store", "namespace"];
/// TensorZero's.
const TENSORZERO: &str = "tensorzero::cache_options";

/// Reads the peers' header fields. One that cannot be read leaves the caches out: that is never too much.
pub fn read_headers(wish: &mut ClientWish, headers: &HeaderMap) {
    for (_, name, asks) in ALIASES {
        for value in headers.get_all(name) {
            let read = value.to_str().ok().and_then(|text| apply(wish, asks, text.trim()));
            if read.is_none() {
                wish.narrow(CacheMode::None);
            }
        }
    }
}

fn apply(wish: &mut ClientWish, asks: Asks, text: &str) -> Option<()> {
    match asks {
        Asks::Off if yes(text)? => wish.narrow(CacheMode::None),
        Asks::On if !yes(text)? => wish.narrow(CacheMode::None),
        Asks::Refresh => wish.refresh |= yes(text)?,
        Asks::NoStore => wish.no_store |= yes(text)?,
        Asks::Off | Asks::On => {}
        Asks::Ttl => wish.kept_for(span(text)?),
        Asks::Threshold => wish.similarity(text).ok()?,
        Asks::Namespace => wish.within(text).ok()?,
        Asks::Kind => match text {
            "direct" => wish.narrow(CacheMode::Exact),
            "semantic" => {}
            _ => return None,
        },
        Asks::Directives => text.split(',').try_for_each(|d| directive(wish, d.trim()))?,
    }
    Some(())
}

fn directive(wish: &mut ClientWish, text: &str) -> Option<()> {
    match text.split_once('=') {
        None if text == "no-cache" => wish.refresh = true,
        None if text == "no-store" => wish.no_store = true,
        None if text == "bypass" => wish.narrow(CacheMode::None),
        Some(("max-age", time)) => wish.younger_than(span(time)?),
        Some(("ttl", time)) => wish.kept_for(span(time)?),
        _ => return None,
    }
    Some(())
}

fn yes(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" | "yes" => Some(true),
        "false" | "off" | "0" | "no" => Some(false),
        _ => None,
    }
}

/// Reads the peers' members of a body; gives the names of those that were read. A member that holds anything else is
/// none of theirs, and stays.
pub fn read_body(wish: &mut ClientWish, fields: &Fields) -> Vec<&'static str> {
    let mut out = Vec::new();
    let mut with = |name, read: fn(&mut ClientWish, &Fields) -> Option<()>| {
        let Some(Value::Object(member)) = fields.get(name) else { return };
        let mut said = wish.clone();
        if read(&mut said, member).is_some() {
            *wish = said;
            out.push(name);
        }
    };
    with(LITELLM, litellm);
    with(TENSORZERO, tensorzero);
    out
}

fn litellm(wish: &mut ClientWish, member: &Fields) -> Option<()> {
    for (key, value) in member {
        let seconds = || value.as_f64().map(|s| s.to_string()).or_else(|| value.as_str().map(str::to_owned));
        let time = || span(&seconds()?);
        match LITELLM_KEYS.into_iter().find(|k| k == key)? {
            "ttl" => wish.kept_for(time()?),
            "no-cache" => wish.refresh |= value.as_bool()?,
            "no-store" => wish.no_store |= value.as_bool()?,
            "namespace" => wish.within(value.as_str()?).ok()?,
            _ => wish.younger_than(time()?),
        }
    }
    Some(())
}

fn tensorzero(wish: &mut ClientWish, member: &Fields) -> Option<()> {
    for (key, value) in member {
        match (key.as_str(), value.as_str()) {
            ("enabled", Some("on")) => {}
            ("enabled", Some("off")) => wish.narrow(CacheMode::None),
            ("enabled", Some("read_only")) => wish.no_store = true,
            ("enabled", Some("write_only")) => wish.refresh = true,
            ("max_age_s", _) if value.is_null() => {}
            ("max_age_s", _) => wish.younger_than(span(&value.as_u64()?.to_string())?),
            _ => return None,
        }
    }
    Some(())
}
