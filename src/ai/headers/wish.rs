//! What a client wants of the caches, in our words: header fields `x-sluicegate-cache…`, the body's member `sluicegate`,
//! and the `Cache-Control` of RFC 9111 §5.2.1. Whatever is said twice, the narrower counts.

use super::{CacheMode, aliases};
use crate::ai::dialect::chat::Fields;
use crate::ai::error::AiError;
use crate::base::units::Dur;
use http::{HeaderMap, HeaderName, header};
use serde_json::Value;
use std::time::Duration;

/// `off | exact | semantic | refresh`.
const CACHE: HeaderName = HeaderName::from_static("x-sluicegate-cache");
/// How old an answer may be at most, and how long a new one is kept.
const TTL: HeaderName = HeaderName::from_static("x-sluicegate-cache-ttl");
/// The least similarity.
const THRESHOLD: HeaderName = HeaderName::from_static("x-sluicegate-cache-threshold");
/// A cache of one's own within the tenant's.
const NAMESPACE: HeaderName = HeaderName::from_static("x-sluicegate-cache-namespace");
/// Words to purge by, with commas between.
const TAGS: HeaderName = HeaderName::from_static("x-sluicegate-cache-tags");
/// The body's member with `cache: {mode, ttl, threshold, namespace, tags}`.
pub const MEMBER: &str = "sluicegate";
/// Words of the keys below it.
const KEYS: [&str; 5] = ["mode", "ttl", "threshold", "namespace", "tags"];

/// Bytes of a namespace.
const NAMESPACE_BYTES_MAX: usize = 256;
/// Tags of one answer.
const TAGS_MAX: usize = 16;
/// Bytes of a tag.
pub const TAG_BYTES_MAX: usize = 128;

/// What a client wants of the caches. It can only narrow what route and policy allow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientWish {
    /// The most it wants used.
    pub at_most: Option<CacheMode>,
    /// It wants a new answer, which may then be stored.
    pub refresh: bool,
    /// The answer is not to be stored.
    pub no_store: bool,
    /// A stored answer must not be older.
    pub age_max: Option<Duration>,
    /// The answer is not to be kept for longer.
    pub ttl: Option<Duration>,
    /// The least similarity of a semantic hit.
    pub threshold: Option<f32>,
    /// Only answers of the same namespace are served, within the tenant's as ever.
    pub namespace: Option<String>,
    /// Words by which the stored answer can be purged.
    pub tags: Vec<String>,
}

/// A value that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable(pub &'static str);

type Read = Result<(), Unreadable>;

impl ClientWish {
    /// Reads the header fields, the peers' names for them included, and what the body said.
    pub fn read(headers: &HeaderMap, in_body: &ClientWish) -> Result<ClientWish, AiError> {
        let mut wish = in_body.clone();
        for value in headers.get_all(header::CACHE_CONTROL).iter().filter_map(|v| v.to_str().ok()) {
            wish.standard(value);
        }
        aliases::read_headers(&mut wish, headers);
        for (name, take) in OURS {
            for value in headers.get_all(&name) {
                let read =
                    value.to_str().map_err(|_| Unreadable("must be text")).and_then(|v| take(&mut wish, v.trim()));
                read.map_err(|e| invalid(name.as_str(), e))?;
            }
        }
        Ok(wish)
    }

    /// Takes the members out that speak to the gateway; `None` when there are none. What is left is the model's.
    pub fn take(fields: &mut Fields) -> Result<Option<(ClientWish, Vec<&'static str>)>, AiError> {
        let (mut wish, mut names) = (ClientWish::default(), Vec::new());
        if let Some(ours) = fields.get(MEMBER) {
            wish.own_member(ours)?;
            names.push(MEMBER);
        }
        names.extend(aliases::read_body(&mut wish, fields));
        for name in &names {
            fields.shift_remove(*name);
        }
        Ok((!names.is_empty()).then_some((wish, names)))
    }

    fn own_member(&mut self, member: &Value) -> Result<(), AiError> {
        let object = |v: Option<&Value>| v.and_then(Value::as_object).cloned();
        let wrong = |at: &str, what: &'static str| invalid(at, Unreadable(what));
        let all = object(Some(member)).ok_or_else(|| wrong(MEMBER, "must be an object with `cache`"))?;
        if all.keys().any(|k| k != "cache") {
            return Err(wrong(MEMBER, "must be an object with `cache` and nothing else"));
        }
        let cache = object(all.get("cache")).ok_or_else(|| wrong("sluicegate.cache", "must be an object"))?;
        for (key, value) in &cache {
            let Some(key) = KEYS.into_iter().find(|k| k == key) else {
                return Err(wrong(
                    "sluicegate.cache",
                    "has mode, ttl, threshold, namespace and tags, and nothing else",
                ));
            };
            self.own_key(key, value).map_err(|e| invalid(&format!("sluicegate.cache.{key}"), e))?;
        }
        Ok(())
    }

    fn own_key(&mut self, key: &str, value: &Value) -> Read {
        if let (Value::Array(all), "tags") = (value, key) {
            return all.iter().try_for_each(|tag| self.tag(tag.as_str().ok_or(Unreadable("must be a list of texts"))?));
        }
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(n) => n.to_string(),
            _ => return Err(Unreadable("must be a text or a number")),
        };
        match key {
            "mode" => self.mode(&text),
            "ttl" => self.lifetime(&text),
            "threshold" => self.similarity(&text),
            "namespace" => self.within(&text),
            _ => self.tag_list(&text),
        }
    }

    /// RFC 9111 §5.2.1.1, §5.2.1.4 and §5.2.1.5. Who wants nothing stored wants no stored answer either.
    fn standard(&mut self, value: &str) {
        for directive in value.split(',').map(|d| d.trim().to_ascii_lowercase()) {
            match directive.split_once('=') {
                None if directive == "no-cache" => self.refresh = true,
                None if directive == "no-store" => self.narrow(CacheMode::None),
                Some(("max-age", seconds)) => {
                    if let Ok(seconds) = seconds.trim_matches('"').parse() {
                        self.younger_than(Duration::from_secs(seconds));
                    }
                }
                _ => {}
            }
        }
    }

    /// Uses no more than this.
    pub(super) fn narrow(&mut self, mode: CacheMode) {
        self.at_most = Some(self.at_most.map_or(mode, |other| other.min(mode)));
    }

    /// A stored answer must be younger; no age at all means a new one.
    pub(super) fn younger_than(&mut self, age: Duration) {
        self.refresh |= age.is_zero();
        self.age_max = Some(self.age_max.map_or(age, |other| other.min(age)));
    }

    /// The answer is kept so long at most; no time at all means that it is not.
    pub(super) fn kept_for(&mut self, time: Duration) {
        self.no_store |= time.is_zero();
        self.ttl = Some(self.ttl.map_or(time, |other| other.min(time)));
    }

    fn mode(&mut self, text: &str) -> Read {
        match text.to_ascii_lowercase().as_str() {
            "off" => self.narrow(CacheMode::None),
            "exact" => self.narrow(CacheMode::Exact),
            "semantic" => self.narrow(CacheMode::Semantic),
            "refresh" => self.refresh = true,
            _ => return Err(Unreadable("must be off, exact, semantic or refresh")),
        }
        Ok(())
    }

    fn lifetime(&mut self, text: &str) -> Read {
        let time = span(text).ok_or(Unreadable("must be seconds, or a time such as 10m"))?;
        self.younger_than(time);
        self.kept_for(time);
        Ok(())
    }

    /// The least similarity.
    pub(super) fn similarity(&mut self, text: &str) -> Read {
        let number = text.parse::<f32>().ok().filter(|t| (0.0..=1.0).contains(t));
        let number = number.ok_or(Unreadable("must be a number from 0 to 1"))?;
        self.threshold = Some(self.threshold.map_or(number, |other| other.max(number)));
        Ok(())
    }

    /// The namespace. Two different ones leave nothing to share.
    pub(super) fn within(&mut self, name: &str) -> Read {
        if name.is_empty() || name.len() > NAMESPACE_BYTES_MAX {
            return Err(Unreadable("must be 1 to 256 bytes long"));
        }
        match &self.namespace {
            Some(other) if other != name => return Err(Unreadable("is said twice, in different words")),
            _ => self.namespace = Some(name.to_owned()),
        }
        Ok(())
    }

    fn tag_list(&mut self, text: &str) -> Read {
        text.split(',').map(str::trim).filter(|t| !t.is_empty()).try_for_each(|tag| self.tag(tag))
    }

    fn tag(&mut self, tag: &str) -> Read {
        if tag.is_empty() || tag.len() > TAG_BYTES_MAX {
            return Err(Unreadable("a tag must be 1 to 128 bytes long"));
        }
        if self.tags.iter().any(|known| known == tag) {
            return Ok(());
        }
        if self.tags.len() >= TAGS_MAX {
            return Err(Unreadable("16 tags at most"));
        }
        self.tags.push(tag.to_owned());
        Ok(())
    }
}

type Take = fn(&mut ClientWish, &str) -> Read;

/// Our fields, and what reads them.
const OURS: [(HeaderName, Take); 5] = [
    (CACHE, ClientWish::mode),
    (TTL, ClientWish::lifetime),
    (THRESHOLD, ClientWish::similarity),
    (NAMESPACE, ClientWish::within),
    (TAGS, ClientWish::tag_list),
];

/// Seconds, or a number with a unit.
pub(super) fn span(text: &str) -> Option<Duration> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => text.parse::<Dur>().ok().map(|d| d.0),
    }
}

fn invalid(place: &str, Unreadable(what): Unreadable) -> AiError {
    AiError::invalid(format!("{place} {what}"), Some(place), "invalid_value")
}
