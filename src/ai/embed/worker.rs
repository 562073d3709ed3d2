//! The thread that computes: takes what waits in a bounded queue, in batches of similar length.

use super::{EmbedError, unit};
use fastembed::TextEmbedding;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Instant;
use tokio::sync::oneshot;

/// Texts computed together. More adds waiting, not throughput, on a CPU.
const BATCH_MAX: usize = 8;
/// A text may be padded to at most this many times its length, because padding costs as much as text.
const PADDING_MAX: usize = 2;
/// Share of unknown tokens, in percent, from which a vector says nothing about the text.
const UNKNOWN_PERCENT_MAX: usize = 20;

type Answer = Result<Arc<[f32]>, EmbedError>;

/// One text that waits for its vector.
pub(super) struct Job {
    pub(super) text: String,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// The way into the queue; when the last one is dropped the thread ends.
pub(super) struct Queue {
    jobs: SyncSender<Job>,
}

impl Queue {
    /// Never waits: a full queue is an answer, too.
    pub(super) fn push(&self, job: Job) -> Result<(), EmbedError> {
        self.jobs.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) => EmbedError::Busy,
            TrySendError::Disconnected(_) => EmbedError::Failed("the embedding thread has ended".to_owned()),
        })
    }
}

/// Starts the thread that owns the model.
pub(super) fn start(model: Model, capacity: usize) -> Result<Queue, std::io::Error> {
    let (jobs, waiting) = sync_channel(capacity);
    std::thread::Builder::new().name("embed".to_owned()).spawn(move || run(model, &waiting))?;
    Ok(Queue { jobs })
}

fn run(mut model: Model, waiting: &Receiver<Job>) {
    while let Ok(first) = waiting.recv() {
        let jobs = std::iter::once(first).chain(waiting.try_iter().take(BATCH_MAX - 1));
        let mut counted: Vec<(usize, Job)> = jobs.filter_map(|job| model.admit(job)).collect();
        counted.sort_by_key(|(tokens, _)| *tokens);
        let mut rest = counted.as_mut_slice();
        while let Some((shortest, _)) = rest.first() {
            let widest = shortest * PADDING_MAX;
            let n = rest.partition_point(|(tokens, _)| *tokens <= widest).max(1);
            let (batch, later) = rest.split_at_mut(n.min(rest.len()));
            model.answer(batch);
            rest = later;
        }
    }
}

/// A loaded model with its bounds.
pub(super) struct Model {
    inner: TextEmbedding,
    max_tokens: usize,
    unknown_id: Option<u32>,
}

impl Model {
    pub(super) fn new(inner: TextEmbedding, max_tokens: usize) -> Self {
        let unknown_id = inner.tokenizer.token_to_id("[UNK]").or_else(|| inner.tokenizer.token_to_id("<unk>"));
        Model { inner, max_tokens, unknown_id }
    }

    /// Counts tokens; answers at once what is too late, too long or unreadable.
    fn admit(&self, job: Job) -> Option<(usize, Job)> {
        if Instant::now() >= job.deadline || job.answer.is_closed() {
            refuse(job, EmbedError::Timeout);
            return None;
        }
        match self.count(&job.text) {
            Ok(tokens) => Some((tokens, job)),
            Err(e) => {
                refuse(job, e);
                None
            }
        }
    }

    /// Tokens of the text, with the two that frame it.
    pub(super) fn count(&self, text: &str) -> Result<usize, EmbedError> {
        let encoding = self.inner.tokenizer.encode(text, true).map_err(|e| EmbedError::Failed(e.to_string()))?;
        let ids = encoding.get_ids();
        if !encoding.get_overflowing().is_empty() || ids.len() > self.max_tokens {
            return Err(EmbedError::TooLong { max: self.max_tokens });
        }
        let unknown = ids.iter().filter(|id| Some(**id) == self.unknown_id).count();
        if unknown * 100 > ids.len() * UNKNOWN_PERCENT_MAX {
            return Err(EmbedError::Unknown);
        }
        Ok(ids.len())
    }

    /// The vectors of some texts.
    pub(super) fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let vectors = self.inner.embed(texts, None).map_err(|e| EmbedError::Failed(e.to_string()))?;
        if vectors.len() == texts.len() {
            Ok(vectors)
        } else {
            Err(EmbedError::Failed(format!("{} vectors for {} texts", vectors.len(), texts.len())))
        }
    }

    fn answer(&mut self, batch: &mut [(usize, Job)]) {
        let texts: Vec<&str> = batch.iter().map(|(_, job)| job.text.as_str()).collect();
        let results: Vec<Answer> = match self.embed(&texts) {
            Ok(vectors) => vectors.into_iter().map(|v| unit(v).ok_or(EmbedError::Unknown)).collect(),
            Err(e) => batch.iter().map(|_| Err(e.clone())).collect(),
        };
        for ((_, job), result) in batch.iter_mut().zip(results) {
            // The sender is used up by sending, the job stays behind empty; a receiver that gave up is no fault.
            let (spent, _) = oneshot::channel();
            let _ = std::mem::replace(&mut job.answer, spent).send(result);
        }
    }
}

fn refuse(job: Job, why: EmbedError) {
    // A receiver that gave up is no fault.
    let _ = job.answer.send(Err(why));
}
