//! The official SDKs for Python, OpenAI's and Anthropic's, against the gateway: nothing but `base_url` tells them where
//! they are.

use crate::harness::edge::{Edge, Setup};
use crate::harness::llm::{Llm, Play};
use serde_json::Value;
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
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let llm = listener.local_addr().unwrap();
    tokio::spawn(demo::serve_model(listener, Duration::from_millis(40)));
    let edge = Setup::new(YAML).put("LLM", llm).start().await;
    session(&edge, "openai_session.py").await;
}

/// Runs a script of `tests/it/sdk` against the gateway.
async fn session(edge: &Edge, script: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/sdk/bin/python");
    assert!(python.exists(), "the SDKs are not installed; scripts/test.sh installs them into target/sdk");
    let output = Command::new(python)
        .arg(root.join("tests/it/sdk").join(script))
        .env("OPENAI_BASE_URL", format!("http://{}/v1", edge.web()))
        .env("OPENAI_API_KEY", "unused")
        .env("ANTHROPIC_BASE_URL", format!("http://{}", edge.web()))
        .env("ANTHROPIC_API_KEY", "unused")
        .output()
        .await
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("all good"), "{said}");
}

const EVERY: &str = "
ai:
  providers:
    oa: { dialect: openai, base_url: \"$LLM\" }
    an: { dialect: anthropic, base_url: \"$LLM\" }
    ge: { dialect: gemini, base_url: \"$LLM\" }
  models:
    gpt: { provider: oa, model: gpt-1 }
    claude: { provider: an, model: claude-1 }
    gem: { provider: ge, model: gem-1 }
routes: [ { match: { path: /v1/* }, ai: {} } ]
";

/// A provider of every dialect that does what the last message says.
async fn obedient() -> Llm {
    Llm::start(|call, _| {
        let all = call.to_string();
        let count = |kinds: [&str; 3]| kinds.map(|k| all.matches(k).count()).into_iter().sum::<usize>();
        let results = count(["\"tool_result\"", "\"role\":\"tool\"", "\"functionResponse\""]);
        let images = count(["\"type\":\"image\"", "\"type\":\"image_url\"", "\"inlineData\""]);
        let wants_json = all.contains("json_schema") || all.contains("responseJsonSchema");
        let messages = call["messages"].as_array().or_else(|| call["contents"].as_array());
        let last = messages.and_then(|m| m.last()).cloned().unwrap_or_default();
        let text = plain_text(if last["parts"].is_array() { &last["parts"] } else { &last["content"] });
        // What Gemini signed must come back with its call.
        assert!(!all.contains("functionCall") || all.contains("\"thoughtSignature\":\"c2ln\""), "{all}");
        match text.as_str() {
            _ if results > 0 => Play::Say(format!("{results} results")),
            _ if images > 0 => Play::Say(format!("{images} image")),
            _ if wants_json => Play::Say("{\"name\":\"Oslo\"}".to_owned()),
            "use tools" => {
                let calls = vec![("call_1", "weather", "{\"city\":\"Oslo\"}"), ("call_2", "clock", "{}")];
                Play::Tools("Let me look. ".to_owned(), calls)
            }
            "cut" => Play::CutAfter("one two three four".to_owned(), 2),
            _ => match text.strip_prefix("fail ") {
                Some(status) => Play::Fail(status.parse().unwrap()),
                None => Play::Say(format!("You said: {text}")),
            },
        }
    })
    .await
}

fn plain_text(content: &Value) -> String {
    let parts = content.as_array().map_or(&[][..], Vec::as_slice);
    let joined: String = parts.iter().filter_map(|p| p["text"].as_str()).collect();
    content.as_str().map_or(joined, str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openai_sdk_talks_to_providers_of_every_dialect() {
    let llm = obedient().await;
    let edge = Setup::new(EVERY).put("LLM", llm.url()).start().await;
    session(&edge, "openai_matrix.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_anthropic_sdk_talks_to_providers_of_every_dialect() {
    let llm = obedient().await;
    let edge = Setup::new(EVERY).put("LLM", llm.url()).start().await;
    session(&edge, "anthropic_session.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openai_sdks_responses_reach_providers_of_every_dialect() {
    let llm = obedient().await;
    let edge = Setup::new(EVERY).put("LLM", llm.url()).start().await;
    session(&edge, "responses_session.py").await;
}
