//! Streaming request bodies against a raw server.

use super::*;
use crate::base::reply::{Broken, Chunks};
use async_trait::async_trait;
use std::collections::VecDeque;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, UnboundedReceiver};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A body from a list of pieces.
struct Pieces(VecDeque<Result<Bytes, Broken>>);

#[async_trait]
impl Chunks for Pieces {
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        self.0.pop_front()
    }
}

/// A body that comes when the test says so.
struct Fed(UnboundedReceiver<Bytes>);

#[async_trait]
impl Chunks for Fed {
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        self.0.recv().await.map(Ok)
    }
}

fn upload(pieces: &[&'static str], length: Option<u64>) -> Upload {
    let all = pieces.iter().map(|p| Ok(Bytes::from_static(p.as_bytes()))).collect();
    Upload { chunks: Box::new(Pieces(all)), length }
}

/// A server for one connection.
async fn server<Fut>(serve: impl FnOnce(TcpStream) -> Fut + Send + 'static) -> Endpoint
where
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = BaseUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream).await;
    });
    let second = Duration::from_secs(2);
    Endpoint { url, connect: second, first_byte: second, between_bytes: second }
}

/// Reads until the text so far ends in `end`.
async fn until(s: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    let mut buf = [0u8; 4096];
    while !all.ends_with(end.as_bytes()) {
        let n = s.read(&mut buf).await.unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&buf[..n]);
    }
    String::from_utf8(all).unwrap()
}

async fn send(ep: &Endpoint, body: Upload) -> Result<Fetched, FetchError> {
    Fetcher::new().send_streaming(ep, Method::POST, "/up", HeaderMap::new(), body).await
}

#[tokio::test]
async fn a_body_of_known_length_is_sent_with_it() {
    let (tx, mut rx) = mpsc::unbounded_channel();
    let ep = server(|mut s| async move {
        tx.send(until(&mut s, "abcde").await).unwrap();
        s.write_all(OK).await.unwrap();
    })
    .await;
    let answer = send(&ep, upload(&["ab", "", "cde"], Some(5))).await.unwrap();
    assert_eq!(answer.bytes(9).await.unwrap(), "ok");
    let text = rx.recv().await.unwrap().to_ascii_lowercase();
    assert!(text.contains("content-length: 5\r\n") && !text.contains("chunked"), "{text}");
}

#[tokio::test]
async fn a_body_of_unknown_length_is_sent_in_chunks() {
    let (tx, mut rx) = mpsc::unbounded_channel();
    let ep = server(|mut s| async move {
        tx.send(until(&mut s, "0\r\n\r\n").await).unwrap();
        s.write_all(OK).await.unwrap();
    })
    .await;
    send(&ep, upload(&["ab", "cde"], None)).await.unwrap();
    let text = rx.recv().await.unwrap().to_ascii_lowercase();
    assert!(text.contains("transfer-encoding: chunked\r\n") && !text.contains("content-length"), "{text}");
    assert!(text.ends_with("\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"), "{text}");
}

#[tokio::test]
async fn pieces_are_sent_as_they_come() {
    let (seen_tx, mut seen) = mpsc::unbounded_channel();
    let ep = server(|mut s| async move {
        until(&mut s, "2\r\none\r\n".trim_start_matches("2\r\n")).await;
        seen_tx.send(()).unwrap();
        until(&mut s, "0\r\n\r\n").await;
        s.write_all(OK).await.unwrap();
    })
    .await;
    let (feed, fed) = mpsc::unbounded_channel();
    let sending = tokio::spawn(async move { send(&ep, Upload { chunks: Box::new(Fed(fed)), length: None }).await });
    feed.send(Bytes::from_static(b"one")).unwrap();
    seen.recv().await.unwrap();
    feed.send(Bytes::from_static(b"two")).unwrap();
    drop(feed);
    assert_eq!(sending.await.unwrap().unwrap().status.as_u16(), 200);
}

#[tokio::test]
async fn a_body_that_breaks_off_or_lies_about_its_length_is_never_a_whole_one() {
    let broken = || Err(Broken("gone".to_owned()));
    let cut = Upload { chunks: Box::new(Pieces([Ok(Bytes::from_static(b"ab")), broken()].into())), length: None };
    for body in [cut, upload(&["abc"], Some(5)), upload(&["abcdef"], Some(5))] {
        let (tx, mut rx) = mpsc::unbounded_channel();
        let ep = server(|mut s| async move {
            let mut all = Vec::new();
            let _ = s.read_to_end(&mut all).await;
            tx.send(String::from_utf8(all).unwrap()).unwrap();
        })
        .await;
        assert!(matches!(send(&ep, body).await, Err(FetchError::Body(_))));
        let text = rx.recv().await.unwrap();
        assert!(!text.ends_with("0\r\n\r\n") && !text.ends_with("abcde"), "{text}");
    }
}

#[tokio::test]
async fn an_early_refusal_counts_and_its_connection_serves_nobody_else() {
    let ep = server(|mut s| async move {
        until(&mut s, "\r\n\r\n").await;
        s.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = (&mut s).take(1 << 20).read_to_end(&mut rest).await;
    })
    .await;
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let many = std::iter::repeat_with(|| Ok(piece.clone())).take(64).collect();
    let answer = send(&ep, Upload { chunks: Box::new(Pieces(many)), length: None }).await.unwrap();
    assert_eq!(answer.status.as_u16(), 413);
}

#[tokio::test]
async fn a_server_that_takes_nothing_is_given_up() {
    let mut ep = server(|s| async move {
        std::future::pending::<()>().await;
        drop(s);
    })
    .await;
    (ep.between_bytes, ep.first_byte) = (Duration::from_millis(80), Duration::from_millis(80));
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let many = std::iter::repeat_with(|| Ok(piece.clone())).take(64).collect();
    let given_up = send(&ep, Upload { chunks: Box::new(Pieces(many)), length: None }).await;
    assert_eq!(given_up.unwrap_err(), FetchError::Timeout(Stage::FirstByte));
}
