//! The writer thread's hand: appends records to the open segment, seals it when it is full, opens the next.

use super::format::{self, BLOCK_BYTES, LIVE, Listed, OWN_BODY_AT, RECORD_HEADER_BYTES, RecordHeader};
use super::index::Entry;
use super::large::Part;
use super::queue::Place;
use super::record::FileBody;
use super::segment::{self, Segment};
use super::work::Worker;
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// The segment that records are appended to.
#[derive(Debug)]
pub struct Active {
    pub segment: Arc<Segment>,
    pub end: u64,
    pub list: Vec<Listed>,
}

/// A record to be: which, and key and head as bytes.
#[derive(Debug)]
pub struct Draft {
    pub place: Place,
    pub meta: Bytes,
}

/// Where its body comes from.
#[derive(Debug)]
pub enum Body<'a> {
    Pieces(&'a [Bytes]),
    Elsewhere(&'a FileBody),
}

impl Body<'_> {
    fn inline_bytes(&self) -> u64 {
        match self {
            Body::Pieces(pieces) => pieces.iter().map(|p| p.len() as u64).sum(),
            Body::Elsewhere(_) => 0,
        }
    }
}

/// An object whose body takes more than this share of a segment gets a segment of its own.
pub const OWN_SHARE: u64 = 4;

impl Worker {
    /// Appends a record; it is found once the caller files the entry.
    pub fn append(&mut self, draft: &Draft, body: &Body<'_>) -> io::Result<Entry> {
        let inline = body.inline_bytes();
        if inline > self.inner.limits.segment_bytes / OWN_SHARE {
            return self.append_own(draft, body);
        }
        let blocks = match body {
            Body::Pieces(_) => inline.div_ceil(format::BLOCK),
            Body::Elsewhere(file) => file.sums.len() as u64,
        };
        let head_bytes = RECORD_HEADER_BYTES as u64 + draft.meta.len() as u64 + blocks * 8;
        if head_bytes > format::HEAD_BYTES_MAX as u64 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let span = format::align(head_bytes + inline);
        self.room_in_active(span)?;
        let Some(active) = &mut self.active else { return Err(io::ErrorKind::Other.into()) };
        let at = active.end;
        let seq = self.next_seq;
        let (bytes, header) = encode(draft, body, (&active.segment, at), (seq, head_bytes));
        self.inner.files.write_at(&active.segment.file, &bytes, at)?;
        self.next_seq += 1;
        active.end += span;
        let read = u32::try_from(head_bytes + inline).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let listed = listed(&header, at, read);
        active.list.push(listed);
        Entry::new(active.segment.id, &listed).ok_or_else(|| io::ErrorKind::FileTooLarge.into())
    }

    fn append_own(&mut self, draft: &Draft, body: &Body<'_>) -> io::Result<Entry> {
        let Body::Pieces(pieces) = body else { return Err(io::ErrorKind::Unsupported.into()) };
        let bytes = Part::bytes_with(body.inline_bytes(), draft.meta.len() as u64);
        let mut part = self.open_part(bytes)?;
        for piece in *pieces {
            if let Err(e) = part.write(&self.inner.files, piece) {
                self.discard(&part);
                return Err(e);
            }
        }
        self.commit(part, draft)
    }

    /// A file for a large body of about so many bytes.
    pub fn open_part(&mut self, bytes: u64) -> io::Result<Part> {
        self.make_room(bytes)?;
        let id = self.take_id();
        let segment = Segment::create(&self.inner.files, id, &segment::part_name(id), bytes)?;
        self.set_used(self.used + bytes);
        self.reinsert();
        Ok(Part::new(Arc::new(segment), bytes))
    }

    /// Gives up a large body.
    pub fn discard(&mut self, part: &Part) {
        self.inner.files.remove(&segment::part_name(part.segment.id));
        self.set_used(self.used.saturating_sub(part.granted));
    }

    /// Ends a large body's segment: record, footer, final name.
    pub fn commit(&mut self, mut part: Part, draft: &Draft) -> io::Result<Entry> {
        let committed = self.try_commit(&mut part, draft);
        if committed.is_err() {
            self.discard(&part);
        }
        committed
    }

    fn try_commit(&mut self, part: &mut Part, draft: &Draft) -> io::Result<Entry> {
        let body = FileBody {
            segment: Arc::clone(&part.segment),
            at: OWN_BODY_AT,
            bytes: part.written,
            sums: part.seal().into(),
            first_block: 0,
        };
        let bytes = Part::bytes_with(part.written, draft.meta.len() as u64);
        if bytes > part.granted {
            let more = bytes - part.granted;
            self.make_room(more)?;
            self.set_used(self.used + more);
            part.granted = bytes;
            self.reinsert();
        }
        let at = format::align(OWN_BODY_AT + part.written);
        let head_bytes = (RECORD_HEADER_BYTES + draft.meta.len() + body.sums.len() * 8) as u64;
        if head_bytes > format::HEAD_BYTES_MAX as u64 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let id = part.segment.id;
        let (mut bytes, header) =
            encode(draft, &Body::Elsewhere(&body), (&part.segment, at), (self.next_seq, head_bytes));
        let read = u32::try_from(head_bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let listed = listed(&header, at, read);
        let end = at + bytes.len() as u64;
        bytes.extend_from_slice(&format::footer(id, part.segment.nonce, end, &[listed]));
        self.inner.files.write_at(&part.segment.file, &bytes, at)?;
        self.inner.files.rename(&segment::part_name(id), &segment::name(id))?;
        self.next_seq += 1;
        let entry = Entry::new(id, &listed).ok_or(io::ErrorKind::FileTooLarge)?;
        let length = at + bytes.len() as u64;
        part.segment.charge(length);
        self.set_used((self.used + length).saturating_sub(part.granted));
        self.inner.segments.add(Arc::clone(&part.segment));
        self.order.push_back(id);
        Ok(entry)
    }

    /// Makes sure that the open segment has room for a record and for the longer footer.
    fn room_in_active(&mut self, span: u64) -> io::Result<()> {
        let fits = |a: &Active, limit: u64| a.end + span + format::footer_bytes(a.list.len() as u64 + 1) <= limit;
        if self.active.as_ref().is_some_and(|a| fits(a, a.segment.charged())) {
            return Ok(());
        }
        self.seal();
        // A record with a long head may take more than a segment's usual length.
        let least = format::SEGMENT_HEADER_BYTES + span + format::footer_bytes(1);
        let bytes = self.inner.limits.segment_bytes.max(least);
        self.make_room(bytes)?;
        let id = self.take_id();
        let segment = Arc::new(Segment::create(&self.inner.files, id, &segment::name(id), bytes)?);
        self.set_used(self.used + bytes);
        self.inner.segments.add(Arc::clone(&segment));
        self.active = Some(Active { segment, end: format::SEGMENT_HEADER_BYTES, list: Vec::new() });
        self.reinsert();
        // What was kept may have filled it already.
        match &self.active {
            Some(a) if fits(a, a.segment.charged()) => Ok(()),
            _ => self.room_in_active(span),
        }
    }

    /// Closes the open segment with its footer, in which removed objects no longer stand.
    pub fn seal(&mut self) {
        let Some(active) = self.active.take() else { return };
        let index = &self.inner.index;
        let alive = |l: &&Listed| {
            let here = Entry::new(active.segment.id, l);
            here.is_some_and(|e| index.exact(&e.id()).is_some_and(|found| found.seq == l.seq))
        };
        let list: Vec<Listed> = active.list.iter().filter(alive).copied().collect();
        let id = active.segment.id;
        let footer = format::footer(id, active.segment.nonce, active.end, &list);
        let mut length = active.end + footer.len() as u64;
        if let Err(error) = self.inner.files.write_at(&active.segment.file, &footer, active.end) {
            // Without a footer it is read record by record at the next start.
            tracing::debug!(%error, segment = id, "no footer");
            length = active.end;
        }
        if self.inner.files.cut(&active.segment.file, length).is_ok() {
            let before = active.segment.charge(length);
            self.set_used((self.used + length).saturating_sub(before));
        }
        self.order.push_back(id);
    }

    fn take_id(&mut self) -> u32 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }
}

fn listed(header: &RecordHeader, at: u64, bytes: u32) -> Listed {
    let place = Place { hash: header.hash, variance: header.variance, primary: header.primary };
    let id = place.id();
    Listed {
        group: id.group,
        rest: id.rest,
        variant: id.variant,
        primary: header.primary,
        at,
        bytes,
        seq: header.seq,
        body_segment: header.body_segment,
    }
}

/// What a record read back from a scan says in a footer.
pub fn listed_of(header: &RecordHeader, at: u64) -> Option<Listed> {
    let inline = if header.inline { header.body_bytes } else { 0 };
    Some(listed(header, at, u32::try_from(u64::from(header.head_bytes) + inline).ok()?))
}

/// The bytes of a record at `at` of `segment`, padded, with the inline body.
fn encode(
    draft: &Draft,
    body: &Body<'_>,
    (segment, at): (&Segment, u64),
    (seq, head_bytes): (u64, u64),
) -> (Vec<u8>, RecordHeader) {
    let mut meta = format::Put(draft.meta.to_vec());
    let mut flat = Vec::new();
    let body_at = at + head_bytes;
    let (inline, body_segment, body_at, body_bytes, body_nonce) = match body {
        Body::Pieces(pieces) => {
            pieces.iter().for_each(|p| flat.extend_from_slice(p));
            for (block, bytes) in (0..).zip(flat.chunks(BLOCK_BYTES)) {
                meta.u64(format::block_sum(segment.nonce, body_at, block, bytes));
            }
            (true, segment.id, body_at, flat.len() as u64, segment.nonce)
        }
        Body::Elsewhere(file) => {
            for sum in file.sums.iter() {
                meta.u64(*sum);
            }
            (false, file.segment.id, file.at, file.bytes, file.segment.nonce)
        }
    };
    let header = RecordHeader {
        state: LIVE,
        head_bytes: u32::try_from(head_bytes).unwrap_or(u32::MAX),
        seq,
        hash: draft.place.hash,
        variance: draft.place.variance,
        primary: draft.place.primary,
        inline,
        body_segment,
        body_at,
        body_bytes,
        body_nonce,
        meta_sum: xxh3_64(&meta.0),
    };
    let mut out = header.encode(segment.nonce, at);
    out.append(&mut meta.0);
    out.append(&mut flat);
    out.resize(usize::try_from(format::align(out.len() as u64)).unwrap_or(out.len()), 0);
    (out, header)
}
