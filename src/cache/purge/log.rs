//! Rules on disk: a header that promises generations, then one record for each purge, appended. It is written anew when
//! it has grown. What cannot be read makes everything void rather than anything live.
//!
//! Header: `SLGPURG1`, the generation reserved (u64), XXH3 of both (u64). Record: a frame of [`frames`]. Payload: kind,
//! number of soft marks, generation of the hard one (u64), generation and nanoseconds of each soft one (u64 each), name.
//! All little-endian.

use super::rule::Kind;
use super::rules::Marks;
use crate::kv::frames;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 8] = *b"SLGPURG1";
const HEADER_BYTES: usize = 24;

/// A longer file is not ours.
const LOG_BYTES_MAX: u64 = 1 << 30;

/// A log that is no more than this longer than it need be is left alone, in bytes.
const SLACK_BYTES: u64 = 1 << 20;

/// Generations reserved at a time; the header is written anew long before they are used up.
pub const RESERVED_AHEAD: u64 = 1 << 32;

/// One rule as it is written.
pub(super) type Entry = (Kind, Box<[u8]>, Marks);

/// What a log said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// No file was there.
    Nothing,
    /// Every record, but for one at the end that was not written whole.
    Rules { reserved: u64, entries: Vec<Entry> },
    /// It cannot be relied on; the generation promised, where at least that is readable.
    Damaged { reserved: u64 },
}

/// The file, open for appending.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// None where it could not be made.
    file: Option<File>,
    reserved: u64,
    bytes: u64,
    compact_bytes: u64,
    /// The end of the file is unknown after a write that failed: it must be written anew.
    broken: bool,
}

/// Its name in a store's folder.
pub const FILE_NAME: &str = "purges.log";

/// Reads the log of a folder.
pub(super) fn read(folder: &Path) -> io::Result<Said> {
    let path = folder.join(FILE_NAME);
    match std::fs::metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Said::Nothing),
        Err(e) => return Err(e),
        Ok(m) if m.len() > LOG_BYTES_MAX => return Ok(Said::Damaged { reserved: 0 }),
        Ok(_) => {}
    }
    Ok(parse(&std::fs::read(&path)?))
}

fn parse(bytes: &[u8]) -> Said {
    let Some(reserved) = bytes.get(..HEADER_BYTES).and_then(parse_header) else { return Said::Damaged { reserved: 0 } };
    let mut rest = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let mut entries = Vec::new();
    while !rest.is_empty() {
        match record(rest) {
            Ok((entry, after)) => {
                entries.push(entry);
                rest = after;
            }
            Err(Bad::Torn) => break,
            Err(Bad::Damaged) => return Said::Damaged { reserved },
        }
    }
    Said::Rules { reserved, entries }
}

fn header(reserved: u64) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    let body = [MAGIC, reserved.to_le_bytes()].concat();
    let parts = body.iter().copied().chain(xxh3_64(&body).to_le_bytes());
    out.iter_mut().zip(parts).for_each(|(o, b)| *o = b);
    out
}

fn parse_header(bytes: &[u8]) -> Option<u64> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (reserved, _) = rest.split_first_chunk::<8>()?;
    let reserved = u64::from_le_bytes(*reserved);
    (*magic == MAGIC && bytes == header(reserved)).then_some(reserved)
}

enum Bad {
    /// The file ends within it. A purge that was reported as done is never such a one.
    Torn,
    Damaged,
}

fn record(bytes: &[u8]) -> Result<(Entry, &[u8]), Bad> {
    match frames::first(bytes) {
        Ok((payload, rest)) => Ok((entry(payload).ok_or(Bad::Damaged)?, rest)),
        Err(frames::Bad::Torn) => Err(Bad::Torn),
        Err(frames::Bad::Lost | frames::Bad::Damaged { .. }) => Err(Bad::Damaged),
    }
}

fn entry(payload: &[u8]) -> Option<Entry> {
    let (code, rest) = payload.split_first()?;
    let (softs, rest) = rest.split_first()?;
    let number = |bytes: &[u8]| Some(u64::from_le_bytes(*bytes.first_chunk::<8>()?));
    let (hard, mut rest) = rest.split_at_checked(8)?;
    let mut marks = Marks { hard: number(hard)?, soft: Vec::new() };
    for _ in 0..*softs {
        let (generation, after) = rest.split_at_checked(8)?;
        let (since, after) = after.split_at_checked(8)?;
        marks.soft.push((number(generation)?, number(since)?));
        rest = after;
    }
    Some((Kind::of_code(*code)?, rest.into(), marks))
}

/// Adds a record to `out`.
pub(super) fn encode(out: &mut Vec<u8>, kind: Kind, name: &[u8], marks: &Marks) {
    let mut payload = vec![kind.code(), u8::try_from(marks.soft.len()).unwrap_or(u8::MAX)];
    payload.extend_from_slice(&marks.hard.to_le_bytes());
    for (generation, since) in marks.soft.iter().take(usize::from(u8::MAX)) {
        payload.extend_from_slice(&generation.to_le_bytes());
        payload.extend_from_slice(&since.to_le_bytes());
    }
    payload.extend_from_slice(name);
    frames::push(out, &payload);
}

impl Log {
    /// Writes a new log that replaces the folder's, on the disk when this returns. `records` are those of every rule.
    pub fn create(folder: &Path, reserved: u64, records: &[u8]) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(FILE_NAME);
        let (file, bytes) = frames::replace(&path, &[&header(reserved), records])?;
        Ok(Log { path, file: Some(file), reserved, bytes, compact_bytes: bytes, broken: false })
    }

    /// A log that could not be written; [`Log::rewrite`] tries again.
    pub fn broken(folder: &Path) -> Self {
        Log { path: folder.join(FILE_NAME), file: None, reserved: 0, bytes: 0, compact_bytes: 0, broken: true }
    }

    /// Appends records; with `sync` they are on the disk when this returns.
    pub fn append(&mut self, records: &[u8], sync: bool) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        if !records.is_empty()
            && let Err(e) = file.write_all(records)
        {
            self.broken = true;
            return Err(e);
        }
        self.bytes += records.len() as u64;
        if sync {
            // After a failed sync nobody knows what is on the disk.
            file.sync_data().inspect_err(|_| self.broken = true)?;
        }
        Ok(())
    }

    /// Whether it should be written anew, now that the counter is at `generation`.
    pub fn wants_rewrite(&self, generation: u64) -> bool {
        let few_left = self.reserved.saturating_sub(generation) < RESERVED_AHEAD / 2;
        self.broken || few_left || self.bytes > self.compact_bytes * 2 + SLACK_BYTES
    }

    /// Whether it can be appended to.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Writes it anew with the records of every rule.
    pub fn rewrite(&mut self, reserved: u64, records: &[u8]) -> io::Result<()> {
        // Until it has been written whole, nobody knows which file stands there.
        self.broken = true;
        let (file, bytes) = frames::replace(&self.path, &[&header(reserved), records])?;
        self.reserved = reserved;
        (self.file, self.bytes, self.compact_bytes, self.broken) = (Some(file), bytes, bytes, false);
        Ok(())
    }
}

/// Removes the folder's log; one that is gone is fine.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_file(folder.join(FILE_NAME)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
