//! A raw HTTP/1.1 client: sends the bytes a test wants, reads answers strictly, keeps what arrived when.

use super::{sf, soon};
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Any byte stream: plain or TLS.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// One connection.
pub struct Client {
    wire: Box<dyn Wire>,
    buffer: Vec<u8>,
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Field names in lower case, in the order of arrival.
    pub headers: Vec<(String, String)>,
    /// The whole body, chunks joined.
    pub body: Vec<u8>,
    /// The body came to the end that its framing promised.
    pub complete: bool,
}

impl Response {
    /// The first value of a field; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// How often a field stands in the header.
    pub fn count(&self, name: &str) -> usize {
        self.headers.iter().filter(|(n, _)| n == name).count()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// Who answered, as the gateway says.
    pub fn source(&self) -> &str {
        self.header("x-sluicegate-source")
    }

    /// Why, as the gateway says.
    pub fn reason(&self) -> &str {
        self.header("x-sluicegate-reason")
    }

    /// The JSON of every `data:` event but the end mark.
    pub fn events(&self) -> Vec<serde_json::Value> {
        self.text()
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {data}")))
            .collect()
    }

    /// The text of a streamed chat answer.
    pub fn streamed_text(&self) -> String {
        self.events().iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
    }
}

impl Client {
    /// A plain connection.
    pub async fn connect(address: SocketAddr) -> Client {
        let socket = soon("connect", TcpStream::connect(address)).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Client::over(socket)
    }

    /// On a stream that stands already.
    pub fn over(wire: impl Wire + 'static) -> Client {
        Client { wire: Box::new(wire), buffer: Vec::new() }
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon("send", self.wire.write_all(bytes.as_ref())).await.unwrap();
        self.wire.flush().await.unwrap();
    }

    /// Sends bytes to a peer that may have closed already.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.write_all(bytes.as_ref()).await.is_ok() && self.wire.flush().await.is_ok()
    }

    /// A request with `Host: test` unless the headers name one, and `Content-Length` when there is a body.
    pub async fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.send(request(method, target, headers, body)).await;
        self.response(method == "HEAD").await
    }

    /// More bytes into the buffer; false at the end of the stream.
    async fn fill(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        match soon("an answer", self.wire.read(&mut piece)).await {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.buffer.extend_from_slice(&piece[..n]);
                true
            }
        }
    }

    /// The next line without its end; `None` when the stream ends first.
    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    /// The status and header of the next answer; `None` when the connection ends instead.
    pub async fn head(&mut self) -> Option<Response> {
        let status_line = self.line().await?;
        let status = status_line.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {status_line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                // A field of the origin's comes before ours (RFC 9211 §2).
                let ours = headers.iter().rfind(|(n, _): &&(String, String)| n == "cache-status");
                ours.into_iter().for_each(|(_, v)| sf::check_cache_status(v));
                return Some(Response { status, headers, body: Vec::new(), complete: false });
            }
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field line: {line:?}"));
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// The next chunk of a chunked body; `Some(empty)` at its clean end, `None` when it is cut.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.line().await?;
        let digits = size.split(';').next().unwrap_or("").trim();
        let size = usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("no chunk size: {size:?}"));
        if size == 0 {
            while !self.line().await?.is_empty() {}
            return Some(Vec::new());
        }
        let data = self.exactly(size).await?;
        assert_eq!(self.exactly(2).await?, b"\r\n", "a chunk ends in CRLF");
        Some(data)
    }

    /// A whole answer, past interim ones. Panics when the connection ends before a header.
    pub async fn response(&mut self, head_only: bool) -> Response {
        self.try_response(head_only).await.expect("the connection ended before an answer")
    }

    /// A whole answer, past interim ones; `None` when the connection ends before a header.
    pub async fn try_response(&mut self, head_only: bool) -> Option<Response> {
        let mut response = self.head().await?;
        while (100..200).contains(&response.status) && response.status != 101 {
            response = self.head().await?;
        }
        if head_only || [101, 204, 304].contains(&response.status) {
            response.complete = true;
            return Some(response);
        }
        if response.header("transfer-encoding").eq_ignore_ascii_case("chunked") {
            while let Some(chunk) = self.chunk().await {
                response.complete = chunk.is_empty();
                response.body.extend(chunk);
                if response.complete {
                    break;
                }
            }
        } else if let Ok(length) = response.header("content-length").parse::<usize>() {
            match self.exactly(length).await {
                Some(body) => (response.body, response.complete) = (body, true),
                None => response.body = std::mem::take(&mut self.buffer),
            }
        } else {
            while self.fill().await {}
            (response.body, response.complete) = (std::mem::take(&mut self.buffer), true);
        }
        Some(response)
    }

    /// What is left until the peer closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Waits for at least `length` further bytes and takes them.
    pub async fn bytes(&mut self, length: usize) -> Vec<u8> {
        self.exactly(length).await.expect("the connection ended")
    }
}

/// The bytes of a request with `Host: test` unless the headers name one.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
        head += "Host: test\r\n";
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    head += "\r\n";
    [head.as_bytes(), body].concat()
}

/// One request on a connection of its own.
pub async fn ask(at: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    Client::connect(at).await.ask(method, target, headers, body).await
}

/// `GET` on a connection of its own.
pub async fn get(at: SocketAddr, target: &str) -> Response {
    ask(at, "GET", target, &[], b"").await
}

/// `GET` for a host.
pub async fn get_host(at: SocketAddr, host: &str, target: &str) -> Response {
    ask(at, "GET", target, &[("Host", host)], b"").await
}

/// `POST` of JSON.
pub async fn post(at: SocketAddr, target: &str, headers: &[(&str, &str)], body: &serde_json::Value) -> Response {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend_from_slice(headers);
    ask(at, "POST", target, &all, body.to_string().as_bytes()).await
}
