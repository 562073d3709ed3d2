//! A model provider that costs next to nothing: it answers chat completions from memory, whole or as a stream.

use bytes::BytesMut;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Events of a paced stream and the time between two of them.
pub const DELTAS: usize = 64;
pub const PACE: Duration = Duration::from_millis(20);
/// What the answer to a prompt says.
const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1767225600,"model":"up-1","choices":[{"index":0,"message":{"role":"assistant","content":"Steep it for three minutes in water just off the boil, and drink it before it is cold.","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":24,"completion_tokens":19,"total_tokens":43,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#;

/// Serves until the process ends.
pub async fn serve(listener: TcpListener) {
    while let Ok((socket, _)) = listener.accept().await {
        let _ = socket.set_nodelay(true);
        tokio::spawn(connection(socket));
    }
}

async fn connection(mut socket: TcpStream) {
    let mut buf = BytesMut::with_capacity(1 << 16);
    loop {
        let Some(end) = head_end(&mut socket, &mut buf).await else { return };
        let head = String::from_utf8_lossy(&buf[..end]).to_ascii_lowercase();
        let length = head.split("content-length:").nth(1).and_then(|v| v.split("\r\n").next()?.trim().parse().ok());
        let whole = end + length.unwrap_or(0usize);
        while buf.len() < whole {
            if !matches!(socket.read_buf(&mut buf).await, Ok(n) if n > 0) {
                return;
            }
        }
        // The options stand at the end of the body: a long prompt is not searched.
        let tail = &buf[whole.saturating_sub(120).max(end)..whole];
        let has = |word: &[u8]| tail.windows(word.len()).any(|w| w == word);
        let sent = match (has(b"\"stream\":true"), has(b"\"user\":\"paced\"")) {
            (false, _) => answer(&mut socket).await,
            (true, paced) => stream(&mut socket, paced).await,
        };
        if sent.is_err() {
            return;
        }
        let _ = buf.split_to(whole);
    }
}

async fn head_end(socket: &mut TcpStream, buf: &mut BytesMut) -> Option<usize> {
    loop {
        if let Some(at) = buf.windows(4).position(|w| w == b"\r\n\r\n") {
            return Some(at + 4);
        }
        match socket.read_buf(buf).await {
            Ok(n) if n > 0 => {}
            _ => return None,
        }
    }
}

async fn answer(socket: &mut TcpStream) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    socket.write_all(head.as_bytes()).await
}

async fn stream(socket: &mut TcpStream, paced: bool) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut first = head.to_owned();
    first += &chunk(&delta(r#"{"role":"assistant","content":""}"#, "null"));
    first += &chunk(&delta(r#"{"content":"0 "}"#, "null"));
    socket.write_all(first.as_bytes()).await?;
    let mut clock = tokio::time::interval(if paced { PACE } else { Duration::from_millis(2) });
    clock.tick().await;
    for i in 1..if paced { DELTAS } else { 2 } {
        clock.tick().await;
        let piece = chunk(&delta(&format!(r#"{{"content":"{i} "}}"#), "null"));
        socket.write_all(piece.as_bytes()).await?;
    }
    let usage = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1767225600,"model":"up-1","choices":[],"usage":{"prompt_tokens":24,"completion_tokens":64,"total_tokens":88}}"#;
    let last =
        chunk(&delta("{}", "\"stop\"")) + &chunk(&format!("{usage}\n\n")) + &chunk("data: [DONE]\n\n") + "0\r\n\r\n";
    socket.write_all(last.as_bytes()).await
}

fn delta(delta: &str, finish: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,\"model\":\"up-1\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}]}}\n\n"
    )
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}
