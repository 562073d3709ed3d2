//! The client against a raw server that does exactly what each test says.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that hands each accepted connection, with its number, to `serve`.
async fn server<F, Fut>(serve: F) -> (Endpoint, Arc<AtomicUsize>)
where
    F: Fn(TcpStream, usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = BaseUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let n = count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream, n));
        }
    });
    let second = Duration::from_secs(2);
    (Endpoint { url, connect: second, first_byte: second, between_bytes: second }, accepted)
}

/// Reads one request up to the end of its body; false at the end of the connection.
async fn request(s: &mut TcpStream) -> Option<String> {
    let mut all = Vec::new();
    loop {
        let mut buf = [0u8; 4096];
        let n = s.read(&mut buf).await.ok()?;
        if n == 0 {
            return None;
        }
        all.extend_from_slice(&buf[..n]);
        let text = String::from_utf8_lossy(&all).into_owned();
        if let Some(end) = text.find("\r\n\r\n") {
            let lower = text.to_ascii_lowercase();
            let length = lower
                .split("content-length: ")
                .nth(1)
                .map_or(0, |r| r.split("\r\n").next().unwrap().parse::<usize>().unwrap());
            if all.len() >= end + 4 + length {
                return Some(text);
            }
        }
    }
}

async fn get(f: &Fetcher, ep: &Endpoint) -> Result<Fetched, FetchError> {
    f.send(ep, Method::GET, "/x?y=1", HeaderMap::new(), Bytes::new()).await
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_connection_read_to_its_end_is_used_again() {
    let (ep, accepted) = server(|mut s, _| async move {
        while request(&mut s).await.is_some() {
            s.write_all(OK).await.unwrap();
        }
    })
    .await;
    let f = Fetcher::new();
    for _ in 0..3 {
        assert_eq!(get(&f, &ep).await.unwrap().bytes(10).await.unwrap(), "ok");
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_request_carries_host_path_prefix_length_and_body() {
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
    let (mut ep, _) = server(move |mut s, _| {
        let tx = tx.clone();
        async move {
            tx.send(request(&mut s).await.unwrap()).unwrap();
            s.write_all(OK).await.unwrap();
        }
    })
    .await;
    ep.url.path = "/v1".into();
    let mut headers = HeaderMap::new();
    headers.insert("x-a", "b".parse().unwrap());
    headers.insert(header::HOST, "evil".parse().unwrap());
    headers.insert(header::TRANSFER_ENCODING, "chunked".parse().unwrap());
    let sent = Fetcher::new().send(&ep, Method::POST, "/chat?q=1", headers, "{}".into()).await;
    sent.unwrap().bytes(10).await.unwrap();
    let text = rx.recv().await.unwrap().to_ascii_lowercase();
    assert!(text.starts_with("post /v1/chat?q=1 http/1.1\r\n"), "{text}");
    assert!(text.contains(&format!("host: 127.0.0.1:{}\r\n", ep.url.port)), "{text}");
    assert!(text.contains("content-length: 2\r\n") && text.contains("x-a: b\r\n") && text.ends_with("\r\n\r\n{}"));
    assert!(!text.contains("evil") && !text.contains("chunked"));
}

#[tokio::test]
async fn reused_connection_that_died_is_replaced_once() {
    let (ep, accepted) = server(|mut s, n| async move {
        request(&mut s).await;
        s.write_all(OK).await.unwrap();
        if n == 0 {
            // Takes the second request and hangs up without a byte.
            request(&mut s).await;
        } else {
            while request(&mut s).await.is_some() {
                s.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    let f = Fetcher::new();
    get(&f, &ep).await.unwrap().bytes(10).await.unwrap();
    assert_eq!(get(&f, &ep).await.unwrap().bytes(10).await.unwrap(), "ok");
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
    // The replacement serves the third request as well.
    get(&f, &ep).await.unwrap().bytes(10).await.unwrap();
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn reused_connection_that_answered_in_part_is_not_retried() {
    let (ep, accepted) = server(|mut s, _| async move {
        request(&mut s).await;
        s.write_all(OK).await.unwrap();
        request(&mut s).await;
        s.write_all(b"HTTP/1.1 20").await.unwrap();
    })
    .await;
    let f = Fetcher::new();
    get(&f, &ep).await.unwrap().bytes(10).await.unwrap();
    assert_eq!(get(&f, &ep).await.unwrap_err(), FetchError::Cut);
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_fresh_connection_closed_without_an_answer_is_not_retried() {
    let (ep, accepted) = server(|mut s, _| async move {
        request(&mut s).await;
    })
    .await;
    assert_eq!(get(&Fetcher::new(), &ep).await.unwrap_err(), FetchError::Cut);
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_cut_body_is_never_a_clean_end() {
    for head in ["content-length: 9\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let (ep, _) = server(move |mut s, _| async move {
            request(&mut s).await;
            s.write_all(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes()).await.unwrap();
        })
        .await;
        let mut answer = get(&Fetcher::new(), &ep).await.unwrap();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "abc");
        assert_eq!(answer.chunk().await.unwrap_err(), FetchError::Cut, "{head}");
    }
}

#[tokio::test]
async fn refused_unresolvable_garbage_and_oversize_are_told_apart() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (garbage, _) = server(|mut s, _| async move {
        request(&mut s).await;
        s.write_all(b"SSH-2.0-OpenSSH\r\n\r\n").await.unwrap();
    })
    .await;
    let f = Fetcher::new();
    let mut ep = garbage.clone();
    assert!(matches!(get(&f, &ep).await, Err(FetchError::Protocol(_))));
    ep.url = BaseUrl::parse(&format!("http://{free}")).unwrap();
    assert!(matches!(get(&f, &ep).await, Err(FetchError::Connect(_))));
    ep.url = BaseUrl::parse("http://name.invalid").unwrap();
    assert!(matches!(get(&f, &ep).await, Err(FetchError::Resolve(_) | FetchError::Timeout(Stage::Connect))));
    let (big, _) = server(|mut s, _| async move {
        request(&mut s).await;
        s.write_all(OK).await.unwrap();
    })
    .await;
    let over = get(&f, &big).await.unwrap().bytes(1).await.unwrap_err();
    assert_eq!(over, FetchError::TooLarge { bytes_max: 1 });
}

#[tokio::test]
async fn every_wait_is_limited() {
    let (mut ep, _) = server(|mut s, _| async move {
        request(&mut s).await;
        // One byte of the header at a time, for ever: a limit per read would never fire.
        s.write_all(b"HTTP/1.1 200 OK\r\nx: ").await.unwrap();
        loop {
            if s.write_all(b"y").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    ep.first_byte = Duration::from_millis(60);
    assert_eq!(get(&Fetcher::new(), &ep).await.unwrap_err(), FetchError::Timeout(Stage::FirstByte));
    let (mut ep, _) = server(|mut s, _| async move {
        request(&mut s).await;
        s.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    ep.between_bytes = Duration::from_millis(60);
    let mut answer = get(&Fetcher::new(), &ep).await.unwrap();
    answer.chunk().await.unwrap();
    assert_eq!(answer.chunk().await.unwrap_err(), FetchError::Timeout(Stage::BetweenBytes));
    let (mut silent, _) = server(|s, _| async move {
        std::future::pending::<()>().await;
        drop(s);
    })
    .await;
    silent.first_byte = Duration::from_millis(60);
    assert_eq!(get(&Fetcher::new(), &silent).await.unwrap_err(), FetchError::Timeout(Stage::FirstByte));
}

#[tokio::test]
async fn pieces_come_as_produced_and_dropping_hangs_up() {
    let (gone_tx, mut gone) = tokio::sync::mpsc::unbounded_channel();
    let (go, wait) = tokio::sync::watch::channel(0usize);
    let (ep, _) = server(move |mut s, _| {
        let (gone_tx, mut wait) = (gone_tx.clone(), wait.clone());
        async move {
            request(&mut s).await;
            s.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
            for n in 0..3 {
                wait.wait_for(|w| *w >= n).await.unwrap();
                s.write_all(format!("2\r\n{n}\n\r\n").as_bytes()).await.unwrap();
            }
            let mut buf = [0u8; 1];
            let end = s.read(&mut buf).await;
            gone_tx.send(matches!(end, Ok(0) | Err(_))).unwrap();
        }
    })
    .await;
    let mut answer = get(&Fetcher::new(), &ep).await.unwrap();
    for n in 0..3 {
        go.send(n).unwrap();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), format!("{n}\n"));
    }
    drop(answer);
    assert!(gone.recv().await.unwrap());
}

#[tokio::test]
async fn an_early_refusal_counts_even_when_the_body_was_not_read() {
    let (ep, _) = server(|mut s, _| async move {
        let mut buf = [0u8; 256];
        let _ = s.read(&mut buf).await;
        s.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = s.read_to_end(&mut rest).await;
    })
    .await;
    let body = Bytes::from(vec![b'x'; 1 << 20]);
    let answer = Fetcher::new().send(&ep, Method::POST, "/", HeaderMap::new(), body).await.unwrap();
    assert_eq!(answer.status.as_u16(), 413);
}
