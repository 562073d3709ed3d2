//! Reading one record: everything is checked before anything of it is believed.

use super::super::{CHUNK_BYTES, Head};
use super::format::{self, BLOCK, BLOCK_BYTES, DEAD, RECORD_HEADER_BYTES, RecordHeader};
use super::index::Entry;
use super::meta;
use super::segment::{Io, Segment, Segments};
use bytes::{Bytes, BytesMut};
use std::io;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Bodies up to this length are read and verified whole before any of it is sent, in bytes.
pub const WHOLE_BYTES_MAX: u64 = 1 << 20;

/// How much is read at first of a record that is longer, in bytes.
const FIRST_BYTES: u32 = 64 << 10;

/// Why a record gives nothing.
#[derive(Debug)]
pub enum Bad {
    /// It must be read by a thread that may wait.
    WouldBlock,
    /// It was removed, or its segment is gone.
    Gone,
    /// Its bytes are not what was written.
    Corrupt(&'static str),
    /// The disk failed.
    Io(io::Error),
}

impl From<io::Error> for Bad {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::WouldBlock => Bad::WouldBlock,
            io::ErrorKind::UnexpectedEof => Bad::Corrupt("truncated"),
            _ => Bad::Io(e),
        }
    }
}

/// A body in a file.
#[derive(Clone, Debug)]
pub struct FileBody {
    /// The file.
    pub segment: Arc<Segment>,
    /// Where it begins.
    pub at: u64,
    /// Its length.
    pub bytes: u64,
    /// The checksum of each block from `first_block` on.
    pub sums: Arc<[u64]>,
    /// Which block the first of them is of; 0 but for a part of a body that is still growing.
    pub first_block: u64,
}

/// A record, its head verified.
#[derive(Debug)]
pub struct Record {
    /// Its header.
    pub header: RecordHeader,
    /// Key and head as they stand on disk.
    pub meta: Bytes,
    /// The full key.
    pub key: Bytes,
    /// Header and times.
    pub head: Head,
    /// Where the body is.
    pub body: FileBody,
    /// The body, where it was read with the head; not verified yet.
    inline: Option<Bytes>,
}

/// Blocks of a body of this length.
pub fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK)
}

/// Reads the record of an entry, a short body with it.
pub fn read(segments: &Segments, entry: &Entry, io: Io) -> Result<Record, Bad> {
    let whole = u64::from(entry.bytes) <= WHOLE_BYTES_MAX + u64::from(FIRST_BYTES);
    let first = if whole { entry.bytes } else { FIRST_BYTES.min(entry.bytes) };
    read_first(segments, entry, first, io)
}

/// Reads the record of an entry without its body.
pub fn read_head(segments: &Segments, entry: &Entry, io: Io) -> Result<Record, Bad> {
    // Most heads are shorter; a longer one is read in a second go.
    read_first(segments, entry, HEAD_BYTES.min(entry.bytes), io)
}

/// What is read of a record when only its head is wanted.
const HEAD_BYTES: u32 = 4 << 10;

fn read_first(segments: &Segments, entry: &Entry, first: u32, io: Io) -> Result<Record, Bad> {
    let segment = segments.get(entry.segment).ok_or(Bad::Gone)?;
    let first = usize::try_from(first).unwrap_or(0).max(RECORD_HEADER_BYTES);
    let mut bytes = segment.read(entry.at(), first, io)?;
    let header = RecordHeader::decode(&bytes, segment.nonce, entry.at()).ok_or(Bad::Corrupt("record header"))?;
    if header.state == DEAD || header.seq != entry.seq {
        return Err(Bad::Gone);
    }
    let head_bytes = usize::try_from(header.head_bytes).unwrap_or(usize::MAX);
    if bytes.len() < head_bytes {
        bytes = segment.read(entry.at(), head_bytes, io)?;
    }
    let all = bytes.get(RECORD_HEADER_BYTES..head_bytes).ok_or(Bad::Corrupt("record length"))?;
    if xxh3_64(all) != header.meta_sum {
        return Err(Bad::Corrupt("meta"));
    }
    let (key, head, sums) = meta::decode(all).ok_or(Bad::Corrupt("meta"))?;
    let sums: Arc<[u64]> = sums.chunks_exact(8).filter_map(|s| format::Take(s).u64()).collect();
    if sums.len() as u64 != blocks(header.body_bytes) {
        return Err(Bad::Corrupt("block sums"));
    }
    let body_segment = segments.get(header.body_segment).ok_or(Bad::Gone)?;
    if body_segment.nonce != header.body_nonce {
        return Err(Bad::Corrupt("body segment"));
    }
    let key = bytes.slice_ref(key);
    let meta = bytes.slice(RECORD_HEADER_BYTES..head_bytes - sums.len() * 8);
    let body_end = head_bytes.saturating_add(usize::try_from(header.body_bytes).unwrap_or(usize::MAX));
    let inline = (header.inline && bytes.len() >= body_end).then(|| bytes.slice(head_bytes..body_end));
    let body = FileBody { segment: body_segment, at: header.body_at, bytes: header.body_bytes, sums, first_block: 0 };
    Ok(Record { header, meta, key, head, body, inline })
}

impl Record {
    /// The whole body, verified.
    pub fn whole(&self, io: Io) -> Result<Bytes, Bad> {
        match &self.inline {
            Some(bytes) => {
                self.body.verify(0, bytes)?;
                Ok(bytes.clone())
            }
            None => self.body.read(0, usize::try_from(self.body.bytes).unwrap_or(usize::MAX), io),
        }
    }
}

impl FileBody {
    fn verify(&self, first_block: u64, bytes: &[u8]) -> Result<(), Bad> {
        for (block, piece) in (first_block..).zip(bytes.chunks(BLOCK_BYTES)) {
            let sum = format::block_sum(self.segment.nonce, self.at, block, piece);
            let index = block.checked_sub(self.first_block).and_then(|b| usize::try_from(b).ok());
            let wanted = index.and_then(|b| self.sums.get(b));
            if wanted != Some(&sum) {
                return Err(Bad::Corrupt("body"));
            }
        }
        Ok(())
    }

    /// Whole blocks from `first_block` on, verified.
    fn read(&self, first_block: u64, bytes: usize, io: Io) -> Result<Bytes, Bad> {
        let read = self.segment.read(self.at + first_block * BLOCK, bytes, io)?;
        self.verify(first_block, &read)?;
        Ok(read)
    }

    /// The piece that begins at `at`: up to the end of its chunk or to `end`, cut out of verified blocks. `room` is memory
    /// to use again once the pieces made of it before are gone: it is still in the processor's cache then.
    pub fn piece(&self, at: u64, end: u64, io: Io, room: &mut BytesMut) -> Result<Bytes, Bad> {
        let chunk = CHUNK_BYTES as u64;
        let stop = end.min(self.bytes).min((at / chunk + 1) * chunk);
        let (first, last) = (at / BLOCK, (stop.div_ceil(BLOCK) * BLOCK).min(self.bytes));
        let length = usize::try_from(last.saturating_sub(first * BLOCK)).unwrap_or(usize::MAX);
        room.clear();
        room.resize(length, 0);
        self.segment.fill(room, self.at + first * BLOCK, io)?;
        self.verify(first, room)?;
        let read = room.split().freeze();
        let from = usize::try_from(at - first * BLOCK).unwrap_or(usize::MAX);
        let to = from.saturating_add(usize::try_from(stop.saturating_sub(at)).unwrap_or(usize::MAX));
        if from < to && to <= read.len() { Ok(read.slice(from..to)) } else { Err(Bad::Corrupt("body length")) }
    }

    /// Reads and verifies everything.
    pub fn check(&self, io: Io) -> Result<(), Bad> {
        let chunk = CHUNK_BYTES as u64;
        let mut room = BytesMut::new();
        for at in (0..self.bytes).step_by(CHUNK_BYTES) {
            self.piece(at, at + chunk, io, &mut room)?;
        }
        Ok(())
    }
}
