//! URLs that are known not to be storable: their requests neither wait for one another nor look anything up.

use super::rules::NoStore;
use http::StatusCode;
use pingora_cache::predictor::{CacheablePredictor, Predictor};
use pingora_cache::{CacheKey, NoCacheReason};

/// URLs remembered in each of the shards; the longest unconfirmed ones are forgotten first.
const KEYS_PER_SHARD: usize = 1024;

/// The memory of a store. Pingora asks it before each look-up; a request that it sends past the cache takes it back as
/// soon as the answer turns out to be storable after all.
pub struct Known(Predictor<16>);

impl Default for Known {
    fn default() -> Self {
        Known(Predictor::new(KEYS_PER_SHARD, None))
    }
}

impl Known {
    /// Remembers that the answer under this key was not stored, where the next one's will not be either.
    pub fn remember(&self, key: &CacheKey, why: NoStore, status: StatusCode) {
        if lasts(why, status) {
            let _ = self.0.mark_uncacheable(key, NoCacheReason::Custom(why.as_str()));
        }
    }
}

impl CacheablePredictor for Known {
    fn cacheable_prediction(&self, key: &CacheKey) -> bool {
        self.0.cacheable_prediction(key)
    }

    fn predicted_uncacheable_reason(&self, key: &CacheKey) -> Option<NoCacheReason> {
        self.0.predicted_uncacheable_reason(key)
    }

    fn mark_cacheable(&self, key: &CacheKey) -> bool {
        self.0.mark_cacheable(key)
    }

    fn mark_uncacheable(&self, _: &CacheKey, _: NoCacheReason) -> Option<bool> {
        // Pingora knows the reason but not the status: what counts goes through `remember`.
        None
    }
}

/// What belongs to the URL lasts. What one client brought about does not, or it could switch the cache off for all the
/// others; nor does an error, which passes.
fn lasts(why: NoStore, status: StatusCode) -> bool {
    let passes = status.is_server_error() || (status.is_client_error() && !matches!(status.as_u16(), 404 | 410));
    match why {
        NoStore::NoStore
        | NoStore::Private
        | NoStore::SetCookie
        | NoStore::VaryStar
        | NoStore::NoFreshness
        | NoStore::Stale
        | NoStore::TooLarge
        | NoStore::Deception => !passes,
        NoStore::Status
        | NoStore::Authorization
        | NoStore::ContentRange
        | NoStore::ContentLength
        | NoStore::Policy
        | NoStore::VaryChanged
        | NoStore::OversizedRequest
        | NoStore::SessionCookie => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_the_url_is_remembered() {
        for (why, status, lasting) in [
            (NoStore::NoStore, 200, true),
            (NoStore::Private, 404, true),
            (NoStore::NoFreshness, 301, true),
            (NoStore::NoStore, 503, false),
            (NoStore::NoStore, 403, false),
            (NoStore::Authorization, 200, false),
            (NoStore::OversizedRequest, 404, false),
            (NoStore::SessionCookie, 200, false),
            (NoStore::Status, 206, false),
        ] {
            let (known, key) = (Known::default(), CacheKey::new("a", ""));
            known.remember(&key, why, StatusCode::from_u16(status).unwrap());
            assert_eq!(!known.cacheable_prediction(&key), lasting, "{why:?} {status}");
            known.mark_cacheable(&key);
            assert!(known.cacheable_prediction(&key));
        }
    }
}
