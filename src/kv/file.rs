//! The file behind a store: a magic, then one frame for each value that was set; of a name the last one counts. Written
//! anew with the present values when it has grown.
//!
//! Payload of a frame: since (u64), amount (u64), name (UTF-8). Little-endian.

use super::Value;
use super::frames::{self, Bad};
use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MAGIC: [u8; 8] = *b"SLGCELL1";
/// The file's name in its folder.
pub(super) const FILE_NAME: &str = "cells.log";
/// Holding it locked keeps a second process out.
const LOCK_NAME: &str = "cells.lock";
/// A longer file is not ours.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// A file that is no more than this longer than it need be is left alone, in bytes.
const SLACK_BYTES: u64 = 1 << 20;
/// A process that is just leaving still holds the lock.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// What a file said.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Said {
    pub(super) cells: HashMap<Box<str>, Value>,
    /// Frames that could not be read, but for one at the end that was not written whole.
    pub(super) damaged: usize,
}

/// The file, open for appending.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Held for as long as the journal is open.
    _lock: File,
    bytes: u64,
    compact_bytes: u64,
    /// The end of the file is unknown after a write that failed: it must be written anew.
    broken: bool,
}

/// Reads a file's bytes; `None` when they are none of ours.
pub(super) fn parse(bytes: &[u8]) -> Option<Said> {
    let mut said = Said::default();
    // A file that was just being made.
    if MAGIC.starts_with(bytes) {
        return Some(said);
    }
    let mut rest = bytes.strip_prefix(&MAGIC)?;
    while !rest.is_empty() {
        rest = match frames::first(rest) {
            Ok((payload, after)) => {
                match row(payload) {
                    Some((name, value)) => drop(said.cells.insert(name.into(), value)),
                    None => said.damaged += 1,
                }
                after
            }
            Err(Bad::Torn) => break,
            Err(Bad::Lost) => {
                said.damaged += 1;
                break;
            }
            Err(Bad::Damaged { after }) => {
                said.damaged += 1;
                after
            }
        };
    }
    Some(said)
}

fn row(payload: &[u8]) -> Option<(&str, Value)> {
    let (since, rest) = payload.split_first_chunk::<8>()?;
    let (amount, name) = rest.split_first_chunk::<8>()?;
    let value = Value { since: u64::from_le_bytes(*since), amount: u64::from_le_bytes(*amount) };
    Some((std::str::from_utf8(name).ok()?, value))
}

/// Adds a value to `out`.
pub(super) fn encode(out: &mut Vec<u8>, name: &str, value: Value) {
    let mut payload = Vec::with_capacity(16 + name.len());
    payload.extend_from_slice(&value.since.to_le_bytes());
    payload.extend_from_slice(&value.amount.to_le_bytes());
    payload.extend_from_slice(name.as_bytes());
    frames::push(out, &payload);
}

impl Journal {
    /// Opens the journal of a folder with what it said, and writes it anew.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, HashMap<Box<str>, Value>)> {
        std::fs::create_dir_all(folder)?;
        let lock = lock(&folder.join(LOCK_NAME))?;
        let path = folder.join(FILE_NAME);
        let said = read(&path)?;
        let mut rows = Vec::new();
        said.cells.iter().for_each(|(name, value)| encode(&mut rows, name, *value));
        let (file, bytes) = frames::replace(&path, &[&MAGIC, &rows])?;
        Ok((Journal { path, file, _lock: lock, bytes, compact_bytes: bytes, broken: false }, said.cells))
    }

    /// Appends rows.
    pub(super) fn append(&mut self, rows: &[u8], sync: bool) -> io::Result<()> {
        // After a write or a sync that failed nobody knows what is in the file.
        self.file.write_all(rows).inspect_err(|_| self.broken = true)?;
        self.bytes += rows.len() as u64;
        if sync {
            self.file.sync_data().inspect_err(|_| self.broken = true)?;
        }
        Ok(())
    }

    /// Whether it should be written anew.
    pub(super) fn wants_rewrite(&self) -> bool {
        self.broken || self.bytes > self.compact_bytes.saturating_mul(2).saturating_add(SLACK_BYTES)
    }

    /// Writes it anew with the rows of every cell.
    pub(super) fn rewrite(&mut self, rows: &[u8]) -> io::Result<()> {
        self.broken = true;
        let (file, bytes) = frames::replace(&self.path, &[&MAGIC, rows])?;
        (self.file, self.bytes, self.compact_bytes, self.broken) = (file, bytes, bytes, false);
        Ok(())
    }

    /// Its length in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn read(path: &Path) -> io::Result<Said> {
    let length = match std::fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Said::default()),
        found => found?.len(),
    };
    let foreign = || io::Error::other(format!("{} is no journal of this gateway", path.display()));
    if length > FILE_BYTES_MAX {
        return Err(foreign());
    }
    let said = parse(&std::fs::read(path)?).ok_or_else(foreign)?;
    if said.damaged > 0 {
        let kept = path.with_extension("damaged");
        std::fs::copy(path, &kept)?;
        let (file, kept, records) = (path.display(), kept.display(), said.damaged);
        tracing::error!(%file, %kept, records, "damaged records were left out; the file is kept aside");
    }
    Ok(said)
}

fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(e)) => return Err(e),
            Err(TryLockError::WouldBlock) if Instant::now() > until => {
                let what = format!("{} is locked: another gateway uses this folder", path.display());
                return Err(io::Error::new(io::ErrorKind::WouldBlock, what));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
