//! How a provider's stream is cut into frames.

use super::dialect::bedrock::EVENT_STREAM;
use super::eventstream;
use super::sse::{self, Frame};

/// The parser of one stream. It holds at most one unfinished frame.
pub enum Framing {
    /// Server-sent events.
    Sse(sse::Parser),
    /// AWS's binary messages.
    EventStream(eventstream::Parser),
}

impl Framing {
    /// For a body of this media type.
    pub fn of(media_type: &str) -> Framing {
        if media_type == EVENT_STREAM {
            Framing::EventStream(eventstream::Parser::default())
        } else {
            Framing::Sse(sse::Parser::default())
        }
    }

    /// Takes more bytes and gives the frames that they complete; else the one word for what is wrong.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, &'static str> {
        match self {
            Framing::Sse(p) => p.push(bytes).map_err(|_| "event_too_large"),
            Framing::EventStream(p) => p.push(bytes).map_err(|e| match e {
                eventstream::Broken::TooLarge => "event_too_large",
                eventstream::Broken::Malformed => "provider_garbage",
            }),
        }
    }

    /// What is left at the end of the stream. Lines may lack their last blank one; half a message is a cut.
    pub fn finish(&mut self) -> Result<Option<Frame>, &'static str> {
        match self {
            Framing::Sse(p) => Ok(p.finish()),
            Framing::EventStream(p) if p.is_whole() => Ok(None),
            Framing::EventStream(_) => Err("cut"),
        }
    }
}
