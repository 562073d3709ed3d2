//! Vectors in this process, on the local disk (qdrant-edge). One thread writes; searches run beside it.

mod shard;

use super::{Delete, Found, Point, Search, VectorError, VectorStore};
use async_trait::async_trait;
use shard::{Place, Shard};
use std::fs::{File, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};

/// Changes that may wait for the writer.
const QUEUE_MAX: usize = 1024;
/// Points written in one go.
const BATCH_MAX: usize = 64;
/// Searches that may run at the same time; each holds a blocking thread.
const SEARCHES_MAX: usize = 64;
/// What was written is on disk after this long. The library does not replay its log, so this is what a crash may cost.
const FLUSH_AFTER: Duration = Duration::from_millis(500);
/// Size of one file of the log, and how many full ones may pile up before the shard is reopened to drop them.
const LOG_FILE_BYTES: usize = 16 << 20;
const LOG_FILES_MAX: usize = 8;
/// Space of deleted points is given back after so many deletions.
const VACUUM_AFTER: u64 = 10_000;
/// Pause between two tries to open the shard again after a try has failed.
const REOPEN_PAUSE: Duration = Duration::from_secs(2);

/// Where and how much.
#[derive(Debug, Clone)]
pub struct EdgeOptions {
    /// The folder for all embedding models; each gets one inside.
    pub path: PathBuf,
    /// Name of this model's folder; see [`super::collection_name`].
    pub collection: String,
    /// Length of the vectors.
    pub dim: usize,
    /// Most points kept; the oldest go first.
    pub entries_max: usize,
}

/// The store. Dropping it writes everything to disk and frees the folder.
pub struct EdgeStore {
    /// `None` while the writer reopens the shard or has failed to, and at the end.
    shard: Arc<RwLock<Option<Shard>>>,
    searches: Arc<Semaphore>,
    jobs: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
    dim: usize,
}

enum Job {
    Upsert(Point, oneshot::Sender<Result<(), VectorError>>),
    Delete(Delete, oneshot::Sender<Result<u64, VectorError>>),
    Count(oneshot::Sender<Result<u64, VectorError>>),
    Flush(oneshot::Sender<Result<(), VectorError>>),
}

impl EdgeStore {
    /// Opens the folder, or makes it. Blocks for up to a second: call it at start-up.
    pub fn open(options: &EdgeOptions) -> Result<Self, VectorError> {
        Self::open_with_log(options, LOG_FILE_BYTES)
    }

    fn open_with_log(options: &EdgeOptions, log_file_bytes: usize) -> Result<Self, VectorError> {
        let path = options.path.join(&options.collection);
        let unusable =
            |e: std::io::Error| VectorError::Config(format!("folder {} cannot be used: {e}", path.display()));
        std::fs::create_dir_all(&path).map_err(unusable)?;
        let lock = lock(&path)?;
        let place = Place { path: path.clone(), dim: options.dim, log_file_bytes };
        let shard = Shard::open(&place)?;
        let points = shard.count(None)?;
        tracing::info!(path = %path.display(), points, "vector store open");
        let shard = Arc::new(RwLock::new(Some(shard)));
        let (jobs, waiting) = sync_channel(QUEUE_MAX);
        let writer = Writer {
            shard: shard.clone(),
            place,
            points,
            entries_max: u64::try_from(options.entries_max.max(1)).unwrap_or(u64::MAX),
            deleted: 0,
            unflushed_since: None,
            failed_at: None,
            _lock: lock,
        };
        let writer = std::thread::Builder::new()
            .name("vectors".to_owned())
            .spawn(move || writer.run(&waiting))
            .map_err(unusable)?;
        let searches = Arc::new(Semaphore::new(SEARCHES_MAX));
        Ok(EdgeStore { shard, searches, jobs: Some(jobs), writer: Some(writer), dim: options.dim })
    }

    async fn order<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, VectorError>>) -> Job,
    ) -> Result<T, VectorError> {
        let (answer, result) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(writer_gone)?;
        jobs.try_send(job(answer)).map_err(|e| match e {
            TrySendError::Full(_) => VectorError::Busy,
            TrySendError::Disconnected(_) => writer_gone(),
        })?;
        result.await.unwrap_or_else(|_| Err(writer_gone()))
    }
}

impl Drop for EdgeStore {
    fn drop(&mut self) {
        // The writer ends when nobody can send to it any more; waiting for it makes the folder free to open again.
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl VectorStore for EdgeStore {
    async fn search(&self, search: Search) -> Result<Vec<Found>, VectorError> {
        if search.vector.len() != self.dim {
            return Err(VectorError::Dimension { got: search.vector.len(), want: self.dim });
        }
        let permit = self.searches.clone().try_acquire_owned().map_err(|_| VectorError::Busy)?;
        let shard = self.shard.clone();
        let work = move || {
            let _permit = permit;
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.as_ref().ok_or_else(writer_gone)?.search(&search)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|e| Err(VectorError::Failed(format!("search: {e}"))))
    }

    async fn upsert(&self, point: Point) -> Result<(), VectorError> {
        if point.vector.len() != self.dim {
            return Err(VectorError::Dimension { got: point.vector.len(), want: self.dim });
        }
        self.order(|answer| Job::Upsert(point, answer)).await
    }

    async fn delete(&self, what: Delete) -> Result<u64, VectorError> {
        self.order(|answer| Job::Delete(what, answer)).await
    }

    async fn count(&self) -> Result<u64, VectorError> {
        self.order(Job::Count).await
    }

    async fn flush(&self) -> Result<(), VectorError> {
        self.order(Job::Flush).await
    }
}

/// The thread that changes the shard. All changes and flushes pass through it because the library panics when a
/// flush meets a change.
struct Writer {
    shard: Arc<RwLock<Option<Shard>>>,
    place: Place,
    points: u64,
    entries_max: u64,
    /// Points deleted since the last vacuum.
    deleted: u64,
    unflushed_since: Option<Instant>,
    /// When the shard could last not be reopened.
    failed_at: Option<Instant>,
    /// Held for as long as the thread runs.
    _lock: File,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Job>) {
        loop {
            self.revive();
            let patience = self.unflushed_since.map_or(FLUSH_AFTER, |t| FLUSH_AFTER.saturating_sub(t.elapsed()));
            match waiting.recv_timeout(patience) {
                Ok(job) => self.work(job, waiting),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.unflushed_since.is_some_and(|t| t.elapsed() >= FLUSH_AFTER) {
                self.keep_house();
            }
        }
        let last = self.shard.write().unwrap_or_else(PoisonError::into_inner).take();
        // Dropping the shard flushes it, and panics where the disk is full; the thread ends here anyway.
        if catch_unwind(AssertUnwindSafe(|| drop(last))).is_err() {
            tracing::error!(path = %self.place.path.display(), "vectors could not be written at shutdown");
        }
    }

    fn work(&mut self, first: Job, waiting: &Receiver<Job>) {
        let mut points = Vec::new();
        let mut answers = Vec::new();
        for job in std::iter::once(first).chain(waiting.try_iter().take(BATCH_MAX - 1)) {
            if let Job::Upsert(point, answer) = job {
                points.push(point);
                answers.push(answer);
                continue;
            }
            // Order is kept: what came before a deletion is written before it.
            self.upsert(&mut points, &mut answers);
            self.other(job);
        }
        self.upsert(&mut points, &mut answers);
    }

    fn upsert(&mut self, points: &mut Vec<Point>, answers: &mut Vec<oneshot::Sender<Result<(), VectorError>>>) {
        if points.is_empty() {
            return;
        }
        let result = self.with(|shard| shard.upsert(points));
        self.changed();
        if result.is_ok() {
            // Replaced points are counted twice here; trimming counts exactly before it removes anything.
            self.points = self.points.saturating_add(u64::try_from(points.len()).unwrap_or(u64::MAX));
            self.trim();
        }
        points.clear();
        for answer in answers.drain(..) {
            // Whoever asked may be gone.
            let _ = answer.send(result.clone());
        }
    }

    fn other(&mut self, job: Job) {
        // In each case whoever asked may be gone.
        match job {
            Job::Upsert(..) => {}
            Job::Delete(what, answer) => {
                let result = self.with(|shard| shard.delete(&what));
                if let Ok(many) = &result {
                    self.points = self.points.saturating_sub(*many);
                    self.deleted = self.deleted.saturating_add(*many);
                }
                self.changed();
                let _ = answer.send(result);
            }
            Job::Count(answer) => {
                let _ = answer.send(self.with(|shard| shard.count(None)));
            }
            Job::Flush(answer) => {
                let result = self.with(Shard::flush);
                self.unflushed_since = None;
                let _ = answer.send(result);
            }
        }
    }

    /// Over the limit: the oldest go, one percent at a time so that it is not done at each write.
    fn trim(&mut self) {
        if self.points <= self.entries_max {
            return;
        }
        match self.with(|shard| shard.count(None)) {
            Ok(exact) => self.points = exact,
            Err(error) => tracing::warn!(%error, "vectors could not be counted"),
        }
        if self.points <= self.entries_max {
            return;
        }
        let excess = (self.points - self.entries_max).saturating_add(self.entries_max / 100);
        let many = usize::try_from(excess).unwrap_or(usize::MAX);
        match self.with(|shard| shard.delete_oldest(many)) {
            Ok(()) => {
                self.points = self.points.saturating_sub(excess);
                self.deleted = self.deleted.saturating_add(excess);
            }
            Err(error) => tracing::warn!(%error, "oldest vectors could not be removed"),
        }
    }

    fn changed(&mut self) {
        self.unflushed_since.get_or_insert_with(Instant::now);
    }

    /// What is due from time to time: flush, give back space, shorten the log.
    fn keep_house(&mut self) {
        self.unflushed_since = None;
        if let Err(error) = self.with(Shard::flush) {
            tracing::error!(%error, "vectors are not on disk");
        }
        if self.deleted >= VACUUM_AFTER {
            self.deleted = 0;
            if let Err(error) = self.with(Shard::vacuum) {
                tracing::warn!(%error, "space of deleted vectors was not given back");
            }
        }
        if self.with(|shard| Ok(shard.log_is_long(LOG_FILES_MAX))).unwrap_or(false) {
            self.reopen();
        }
    }

    /// Opens a shard that is closed because it could not be reopened, a pause after the last try. It does not take a
    /// change to get here: searches fail meanwhile, and who finds nothing may not store anything either.
    fn revive(&mut self) {
        let closed = self.shard.read().unwrap_or_else(PoisonError::into_inner).is_none();
        if closed && self.failed_at.is_none_or(|t| t.elapsed() >= REOPEN_PAUSE) {
            self.reopen();
        }
    }

    /// Closes and opens the shard, which shortens the log. Searches wait a moment; they have a time limit.
    fn reopen(&mut self) {
        let mut slot = self.shard.write().unwrap_or_else(PoisonError::into_inner);
        let old = slot.take();
        let closed = catch_unwind(AssertUnwindSafe(|| drop(old)));
        match Shard::open(&self.place) {
            Ok(shard) => {
                if self.failed_at.take().is_some() {
                    tracing::info!(path = %self.place.path.display(), "vector store open again");
                }
                *slot = Some(shard);
            }
            Err(error) => {
                self.failed_at = Some(Instant::now());
                tracing::error!(%error, clean = closed.is_ok(), "vector store could not be reopened");
            }
        }
    }

    fn with<T>(&self, f: impl FnOnce(&Shard) -> Result<T, VectorError>) -> Result<T, VectorError> {
        let shard = self.shard.read().unwrap_or_else(PoisonError::into_inner);
        let shard = shard.as_ref().ok_or_else(writer_gone)?;
        catch_unwind(AssertUnwindSafe(|| f(shard)))
            .unwrap_or_else(|_| Err(VectorError::Failed("the vector library panicked".to_owned())))
    }
}

/// Keeps two processes from writing into one folder; the system frees it however the process ends.
fn lock(path: &Path) -> Result<File, VectorError> {
    let name = path.join(".lock");
    let unusable = |e: std::io::Error| VectorError::Config(format!("{}: {e}", name.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(VectorError::Locked { path: path.display().to_string() }),
        Err(TryLockError::Error(e)) => Err(unusable(e)),
    }
}

fn writer_gone() -> VectorError {
    VectorError::Failed("the store is closed".to_owned())
}

#[cfg(test)]
mod tests;
