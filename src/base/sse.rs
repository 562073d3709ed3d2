//! Server-sent events, read incrementally: any split of the bytes gives the same frames, and each frame keeps its
//! bytes so that it can be passed on as it came.

use bytes::{Bytes, BytesMut};

/// The largest single frame; a provider that sends more without a blank line is broken.
const FRAME_BYTES_MAX: usize = 4 << 20;

/// The text that ends an OpenAI stream.
pub const DONE: &str = "[DONE]";

/// One event, or one comment, with its bytes up to and including the blank line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The bytes as received.
    pub raw: Bytes,
    /// The `data` lines joined by newlines; `None` when the frame has none (comments, keep-alives).
    pub data: Option<String>,
}

/// A frame over the size limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is larger than {FRAME_BYTES_MAX} bytes")]
pub struct FrameTooLarge;

/// The parser. It holds at most one unfinished frame.
#[derive(Debug, Default)]
pub struct Parser {
    buf: BytesMut,
    line_start: usize,
    scanned: usize,
}

impl Parser {
    /// Takes more bytes and gives the frames they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, FrameTooLarge> {
        self.buf.extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some((line_end, next)) = self.line_end() {
            let blank = line_end == self.line_start;
            (self.line_start, self.scanned) = (next, next);
            if blank {
                frames.push(frame(self.buf.split_to(next).freeze()));
                (self.line_start, self.scanned) = (0, 0);
            }
        }
        if self.buf.len() > FRAME_BYTES_MAX {
            return Err(FrameTooLarge);
        }
        Ok(frames)
    }

    /// What is left at the end of the stream, closed by a blank line: some servers leave out the last one.
    pub fn finish(&mut self) -> Option<Frame> {
        let mut rest = self.buf.split();
        (self.line_start, self.scanned) = (0, 0);
        if rest.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        let ended_line = rest.last() == Some(&b'\n');
        rest.extend_from_slice(if ended_line { b"\n" } else { b"\n\n" });
        Some(frame(rest.freeze()))
    }

    /// The end of the current line and the start of the next. A carriage return that is the last byte so far is
    /// undecided: a line feed may belong to it.
    fn line_end(&mut self) -> Option<(usize, usize)> {
        let rest = self.buf.get(self.scanned..)?;
        let Some(found) = rest.iter().position(|b| matches!(b, b'\n' | b'\r')) else {
            self.scanned = self.buf.len();
            return None;
        };
        let end = self.scanned + found;
        match (self.buf.get(end), self.buf.get(end + 1)) {
            (Some(b'\n'), _) => Some((end, end + 1)),
            (_, Some(b'\n')) => Some((end, end + 2)),
            (_, Some(_)) => Some((end, end + 1)),
            (_, None) => {
                self.scanned = end;
                None
            }
        }
    }
}

fn frame(raw: Bytes) -> Frame {
    let text = String::from_utf8_lossy(&raw);
    let mut data: Option<String> = None;
    for line in text.trim_start_matches('\u{feff}').split(['\n', '\r']) {
        let value = match line.strip_prefix("data") {
            Some("") => "",
            Some(rest) => match rest.strip_prefix(':') {
                Some(value) => value.strip_prefix(' ').unwrap_or(value),
                None => continue,
            },
            None => continue,
        };
        match &mut data {
            None => data = Some(value.to_owned()),
            Some(all) => {
                all.push('\n');
                all.push_str(value);
            }
        }
    }
    drop(text);
    Frame { raw, data }
}

/// One `data` event with a name.
pub fn named_event(name: &str, data: &str) -> String {
    format!("event: {name}\n{}", event(data))
}

/// One `data` event.
pub fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}
