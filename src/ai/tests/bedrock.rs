//! Bedrock in the pipeline, played by a server that lets in only what is rightly signed: it makes the signature anew
//! from the bytes that it got, by the description of the algorithm and not by the library that signed.

use super::super::dialect::Dialect;
use super::super::eventstream::tests::encoded;
use super::*;
use crate::base::ids::hex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Write;

const ACCESS: &str = "AKIDEXAMPLE";
const SECRET: &str = "canary/secret+key";
const MODEL: &str = "anthropic.claude-3-5-sonnet-20240620-v1:0";
const PRICE: &str = "{ input: 3, output: 15, cache_read: 0.3, cache_write: 3.75, cache_write_1h: 6 }";

/// RFC 2104.
fn hmac(key: &[u8], data: &str) -> Vec<u8> {
    let mut block = [0u8; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |with: u8| block.map(|b| b ^ with).to_vec();
    let inner = Sha256::digest([pad(0x36), data.as_bytes().to_vec()].concat());
    Sha256::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
}

/// The signature that this request must bear, and the one that it bears.
fn signatures(request: &str) -> (String, String) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let (method, path) = lines.next().unwrap().rsplit_once(' ').unwrap().0.split_once(' ').unwrap();
    let fields: BTreeMap<String, String> = lines
        .map(|l| l.split_once(':').unwrap())
        .map(|(n, v)| (n.to_ascii_lowercase(), v.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect();
    let told = fields["authorization"].strip_prefix("AWS4-HMAC-SHA256 ").unwrap();
    let part = |name: &str| {
        let found = told.split(", ").find_map(|p| p.strip_prefix(&format!("{name}="))).unwrap();
        found.to_owned()
    };
    let signed = part("SignedHeaders");
    for needed in ["host", "x-amz-date", "x-amz-content-sha256", "content-type"] {
        assert!(signed.split(';').any(|n| n == needed), "{needed}: {signed}");
    }
    let payload = hex(&Sha256::digest(body));
    assert_eq!(fields["x-amz-content-sha256"], payload, "another body than was signed");
    let canonical: String = signed.split(';').map(|n| format!("{n}:{}\n", fields[n])).collect();
    // Every segment is encoded once more than it is sent.
    let canonical = format!("{method}\n{}\n\n{canonical}\n{signed}\n{payload}", path.replace('%', "%25"));
    let scope = part("Credential").strip_prefix(&format!("{ACCESS}/")).unwrap().to_owned();
    let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", fields["x-amz-date"], hex(&Sha256::digest(canonical)));
    let key = scope.split('/').fold(format!("AWS4{SECRET}").into_bytes(), |key, part| hmac(&key, part));
    (hex(&hmac(&key, &text)), part("Signature"))
}

/// A server that answers as it is told to what is rightly signed, and 403 to everything else.
async fn aws(acts: Vec<Vec<Vec<u8>>>) -> Provider {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let p = Provider { url: format!("http://{}", listener.local_addr().unwrap()), seen: Arc::default() };
    let (log, mut acts) = (p.seen.clone(), VecDeque::from(acts));
    tokio::spawn(async move {
        while let Ok((mut s, _)) = listener.accept().await {
            s.set_nodelay(true).unwrap();
            let Some(request) = read_request(&mut s).await else { continue };
            let (want, told) = signatures(&request);
            log.lock().unwrap().push(request);
            let refusal =
                whole(403, "InvalidSignatureException", r#"{"message":"The request signature we calculated …"}"#);
            let act = if acts.len() > 1 { acts.pop_front().unwrap() } else { acts[0].clone() };
            for piece in if want == told { act } else { refusal } {
                let _ = s.write_all(&piece).await;
            }
        }
    });
    p
}

fn whole(status: u16, kind: &str, body: &str) -> Vec<Vec<u8>> {
    let kind = if kind.is_empty() { String::new() } else { format!("x-amzn-errortype: {kind}:http://internal/\r\n") };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nx-amzn-requestid: req-1\r\n{kind}");
    vec![format!("{head}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes()]
}

/// A stream in chunks of so many bytes, ended cleanly or not.
fn streamed(bytes: &[u8], size: usize, clean: bool) -> Vec<Vec<u8>> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\nx-amzn-requestid: req-1\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = |b: &[u8]| [format!("{:x}\r\n", b.len()).as_bytes(), b, b"\r\n"].concat();
    let end = clean.then(|| b"0\r\n\r\n".to_vec());
    std::iter::once(head.as_bytes().to_vec()).chain(bytes.chunks(size).map(chunk)).chain(end).collect()
}

fn golden(name: &str) -> String {
    let path = format!("{}/tests/fixtures/ai/bedrock/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn secret(value: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(value.as_bytes()).unwrap();
    file
}

fn compiled(yaml: &str) -> Result<Catalog, Vec<String>> {
    let ai: Ai = serde_yaml::from_str(yaml).unwrap();
    let keys = BTreeMap::from([("pk".to_owned(), Secret::new("sk-canary"))]);
    Catalog::compile(&ai, &PriceList::default(), &keys)
        .map_err(|all| all.into_iter().map(|f| format!("{}: {}", f.path, f.message)).collect())
}

/// `claude` on Bedrock, then `gpt` of another provider, in one tier.
fn mixed(bedrock: &Provider, other: &Provider) -> World {
    let (access, key, token) = (secret(ACCESS), secret(SECRET), secret("tok/en"));
    world_of(&format!(
        "
providers:
  pa: {{ dialect: openai, base_url: '{}' }}
  pb:
    dialect: bedrock
    base_url: '{}'
    aws: {{ region: eu-central-1, access_key: 'file:{}', secret_key: 'file:{}', session_token: 'file:{}' }}
models:
  gpt: {{ provider: pa, model: up-a }}
  claude: {{ provider: pb, model: '{MODEL}', price: {PRICE} }}
tiers: {{ cheap: [claude, gpt] }}",
        other.url,
        bedrock.url,
        access.path().display(),
        key.path().display(),
        token.path().display(),
    ))
}

async fn world(acts: Vec<Vec<Vec<u8>>>) -> (World, Provider, Provider) {
    let (bedrock, other) = (aws(acts).await, Provider::start([good()]).await);
    (mixed(&bedrock, &other), bedrock, other)
}

fn messages(model: &str, more: &str) -> Prompt {
    let body =
        format!(r#"{{"model":"{model}","max_tokens":9,"messages":[{{"role":"user","content":"Grüße"}}]{more}}}"#);
    prompt::parse(Operation::Messages, Bytes::from(body), 1 << 20).unwrap()
}

#[tokio::test]
async fn a_call_is_signed_over_what_is_sent_and_its_answer_is_named_billed_and_kept() {
    let (w, p, _) = world(vec![whole(200, "", &golden("answer-tools.json"))]).await;
    let seen = w.ask(&ask_with("claude", "Grüße", "")).await;
    assert_eq!(
        (seen.status, seen.json()["id"].as_str(), seen.json()["model"].as_str()),
        (200, Some("req-1"), Some("claude"))
    );
    assert_eq!(seen.json()["choices"][0]["finish_reason"], "tool_calls");
    // 30 tokens at 3, 60 at 0.3, 10 at 3.75, 30 at 6 and 30 at 15 dollars per million.
    assert_eq!(seen.call.cost.unwrap().nano_usd, 90_000 + 18_000 + 37_500 + 180_000 + 450_000);
    let request = &p.seen()[0];
    assert!(
        request.starts_with("POST /model/anthropic.claude-3-5-sonnet-20240620-v1%3A0/converse HTTP/1.1\r\n"),
        "{request}"
    );
    let lower = request.to_ascii_lowercase();
    assert!(lower.contains(&format!("\r\nhost: {}\r\n", p.url.strip_prefix("http://").unwrap())));
    assert!(
        lower.contains("\r\nx-amz-security-token: tok/en\r\n") && lower.contains("eu-central-1/bedrock/aws4_request")
    );
    assert!(!request.contains(SECRET));
    assert_eq!(serde_json::from_str::<Value>(body_of(request)).unwrap()["messages"][0]["content"][0]["text"], "Grüße");
    let again = w.ask(&ask_with("claude", "Grüße", "")).await;
    assert_eq!((again.source, p.calls()), (Source::AiExact, 1));
}

#[tokio::test]
async fn streams_cross_byte_by_byte_to_clients_of_either_dialect() {
    for name in ["stream-text", "stream-tools"] {
        let bytes = encoded(&golden(&format!("{name}.jsonl")));
        let (w, p, _) = world(vec![streamed(&bytes, 1, true)]).await;
        let seen = read(w.reply_as(messages("claude", r#","stream":true"#), &exact_only(), &w.context).await).await;
        let want = golden(&format!("{name}.anthropic.sse")).replace("\"best\"", "\"claude\"");
        assert_eq!(seen.text, want, "{name}");
        assert!(seen.clean && seen.call.stored && seen.call.first_content.is_some());
        assert_eq!(seen.call.usage.unwrap().input(), 130);
        let path = "/model/anthropic.claude-3-5-sonnet-20240620-v1%3A0/converse-stream HTTP/1.1\r\n";
        let request = p.seen()[0].clone();
        assert!(request.starts_with(&format!("POST {path}")), "{request}");
        assert!(request.to_ascii_lowercase().contains("\r\naccept: application/vnd.amazon.eventstream\r\n"));
        let seen = w.ask(&ask_with("claude", "x", r#","stream":true,"stream_options":{"include_usage":true}"#)).await;
        assert!(seen.clean && seen.text.ends_with("data: [DONE]\n\n"), "{}", seen.text);
        assert!(seen.text.contains(r#""cached_tokens":60,"cache_write_tokens":40"#), "{}", seen.text);
    }
}

#[tokio::test]
async fn an_error_before_the_first_content_goes_to_the_next_model() {
    let failing = [
        streamed(&encoded(&golden("stream-error_context.jsonl")), 4096, true),
        streamed(&encoded(r#"{"exception":"throttlingException","message":"slow down"}"#), 7, true),
        streamed(b"not an event stream at all", 5, true),
        streamed(&encoded(&golden("stream-text.jsonl"))[..20], 5, true),
        whole(429, "ThrottlingException", r#"{"message":"slow down"}"#),
        whole(424, "ModelErrorException", r#"{"message":"oh"}"#),
        whole(400, "ServiceQuotaExceededException", r#"{"message":"no more"}"#),
        whole(408, "ModelTimeoutException", r#"{"message":"late"}"#),
    ];
    for (i, act) in failing.into_iter().enumerate() {
        let (w, p, other) = world(vec![act]).await;
        let seen = w.ask(&ask_with("cheap", "x", r#","stream":true"#)).await;
        assert_eq!((seen.status, p.calls(), other.calls()), (200, 1, 1), "{i}: {}", seen.text);
        assert!(seen.clean && seen.text.ends_with("data: [DONE]\n\n"), "{i}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_after_its_first_content_gets_no_clean_end() {
    let text = encoded(&golden("stream-text.jsonl"));
    let mut damaged = text.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let cases = [
        (encoded(&golden("stream-error.jsonl")), true, "The model failed."),
        (encoded(&golden("stream-cut.jsonl")), true, "provider_stream_broken"),
        (text[..text.len() - 9].to_vec(), true, "provider_stream_broken"),
        (text.clone(), false, "provider_stream_broken"),
        (damaged, true, "provider_garbage"),
    ];
    for (i, (bytes, clean, told)) in cases.into_iter().enumerate() {
        let (w, p, other) = world(vec![streamed(&bytes, 16, clean)]).await;
        let seen = w.ask(&ask_with("cheap", "x", r#","stream":true"#)).await;
        assert!(!seen.clean && !seen.call.stored && seen.text.contains(told), "{i}: {}", seen.text);
        assert!(!seen.text.contains("[DONE]"), "{i}: {}", seen.text);
        assert_eq!((p.calls(), other.calls()), (1, 0), "{i}");
    }
}

#[tokio::test]
async fn refusals_are_told_in_the_clients_words() {
    let cases = [
        (400, "ValidationException", "Input is too long for requested model.", 400, "context_length_exceeded"),
        (429, "ThrottlingException", "Too many requests", 429, "ThrottlingException"),
        (400, "ServiceQuotaExceededException", "no more", 429, "ServiceQuotaExceededException"),
        (424, "ModelErrorException", "oh", 502, "ModelErrorException"),
        (503, "ServiceUnavailableException", "later", 503, "ServiceUnavailableException"),
    ];
    for (status, kind, message, want, code) in cases {
        let (w, ..) = world(vec![whole(status, kind, &json!({ "message": message }).to_string())]).await;
        let seen = w.ask(&ask_with("claude", "x", "")).await;
        assert_eq!((seen.status, &seen.json()["error"]["code"]), (want, &json!(code)), "{}", seen.text);
        assert_eq!(seen.json()["error"]["message"], message);
        let seen = read(w.reply_as(messages("claude", ""), &exact_only(), &w.context).await).await;
        assert_eq!((seen.status, &seen.json()["error"]["message"]), (want, &json!(message)));
    }
}

#[tokio::test]
async fn what_aws_says_about_credentials_stays_here() {
    let cases = [(403, "AccessDeniedException"), (400, "IncompleteSignatureException"), (403, "ExpiredTokenException")];
    for (status, kind) in cases {
        let (w, ..) =
            world(vec![whole(status, kind, r#"{"message":"User: arn:aws:iam::123456789012:user/canary"}"#)]).await;
        let seen = w.ask(&ask_with("claude", "x", "")).await;
        assert!(seen.status >= 500 && !seen.text.contains("canary"), "{} {}", seen.status, seen.text);
        assert!(seen.text.contains("refused the gateway's credentials"), "{}", seen.text);
    }
    let stream = encoded(r#"{"exception":"accessDeniedException","message":"arn:aws:iam::1:user/canary"}"#);
    let (w, ..) = world(vec![streamed(&stream, 64, true)]).await;
    let seen = w.ask(&ask_with("claude", "x", r#","stream":true"#)).await;
    assert!(seen.status >= 500 && !seen.text.contains("canary"), "{} {}", seen.status, seen.text);
}

#[tokio::test]
async fn an_api_key_is_sent_as_a_bearer_and_nothing_is_signed() {
    let p = Provider::start([json_reply(200, &golden("answer-text.json"))]).await;
    let yaml = format!(
        "
providers: {{ pb: {{ dialect: bedrock, base_url: '{}', api_key: env:X }} }}
models: {{ claude: {{ provider: pb, model: '{MODEL}' }} }}
tiers: {{ cheap: [claude] }}",
        p.url
    );
    let w = world_of(&yaml);
    let seen = w.ask(&ask_with("claude", "x", "")).await;
    assert_eq!((seen.status, &seen.json()["choices"][0]["message"]["content"]), (200, &json!("Grüße aus Oslo.")));
    // Neither the provider nor its header names this answer.
    assert!(seen.json()["id"].as_str().unwrap().starts_with("msg_"), "{}", seen.text);
    let request = p.seen()[0].to_ascii_lowercase();
    assert!(request.contains("\r\nauthorization: bearer sk-canary\r\n") && !request.contains("x-amz-"), "{request}");
}

#[test]
fn new_credentials_leave_the_caches_as_they_are() {
    let (first, second) = (secret("one"), secret("two"));
    let fingerprint = |key: &tempfile::NamedTempFile| {
        let path = key.path().display();
        let catalog = compiled(&format!(
            "
providers: {{ pb: {{ dialect: bedrock, base_url: 'https://b', aws: {{ region: r, access_key: 'file:{path}', secret_key: 'file:{path}' }} }} }}
models: {{ m: {{ provider: pb, model: x }} }}"
        ))
        .unwrap();
        catalog.choose("m", None, &AiRoute::default()).unwrap().fingerprint()
    };
    assert_eq!(fingerprint(&first), fingerprint(&second));
    assert!(fingerprint(&first).contains("/bedrock/"));
}

#[test]
fn credentials_that_are_missing_doubled_or_out_of_place_are_faults_with_their_place() {
    let file = secret("x");
    let key = format!("'file:{}'", file.path().display());
    let aws = format!("aws: {{ region: eu-central-1, access_key: {key}, secret_key: {key} }}");
    let told = |provider: &str| {
        let yaml = format!("providers: {{ pk: {{ base_url: 'http://h', {provider} }} }}");
        compiled(&yaml).err().map(|faults| faults.join("\n"))
    };
    let fault = |place: &str, what: &str| Some(format!("ai.providers.pk.{place}: {what}"));
    assert_eq!(
        told(&format!("dialect: bedrock, {aws}, api_key: env:X")),
        fault("api_key", "leave it out where `aws` is set")
    );
    assert_eq!(told("dialect: bedrock"), fault("aws", "the dialect bedrock wants credentials here, or an `api_key`"));
    assert_eq!(told(&format!("dialect: openai, {aws}")), fault("aws", "means something for the dialect bedrock only"));
    let region = aws.replace("eu-central-1", "EU (Frankfurt)");
    let what = "\"EU (Frankfurt)\" is no name of a region; write one like eu-central-1";
    assert_eq!(told(&format!("dialect: bedrock, {region}")), fault("aws.region", what));
    let missing = aws.replacen(&key, "env:SLUICEGATE_SURELY_UNSET", 1);
    let what = "environment variable SLUICEGATE_SURELY_UNSET is not set";
    assert_eq!(told(&format!("dialect: bedrock, {missing}")), fault("aws.access_key", what));
    assert_eq!(told(&format!("dialect: bedrock, {aws}")), None);
    assert_eq!(Dialect::Bedrock.as_str(), "bedrock");
}
