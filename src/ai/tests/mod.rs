//! Tests of the AI organ; here the scripted provider, which counts its calls, and the gateway around it.

mod azure;
mod bedrock;
mod caching;
mod collapsing;
mod compat;
mod control;
mod costs;
pub mod crossing;
mod fallback;
mod gemini_client;
mod guards;
mod keys;
mod leaving;
mod paying;
mod reading;
mod responses;
mod routing;
mod routing_streams;
mod streaming;
mod verdicts;

use super::ask::COLLAPSE_CLIENT_WAIT;
use super::seam::{Answer, Hit, Lookup, Query, SemanticLookup, Ticket};
use super::*;
use crate::base::source::Source;
use crate::config::ai::{Ai, Exact, PriceList};
use crate::config::secret::Secret;
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;
use std::collections::VecDeque;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

/// What the provider does with one call.
#[derive(Clone)]
pub enum Act {
    /// Writes these pieces and closes.
    Say(Vec<String>),
    /// Waits for the gate, then writes.
    Gated(Arc<Notify>, Vec<String>),
    /// Writes these pieces, then waits for the client to hang up and reports it.
    Hang(Vec<String>, mpsc::UnboundedSender<()>),
    /// Closes without a byte.
    Close,
    /// Never answers.
    Silent,
}

/// A provider on a raw socket. Its last act repeats.
pub struct Provider {
    pub url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    pub async fn start(acts: impl IntoIterator<Item = Act>) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, mut acts) = (seen.clone(), acts.into_iter().collect::<VecDeque<_>>());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let act = if acts.len() > 1 { acts.pop_front().unwrap() } else { acts[0].clone() };
                tokio::spawn(serve(stream, act, log.clone()));
            }
        });
        Provider { url, seen }
    }

    pub fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The requests so far, header and body.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut s: TcpStream, act: Act, log: Arc<Mutex<Vec<String>>>) {
    let Some(request) = read_request(&mut s).await else { return };
    log.lock().unwrap().push(request);
    let pieces = match &act {
        Act::Say(p) | Act::Hang(p, _) => p,
        Act::Gated(gate, p) => {
            gate.notified().await;
            p
        }
        Act::Close => return,
        Act::Silent => return std::future::pending().await,
    };
    for piece in pieces {
        if s.write_all(piece.as_bytes()).await.is_err() {
            break;
        }
    }
    if let Act::Hang(_, gone) = act {
        let mut buf = [0u8; 1];
        let _ = s.read(&mut buf).await;
        let _ = gone.send(());
    }
}

async fn read_request(s: &mut TcpStream) -> Option<String> {
    let mut all = Vec::new();
    loop {
        let mut buf = vec![0u8; 65536];
        let n = s.read(&mut buf).await.ok().filter(|n| *n > 0)?;
        all.extend_from_slice(&buf[..n]);
        let text = String::from_utf8_lossy(&all).into_owned();
        let Some(end) = text.find("\r\n\r\n") else { continue };
        let length = text
            .to_ascii_lowercase()
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
        if all.len() >= end + 4 + length {
            return Some(text);
        }
    }
}

/// The body of a recorded request.
pub fn body_of(request: &str) -> &str {
    request.split_once("\r\n\r\n").unwrap().1
}

pub fn json_reply(status: u16, body: &str) -> Act {
    Act::Say(vec![format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )])
}

pub const SSE_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";

/// HTTP chunks.
pub fn chunked(parts: &[&str]) -> String {
    parts.iter().map(|p| format!("{:x}\r\n{p}\r\n", p.len())).collect()
}

/// A whole event stream with a clean end.
pub fn sse_reply(events: &[&str]) -> Act {
    Act::Say(vec![format!("{SSE_HEAD}{}0\r\n\r\n", chunked(events))])
}

pub fn fixture(name: &str) -> String {
    let path = format!("{}/tests/fixtures/ai/openai/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The answer that `tests/fixtures/ai/openai/answer.json` holds.
pub fn good() -> Act {
    json_reply(200, &fixture("answer.json"))
}

/// A semantic cache that answers everything with what was stored last, when told to.
#[derive(Default)]
pub struct FakeSemantic {
    pub queries: Mutex<Vec<Query>>,
    pub stored: Entries,
    /// Filing waits for this.
    pub gate: Mutex<Option<Arc<Notify>>>,
}

type Entries = Arc<Mutex<Vec<(Query, Answer)>>>;

struct FakeTicket(Entries, Query, Option<Arc<Notify>>);

impl FakeSemantic {
    fn place(&self, q: &Query) -> Box<dyn Ticket> {
        Box::new(FakeTicket(self.stored.clone(), q.clone(), self.gate.lock().unwrap().clone()))
    }
}

#[async_trait]
impl Ticket for FakeTicket {
    async fn store(self: Box<Self>, answer: Answer) {
        if let Some(gate) = &self.2 {
            gate.notified().await;
        }
        let mut stored = self.0.lock().unwrap();
        stored.retain(|(q, _)| (q.partition, &q.text) != (self.1.partition, &self.1.text));
        stored.push((self.1.clone(), answer));
    }
}

#[async_trait]
impl SemanticLookup for FakeSemantic {
    async fn ticket(&self, q: &Query) -> Result<Box<dyn Ticket>, &'static str> {
        Ok(self.place(q))
    }
    async fn lookup(&self, q: &Query) -> Lookup {
        self.queries.lock().unwrap().push(q.clone());
        let stored = self.stored.lock().unwrap();
        match stored.iter().find(|(s, _)| s.partition == q.partition && s.tenant == q.tenant) {
            Some((_, a)) => {
                let age = Duration::from_secs(7);
                Lookup::Hit(Hit { answer: a.clone(), score: 0.93, age, id: "e1".into() })
            }
            None => Lookup::Miss(self.place(q)),
        }
    }
}

/// A gateway with two models on two providers: `a` (tier `cheap`), `b` (tiers `cheap`, `best`).
pub struct World {
    pub gateway: Arc<Gateway>,
    pub semantic: Arc<FakeSemantic>,
    pub in_flight: Arc<InFlight>,
    pub clock: Clock,
    pub context: Context,
}

pub fn world(a: &Provider, b: &Provider) -> World {
    let yaml = format!(
        "
providers:
  pa: {{ dialect: openai, base_url: '{}', timeouts: {{ connect: 1s, first_byte: 400ms, between_bytes: 400ms }} }}
  pb: {{ dialect: openai, base_url: '{}', api_key: env:X, timeouts: {{ connect: 1s, first_byte: 5s, between_bytes: 5s }} }}
models:
  a: {{ provider: pa, model: up-a, price: {{ input: 1, output: 2 }} }}
  b: {{ provider: pb, model: up-b }}
tiers: {{ cheap: [a, b], best: [b] }}",
        a.url, b.url
    );
    world_of(&yaml)
}

/// A gateway over this `ai:` section, whose second provider is `pb` and whose first tier is `cheap`.
pub fn world_of(yaml: &str) -> World {
    let ai: Ai = serde_yaml::from_str(yaml).unwrap();
    let keys = BTreeMap::from([("pb".to_owned(), Secret::new("sk-canary"))]);
    let catalog = Catalog::compile(&ai, &PriceList::default(), &keys).unwrap();
    let clock = Clock::manual();
    let semantic = Arc::new(FakeSemantic::default());
    let in_flight = Arc::new(InFlight::default());
    let cache = AnswerCache {
        exact: Some(Arc::new(ExactCache::new(&Exact::default(), clock.clone()))),
        semantic: Some(Semantic {
            cache: semantic.clone(),
            threshold: 0.9,
            ttl: Duration::from_secs(60),
            tenants_share: false,
        }),
        in_flight: in_flight.clone(),
    };
    let caches = BTreeMap::from([("prompts".to_owned(), Arc::new(cache))]);
    let gateway = Gateway::new(catalog, caches, Fetcher::new(), clock.clone()).on_board(&Arc::default(), &ai);
    let gateway = Arc::new(gateway);
    let options = AiRoute { tier: Some("cheap".into()), cache: Some("prompts".into()), ..AiRoute::default() };
    let context = Context {
        route: "llm".into(),
        options: Arc::new(options),
        tenant: "t1".into(),
        caller: Caller::default(),
        policy: "r1".into(),
        headers: HeaderMap::new(),
    };
    World { gateway, semantic, in_flight, clock, context }
}

/// One provider for both models.
pub async fn small_world(acts: impl IntoIterator<Item = Act>) -> (World, Provider) {
    let p = Provider::start(acts).await;
    (world(&p, &p), p)
}

pub fn chat(body: &str) -> Prompt {
    prompt::parse(Operation::Chat, Bytes::copy_from_slice(body.as_bytes()), 1 << 20).unwrap()
}

pub fn ask_with(model: &str, text: &str, more: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{text}"}}]{more}}}"#)
}

pub fn exact_only() -> AiDirectives {
    AiDirectives { cache: Some(CacheMode::Exact), ..AiDirectives::default() }
}

/// What a client sees.
pub struct Seen {
    pub status: u16,
    pub headers: HeaderMap,
    pub source: Source,
    pub text: String,
    /// Whether the body ended cleanly.
    pub clean: bool,
    pub call: Call,
}

impl Seen {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

/// Reads a reply to its end.
pub async fn read((reply, record): (Reply, Arc<CallRecord>)) -> Seen {
    let (mut text, mut clean) = (Vec::new(), true);
    match reply.body {
        Body::Empty => {}
        Body::Full(b) => text.extend_from_slice(&b),
        Body::Stream(mut chunks) => {
            while let Some(piece) = chunks.next().await {
                match piece {
                    Ok(b) => text.extend_from_slice(&b),
                    Err(_) => clean = false,
                }
            }
        }
    }
    let (status, headers, source) = (reply.status.as_u16(), reply.headers, reply.source);
    Seen { status, headers, source, text: String::from_utf8(text).unwrap(), clean, call: record.read() }
}

impl World {
    pub async fn ask(&self, body: &str) -> Seen {
        self.ask_as(body, &exact_only(), &self.context).await
    }
    pub async fn ask_as(&self, body: &str, directives: &AiDirectives, context: &Context) -> Seen {
        read(self.reply_as(chat(body), directives, context).await).await
    }
    pub async fn reply_as(
        &self,
        prompt: Prompt,
        directives: &AiDirectives,
        context: &Context,
    ) -> (Reply, Arc<CallRecord>) {
        let record = Arc::new(CallRecord::default());
        (self.gateway.answer(prompt, directives, context, record.clone()).await, record)
    }
    pub fn with_header(&self, name: &'static str, value: &'static str) -> Context {
        let mut context = self.context.clone();
        context.headers.insert(name, HeaderValue::from_static(value));
        context
    }
    pub fn with_route(&self, change: impl FnOnce(&mut AiRoute)) -> Context {
        let mut context = self.context.clone();
        let mut options = (*context.options).clone();
        change(&mut options);
        context.options = Arc::new(options);
        context
    }
}

/// Waits for a condition, for at most two seconds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}
