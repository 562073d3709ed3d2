//! Header and times of a stored object, read once when it is stored so that a hit parses nothing.

use super::super::conditional::Validators;
use super::super::fresh::OnFailure;
use super::super::purge::Filed;
use super::super::{rules, vary};
use http::{HeaderName, HeaderValue, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora_cache::CacheMeta;
use pingora_cache::key::HashBinary;
use std::time::{Duration, SystemTime};

/// All of an object but its body.
#[derive(Clone, Debug)]
pub struct Head {
    /// The header a hit sends, but for `Age`.
    pub header: ResponseHeader,
    /// Fresh until then.
    pub fresh_until: SystemTime,
    /// When it was stored.
    pub created: SystemTime,
    /// Since when its line of refreshes goes on (Pingora: variants made before that are void).
    pub provenance: SystemTime,
    /// Where its age counts from.
    pub epoch: SystemTime,
    /// Stale-while-revalidate in seconds.
    pub swr_secs: u32,
    /// Stale-if-error in seconds.
    pub sie_secs: u32,
    /// How long it may be served stale while the origin cannot be reached, in seconds.
    pub unreachable_secs: u32,
    /// Which variant it is.
    pub variance: Option<HashBinary>,
    /// The request fields it varies on, sorted.
    pub vary: Vec<HeaderName>,
    /// `ETag` and `Last-Modified`.
    pub validators: Validators,
    /// The body's length as the header states it.
    pub length: Option<u64>,
    /// What purges find it by.
    pub filed: Filed,
}

impl Head {
    /// From Pingora's metadata.
    pub fn from_meta(meta: &CacheMeta) -> Self {
        let mut header = meta.response_header_copy();
        let on_failure = OnFailure::of(meta);
        // Each hit states its own age.
        header.remove_header(&header::AGE);
        Head {
            fresh_until: meta.fresh_until(),
            created: meta.created(),
            provenance: meta.provenance(),
            epoch: meta.epoch(),
            swr_secs: meta.stale_while_revalidate_sec(),
            sie_secs: on_failure.error_secs,
            unreachable_secs: on_failure.unreachable_secs,
            variance: meta.variance(),
            vary: vary::names(&header.headers),
            validators: Validators::of(&header.headers),
            length: rules::content_length(&header.headers).unwrap_or(None),
            filed: meta.extensions().get::<Filed>().cloned().unwrap_or_default(),
            header,
        }
    }

    /// Back to Pingora's form, without the serialised detour that Pingora's own store takes.
    ///
    /// Pingora reads `provenance` of the object in the primary slot only, and `created` of those in variant slots only,
    /// and offers no way to set both: so one field carries whichever the slot needs.
    pub fn to_meta(&self, primary: bool) -> CacheMeta {
        let created = if primary { self.provenance } else { self.created };
        let header = self.header.clone();
        let on_failure = OnFailure { error_secs: self.sie_secs, unreachable_secs: self.unreachable_secs };
        let mut meta = CacheMeta::new(self.fresh_until, created, self.swr_secs, on_failure.longest_secs(), header);
        meta.extensions_mut().insert(on_failure);
        meta.set_epoch_override(self.epoch);
        meta.extensions_mut().insert(self.filed.clone());
        if let Some(variance) = self.variance {
            meta.set_variance(variance);
        }
        meta
    }

    /// The same, stale from `at` on.
    pub fn expired(&self, at: SystemTime) -> Self {
        let just_before = at.checked_sub(Duration::from_nanos(1)).unwrap_or(at);
        Head { fresh_until: self.fresh_until.min(just_before), ..self.clone() }
    }

    /// States the body's length once it is known, and that later hits can answer ranges of it.
    pub(super) fn state_length(&mut self, bytes: u64) {
        let bodiless = matches!(self.header.status.as_u16(), 204 | 304);
        if self.length.is_none() && !bodiless {
            // A number is always a valid field value.
            let _ = self.header.insert_header(header::CONTENT_LENGTH, HeaderValue::from(bytes));
        }
        if self.header.status == StatusCode::OK && !self.header.headers.contains_key(header::ACCEPT_RANGES) {
            let _ = self.header.insert_header(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        self.length = Some(bytes);
    }

    /// Bytes of memory this takes, estimated: the header map's own bookkeeping is larger than most values.
    pub(super) fn cost(&self) -> u64 {
        let fields = self.header.headers.iter();
        // Twice the text: once parsed, once in the block that hits send.
        let fields: usize = fields.map(|(n, v)| 2 * (n.as_str().len() + v.len()) + FIELD_OVERHEAD_BYTES).sum();
        let vary: usize = self.vary.iter().map(|n| n.as_str().len() + FIELD_OVERHEAD_BYTES / 4).sum();
        let tags: usize = self.filed.tags.iter().map(|t| t.len() + TAG_OVERHEAD_BYTES).sum();
        u64::try_from(fields + vary + tags).unwrap_or(u64::MAX)
    }
}

/// A tag's pointer and allocation.
const TAG_OVERHEAD_BYTES: usize = 32;

/// A header map's bucket, index and shared buffer for one field.
const FIELD_OVERHEAD_BYTES: usize = 160;
