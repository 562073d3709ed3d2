//! The official OpenAI SDK for Python against the gateway: nothing but `base_url` tells it where it is.

use crate::harness::edge::Setup;
use sluicegate::cli::demo;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::process::Command;

const YAML: &str = "
ai:
  providers: { demo: { dialect: openai, base_url: \"http://$LLM/v1\" } }
  models:
    small: { provider: demo, model: demo-small, price: { input: 0.4, output: 1.6 } }
    embed: { provider: demo, model: demo-embedding }
  tiers: { cheap: [small] }
  caches: { answers: { exact: {} } }
routes: [ { match: { path: /v1/* }, ai: { tier: cheap, cache: answers } } ]
";

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_chats_streams_embeds_and_lists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/sdk/bin/python");
    assert!(python.exists(), "the SDK is not installed; scripts/test.sh installs it into target/sdk");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let llm = listener.local_addr().unwrap();
    tokio::spawn(demo::serve_model(listener, Duration::from_millis(40)));
    let edge = Setup::new(YAML).put("LLM", llm).start().await;
    let output = Command::new(python)
        .arg(root.join("tests/it/sdk/openai_session.py"))
        .env("OPENAI_BASE_URL", format!("http://{}/v1", edge.web()))
        .env("OPENAI_API_KEY", "unused")
        .output()
        .await
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("all good"), "{said}");
}
