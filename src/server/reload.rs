//! Reload: read, compile, bind, swap; or keep everything as it is and say why.

use super::ProxyApp;
use super::listen::Listeners;
use crate::admin::status::Last;
use crate::config::Config;
use crate::config::error::Fault;
use crate::plan::Plan;
use crate::proxy::Edge;
use notify::{RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Editors write a file in several steps: changes this close together are one.
const QUIET: Duration = Duration::from_millis(100);

/// Reloads one gateway.
pub struct Reloader {
    path: PathBuf,
    edge: Arc<Edge>,
    listeners: Mutex<Listeners<ProxyApp>>,
    /// Settings that only a restart changes.
    fixed: Fixed,
    last: Mutex<Last>,
}

#[derive(PartialEq)]
struct Fixed {
    threads: usize,
    admin: Option<String>,
}

fn fixed(c: &Config) -> Fixed {
    Fixed { threads: c.server.threads, admin: c.server.admin.as_ref().map(|a| format!("{} {:?}", a.listen, a.token)) }
}

fn locked<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reloader {
    /// For a gateway that was started from `path`.
    pub fn new(path: PathBuf, edge: Arc<Edge>, listeners: Listeners<ProxyApp>, config: &Config) -> Self {
        Reloader { path, edge, listeners: Mutex::new(listeners), fixed: fixed(config), last: Mutex::default() }
    }

    /// Binds the present plan's listeners.
    pub fn bind_now(&self) -> Result<(), Vec<Fault>> {
        self.bind(&self.edge.plan.load())
    }

    fn bind(&self, plan: &Plan) -> Result<(), Vec<Fault>> {
        let wanted: Vec<(String, String)> =
            plan.listeners.iter().map(|(n, l)| (n.clone(), l.address.clone())).collect();
        let mut listeners = locked(&self.listeners);
        listeners.set(&wanted)?;
        let ports = listeners.addresses().into_iter().map(|(n, a)| (a.port(), n)).collect();
        self.edge.ports.store(Arc::new(ports));
        Ok(())
    }

    /// Where the listeners are bound.
    pub fn addresses(&self) -> BTreeMap<String, SocketAddr> {
        locked(&self.listeners).addresses()
    }

    /// Stops accepting.
    pub fn close(&self) {
        locked(&self.listeners).close();
    }

    /// How the last reload went.
    pub fn last(&self) -> Last {
        locked(&self.last).clone()
    }

    /// Reads everything again. On any fault the present configuration stays live. Blocks: files are read and names
    /// resolved, so it is not for a thread that serves.
    pub fn reload(&self, why: &'static str) -> Result<(), String> {
        // One reload at a time; the lock is what `last` is read under, never what a request waits for.
        let mut last = locked(&self.last);
        let result = self.swap();
        let word = if result.is_ok() { "ok" } else { "failed" };
        self.edge.shared.metrics.reloads.with_label_values(&["config", word]).inc();
        let faults: Vec<String> = result.as_ref().err().into_iter().flatten().map(Fault::to_string).collect();
        let text = faults.join("\n");
        *last = Last { ok: faults.is_empty(), why, faults, ..Last::default() };
        if result.is_err() {
            tracing::error!(why, "reload refused, the last good configuration stays live:\n{text}");
            return Err(text);
        }
        tracing::info!(why, revision = self.edge.plan.load().revision, "configuration is live");
        Ok(())
    }

    fn swap(&self) -> Result<(), Vec<Fault>> {
        let (loaded, plan) = super::read(&self.path, &self.edge.shared).map_err(|f| f.0)?;
        if fixed(&loaded.config) != self.fixed {
            tracing::warn!("server.threads and server.admin change only with a restart");
        }
        for w in loaded.sources.locate(plan.warnings.clone()) {
            tracing::warn!("{w}");
        }
        let plan = Arc::new(plan);
        // New listeners ask the plan for their rules at the first connection: the plan goes live first.
        let before = self.edge.plan.swap(Arc::clone(&plan));
        if let Err(f) = self.bind(&plan) {
            self.edge.plan.store(before);
            return Err(loaded.sources.locate(f));
        }
        let now = i64::try_from(self.edge.shared.clock.unix_secs()).unwrap_or(i64::MAX);
        self.edge.shared.metrics.config_live_since.set(now);
        Ok(())
    }
}

/// Watches the folders of all files (editors replace files, so that watching a file itself would lose it) and reloads
/// when one of the files has changed.
pub fn watch(reloader: &Arc<Reloader>) -> anyhow::Result<notify::RecommendedWatcher> {
    let (tx, rx) = std::sync::mpsc::channel::<notify::Result<notify::Event>>();
    let mut watcher = notify::recommended_watcher(tx)?;
    let main = reloader.path.clone();
    let folders: BTreeSet<PathBuf> = files(reloader, &main).iter().filter_map(|f| folder(f)).collect();
    for f in &folders {
        watcher.watch(f, RecursiveMode::NonRecursive)?;
    }
    let weak = Arc::downgrade(reloader);
    std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
        let mut ours = BTreeSet::new();
        while let Ok(event) = rx.recv() {
            let Some(reloader) = weak.upgrade() else { return };
            if ours.is_empty() {
                ours = files(&reloader, &main).iter().map(|f| absolute(f)).collect();
            }
            // Other files of the folder (an access log, say) change all the time: they neither start nor delay a reload.
            if !names(event).iter().any(|touched| ours.contains(&absolute(touched))) {
                continue;
            }
            // An editor writes in several steps; what comes after this wait starts a reload of its own.
            let settled = Instant::now() + QUIET;
            while Instant::now() < settled && rx.recv_timeout(settled.saturating_duration_since(Instant::now())).is_ok()
            {
            }
            // The fault is in the log and in the status already.
            let _ = reloader.reload("file changed");
            ours.clear();
        }
    })?;
    Ok(watcher)
}

fn files(reloader: &Reloader, main: &Path) -> Vec<PathBuf> {
    let mut all = reloader.edge.plan.load().files.clone();
    all.push(main.to_owned());
    all
}

fn names(event: notify::Result<notify::Event>) -> Vec<PathBuf> {
    match event {
        Ok(e) if !e.kind.is_access() => e.paths,
        _ => Vec::new(),
    }
}

fn folder(file: &Path) -> Option<PathBuf> {
    absolute(file).parent().map(Path::to_owned)
}

fn absolute(path: &Path) -> PathBuf {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // The folder is made real, the name stays: a file that is a link is watched where it stands.
    match (full.parent().and_then(|p| p.canonicalize().ok()), full.file_name()) {
        (Some(dir), Some(name)) => dir.join(name),
        _ => full,
    }
}
