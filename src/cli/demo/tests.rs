//! Tests of the demo servers, over real sockets.

use super::*;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_origin(listener));
    address
}

async fn model(latency: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_model(listener, latency));
    address
}

/// One request on a connection of its own; the whole answer as text (lossy for pictures).
async fn ask(address: SocketAddr, head: &str, body: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let request = format!("{head}\r\nHost: demo\r\nConnection: close\r\n{length}\r\n{body}");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn field<'a>(answer: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    answer.lines().find_map(|l| l.to_lowercase().starts_with(&prefix).then(|| &l[prefix.len()..])).unwrap_or("")
}

#[tokio::test]
async fn a_page_has_validators_and_is_not_sent_twice() {
    let app = origin().await;
    let first = ask(app, "GET / HTTP/1.1", "").await;
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    assert!(first.contains("The Tea Shop"));
    assert_eq!(field(&first, "cache-control"), "public, max-age=60");
    assert_eq!(field(&first, "x-origin-hits"), "1");
    let again = ask(app, &format!("GET / HTTP/1.1\r\nIf-None-Match: {}", field(&first, "etag")), "").await;
    assert!(again.starts_with("HTTP/1.1 304"), "{again}");
    assert_eq!(field(&again, "x-origin-hits"), "2");
    assert!(!again.contains("The Tea Shop"));
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let answer = ask(origin().await, "HEAD /api/products HTTP/1.1", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(field(&answer, "content-length").parse::<usize>().unwrap() > 100);
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn private_pages_may_not_be_stored() {
    let app = origin().await;
    for path in ["/account/", "/shop"] {
        let answer = ask(app, &format!("GET {path} HTTP/1.1\r\nx-user: <script>\r\nx-arm: <b>"), "").await;
        assert!(field(&answer, "cache-control").contains("no-store"), "{answer}");
        assert!(!answer.contains("<script>") && !answer.contains("<b><b>"), "{answer}");
    }
    assert!(ask(app, "GET /nowhere HTTP/1.1", "").await.starts_with("HTTP/1.1 404"));
}

#[test]
fn a_picture_is_a_png_with_right_check_sums() {
    let picture = png::picture(96, 5);
    assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n"));
    // the last chunk of every PNG is IEND with this very checksum
    assert!(picture.ends_with(b"\0\0\0\0IEND\xAE\x42\x60\x82"));
    assert_ne!(picture, png::picture(96, 6));
}

#[tokio::test]
async fn a_chat_takes_its_time_and_counts_its_tokens() {
    let latency = Duration::from_millis(120);
    let started = Instant::now();
    let body = r#"{"model":"demo-small","messages":[{"role":"user","content":"How do I return an item?"}]}"#;
    let answer = ask(model(latency).await, "POST /v1/chat/completions HTTP/1.1", body).await;
    assert!(started.elapsed() >= latency);
    assert!(answer.contains("within 30 days"), "{answer}");
    assert!(answer.contains("\"total_tokens\""), "{answer}");
    assert_eq!(field(&answer, "x-model-calls"), "1");
}

#[tokio::test]
async fn a_stream_carries_the_same_answer_piece_by_piece_and_usage_on_request() {
    let body = r#"{"model":"demo-small","stream":true,"stream_options":{"include_usage":true},
                   "messages":[{"role":"user","content":[{"type":"text","text":"How do I return an item?"}]}]}"#;
    let answer = ask(model(Duration::from_millis(80)).await, "POST /v1/chat/completions HTTP/1.1", body).await;
    assert!(answer.contains("text/event-stream"), "{answer}");
    let text: String = answer
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(text, faq::answer("How do I return an item?"));
    assert!(answer.contains("\"choices\":[],\"usage\":{"), "{answer}");
    assert!(answer.contains("data: [DONE]"), "{answer}");
}

#[tokio::test]
async fn bad_calls_get_errors_in_the_dialect() {
    let provider = model(Duration::ZERO).await;
    for (body, code) in [
        ("{", "invalid_value"),
        (r#"{"model":"nope","messages":[{"role":"user","content":"x"}]}"#, "model_not_found"),
        (r#"{"model":"demo-small","messages":[]}"#, "invalid_value"),
    ] {
        let answer = ask(provider, "POST /v1/chat/completions HTTP/1.1", body).await;
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
        assert_eq!(field(&answer, "x-model-calls"), "0");
    }
}

#[tokio::test]
async fn embeddings_come_as_numbers_or_packed() {
    let provider = model(Duration::ZERO).await;
    let numbers = ask(provider, "POST /v1/embeddings HTTP/1.1", r#"{"model":"demo-embedding","input":"tea"}"#).await;
    assert!(numbers.contains("\"embedding\":[0.0,"), "{numbers}");
    let body = r#"{"model":"demo-embedding","input":["tea","pot"],"encoding_format":"base64"}"#;
    let packed = ask(provider, "POST /v1/embeddings HTTP/1.1", body).await;
    assert!(packed.contains("\"index\":1,\"embedding\":\"AAAA"), "{packed}");
}

#[test]
fn answers_differ_by_question() {
    assert!(faq::answer("I forgot my password").contains("Forgot password"));
    assert!(faq::answer("When does my parcel arrive?").contains("two to three working days"));
    assert!(faq::answer("What is the capital of France?").contains("capital of France"));
    assert_eq!(faq::tokens("a b c").concat(), "a b c");
}
