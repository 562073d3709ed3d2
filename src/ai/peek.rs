//! The beginning of a stream: what comes before the client has anything of it. An error in it is a failure like any
//! other, and the next model can still be asked.

use super::catalog::Peer;
use super::dialect::{Reader, Seen};
use super::provider::{Asking, Live};
use super::sse::Frame;
use super::verdict::{Failure, broken, error_in_success, garbage};
use crate::config::ai::{Hold, Streaming};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

/// Events without content held back at most while waiting for the first one with some.
const EMPTY_FRAMES_MAX: usize = 8;
/// Bytes held back at most, however long a stream is to be held.
const HELD_BYTES_MAX: usize = 1 << 20;

/// A stream whose beginning is being looked at. Dropped before it is over, it notes what the provider has counted until
/// then: nobody gets the answer, but it is billed.
struct Peek<'a> {
    peer: Peer<'a>,
    asking: &'a Asking<'a>,
    frames: Vec<Frame>,
    bytes: usize,
    /// When the first content came.
    begun: Option<Instant>,
    /// When the last event came that was no sign of life alone.
    event: Instant,
    /// The provider's answer is over.
    ended: bool,
    /// Nothing is to be noted: the stream goes on, or the provider failed before it had said anything.
    over: bool,
}

/// Reads until the first content has come, and for as long after it as the stream is to be held.
pub(super) async fn open<'a>(peer: Peer<'a>, asking: &'a Asking<'a>, mut live: Live) -> Result<Live, Failure> {
    let (event, frames) = (Instant::now(), Vec::new());
    let mut peek = Peek { peer, asking, frames, bytes: 0, begun: None, event, ended: false, over: false };
    while peek.waits() {
        let read = timeout_at(peek.until(), live.frames()).await;
        let taken = match read {
            Err(_) if peek.begun.is_some() => break,
            Err(_) => Err(broken(peer.model, "idle_timeout")),
            Ok(Err(reason)) => Err(broken(peer.model, reason)),
            // Some servers leave out the mark of the end.
            Ok(Ok(None)) if peek.reader().is_some_and(|r| r.may_end()) => break,
            Ok(Ok(None)) => Err(broken(peer.model, "cut")),
            Ok(Ok(Some(frames))) => peek.take(frames),
        };
        if let Err(failure) = taken {
            peek.over = peek.begun.is_none();
            return Err(failure);
        }
    }
    peek.over = true;
    live.peeked = std::mem::take(&mut peek.frames);
    Ok(live)
}

impl Peek<'_> {
    fn watch(&self) -> &Streaming {
        &self.asking.watch
    }

    /// Whether more is to be read before the client gets anything.
    fn waits(&self) -> bool {
        if self.begun.is_none() {
            return self.frames.len() < EMPTY_FRAMES_MAX;
        }
        let wanted = match self.watch().hold {
            Hold::Time(time) => !time.0.is_zero(),
            Hold::Bytes(bytes) => self.bytes < bytes.as_usize(),
        };
        wanted && !self.ended && self.bytes < HELD_BYTES_MAX
    }

    /// How long to wait for the next event.
    fn until(&self) -> Instant {
        match (self.begun, self.watch().hold) {
            (Some(begun), Hold::Time(time)) => begun + time.0,
            _ => self.event + self.watch().idle.0,
        }
    }

    fn take(&mut self, frames: Vec<Frame>) -> Result<(), Failure> {
        let mut fault = Ok(());
        for frame in &frames {
            self.bytes += frame.raw.len();
            if fault.is_ok() && !self.ended {
                fault = self.look(frame);
            }
        }
        self.frames.extend(frames);
        // What comes right after the first content is the running stream's business, unless it is to be held.
        match fault {
            Err(_) if self.begun.is_some() && !self.waits() => Ok(()),
            fault => fault,
        }
    }

    /// An error, a malformed event or an empty stream is a failure.
    fn look(&mut self, frame: &Frame) -> Result<(), Failure> {
        let (model, wire) = (self.peer.model, self.peer.dialect.wire());
        let now = Instant::now();
        match wire.look(frame) {
            Seen::Blank => return Ok(()),
            Seen::Data(chunk) if is_ping(&chunk) => return Ok(()),
            Seen::Data(chunk) => {
                if self.begun.is_none() && wire.begins(&chunk) {
                    self.begun = Some(now);
                }
            }
            Seen::End(_) if self.begun.is_some() => self.ended = true,
            // One event that is all of the answer.
            Seen::End(chunk) if wire.begins(&chunk) => (self.begun, self.ended) = (Some(now), true),
            Seen::End(_) => return Err(garbage(model, "an empty stream")),
            Seen::Error(chunk) => return Err(error_in_success(self.peer, &chunk)),
            Seen::Garbage => return Err(garbage(model, "an event that is not JSON")),
        }
        self.event = now;
        Ok(())
    }

    /// How far the stream has come; `None` when it makes no sense.
    fn reader(&self) -> Option<Box<dyn Reader>> {
        let (wire, mut events) = (self.peer.dialect.wire(), Vec::new());
        let mut reader = wire.reader();
        for frame in &self.frames {
            if let Seen::Data(chunk) = wire.look(frame) {
                reader.read(&chunk, &mut events).ok()?;
            }
        }
        Some(reader)
    }
}

impl Drop for Peek<'_> {
    fn drop(&mut self) {
        if !self.over {
            let usage = self.reader().and_then(|r| r.progress().usage);
            self.asking.record.lose(self.peer.model, usage);
        }
    }
}

/// Whether an event says nothing but that somebody is there.
pub(super) fn is_ping(chunk: &Value) -> bool {
    chunk.get("type").and_then(Value::as_str) == Some("ping")
}
