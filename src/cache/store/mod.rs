//! The seam behind the cache: what a store does, whatever it keeps objects on.
//!
//! An object lives in a slot: the key's hash, and for variants the variance. The primary slot (no variance) holds the
//! first variant seen; its `Vary` says how to find the others. All slots of one URL share a group.

pub mod adapter;
#[cfg(test)]
mod conformance;
pub mod disk;
mod fill;
mod head;
pub mod memory;
mod object;
mod queue;
mod reader;
mod rendition;
mod shard;
#[cfg(test)]
mod tests;
pub mod tiered;
mod writer;

pub use head::Head;
pub use object::Object;
pub use rendition::{Rendition, Renditions};

use super::key::group_of;
use bytes::Bytes;
use pingora_cache::key::HashBinary;
use std::future::Future;
use std::sync::Arc;

/// Bodies are kept in pieces of this size, in bytes: large enough to be cheap to send, small enough to start early.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Why a store could not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The body is longer than `max_object_size`.
    #[error("object is larger than max_object_size")]
    TooLarge,
    /// Objects being written fill the whole store.
    #[error("no room: objects being written fill the store")]
    NoRoom,
    /// The fetch that filled the object ended before its end.
    #[error("the fetch filling this object was cut")]
    Cut,
    /// A range beyond the body, or of a part that is no longer held.
    #[error("range is outside the stored body")]
    Range,
}

impl StoreError {
    /// The one spelling for log and metric.
    pub fn as_str(self) -> &'static str {
        match self {
            StoreError::TooLarge => "too_large",
            StoreError::NoRoom => "no_room",
            StoreError::Cut => "cut",
            StoreError::Range => "range",
        }
    }
}

/// Where an object lives, and the full key to tell it from one with the same hash.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    /// [`super::key::Key::hash`].
    pub hash: HashBinary,
    /// The variance of a secondary slot; `None` is the primary slot.
    pub variance: Option<HashBinary>,
    /// [`super::key::Key::bytes`].
    pub key: &'a [u8],
}

impl Slot<'_> {
    fn group(&self) -> u64 {
        group_of(&self.hash)
    }
}

/// What a look-up found.
#[derive(Debug)]
pub struct Found<R> {
    /// Header and times.
    pub head: Arc<Head>,
    /// The slot is the primary one.
    pub primary: bool,
    /// The body.
    pub body: R,
}

/// Which objects a purge concerns.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Every object whose key begins with these bytes ([`super::key::Key::url_bytes`]), in the group of this hash: all
    /// variants, policy arms, header and cookie values of one URL.
    Url(HashBinary, &'a [u8]),
    /// The primary slot of a key and all its variants.
    Key(HashBinary),
}

impl Target<'_> {
    fn group(&self) -> u64 {
        match self {
            Target::Url(hash, _) | Target::Key(hash) => group_of(hash),
        }
    }

    fn covers(&self, object: &HashBinary, key: &[u8]) -> bool {
        match self {
            Target::Url(_, url) => key.starts_with(url),
            Target::Key(hash) => object == hash,
        }
    }
}

/// What a purge does to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// Removes them.
    Hard,
    /// Makes them stale: the next request asks the origin and can reuse the body, and the stale windows stay open.
    Soft,
}

/// What a store holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Whole objects held.
    pub objects: u64,
    /// Bytes held, objects being written included.
    pub bytes: u64,
    /// Bytes of objects being written.
    pub filling_bytes: u64,
    /// Look-ups that found an object, fresh or stale.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Objects stored.
    pub stored: u64,
    /// Objects removed for want of room.
    pub evictions: u64,
    /// Objects purged, hard or soft.
    pub purged: u64,
}

/// A place for objects. Futures are `Send` and hold no lock across a wait.
pub trait Store: Send + Sync + 'static {
    /// Reads a body.
    type Reader: Reader;
    /// Fills an object.
    type Writer: Writer<Reader = Self::Reader>;

    /// Looks a slot up; an object still being filled is found before the one it will replace.
    fn find(&self, slot: &Slot<'_>) -> impl Future<Output = Result<Option<Found<Self::Reader>>, StoreError>> + Send;
    /// Starts to fill a slot. Nothing replaces the old object until [`Writer::finish`].
    fn begin(&self, slot: &Slot<'_>, head: Head) -> impl Future<Output = Result<Self::Writer, StoreError>> + Send;
    /// A reader of the fill that [`Writer::id`] names, while it lasts.
    fn follow(
        &self,
        slot: &Slot<'_>,
        id: u64,
    ) -> impl Future<Output = Result<Option<Found<Self::Reader>>, StoreError>> + Send;
    /// Replaces header and times after a 304, keeping the body; `false` when the object is gone.
    fn refresh(&self, slot: &Slot<'_>, head: Head) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Purges; says how many objects it found. Fills in flight are let run but not kept.
    fn purge(&self, target: &Target<'_>, how: Purge) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// Figures.
    fn stats(&self) -> StoreStats;
}

/// A body being read. Futures may be dropped at any wait without losing bytes.
pub trait Reader: Send + Sync + 'static {
    /// The next piece, at most [`CHUNK_BYTES`] long; `None` at the end. A fill that was cut is an error, never an end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;
    /// Goes on reading at byte `start`, up to `end` (exclusive) or the end of the body.
    fn seek(&mut self, start: u64, end: Option<u64>) -> Result<(), StoreError>;
    /// Length of the whole body where it is known.
    fn length(&self) -> Option<u64>;
}

/// An object being filled. Dropped before [`Writer::finish`], it leaves nothing behind and its readers get an error.
pub trait Writer: Send + Sync + 'static {
    /// The matching reader.
    type Reader: Reader;
    /// Adds to the body; readers see it at once.
    fn write(&mut self, data: Bytes) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Ends the body and stores the object; says how many bytes are kept, 0 when the object is not.
    fn finish(self) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// Names this fill within its store.
    fn id(&self) -> u64;
}
