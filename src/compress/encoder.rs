//! The encoders behind one trait. Each holds a bounded window and gives back what is ready at every step, so that an
//! answer of any length is coded in constant memory.

use crate::base::coding::Coding;
use bytes::Bytes;
use std::io::{self, Write};

/// How much work a body is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Coded anew for each client: as fast as gives a good ratio, in little memory (measured: brotli 2.3 MiB for each
    /// answer under way, zstd 2.1 MiB, gzip 0.4 MiB).
    Sent,
    /// Coded once and kept: zstd and brotli come out about a tenth smaller for two to three times the time.
    Kept,
}

/// Codes one body in bounded memory, however long it is.
pub trait Encoder: Send + Sync {
    /// Takes bytes in and gives back what is ready, which may be nothing. With `flush` everything taken so far can be
    /// decoded from what has been given back.
    ///
    /// # Errors
    /// Where the encoder cannot go on (no memory).
    fn push(&mut self, data: &[u8], flush: bool) -> io::Result<Bytes>;

    /// Ends the body: the last bytes.
    ///
    /// # Errors
    /// As [`Encoder::push`].
    fn finish(self: Box<Self>) -> io::Result<Bytes>;
}

/// What an encoder is set to. Browsers must take zstd windows of 8 MiB (RFC 9659); a server with many answers under way
/// wants smaller ones.
struct Setting {
    gzip_level: u32,
    brotli_quality: u32,
    /// Log2 of the window in bytes.
    brotli_window_log: u32,
    zstd_level: i32,
    /// Log2 of the window in bytes.
    zstd_window_log: u32,
}

const SENT: Setting =
    Setting { gzip_level: 5, brotli_quality: 4, brotli_window_log: 17, zstd_level: 3, zstd_window_log: 20 };
const KEPT: Setting =
    Setting { gzip_level: 6, brotli_quality: 6, brotli_window_log: 19, zstd_level: 6, zstd_window_log: 20 };
/// Brotli hands its output over in pieces of this many bytes.
const BROTLI_BUFFER_BYTES: usize = 16 << 10;

/// A new encoder. `body_bytes` is the body's length where it is known: a short body needs no large window.
///
/// # Errors
/// Where there is no memory for one.
pub fn encoder(coding: Coding, effort: Effort, body_bytes: Option<u64>) -> io::Result<Box<dyn Encoder>> {
    let setting = match effort {
        Effort::Sent => SENT,
        Effort::Kept => KEPT,
    };
    Ok(match coding {
        Coding::Gzip => {
            Box::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(setting.gzip_level)))
        }
        Coding::Br => {
            let (quality, window) = (setting.brotli_quality, window_log(body_bytes, setting.brotli_window_log));
            Box::new(brotli::CompressorWriter::new(Vec::new(), BROTLI_BUFFER_BYTES, quality, window))
        }
        Coding::Zstd => {
            let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), setting.zstd_level)?;
            zstd.window_log(window_log(body_bytes, setting.zstd_window_log))?;
            Box::new(zstd)
        }
    })
}

/// The smallest window that holds the whole body, within what both codings permit.
fn window_log(body_bytes: Option<u64>, largest: u32) -> u32 {
    // At 16 and below brotli from quality 5 on takes another matcher: 34 MiB and twenty times the time for a small body.
    const SMALLEST: u32 = 17;
    let needed = body_bytes.map_or(largest, |n| u64::BITS - n.leading_zeros());
    needed.clamp(SMALLEST, largest)
}

/// A writer that codes into memory: what the three libraries have in common.
trait Sink: Write + Send + Sync {
    fn coded(&mut self) -> &mut Vec<u8>;
    fn close(self) -> io::Result<Vec<u8>>;
}

impl Sink for flate2::write::GzEncoder<Vec<u8>> {
    fn coded(&mut self) -> &mut Vec<u8> {
        self.get_mut()
    }

    fn close(self) -> io::Result<Vec<u8>> {
        self.finish()
    }
}

impl Sink for brotli::CompressorWriter<Vec<u8>> {
    fn coded(&mut self) -> &mut Vec<u8> {
        self.get_mut()
    }

    fn close(self) -> io::Result<Vec<u8>> {
        Ok(self.into_inner())
    }
}

impl Sink for zstd::stream::write::Encoder<'static, Vec<u8>> {
    fn coded(&mut self) -> &mut Vec<u8> {
        self.get_mut()
    }

    fn close(self) -> io::Result<Vec<u8>> {
        self.finish()
    }
}

impl<S: Sink> Encoder for S {
    fn push(&mut self, data: &[u8], flush: bool) -> io::Result<Bytes> {
        self.write_all(data)?;
        if flush {
            self.flush()?;
        }
        Ok(std::mem::take(self.coded()).into())
    }

    fn finish(self: Box<Self>) -> io::Result<Bytes> {
        Ok(self.close()?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_body_never_falls_into_brotlis_slow_matcher() {
        for bytes in [0, 1, 1024, 1 << 16, 100_000] {
            assert_eq!(window_log(Some(bytes), KEPT.brotli_window_log), 17, "{bytes}");
        }
        assert_eq!(window_log(Some(1 << 40), KEPT.zstd_window_log), 20);
        assert_eq!(window_log(None, SENT.brotli_window_log), 17);
    }
}
