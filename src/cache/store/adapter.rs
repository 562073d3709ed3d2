//! Our stores in Pingora's form.

use super::{Head, Purge, Reader, Slot, Store, StoreError, Target, Writer};
use async_trait::async_trait;
use bytes::Bytes;
use pingora::{Error, ErrorType, Result};
use pingora_cache::eviction::CacheEntryKey;
use pingora_cache::key::{CacheHashKey, HashBinary};
use pingora_cache::storage::{HandleHit, HandleMiss, MissFinishType};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheKey, CacheMeta, HitHandler, MissHandler, PurgeOutcome, PurgeTarget, PurgeType, Storage};
use std::any::Any;

/// A [`Store`] as Pingora's `Storage`. Pingora wants it `&'static`: the one who opens stores leaks it, once per store.
/// No eviction manager goes with it: the store bounds itself.
pub struct Adapter<S> {
    store: S,
}

impl<S: Store> Adapter<S> {
    /// Wraps a store.
    pub fn new(store: S) -> Self {
        Adapter { store }
    }

    /// The store itself, for the fast path, purges and figures.
    pub fn store(&self) -> &S {
        &self.store
    }
}

fn slot(key: &CacheKey) -> Slot<'_> {
    Slot { hash: key.primary_bin(), variance: key.variance_bin(), key: key.primary_key() }
}

fn failed(e: StoreError) -> Box<Error> {
    let kind = match e {
        StoreError::Cut => ErrorType::ReadError,
        _ => ErrorType::InternalError,
    };
    Error::because(kind, e.as_str(), e)
}

impl<S: Store> Adapter<S> {
    async fn purge_hash(&self, hash: HashBinary, how: Purge) -> Result<bool> {
        let found = self.store.purge(&Target::Key(hash), how).await.map_err(failed)?;
        Ok(found > 0)
    }
}

#[async_trait]
impl<S: Store> Storage for Adapter<S> {
    async fn lookup(&'static self, key: &CacheKey, _: &SpanHandle) -> Result<Option<(CacheMeta, HitHandler)>> {
        let found = self.store.find(&slot(key)).await.map_err(failed)?;
        Ok(found.map(|f| (f.head.to_meta(f.primary), Hit::boxed(f.body))))
    }

    async fn lookup_streaming_write(
        &'static self,
        key: &CacheKey,
        tag: Option<&[u8]>,
        trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let Some(tag) = tag else { return self.lookup(key, trace).await };
        // Pingora panics on `None` here; an error only makes it go on without the cache.
        let lost = || failed(StoreError::Cut);
        let id = tag.try_into().map(u64::from_be_bytes).map_err(|_| lost())?;
        let found = self.store.follow(&slot(key), id).await.map_err(failed)?.ok_or_else(lost)?;
        Ok(Some((found.head.to_meta(found.primary), Hit::boxed(found.body))))
    }

    async fn get_miss_handler(&'static self, key: &CacheKey, meta: &CacheMeta, _: &SpanHandle) -> Result<MissHandler> {
        let writer = self.store.begin(&slot(key), Head::from_meta(meta)).await.map_err(failed)?;
        Ok(Box::new(Miss { tag: writer.id().to_be_bytes(), writer }))
    }

    async fn purge(&'static self, target: PurgeTarget<'_>, _: PurgeType, _: &SpanHandle) -> Result<PurgeOutcome> {
        // Entries carry no ids here, so an identified one is not ours.
        if matches!(target, PurgeTarget::Exact(CacheEntryKey::Identified { .. })) {
            return Ok(PurgeOutcome::NotFound);
        }
        let found = self.purge_hash(target.key().primary_bin(), Purge::Hard).await?;
        Ok(if found { PurgeOutcome::Purged(None) } else { PurgeOutcome::NotFound })
    }

    async fn expire(&'static self, target: PurgeTarget<'_>, _: &SpanHandle) -> Result<PurgeOutcome> {
        if matches!(target, PurgeTarget::Exact(CacheEntryKey::Identified { .. })) {
            return Ok(PurgeOutcome::NotFound);
        }
        let found = self.purge_hash(target.key().primary_bin(), Purge::Soft).await?;
        Ok(if found { PurgeOutcome::Expired } else { PurgeOutcome::NotFound })
    }

    async fn update_meta(&'static self, key: &CacheKey, meta: &CacheMeta, _: &SpanHandle) -> Result<bool> {
        self.store.refresh(&slot(key), Head::from_meta(meta)).await.map_err(failed)
    }

    fn support_streaming_partial_write(&self) -> bool {
        true
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

struct Hit<R> {
    reader: R,
}

impl<R: Reader> Hit<R> {
    fn boxed(reader: R) -> HitHandler {
        Box::new(Hit { reader })
    }
}

#[async_trait]
impl<R: Reader> HandleHit for Hit<R> {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        self.reader.next().await.map_err(failed)
    }

    async fn finish(self: Box<Self>, _: &'static (dyn Storage + Sync), _: &CacheKey, _: &SpanHandle) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        self.reader.seek(start as u64, end.map(|e| e as u64)).map_err(failed)
    }

    fn can_seek_multipart(&self) -> bool {
        true
    }

    fn seek_multipart(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        self.seek(start, end)
    }

    fn should_count_access(&self) -> bool {
        // The store counts for itself.
        false
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

struct Miss<W> {
    writer: W,
    tag: [u8; 8],
}

#[async_trait]
impl<W: Writer> HandleMiss for Miss<W> {
    async fn write_body(&mut self, data: Bytes, _eof: bool) -> Result<()> {
        // The end counts at `finish`, which Pingora calls right after: only then is the length known to be right.
        self.writer.write(data).await.map_err(failed)
    }

    async fn finish(self: Box<Self>) -> Result<MissFinishType> {
        let kept = self.writer.finish().await.map_err(failed)?;
        Ok(MissFinishType::Created(usize::try_from(kept).unwrap_or(usize::MAX)))
    }

    fn streaming_write_tag(&self) -> Option<&[u8]> {
        Some(&self.tag)
    }
}
