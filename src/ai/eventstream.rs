//! AWS event streams, read incrementally: any split of the bytes gives the same frames. What follows in the pipeline
//! sees JSON, as it does with server-sent events: `{"<event type>": <payload>}`, and errors as `{"error": …}`.
//!
//! The format: <https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html> and
//! <https://smithy.io/2.0/aws/amazon-eventstream.html>.

use super::dialect::bedrock;
use super::sse::Frame;
use aws_smithy_eventstream::frame::read_message_from;
use aws_smithy_types::event_stream::Message;
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

/// The largest single message; AWS's own limit is 24 MiB, and events of models are small.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Two lengths, their checksum and that of the message.
const MESSAGE_BYTES_MIN: usize = 16;

/// Bytes that are no event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A message over the size limit.
    #[error("a message of the event stream is larger than {MESSAGE_BYTES_MAX} bytes")]
    TooLarge,
    /// A length, a header or a checksum is wrong.
    #[error("the bytes are no event stream")]
    Malformed,
}

/// The parser. It holds at most one unfinished message.
#[derive(Debug, Default)]
pub struct Parser {
    buf: BytesMut,
}

impl Parser {
    /// Takes more bytes and gives the frames that they complete. After an error nothing more can be read.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, Broken> {
        self.buf.extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some(length) = self.length()? {
            if self.buf.len() < length {
                break;
            }
            frames.push(frame(self.buf.split_to(length).freeze())?);
        }
        Ok(frames)
    }

    /// Whether the stream may end here: not within a message.
    pub fn is_whole(&self) -> bool {
        self.buf.is_empty()
    }

    /// The length that the message under way says it has, known before its checksum is: a damaged one must not make
    /// us wait for gigabytes.
    fn length(&self) -> Result<Option<usize>, Broken> {
        let Some(told) = self.buf.first_chunk::<4>() else { return Ok(None) };
        match usize::try_from(u32::from_be_bytes(*told)) {
            Ok(length @ MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX) => Ok(Some(length)),
            Ok(..MESSAGE_BYTES_MIN) => Err(Broken::Malformed),
            _ => Err(Broken::TooLarge),
        }
    }
}

fn frame(raw: Bytes) -> Result<Frame, Broken> {
    let message = read_message_from(raw.clone()).map_err(|_| Broken::Malformed)?;
    let data = match word(&message, ":message-type") {
        Some("event") => event(&message)?,
        Some("exception") => {
            let told: Value = serde_json::from_slice(message.payload()).unwrap_or_default();
            bedrock::error(word(&message, ":exception-type").unwrap_or_default(), &told).to_string()
        }
        Some("error") => {
            let told = json!({ "message": word(&message, ":error-message") });
            bedrock::error(word(&message, ":error-code").unwrap_or_default(), &told).to_string()
        }
        _ => return Err(Broken::Malformed),
    };
    Ok(Frame { raw, data: Some(data) })
}

/// The payload under its type. Whether it is JSON shows when the whole is read.
fn event(message: &Message) -> Result<String, Broken> {
    let kind = word(message, ":event-type").ok_or(Broken::Malformed)?;
    let payload = std::str::from_utf8(message.payload()).map_err(|_| Broken::Malformed)?;
    let payload = if payload.is_empty() { "{}" } else { payload };
    Ok(format!("{{{}:{payload}}}", Value::from(kind)))
}

fn word<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    let header = message.headers().iter().find(|h| h.name().as_str() == name)?;
    header.value().as_string().ok().map(|s| s.as_str())
}

#[cfg(test)]
pub mod tests;
