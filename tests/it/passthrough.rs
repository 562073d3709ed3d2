//! What passes an AI route without being understood: images, audio, files, batches.

use crate::harness::client::{Client, Response, request};
use crate::harness::edge::{Edge, Setup};
use crate::harness::origin::{self, Origin, Step, chunk, chunked, gate, reply};
use crate::harness::process::Process;
use crate::harness::wait_until;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const YAML: &str = "
ai:
  max_body: 256KiB
  providers:
    oa: { dialect: openai, base_url: \"http://$ORIGIN/v1\", api_key: \"file:$DIR/key\", headers: { x-own: a } }
    ob: { dialect: openai, base_url: \"http://$ORIGIN/second\" }
    an: { dialect: anthropic, base_url: \"http://$ORIGIN/v1\", api_key: \"file:$DIR/key\" }
  models:
    paint: { provider: oa, model: gpt-image-1, price: { input: 5, output: 40 } }
    hear: { provider: oa, model: whisper-1 }
    other: { provider: ob, model: other-1 }
    claude: { provider: an, model: claude-1 }
  tiers: { pictures: [paint, other] }
policy: { script: policy.rhai }
routes:
  - { name: shut, match: { path: /shut/* }, ai: {} }
  - { name: few, match: { path: /few/* }, ai: { models: [hear], passthrough: { endpoints: [images, audio] } } }
  - { name: asked, match: { path: /asked/* }, policy: true, ai: { passthrough: { endpoints: [images] } } }
  - { name: claude, match: { path: /an/* }, ai: { passthrough: { endpoints: [message_batches, files], provider: an } } }
  - name: open
    match: { path: /v1/* }
    ai:
      tier: pictures
      passthrough:
        endpoints: [images, audio, moderations, rerank, files, batches, responses]
        provider: oa
        max_body: 100MiB
";

const SCRIPT: &str = r#"
fn on_prompt(req, prompt) {
    if prompt.text.contains("forbidden") { deny(403, "not this") } else { next() }
}
"#;

fn setup(address: std::net::SocketAddr) -> Setup {
    Setup::new(YAML).put("ORIGIN", address).file("key", "sk-canary").file("policy.rhai", SCRIPT)
}

async fn echo() -> (Origin, Edge) {
    let origin = Origin::start(|seen| {
        let fields = [
            ("content-type", "application/json"),
            ("x-ratelimit-remaining-requests", "9"),
            ("set-cookie", "a=b"),
            ("x-internal", "b"),
        ];
        match seen.target.as_str() {
            "/v1/images/generations" if seen.json()["prompt"] == "busy" => {
                reply(429, &fields, r#"{"error":{"message":"slow down","type":"requests"}}"#)
            }
            "/v1/images/generations" if seen.json()["prompt"] == "auth" => {
                reply(401, &fields, r#"{"error":{"message":"Incorrect API key: sk-canary"}}"#)
            }
            "/v1/images/generations" => {
                let usage = json!({ "input_tokens": 10, "output_tokens": 100, "total_tokens": 110 });
                reply(200, &fields, json!({ "data": [{ "b64_json": "AAAA" }], "usage": usage }).to_string())
            }
            "/v1/files/file-1/content" => {
                let fields = [("content-type", "application/octet-stream"), ("content-disposition", "attachment")];
                reply(200, &fields, b"\x00\x01binary".as_slice())
            }
            _ => reply(200, &fields, "{}"),
        }
    })
    .await;
    let edge = setup(origin.address).start().await;
    (origin, edge)
}

/// A form as SDKs write it.
fn form(parts: &[(&str, &str)]) -> Vec<u8> {
    let part = |(head, body): &(&str, &str)| {
        format!("--b1\r\nContent-Disposition: form-data; {head}\r\nContent-Type: text/plain\r\n\r\n{body}\r\n")
    };
    let all: String = parts.iter().map(part).collect();
    (all + "--b1--\r\n").into_bytes()
}

const FORM: (&str, &str) = ("Content-Type", "multipart/form-data; boundary=b1");

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_made_by_the_model_that_is_named_and_billed() {
    let (origin, edge) = echo().await;
    let keys = [
        ("Authorization", "Bearer client-canary"),
        ("OpenAI-Organization", "client-canary"),
        ("Cookie", "client-canary"),
    ];
    let answer =
        edge.post("/v1/images/generations", &keys, &json!({ "prompt": "a cat", "model": "paint", "n": 1 })).await;
    assert_eq!((answer.status, answer.source()), (200, "provider"), "{}", answer.text());
    assert_eq!((answer.header("x-sluicegate-model"), answer.header("x-sluicegate-provider")), ("paint", "oa"));
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), "9");
    assert!(answer.header("set-cookie").is_empty() && answer.header("x-internal").is_empty());
    assert_eq!(answer.json()["data"][0]["b64_json"], "AAAA");
    let seen = origin.last();
    assert_eq!(String::from_utf8_lossy(&seen.body), r#"{"prompt":"a cat","model":"gpt-image-1","n":1}"#);
    assert_eq!((seen.header("authorization"), seen.header("x-own")), ("Bearer sk-canary", "a"));
    assert!(!seen.raw.contains("client-canary"), "{}", seen.raw);
    wait_until("the bill", async || edge.metric("sluicegate_ai_tokens_total", &["paint", "\"output\""]).await == 100.0)
        .await;
    // 10 tokens in at 5 USD and 100 out at 40 USD per million
    assert_eq!(edge.metric("sluicegate_ai_cost_nano_usd_total", &["paint"]).await, 4_050_000.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_keeps_every_byte_but_the_models_name() {
    let (origin, edge) = echo().await;
    let audio = "RIFF\x00\x01--b1 not a boundary\r\n".repeat(2_000);
    let file = ("name=\"file\"; filename=\"a.wav\"", audio.as_str());
    for parts in [[file, ("name=\"model\"", "hear")], [("name=\"model\"", "hear"), file]] {
        let answer = edge.ask("POST", "/v1/audio/transcriptions", &[FORM], &form(&parts)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = origin.last();
        let expected = String::from_utf8(form(&parts)).unwrap().replace("\r\n\r\nhear\r\n", "\r\n\r\nwhisper-1\r\n");
        assert!(seen.body == expected.as_bytes());
        assert_eq!((seen.header("content-type"), seen.target.as_str()), (FORM.1, "/v1/audio/transcriptions"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_opened_is_shut() {
    let (origin, edge) = echo().await;
    let body = json!({ "prompt": "a cat", "model": "paint" });
    for path in ["/shut/images/generations", "/few/moderations"] {
        let answer = edge.post(path, &[], &body).await;
        assert_eq!((answer.status, answer.reason()), (404, "endpoint_closed"), "{path}");
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains("ai.passthrough.endpoints"));
    }
    let refused = edge.post("/few/images/generations", &[], &body).await;
    assert_eq!((refused.status, refused.reason()), (404, "model_not_found"));
    let stranger = edge.post("/v1/images/generations", &[], &json!({ "prompt": "a cat", "model": "claude" })).await;
    assert_eq!((stranger.status, stranger.reason()), (400, "unsupported_by_provider"));
    let method = edge.get("/v1/images/generations").await;
    assert_eq!((method.status, method.header("allow")), (405, "POST"));
    assert!((400..500).contains(&edge.get("/v1/files/..%2fmodels").await.status));
    assert_eq!(origin.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_batches_go_to_the_routes_provider() {
    let (origin, edge) = echo().await;
    let upload = form(&[("name=purpose", "batch"), ("name=file; filename=f", "{}")]);
    assert_eq!(edge.ask("POST", "/v1/files", &[FORM], &upload).await.status, 200);
    assert!(origin.last().body == upload);
    let content = edge.ask("GET", "/v1/files/file-1/content", &[("Range", "bytes=0-7")], b"").await;
    assert_eq!(
        (content.body.as_slice(), content.header("content-disposition")),
        (b"\x00\x01binary".as_slice(), "attachment")
    );
    assert_eq!(origin.last().header("range"), "bytes=0-7");
    assert_eq!(edge.get("/v1/files?limit=3&api_key=canary").await.status, 200);
    assert_eq!(origin.last().target, "/v1/files?limit=3");
    assert_eq!(edge.ask("DELETE", "/v1/files/file-1", &[], b"").await.status, 200);
    assert_eq!(edge.post("/v1/batches", &[], &json!({ "input_file_id": "file-1" })).await.status, 200);
    assert_eq!(edge.ask("POST", "/v1/batches/batch_1/cancel", &[], b"").await.status, 200);
    assert_eq!((origin.last().method.as_str(), origin.last().target.as_str()), ("POST", "/v1/batches/batch_1/cancel"));
    assert_eq!(edge.get("/v1/responses/resp_1").await.status, 200);
    let fields = [("anthropic-beta", "message-batches")];
    assert_eq!(edge.post("/an/messages/batches", &fields, &json!({ "requests": [] })).await.status, 200);
    let seen = origin.last();
    assert_eq!((seen.target.as_str(), seen.header("x-api-key")), ("/v1/messages/batches", "sk-canary"));
    assert_eq!((seen.header("anthropic-version"), seen.header("anthropic-beta")), ("2023-06-01", "message-batches"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_model_is_replaced_and_the_gateways_key_is_nobodys_business() {
    let (origin, edge) = echo().await;
    let ask = async |model: &str, prompt: &str| {
        edge.post("/v1/images/generations", &[], &json!({ "model": model, "prompt": prompt })).await
    };
    let replaced = ask("auto", "busy").await;
    assert_eq!((replaced.status, replaced.header("x-sluicegate-model")), (200, "other"), "{}", replaced.text());
    assert_eq!(
        (origin.last().target.as_str(), origin.last().json()["model"].as_str()),
        ("/second/images/generations", Some("other-1"))
    );
    let busy = ask("paint", "busy").await;
    assert_eq!((busy.status, busy.reason()), (429, "provider_rate_limited"));
    assert!(busy.text().contains("slow down"));
    let auth = ask("paint", "auth").await;
    assert_eq!((auth.status, auth.reason()), (502, "provider_auth"));
    assert!(!auth.text().contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_reads_the_prompt_or_nothing_passes() {
    let (origin, edge) = echo().await;
    let path = "/asked/images/edits";
    let denied = edge.post(path, &[], &json!({ "model": "paint", "prompt": "a forbidden thing" })).await;
    assert_eq!((denied.status, denied.source()), (403, "policy"), "{}", denied.text());
    let parts = [("name=model", "paint"), ("name=prompt", "forbidden")];
    assert_eq!(edge.ask("POST", path, &[FORM], &form(&parts)).await.status, 403);
    let large = "x".repeat(300_000);
    let hidden = [("name=model", "paint"), ("name=image; filename=i", large.as_str()), ("name=prompt", "forbidden")];
    let refused = edge.ask("POST", path, &[FORM], &form(&hidden)).await;
    assert_eq!((refused.status, refused.reason()), (400, "field_too_late"), "{}", refused.text());
    assert_eq!(origin.hits(), 0);
    let fine = [("name=model", "paint"), ("name=prompt", "a cat"), ("name=image; filename=i", large.as_str())];
    assert_eq!(edge.ask("POST", path, &[FORM], &form(&fine)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_streams_as_it_is_made() {
    let door = gate();
    let held = door.clone();
    let origin = Origin::start(move |_| {
        let head = chunked(200, &[("content-type", "audio/mpeg")]);
        vec![head, chunk("one"), Step::Wait(held.clone()), chunk("two"), chunk("")]
    })
    .await;
    let edge = setup(origin.address).start().await;
    let mut client = Client::connect(edge.web()).await;
    let body = json!({ "model": "hear", "input": "hi" }).to_string();
    client.send(request("POST", "/v1/audio/speech", &[("Content-Type", "application/json")], body.as_bytes())).await;
    let head = client.head().await.unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, "audio/mpeg"));
    assert_eq!(client.chunk().await.unwrap(), b"one");
    door.add_permits(1);
    assert_eq!(client.chunk().await.unwrap(), b"two");
    assert_eq!(client.chunk().await.unwrap(), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_is_cut_for_the_client_and_billed_as_far_as_it_came() {
    let origin = Origin::start(|_| {
        let usage = chunk("data: {\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}\n\n");
        vec![chunked(200, &[("content-type", "text/event-stream")]), usage, Step::Cut]
    })
    .await;
    let edge = setup(origin.address).start().await;
    let answer = edge.post("/v1/images/generations", &[], &json!({ "model": "paint", "stream": true })).await;
    assert!(answer.status == 200 && !answer.complete);
    wait_until("the bill", async || edge.metric("sluicegate_ai_tokens_total", &["paint", "\"input\""]).await == 5.0)
        .await;
}

/// A provider that swallows uploads and says how many bytes came; the sum of all.
async fn swallowing() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let sum = Arc::new(AtomicUsize::new(0));
    let count = sum.clone();
    let address = origin::raw(move |mut socket| {
        let count = count.clone();
        async move {
            let mut buf = vec![0; 64 << 10];
            let mut last = [0u8; 5];
            let mut end: Option<&[u8]> = None;
            while let Ok(n @ 1..) = socket.read(&mut buf).await {
                count.fetch_add(n, Ordering::SeqCst);
                let tail = [&last[..], &buf[..n]].concat();
                last.copy_from_slice(&tail[tail.len() - 5..]);
                // The head comes first, in one piece: it says whether the last chunk or the form's end is the end.
                let chunked = || String::from_utf8_lossy(&buf[..n]).to_ascii_lowercase().contains("chunked");
                let end = *end.get_or_insert_with(|| if chunked() { b"0\r\n\r\n" } else { b"--\r\n" });
                if last.ends_with(end) {
                    let _ = socket
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
                        .await;
                }
            }
        }
    })
    .await;
    (address, sum)
}

fn rss_kib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_passes_without_being_held() {
    const MIB: usize = 1 << 20;
    let (address, sum) = swallowing().await;
    let dir = tempfile::tempdir().unwrap();
    let config = setup(address).write_into(dir.path());
    let gateway = Process::start(&config).await;
    let piece = vec![b'x'; MIB];
    for chunked in [false, true] {
        let (before, there) = (rss_kib(gateway.pid()), sum.load(Ordering::SeqCst));
        let mut client = Client::connect(gateway.web).await;
        let start = "--b1\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nhear\r\n--b1\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
        let end = "\r\n--b1--\r\n";
        let length = start.len() + 64 * MIB + end.len();
        let framing =
            if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {length}") };
        client
            .send(format!(
                "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: test\r\n{}: {}\r\n{framing}\r\n\r\n",
                FORM.0, FORM.1
            ))
            .await;
        let frame = |bytes: &[u8]| {
            if chunked {
                [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
            } else {
                bytes.to_vec()
            }
        };
        client.send(frame(start.as_bytes())).await;
        for _ in 0..64 {
            client.send(frame(&piece)).await;
        }
        client.send(frame(end.as_bytes())).await;
        if chunked {
            client.send("0\r\n\r\n").await;
        }
        let answer = client.response(false).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(sum.load(Ordering::SeqCst) - there > 64 * MIB);
        let grown = rss_kib(gateway.pid()).saturating_sub(before);
        assert!(grown < 16 << 10, "{grown} KiB more for 64 MiB, chunked: {chunked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_wherever_that_shows() {
    let (address, _) = swallowing().await;
    let small = YAML.replace("max_body: 100MiB", "max_body: 300KiB");
    let edge = Setup::new(&small).put("ORIGIN", address).file("key", "k").file("policy.rhai", SCRIPT).start().await;
    let announced = "POST /v1/files HTTP/1.1\r\nHost: test\r\nContent-Length: 400000\r\n\r\n";
    let mut client = Client::connect(edge.web()).await;
    client.send(announced).await;
    let refused: Response = client.response(false).await;
    assert_eq!((refused.status, refused.reason()), (413, "body_too_large"));
    let mut client = Client::connect(edge.web()).await;
    client.send("POST /v1/files HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for size in [100_000, 100_000, 100_000, 10_000] {
        client.try_send([format!("{size:x}\r\n").as_bytes(), &vec![b'x'; size], b"\r\n"].concat()).await;
    }
    let refused = client.response(false).await;
    assert_eq!((refused.status, refused.reason()), (413, "body_too_large"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_while_it_uploads_takes_the_upload_with_it() {
    let origin = Origin::start(|_| Vec::new()).await;
    let edge = setup(origin.address).start().await;
    let mut client = Client::connect(edge.web()).await;
    client.send("POST /v1/files HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\nsome of it").await;
    wait_until("the upload to begin", async || origin.connections() == 1).await;
    drop(client);
    wait_until("the end", async || edge.metric("sluicegate_ai_calls_total", &["open", "status=\"499\""]).await == 1.0)
        .await;
    assert_eq!(origin.hits(), 0, "never taken for a whole one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_named_again_in_the_rest_ends_the_upload() {
    let (address, _) = swallowing().await;
    let edge = setup(address).start().await;
    let large = "x".repeat(300_000);
    let parts = [("name=model", "hear"), ("name=file; filename=f", large.as_str()), ("name=model", "paint")];
    let refused = edge.ask("POST", "/v1/audio/transcriptions", &[FORM], &form(&parts)).await;
    assert_eq!((refused.status, refused.reason()), (400, "invalid_form"), "{}", refused.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_section_are_named() {
    for (from, to, told) in [
        ("files], provider: an", "files], provider: am", "ai.passthrough.provider: there is no provider \"am\""),
        ("message_batches, files", "batches", "providers of the dialect anthropic have no \"batches\""),
        (", provider: an }", " }", "names no model: say which provider has it"),
        ("endpoints: [images] }", "endpoints: [images], provider: oa }", "has no effect"),
        ("endpoints: [images] }", "endpoints: [] }", "opens nothing"),
        ("endpoints: [images] }", "endpoints: [images, imagse] }", "imagse"),
    ] {
        let yaml = YAML.replacen(from, to, 1);
        let setup = Setup::new(&yaml).put("ORIGIN", origin::nobody()).file("key", "k").file("policy.rhai", SCRIPT);
        let fault = format!("{:#}", setup.try_start().await.err().expect("a fault"));
        assert!(fault.contains(told), "{fault}");
    }
}
