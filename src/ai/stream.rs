//! A provider's stream on its way to the client: frame by frame as it comes, recorded on the side, and never given a
//! clean end that it did not have.

use super::error::error_json;
use super::provider::{ANSWER_BYTES_MAX, Live};
use super::record::Recorder;
use super::settle::Settle;
use super::sse::{DONE, Frame, event};
use super::verdict::{PROVIDER_AUTH, about_credentials, has_message};
use crate::base::reply::{Broken, Chunks};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use serde_json::Value;

/// The longest stream that is passed on; at ordinary chunk sizes this is several hundred thousand tokens.
const STREAM_BYTES_MAX: usize = 256 << 20;

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
    recorder: Recorder,
    settle: Settle,
    /// The client did not ask for the usage chunk that the gateway asked for.
    hide_usage: bool,
    bytes: usize,
}

/// What a frame means for the stream.
enum Step {
    Go,
    Done,
    /// It broke; whether the client still needs to be told by an event.
    Fail(&'static str, bool),
}

impl LiveStream {
    /// A stream that has begun.
    pub fn new(live: Live, settle: Settle, hide_usage: bool) -> Self {
        let recorder = Recorder::new(ANSWER_BYTES_MAX);
        settle.hands_over();
        LiveStream { state: State::Open(Box::new(Open { live, recorder, settle, hide_usage, bytes: 0 })) }
    }
}

#[async_trait]
impl Chunks for LiveStream {
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
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
            let step = match open.live.frames().await {
                Ok(Some(frames)) => open.take(&frames, &mut out),
                Ok(None) => open.clean_end(&mut out),
                Err(reason) => Step::Fail(reason, true),
            };
            match step {
                Step::Go => {}
                Step::Done => self.complete(),
                Step::Fail(reason, tell) => self.fail(reason, tell, &mut out),
            }
            if !out.is_empty() {
                if let State::Open(open) = &self.state {
                    open.settle.hands_over();
                }
                return Some(Ok(out.freeze()));
            }
        }
    }
}

impl LiveStream {
    fn complete(&mut self) {
        let State::Open(open) = std::mem::replace(&mut self.state, State::Ended) else { return };
        let Open { live, recorder, settle, .. } = *open;
        live.drain();
        let usage = recorder.usage().cloned();
        let answer = recorder.answer();
        let body = answer.as_ref().and_then(|a| serde_json::to_vec(a).ok());
        settle.complete(usage.as_ref(), answer.as_ref().zip(body.map(Bytes::from)));
    }

    fn fail(&mut self, reason: &'static str, tell: bool, out: &mut BytesMut) {
        if let State::Open(open) = std::mem::replace(&mut self.state, State::Broken(reason)) {
            let Open { recorder, settle, .. } = *open;
            settle.fail(reason, recorder.usage());
        }
        if tell {
            let message = format!("the provider's stream broke before the answer was complete: {reason}");
            let error = error_json(&message, "api_error", None, "provider_stream_broken");
            out.extend_from_slice(event(&error.to_string()).as_bytes());
        }
    }
}

impl Drop for LiveStream {
    fn drop(&mut self) {
        // The client left. What the provider has counted until then, it bills.
        if let State::Open(open) = std::mem::replace(&mut self.state, State::Ended) {
            let Open { recorder, settle, .. } = *open;
            settle.leave(recorder.usage());
        }
    }
}

impl Open {
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
        let Some(data) = frame.data.as_deref().filter(|d| !d.is_empty()) else {
            out.extend_from_slice(&frame.raw);
            return Step::Go;
        };
        if data == DONE {
            out.extend_from_slice(&frame.raw);
            return Step::Done;
        }
        let Ok(chunk) = serde_json::from_str::<Value>(data) else {
            return Step::Fail("provider_garbage", true);
        };
        if chunk.get("error").is_some_and(|e| !e.is_null()) {
            if about_credentials(&chunk) {
                return Step::Fail(PROVIDER_AUTH, true);
            }
            if !has_message(&chunk) {
                return Step::Fail("provider_error_in_stream", true);
            }
            out.extend_from_slice(&frame.raw);
            return Step::Fail("provider_error_in_stream", false);
        }
        let had_content = self.recorder.has_content();
        self.recorder.add(&chunk, data.len());
        if !had_content && self.recorder.has_content() {
            self.settle.first_content();
        }
        if !(self.hide_usage && is_usage_only(&chunk)) {
            out.extend_from_slice(&frame.raw);
        }
        Step::Go
    }

    /// The provider ended without `[DONE]`: fine if every choice had ended, a cut otherwise.
    fn clean_end(&self, out: &mut BytesMut) -> Step {
        if !self.recorder.finished() {
            return Step::Fail("cut", true);
        }
        out.extend_from_slice(event(DONE).as_bytes());
        Step::Done
    }
}

/// The extra chunk that `include_usage` brings: usage and no choices.
fn is_usage_only(chunk: &Value) -> bool {
    let no_choices = chunk.get("choices").and_then(Value::as_array).is_none_or(Vec::is_empty);
    no_choices && chunk.get("usage").is_some_and(|u| !u.is_null())
}
