//! The sessions of the official SDKs: one process each, one JSON line on stdout per scenario and model.

use super::holes::Cells;
use super::script;
use super::server::CLIENT_KEY;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinSet;

/// An SDK in one of its ways of asking.
pub struct Client {
    /// Its name, which is also its script's without the ending.
    pub name: &'static str,
    /// The script in `tests/it/sdk`.
    script: &'static str,
}

/// All of them.
pub const CLIENTS: [Client; 7] = [
    Client { name: "openai_chat_py", script: "openai_chat.py" },
    Client { name: "openai_chat_js", script: "openai_chat.mjs" },
    Client { name: "openai_responses_py", script: "openai_responses.py" },
    Client { name: "openai_responses_js", script: "openai_responses.mjs" },
    Client { name: "anthropic_py", script: "anthropic_messages.py" },
    Client { name: "anthropic_js", script: "anthropic_messages.mjs" },
    Client { name: "genai_py", script: "genai.py" },
];

/// What every session plays with every model.
pub const SCENARIOS: [&str; 9] =
    ["chat", "stream", "tools", "tools_stream", "vision", "schema", "errors", "broken", "cancel"];

/// The package's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// A program of the SDKs' environment, which scripts/test.sh makes.
fn program(script: &str) -> PathBuf {
    let path = root().join("target/sdk/bin").join(if script.ends_with(".py") { "python" } else { "node" });
    assert!(path.exists(), "{} is missing; scripts/test.sh installs the SDKs into target/sdk", path.display());
    path
}

/// A copy of the scripts beside which Node finds the packages.
fn scripts() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root().join("tests/it/sdk")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    std::os::unix::fs::symlink(root().join("target/sdk/node/node_modules"), dir.path().join("node_modules")).unwrap();
    dir
}

/// Runs every session against the gateway.
pub async fn run(gateway: SocketAddr, models: &[&str]) -> Cells {
    let scripts = scripts();
    let mut sessions = JoinSet::new();
    for client in CLIENTS {
        let mut command = Command::new(program(client.script));
        command
            // Node looks for packages beside the script, which links to target/sdk/node.
            .arg(scripts.path().join(client.script))
            .env("BASE_URL", format!("http://{gateway}"))
            .env("CLIENT_KEY", format!("{CLIENT_KEY}-{}", client.name))
            .env("MODELS", models.join(","))
            .env("RUN", client.name)
            .env("SPEC", script::spec().to_string())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        sessions.spawn(async move { (client.name, command.output().await.unwrap()) });
    }
    let mut cells = Cells::default();
    while let Some(ended) = sessions.join_next().await {
        let (name, output) = ended.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let told: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}"));
            let word = |member: &str| told[member].as_str().unwrap_or_default().to_owned();
            cells.told(name, &word("model"), &word("scenario"), told["error"].as_str());
        }
        assert!(output.status.success(), "{name} ended early: {errors}");
    }
    for client in CLIENTS {
        for model in models {
            for scenario in SCENARIOS {
                cells.expect(client.name, model, scenario);
            }
        }
    }
    cells
}
