//! Records in a file that is appended to: each tells its length and how to know that it is whole.
//!
//! Frame: length of the payload (u32), the low half of that field's XXH3 (4 bytes), payload, XXH3 of the payload (u64).
//! All little-endian.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

const HEAD_BYTES: usize = 8;

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad<'a> {
    /// The file ends within it: it was being written when the process ended.
    Torn,
    /// Its length is damaged: where the next one begins is not known.
    Lost,
    /// Its payload is damaged; what follows it may be whole.
    Damaged {
        /// What follows it.
        after: &'a [u8],
    },
}

/// Adds a frame to `out`.
pub fn push(out: &mut Vec<u8>, payload: &[u8]) {
    // Payloads are far shorter than 4 GiB.
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&len);
    out.extend_from_slice(&length_check(len));
    out.extend_from_slice(payload);
    out.extend_from_slice(&xxh3_64(payload).to_le_bytes());
}

/// The payload of the first frame, and what follows it.
pub fn first(bytes: &[u8]) -> Result<(&[u8], &[u8]), Bad<'_>> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(Bad::Torn)?;
    let (len, check) = head.split_first_chunk::<4>().ok_or(Bad::Lost)?;
    if check != length_check(*len) {
        return Err(Bad::Lost);
    }
    let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| Bad::Lost)?;
    let (payload, rest) = rest.split_at_checked(len).ok_or(Bad::Torn)?;
    let (check, after) = rest.split_first_chunk::<8>().ok_or(Bad::Torn)?;
    if u64::from_le_bytes(*check) != xxh3_64(payload) {
        return Err(Bad::Damaged { after });
    }
    Ok((payload, after))
}

/// Apart from the payload's, so that a damaged length is not taken for the end of the file.
fn length_check(len: [u8; 4]) -> [u8; 4] {
    let [a, b, c, d, ..] = xxh3_64(&len).to_le_bytes();
    [a, b, c, d]
}

/// Puts a whole file in the place of another, so that at any moment one of them is there; on the disk when this
/// returns. Gives the file, open for writing at its end, and its length in bytes.
pub fn replace(path: &Path, parts: &[&[u8]]) -> io::Result<(File, u64)> {
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&draft)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok((file, parts.iter().map(|p| p.len() as u64).sum()))
}
