//! The semantic cache: an answer is reused for a prompt that asks the same in other words.
//!
//! It fails open: whatever goes wrong here, the prompt goes to the model. One similarity threshold decides, under
//! hard guards, within a partition that holds everything of the request except the compared text.

pub mod guard;
mod memo;
mod record;
mod stats;
pub mod text;

#[cfg(test)]
mod tests;

use crate::ai::embed::{EmbedError, Embedder};
use crate::ai::vector::{Delete, Found, Partition, Point, Search, VectorError, VectorStore};
use crate::base::clock::Clock;
use crate::base::ids;
use guard::{Guard, Marks};
use memo::Memo;
pub use record::StoredAnswer;
pub use stats::Stats;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// One prompt, looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Digest of everything in the request that must be equal: tenant, route, model, system prompt, tools, parameters.
    pub partition: Partition,
    /// Whose request it is: a digest in hex.
    pub tenant: String,
    /// The model asked for.
    pub model: String,
    /// The text compared: the last user turn.
    pub text: String,
    /// Least cosine that counts as the same question.
    pub threshold: f32,
    /// How long an answer to it may be reused.
    pub ttl: Duration,
}

/// What came of a look-up.
#[derive(Debug)]
pub enum Lookup {
    /// An answer.
    Hit(Hit),
    /// None; the ticket stores the model's answer without embedding the text again.
    Miss(Ticket),
    /// Not looked up, and not to be stored.
    Bypass(Bypass),
}

/// An answer found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The answer.
    pub answer: StoredAnswer,
    /// Cosine of the two prompts; 1 when they are the same text.
    pub score: f32,
    /// Time since the answer was made.
    pub age: Duration,
    /// Identity of the entry, for reports and deletion.
    pub id: String,
}

/// The right to store the answer to a prompt that was not found.
#[derive(Debug, Clone)]
pub struct Ticket {
    partition: Partition,
    tenant: String,
    model: String,
    text: String,
    vector: Arc<[f32]>,
    ttl: Duration,
    /// A candidate was near enough, but a guard refused it.
    pub vetoed: Option<Guard>,
    /// Best score among the candidates over the threshold, 0 when there was none.
    pub best: f32,
}

/// Why a prompt is not looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bypass {
    /// No text.
    TextEmpty,
    /// Too few words to stand alone.
    TextTooShort,
    /// More tokens than the model takes.
    TextTooLong,
    /// Outside the vocabulary of the embedding model.
    TextUnknown,
    /// The embedding queue is full.
    EmbedBusy,
    /// The embedder failed.
    EmbedFailed,
    /// The vector store failed, or is left alone after failures.
    StoreFailed,
    /// Embedding and searching took longer than allowed.
    OutOfTime,
}

impl Bypass {
    /// The one spelling for log, metric and header.
    pub fn as_str(self) -> &'static str {
        match self {
            Bypass::TextEmpty => "text_empty",
            Bypass::TextTooShort => "text_too_short",
            Bypass::TextTooLong => "text_too_long",
            Bypass::TextUnknown => "text_unknown",
            Bypass::EmbedBusy => "embed_busy",
            Bypass::EmbedFailed => "embed_failed",
            Bypass::StoreFailed => "store_failed",
            Bypass::OutOfTime => "out_of_time",
        }
    }

    /// Every reason, for metric registration.
    pub const ALL: [Bypass; 8] = [
        Bypass::TextEmpty,
        Bypass::TextTooShort,
        Bypass::TextTooLong,
        Bypass::TextUnknown,
        Bypass::EmbedBusy,
        Bypass::EmbedFailed,
        Bypass::StoreFailed,
        Bypass::OutOfTime,
    ];
}

impl From<&EmbedError> for Bypass {
    fn from(e: &EmbedError) -> Self {
        match e {
            EmbedError::TooLong { .. } => Bypass::TextTooLong,
            EmbedError::Unknown => Bypass::TextUnknown,
            EmbedError::Busy => Bypass::EmbedBusy,
            EmbedError::Timeout => Bypass::OutOfTime,
            EmbedError::Missing { .. } | EmbedError::Load { .. } | EmbedError::Failed(_) => Bypass::EmbedFailed,
        }
    }
}

/// How long the stages of a look-up took.
#[derive(Debug, Clone, Copy, Default)]
pub struct LookupTrace {
    /// Text to vector; zero when the vector was remembered.
    pub embed: Duration,
    /// The search in the store.
    pub search: Duration,
}

/// Bounds of the cache.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest look-up, embedding and search together.
    pub lookup: Duration,
    /// Candidates that the guards see.
    pub candidates_max: usize,
    /// Largest answer stored, in bytes.
    pub answer_bytes_max: usize,
    /// Vectors of recent texts kept in memory.
    pub vectors_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            lookup: Duration::from_millis(250),
            candidates_max: 8,
            answer_bytes_max: 256 << 10,
            vectors_max: 10_000,
        }
    }
}

/// The cache: an embedder, a store of that embedder's vectors, and the rules.
pub struct SemanticCache {
    memo: Memo,
    store: Arc<dyn VectorStore>,
    clock: Clock,
    limits: Limits,
    stats: stats::Counters,
}

impl SemanticCache {
    /// A cache. The store must hold vectors of this embedder only: see [`crate::ai::vector::collection_name`].
    pub fn new(embedder: Arc<dyn Embedder>, store: Arc<dyn VectorStore>, clock: Clock, limits: Limits) -> Self {
        let memo = Memo::new(embedder, limits.vectors_max);
        SemanticCache { memo, store, clock, limits, stats: stats::Counters::default() }
    }

    /// Looks for an answer.
    pub async fn lookup(&self, q: &Query) -> Lookup {
        self.lookup_traced(q).await.0
    }

    /// Looks for an answer and says how long the stages took.
    pub async fn lookup_traced(&self, q: &Query) -> (Lookup, LookupTrace) {
        let mut trace = LookupTrace::default();
        let within = tokio::time::timeout(self.limits.lookup, self.find(q, &mut trace)).await;
        let lookup = match within {
            Ok(Ok(lookup)) => lookup,
            Ok(Err(why)) => Lookup::Bypass(why),
            Err(_) => Lookup::Bypass(Bypass::OutOfTime),
        };
        self.stats.count(&lookup);
        (lookup, trace)
    }

    /// The right to store an answer without looking for an older one; storing replaces the entry of the same text.
    pub async fn ticket(&self, q: &Query) -> Result<Ticket, Bypass> {
        let made = match tokio::time::timeout(self.limits.lookup, self.embed(q)).await {
            Ok(Ok((text, vector))) => Ok(ticket(q, text, vector)),
            Ok(Err(why)) => Err(why),
            Err(_) => Err(Bypass::OutOfTime),
        };
        if let Err(why) = &made {
            self.stats.count(&Lookup::Bypass(*why));
        }
        made
    }

    /// The normalised text and its vector.
    async fn embed(&self, q: &Query) -> Result<(String, Arc<[f32]>), Bypass> {
        let text = text::normalise(&q.text)?;
        match self.memo.embed(&q.tenant, &text).await {
            Ok(vector) => Ok((text, vector)),
            Err(e) => {
                if let EmbedError::Failed(_) = &e {
                    tracing::warn!(error = %e, "semantic cache without vector");
                }
                Err(Bypass::from(&e))
            }
        }
    }

    async fn find(&self, q: &Query, trace: &mut LookupTrace) -> Result<Lookup, Bypass> {
        let started = Instant::now();
        let embedded = self.embed(q).await;
        trace.embed = started.elapsed();
        let (text, vector) = embedded?;
        let now_unix = self.clock.unix_secs();
        let search = Search {
            partition: q.partition,
            vector: vector.clone(),
            limit: self.limits.candidates_max,
            min_score: q.threshold,
            now_unix,
        };
        let started = Instant::now();
        let found = self.store.search(search).await;
        trace.search = started.elapsed();
        let found = found.map_err(|e| store_bypass(&e))?;
        Ok(self.choose(q, (text, vector), found))
    }

    /// The best candidate that no guard refuses.
    fn choose(&self, q: &Query, (text, vector): (String, Arc<[f32]>), found: Vec<Found>) -> Lookup {
        let marks = Marks::of(&text);
        let best = found.first().map_or(0.0, |f| f.score);
        let mut vetoed = None;
        for candidate in found {
            // What cannot be read was written by another version; it expires.
            let Some(record) = record::Record::read(&candidate.payload) else { continue };
            let same = record.text == text;
            if !same && let Some(guard) = guard::veto(&marks, &Marks::of(&record.text)) {
                vetoed.get_or_insert(guard);
                continue;
            }
            let age = self.clock.unix_secs().saturating_sub(candidate.created_unix);
            return Lookup::Hit(Hit {
                answer: record.answer,
                score: if same { 1.0 } else { candidate.score.min(1.0) },
                age: Duration::from_secs(age),
                id: candidate.id.to_string(),
            });
        }
        Lookup::Miss(Ticket { vetoed, best, ..ticket(q, text, vector) })
    }

    /// Stores the model's answer. Call it after the answer has been sent; failures are logged and counted.
    pub async fn store(&self, ticket: Ticket, answer: StoredAnswer) {
        if answer.body.len() > self.limits.answer_bytes_max {
            self.stats.not_stored();
            return;
        }
        let Some(payload) = record::write(&ticket.text, answer) else {
            self.stats.not_stored();
            return;
        };
        let created_unix = self.clock.unix_secs();
        let point = Point {
            id: entry_id(&ticket.partition, &ticket.text),
            partition: ticket.partition,
            tenant: ticket.tenant,
            model: ticket.model,
            created_unix,
            expires_unix: created_unix.saturating_add(ticket.ttl.as_secs()),
            vector: ticket.vector,
            payload,
        };
        match self.store.upsert(point).await {
            Ok(()) => self.stats.stored(),
            Err(error) => {
                self.stats.not_stored();
                tracing::debug!(%error, reason = error.as_str(), "answer not stored in the semantic cache");
            }
        }
    }

    /// Deletes entries and says how many there were.
    pub async fn purge(&self, what: Delete) -> Result<u64, VectorError> {
        self.store.delete(what).await
    }

    /// Deletes what has expired. Call it every few minutes: expired entries are never served but take space.
    pub async fn sweep(&self) -> Result<u64, VectorError> {
        self.store.delete(Delete::Expired(self.clock.unix_secs())).await
    }

    /// Makes everything stored so far durable.
    pub async fn flush(&self) -> Result<(), VectorError> {
        self.store.flush().await
    }

    /// What happened since the start.
    pub fn stats(&self) -> Stats {
        self.stats.snapshot()
    }

    /// Name and version of the embedding model.
    pub fn embedder_id(&self) -> &str {
        self.memo.embedder_id()
    }
}

fn ticket(q: &Query, text: String, vector: Arc<[f32]>) -> Ticket {
    Ticket {
        partition: q.partition,
        tenant: q.tenant.clone(),
        model: q.model.clone(),
        text,
        vector,
        ttl: q.ttl,
        vetoed: None,
        best: 0.0,
    }
}

/// The same text in the same partition replaces its entry instead of adding one (UUID version 8, RFC 9562 §5.8).
fn entry_id(partition: &Partition, text: &str) -> Uuid {
    let digest = ids::sha256_parts([partition.as_slice(), text.as_bytes()]);
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn store_bypass(e: &VectorError) -> Bypass {
    match e {
        VectorError::Timeout => Bypass::OutOfTime,
        _ => Bypass::StoreFailed,
    }
}
