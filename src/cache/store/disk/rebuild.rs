//! At the start: the folder's files become the index again. Of two records for one slot the later counts; what is torn,
//! damaged or unknown is left out, with one line in the log, and never keeps the gateway from starting.

use super::append::listed_of;
use super::files::Files;
use super::format::{self, LIVE, Listed, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES};
use super::index::{Entry, Index};
use super::segment::{self, Io, Segment, Segments};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// What the writer thread goes on from.
#[derive(Debug, Default)]
pub struct Rebuilt {
    /// Sealed segments, oldest first.
    pub order: VecDeque<u32>,
    /// The highest number so far.
    pub last_id: u32,
    /// The next record's order of writing.
    pub next_seq: u64,
    /// Bytes of all segments.
    pub used: u64,
    /// Records that a later one has replaced: the mark of that was lost.
    pub losers: Vec<Entry>,
}

/// Reads the folder.
pub fn rebuild(files: &Files, index: &Index, segments: &Segments) -> io::Result<Rebuilt> {
    let mut found: Vec<(u32, u64)> = Vec::new();
    for (name, bytes) in files.list()? {
        match segment::id_of(&name) {
            Some(id) => found.push((id, bytes)),
            // Bodies that were being written when the process ended.
            None if name.ends_with(".part") => files.remove(&name),
            None => tracing::warn!(name, folder = %files.folder().display(), "not a file of this cache: ignored"),
        }
    }
    found.sort_unstable();
    let mut out = Rebuilt::default();
    let mut lists = Vec::new();
    for (id, bytes) in found {
        out.last_id = out.last_id.max(id);
        match open(files, id, bytes) {
            Ok(Some((segment, list))) => {
                out.used += segment.charged();
                out.order.push_back(id);
                segments.add(Arc::new(segment));
                lists.push((id, list));
            }
            Ok(None) => files.remove(&segment::name(id)),
            Err(error) => {
                tracing::warn!(%error, segment = id, folder = %files.folder().display(), "a damaged cache file is removed");
                files.remove(&segment::name(id));
            }
        }
    }
    for (id, list) in lists {
        for listed in list {
            out.next_seq = out.next_seq.max(listed.seq);
            if segments.get(listed.body_segment).is_none() {
                continue;
            }
            if let Some(entry) = Entry::new(id, &listed) {
                out.losers.extend(index.insert(entry, listed.primary));
            }
        }
    }
    out.next_seq += 1;
    Ok(out)
}

/// A segment and its records; `None` when there is nothing in it.
fn open(files: &Files, id: u32, bytes: u64) -> io::Result<Option<(Segment, Vec<Listed>)>> {
    let segment = Segment::open(files, id, bytes)?;
    if let Some((list, _)) = segment.listed() {
        return Ok((!list.is_empty()).then_some((segment, list)));
    }
    let (list, end) = scan(&segment, bytes);
    if list.is_empty() {
        return Ok(None);
    }
    // Cut at the first record that is not whole, and sealed: from now on it is like any other.
    let footer = format::footer(id, segment.nonce, end, &list);
    files.cut(&segment.file, end)?;
    let mut length = end;
    if files.write_at(&segment.file, &footer, end).is_ok() {
        length += footer.len() as u64;
    }
    if bytes > end {
        tracing::warn!(segment = id, bytes = bytes - end, records = list.len(), "the end of a cache file was cut off");
    }
    segment.charge(length);
    Ok(Some((segment, list)))
}

/// Record by record, as far as they are whole.
fn scan(segment: &Segment, bytes: u64) -> (Vec<Listed>, u64) {
    let mut list = Vec::new();
    let mut at = SEGMENT_HEADER_BYTES;
    while let Ok(head) = segment.read(at, RECORD_HEADER_BYTES, Io::Blocking) {
        let Some(header) = RecordHeader::decode(&head, segment.nonce, at) else { break };
        let Some(end) = at.checked_add(header.span()).filter(|end| *end <= bytes) else { break };
        if header.state == LIVE {
            list.extend(listed_of(&header, at));
        }
        at = end;
    }
    (list, at)
}
