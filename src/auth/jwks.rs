//! An issuer's published keys: fetched in the background, rotated on demand, kept through an outage.

use super::Fault;
use super::keys::{self, KeySet};
use crate::base::clock::Clock;
use crate::base::url::{BaseUrl, UrlError};
use arc_swap::{ArcSwapOption, Guard};
use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

#[cfg(test)]
mod tests;

/// Between two fetches of a set that is well.
const REFRESH_EVERY: Duration = Duration::from_secs(600);
/// Between the starts of any two fetches, whatever asks for them.
const FETCH_GAP: Duration = Duration::from_secs(30);
/// How long keys are used after the last good fetch.
const STALE_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long one fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest document that is read.
pub const DOCUMENT_BYTES_MAX: usize = 256 << 10;

/// Where a key set comes from.
#[async_trait]
pub trait JwksSource: Send + Sync {
    /// The document, at most [`DOCUMENT_BYTES_MAX`] long, or why it could not be had (for the log).
    async fn fetch(&self) -> Result<Bytes, String>;
}

/// One key set and the task that keeps it fresh; dropping it stops the task.
pub struct Jwks {
    inner: Arc<Inner>,
    task: Mutex<Option<AbortHandle>>,
}

/// How a key set is doing, for `admin /status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksStatus {
    /// Usable keys; 0 before the first good fetch.
    pub keys: usize,
    /// Time since the last good fetch.
    pub age: Option<Duration>,
    /// Why the last fetch failed, if it did.
    pub last_error: Option<String>,
}

struct Inner {
    source: Arc<dyn JwksSource>,
    clock: Clock,
    held: ArcSwapOption<Held>,
    schedule: Mutex<Schedule>,
    wake: Notify,
    /// Whether the task lives: a runtime that is shut down, or a source that panics, takes it along.
    alive: AtomicBool,
    /// How many fetches have ended, well or not.
    ended: watch::Sender<u64>,
}

struct Held {
    set: Arc<KeySet>,
    document: [u8; 32],
    /// When it was last confirmed, on the clock's monotonic time.
    at: Duration,
}

#[derive(Default)]
struct Schedule {
    /// When the last fetch began.
    started: Option<Duration>,
    /// When the next one is due of itself.
    due: Duration,
    /// A token asked for fresher keys.
    wanted: bool,
    fetching: bool,
    last_error: Option<String>,
}

impl Schedule {
    /// When the next fetch begins.
    fn next(&self) -> Duration {
        let allowed = self.started.map_or(Duration::ZERO, |s| s + FETCH_GAP);
        if self.wanted { allowed } else { self.due.max(allowed) }
    }
}

impl Jwks {
    /// Starts fetching, when called within a tokio runtime; else the first token starts it.
    pub fn start(source: Arc<dyn JwksSource>, clock: Clock) -> Arc<Self> {
        let inner = Inner {
            source,
            clock,
            held: ArcSwapOption::empty(),
            schedule: Mutex::default(),
            wake: Notify::new(),
            alive: AtomicBool::new(false),
            ended: watch::Sender::new(0),
        };
        let jwks = Arc::new(Jwks { inner: Arc::new(inner), task: Mutex::new(None) });
        jwks.ensure_running();
        jwks
    }

    /// The keys, unless there never were any or the last good fetch is too long ago.
    pub(super) fn current(&self) -> Option<Arc<KeySet>> {
        if !self.inner.alive.load(Ordering::Relaxed) {
            self.ensure_running();
        }
        let held: Guard<Option<Arc<Held>>> = self.inner.held.load();
        let held = held.as_ref()?;
        let age = self.inner.clock.elapsed().saturating_sub(held.at);
        (age <= STALE_MAX).then(|| held.set.clone())
    }

    /// Asks for fresher keys. `Some` tells when the fetch that is under way or begins at once has ended; `None` when
    /// one may only begin later (it will: the wish is kept).
    pub(super) fn refresh(&self) -> Option<watch::Receiver<u64>> {
        self.ensure_running();
        // Subscribed first, so that no end is missed.
        let ended = self.inner.ended.subscribe();
        let now = self.inner.clock.elapsed();
        let mut schedule = self.inner.schedule();
        if schedule.fetching {
            return Some(ended);
        }
        let first_wish = !schedule.wanted;
        schedule.wanted = true;
        let at_once = schedule.next() <= now;
        drop(schedule);
        if first_wish || at_once {
            self.inner.wake.notify_one();
        }
        at_once.then_some(ended)
    }

    /// How the set is doing.
    pub fn status(&self) -> JwksStatus {
        let now = self.inner.clock.elapsed();
        let held = self.inner.held.load_full();
        JwksStatus {
            keys: held.as_ref().map_or(0, |h| h.set.len()),
            age: held.map(|h| now.saturating_sub(h.at)),
            last_error: self.inner.schedule().last_error.clone(),
        }
    }

    /// Starts the task if there is a runtime and no task lives.
    fn ensure_running(&self) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if self.inner.alive.load(Ordering::Acquire) {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // A fetch that died with its task is not under way.
            self.inner.schedule().fetching = false;
            self.inner.alive.store(true, Ordering::Release);
            *task = Some(runtime.spawn(run(Alive(self.inner.clone()))).abort_handle());
        }
    }
}

/// The task's hold on its state; tells when the task is gone, however it went.
struct Alive(Arc<Inner>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.store(false, Ordering::Release);
    }
}

impl Drop for Jwks {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// The single flight: only this task fetches.
async fn run(alive: Alive) {
    let inner = &alive.0;
    loop {
        let wait = inner.schedule().next().saturating_sub(inner.clock.elapsed());
        if wait.is_zero() {
            inner.fetch().await;
        } else {
            tokio::select! {
                () = inner.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

impl Inner {
    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self) {
        {
            let mut s = self.schedule();
            (s.started, s.wanted, s.fetching) = (Some(self.clock.elapsed()), false, true);
        }
        let outcome = match tokio::time::timeout(FETCH_TIMEOUT, self.source.fetch()).await {
            Ok(Ok(document)) => self.publish(&document),
            Ok(Err(cause)) => Err(cause),
            Err(_) => Err(format!("no answer within {FETCH_TIMEOUT:?}")),
        };
        self.note(outcome);
        self.ended.send_modify(|n| *n += 1);
    }

    /// Takes over a good document; a bad one changes nothing.
    fn publish(&self, document: &[u8]) -> Result<(), String> {
        if document.len() > DOCUMENT_BYTES_MAX {
            return Err(format!("the document is longer than {DOCUMENT_BYTES_MAX} bytes"));
        }
        let at = self.clock.elapsed();
        let digest: [u8; 32] = Sha256::digest(document).into();
        let old = self.held.load_full();
        let set = match &old {
            Some(old) if old.document == digest => old.set.clone(),
            _ => {
                let generation = old.as_ref().map_or(1, |o| o.set.generation + 1);
                Arc::new(KeySet::new(keys::from_jwks(document)?, generation))
            }
        };
        self.held.store(Some(Arc::new(Held { set, document: digest, at })));
        Ok(())
    }

    /// Sets the next date and logs a change between well and unwell once.
    fn note(&self, outcome: Result<(), String>) {
        let now = self.clock.elapsed();
        let mut s = self.schedule();
        s.fetching = false;
        match outcome {
            Ok(()) => {
                if s.last_error.take().is_some() {
                    tracing::info!("jwks fetched again");
                }
                s.due = now + jittered(REFRESH_EVERY);
            }
            Err(cause) => {
                if s.last_error.is_none() {
                    tracing::warn!(cause, "jwks not fetched, keys at hand stay in use");
                }
                s.last_error = Some(cause);
                s.due = now + jittered(FETCH_GAP + FETCH_GAP / 4);
            }
        }
    }
}

/// Give or take a tenth, so that a fleet started together does not fetch together.
fn jittered(d: Duration) -> Duration {
    let thousandth = u32::try_from(uuid::Uuid::new_v4().as_u128() % 200).unwrap_or(100);
    d * (900 + thousandth) / 1000
}

/// Key sets by address, so that a reload of the configuration goes on with the keys that are there.
#[derive(Default)]
pub struct JwksPool {
    open: Mutex<HashMap<String, Weak<Jwks>>>,
}

impl JwksPool {
    /// The set of `url`: the one in use, else a new one from `source`. The pool itself keeps nothing alive.
    pub fn get(&self, url: &str, clock: &Clock, source: impl FnOnce() -> Arc<dyn JwksSource>) -> Arc<Jwks> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jwks) = open.get(url).and_then(Weak::upgrade) {
            return jwks;
        }
        open.retain(|_, jwks| jwks.strong_count() > 0);
        let jwks = Jwks::start(source(), clock.clone());
        open.insert(url.to_owned(), Arc::downgrade(&jwks));
        jwks
    }
}

/// Splits the address of a key set into the host to ask and the path and query to ask it for.
pub fn split_url(url: &str) -> Result<(BaseUrl, String), UrlError> {
    let shape = || UrlError::Shape(url.to_owned());
    let uri: http::Uri = url.parse().map_err(|_| shape())?;
    let (scheme, authority) = (uri.scheme_str().ok_or_else(shape)?, uri.authority().ok_or_else(shape)?);
    let base = BaseUrl::parse(&format!("{scheme}://{authority}"))?;
    Ok((base, uri.path_and_query().map_or("/", |p| p.as_str()).to_owned()))
}

/// Keys that travel unprotected are anybody's keys.
pub(super) fn check_url(url: &str, allow_http: bool) -> Result<(), Fault> {
    let (base, _) = split_url(url).map_err(|e| Fault::Url(e.to_string()))?;
    let loopback = base.host == "localhost" || base.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if base.tls || loopback || allow_http {
        return Ok(());
    }
    Err(Fault::Url(format!("{url:?} is plain http: use https, or set jwks_allow_http: true on a network you trust")))
}
