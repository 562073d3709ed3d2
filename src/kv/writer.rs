//! The one thread that writes: it gathers what has changed and appends it in one go.

use super::file::{Journal, encode};
use super::{Cell, Table, WRITTEN_WITHIN};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long changes are gathered; the rest of [`WRITTEN_WITHIN`] is for the writing itself.
const GATHER: Duration = Duration::from_millis(10);
/// How long a disk that failed is left alone.
const RETRY_EVERY: Duration = Duration::from_secs(1);

const _: () = assert!(GATHER.as_millis() * 2 < WRITTEN_WITHIN.as_millis());

/// What the writer is told.
pub(super) enum Message {
    /// A cell has another value.
    Changed(Arc<Cell>),
    /// Tell when everything before is written.
    Flush(SyncSender<bool>),
    /// The same, then end.
    Close(SyncSender<bool>),
}

/// The thread's state.
pub(super) struct Writer {
    journal: Journal,
    /// The cells, for writing the file anew. Held weakly: the store is gone when nobody else holds it.
    table: Weak<Table>,
    failing: bool,
}

/// What one round gathered.
#[derive(Default)]
struct Round {
    rows: Vec<u8>,
    waiting: Vec<SyncSender<bool>>,
    closing: Option<SyncSender<bool>>,
    /// Somebody waits: nothing more is gathered.
    hurry: bool,
}

impl Round {
    fn take(&mut self, message: Message) {
        match message {
            Message::Changed(cell) => {
                // Cleared before the value is read: a change that comes in between is queued again.
                cell.queued.store(false, Ordering::Release);
                encode(&mut self.rows, &cell.name, cell.get());
            }
            Message::Flush(done) => self.waiting.push(done),
            Message::Close(done) => self.closing = Some(done),
        }
        self.hurry = self.closing.is_some() || !self.waiting.is_empty();
    }
}

impl Writer {
    pub(super) fn new(journal: Journal, table: Weak<Table>) -> Self {
        let writer = Writer { journal, table, failing: false };
        writer.tell();
        writer
    }

    /// Until the store is closed or dropped.
    pub(super) fn run(mut self, queue: &Receiver<Message>) {
        loop {
            let first = if self.failing {
                queue.recv_timeout(RETRY_EVERY)
            } else {
                queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            let mut round = Round::default();
            match first {
                Ok(message) => round.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if !round.hurry {
                std::thread::sleep(GATHER);
            }
            queue.try_iter().for_each(|m| round.take(m));
            let written = self.write(&round.rows);
            let fine = written.is_ok();
            self.report(written);
            // Whoever asked may have stopped waiting.
            for waiting in &round.waiting {
                let _ = waiting.try_send(fine);
            }
            if let Some(done) = round.closing {
                // The lock goes with the journal, before anybody is told.
                drop(self);
                let _ = done.try_send(fine);
                return;
            }
        }
    }

    fn write(&mut self, rows: &[u8]) -> io::Result<()> {
        let table = self.table.upgrade();
        let sync = table.as_ref().is_some_and(|t| t.health.sync.load(Ordering::Relaxed));
        let mut result = Ok(());
        if !rows.is_empty() && !self.failing {
            result = self.journal.append(rows, sync);
        }
        if let Some(table) = table.filter(|_| self.journal.wants_rewrite()) {
            let mut all = Vec::new();
            table.each(|name, value| encode(&mut all, name, value));
            return self.journal.rewrite(&all);
        }
        result
    }

    fn report(&mut self, result: io::Result<()>) {
        match result {
            Err(error) if !self.failing => {
                tracing::error!(%error, "counters cannot be written; they are kept in memory and tried again");
                self.failing = true;
            }
            Ok(()) if self.failing => {
                tracing::info!("counters are written again");
                self.failing = false;
            }
            _ => {}
        }
        self.tell();
    }

    fn tell(&self) {
        if let Some(table) = self.table.upgrade() {
            table.health.failing.store(self.failing, Ordering::Relaxed);
            table.health.bytes.store(self.journal.bytes(), Ordering::Relaxed);
        }
    }
}
