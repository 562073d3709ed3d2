//! Realtime sessions: websockets to a provider through an AI route.

use crate::harness::client::{Client, request};
use crate::harness::edge::{Edge, Setup};
use crate::harness::origin::{self, Gate, gate};
use crate::harness::wait_until;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const YAML: &str = "
ai:
  providers: { oa: { dialect: openai, base_url: \"http://$ORIGIN/v1\", api_key: \"file:$DIR/key\" } }
  models: { talk: { provider: oa, model: gpt-realtime } }
  tiers: { voice: [talk] }
policy: { script: policy.rhai }
observability: { access_log: { output: \"$DIR/access.log\" } }
routes:
  - { name: shut, match: { path: /shut/* }, ai: {} }
  - name: rt
    match: { path: /v1/* }
    policy: true
    max_body: 10
    ai: { tier: voice, passthrough: { endpoints: [realtime], realtime: { idle: $IDLE, total: $TOTAL } } }
";

const SCRIPT: &str =
    "fn on_prompt(req, prompt) { if prompt.model == \"denied\" { deny(403, \"no\") } else { next() } }";

/// A provider that opens sessions when told to and sends back what comes, in brackets; and the heads it saw.
async fn provider(status: &'static str, door: Gate) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = seen.clone();
    let address = origin::raw(move |mut socket| {
        let (log, door) = (log.clone(), door.clone());
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if socket.read_buf(&mut head).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            log.lock().unwrap().push(String::from_utf8(head).unwrap());
            // See proxy.rs: Pingora loses a 101 that comes before the request's end has passed inside it.
            let _ = door.acquire().await;
            let fields = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: y\r\nsec-websocket-protocol: realtime\r\nset-cookie: canary\r\n";
            let _ = socket.write_all(format!("HTTP/1.1 {status}\r\n{fields}\r\n").as_bytes()).await;
            let mut piece = [0; 1024];
            while let Ok(n @ 1..) = socket.read(&mut piece).await {
                let _ = socket.write_all(&[b"<", &piece[..n], b">"].concat()).await;
            }
        }
    })
    .await;
    (address, seen)
}

async fn edge(address: SocketAddr, idle: &str, total: &str) -> Edge {
    let setup = Setup::new(YAML).put("ORIGIN", address).put("IDLE", idle).put("TOTAL", total);
    setup.file("key", "sk-canary").file("policy.rhai", SCRIPT).start().await
}

const FIELDS: [(&str, &str); 6] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "x"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Protocol", "realtime, openai-insecure-api-key.client-canary"),
    ("Authorization", "Bearer client-canary"),
];

/// A client whose session stands.
async fn session(edge: &Edge, seen: &Mutex<Vec<String>>, door: &Gate) -> Client {
    let mut client = Client::connect(edge.web()).await;
    client
        .send(request("GET", "/v1/realtime?model=auto&api_key=client-canary&intent=transcription", &FIELDS, b""))
        .await;
    wait_until("the request at the provider", async || !seen.lock().unwrap().is_empty()).await;
    door.add_permits(1);
    let answer = client.response(false).await;
    assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, "realtime"), "{answer:?}");
    assert!(answer.header("set-cookie").is_empty());
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_passes_both_ways_with_the_gateways_key() {
    let door = gate();
    let (address, seen) = provider("101 Switching Protocols", door.clone()).await;
    let edge = edge(address, "20s", "60s").await;
    let mut client = session(&edge, &seen, &door).await;
    for word in ["one", "two", "a message longer than max_body"] {
        client.send(word).await;
        assert_eq!(client.bytes(word.len() + 2).await, format!("<{word}>").into_bytes());
    }
    let head = seen.lock().unwrap()[0].to_ascii_lowercase();
    assert!(head.starts_with("get /v1/realtime?model=gpt-realtime&intent=transcription http/1.1\r\n"), "{head}");
    assert!(
        head.contains("authorization: bearer sk-canary\r\n") && head.contains("sec-websocket-protocol: realtime\r\n")
    );
    assert!(head.contains("sec-websocket-key: x\r\n") && head.contains(&format!("host: {address}\r\n")));
    assert!(!head.contains("client-canary") && !head.contains("x-forwarded"), "{head}");
    drop(client);
    let log = edge.path("access.log");
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("the log", async || read().contains("\"operation\":\"realtime\"")).await;
    assert!(read().contains("\"provider\":\"oa\"") && !read().contains("canary"), "{}", read());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_it_has_lasted_long_enough() {
    let door = gate();
    let (address, seen) = provider("101 Switching Protocols", door.clone()).await;
    let edge = edge(address, "20s", "1ms").await;
    let mut client = session(&edge, &seen, &door).await;
    client.try_send("one").await;
    assert_eq!(client.rest().await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_provider_ends_a_session() {
    let door = gate();
    let (address, seen) = provider("101 Switching Protocols", door.clone()).await;
    let edge = edge(address, "300ms", "60s").await;
    let mut client = session(&edge, &seen, &door).await;
    assert_eq!(client.rest().await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_their_reason_and_no_secret() {
    let door = gate();
    door.add_permits(100);
    for (status, expected) in [("401 Unauthorized", 502), ("429 Too Many Requests", 429), ("200 OK", 502)] {
        let (address, _) = provider(status, door.clone()).await;
        let edge = edge(address, "20s", "60s").await;
        let answer = Client::connect(edge.web()).await.ask("GET", "/v1/realtime?model=talk", &FIELDS, b"").await;
        assert_eq!(answer.status, expected, "{status}: {answer:?}");
        assert!(!format!("{answer:?}").contains("canary"));
    }
    let (address, seen) = provider("101 Switching Protocols", door.clone()).await;
    let edge = edge(address, "20s", "60s").await;
    for (path, fields, status, reason) in [
        ("/v1/realtime?model=talk", &FIELDS[..0], 400, "no_websocket"),
        ("/v1/realtime", &FIELDS[..], 400, "missing_field"),
        ("/v1/realtime?model=stranger", &FIELDS[..], 404, "model_not_found"),
        ("/v1/realtime?model=denied", &FIELDS[..], 403, "policy_deny"),
        ("/shut/realtime?model=talk", &FIELDS[..], 404, "endpoint_closed"),
    ] {
        let answer = edge.ask("GET", path, fields, b"").await;
        assert_eq!((answer.status, answer.reason()), (status, reason), "{path}");
    }
    assert!(seen.lock().unwrap().is_empty());
    let gone = self::edge(origin::nobody(), "20s", "60s").await;
    assert_eq!(gone.ask("GET", "/v1/realtime?model=talk", &FIELDS, b"").await.status, 502);
}
