//! A provider's stream on its way to the client: frame by frame as it comes, recorded on the side, and never given a
//! clean end that it did not have.

mod times;
mod watched;

use super::dialect::chat::{Event, Fault};
use super::dialect::{Dialect, Garbage, Reader, Record, Seen, Wanted, Writer};
use super::guard::{Denied, Guarded};
use super::peek::is_ping;
use super::provider::{ANSWER_BYTES_MAX, Live};
use super::settle::Settle;
use super::sse::Frame;
use super::usage::Usage;
use super::verdict::{PROVIDER_AUTH, about_credentials, has_message, status_of};
use crate::base::reply::{Broken, Chunks};
use crate::config::ai::Streaming;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use serde_json::Value;
use std::sync::Arc;
use times::Times;
use tokio::time::{Instant, timeout_at};
use watched::Watched;

/// The longest stream that is passed on; at ordinary chunk sizes this is several hundred thousand tokens.
const STREAM_BYTES_MAX: usize = 256 << 20;

/// How a stream is looked at on its way.
pub struct Sight {
    /// How the client wants it.
    pub wanted: Wanted,
    /// When it is given up.
    pub watch: Streaming,
    /// The guards that look at it.
    pub guarded: Option<Arc<Guarded>>,
}

/// The body of a streamed answer. Dropping it closes the provider's connection.
pub struct LiveStream {
    state: State,
}

enum State {
    /// Frames are coming.
    Open(Box<Open>),
    /// The error event has been sent; the body ends broken.
    Broken(&'static str),
    /// Nothing more comes.
    Ended,
}

struct Open {
    live: Live,
    /// Of what the client is sent, whoever worded it.
    recorder: Box<dyn Record>,
    settle: Settle,
    provider: Dialect,
    client: Dialect,
    /// Between two dialects; within one, frames pass as they came.
    bridge: Option<Bridge>,
    /// The client did not ask for the usage chunk that the gateway asked for.
    hide_usage: bool,
    bytes: usize,
    /// Events with something of the answer: about as many as it has tokens.
    events: u64,
    times: Times,
    guard: Option<Watched>,
}

/// From a provider's dialect to a client's. It holds no more of the stream than its state.
struct Bridge {
    reader: Box<dyn Reader>,
    writer: Box<dyn Writer>,
}

/// What a frame means for the stream.
enum Step {
    Go,
    /// Nothing came for so long that the client is to have a sign of life.
    Ping,
    Done,
    /// It broke; whether the client still needs to be told by an event.
    Fail(&'static str, bool),
    /// A guard withholds the rest.
    Deny(Denied),
}

impl LiveStream {
    /// A stream that has begun, of a provider of this dialect.
    pub fn new(live: Live, settle: Settle, provider: Dialect, sight: Sight) -> Self {
        let Sight { wanted, watch, guarded } = sight;
        let client = settle.dialect;
        let recorder = client.wire().recorder(ANSWER_BYTES_MAX);
        let bridge = (provider != client).then(|| {
            let (reader, writer) = (provider.wire().reader(), client.wire().writer(wanted));
            Bridge { reader, writer }
        });
        settle.hands_over();
        let hide_usage = client.asks_for_usage() && !wanted.usage;
        let times = Times::new(watch, settle.model.provider.endpoint.between_bytes);
        let guard = guarded.filter(|g| g.watches_answers()).map(Watched::new);
        let (bytes, events) = (0, 0);
        let open = Open { live, recorder, settle, provider, client, bridge, hide_usage, bytes, events, times, guard };
        LiveStream { state: State::Open(Box::new(open)) }
    }
}

#[async_trait]
impl Chunks for LiveStream {
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        if let State::Open(open) = &mut self.state {
            open.times.back();
        }
        loop {
            let open = match &mut self.state {
                State::Open(open) => open,
                State::Broken(reason) => {
                    let broken = Broken(format!("the provider's stream broke: {reason}"));
                    self.state = State::Ended;
                    return Some(Err(broken));
                }
                State::Ended => return None,
            };
            let mut out = BytesMut::new();
            open.settle.asks();
            match open.step(&mut out).await {
                Step::Go => {}
                Step::Ping => out.extend_from_slice(open.client.wire().ping().as_bytes()),
                Step::Done => self.complete(&mut out),
                Step::Fail(reason, tell) => self.fail(reason, tell, &mut out),
                Step::Deny(denied) => self.deny(&denied, &mut out),
            }
            if !out.is_empty() {
                if let State::Open(open) = &mut self.state {
                    open.settle.hands_over();
                    open.times.handed = Instant::now();
                }
                return Some(Ok(out.freeze()));
            }
        }
    }
}

impl LiveStream {
    fn complete(&mut self, out: &mut BytesMut) {
        let State::Open(open) = std::mem::replace(&mut self.state, State::Ended) else { return };
        let (usage, client, number) = (open.usage(), open.client, open.recorder.next_number());
        let Open { live, recorder, settle, bridge, guard, events, .. } = *open;
        live.drain();
        if let Some(bridge) = &bridge {
            settle.record.note(|c| c.dropped.extend(&bridge.reader.progress().dropped));
        }
        let answer = recorder.answer();
        if let Some(Watched { guarded, sealed, .. }) = guard {
            let checked = guarded.checked(answer.as_ref());
            settle.record.note(|c| c.guard = guarded.report());
            if let Err(denied) = checked {
                self.state = State::Broken(denied.reason);
                settle.fail(denied.reason, (usage, events));
                return tell(client, number, withheld(client, &denied), out);
            }
            out.extend_from_slice(&sealed.unwrap_or_default());
        }
        let body = answer.as_ref().and_then(|a| serde_json::to_vec(a).ok());
        settle.complete(usage, answer.as_ref().zip(body.map(Bytes::from)));
    }

    fn fail(&mut self, reason: &'static str, tell: bool, out: &mut BytesMut) {
        if let State::Open(open) = std::mem::replace(&mut self.state, State::Broken(reason)) {
            if tell {
                let message = format!("the provider's stream broke before the answer was complete: {reason}");
                let error = open.client.own_error(StatusCode::BAD_GATEWAY, &message, "provider_stream_broken");
                open.tell_error(error, out);
            }
            let seen = (open.usage(), open.events);
            open.told().fail(reason, seen);
        }
    }

    /// Ends with an error event in which a guard says why; what it held back stays here.
    fn deny(&mut self, denied: &Denied, out: &mut BytesMut) {
        if let State::Open(open) = std::mem::replace(&mut self.state, State::Broken(denied.reason)) {
            open.tell_error(withheld(open.client, denied), out);
            let seen = (open.usage(), open.events);
            open.told().fail(denied.reason, seen);
        }
    }
}

fn tell(client: Dialect, number: Option<u64>, mut error: Value, out: &mut BytesMut) {
    if let (Some(number), Some(members)) = (number, error.as_object_mut()) {
        members.insert("sequence_number".to_owned(), number.into());
    }
    out.extend_from_slice(client.wire().framed(&error).as_bytes());
}

/// A guard's word as an error object.
fn withheld(client: Dialect, denied: &Denied) -> Value {
    let status = denied.of_answer().status();
    client.own_error(status, &denied.message, denied.reason)
}

impl Drop for LiveStream {
    fn drop(&mut self) {
        // The client left. What the provider has counted until then, it bills.
        if let State::Open(open) = std::mem::replace(&mut self.state, State::Ended) {
            let seen = (open.usage(), open.events);
            open.told().leave(seen);
        }
    }
}

impl Open {
    /// What comes next of the stream.
    async fn step(&mut self, out: &mut BytesMut) -> Step {
        // An endless stream that never lets itself be waited for must end, too.
        if Instant::now() >= self.times.ends {
            return Step::Fail("stream_timeout", true);
        }
        let (until, otherwise) = self.times.next();
        let Ok(read) = timeout_at(until, self.live.frames()).await else { return otherwise };
        self.times.heard = Instant::now();
        match read {
            Ok(Some(frames)) => self.take(&frames, out),
            Ok(None) => self.clean_end(out),
            Err(reason) => Step::Fail(reason, true),
        }
    }

    fn take(&mut self, frames: &[Frame], out: &mut BytesMut) -> Step {
        for frame in frames {
            match self.frame(frame, out) {
                Step::Go => {}
                end => return end,
            }
        }
        Step::Go
    }

    fn frame(&mut self, frame: &Frame, out: &mut BytesMut) -> Step {
        self.bytes = self.bytes.saturating_add(frame.raw.len());
        if self.bytes > STREAM_BYTES_MAX {
            return Step::Fail("stream_too_long", true);
        }
        let seen = self.provider.wire().look(frame);
        if matches!(&seen, Seen::Data(chunk) if !is_ping(chunk)) {
            self.times.event = Instant::now();
        }
        match seen {
            Seen::Blank if self.bridge.is_some() => {
                out.extend_from_slice(self.client.wire().ping().as_bytes());
                Step::Go
            }
            Seen::Blank => {
                out.extend_from_slice(&frame.raw);
                Step::Go
            }
            Seen::Garbage => Step::Fail("provider_garbage", true),
            Seen::Error(chunk) => self.error(&chunk, frame, out),
            Seen::End(chunk) if self.bridge.is_some() => self.bridged_end(&chunk, out),
            Seen::End(chunk) => match self.last(chunk, &frame.raw, out) {
                Step::Go => Step::Done,
                end => end,
            },
            Seen::Data(mut chunk) if self.bridge.is_some() => {
                self.provider.wire().name(&mut chunk, &self.live.identity);
                self.bridged(|r, events| r.read(&chunk, events), out)
            }
            Seen::Data(chunk) => {
                let bytes = frame.data.as_ref().map_or(0, String::len);
                self.pass(chunk, (frame.raw.clone(), bytes), out)
            }
        }
    }

    /// Notes what the client is sent, and the moment of the first content.
    fn record(&mut self, chunk: &Value, bytes: usize) {
        let had_content = self.recorder.has_content();
        self.events = self.events.saturating_add(1);
        self.recorder.add(chunk, bytes);
        if !had_content && self.recorder.has_content() {
            self.settle.first_content();
        }
    }

    /// An error event of the provider: what it says about the gateway's credentials stays here.
    fn error(&mut self, chunk: &Value, frame: &Frame, out: &mut BytesMut) -> Step {
        if about_credentials(chunk) {
            return Step::Fail(PROVIDER_AUTH, true);
        }
        if !has_message(chunk) {
            return Step::Fail("provider_error_in_stream", true);
        }
        if self.bridge.is_some() {
            let fault = Fault { param: None, ..self.provider.wire().fault(chunk) };
            let status = status_of(chunk).unwrap_or(StatusCode::BAD_GATEWAY);
            self.tell_error(self.client.wire().error(status, &fault), out);
        } else {
            out.extend_from_slice(&frame.raw);
        }
        Step::Fail("provider_error_in_stream", false)
    }

    /// An error object as an event, with the number that it has in the client's stream.
    fn tell_error(&self, error: Value, out: &mut BytesMut) {
        tell(self.client, self.recorder.next_number(), error, out);
    }

    /// One event of the provider as the client's events.
    fn bridged(
        &mut self,
        read: impl FnOnce(&mut dyn Reader, &mut Vec<Event>) -> Result<(), Garbage>,
        out: &mut BytesMut,
    ) -> Step {
        let Some(bridge) = &mut self.bridge else { return Step::Go };
        let (mut events, mut chunks) = (Vec::new(), Vec::new());
        let sense = read(bridge.reader.as_mut(), &mut events);
        let mut pings = 0;
        for event in events {
            pings += usize::from(event == Event::Ping);
            if event != Event::Ping {
                bridge.writer.write(event, &mut chunks);
            }
        }
        if pings > 0 {
            out.extend_from_slice(self.client.wire().ping().as_bytes());
        }
        for chunk in chunks {
            let text = self.client.wire().framed(&chunk);
            let bytes = text.len();
            if let Step::Deny(denied) = self.pass(chunk, (text.into(), bytes), out) {
                return Step::Deny(denied);
            }
        }
        match sense {
            Ok(()) => Step::Go,
            Err(Garbage) => Step::Fail("provider_garbage", true),
        }
    }

    /// The end, whose mark may itself say something.
    fn bridged_end(&mut self, mark: &Value, out: &mut BytesMut) -> Step {
        let read = |reader: &mut dyn Reader, events: &mut Vec<Event>| {
            if !mark.is_null() {
                reader.read(mark, events)?;
            }
            reader.end(events)
        };
        match self.bridged(read, out) {
            Step::Go => self.close(out),
            end => end,
        }
    }

    /// A clean end of our own wording.
    fn close(&mut self, out: &mut BytesMut) -> Step {
        match self.flush(out) {
            Step::Go => {
                let text = self.client.wire().close();
                self.sink(out).extend_from_slice(text.as_bytes());
                Step::Done
            }
            end => end,
        }
    }

    /// The provider ended without the mark of the end: fine if it speaks OpenAI's dialect, where servers are known to
    /// leave it out, or Gemini's, which has none, and every choice had ended; a cut otherwise.
    fn clean_end(&mut self, out: &mut BytesMut) -> Step {
        if let Step::Deny(denied) = self.flush(out) {
            return Step::Deny(denied);
        }
        let finished = match &self.bridge {
            Some(bridge) => bridge.reader.may_end(),
            None => (self.provider.asks_for_usage() || self.provider == Dialect::Gemini) && self.recorder.finished(),
        };
        if !finished {
            return Step::Fail("cut", true);
        }
        if self.bridge.is_some() {
            return self.bridged_end(&Value::Null, out);
        }
        self.close(out)
    }

    fn usage(&self) -> Option<Usage> {
        match &self.bridge {
            Some(bridge) => bridge.reader.progress().usage,
            None => self.recorder.usage(),
        }
    }
}

/// The extra chunk that `include_usage` brings: usage and no choices.
fn is_usage_only(chunk: &Value) -> bool {
    let no_choices = chunk.get("choices").and_then(Value::as_array).is_none_or(Vec::is_empty);
    no_choices && chunk.get("usage").is_some_and(|u| !u.is_null())
}
