//! Purging by URL: all that is stored under it, variants, policy arms and all.

use super::key::{Key, KeyRules, Place};
use super::store::{Purge, Store, StoreError, Target};
use http::Uri;
use std::sync::Arc;

/// What a stored object is filed under for purges. It travels with Pingora's metadata as an extension.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filed {
    /// Its tags, as they were given, compared byte by byte.
    pub tags: Arc<[Box<str>]>,
    /// The purge generation at the time the origin was asked: what was purged later than that is void.
    pub generation: u64,
}

/// Why nothing was purged.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PurgeError {
    /// Not an absolute http or https URL.
    #[error("{0:?} is not a URL to purge (http://host/path or https://host/path)")]
    Url(String),
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
}

/// The key all objects of a URL share. `rules` are those of the route that serves it: they say which query parameters
/// count. A fragment is refused, for it never reaches a server.
pub fn key_of(url: &str, rules: &KeyRules) -> Result<Key, PurgeError> {
    let bad = || PurgeError::Url(url.to_owned());
    if url.contains('#') {
        return Err(bad());
    }
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(bad()),
    };
    let authority = uri.authority().filter(|a| !a.as_str().contains('@') && !a.host().is_empty()).ok_or_else(bad)?;
    // The spelling under which requests are filed.
    let path = crate::base::path::normalise(uri.path()).map_err(|_| bad())?;
    let target = uri.query().map_or_else(|| path.to_string(), |q| format!("{path}?{q}"));
    Ok(Key::of_url(&Place::of(tls, authority.as_str(), target.as_bytes()), rules))
}

/// Purges a URL; says how many objects were concerned.
pub async fn url<S: Store>(store: &S, url: &str, rules: &KeyRules, how: Purge) -> Result<u64, PurgeError> {
    let key = key_of(url, rules)?;
    Ok(store.purge(&Target::Url(*key.hash(), key.url_bytes()), how).await?)
}
