//! The drill of misbehaving providers: whatever one does, in whichever dialect, the client gets a correct answer of
//! another model or a correct error in its own dialect; nothing wrong is stored or billed, and every call is counted.

use crate::harness::client::{self, Response};
use crate::harness::edge::{Setup, sum};
use crate::harness::llm::{Calls, Llm, Play, chat, error, events, streamed, whole};
use crate::harness::origin::{Origin, Seen, Step, chunk, chunked, nobody, reply};
use crate::harness::process::Process;
use crate::harness::{gemini, messages, wait_until};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::task::JoinSet;

const WIRES: [&str; 3] = ["openai", "anthropic", "gemini"];
/// What a provider does, and how a client that has no other model is answered: the status for a whole answer; for a
/// stream the same, or none where it breaks after its first words.
const PROFILES: [(&str, u16, bool); 10] = [
    ("limited", 429, false),
    ("failing", 500, false),
    ("refused", 502, false),
    ("hang_head", 504, false),
    ("hang_between", 504, true),
    ("cut", 502, true),
    ("error_in_200", 503, false),
    ("error_later", 503, true),
    ("garbage", 502, false),
    ("wrong_type", 502, false),
];
const JSON: (&str, &str) = ("content-type", "application/json");
const GOOD: &str = "from the good one";
/// What the good model's answers count: 10 tokens in and its words out.
const GOOD_TOKENS: f64 = 14.0;

/// A way of asking.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Client {
    Chat,
    Messages,
}

fn failure(wire: &str, status: u16) -> Value {
    match wire {
        "anthropic" => messages::error(status, "scripted failure"),
        "gemini" => gemini::error(status, "scripted failure"),
        _ => {
            json!({ "error": { "message": "scripted failure", "type": "server_error", "param": null, "code": status } })
        }
    }
}

fn answer(wire: &str, stream: bool, call: &Value) -> Vec<Step> {
    let (text, none) = ("one two three", Calls::new());
    match (wire, stream) {
        ("anthropic", true) => messages::events(text, &none, call, None),
        ("anthropic", false) => reply(200, &[JSON], messages::whole(text, &none, call).to_string()),
        ("gemini", true) => gemini::events(text, &none, None),
        ("gemini", false) => reply(200, &[JSON], gemini::whole(text, &none).to_string()),
        (_, true) => events(text, &none, call, None),
        (_, false) => reply(200, &[JSON], whole(text, &none, call).to_string()),
    }
}

/// The beginning of an answer: a stream up to so many words, half of a whole one.
fn begin(wire: &str, stream: bool, call: &Value, words: usize) -> Vec<Step> {
    let mut steps = answer(wire, stream, call);
    if stream {
        steps.truncate(if wire == "anthropic" { 4 } else { 2 } + words);
    } else if let Step::Send(bytes) = &mut steps[0] {
        bytes.truncate(bytes.len() - 40);
    }
    steps
}

fn misbehave(seen: &Seen) -> Vec<Step> {
    let place = seen.target.split('/').nth(1).unwrap();
    let (wire, profile) = place.split_once('-').unwrap();
    let call = seen.json();
    let stream = call["stream"] == json!(true) || seen.target.ends_with("?alt=sse");
    let sse = || chunked(200, &[("content-type", "text/event-stream")]);
    let frame = |data: &Value| chunk(format!("event: error\ndata: {data}\n\n"));
    let forever = Step::Pause(std::time::Duration::from_secs(600));
    let overloaded = if wire == "anthropic" { 529 } else { 503 };
    match profile {
        "limited" => reply(429, &[JSON, ("retry-after", "30")], failure(wire, 429).to_string()),
        "failing" => reply(500, &[JSON], failure(wire, 500).to_string()),
        "hang_head" => vec![forever],
        "hang_between" => [begin(wire, stream, &call, 1), vec![forever]].concat(),
        "cut" => [begin(wire, stream, &call, 2), vec![Step::Cut]].concat(),
        "error_later" if stream => {
            [begin(wire, stream, &call, 1), vec![frame(&failure(wire, overloaded)), chunk("")]].concat()
        }
        "error_in_200" if stream => vec![sse(), frame(&failure(wire, overloaded)), chunk("")],
        "error_in_200" | "error_later" => reply(200, &[JSON], failure(wire, overloaded).to_string()),
        "garbage" if stream => vec![sse(), chunk("data: {\"choices\": nonsense\n\n"), chunk("")],
        "garbage" => reply(200, &[JSON], "{\"choices\": nonsense"),
        "wrong_type" => reply(200, &[("content-type", "text/html")], "<html>hello</html>"),
        other => panic!("no profile {other}"),
    }
}

/// A provider and a model for each wire and profile, a tier with the good one behind it, and one with it alone.
fn yaml(origin: SocketAddr, good: &str) -> String {
    let limits = "timeouts: { connect: 2s, first_byte: 400ms, between_bytes: 400ms }";
    let price = "price: { input: 1, output: 1 }";
    let (mut providers, mut models, mut tiers) = (String::new(), String::new(), String::new());
    for wire in WIRES {
        for (profile, ..) in PROFILES {
            let at = if profile == "refused" { nobody() } else { origin };
            let id = format!("{wire}-{profile}");
            providers += &format!("    {id}: {{ dialect: {wire}, base_url: \"http://{at}/{id}/v1\", {limits} }}\n");
            models += &format!("    m-{id}: {{ provider: {id}, model: m, {price} }}\n");
            tiers += &format!("    pair-{id}: [m-{id}, good]\n    alone-{id}: [m-{id}]\n");
        }
    }
    format!(
        "
ai:
  providers:
    good: {{ dialect: openai, base_url: \"{good}\" }}
{providers}
  models:
    good: {{ provider: good, model: g, {price} }}
{models}
  tiers:
{tiers}
  # Each failure is to be seen by itself: nothing but a provider's own wish has a model left alone.
  health: {{ failures: 100000, window: 1ms }}
  caches: {{ answers: {{ exact: {{}} }} }}
routes: [ {{ match: {{ path: /v1/* }}, ai: {{ cache: answers }} }} ]
"
    )
}

async fn ask(web: SocketAddr, by: Client, model: &str, (stream, text): (bool, &str)) -> Response {
    let (target, mut body) = match by {
        Client::Chat => ("/v1/chat/completions", chat(model, text)),
        Client::Messages => {
            let messages = json!([{ "role": "user", "content": text }]);
            ("/v1/messages", json!({ "model": model, "max_tokens": 50, "messages": messages }))
        }
    };
    body["stream"] = json!(stream);
    client::post(web, target, &[], &body).await
}

/// The text of an answer, and whether it has the end that its dialect wants.
fn told(answer: &Response, by: Client, stream: bool) -> (String, bool) {
    let text = answer.text();
    match (by, stream) {
        (Client::Chat, true) => (answer.streamed_text(), text.ends_with("data: [DONE]\n\n")),
        (Client::Messages, true) => {
            let events = answer.events();
            let said = events.iter().filter_map(|e| e["delta"]["text"].as_str()).collect();
            (said, events.last().is_some_and(|e| e["type"] == "message_stop"))
        }
        (Client::Chat, false) => (answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned(), true),
        (Client::Messages, false) => (answer.json()["content"][0]["text"].as_str().unwrap().to_owned(), true),
    }
}

fn is_error(error: &Value, by: Client) -> bool {
    let worded = error["error"]["message"].is_string() && error["error"]["type"].is_string();
    worded && (by == Client::Chat || error["type"] == "error")
}

/// What the answers of one wire and profile came to.
#[derive(Default)]
struct Count {
    good: usize,
    broken: usize,
}

async fn drill(web: SocketAddr, wire: &str, (profile, status, breaks): (&str, u16, bool)) -> Count {
    let mut count = Count::default();
    for by in [Client::Chat, Client::Messages] {
        for stream in [false, true] {
            for tier in ["pair", "alone"] {
                let model = format!("{tier}-{wire}-{profile}");
                for round in 0..2 {
                    let what = format!("{model} {by:?} stream: {stream} round {round}");
                    let text = if stream { "hello, streaming" } else { "hello" };
                    let answer = ask(web, by, &model, (stream, text)).await;
                    if breaks && stream {
                        count.broken += 1;
                        let (said, ended) = told(&answer, by, true);
                        assert!(said.starts_with("one ") && !ended && !answer.complete, "{what}: {}", answer.text());
                        let last = answer.events().pop().unwrap();
                        assert!(is_error(&last, by), "{what}: {last}");
                    } else if tier == "pair" {
                        let source = if round == 0 { "provider" } else { "ai_exact" };
                        assert_eq!((answer.status, answer.source()), (200, source), "{what}: {}", answer.text());
                        assert_eq!(told(&answer, by, stream), (GOOD.to_owned(), true), "{what}");
                        count.good += usize::from(round == 0);
                    } else {
                        let overloaded = status == 503 && wire == "anthropic" && by == Client::Messages;
                        assert_eq!(answer.status, if overloaded { 529 } else { status }, "{what}: {}", answer.text());
                        assert!(answer.complete && is_error(&answer.json(), by), "{what}: {}", answer.text());
                        let after: u64 = answer.header("retry-after").parse().unwrap_or(0);
                        assert_eq!((1..=30).contains(&after), profile == "limited", "{what}: {after}");
                    }
                }
            }
        }
    }
    count
}

/// The calls that reach a provider: every failure is asked for anew, and no failure is asked for twice.
fn calls(profile: &str, breaks: bool) -> usize {
    match profile {
        "refused" => 0,
        // It asked to be left alone, and was.
        "limited" => 1,
        // Two clients, alone twice each; with another model behind it once, as that one's answer is then stored.
        _ if !breaks => 2 * 2 * (2 + 1),
        // The same for whole answers; broken streams are stored in neither case.
        _ => 2 * (2 + 1) + 2 * (2 + 2),
    }
}

/// What a provider has counted when its stream breaks; OpenAI's counts come at the end.
fn broken_tokens(wire: &str, profile: &str) -> usize {
    match (wire, profile) {
        ("anthropic", _) => 10 + 1,
        ("gemini", "cut") => 10 + 2,
        ("gemini", _) => 10 + 1,
        _ => 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_provider_does_the_client_gets_an_answer_or_a_correct_error() {
    let (origin, good) = (Origin::start(misbehave).await, Llm::saying(GOOD).await);
    let dir = tempfile::tempdir().unwrap();
    let config = Setup::new(&yaml(origin.address, &good.url())).write_into(dir.path());
    let gateway = Process::start(&config).await;
    let (web, admin) = (gateway.web, gateway.admin.unwrap());
    let mut drills = JoinSet::new();
    for wire in WIRES {
        for profile in PROFILES {
            drills.spawn(async move { (wire, profile, drill(web, wire, profile).await) });
        }
    }
    let done = drills.join_all().await;
    let metrics = client::get(admin, "/metrics").await.text();
    let mut goods = 0;
    for (wire, (profile, _, breaks), count) in done {
        let id = format!("{wire}-{profile}");
        let prefix = format!("/{id}/");
        let seen = origin.seen().iter().filter(|s| s.target.starts_with(&prefix)).count();
        assert_eq!(seen, calls(profile, breaks), "{id}: calls");
        let billed = sum(&metrics, "sluicegate_ai_tokens_total", &[&format!("model=\"m-{id}\"")]);
        assert!((billed - (count.broken * broken_tokens(wire, profile)) as f64).abs() < 0.5, "{id}: {billed} tokens");
        goods += count.good;
    }
    assert_eq!(good.calls(), goods);
    let billed = sum(&metrics, "sluicegate_ai_tokens_total", &["model=\"good\""]);
    assert!((billed - goods as f64 * GOOD_TOKENS).abs() < 0.5, "{billed} tokens of {goods} answers");
    gateway.end("TERM").await;
}

const STORM: &str = "
ai:
  providers: { bad: { dialect: openai, base_url: \"$BAD\" }, good: { dialect: openai, base_url: \"$GOOD\" } }
  models: { first: { provider: bad, model: f }, second: { provider: good, model: s } }
  tiers: { pair: [first, second] }
  retry: { attempts: 3, backoff: { base: 1ms, max: 5ms } }
  health: { failures: $FAILURES, share: 100%, window: 1ms, cool_down: 60s }
routes: [ { match: { path: /v1/* }, ai: { tier: pair } } ]
";

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_provider_is_not_stormed() {
    let (bad, good) = (Llm::start(|_, _| Play::Fail(503)).await, Llm::saying(GOOD).await);
    let start = async |failures| {
        let setup = Setup::new(STORM).put("BAD", bad.url()).put("GOOD", good.url()).put("FAILURES", failures);
        setup.start().await
    };
    let edge = start(5).await;
    for i in 0..20 {
        assert_eq!(edge.post("/v1/chat/completions", &[], &chat("auto", &i.to_string())).await.status, 200);
    }
    // Three tries of the first request, two of the second: then it is left alone.
    assert_eq!((bad.calls(), good.calls()), (5, 20));
    let label = ["model=\"first\""];
    assert_eq!(edge.metric("sluicegate_ai_retries_total", &label).await as i64, 3);
    assert_eq!(edge.metric("sluicegate_ai_skipped_total", &label).await as i64, 18);
    assert_eq!(edge.metric("sluicegate_ai_model_state", &label).await as i64, 2);
    let shown = edge.status().await["ai"]["models"].as_array().unwrap().iter().find(|m| m["model"] == "first").cloned();
    assert_eq!(shown.map(|m| (m["state"].clone(), m["reason"].clone())), Some((json!("open"), json!("failures"))));

    // Without that, the budget of retries holds: a burst of ten, and a fifth of the calls.
    let edge = start(100_000).await;
    let mut asked = JoinSet::new();
    let web = edge.web();
    for i in 0..100 {
        asked.spawn(
            async move { client::post(web, "/v1/chat/completions", &[], &streamed("auto", &i.to_string())).await },
        );
    }
    assert!(asked.join_all().await.iter().all(|a| a.status == 200 && a.streamed_text() == GOOD));
    let calls = i64::try_from(bad.calls() - 5).unwrap();
    // Ten failures within the same millisecond rest the model all the same; who then passes it by does not ask it.
    let skipped = edge.metric("sluicegate_ai_skipped_total", &label).await as i64;
    assert!((100 - skipped..=130 - skipped).contains(&calls), "{calls} calls for 100 requests, {skipped} passed by");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_does_not_forget_who_is_left_alone() {
    let (bad, good) = (Llm::start(|_, _| Play::Fail(401)).await, Llm::saying(GOOD).await);
    let setup = Setup::new(STORM).put("BAD", bad.url()).put("GOOD", good.url()).put("FAILURES", 5);
    let edge = setup.start().await;
    let call = async |text: &str| edge.post("/v1/chat/completions", &[], &chat("auto", text)).await;
    assert_eq!((call("one").await.status, bad.calls()), (200, 1));
    let before = edge.status().await;
    edge.edit("sluicegate.yaml", "attempts: 3", "attempts: 2");
    edge.reloaded_since(&before).await;
    assert_eq!((call("two").await.status, bad.calls(), good.calls()), (200, 1, 2));
    // A model that the configuration no longer has is no longer told about.
    let before = edge.status().await;
    edge.edit("sluicegate.yaml", "[first, second]", "[second]");
    edge.edit("sluicegate.yaml", "first: { provider: bad, model: f }, ", "");
    edge.reloaded_since(&before).await;
    wait_until("the old plan to go", async || edge.status().await["ai"]["models"].as_array().map(Vec::len) == Some(1))
        .await;
    let no_more = error("scripted failure");
    assert!(!call("three").await.text().contains(no_more["error"]["message"].as_str().unwrap()));
}
