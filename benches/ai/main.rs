//! What the AI gateway adds to a model call, beside nginx as a plain proxy in the same run:
//! `cargo bench --bench ai [-- --rounds 5 --binary PATH --case NAME]`.
//!
//! The gateway and nginx have one worker each, on core 0; the model provider (in memory) and the load share core 1.
//! Rounds alternate; the median of the rounds' medians counts, and the figure is the difference to the provider asked
//! directly. CPU per request is user and system time from /proc, with 16 connections. Needs nginx and taskset.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, missing_docs)]

mod load;
mod mock;

use load::{Client, quantiles};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PER_ROUND: usize = 1500;
const STREAMS: usize = 512;
const LONG_PROMPT_BYTES: usize = 400_000;

struct Proxy {
    child: Child,
    port: u16,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn start(command: &mut Command, port: u16) -> Proxy {
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "nothing listens on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Proxy { child, port }
}

fn nginx(folder: &Path, mock: u16) -> Proxy {
    let port = free_port();
    let conf = format!(
        "daemon off; worker_processes 1; pid {0}/nginx.pid; error_log /dev/null;
events {{ worker_connections 4096; }}
http {{ access_log off; client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;
  client_max_body_size 8m; client_body_buffer_size 1m; keepalive_requests 1000000;
  upstream m {{ server 127.0.0.1:{mock}; keepalive 1024; keepalive_requests 1000000; }}
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://m; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_buffering off; }} }} }}",
        folder.display()
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, conf).unwrap();
    start(Command::new("taskset").args(["-c", "0", "nginx", "-e", "/dev/null", "-c"]).arg(file), port)
}

fn gateway(folder: &Path, mock: u16, binary: &str) -> Proxy {
    let port = free_port();
    std::fs::write(folder.join("policy.rhai"), include_str!("policy.rhai")).unwrap();
    let conf = include_str!("gateway.yaml").replace("{port}", &port.to_string()).replace("{mock}", &mock.to_string());
    let file = folder.join("gateway.yaml");
    std::fs::write(&file, conf).unwrap();
    start(Command::new("taskset").args(["-c", "0", binary, "run", "--config"]).arg(file), port)
}

fn request(path: &str, body: &str) -> Vec<u8> {
    let head = "Host: bench.test\r\nAuthorization: Bearer sk-bench-0123456789abcdef0123456789abcdef";
    let length = body.len();
    let mut out =
        format!("POST {path} HTTP/1.1\r\n{head}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    out += body;
    out.into_bytes()
}

fn prompt(text: &str, more: &str) -> String {
    format!(
        r#"{{"model":"m","messages":[{{"role":"system","content":"You know tea."}},{{"role":"user","content":"{text}"}}],"temperature":0.2{more}}}"#
    )
}

fn claude_prompt(text: &str, more: &str) -> String {
    format!(
        r#"{{"model":"m","max_tokens":200,"system":"You know tea.","messages":[{{"role":"user","content":"{text}"}}],"temperature":0.2{more}}}"#
    )
}

/// Name, port and request of everything that is compared.
struct Way {
    name: &'static str,
    port: u16,
    request: Vec<u8>,
}

fn ways(ports: (u16, u16, u16), bodies: (&str, &str)) -> Vec<Way> {
    let (mock, nginx, gateway) = ports;
    let way = |name, port, path: &str, body: &str| Way { name, port, request: request(path, body) };
    vec![
        way("direct", mock, "/v1/chat/completions", bodies.0),
        way("nginx", nginx, "/v1/chat/completions", bodies.0),
        way("same dialect", gateway, "/v1/chat/completions", bodies.0),
        way("with a policy", gateway, "/policy/v1/chat/completions", bodies.0),
        way("translated", gateway, "/v1/messages", bodies.1),
    ]
}

/// Medians over the rounds, of whole answers or of first events.
async fn latencies(
    ways: &[Way],
    rounds: usize,
    each: usize,
    first: bool,
) -> BTreeMap<&'static str, (Duration, Duration)> {
    let mut all: BTreeMap<&'static str, Vec<(Duration, Duration)>> = BTreeMap::new();
    for round in 0..=rounds {
        for way in ways {
            let mut client = Client::to(way.port).await;
            let mut took = Vec::with_capacity(each);
            for _ in 0..each {
                let t = client.ask(&way.request).await;
                took.push(if first { t.first_data } else { t.whole });
            }
            // The first round warms up.
            if round > 0 {
                all.entry(way.name).or_default().push(quantiles(took));
            }
        }
    }
    let middle = |mut of: Vec<Duration>| {
        of.sort_unstable();
        of[of.len() / 2]
    };
    let both = |v: Vec<(Duration, Duration)>| {
        (middle(v.iter().map(|t| t.0).collect()), middle(v.iter().map(|t| t.1).collect()))
    };
    all.into_iter().map(|(name, v)| (name, both(v))).collect()
}

fn print_added(title: &str, ways: &[Way], of: &BTreeMap<&'static str, (Duration, Duration)>) {
    let micros = |d: Duration| d.as_secs_f64() * 1e6;
    let base = of["direct"];
    println!("{title}");
    for way in ways {
        let (p50, p99) = of[way.name];
        let added = micros(p50) - micros(base.0);
        println!("  {:<14} p50 {:8.1} µs  p99 {:8.1} µs  added {added:7.1} µs", way.name, micros(p50), micros(p99));
    }
}

fn cpu(pid: u32) -> f64 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let one = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<i64> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().filter_map(|f| f.parse().ok()).collect();
        // Without the state: utime and stime are the eleventh and twelfth numbers after it.
        fields.get(10).copied().unwrap_or(0) + fields.get(11).copied().unwrap_or(0)
    };
    let ticks: i64 = children.split_whitespace().map(one).sum::<i64>() + one(&pid.to_string());
    ticks as f64 / 100.0
}

async fn cpu_per_request(way: &Way, proxy: &Proxy, each: Duration) -> f64 {
    let before = cpu(proxy.child.id());
    let until = Instant::now() + each;
    let mut tasks = Vec::new();
    for _ in 0..16 {
        let (port, request) = (way.port, way.request.clone());
        tasks.push(tokio::spawn(async move {
            let mut client = Client::to(port).await;
            let mut n = 0u64;
            while Instant::now() < until {
                client.ask(&request).await;
                n += 1;
            }
            n
        }));
    }
    let mut requests = 0;
    for task in tasks {
        requests += task.await.unwrap();
    }
    (cpu(proxy.child.id()) - before) * 1e6 / requests as f64
}

async fn cpu_case(ways: &[Way], (nginx, gateway): (&Proxy, &Proxy), rounds: usize) {
    println!("CPU per request, 16 connections");
    let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for way in ways.iter().filter(|w| w.name != "direct") {
            let proxy = if way.name == "nginx" { nginx } else { gateway };
            all.entry(way.name).or_default().push(cpu_per_request(way, proxy, Duration::from_secs(2)).await);
        }
    }
    for way in ways.iter().filter(|w| w.name != "direct") {
        let v = all.get_mut(way.name).unwrap();
        v.sort_by(f64::total_cmp);
        println!("  {:<14} {:7.1} µs  ({:.1} to {:.1})", way.name, v[v.len() / 2], v[0], v[v.len() - 1]);
    }
}

/// Streams side by side, each with numbered events; every one must come, in order.
async fn streams(way: &Way) {
    let started = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..STREAMS {
        let (port, request) = (way.port, way.request.clone());
        tasks.push(tokio::spawn(async move {
            let took = Client::to(port).await.ask(&request).await;
            let text = String::from_utf8(took.body).unwrap();
            let want: Vec<String> = (0..mock::DELTAS).map(|i| i.to_string()).collect();
            let got: Vec<&str> = text
                .split("\"content\":\"")
                .skip(1)
                .filter_map(|t| t.split([' ', '"']).next())
                .filter(|t| !t.is_empty())
                .collect();
            (got == want && text.ends_with("data: [DONE]\n\n"), took.gap)
        }));
    }
    let (mut right, mut gaps) = (0, Vec::new());
    for task in tasks {
        let (ok, gap) = task.await.unwrap();
        right += usize::from(ok);
        gaps.push(gap);
    }
    let (p50, p99) = quantiles(gaps);
    let (n, deltas) = (STREAMS, mock::DELTAS);
    println!(
        "  {:<14} {right} of {n} streams of {deltas} events whole and in order, {:.2?}; longest gap p50 {p50:.1?} p99 {p99:.1?}",
        way.name,
        started.elapsed()
    );
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

struct Args {
    rounds: usize,
    binary: String,
    case: Option<String>,
}

fn args() -> Args {
    let all: Vec<String> = std::env::args().collect();
    let value = |name: &str| all.iter().position(|a| a == name).and_then(|i| all.get(i + 1)).cloned();
    let rounds = value("--rounds").and_then(|v| v.parse().ok()).unwrap_or(5);
    let binary = value("--binary").unwrap_or_else(|| env!("CARGO_BIN_EXE_sluicegate").to_owned());
    Args { rounds, binary, case: value("--case") }
}

fn pin_to_core_1() {
    let pid = std::process::id().to_string();
    let done = Command::new("taskset").args(["-a", "-p", "-c", "1", &pid]).stdout(Stdio::null()).status();
    assert!(done.is_ok_and(|s| s.success()), "taskset is needed");
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(args()));
}

async fn run(args: Args) {
    pin_to_core_1();
    let folder = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mock = listener.local_addr().unwrap().port();
    tokio::spawn(mock::serve(listener));
    let (nginx, gateway) = (nginx(folder.path(), mock), gateway(folder.path(), mock, &args.binary));
    let ports = (mock, nginx.port, gateway.port);
    let wants = |case: &str| args.case.as_deref().is_none_or(|c| c == case);
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("idle memory      {:.1} MiB", resident_kib(gateway.child.id()) as f64 / 1024.0);

    let short = "How long should I steep a green tea, and how hot should the water be?";
    let (openai, claude) = (prompt(short, ""), claude_prompt(short, ""));
    let all = ways(ports, (&openai, &claude));
    if wants("latency") {
        print_added("one call after the other", &all, &latencies(&all, args.rounds, PER_ROUND, false).await);
    }
    if wants("cpu") {
        cpu_case(&all, (&nginx, &gateway), args.rounds).await;
    }
    if wants("long") {
        let text = "A long story about tea. ".repeat(LONG_PROMPT_BYTES / 24);
        let (openai, claude) = (prompt(&text, ""), claude_prompt(&text, ""));
        let long = ways(ports, (&openai, &claude));
        print_added("prompts of 400 KB", &long, &latencies(&long, args.rounds, 100, false).await);
        cpu_case(&long, (&nginx, &gateway), args.rounds.min(3)).await;
    }
    let (openai, claude) = (prompt(short, r#","stream":true"#), claude_prompt(short, r#","stream":true"#));
    if wants("ttft") {
        let all = ways(ports, (&openai, &claude));
        let of = latencies(&all[..4], args.rounds, 300, true).await;
        print_added("to the first event of a stream", &all[..4], &of);
    }
    if wants("streams") {
        println!("{STREAMS} streams at once");
        let paced = prompt(short, r#","stream":true,"user":"paced""#);
        for way in
            ways(ports, (&paced, &claude)).iter().filter(|w| ["direct", "nginx", "same dialect"].contains(&w.name))
        {
            streams(way).await;
        }
    }
    println!("memory after it  {:.1} MiB", resident_kib(gateway.child.id()) as f64 / 1024.0);
}
