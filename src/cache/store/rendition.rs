//! The coded forms of a stored body: made from it once, kept with it, gone with it. A refresh keeps the body, and so
//! keeps them.

use super::Head;
use crate::base::coding::Coding;
use bytes::Bytes;
use pingora::http::ResponseHeader;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use tokio::sync::Mutex;

/// A body in one coding.
#[derive(Debug)]
pub struct Rendition {
    chunks: Box<[Bytes]>,
    bytes: u64,
}

impl Rendition {
    /// From the pieces that an encoder gave, packed as bodies are.
    pub fn new(pieces: &[Bytes]) -> Self {
        let (mut chunks, rest) = super::fill::pack(pieces);
        chunks.extend(rest);
        let bytes = chunks.iter().map(|c| c.len() as u64).sum();
        Rendition { chunks: chunks.into(), bytes }
    }

    /// The coded body, in pieces of [`super::CHUNK_BYTES`] but for the last.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// Its length.
    pub fn body_bytes(&self) -> u64 {
        self.bytes
    }
}

/// The coded forms of one body. Each is made at most once; what saves nothing is remembered as such.
#[derive(Debug, Default)]
pub struct Renditions {
    made: [OnceLock<Option<Arc<Rendition>>>; Coding::ALL.len()],
    making: Mutex<()>,
}

/// The struct, its slices and the reference counts, in bytes.
const RENDITION_OVERHEAD_BYTES: u64 = 256;

impl Renditions {
    /// The body in this coding: `None` when it has not been made, `Some(None)` when it is not worth having.
    pub fn get(&self, coding: Coding) -> Option<Option<&Arc<Rendition>>> {
        self.made.get(coding.index())?.get().map(Option::as_ref)
    }

    /// Makes a form unless it is there: one at a time for each body, so that many who want the same make it once. `make`
    /// gives `Ok(None)` for a form that is not worth having, `Err` where another try may do better. True when it was made
    /// just now, and so is not on the store's count.
    pub async fn make<M, E>(&self, coding: Coding, make: impl FnOnce() -> M) -> Result<bool, E>
    where
        M: Future<Output = Result<Option<Rendition>, E>>,
    {
        let _alone = self.making.lock().await;
        let Some(place) = self.made.get(coding.index()).filter(|p| p.get().is_none()) else { return Ok(false) };
        let made = make().await?;
        Ok(place.set(made.map(Arc::new)).is_ok())
    }

    /// Bytes of memory that they take, each with a header of its own.
    pub(super) fn cost(&self, head: &Head) -> u64 {
        let made = self.made.iter().filter_map(OnceLock::get).flatten();
        made.map(|r| r.bytes + head.cost() + RENDITION_OVERHEAD_BYTES).sum()
    }
}

/// The coded forms' headers, made of the plain one when each is first asked for.
#[derive(Debug, Default)]
pub(super) struct Headers([OnceLock<Box<ResponseHeader>>; Coding::ALL.len()]);

impl Headers {
    /// A copy of the header for this coding.
    pub fn get_or_make(&self, coding: Coding, make: impl FnOnce() -> ResponseHeader) -> ResponseHeader {
        match self.0.get(coding.index()) {
            Some(place) => (**place.get_or_init(|| Box::new(make()))).clone(),
            None => make(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{head, key, put, slot};
    use super::super::memory::{Limits, MemoryStore};
    use super::super::{Purge, Store, Target};
    use super::*;
    use crate::base::clock::Clock;
    use crate::cache::key::Key;
    use http::HeaderMap;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::SystemTime;

    async fn held() -> (MemoryStore, Key) {
        let limits = Limits { capacity_bytes: 1 << 20, object_bytes_max: 1 << 20 };
        let store = MemoryStore::new(limits, Clock::system());
        let key = key("a.test", "/", None);
        put(&store, &slot(&key, None), &[b'x'; 10_000]).await;
        (store, key)
    }

    fn look(store: &MemoryStore, key: &Key) -> Option<Arc<super::super::Object>> {
        store.peek_fresh(key, &HeaderMap::new(), SystemTime::now())
    }

    async fn made(renditions: &Renditions, coding: Coding, bytes: usize) -> bool {
        let form = Rendition::new(&[Bytes::from(vec![b'z'; bytes])]);
        renditions.make(coding, async || Ok::<_, ()>(Some(form))).await.unwrap()
    }

    #[tokio::test]
    async fn a_form_is_made_once_and_a_failure_is_tried_again() {
        let renditions = Renditions::default();
        let failed: Result<bool, &str> = renditions.make(Coding::Br, async || Err("busy")).await;
        assert_eq!((failed, renditions.get(Coding::Br).is_none()), (Err("busy"), true));
        let calls = AtomicUsize::new(0);
        let one = || {
            renditions.make(Coding::Br, async || {
                calls.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok::<_, ()>(None)
            })
        };
        assert_eq!(tokio::join!(one(), one(), one()), (Ok(true), Ok(false), Ok(false)));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert!(matches!(renditions.get(Coding::Br), Some(None)), "not worth having, and known to be");
        assert!(renditions.get(Coding::Gzip).is_none());
    }

    #[tokio::test]
    async fn forms_are_counted_survive_a_refresh_and_go_with_the_object() {
        let (store, key) = held().await;
        let object = look(&store, &key).unwrap();
        let plain = store.stats().bytes;
        assert!(made(object.renditions(), Coding::Gzip, 4_000).await && store.weigh(&key, &object));
        let with_one = store.stats().bytes;
        assert!(with_one >= plain + 4_000);
        // The object of before the refresh gets another form: the one of after it has it too, counted once.
        assert!(store.refresh(&slot(&key, None), head(&[])).await.unwrap());
        assert!(made(object.renditions(), Coding::Br, 3_000).await && store.weigh(&key, &object));
        assert!(store.weigh(&key, &object), "weighing again changes nothing");
        let now = look(&store, &key).unwrap();
        assert!(!Arc::ptr_eq(&now, &object));
        assert_eq!(now.rendition(Coding::Br).map(|r| r.body_bytes()), Some(3_000));
        assert!((with_one + 3_000..with_one + 3_000 + 2_000).contains(&store.stats().bytes));
        // A purge that looked the object up before it was weighed still finds it.
        store.purge(&Target::Url(*key.hash(), key.url_bytes()), Purge::Hard).await.unwrap();
        assert_eq!((store.stats().bytes, look(&store, &key).is_none()), (0, true));
        assert!(made(object.renditions(), Coding::Zstd, 2_000).await);
        assert!(!store.weigh(&key, &object), "nobody counts what nobody finds");
        assert_eq!(store.stats().bytes, 0);
    }

    #[tokio::test]
    async fn a_soft_purge_keeps_the_forms() {
        let (store, key) = held().await;
        let object = look(&store, &key).unwrap();
        assert!(made(object.renditions(), Coding::Gzip, 4_000).await && store.weigh(&key, &object));
        let bytes = store.stats().bytes;
        store.purge(&Target::Url(*key.hash(), key.url_bytes()), Purge::Soft).await.unwrap();
        assert!(look(&store, &key).is_none());
        assert_eq!(store.stats().bytes, bytes);
        assert!(store.refresh(&slot(&key, None), head(&[])).await.unwrap());
        assert!(look(&store, &key).unwrap().rendition(Coding::Gzip).is_some());
    }

    #[tokio::test]
    async fn the_coded_header_is_made_once_for_each_header() {
        let (store, key) = held().await;
        let object = look(&store, &key).unwrap();
        let calls = AtomicUsize::new(0);
        let ask = |object: &super::super::Object| {
            let head = object.coded_response(Coding::Gzip, SystemTime::now(), |h| {
                calls.fetch_add(1, Ordering::Relaxed);
                h.insert_header("x-coded", "1").unwrap();
            });
            assert!(head.headers.contains_key("age") && head.headers.contains_key("x-coded"));
            head.headers.contains_key("x-new")
        };
        assert!(!ask(&object) && !ask(&object));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        store.refresh(&slot(&key, None), head(&[("x-new", "1")])).await.unwrap();
        assert!(ask(&look(&store, &key).unwrap()));
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}
