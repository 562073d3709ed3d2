//! What a killed gateway remembers of spending, and that a key is in nothing that it writes.

use crate::ai::CHAT;
use crate::harness::client;
use crate::harness::llm::{Llm, chat};
use crate::harness::process::Process;
use crate::harness::wait_until;
use crate::keys_api::{GATEWAY, setup};
use sluicegate::auth::apikey::{generate, hash};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

async fn ask(web: std::net::SocketAddr, key: &str, text: &str) -> client::Response {
    client::post(web, CHAT, &[("Authorization", &format!("Bearer {key}"))], &chat("small", text)).await
}

fn journal(dir: &Path) -> PathBuf {
    dir.join("state/cells.log")
}

fn holds(file: &Path, piece: &str) -> bool {
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes.windows(piece.len()).any(|w| w == piece.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn spending_survives_a_killed_process_and_a_torn_record() {
    let llm = Llm::saying("hello there").await;
    let dir = tempfile::tempdir().unwrap();
    let rows = [("alice", ", budgets: [pocket]"), ("bob", ", budgets: [pocket]")];
    let config = setup(&llm, &rows).write_into(dir.path());
    let gateway = Process::start(&config).await;
    assert_eq!(ask(gateway.web, "slg-alice", "one").await.status, 200);
    // Nothing is flushed on the way: what was settled reaches the file by itself.
    wait_until("the journal to have it", async || holds(&journal(dir.path()), "key:alice")).await;
    gateway.end("KILL").await;
    std::fs::OpenOptions::new().append(true).open(journal(dir.path())).unwrap().write_all(&[60, 0, 0]).unwrap();
    let gateway = Process::start(&config).await;
    assert_eq!(ask(gateway.web, "slg-alice", "two").await.reason(), "budget_exhausted");
    assert_eq!(ask(gateway.web, "slg-bob", "two").await.status, 200);
    assert_eq!(llm.calls(), 2);
    // An orderly end waits for what was settled a moment ago.
    gateway.end("TERM").await;
    let gateway = Process::start(&config).await;
    assert_eq!(ask(gateway.web, "slg-bob", "three").await.reason(), "budget_exhausted");
    gateway.end("KILL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_in_nothing_that_the_gateway_writes() {
    let llm = Llm::saying("hello there").await;
    let (good, wrong) = (generate(), generate());
    let log = "observability: { access_log: { output: \"$DIR/access.log\", format: json } }";
    let rows = format!("keys: {{ alice: {{ hash: \"{}\", budgets: [pocket], rpm: 3 }} }}", hash(&good));
    let edge = crate::harness::edge::Setup::new(&format!("{GATEWAY}{log}\n"))
        .put("LLM", llm.url())
        .file("keys.yaml", &rows)
        .file("provider-key", "sk-upstream-canary")
        .start()
        .await;
    let mut said = Vec::new();
    for (key, text) in [(&good, "one"), (&good, "two"), (&wrong, "one"), (&good, "three"), (&good, "four")] {
        said.push(ask(edge.web(), key, text).await);
    }
    let statuses: Vec<u16> = said.iter().map(|r| r.status).collect();
    assert_eq!(statuses, [200, 429, 401, 429, 429]);
    said.push(edge.ask("GET", "/v1/models", &[("x-api-key", &wrong)], b"").await);
    for path in ["/metrics", "/status", "/ai/budgets", "/ai/keys"] {
        said.push(client::get(edge.admin(), path).await);
    }
    let log = edge.path("access.log");
    wait_until("the log", async || std::fs::read_to_string(&log).is_ok_and(|t| t.lines().count() >= 6)).await;
    assert!(holds(&log, "\"user\":\"alice\""), "the name is what stands for it");
    let dir = edge.stop().await;
    for secret in [&good, &wrong, &"sk-upstream-canary".to_owned()] {
        for answer in &said {
            assert!(!format!("{answer:?} {}", answer.text()).contains(secret.as_str()), "{answer:?}");
        }
        for file in ["access.log", "state/cells.log", "state/cells.lock"] {
            assert!(!holds(&dir.path().join(file), secret), "{file}");
        }
    }
}

fn key_command(args: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .arg("key")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let out = child.wait_with_output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    (out.status.success(), text)
}

#[test]
fn keys_are_made_and_hashed_by_the_command() {
    let (fine, said) = key_command(&["new", "alice"], "");
    let key = said.split_whitespace().find(|w| w.starts_with("slg-")).unwrap().to_owned();
    assert!(fine && said.ends_with(&format!("alice: {{ hash: \"{}\" }}\n", hash(&key))), "{said}");
    assert_eq!(key_command(&["hash"], &format!("{key}\n")), (true, format!("{}\n", hash(&key))));
    let (fine, said) = key_command(&["hash"], "password");
    assert!(!fine && said.contains("128 random bits") && !said.contains("password"), "{said}");
}
