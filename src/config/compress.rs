//! A route's `compress:`.

use crate::base::units::Size;
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, de};
use std::fmt;

/// A route's `compress:`: `true` for all codings, a list of them in the order of preference, or a map of rules.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Compress {
    /// `true`: zstd, br and gzip; `false`: none.
    Switch(bool),
    /// Codings, most preferred first: of those that a client wants equally, it gets the first.
    Codings(Vec<String>),
    /// Codings with rules of their own.
    Rules(Box<CompressRules>),
}

/// Rules for codings.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompressRules {
    /// Codings, most preferred first: `zstd`, `br`, `gzip`. Default: all three in this order.
    pub codings: Option<Vec<String>>,
    /// Shorter bodies are sent as they are (default 1KiB).
    pub min_size: Option<Size>,
    /// Media types to code instead of the usual ones (text, JSON, XML, JavaScript, SVG, WebAssembly, plain fonts): exact
    /// (`application/json`), families (`text/*`) or suffixes (`*+json`). `text/event-stream` is never coded.
    pub types: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for Compress {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> de::Visitor<'de> for V {
            type Value = Compress;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, a list of codings (zstd, br, gzip) or a map (codings, min_size, types)")
            }
            fn visit_bool<E: de::Error>(self, v: bool) -> Result<Compress, E> {
                Ok(Compress::Switch(v))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Compress, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Compress::Codings)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Compress, A::Error> {
                let rules = CompressRules::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Compress::Rules(Box::new(rules)))
            }
        }
        d.deserialize_any(V)
    }
}
