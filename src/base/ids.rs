//! Identifiers: request ids (sortable by time) and short hex digests.

use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Makes request ids without asking the kernel for randomness each time: what differs is a count under a secret that is
/// drawn once. They are unique and tell nothing about each other, but they are no secrets to build on.
#[derive(Debug)]
pub struct Ids {
    secret: u64,
    next: AtomicU64,
}

impl Default for Ids {
    fn default() -> Self {
        let (secret, first) = uuid::Uuid::new_v4().as_u64_pair();
        Ids { secret, next: AtomicU64::new(first) }
    }
}

impl Ids {
    /// A new request id: UUIDv7 (RFC 9562 §5.7), so that logs sort by it.
    pub fn request_id(&self, now: SystemTime) -> String {
        let millis = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let mut random = [0; 10];
        random
            .iter_mut()
            .zip(xxh3_128_with_seed(&count.to_le_bytes(), self.secret).to_le_bytes())
            .for_each(|(r, b)| *r = b);
        let id =
            uuid::Builder::from_unix_timestamp_millis(u64::try_from(millis).unwrap_or(u64::MAX), &random).into_uuid();
        id.as_simple().encode_lower(&mut uuid::Uuid::encode_buffer()).to_owned()
    }
}

/// Lower-case hex of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{b:02x}");
        out
    })
}

/// SHA-256 over length-framed parts, so that `["ab","c"]` and `["a","bc"]` differ.
pub fn sha256_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut h = Sha256::new();
    for p in parts {
        h.update((p.len() as u64).to_le_bytes());
        h.update(p);
    }
    h.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn rfc9562_5_7_request_ids_are_v7_unique_and_sort_by_time() {
        let (ids, others) = (Ids::default(), Ids::default());
        let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
        let mut all = vec![];
        for ms in [1_700_000_000_000, 1_700_000_000_001, 1_800_000_000_000] {
            all.extend((0..1000).map(|_| (ms, ids.request_id(at(ms)))));
            all.push((ms, others.request_id(at(ms))));
        }
        for (ms, id) in &all {
            let parsed = uuid::Uuid::parse_str(id).unwrap();
            assert_eq!((id.len(), parsed.get_version_num(), parsed.get_variant()), (32, 7, uuid::Variant::RFC4122));
            assert_eq!(parsed.as_u128() >> 80, u128::from(*ms));
        }
        assert!(all.windows(2).all(|w| w[0].0 == w[1].0 || w[0].1 < w[1].1));
        let distinct: std::collections::HashSet<_> = all.iter().map(|(_, id)| id).collect();
        assert_eq!(distinct.len(), all.len());
    }
}
