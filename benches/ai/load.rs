//! A client that costs next to nothing: one request after the other on a connection, answers read to their end.

use bytes::BytesMut;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What an answer took.
pub struct Took {
    pub first_data: Duration,
    pub whole: Duration,
    pub body: Vec<u8>,
    /// The longest time between two reads of the body.
    pub gap: Duration,
}

pub struct Client {
    socket: TcpStream,
    buf: BytesMut,
}

impl Client {
    pub async fn to(port: u16) -> Client {
        let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Client { socket, buf: BytesMut::with_capacity(1 << 16) }
    }

    /// Sends a request and reads its answer, which must be a success.
    pub async fn ask(&mut self, request: &[u8]) -> Took {
        let started = Instant::now();
        self.socket.write_all(request).await.unwrap();
        let head_end = loop {
            if let Some(at) = find(&self.buf, b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await;
        };
        let head = String::from_utf8_lossy(&self.buf.split_to(head_end)).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let mut took =
            Took { first_data: Duration::ZERO, whole: Duration::ZERO, body: Vec::new(), gap: Duration::ZERO };
        if head.contains("transfer-encoding: chunked") {
            self.chunked(started, &mut took).await;
        } else {
            let length = head.split("content-length:").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().trim().parse().unwrap();
            while self.buf.len() < length {
                self.more().await;
            }
            took.body = self.buf.split_to(length).to_vec();
        }
        took.whole = started.elapsed();
        took
    }

    async fn chunked(&mut self, started: Instant, took: &mut Took) {
        let mut last = Instant::now();
        loop {
            let Some(line) = find(&self.buf, b"\r\n") else {
                self.more().await;
                continue;
            };
            let size = usize::from_str_radix(std::str::from_utf8(&self.buf[..line]).unwrap().trim(), 16).unwrap();
            if self.buf.len() < line + 2 + size + 2 {
                self.more().await;
                continue;
            }
            let _ = self.buf.split_to(line + 2);
            let piece = self.buf.split_to(size);
            let _ = self.buf.split_to(2);
            if size == 0 {
                return;
            }
            took.body.extend_from_slice(&piece);
            if took.first_data.is_zero() && find(&took.body, b"\"0 \"").is_some() {
                took.first_data = started.elapsed();
            }
            took.gap = took.gap.max(last.elapsed());
            last = Instant::now();
        }
    }

    async fn more(&mut self) {
        assert!(self.socket.read_buf(&mut self.buf).await.unwrap() > 0, "the connection was closed");
    }
}

fn find(all: &[u8], what: &[u8]) -> Option<usize> {
    all.windows(what.len()).position(|w| w == what)
}

/// The middle and the 99th percentile.
pub fn quantiles(mut all: Vec<Duration>) -> (Duration, Duration) {
    all.sort_unstable();
    (all[all.len() / 2], all[all.len() * 99 / 100])
}
