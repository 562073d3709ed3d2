//! The HTTP cache: the named stores under `caches:` and a route's `cache:`.

use crate::base::units::{Dur, Size};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// One store: `caches: { main: { memory: { size: 512MiB }, max_object_size: 64MiB } }`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// The level kept in memory.
    pub memory: MemoryLevel,
    /// A second level on disk, which outlives a restart.
    #[serde(default)]
    pub disk: Option<DiskLevel>,
    /// Bodies larger than this are passed on without being stored (default 64MiB; never more than the memory size or,
    /// with a disk level, a quarter of that).
    #[serde(default = "max_object_size")]
    pub max_object_size: Size,
}

/// The memory level of a store.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryLevel {
    /// Upper bound of all it holds: bodies, headers, keys and book-keeping, objects still being written included.
    pub size: Size,
}

/// The disk level of a store: what memory cannot hold, and what is to outlive a restart.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskLevel {
    /// A folder; the files stand in a folder of the store's name below it, which belongs to one process.
    pub path: PathBuf,
    /// Upper bound of all its files, at least 16MiB. A change needs a restart.
    pub size: Size,
    /// Which objects are written. A change needs a restart.
    #[serde(default)]
    pub admission: Admission,
}

/// Which objects are written to disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// Those asked for a second time: what is asked for only once costs no write.
    #[default]
    SecondRequest,
    /// All.
    Always,
}

fn max_object_size() -> Size {
    Size::mib(64)
}

/// A route's `cache:`: `true` for the defaults, `false` for none, or a map of rules.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RouteCache {
    /// `true`: cache by the origin's headers in the only (or the `main`) store; `false`: do not cache.
    Switch(bool),
    /// Caching with rules of its own.
    Rules(Box<CacheRules>),
}

/// A route's caching rules.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheRules {
    /// Name of an entry in `caches`; may be left out when there is only one, or one called `main`.
    #[serde(default)]
    pub store: Option<String>,
    /// What tells one stored answer from another, besides scheme, host, port and path.
    #[serde(default)]
    pub key: KeyParts,
    /// How long answers stay fresh, by status.
    #[serde(default)]
    pub ttl: TtlTable,
    /// How long a stale answer may be served while a fresh one is fetched in the background, where the origin names no
    /// time of its own (RFC 5861 §3). Never applies to answers marked must-revalidate, proxy-revalidate, no-cache or s-maxage.
    #[serde(default)]
    pub stale_while_revalidate: Option<Dur>,
    /// How long a stale answer may be served when the origin fails or answers 5xx, where the origin names no time of its
    /// own (RFC 5861 §4). Never applies to answers marked must-revalidate, proxy-revalidate, no-cache or s-maxage.
    #[serde(default)]
    pub stale_if_error: Option<Dur>,
    /// How long a stale answer may be served while no server of the upstream can be reached, or the one asked closes or
    /// goes silent without an answer (default 1m; RFC 9111 §4.2.4). `0s` switches it off. An answer of the origin, 5xx
    /// included, is a matter of `stale_if_error` only; where the origin or the script names a time for errors, that one
    /// counts here too. Never applies to answers marked must-revalidate, proxy-revalidate, no-cache or s-maxage.
    #[serde(default)]
    pub stale_if_unreachable: Option<Dur>,
    /// How long a request waits for another one that is already fetching the same object, before it goes to the origin
    /// itself (default 5s).
    #[serde(default)]
    pub lock_timeout: Option<Dur>,
    /// `once`: requests that waited for a fetch may all have its answer, even when it is fresh for no time at all
    /// (`max-age=0`, `s-maxage=0`, `no-cache`, a `ttl` of 0s): the origin gave it after they had asked. Never when it is
    /// `private`, `no-store`, sets a cookie or answers credentials. By default each of them then asks for itself.
    #[serde(default)]
    pub share: Option<Share>,
    /// Web cache deception (default true): an answer whose media type does not fit the file extension in its URL (HTML
    /// under `/account/x.css`) is not stored, nor is a page for a client with a session cookie that only the route's own
    /// `ttl` would keep; unless the origin says `public`, `s-maxage` or `CDN-Cache-Control`.
    #[serde(default)]
    pub deception_armor: Option<bool>,
    /// Response header fields that hold an answer's tags, to purge by (default `[surrogate-key, cache-tag]`): `cache-tag`
    /// separates them by commas, every other field by white space. `[]`: none.
    #[serde(default)]
    pub tags_from: Option<Vec<String>>,
    /// Whether clients see those fields (default: no). A cache of our own in front of this one needs them.
    #[serde(default)]
    pub send_tags: bool,
    /// Networks from which the method `PURGE` is taken; elsewhere it is answered 403, and 405 where this is not set. What
    /// counts is the client's address behind trusted proxies.
    #[serde(default)]
    pub purge_from: Option<Vec<String>>,
}

/// Which answers requests that waited for the same fetch may share, besides fresh ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// The one they waited for, once.
    Once,
}

/// The parts of the cache key that a route may choose.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyParts {
    /// Which query parameters count; by default the whole query does, as it is written.
    #[serde(default)]
    pub query: QueryParts,
    /// Request header fields whose values join the key. Prefer the origin's `Vary`, which needs no configuration.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Cookies whose values join the key.
    #[serde(default)]
    pub cookies: Vec<String>,
}

/// Which query parameters join the key. The origin still receives all of them.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryParts {
    /// Parameters left out of the key; `*` stands for any characters (`utm_*`).
    #[serde(default)]
    pub exclude: Vec<String>,
    /// When given, only these parameters join the key; `*` stands for any characters.
    #[serde(default)]
    pub include: Option<Vec<String>>,
    /// Order parameters by name, so that `?a=1&b=2` and `?b=2&a=1` share an object.
    #[serde(default)]
    pub sort: bool,
}

/// Freshness lifetimes by status: `{ default: origin, "301": 1h, "404": 30s }`. A duration replaces the lifetime that the
/// origin gave, but never makes an answer storable that the origin forbade to store (`no-store`, `private`, `Set-Cookie`),
/// nor fresh where it said `no-cache`. `0s` means: do not store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TtlTable {
    /// For statuses without an entry; a duration here concerns 200, 203, 204, 300, 301, 308, 404, 410 and 451 only.
    pub default: Ttl,
    /// By status code.
    pub by_status: BTreeMap<u16, Ttl>,
}

/// A lifetime: `origin` or a duration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ttl {
    /// Obey the origin's header fields (RFC 9111 §4.2.1).
    #[default]
    Origin,
    /// This long, whatever the origin said.
    Fixed(Dur),
}

impl<'de> Deserialize<'de> for RouteCache {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> de::Visitor<'de> for V {
            type Value = RouteCache;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a map of caching rules (store, key, ttl …)")
            }
            fn visit_bool<E: de::Error>(self, v: bool) -> Result<RouteCache, E> {
                Ok(RouteCache::Switch(v))
            }
            // A visitor instead of serde's `untagged`, so that a fault inside the map keeps its own message and place.
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RouteCache, A::Error> {
                CacheRules::deserialize(MapAccessDeserializer::new(map)).map(|r| RouteCache::Rules(Box::new(r)))
            }
        }
        d.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        match text.as_str() {
            "origin" => Ok(Ttl::Origin),
            t => t.parse().map(Ttl::Fixed).map_err(|_| {
                de::Error::custom(format!("{t:?} is neither \"origin\" nor a duration such as 30s, 5m, 24h"))
            }),
        }
    }
}

impl Serialize for Ttl {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Ttl::Origin => s.serialize_str("origin"),
            Ttl::Fixed(d) => d.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for TtlTable {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> de::Visitor<'de> for V {
            type Value = TtlTable;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from \"default\" or a quoted status code to \"origin\" or a duration")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<TtlTable, A::Error> {
                let mut table = TtlTable::default();
                let mut default_seen = false;
                while let Some(key) = map.next_key::<String>()? {
                    let ttl = map.next_value::<Ttl>()?;
                    if key == "default" {
                        if std::mem::replace(&mut default_seen, true) {
                            return Err(de::Error::duplicate_field("default"));
                        }
                        table.default = ttl;
                    } else if let Some(status) = status_key(&key) {
                        if table.by_status.insert(status, ttl).is_some() {
                            return Err(de::Error::custom(format!("status {status} stands twice")));
                        }
                    } else {
                        return Err(de::Error::custom(format!(
                            "unknown key {key:?}: expected \"default\" or a status code from 200 to 599 such as \"404\""
                        )));
                    }
                }
                Ok(table)
            }
        }
        d.deserialize_map(V)
    }
}

/// A final status code written with three digits. 206 and 304 can never be stored by themselves (RFC 9111 §3.3, §4.3.4).
fn status_key(key: &str) -> Option<u16> {
    let status: u16 = key.parse().ok().filter(|_| key.len() == 3)?;
    ((200..600).contains(&status) && status != 206 && status != 304).then_some(status)
}

impl Serialize for TtlTable {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = s.serialize_map(Some(self.by_status.len() + 1))?;
        map.serialize_entry("default", &self.default)?;
        for (status, ttl) in &self.by_status {
            map.serialize_entry(&status.to_string(), ttl)?;
        }
        map.end()
    }
}

impl JsonSchema for TtlTable {
    fn schema_name() -> Cow<'static, str> {
        "TtlTable".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let ttl = json_schema!({ "type": "string", "pattern": r"^(origin|[0-9.]+\s*(us|ms|s|m|min|h|d))$" });
        json_schema!({
            "type": "object",
            "description": "Freshness lifetimes by status: default, or a quoted status code, to \"origin\" or a duration",
            "properties": { "default": ttl },
            "patternProperties": { "^[2-5][0-9][0-9]$": ttl },
            "additionalProperties": false
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(yaml: &str) -> Result<RouteCache, String> {
        serde_yaml::from_str(yaml).map_err(|e: serde_yaml::Error| e.to_string())
    }

    #[test]
    fn a_route_takes_true_or_rules() {
        assert!(matches!(route("true"), Ok(RouteCache::Switch(true))));
        let yaml = r#"{ store: main, key: { query: { exclude: [utm_*, gclid], sort: true }, cookies: [lang] },
            ttl: { default: origin, "301": 1h, "404": 30s }, stale_while_revalidate: 60s, stale_if_error: 24h,
            stale_if_unreachable: 5m }"#;
        let Ok(RouteCache::Rules(r)) = route(yaml) else { panic!("rules expected") };
        assert_eq!(r.store.as_deref(), Some("main"));
        assert!(r.key.query.sort);
        assert_eq!(r.ttl.by_status.get(&404), Some(&Ttl::Fixed(Dur::secs(30))));
        assert_eq!(r.stale_if_error, Some(Dur::secs(86_400)));
        assert_eq!(r.stale_if_unreachable, Some(Dur::secs(300)));
        let again = serde_yaml::to_string(&RouteCache::Rules(r)).unwrap();
        assert!(matches!(route(&again), Ok(RouteCache::Rules(_))), "{again}");
    }

    #[test]
    fn faults_name_what_is_wrong() {
        for (yaml, said) in [
            ("yes please", "true, false or a map"),
            ("{ stor: main }", "unknown field `stor`"),
            ("{ tag_from: [cache-tag] }", "unknown field `tag_from`"),
            ("{ ttl: { \"404\": soon } }", "neither \"origin\" nor a duration"),
            ("{ ttl: { \"404 \": 3s } }", "expected \"default\" or a status code"),
            ("{ ttl: { \"304\": 3s } }", "expected \"default\" or a status code"),
            ("{ key: { query: { drop: [a] } } }", "unknown field `drop`"),
        ] {
            let e = route(yaml).unwrap_err();
            assert!(e.contains(said), "{yaml}: {e}");
        }
    }

    #[test]
    fn a_store_needs_a_size_and_may_have_a_disk() {
        let c: Cache = serde_yaml::from_str("{ memory: { size: 512MiB } }").unwrap();
        assert_eq!(c.max_object_size, Size::mib(64));
        assert!(c.disk.is_none());
        let c: Cache = serde_yaml::from_str("{ memory: { size: 1MiB }, disk: { path: /x, size: 20GiB } }").unwrap();
        assert_eq!(c.disk.map(|d| (d.size, d.admission)), Some((Size::mib(20 << 10), Admission::SecondRequest)));
        assert!(serde_yaml::from_str::<Cache>("{ memory: { size: 1MiB }, disk: { path: /x } }").is_err());
        let e =
            serde_yaml::from_str::<Cache>("{ memory: { size: 1MiB }, disk: { path: /x, size: 1GiB, admission: all } }");
        assert!(e.unwrap_err().to_string().contains("second_request"));
        assert!(serde_yaml::from_str::<Cache>("{ max_object_size: 1MiB }").is_err());
    }

    #[test]
    fn the_schema_can_be_written() {
        let s = serde_json::to_string(&schemars::schema_for!(RouteCache)).unwrap();
        assert!(s.contains("stale_while_revalidate") && s.contains("patternProperties"), "{s}");
    }
}
