//! Servers of the Model Context Protocol behind the gateway: the official SDK on both sides, and a scripted server.

use crate::harness::client::{Client, request};
use crate::harness::edge::{Edge, Setup};
use crate::harness::origin::{Origin, Step, chunk, chunked, gate, reply};
use crate::harness::{soon, wait_until};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

fn script(name: &str) -> (PathBuf, PathBuf) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/sdk/bin/python");
    assert!(python.exists(), "the SDKs are not installed; scripts/test.sh installs them into target/sdk");
    (python, root.join("tests/it/sdk").join(name))
}

/// The SDK's server; killed when dropped.
async fn sdk_server(mode: &str) -> (Child, u16) {
    let (python, path) = script("mcp_server.py");
    let mut child = Command::new(python).arg(path).arg(mode).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = soon("the server's port", lines.next_line()).await.unwrap().expect("a line");
    (child, line.strip_prefix("port ").unwrap().parse().unwrap())
}

const SDK: &str = "
routes:
  - name: tools
    match: { path: /mcp }
    mcp:
      servers:
        docs:
          url: \"http://127.0.0.1:$PORT/mcp\"
          auth: { bearer: \"file:$DIR/token\" }
          tools: { allow: [search, add, \"f*\"], deny: [\"re*\"] }
      cache: { read_only: 60s }
";

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_finds_and_calls_what_is_allowed() {
    for mode in ["json", "events"] {
        let (_server, port) = sdk_server(mode).await;
        let edge = Setup::new(SDK).put("PORT", port).file("token", "server-token").start().await;
        let (python, path) = script("mcp_session.py");
        let url = format!("http://{}/mcp", edge.web());
        let output = Command::new(python).arg(path).env("MCP_URL", url).output().await.unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("all good"), "{mode}: {said}");
        for (tool, result, times) in
            [("add", "ok", 2.0), ("fail", "tool_error", 2.0), ("search", "cached", 2.0), ("other", "refused", 2.0)]
        {
            let labels = [format!("tool=\"{tool}\""), format!("result=\"{result}\""), "server=\"docs\"".to_owned()];
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            wait_until(tool, async || edge.metric("sluicegate_mcp_calls_total", &labels).await == times).await;
        }
    }
}

const SCRIPTED: &str = "
observability: { access_log: { output: \"$DIR/access.log\" } }
policy: { script: policy.rhai }
routes:
  - name: tools
    match: { path: /mcp/* }
    policy: true
    max_body: 2KiB
    mcp:
      origins: [\"https://app.example\"]
      servers:
        one: { url: \"http://$ORIGIN/one\" }
        two: { url: \"http://$ORIGIN/two/\", auth: passthrough, idle: 300ms }
      rate_limit: { calls: 1, per: 1h }
";

const SCRIPT: &str = "fn on_request(req) { if req.header(\"x-bad\") == \"1\" { deny(403, \"no\") } else { next() } }";

async fn scripted(origin: &Origin) -> Edge {
    Setup::new(SCRIPTED).put("ORIGIN", origin.address).file("policy.rhai", SCRIPT).start().await
}

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn call(tool: &str) -> serde_json::Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "arguments": { "q": "canary" } } })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_chooses_the_server_and_the_route_its_clients() {
    let origin = Origin::start(|_| reply(200, &JSON, r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#)).await;
    let edge = scripted(&origin).await;
    let keys = [("Authorization", "Bearer client"), ("Cookie", "a=b"), ("Mcp-Session-Id", "s1")];
    let answer = edge.post("/mcp/one", &keys, &call("a")).await;
    assert_eq!(
        (answer.status, answer.source(), answer.header("cache-control")),
        (200, "mcp", "no-store"),
        "{}",
        answer.text()
    );
    let seen = origin.last();
    assert_eq!((seen.target.as_str(), seen.header("mcp-session-id"), seen.header("authorization")), ("/one", "s1", ""));
    edge.post("/mcp/two", &keys, &json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" })).await;
    let seen = origin.last();
    assert_eq!(
        (seen.target.as_str(), seen.header("authorization"), seen.header("cookie")),
        ("/two/", "Bearer client", "")
    );
    let limited = edge.post("/mcp/one", &keys, &call("a")).await;
    assert!(limited.text().contains("too many tool calls"), "{}", limited.text());
    let hits = origin.hits();
    for (path, fields, status, reason) in [
        ("/mcp/three", &[][..], 404, "no_mcp_server"),
        ("/mcp/one", &[("Origin", "http://evil.example")][..], 403, "origin_refused"),
        ("/mcp/one", &[("x-bad", "1")][..], 403, "policy_deny"),
    ] {
        let refused = edge.post(path, fields, &call("a")).await;
        assert_eq!((refused.status, refused.reason()), (status, reason), "{}", refused.text());
    }
    let large = edge.post("/mcp/one", &[], &call(&"x".repeat(3_000))).await;
    assert_eq!((large.status, large.reason()), (413, "body_too_large"));
    assert_eq!(edge.get("/mcp/one").await.status, 200, "no tool is called");
    assert_eq!(origin.hits(), hits + 1);
    let log = edge.path("access.log");
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    let told = r#""mcp":{"server":"one","method":"tools/call","calls":[{"tool":"other","result":"ok"}]}"#;
    wait_until("the log", async || read().contains(told)).await;
    assert!(!read().contains("canary"), "{}", read());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_passes_event_by_event_until_the_client_leaves() {
    let door = gate();
    let held = door.clone();
    let origin = Origin::start(move |_| {
        let note = |n: u8| chunk(format!("id: {n}\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"n{n}\"}}\n\n"));
        let kind = [("content-type", "text/event-stream"), ("mcp-session-id", "s9")];
        vec![chunked(200, &kind), note(1), Step::Wait(held.clone()), note(2), Step::Wait(gate())]
    })
    .await;
    let edge = scripted(&origin).await;
    let mut client = Client::connect(edge.web()).await;
    client.send(request("GET", "/mcp/one", &[("Accept", "text/event-stream"), ("Last-Event-ID", "0")], b"")).await;
    let head = client.head().await.unwrap();
    assert_eq!((head.status, head.header("mcp-session-id")), (200, "s9"));
    assert_eq!(client.chunk().await.unwrap(), b"id: 1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"n1\"}\n\n");
    door.add_permits(1);
    assert_eq!(client.chunk().await.unwrap(), b"id: 2\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"n2\"}\n\n");
    assert_eq!((origin.last().header("last-event-id"), origin.last().method.as_str()), ("0", "GET"));
    drop(client);
    wait_until("the server to notice", async || origin.abandoned() == 1).await;
    // A server that falls silent is given up after its `idle`.
    door.add_permits(1);
    let cut = edge.ask("GET", "/mcp/two", &[], b"").await;
    assert!(cut.status == 200 && !cut.complete && cut.text().contains("n2"), "{cut:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_section_are_named() {
    for (from, to, told) in [
        ("http://$ORIGIN/one", "$ORIGIN/one", "routes[0].mcp.servers.one.url"),
        ("auth: passthrough", "auth: { bearer: \"env:NO_SUCH_VARIABLE_1\" }", "routes[0].mcp.servers.two.auth.bearer"),
        ("calls: 1", "calls: 0", "routes[0].mcp.rate_limit"),
        ("policy: true", "upstream: x", "upstream and mcp at once"),
        ("policy: true", "compress: true\n    tools: x", "tools"),
    ] {
        let yaml = SCRIPTED.replacen(from, to, 1);
        let setup = Setup::new(&yaml).put("ORIGIN", "127.0.0.1:1").file("policy.rhai", SCRIPT);
        let fault = format!("{:#}", setup.try_start().await.err().expect("a fault"));
        assert!(fault.contains(told), "{told}: {fault}");
    }
}
