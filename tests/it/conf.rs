//! Configuration from the outside: what is refused and how it is said, includes, reload, the shipped files.

use crate::harness::edge::Setup;
use crate::harness::origin::Origin;
use crate::harness::secure::Certificate;
use crate::harness::token::SECRET;
use crate::harness::wait_until;
use std::path::Path;
use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Runs the real binary with the secrets that the shipped files name.
fn sluicegate(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    for name in [
        "OPENAI_API_KEY",
        "MCP_TOKEN",
        "ANTHROPIC_API_KEY",
        "GEMINI_API_KEY",
        "AZURE_OPENAI_API_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "SLUICEGATE_JWT_SECRET",
        "SLUICEGATE_DEMO_SECRET",
        "SLUICEGATE_ADMIN_TOKEN",
    ] {
        command.env(name, SECRET);
    }
    command.args(args).output().expect("the binary runs")
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn check(dir: &Path, yaml: &str) -> Output {
    let file = dir.join("sluicegate.yaml");
    std::fs::write(&file, yaml).unwrap();
    sluicegate(&["check", "-c", file.to_str().unwrap()])
}

#[test]
fn every_fault_is_reported_at_once_with_its_place_and_a_suggestion() {
    let dir = tempfile::tempdir().unwrap();
    let output = check(
        dir.path(),
        "\
listeners: { web: { address: \"127.0.0.1:0\" } }
upstreams: { shop: { servers: [\"127.0.0.1:3000\"] } }
routes:
  - { match: { path: /a }, upstream: shpo }
  - { match: { path: /b }, ai: { tier: chaep } }
  - { match: { path: /c }, upstream: shop, auth: nobody }
ai:
  providers: { p: { dialect: openai, base_url: \"http://127.0.0.1:1/v1\" } }
  models: { m: { provider: p, model: x } }
  tiers: { cheap: [m, nn] }
",
    );
    let said = told(&output);
    assert!(!output.status.success(), "{said}");
    for piece in [
        "sluicegate.yaml:4:",
        "did you mean \"shop\"",
        "sluicegate.yaml:5:",
        "did you mean \"cheap\"",
        "sluicegate.yaml:6:",
        "sluicegate.yaml:10:",
    ] {
        assert!(said.contains(piece), "missing {piece:?} in:\n{said}");
    }
}

#[test]
fn unknown_keys_are_errors_with_a_suggestion() {
    let dir = tempfile::tempdir().unwrap();
    let output = check(dir.path(), "listeners: { web: { adress: \"127.0.0.1:0\" } }\nroute: []\n");
    let said = told(&output);
    assert!(!output.status.success(), "{said}");
    for piece in ["sluicegate.yaml:1:", "did you mean \"address\"", "sluicegate.yaml:2:", "did you mean \"routes\""] {
        assert!(said.contains(piece), "missing {piece:?} in:\n{said}");
    }
}

#[test]
fn broken_yaml_names_the_line_and_a_missing_file_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let said = told(&check(dir.path(), "listeners:\n  web: { address: [\n"));
    assert!(said.contains("sluicegate.yaml"), "{said}");
    let missing = sluicegate(&["check", "-c", "no/such/file.yaml"]);
    assert!(!missing.status.success() && told(&missing).contains("no/such/file.yaml"), "{}", told(&missing));
}

#[test]
fn a_misspelt_dialect_is_told_the_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = "\
listeners: { web: { address: \"127.0.0.1:0\" } }
ai: { providers: { p: { dialect: antropic, base_url: \"http://127.0.0.1:1\" } } }
routes: [ { respond: { status: 200 } } ]
";
    let said = told(&check(dir.path(), yaml));
    assert!(said.contains("sluicegate.yaml:2:") && said.contains("did you mean \"anthropic\""), "{said}");
}

#[test]
fn a_route_with_no_action_or_two_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let base = "listeners: { web: { address: \"127.0.0.1:0\" } }\nupstreams: { a: { servers: [\"127.0.0.1:1\"] } }\n";
    for route in ["{ match: { path: /a } }", "{ upstream: a, respond: { status: 200 } }"] {
        let output = check(dir.path(), &format!("{base}routes: [ {route} ]\n"));
        assert!(!output.status.success() && told(&output).contains("sluicegate.yaml:3:"), "{}", told(&output));
    }
}

#[test]
fn a_secret_in_clear_is_refused_and_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let output = check(
        dir.path(),
        "\
listeners: { web: { address: \"127.0.0.1:0\" } }
ai: { providers: { p: { dialect: openai, base_url: \"http://127.0.0.1:1\", api_key: sk-canary-1 } } }
routes: [ { respond: { status: 200 } } ]
",
    );
    let said = told(&output);
    assert!(!output.status.success(), "{said}");
    assert!(!said.contains("canary"), "{said}");
    assert!(said.contains("env:"), "{said}");
}

#[test]
fn the_schema_is_json_and_describes_every_key() {
    let output = sluicegate(&["schema"]);
    assert!(output.status.success(), "{}", told(&output));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON on standard output");
    for section in [
        "server",
        "listeners",
        "upstreams",
        "caches",
        "auth",
        "rate_limits",
        "bots",
        "policy",
        "ai",
        "routes",
        "observability",
    ] {
        assert!(schema["properties"][section]["description"].is_string(), "{section} has no description");
    }
    let shipped = std::fs::read_to_string(Path::new(ROOT).join("conf/schema.json")).expect("conf/schema.json");
    let shipped: serde_json::Value = serde_json::from_str(&shipped).unwrap();
    assert!(shipped == schema, "conf/schema.json is stale: sluicegate schema > conf/schema.json");
}

/// A copy of the shipped files, with the certificates that they name.
fn shipped() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path();
    for folder in ["conf/tls", "scripts/policy"] {
        std::fs::create_dir_all(to.join(folder)).unwrap();
    }
    for folder in ["conf", "scripts/policy"] {
        for entry in std::fs::read_dir(Path::new(ROOT).join(folder)).unwrap().flatten().filter(|e| e.path().is_file()) {
            std::fs::copy(entry.path(), to.join(folder).join(entry.file_name())).unwrap();
        }
    }
    for name in ["shop", "blog"] {
        Certificate::write(&to.join("conf/tls"), name, &["localhost"]);
    }
    dir
}

#[test]
fn every_shipped_configuration_checks() {
    let dir = shipped();
    let mut checked = Vec::new();
    for name in ["minimal.yaml", "cdn.yaml", "ai.yaml", "demo.yaml", "sluicegate.yaml"] {
        let file = dir.path().join("conf").join(name);
        let output = sluicegate(&["check", "-c", file.to_str().unwrap()]);
        assert!(output.status.success(), "conf/{name}:\n{}", told(&output));
        checked.push(name.to_owned());
    }
    let mut there: Vec<String> = std::fs::read_dir(dir.path().join("conf"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        // the price list is loaded by ai.yaml, the file of keys by sluicegate.yaml
        .filter(|name| name.ends_with(".yaml") && !["prices.yaml", "keys.yaml"].contains(&name.as_str()))
        .collect();
    checked.sort();
    there.sort();
    assert_eq!(checked, there, "every configuration in conf/ is checked here");
}

#[test]
fn the_minimal_configuration_stays_minimal() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("conf/minimal.yaml")).unwrap();
    assert!(text.lines().count() <= 12);
}

#[test]
fn every_shipped_configuration_names_the_schema() {
    for entry in std::fs::read_dir(Path::new(ROOT).join("conf")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".yaml") && !["prices.yaml", "keys.yaml"].contains(&name.as_str()) {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            assert!(text.starts_with("# yaml-language-server: $schema=schema.json\n"), "conf/{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn included_files_are_merged() {
    let setup = Setup::new("include: [\"more-*.yaml\"]\n").file(
        "more-1.yaml",
        "routes: [ { match: { path: /one }, respond: { body: first } }, { respond: { status: 404 } } ]\n",
    );
    let edge = setup.start().await;
    assert_eq!(edge.get("/one").await.text(), "first");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_configuration_is_taken_and_a_broken_one_is_not() {
    let origin = Origin::fixed("from the origin").await;
    let yaml = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
routes: [ { respond: { body: first } } ]
";
    let edge = Setup::new(yaml).put("ORIGIN", origin.address).start().await;
    let web = edge.web();
    assert_eq!(edge.get("/").await.text(), "first");
    edge.edit("sluicegate.yaml", "{ respond: { body: first } }", "{ upstream: app }");
    wait_until("the new route", async || edge.get("/").await.text() == "from the origin").await;
    edge.edit("sluicegate.yaml", "{ upstream: app }", "{ upstream: ap }");
    wait_until("the fault", async || edge.status().await["last_reload"]["ok"] == false).await;
    assert!(
        edge.status().await["last_reload"]["faults"].to_string().contains("did you mean"),
        "{}",
        edge.status().await
    );
    assert_eq!((edge.get("/").await.text().as_str(), edge.web()), ("from the origin", web));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let yaml = "listeners: { web: { address: \"127.0.0.1:$PORT\" } }\nroutes: [ { respond: { status: 200 } } ]\n";
    let fault = Setup::bare(yaml).put("PORT", port).try_start().await.err().expect("the port is taken");
    assert!(format!("{fault:#}").contains(&port.to_string()), "{fault:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_admin_port_without_a_token_is_refused() {
    let yaml = "
server: { admin: { listen: \"0.0.0.0:0\" } }
listeners: { web: { address: \"127.0.0.1:0\" } }
routes: [ { respond: { status: 200 } } ]
";
    let fault = Setup::bare(yaml).try_start().await.err().expect("it must not start");
    assert!(format!("{fault:#}").contains("server.admin"), "{fault:#}");
}
