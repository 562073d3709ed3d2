//! A gateway for one test: YAML and scripts in a folder of its own, every port chosen by the system.

use super::client::{self, Response};
use super::wait_until;
use serde_json::Value;
use sluicegate::base::clock::Clock;
use sluicegate::server::{self, Options, Running};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What every test's YAML begins with, unless it brings its own.
const PRELUDE: &str = "\
version: 1
server: { threads: 2, grace_period: 100ms, admin: { listen: \"127.0.0.1:0\" } }
listeners: { web: { address: \"127.0.0.1:0\" } }
";

/// A gateway to be.
pub struct Setup {
    yaml: String,
    files: Vec<(String, String)>,
    express: bool,
}

/// A gateway that runs until it is dropped.
pub struct Edge {
    running: Running,
    dir: TempDir,
}

impl Setup {
    /// The rest of a configuration: upstreams, routes and so on, below a listener `web` and an admin port.
    pub fn new(yaml: &str) -> Setup {
        Setup::bare(&format!("{PRELUDE}{yaml}"))
    }

    /// A whole configuration.
    pub fn bare(yaml: &str) -> Setup {
        Setup { yaml: yaml.to_owned(), files: Vec::new(), express: true }
    }

    /// Replaces `$NAME` in the YAML and in the files given so far.
    pub fn put(mut self, name: &str, value: impl ToString) -> Setup {
        let (name, value) = (format!("${name}"), value.to_string());
        self.yaml = self.yaml.replace(&name, &value);
        for (_, text) in &mut self.files {
            *text = text.replace(&name, &value);
        }
        self
    }

    /// A file beside the YAML.
    pub fn file(mut self, name: &str, text: &str) -> Setup {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Without the express lane: hits take the way of every other request.
    pub fn ordinary(mut self) -> Setup {
        self.express = false;
        self
    }

    /// Starts it in a folder of its own.
    pub async fn start(self) -> Edge {
        match self.try_start().await {
            Ok(edge) => edge,
            Err(fault) => panic!("the gateway does not start: {fault:#}"),
        }
    }

    /// Starts it; the fault when it refuses to.
    pub async fn try_start(self) -> anyhow::Result<Edge> {
        self.start_in(tempfile::tempdir().unwrap()).await
    }

    /// Starts it in a folder that may hold what an earlier gateway left.
    pub async fn start_in(self, dir: TempDir) -> anyhow::Result<Edge> {
        let config = self.write_into(dir.path());
        let options = Options { clock: Clock::system(), express: self.express, ..Options::default() };
        let running = server::start(&config, options).await?;
        Ok(Edge { running, dir })
    }

    /// Writes the YAML and the files; the path of the YAML.
    pub fn write_into(&self, dir: &Path) -> PathBuf {
        let mut yaml = self.yaml.replace("$DIR", &dir.display().to_string());
        if !yaml.contains("observability:") {
            // Written past the test runner's capture, the lines would bury its report.
            yaml += "\nobservability: { access_log: false }\n";
        }
        for (name, text) in &self.files {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let config = dir.join("sluicegate.yaml");
        std::fs::write(&config, yaml).unwrap();
        config
    }
}

impl Edge {
    /// Where the listener `web` listens.
    pub fn web(&self) -> SocketAddr {
        self.at("web")
    }

    /// Where a listener listens.
    pub fn at(&self, listener: &str) -> SocketAddr {
        self.running.address(listener).unwrap_or_else(|| panic!("no listener {listener}"))
    }

    /// Where the admin port listens.
    pub fn admin(&self) -> SocketAddr {
        self.running.admin().expect("no admin port")
    }

    /// A file of its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file the way an editor does: whole, then renamed into place.
    pub fn write(&self, name: &str, text: &str) {
        let draft = self.path(&format!(".{name}.draft"));
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.path(name)).unwrap();
    }

    /// Replaces a piece of a file, which must be there.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from:?}");
        self.write(name, &text.replace(from, to));
    }

    /// `GET` on the listener `web`.
    pub async fn get(&self, target: &str) -> Response {
        client::get(self.web(), target).await
    }

    /// A request on the listener `web`.
    pub async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        client::ask(self.web(), method, target, headers, body).await
    }

    /// `POST` of JSON on the listener `web`.
    pub async fn post(&self, target: &str, headers: &[(&str, &str)], body: &Value) -> Response {
        client::post(self.web(), target, headers, body).await
    }

    /// The admin port's `/status`.
    pub async fn status(&self) -> Value {
        client::get(self.admin(), "/status").await.json()
    }

    /// The admin port's `/metrics`.
    pub async fn metrics(&self) -> String {
        client::get(self.admin(), "/metrics").await.text()
    }

    /// The sum of a family's samples whose labels contain every one of `labels` (`tier="cheap"`).
    pub async fn metric(&self, family: &str, labels: &[&str]) -> f64 {
        sum(&self.metrics().await, family, labels)
    }

    /// Asks for a purge.
    pub async fn purge(&self, url: &str) -> Response {
        client::post(self.admin(), "/purge", &[], &serde_json::json!({ "url": url })).await
    }

    /// Waits until the number of a reload that took place is past `before`.
    pub async fn reloaded_since(&self, before: &Value) {
        wait_until("a reload", async || self.status().await["last_reload"]["at"] != before["last_reload"]["at"]).await;
    }

    /// Stops it as SIGTERM would; its folder is left to the caller.
    pub async fn stop(self) -> TempDir {
        self.running.stop().await;
        self.dir
    }
}

/// The sum of the samples of `family` in a Prometheus text whose labels contain every one of `labels`.
pub fn sum(text: &str, family: &str, labels: &[&str]) -> f64 {
    text.lines()
        .filter(|line| {
            let name = line.split(['{', ' ']).next().unwrap_or("");
            name == family && labels.iter().all(|label| line.contains(label))
        })
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}
