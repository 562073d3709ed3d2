//! An object while it is being filled: one writer, any number of readers that follow it.

use super::disk::{self, FileBody, Segment};
use super::{CHUNK_BYTES, Head, Slot, StoreError};
use bytes::{Bytes, BytesMut};
use pingora_cache::key::HashBinary;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How a fill stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Done,
    Cut,
}

#[derive(Debug)]
struct State {
    /// Pieces of exactly [`CHUNK_BYTES`], but for the last of a finished body; `released` more came before them.
    chunks: VecDeque<Bytes>,
    released: u64,
    /// What came since the last full piece, as it came.
    tail: Vec<Bytes>,
    written: u64,
    end: End,
    /// Not to be stored: what all followers have read is let go.
    passing: bool,
    /// Followers and where they are.
    followers: Vec<(u64, u64)>,
    followers_ever: u64,
    /// Where a large body goes instead of staying in memory.
    spill: Option<Spill>,
}

/// The part of a body that is in a file; `window` pieces of it stay in memory for followers that are near its end.
#[derive(Debug)]
struct Spill {
    segment: Arc<Segment>,
    sums: Vec<u64>,
    window: usize,
}

/// At most so many: 2 MiB.
const WINDOW_CHUNKS_MAX: u64 = 8;

/// What a follower finds at its place.
enum Piece {
    Here(Bytes),
    InFile(FileBody),
}

/// See the file's head.
#[derive(Debug)]
pub struct Fill {
    id: u64,
    hash: HashBinary,
    variance: Option<HashBinary>,
    key: Arc<[u8]>,
    head: Arc<Head>,
    state: Mutex<State>,
    moved: watch::Sender<()>,
    void: Arc<AtomicBool>,
}

impl Fill {
    pub fn new(id: u64, slot: &Slot<'_>, head: Head) -> Self {
        let state = State {
            chunks: VecDeque::new(),
            released: 0,
            tail: Vec::new(),
            written: 0,
            end: End::Open,
            passing: false,
            followers: Vec::new(),
            followers_ever: 0,
            spill: None,
        };
        Fill {
            id,
            hash: slot.hash,
            variance: slot.variance,
            key: slot.key.into(),
            head: Arc::new(head),
            state: Mutex::new(state),
            moved: watch::Sender::new(()),
            void: Arc::default(),
        }
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn hash(&self) -> &HashBinary {
        &self.hash
    }

    pub fn variance(&self) -> Option<HashBinary> {
        self.variance
    }

    pub fn key(&self) -> &Arc<[u8]> {
        &self.key
    }

    pub fn head(&self) -> &Arc<Head> {
        &self.head
    }

    pub fn is_for(&self, slot: &Slot<'_>) -> bool {
        self.hash == slot.hash && self.variance == slot.variance && *self.key == *slot.key
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock, and its data would still be whole if it did.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a piece as it came; returns how far the slowest follower is behind, `None` without followers.
    pub fn push(&self, piece: Bytes) -> Option<u64> {
        let mut s = self.state();
        s.written += piece.len() as u64;
        s.tail.push(piece);
        s.release();
        let lag = s.slowest().map(|at| s.written.saturating_sub(at));
        drop(s);
        self.moved.send_replace(());
        lag
    }

    /// Replaces the tail by full pieces and what is left over.
    pub fn settle(&self, chunks: Vec<Bytes>, rest: Option<Bytes>) {
        let mut s = self.state();
        s.chunks.extend(chunks);
        s.tail = rest.into_iter().collect();
        s.release();
    }

    /// From now on only followers are served and nothing is kept that they have read.
    pub fn pass_on(&self) {
        let mut s = self.state();
        s.passing = true;
        s.release();
    }

    /// Ends the body; returns its pieces.
    pub fn close(&self, last: Option<Bytes>) -> Vec<Bytes> {
        let mut s = self.state();
        s.chunks.extend(last);
        s.tail.clear();
        s.end = End::Done;
        let chunks = s.chunks.iter().cloned().collect();
        s.release();
        drop(s);
        self.moved.send_replace(());
        chunks
    }

    /// Ends it badly.
    pub fn cut(&self) {
        self.state().end = End::Cut;
        self.moved.send_replace(());
    }

    /// A purge has taken it off the books.
    pub fn set_void(&self) {
        self.void.store(true, Ordering::SeqCst);
    }

    /// Whether that is so, for the level below.
    pub fn void(&self) -> &Arc<AtomicBool> {
        &self.void
    }

    /// All whole pieces that are in memory; none has been let go yet.
    pub fn whole(&self) -> Vec<Bytes> {
        self.state().chunks.iter().cloned().collect()
    }

    /// More of the body is in this file, with these checksums; what nobody near needs in memory is let go. Says how
    /// many bytes were let go so far. About `window_bytes` are kept for those who are near.
    pub fn spilled(&self, segment: &Arc<Segment>, sums: &[u64], window_bytes: u64) -> u64 {
        let mut s = self.state();
        let spill = s.spill.get_or_insert_with(|| {
            let chunks = (window_bytes / CHUNK_BYTES as u64).clamp(1, WINDOW_CHUNKS_MAX);
            let window = usize::try_from(chunks).unwrap_or(1);
            Spill { segment: Arc::clone(segment), sums: Vec::new(), window }
        });
        spill.sums.extend_from_slice(sums);
        s.release();
        s.released * CHUNK_BYTES as u64
    }

    /// How many checksums are known.
    pub fn sums(&self) -> usize {
        self.state().spill.as_ref().map_or(0, |s| s.sums.len())
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.state().written
    }
}

impl State {
    fn set_follower(&mut self, id: u64, at: u64) {
        self.followers.iter_mut().filter(|(f, _)| *f == id).for_each(|(_, a)| *a = at);
    }

    fn moved_on(&mut self, id: u64, at: u64) {
        self.set_follower(id, at);
        self.release();
    }

    fn slowest(&self) -> Option<u64> {
        self.followers.iter().map(|(_, at)| *at).min()
    }

    fn release(&mut self) {
        if let Some(spill) = self.spill.as_ref().filter(|_| !self.passing) {
            let chunk = CHUNK_BYTES as u64;
            let in_file = spill.sums.len() as u64 * disk::BLOCK / chunk;
            let read = self.slowest().map_or(u64::MAX, |at| at / chunk);
            while self.released < in_file && (self.released < read || self.chunks.len() > spill.window) {
                if self.chunks.pop_front().is_none() {
                    break;
                }
                self.released += 1;
            }
            return;
        }
        let Some(at) = self.slowest().or(Some(self.written)).filter(|_| self.passing) else { return };
        while self.chunks.front().is_some_and(|c| self.released * CHUNK_BYTES as u64 + c.len() as u64 <= at) {
            self.chunks.pop_front();
            self.released += 1;
        }
    }

    /// The bytes at `at`, up to `end`, as far as one piece goes.
    fn piece(&self, at: u64, end: u64) -> Result<Option<Piece>, StoreError> {
        let stop = end.min(self.written);
        if at >= stop {
            return Ok(None);
        }
        let chunk = at / CHUNK_BYTES as u64;
        if let Some(spill) = self.spill.as_ref().filter(|_| chunk < self.released) {
            return spill.body(chunk).map(|body| Some(Piece::InFile(body))).ok_or(StoreError::Range);
        }
        let index = chunk.checked_sub(self.released).ok_or(StoreError::Range)?;
        let index = usize::try_from(index).map_err(|_| StoreError::Range)?;
        if let Some(bytes) = self.chunks.get(index) {
            return Ok(cut_out(bytes, at - chunk * CHUNK_BYTES as u64, stop - at).map(Piece::Here));
        }
        let mut start = (self.released + self.chunks.len() as u64) * CHUNK_BYTES as u64;
        for bytes in &self.tail {
            let next = start + bytes.len() as u64;
            if at < next {
                return Ok(cut_out(bytes, at - start, stop - at).map(Piece::Here));
            }
            start = next;
        }
        Err(StoreError::Range)
    }
}

impl Spill {
    /// The body as far as it is in the file, with the checksums of one piece.
    fn body(&self, chunk: u64) -> Option<FileBody> {
        let blocks = CHUNK_BYTES as u64 / disk::BLOCK;
        let first_block = chunk * blocks;
        let from = usize::try_from(first_block).ok()?;
        let sums = self.sums.get(from..from.checked_add(usize::try_from(blocks).ok()?)?)?;
        let bytes = self.sums.len() as u64 * disk::BLOCK;
        let segment = Arc::clone(&self.segment);
        Some(FileBody { segment, at: disk::OWN_BODY_AT, bytes, sums: sums.into(), first_block })
    }
}

/// `len` bytes from `from`, or as many as there are; `None` only for an empty piece.
pub fn cut_out(bytes: &Bytes, from: u64, len: u64) -> Option<Bytes> {
    let from = usize::try_from(from).ok().filter(|f| *f < bytes.len())?;
    let to = usize::try_from(len).unwrap_or(usize::MAX).saturating_add(from).min(bytes.len());
    Some(bytes.slice(from..to))
}

/// Copies pieces into full chunks of their own memory, so that what is counted is what is held: a piece from the network
/// may pin a larger buffer. Returns the full chunks and the rest, copied too.
pub fn pack(pieces: &[Bytes]) -> (Vec<Bytes>, Option<Bytes>) {
    let total: usize = pieces.iter().map(Bytes::len).sum();
    let mut full = Vec::with_capacity(total / CHUNK_BYTES);
    let mut left = total;
    let mut buf = BytesMut::with_capacity(left.min(CHUNK_BYTES));
    for piece in pieces {
        let mut piece: &[u8] = piece;
        while !piece.is_empty() {
            let (now, later) = piece.split_at(piece.len().min(CHUNK_BYTES - buf.len()));
            buf.extend_from_slice(now);
            piece = later;
            if buf.len() == CHUNK_BYTES {
                left -= CHUNK_BYTES;
                full.push(std::mem::replace(&mut buf, BytesMut::with_capacity(left.min(CHUNK_BYTES))).freeze());
            }
        }
    }
    (full, (!buf.is_empty()).then(|| buf.freeze()))
}

/// Follows a fill.
#[derive(Debug)]
pub struct Follower {
    fill: Arc<Fill>,
    id: u64,
    at: u64,
    end: u64,
    moved: watch::Receiver<()>,
}

impl Follower {
    pub fn new(fill: Arc<Fill>) -> Self {
        let moved = fill.moved.subscribe();
        let mut s = fill.state();
        s.followers_ever += 1;
        let id = s.followers_ever;
        s.followers.push((id, 0));
        drop(s);
        Follower { fill, id, at: 0, end: u64::MAX, moved }
    }

    /// The next piece, waiting for the writer where there is none yet.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        loop {
            self.moved.borrow_and_update();
            match self.poll() {
                Some(Ok(Some(Piece::InFile(body)))) => {
                    let piece = disk::piece(&body, self.at, self.end, &mut BytesMut::new()).await;
                    let Ok(bytes) = piece else { return Err(StoreError::Cut) };
                    self.at += bytes.len() as u64;
                    self.fill.state().moved_on(self.id, self.at);
                    return Ok(Some(bytes));
                }
                Some(Ok(Some(Piece::Here(bytes)))) => return Ok(Some(bytes)),
                Some(Ok(None)) => return Ok(None),
                Some(Err(e)) => return Err(e),
                None => {}
            }
            if self.moved.changed().await.is_err() {
                return Err(StoreError::Cut);
            }
        }
    }

    fn poll(&mut self) -> Option<Result<Option<Piece>, StoreError>> {
        let mut s = self.fill.state();
        if s.end == End::Cut {
            return Some(Err(StoreError::Cut));
        }
        match s.piece(self.at, self.end) {
            Ok(Some(piece)) => {
                if let Piece::Here(bytes) = &piece {
                    self.at += bytes.len() as u64;
                    s.moved_on(self.id, self.at);
                }
                Some(Ok(Some(piece)))
            }
            Ok(None) if s.end == End::Done || self.at >= self.end => Some(Ok(None)),
            Ok(None) => None,
            Err(e) => Some(Err(e)),
        }
    }

    pub fn seek(&mut self, start: u64, end: Option<u64>) -> Result<(), StoreError> {
        let mut s = self.fill.state();
        let length = if s.end == End::Done { Some(s.written) } else { self.fill.head.length };
        let chunk = start / CHUNK_BYTES as u64;
        let gone = chunk < s.released && s.spill.as_ref().is_none_or(|f| f.body(chunk).is_none());
        if gone || length.is_some_and(|l| start >= l) {
            return Err(StoreError::Range);
        }
        (self.at, self.end) = (start, end.unwrap_or(u64::MAX));
        s.set_follower(self.id, start);
        Ok(())
    }

    pub fn length(&self) -> Option<u64> {
        let s = self.fill.state();
        if s.end == End::Done { Some(s.written) } else { self.fill.head.length }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut s = self.fill.state();
        let id = self.id;
        s.followers.retain(|(f, _)| *f != id);
        s.release();
    }
}
