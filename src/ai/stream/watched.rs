//! A stream under the eyes of guards: what they hold back, let go and seal until the complete answer has been checked.

use super::{Open, Step, is_usage_only};
use crate::ai::guard::{Guarded, Held, Released, Shown, finishes};
use crate::ai::settle::Settle;
use bytes::{Bytes, BytesMut};
use serde_json::Value;
use std::sync::Arc;

/// What guards know of a stream.
pub struct Watched {
    pub(super) guarded: Arc<Guarded>,
    held: Held,
    /// What tells the client that the answer is complete, until the complete answer has been checked.
    pub(super) sealed: Option<BytesMut>,
}

impl Watched {
    /// Guards that look at an answer from its beginning.
    pub fn new(guarded: Arc<Guarded>) -> Watched {
        Watched { held: Held::new(guarded.clone()), guarded, sealed: None }
    }
}

impl Open {
    /// One event of the client's stream: recorded and sent, or left to the guards first.
    pub(super) fn pass(&mut self, chunk: Value, (raw, bytes): (Bytes, usize), out: &mut BytesMut) -> Step {
        let Some(watched) = &mut self.guard else {
            self.record(&chunk, bytes);
            if !(self.hide_usage && is_usage_only(&chunk)) {
                out.extend_from_slice(&raw);
            }
            return Step::Go;
        };
        match watched.held.push(chunk, raw) {
            Ok(released) => self.send(released, out),
            Err(denied) => Step::Deny(denied),
        }
    }

    /// Events that the guards let go.
    pub(super) fn send(&mut self, released: Vec<Released>, out: &mut BytesMut) -> Step {
        for Released { recorded, shown } in released {
            let bytes = match shown {
                Shown::AsItCame(raw) => raw,
                Shown::Changed(event) => self.client.wire().framed(&event).into(),
            };
            self.record(&recorded, bytes.len());
            let hidden = self.hide_usage && is_usage_only(&recorded);
            if let Some(watched) = &mut self.guard
                && watched.guarded.has_schema()
                && finishes(&recorded)
            {
                watched.sealed.get_or_insert_default();
            }
            if !hidden {
                self.sink(out).extend_from_slice(&bytes);
            }
        }
        Step::Go
    }

    /// Where bytes go: to the client, unless they must wait for the check of the complete answer.
    pub(super) fn sink<'a>(&'a mut self, out: &'a mut BytesMut) -> &'a mut BytesMut {
        self.guard.as_mut().and_then(|w| w.sealed.as_mut()).unwrap_or(out)
    }

    /// Nothing follows what the guards hold back.
    pub(super) fn flush(&mut self, out: &mut BytesMut) -> Step {
        match self.guard.as_mut().map(|w| w.held.finish()) {
            Some(Ok(released)) => self.send(released, out),
            Some(Err(denied)) => Step::Deny(denied),
            None => Step::Go,
        }
    }

    /// The last event; the mark of the end may be one with content.
    pub(super) fn last(&mut self, chunk: Value, raw: &Bytes, out: &mut BytesMut) -> Step {
        if self.guard.is_none() || chunk.is_null() {
            let step = self.flush(out);
            self.recorder.add(&chunk, 0);
            self.sink(out).extend_from_slice(raw);
            return step;
        }
        match self.pass(chunk, (raw.clone(), 0), out) {
            Step::Go => self.flush(out),
            end => end,
        }
    }

    /// What is left to settle; the record knows what the guards did.
    pub(super) fn told(self: Box<Self>) -> Settle {
        let Open { settle, guard, .. } = *self;
        if let Some(watched) = guard {
            settle.record.note(|c| c.guard = watched.guarded.report());
        }
        settle
    }
}
