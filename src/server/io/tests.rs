//! What a session may read, and what must be left for the next one.

use super::*;
use std::future::poll_fn;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

async fn pair() -> (ClientIo, TcpStream) {
    let l = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(l.local_addr().unwrap()).await.unwrap();
    let (tcp, peer) = l.accept().await.unwrap();
    let local = tcp.local_addr().unwrap();
    (ClientIo::clear(Plain::new(tcp, peer, local)), client)
}

#[tokio::test]
async fn a_body_window_gives_the_body_and_keeps_the_successor() {
    let (mut io, mut client) = pair().await;
    client.write_all(b"bodyNEXT").await.unwrap();
    io.set_window(Window::Bytes(4));
    let mut got = [0; 4];
    io.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"body");
    // With the body read, bytes of the next request are no news for the session, and no loss either.
    let idle = tokio::time::timeout(Duration::from_millis(50), io.read(&mut got)).await;
    assert!(idle.is_err());
    while io.ahead().len() < 4 {
        io.fill().await.unwrap();
    }
    assert_eq!(&io.ahead()[..], b"NEXT");
}

#[tokio::test]
async fn an_idle_session_sees_the_client_leave_but_not_while_a_request_waits() {
    let (mut io, client) = pair().await;
    io.set_window(Window::Bytes(0));
    drop(client);
    assert_eq!(io.read(&mut [0; 8]).await.unwrap(), 0);

    let (mut io, mut client) = pair().await;
    io.set_window(Window::Bytes(0));
    client.write_all(b"GET").await.unwrap();
    client.shutdown().await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(50), io.read(&mut [0; 8])).await;
    assert!(waits.is_err());
    assert_eq!(&io.ahead()[..], b"GET");
}

#[tokio::test]
async fn small_writes_leave_together_and_large_ones_whole() {
    let (mut io, mut client) = pair().await;
    io.write_all(b"head ").await.unwrap();
    let big = vec![b'x'; 100_000];
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        all
    });
    io.write_all(&big).await.unwrap();
    io.write_all(b" tail").await.unwrap();
    AsyncWriteExt::shutdown(&mut io).await.unwrap();
    let all = reader.await.unwrap();
    assert_eq!(all.len(), 100_010);
    assert!(all.starts_with(b"head xxx") && all.ends_with(b"xxx tail"));
}

#[tokio::test]
async fn frames_of_a_round_leave_together_when_nothing_is_left_to_do() {
    let (mut io, mut client) = pair().await;
    io.set_h2();
    let (cork, mut frames, mut corked) = (io.cork(), 3, Vec::new());
    let round = poll_fn(|cx| {
        while frames > 0 {
            assert!(matches!(Pin::new(&mut io).poll_write(cx, b"frame "), Poll::Ready(Ok(6))));
            // As HTTP/2 does after every frame.
            assert!(Pin::new(&mut io).poll_flush(cx).is_ready());
            frames -= 1;
        }
        corked.push(io.out.len());
        assert!(Pin::new(&mut io).poll_flush(cx).is_ready());
        corked.push(io.out.len());
        Poll::<()>::Pending
    });
    let ended = tokio::time::timeout(Duration::from_millis(20), cork.around(round)).await;
    assert!(ended.is_err());
    assert_eq!(corked.get(..4), Some(&[18, 18, 18, 0][..]), "held while there is work, sent when there is none");
    let mut got = [0; 18];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"frame frame frame ");
}

#[tokio::test]
async fn frames_beyond_the_buffer_are_taken_in_parts_and_lose_nothing() {
    let (mut io, mut client) = pair().await;
    io.set_h2();
    let all: Vec<u8> = (0..=u8::MAX).cycle().take(300_000).collect();
    let expected = all.clone();
    let reader = tokio::spawn(async move {
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        got
    });
    for piece in all.chunks(16_393) {
        let mut left = piece;
        while !left.is_empty() {
            let (a, b) = left.split_at(left.len() / 3);
            let n = io.write_vectored(&[io::IoSlice::new(a), io::IoSlice::new(b)]).await.unwrap();
            assert!(n > 0 && io.out.len() <= FRAMES_BUFFER);
            left = &left[n..];
        }
    }
    AsyncWriteExt::shutdown(&mut io).await.unwrap();
    assert!(reader.await.unwrap() == expected);
}
