//! A scripted provider: reads every request strictly, answers by the script, keeps what was wrong.

use super::asked::{Asked, Read};
use super::script::{self, Answer, Play};
use crate::harness::origin::{Origin, Seen, Step, chunk, chunked, gate, reply};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The sizes in which streams are cut, in bytes, over and over.
const CUTS: [usize; 9] = [1, 7, 3, 64, 2, 501, 13, 1, 150];
/// What no provider may ever see: the clients' own keys begin so.
pub const CLIENT_KEY: &str = "sk-client";

/// How a dialect's provider reads and speaks.
pub trait Server: Send + Sync + 'static {
    /// Its name, also the model's.
    fn name(&self) -> &'static str;
    /// Reads a request; the fault in what the provider documents.
    fn read(&self, seen: &Seen) -> Read<Asked>;
    /// A complete answer.
    fn whole(&self, answer: &Answer) -> Value;
    /// The events of a streamed answer.
    fn events(&self, answer: &Answer, asked: &Asked) -> Vec<Vec<u8>>;
    /// An error in the middle of a stream.
    fn broken(&self, message: &str) -> Vec<u8>;
    /// The body of an error.
    fn error(&self, status: u16, message: &str) -> Value;
    /// Fields of an error.
    fn error_fields(&self, _status: u16) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }
    /// The media type of a stream.
    fn stream_type(&self) -> &'static str {
        "text/event-stream"
    }
    /// The status that says that it has too much to do.
    fn overload(&self) -> u16 {
        503
    }
}

/// What was wrong with a request: the client, the scenario, and why.
pub type Fault = (String, String, String);

/// A running provider.
pub struct Provider {
    /// Where it listens, and what it saw.
    pub origin: Origin,
    /// What was wrong with requests.
    pub faults: Arc<Mutex<Vec<Fault>>>,
}

impl Provider {
    /// Starts one.
    pub async fn start(server: impl Server) -> Provider {
        let faults = Arc::new(Mutex::new(Vec::new()));
        let found = faults.clone();
        let origin = Origin::start(move |seen| match answer(&server, seen) {
            Ok(steps) => steps,
            Err(why) => {
                let fault = (run_of(seen), word_of(seen, "scenario:"), why.clone());
                found.lock().unwrap().push(fault);
                let body = server.error(400, &format!("not valid: {why}")).to_string();
                reply(400, &fields(&server, 400), body)
            }
        })
        .await;
        Provider { origin, faults }
    }

    /// How many streams of a run were given up by the gateway before their end.
    pub fn given_up(&self, run: &str) -> usize {
        self.origin.given_up().iter().filter(|seen| run_of(seen) == run).count()
    }
}

/// The name of the client whose request this is, as its text tells.
fn run_of(seen: &Seen) -> String {
    word_of(seen, "run:")
}

fn word_of(seen: &Seen, name: &str) -> String {
    let body = String::from_utf8_lossy(&seen.body).into_owned();
    let found = body.split(name).nth(1).map(|rest| rest.split([' ', '"', '\\']).next().unwrap_or("").to_owned());
    found.unwrap_or_default()
}

fn fields(server: &impl Server, status: u16) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![("content-type", "application/json")];
    all.extend(server.error_fields(status));
    all
}

/// Checks a credential.
pub fn key(seen: &Seen, name: &str, want: &str) -> Read<()> {
    if seen.header("content-type") != "application/json" {
        return Err(format!("content-type must be application/json, is {:?}", seen.header("content-type")));
    }
    if seen.header(name) == want && seen.count(name) == 1 { Ok(()) } else { Err(format!("{name} must be {want}")) }
}

/// One event of a text stream.
pub fn sse(data: &Value) -> Vec<u8> {
    format!("data: {data}\n\n").into_bytes()
}

fn answer(server: &impl Server, seen: &Seen) -> Read<Vec<Step>> {
    if seen.method != "POST" {
        return Err(format!("{} is not allowed", seen.method));
    }
    if seen.raw.contains(CLIENT_KEY) {
        return Err("the client's own key is none of the provider's business".to_owned());
    }
    let asked = server.read(seen)?;
    let answer = script::answer(server.name(), &asked)?;
    if let Play::Fail(status) = answer.play {
        let status = if status == 529 { server.overload() } else { status };
        let body = server.error(status, &answer.text).to_string();
        return Ok(reply(status, &fields(server, status), body));
    }
    if !asked.stream {
        return Ok(reply(200, &[("content-type", "application/json")], server.whole(&answer).to_string()));
    }
    let mut bytes = server.events(&answer, &asked).concat();
    if answer.play == Play::Break {
        bytes.extend(server.broken(&script::refuses(server.name())));
    }
    let mut steps = vec![chunked(200, &[("content-type", server.stream_type())])];
    let (mut rest, mut sizes) = (bytes.as_slice(), CUTS.iter().cycle());
    while !rest.is_empty() {
        let (now, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        steps.push(chunk(now));
        // So that the pieces arrive one by one now and then.
        if now.len() > 100 {
            steps.push(Step::Pause(Duration::from_millis(1)));
        }
        rest = later;
    }
    steps.push(match answer.play {
        Play::Cut => Step::Cut,
        Play::Stall => Step::Wait(gate()),
        _ => chunk(""),
    });
    Ok(steps)
}
