//! A server's event stream on its way to the client: event by event as it comes, each message in it looked at.

use super::answer::Delivery;
use super::message::DEPTH_MAX;
use crate::base::reply::{Broken, Chunks};
use crate::base::sse::{Frame, Parser};
use crate::base::strict_json;
use crate::fetch::Fetched;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

/// The body of a streamed answer. Dropping it closes the server's connection.
pub struct Events {
    fetched: Fetched,
    parser: Parser,
    delivery: Delivery,
    first: Option<Bytes>,
    over: bool,
}

/// An event whose message cannot be read, and so not looked at either.
struct Unreadable;

impl Events {
    /// A stream that has begun.
    pub fn new(fetched: Fetched, mut delivery: Delivery) -> Events {
        let first = delivery.own_events();
        Events { fetched, parser: Parser::default(), delivery, first, over: false }
    }

    fn write(&mut self, frames: Vec<Frame>) -> Result<Bytes, Broken> {
        let mut out = BytesMut::new();
        for frame in frames {
            if self.frame(frame, &mut out).is_err() {
                self.over = true;
                return Err(Broken("the server sent an event that is no message".to_owned()));
            }
        }
        Ok(out.freeze())
    }

    fn frame(&mut self, frame: Frame, out: &mut BytesMut) -> Result<(), Unreadable> {
        let Some(data) = frame.data.as_deref().filter(|d| !d.is_empty()) else {
            out.extend_from_slice(&frame.raw);
            return Ok(());
        };
        let mut message = strict_json::value(data.as_bytes(), DEPTH_MAX).map_err(|_| Unreadable)?;
        if self.delivery.see(&mut message) {
            out.extend_from_slice(with_data(&frame.raw, &message.to_string()).as_bytes());
        } else {
            out.extend_from_slice(&frame.raw);
        }
        Ok(())
    }
}

/// An event's other fields (its id above all, by which a client resumes) with new data.
fn with_data(raw: &[u8], data: &str) -> String {
    let text = String::from_utf8_lossy(raw);
    let others = text.split(['\n', '\r']).filter(|line| !line.is_empty() && !line.starts_with("data"));
    let mut out: String = others.flat_map(|line| [line, "\n"]).collect();
    out.push_str(&crate::base::sse::event(data));
    out
}

#[async_trait]
impl Chunks for Events {
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        loop {
            if self.over {
                return None;
            }
            let frames = match self.fetched.chunk().await {
                Ok(Some(piece)) => match self.parser.push(&piece) {
                    Ok(frames) => frames,
                    Err(e) => {
                        self.over = true;
                        return Some(Err(Broken(e.to_string())));
                    }
                },
                Ok(None) => {
                    self.over = true;
                    self.parser.finish().into_iter().collect()
                }
                Err(e) => {
                    self.over = true;
                    return Some(Err(Broken(format!("the server's stream broke: {e}"))));
                }
            };
            match self.write(frames) {
                Ok(out) if out.is_empty() => {}
                end => return Some(end),
            }
        }
    }
}
