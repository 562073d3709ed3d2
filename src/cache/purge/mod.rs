//! Purges as rules that look-ups check: setting one takes the same time whether it concerns one object or a million, and
//! no object stored before a purge is served after the purge has returned.
//!
//! Every purge gets a number, the *generation*, one higher than the last. An object carries the generation at which its
//! origin was asked ([`Filed`]); it is void when a rule that concerns it has a higher one. [`book`] holds rules and
//! counter, [`rules`] finds those that concern an object, [`log`] keeps them over a restart, [`sweep`] reclaims in the
//! background what is void and lets go of rules that nothing can need any more, [`tags`] reads an answer's tags.

pub mod book;
pub mod log;
pub mod rule;
pub mod rules;
pub mod sweep;
pub mod tags;
#[cfg(test)]
mod tests;

pub use book::{Book, Checked};
pub use rule::{Kind, Rule, key_of};

use std::sync::Arc;
use std::time::SystemTime;

/// What a stored object is filed under for purges. It travels with Pingora's metadata as an extension.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filed {
    /// Its tags, as they were given, compared byte by byte.
    pub tags: Arc<[Box<str>]>,
    /// The purge generation at the time the origin was asked: what was purged later than that is void.
    pub generation: u64,
}

/// What purges leave of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may be served as it is.
    Live,
    /// It was purged softly: stale, and not fresh any more since then, so that stale windows count from there.
    Stale {
        /// Since when.
        since: SystemTime,
    },
    /// It must not be served, under no circumstances.
    Void,
}

/// Why nothing was purged.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PurgeError {
    /// Not an absolute http or https URL.
    #[error("{0:?} is not a URL to purge (http://host/path or https://host/path)")]
    Url(String),
    /// Not a prefix.
    #[error("{0:?} is not a prefix to purge (https://host/path/ or host/path/, without query)")]
    Prefix(String),
    /// Not a host.
    #[error("{0:?} is not a host to purge (a name without port)")]
    Host(String),
    /// Not a tag.
    #[error("{0:?} is not a tag to purge (1 to 1024 bytes without white space)")]
    Tag(String),
}
