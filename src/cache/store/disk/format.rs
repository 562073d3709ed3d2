//! The bytes on disk: segment header, record header, footer, checksums. Nothing read back is trusted: every length is
//! bounded and every part is checksummed, with a seed that names its place, so that bytes that belong elsewhere, or to
//! an older life of a file, are not taken.
//!
//! ```text
//! segment = header (64 B) · records, each 8-aligned · footer, once sealed
//! record  = header (128 B) · meta (key, head, block sums) · body, unless that stands elsewhere
//! own segment of a large body = header · body from byte 4096 · one record without body · footer
//! footer  = one entry (56 B) for each record · trailer (48 B)
//! ```

use pingora_cache::key::HashBinary;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The format's version; files of another are removed.
pub const VERSION: u32 = 1;
/// A segment's header, in bytes.
pub const SEGMENT_HEADER_LEN: usize = 64;
/// The same, as a file offset.
pub const SEGMENT_HEADER_BYTES: u64 = SEGMENT_HEADER_LEN as u64;
/// A record's header, in bytes.
pub const RECORD_HEADER_BYTES: usize = 128;
/// Where the body begins in a segment of its own.
pub const OWN_BODY_AT: u64 = 4096;
/// Bodies are checksummed in blocks of this size.
pub const BLOCK_BYTES: usize = 64 << 10;
/// The same, as a file offset.
pub const BLOCK: u64 = BLOCK_BYTES as u64;
/// Longest header and meta of a record together: a large body's sums take most of it.
pub const HEAD_BYTES_MAX: usize = 4 << 20;
/// Longest body: its sums must fit into the meta.
pub const BODY_BYTES_MAX: u64 = 16 << 30;
/// Bytes of a footer's entry.
pub const ENTRY_BYTES: usize = 56;
/// Bytes of a footer's end.
pub const TRAILER_BYTES: usize = 48;

const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"SLUICSEG");
const TRAILER_MAGIC: u64 = u64::from_le_bytes(*b"SLUICEND");
/// A record that counts.
pub const LIVE: u32 = u32::from_le_bytes(*b"LIVE");
/// A record that was replaced or removed: written over [`LIVE`] in place, which needs no room on a full disk.
pub const DEAD: u32 = u32::from_le_bytes(*b"DEAD");

const HAS_VARIANCE: u32 = 1;
const PRIMARY: u32 = 2;
const INLINE: u32 = 4;

/// A multiplier that spreads neighbouring offsets over all bits of a seed.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The seed of what stands at `at` in the segment of this nonce.
pub fn seed(nonce: u64, at: u64) -> u64 {
    nonce ^ at.wrapping_mul(SPREAD)
}

/// The checksum of one block of a body that begins at `body_at`; `block` counts from 0.
pub fn block_sum(nonce: u64, body_at: u64, block: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, seed(nonce, body_at + block * BLOCK))
}

/// Rounds up to where the next record may begin.
pub const fn align(n: u64) -> u64 {
    n.next_multiple_of(8)
}

/// Writes little-endian fields one after the other.
#[derive(Default)]
pub struct Put(pub Vec<u8>);

impl Put {
    /// One byte.
    pub fn u8(&mut self, v: u8) -> &mut Self {
        self.0.push(v);
        self
    }
    /// Two bytes.
    pub fn u16(&mut self, v: u16) -> &mut Self {
        self.bytes(&v.to_le_bytes())
    }
    /// Four bytes.
    pub fn u32(&mut self, v: u32) -> &mut Self {
        self.bytes(&v.to_le_bytes())
    }
    /// Eight bytes.
    pub fn u64(&mut self, v: u64) -> &mut Self {
        self.bytes(&v.to_le_bytes())
    }
    /// As they are.
    pub fn bytes(&mut self, v: &[u8]) -> &mut Self {
        self.0.extend_from_slice(v);
        self
    }
    /// Length and bytes.
    pub fn framed(&mut self, v: &[u8]) -> &mut Self {
        // Nothing that is framed comes near 4 GiB: header limits and the store's own see to it.
        self.u32(u32::try_from(v.len()).unwrap_or(u32::MAX)).bytes(v)
    }
    /// Zeros up to this length in all.
    pub fn pad(&mut self, to: usize) -> &mut Self {
        self.0.resize(to, 0);
        self
    }
}

/// Reads what [`Put`] wrote; `None` as soon as something is missing.
pub struct Take<'a>(pub &'a [u8]);

impl<'a> Take<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (now, later) = self.0.split_first_chunk::<N>()?;
        self.0 = later;
        Some(*now)
    }
    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }
    /// Two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }
    /// Four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    /// Eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    /// Sixteen bytes.
    pub fn hash(&mut self) -> Option<HashBinary> {
        self.array()
    }
    /// That many.
    pub fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (now, later) = self.0.split_at_checked(n)?;
        self.0 = later;
        Some(now)
    }
    /// Length and bytes.
    pub fn framed(&mut self) -> Option<&'a [u8]> {
        let n = self.u32()?;
        self.bytes(usize::try_from(n).ok()?)
    }
}

/// A segment's header.
pub fn segment_header(id: u32, nonce: u64) -> Vec<u8> {
    let mut p = Put::default();
    p.u64(SEGMENT_MAGIC).u32(VERSION).u32(id).u64(nonce).pad(56);
    let sum = xxh3_64(&p.0);
    p.u64(sum);
    p.0
}

/// Id and nonce of a segment.
pub fn read_segment_header(bytes: &[u8]) -> Option<(u32, u64)> {
    let (head, sum) = bytes.split_at_checked(56)?;
    if Take(sum).u64()? != xxh3_64(head) {
        return None;
    }
    let mut t = Take(head);
    let known = t.u64()? == SEGMENT_MAGIC && t.u32()? == VERSION;
    known.then_some((t.u32()?, t.u64()?))
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// [`LIVE`] or [`DEAD`].
    pub state: u32,
    /// Header and meta, in bytes.
    pub head_bytes: u32,
    /// Order of writing: of two records for one slot the higher one counts.
    pub seq: u64,
    /// The slot.
    pub hash: HashBinary,
    /// The variant.
    pub variance: Option<HashBinary>,
    /// The slot is the primary one.
    pub primary: bool,
    /// The body follows the meta.
    pub inline: bool,
    /// The segment that has the body.
    pub body_segment: u32,
    /// Where the body begins in it.
    pub body_at: u64,
    /// The body's length.
    pub body_bytes: u64,
    /// The nonce of that segment.
    pub body_nonce: u64,
    /// Checksum of the meta.
    pub meta_sum: u64,
}

impl RecordHeader {
    /// The bytes at `at` in the segment of this nonce.
    pub fn encode(&self, nonce: u64, at: u64) -> Vec<u8> {
        let mut p = Put::default();
        let flags = if self.variance.is_some() { HAS_VARIANCE } else { 0 }
            | if self.primary { PRIMARY } else { 0 }
            | if self.inline { INLINE } else { 0 };
        p.u32(self.state).u32(self.head_bytes).u64(self.seq);
        p.bytes(&self.hash).bytes(&self.variance.unwrap_or_default()).u32(flags);
        p.u32(self.body_segment).u64(self.body_at).u64(self.body_bytes).u64(self.body_nonce).u64(self.meta_sum);
        p.pad(RECORD_HEADER_BYTES - 8);
        let sum = xxh3_64_with_seed(p.0.get(4..).unwrap_or_default(), seed(nonce, at));
        p.u64(sum);
        p.0
    }

    /// Reads one back; `None` when it is torn, foreign or of impossible lengths.
    pub fn decode(bytes: &[u8], nonce: u64, at: u64) -> Option<Self> {
        let bytes = bytes.get(..RECORD_HEADER_BYTES)?;
        let (head, sum) = bytes.split_at_checked(RECORD_HEADER_BYTES - 8)?;
        if Take(sum).u64()? != xxh3_64_with_seed(head.get(4..)?, seed(nonce, at)) {
            return None;
        }
        let mut t = Take(head);
        let (state, head_bytes, seq) = (t.u32()?, t.u32()?, t.u64()?);
        let (hash, variance, flags) = (t.hash()?, t.hash()?, t.u32()?);
        let record = RecordHeader {
            state,
            head_bytes,
            seq,
            hash,
            variance: (flags & HAS_VARIANCE > 0).then_some(variance),
            primary: flags & PRIMARY > 0,
            inline: flags & INLINE > 0,
            body_segment: t.u32()?,
            body_at: t.u64()?,
            body_bytes: t.u64()?,
            body_nonce: t.u64()?,
            meta_sum: t.u64()?,
        };
        record.possible().then_some(record)
    }

    fn possible(&self) -> bool {
        let head = usize::try_from(self.head_bytes).unwrap_or(usize::MAX);
        (RECORD_HEADER_BYTES..=HEAD_BYTES_MAX).contains(&head)
            && self.body_bytes <= BODY_BYTES_MAX
            && [LIVE, DEAD].contains(&self.state)
    }

    /// How much of the segment the record takes.
    pub fn span(&self) -> u64 {
        align(u64::from(self.head_bytes) + if self.inline { self.body_bytes } else { 0 })
    }
}

/// One record in a footer: what the index needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// First half of the slot's hash.
    pub group: u64,
    /// Second half.
    pub rest: u64,
    /// The variant, folded; 0 is none.
    pub variant: u32,
    /// The slot is the primary one.
    pub primary: bool,
    /// Where the record begins.
    pub at: u64,
    /// What to read at once: the whole record where the body follows the meta, else header and meta.
    pub bytes: u32,
    /// Order of writing.
    pub seq: u64,
    /// The segment that has the body.
    pub body_segment: u32,
}

/// The footer of a segment whose records end at `end`.
pub fn footer(id: u32, nonce: u64, end: u64, list: &[Listed]) -> Vec<u8> {
    let mut p = Put(Vec::with_capacity(list.len() * ENTRY_BYTES + TRAILER_BYTES));
    for l in list {
        p.u64(l.group).u64(l.rest).u64(l.seq).u64(l.at).u32(l.variant).u32(l.bytes);
        p.u32(l.body_segment).u32(u32::from(l.primary)).u64(0);
    }
    let entries_sum = xxh3_64_with_seed(&p.0, seed(nonce, end));
    let from = p.0.len();
    p.u64(TRAILER_MAGIC).u32(VERSION).u32(id).u64(end).u64(list.len() as u64).u64(entries_sum);
    let sum = xxh3_64_with_seed(p.0.get(from..).unwrap_or_default(), nonce);
    p.u64(sum);
    p.0
}

/// Bytes of a footer of so many records.
pub fn footer_bytes(records: u64) -> u64 {
    records * ENTRY_BYTES as u64 + TRAILER_BYTES as u64
}

/// What a trailer says: where the records end and how many there are, and the checksum of the list.
pub fn read_trailer(bytes: &[u8], id: u32, nonce: u64) -> Option<(u64, u64, u64)> {
    let (head, sum) = bytes.split_at_checked(TRAILER_BYTES - 8)?;
    if Take(sum).u64()? != xxh3_64_with_seed(head, nonce) {
        return None;
    }
    let mut t = Take(head);
    let known = t.u64()? == TRAILER_MAGIC && t.u32()? == VERSION && t.u32()? == id;
    known.then_some((t.u64()?, t.u64()?, t.u64()?))
}

/// The list before a trailer.
pub fn read_list(bytes: &[u8], nonce: u64, end: u64, sum: u64) -> Option<Vec<Listed>> {
    if xxh3_64_with_seed(bytes, seed(nonce, end)) != sum {
        return None;
    }
    bytes.chunks_exact(ENTRY_BYTES).map(listed).collect()
}

fn listed(bytes: &[u8]) -> Option<Listed> {
    let mut t = Take(bytes);
    let (group, rest, seq, at) = (t.u64()?, t.u64()?, t.u64()?, t.u64()?);
    let (variant, bytes, body_segment, primary) = (t.u32()?, t.u32()?, t.u32()?, t.u32()? > 0);
    Some(Listed { group, rest, variant, primary, at, bytes, seq, body_segment })
}
