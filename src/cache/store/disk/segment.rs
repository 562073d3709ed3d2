//! Segment files: open once, shared by all who read, unlinked while readers go on.

use super::files::Files;
use super::format::{self, DEAD, ENTRY_BYTES, Listed, SEGMENT_HEADER_LEN, TRAILER_BYTES};
use bytes::{Bytes, BytesMut};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// One open file.
#[derive(Debug)]
pub struct Segment {
    /// Its number, never used twice in a folder's life.
    pub id: u32,
    /// Random; seeds every checksum in it.
    pub nonce: u64,
    /// The file.
    pub file: File,
    /// What it counts for in the bound, in bytes.
    charged: AtomicU64,
}

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// From the page cache only: anything else is `WouldBlock`.
    Cached,
    /// Whatever it takes.
    Blocking,
}

/// A sealed segment's name.
pub fn name(id: u32) -> String {
    format!("{id:08x}.seg")
}

/// The name of a large body's segment while it is being written.
pub fn part_name(id: u32) -> String {
    format!("{id:08x}.part")
}

/// The number in a name.
pub fn id_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".seg").filter(|d| d.len() == 8)?;
    u32::from_str_radix(digits, 16).ok()
}

fn random() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    high ^ low
}

impl Segment {
    /// A new one with its header written.
    pub fn create(files: &Files, id: u32, name: &str, charged: u64) -> io::Result<Self> {
        let file = files.create(name)?;
        let nonce = random();
        if let Err(e) = files.write_at(&file, &format::segment_header(id, nonce), 0) {
            files.remove(name);
            return Err(e);
        }
        Ok(Segment { id, nonce, file, charged: AtomicU64::new(charged) })
    }

    /// One that is there; an error of kind `InvalidData` when its header is not what it should be.
    pub fn open(files: &Files, id: u32, bytes: u64) -> io::Result<Self> {
        let file = files.open_file(&name(id))?;
        let mut head = [0; SEGMENT_HEADER_LEN];
        file.read_exact_at(&mut head, 0)?;
        match format::read_segment_header(&head) {
            Some((own, nonce)) if own == id => Ok(Segment { id, nonce, file, charged: AtomicU64::new(bytes) }),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// What it counts for, in bytes.
    pub fn charged(&self) -> u64 {
        self.charged.load(Ordering::Relaxed)
    }

    /// Changes what it counts for; gives what it was.
    pub fn charge(&self, bytes: u64) -> u64 {
        self.charged.swap(bytes, Ordering::Relaxed)
    }

    /// Reads exactly so much; `UnexpectedEof` where the file is shorter.
    pub fn read(&self, at: u64, bytes: usize, io: Io) -> io::Result<Bytes> {
        let mut buf = BytesMut::zeroed(bytes);
        self.fill(&mut buf, at, io)?;
        Ok(buf.freeze())
    }

    /// The same into memory that is there already: into all of it.
    pub fn fill(&self, buf: &mut [u8], at: u64, io: Io) -> io::Result<()> {
        if io == Io::Blocking {
            return self.file.read_exact_at(buf, at);
        }
        let bytes = buf.len();
        let mut have = 0;
        while have < bytes {
            let rest = buf.get_mut(have..).unwrap_or_default();
            match preadv2(&self.file, &mut [IoSliceMut::new(rest)], at + have as u64, ReadWriteFlags::NOWAIT) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => have += n,
                Err(Errno::INTR) => {}
                // Not cached, or a file system that cannot tell.
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Marks a record as dead where it stands.
    pub fn kill(&self, files: &Files, at: u64) -> io::Result<()> {
        files.write_at(&self.file, &DEAD.to_le_bytes(), at)
    }

    /// The list of a sealed segment and where its records end; `None` when there is no whole footer.
    pub fn listed(&self) -> Option<(Vec<Listed>, u64)> {
        let length = self.file.metadata().ok()?.len();
        let trailer_at = length.checked_sub(TRAILER_BYTES as u64)?;
        let trailer = self.read(trailer_at, TRAILER_BYTES, Io::Blocking).ok()?;
        let (end, count, sum) = format::read_trailer(&trailer, self.id, self.nonce)?;
        let bytes = count.checked_mul(ENTRY_BYTES as u64)?;
        // The footer must be exactly what lies between the records and the trailer.
        if end.checked_add(bytes)? != trailer_at {
            return None;
        }
        let list = self.read(end, usize::try_from(bytes).ok()?, Io::Blocking).ok()?;
        Some((format::read_list(&list, self.nonce, end, sum)?, end))
    }
}

/// All open segments.
#[derive(Debug, Default)]
pub struct Segments {
    by_id: RwLock<HashMap<u32, Arc<Segment>>>,
}

impl Segments {
    /// The one of this number.
    pub fn get(&self, id: u32) -> Option<Arc<Segment>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Adds one.
    pub fn add(&self, segment: Arc<Segment>) {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).insert(segment.id, segment);
    }

    /// Forgets one; it stays open for those who read it.
    pub fn forget(&self, id: u32) -> Option<Arc<Segment>> {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}
