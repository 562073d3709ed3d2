//! Identifiers: request ids (sortable by time) and short hex digests.

use sha2::{Digest, Sha256};
use std::fmt::Write;

/// A new request id: UUIDv7 (RFC 9562 §5.7), so that logs sort by it.
pub fn request_id() -> String {
    uuid::Uuid::now_v7().as_simple().to_string()
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
