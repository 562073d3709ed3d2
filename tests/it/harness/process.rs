//! The gateway as a process of its own: what a restart or a kill leaves behind can only be seen from outside.

use super::soon;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A running `sluicegate run`; killed when dropped.
pub struct Process {
    child: Child,
    /// Where the listener `web` listens.
    pub web: SocketAddr,
    /// Where the admin port listens, if the configuration has one.
    pub admin: Option<SocketAddr>,
}

impl Process {
    /// Starts the binary on a configuration whose listener `web` has port 0, and waits until it listens.
    pub async fn start(config: &Path) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
            .args(["run", "-c"])
            .arg(config)
            // the log is read below
            .env("NO_COLOR", "1")
            .env("RUST_LOG", "info")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary runs");
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let also = tell.clone();
        // Both are read to the end: a full pipe would block the gateway.
        tokio::spawn(async move {
            let mut lines = BufReader::new(out).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = tell.send(line);
            }
        });
        tokio::spawn(async move {
            let mut lines = BufReader::new(err).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = also.send(line);
            }
        });
        let mut said = String::new();
        let (mut web, mut admin) = (None, None);
        let wants_admin = std::fs::read_to_string(config).unwrap().contains("admin:");
        loop {
            let line = soon("the gateway to listen", told.recv()).await;
            let line = line.unwrap_or_else(|| panic!("the gateway ended:\n{said}"));
            let at = line.split("address=").nth(1).and_then(|a| a.split_whitespace().next()?.parse().ok());
            web = web.or(at.filter(|_| line.contains("listener=\"web\"")));
            admin = admin.or(at.filter(|_| line.contains("listener=\"admin\"")));
            if let Some(web) = web.filter(|_| admin.is_some() || !wants_admin) {
                return Process { child, web, admin };
            }
            said.push_str(&line);
            said.push('\n');
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it still runs")
    }

    /// Sends a signal (`TERM`, `KILL`) and waits for the end.
    pub async fn end(mut self, signal: &str) {
        let pid = self.child.id().expect("it still runs").to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status().await.unwrap();
        assert!(sent.success());
        soon("the gateway to end", self.child.wait()).await.unwrap();
    }
}
