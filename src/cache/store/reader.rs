//! Reading from the memory store: a whole object, or one that is still being filled.

use super::fill::{Fill, Follower, cut_out};
use super::object::Object;
use super::{CHUNK_BYTES, Found, Head, Reader, StoreError};
use bytes::Bytes;
use std::sync::Arc;

/// Reads a whole object or follows a fill.
#[derive(Debug)]
pub struct MemoryReader {
    source: Source,
    unyielded: usize,
}

#[derive(Debug)]
enum Source {
    Whole(Whole),
    Filling(Follower),
}

#[derive(Debug)]
struct Whole {
    object: Arc<Object>,
    at: u64,
    end: u64,
}

impl MemoryReader {
    pub(super) fn whole(object: Arc<Object>, head: Arc<Head>, primary: bool) -> Found<Self> {
        let source = Source::Whole(Whole { object, at: 0, end: u64::MAX });
        Found { head, primary, body: MemoryReader { source, unyielded: 0 } }
    }

    pub(super) fn following(fill: Arc<Fill>) -> Found<Self> {
        let (head, primary) = (Arc::clone(fill.head()), fill.variance().is_none());
        Found { head, primary, body: MemoryReader { source: Source::Filling(Follower::new(fill)), unyielded: 0 } }
    }
}

impl Whole {
    fn next(&mut self) -> Option<Bytes> {
        let stop = self.end.min(self.object.body_bytes());
        let index = usize::try_from(self.at / CHUNK_BYTES as u64).ok()?;
        let chunk = self.object.chunks().get(index)?;
        let piece = cut_out(chunk, self.at % CHUNK_BYTES as u64, stop.checked_sub(self.at).filter(|n| *n > 0)?)?;
        self.at += piece.len() as u64;
        Some(piece)
    }
}

impl Reader for MemoryReader {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.unyielded >= CHUNK_BYTES {
            // One large download must not keep a worker from everybody else.
            self.unyielded = 0;
            tokio::task::yield_now().await;
        }
        let piece = match &mut self.source {
            Source::Whole(whole) => Ok(whole.next()),
            Source::Filling(follower) => follower.next().await,
        };
        self.unyielded += piece.as_ref().ok().and_then(Option::as_ref).map_or(0, Bytes::len);
        piece
    }

    fn seek(&mut self, start: u64, end: Option<u64>) -> Result<(), StoreError> {
        match &mut self.source {
            Source::Whole(w) if start >= w.object.body_bytes() => Err(StoreError::Range),
            Source::Whole(w) => {
                (w.at, w.end) = (start, end.unwrap_or(u64::MAX));
                Ok(())
            }
            Source::Filling(f) => f.seek(start, end),
        }
    }

    fn length(&self) -> Option<u64> {
        match &self.source {
            Source::Whole(w) => Some(w.object.body_bytes()),
            Source::Filling(f) => f.length(),
        }
    }
}
