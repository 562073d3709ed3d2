//! A scripted origin: for every request a list of steps, every request kept and counted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// A request as it reached the origin.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The target, as sent.
    pub target: String,
    /// The header as raw text, request line included.
    pub raw: String,
    /// Field names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
    /// How many requests came before this one.
    pub number: usize,
}

impl Seen {
    /// The first value of a field; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// How often a field was sent.
    pub fn count(&self, name: &str) -> usize {
        self.headers.iter().filter(|(n, _)| n == name).count()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A door that a test opens: each permit lets one step pass.
pub type Gate = Arc<Semaphore>;

/// A closed gate.
pub fn gate() -> Gate {
    Arc::new(Semaphore::new(0))
}

/// One step of an answer.
#[derive(Clone)]
pub enum Step {
    /// Bytes as they are.
    Send(Vec<u8>),
    /// Nothing for a while: the behaviour of a slow origin, never a way to wait.
    Pause(Duration),
    /// Nothing until the test opens the gate.
    Wait(Gate),
    /// The connection ends here.
    Cut,
}

/// A whole answer with `Content-Length`.
pub fn reply(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<Step> {
    let mut bytes = head(status, headers, &format!("content-length: {}\r\n", body.as_ref().len()));
    bytes.extend_from_slice(body.as_ref());
    vec![Step::Send(bytes)]
}

/// The start of a chunked answer.
pub fn chunked(status: u16, headers: &[(&str, &str)]) -> Step {
    Step::Send(head(status, headers, "transfer-encoding: chunked\r\n"))
}

/// One chunk; an empty one ends the body.
pub fn chunk(data: impl AsRef<[u8]>) -> Step {
    let data = data.as_ref();
    Step::Send([format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat())
}

fn head(status: u16, headers: &[(&str, &str)], framing: &str) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n{framing}");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    (head + "\r\n").into_bytes()
}

type Script = Arc<dyn Fn(&Seen) -> Vec<Step> + Send + Sync>;

struct Inner {
    script: Script,
    seen: Mutex<Vec<Seen>>,
    started: AtomicUsize,
    connections: AtomicUsize,
    left: Mutex<Vec<Seen>>,
}

/// The origin; it stops when the test's runtime does.
#[derive(Clone)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    inner: Arc<Inner>,
}

impl Origin {
    /// Answers every request by `script`.
    pub async fn start(script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            script: Arc::new(script),
            seen: Mutex::default(),
            started: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            left: Mutex::default(),
        });
        let served = inner.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                served.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(socket, served.clone()));
            }
        });
        Origin { address, inner }
    }

    /// Answers everything with `body`, storable for a minute.
    pub async fn fixed(body: &'static str) -> Origin {
        Origin::start(move |_| reply(200, &[("cache-control", "max-age=60"), ("content-type", "text/plain")], body))
            .await
    }

    /// How many requests have arrived whole.
    pub fn hits(&self) -> usize {
        self.inner.seen.lock().unwrap().len()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.inner.connections.load(Ordering::SeqCst)
    }

    /// How many times the other side left before its answer was finished.
    pub fn abandoned(&self) -> usize {
        self.inner.left.lock().unwrap().len()
    }

    /// The requests whose answers the other side did not stay for.
    pub fn given_up(&self) -> Vec<Seen> {
        self.inner.left.lock().unwrap().clone()
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    /// The last request.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("no request reached the origin")
    }
}

async fn serve(mut socket: TcpStream, inner: Arc<Inner>) {
    let _ = socket.set_nodelay(true);
    let mut buffer = Vec::new();
    while let Some(mut seen) = read_request(&mut socket, &mut buffer).await {
        seen.number = inner.started.fetch_add(1, Ordering::SeqCst);
        let steps = (inner.script)(&seen);
        inner.seen.lock().unwrap().push(seen.clone());
        for step in steps {
            match play(&mut socket, &mut buffer, step).await {
                Played::On => {}
                Played::Cut => return,
                Played::Left => {
                    inner.left.lock().unwrap().push(seen);
                    return;
                }
            }
        }
    }
}

enum Played {
    On,
    Cut,
    Left,
}

async fn play(socket: &mut TcpStream, buffer: &mut Vec<u8>, step: Step) -> Played {
    let waiting = async {
        match &step {
            Step::Pause(time) => tokio::time::sleep(*time).await,
            Step::Wait(gate) => gate.acquire().await.unwrap().forget(),
            _ => {}
        }
    };
    match &step {
        Step::Cut => Played::Cut,
        Step::Send(bytes) => {
            if socket.write_all(bytes).await.is_ok() {
                Played::On
            } else {
                Played::Left
            }
        }
        // While it waits the origin notices a peer that leaves.
        _ => tokio::select! {
            () = waiting => Played::On,
            () = until_closed(socket, buffer) => Played::Left,
        },
    }
}

async fn until_closed(socket: &mut TcpStream, buffer: &mut Vec<u8>) {
    while let Ok(1..) = socket.read_buf(buffer).await {}
}

async fn read_request(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        more(socket, buffer).await?;
    };
    let raw = String::from_utf8_lossy(&buffer.drain(..end).collect::<Vec<u8>>()).into_owned();
    let mut words = raw.lines().next()?.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let headers = raw
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut seen = Seen { method, target, raw, headers, ..Seen::default() };
    seen.body = if seen.header("transfer-encoding").eq_ignore_ascii_case("chunked") {
        read_chunks(socket, buffer).await?
    } else {
        let length = seen.header("content-length").parse().unwrap_or(0);
        take(socket, buffer, length).await?
    };
    Some(seen)
}

async fn read_chunks(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(2).position(|w| w == b"\r\n") {
                break at;
            }
            more(socket, buffer).await?;
        };
        let line = take(socket, buffer, end + 2).await?;
        let size = usize::from_str_radix(std::str::from_utf8(&line).ok()?.trim(), 16).ok()?;
        let data = take(socket, buffer, size + 2).await?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&data[..size]);
    }
}

async fn take(socket: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while buffer.len() < length {
        more(socket, buffer).await?;
    }
    Some(buffer.drain(..length).collect())
}

async fn more(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    matches!(socket.read_buf(buffer).await, Ok(1..)).then_some(())
}

/// A listener whose every connection is handed to `serve`: for protocols that the scripted origin does not speak.
pub async fn raw<F, R>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            tokio::spawn(serve(socket));
        }
    });
    address
}

/// An address where nobody listens.
pub fn nobody() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
