//! The tags of an answer, from the header fields that the route names.

use super::rule::TAG_BYTES_MAX;
use http::{HeaderMap, HeaderName};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most tags of one object. Each costs a look-up whenever the object is checked after a purge.
pub const TAGS_MAX: usize = 512;

/// All tags of one object together, in bytes.
pub const TAGS_BYTES_MAX: usize = 16 << 10;

/// More tags than are kept, a longer one, or one that is no text: an object that could not be purged by all of its tags
/// must not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// Tags of one answer, without doubles.
#[derive(Clone, Debug, Default)]
pub struct Tags {
    found: BTreeSet<Box<str>>,
    bytes: usize,
}

impl Tags {
    /// Those in the fields `names`: `Cache-Tag` separates by commas, every other field by white space as `Surrogate-Key`
    /// does.
    pub fn read(headers: &HeaderMap, names: &[HeaderName]) -> Result<Self, TooMany> {
        let mut tags = Tags::default();
        for name in names {
            let commas = name == CACHE_TAG;
            for value in headers.get_all(name) {
                let text = std::str::from_utf8(value.as_bytes()).map_err(|_| TooMany)?;
                // A tag itself holds neither, so that one spelling purges it whichever field brought it.
                for tag in text.split(|c: char| c.is_ascii_whitespace() || (commas && c == ',')) {
                    tags.add(tag)?;
                }
            }
        }
        Ok(tags)
    }

    /// Adds one; an empty one is none.
    pub fn add(&mut self, tag: &str) -> Result<(), TooMany> {
        if tag.is_empty() || self.found.contains(tag) {
            return Ok(());
        }
        self.bytes += tag.len();
        if tag.len() > TAG_BYTES_MAX || self.bytes > TAGS_BYTES_MAX || self.found.len() >= TAGS_MAX {
            return Err(TooMany);
        }
        self.found.insert(tag.into());
        Ok(())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// As they are filed.
    pub fn filed(self) -> Arc<[Box<str>]> {
        self.found.into_iter().collect()
    }
}

/// The field whose tags are separated by commas.
pub const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

/// The field whose tags are separated by spaces.
pub const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
