//! What a session may read, and what must be left for the next one.

use super::*;
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
