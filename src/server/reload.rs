//! Reload: read, compile, bind, swap; or keep everything as it is and say why. Whatever can fail comes before the swap.

use super::ProxyApp;
use super::files::{Files, Snapshot};
use super::listen::Listeners;
use crate::admin::status::Last;
use crate::base::ids;
use crate::config::Config;
use crate::config::error::Fault;
use crate::config::load::{self, Loaded};
use crate::plan::Plan;
use crate::plan::compile::compile;
use crate::proxy::Edge;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::runtime::Handle;

/// Reloads one gateway.
pub struct Reloader {
    path: PathBuf,
    edge: Arc<Edge>,
    /// Accept loops run here, whichever thread reloads.
    runtime: Handle,
    /// One reload at a time.
    turn: Mutex<()>,
    /// `None` once the gateway stops.
    listeners: Mutex<Option<Listeners<ProxyApp>>>,
    /// Settings that only a restart changes.
    fixed: Vec<(&'static str, String)>,
    last: Mutex<Last>,
    known: Mutex<Known>,
    wake: OnceLock<SyncSender<()>>,
}

/// The files that matter.
struct Known {
    /// Of the live configuration, and how they looked when it was read.
    live: Files,
    live_look: Snapshot,
    /// Of the last attempt.
    tried: Files,
    tried_look: Snapshot,
}

/// What only a restart changes, with its present value.
fn fixed(c: &Config) -> Vec<(&'static str, String)> {
    let s = &c.server;
    let mut out = vec![
        ("server.threads", s.threads.to_string()),
        ("server.idle_timeout (of HTTP/2 connections and the admin port)", s.idle_timeout.to_string()),
    ];
    let admin = s.admin.as_ref().map(|a| {
        let token = a.token.as_ref().and_then(|t| t.resolve().ok());
        let token = token.map(|t| ids::hex(&ids::sha256_parts([t.expose().as_bytes()])));
        format!("{} {token:?}", a.listen)
    });
    if let Some(text) = admin {
        out.push(("server.header_timeout (of the admin port)", s.header_timeout.to_string()));
        out.push(("server.io_timeout (of the admin port)", s.io_timeout.to_string()));
        out.push(("server.max_header_size (of the admin port)", s.max_header_size.0.to_string()));
        out.push(("server.admin", text));
    } else {
        out.push(("server.admin", String::new()));
    }
    out
}

fn locked<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wanted(plan: &Plan) -> Vec<(String, String)> {
    plan.listeners.iter().map(|(n, l)| (n.clone(), l.address.clone())).collect()
}

/// A panic is a bug, and a fault like any other: it is told, and what runs goes on.
fn guarded<T>(work: impl FnOnce() -> Result<T, Vec<Fault>>) -> Result<T, Vec<Fault>> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(vec![Fault::at("", format!("internal error, please report it: {text}"))])
    })
}

impl Reloader {
    /// For a gateway that was started from `path`. Needs a runtime around it.
    pub fn new(path: PathBuf, edge: Arc<Edge>, listeners: Listeners<ProxyApp>, loaded: &Loaded) -> Self {
        let live = Files::of(&path, loaded);
        let live_look = live.look();
        let known = Known { tried: live.clone(), tried_look: live_look.clone(), live, live_look };
        Reloader {
            path,
            edge,
            runtime: Handle::current(),
            turn: Mutex::default(),
            listeners: Mutex::new(Some(listeners)),
            fixed: fixed(&loaded.config),
            last: Mutex::default(),
            known: Mutex::new(known),
            wake: OnceLock::new(),
        }
    }

    /// Binds the first plan's listeners; what was made for it is kept from now on.
    pub fn bind_now(&self) -> Result<(), Vec<Fault>> {
        self.go_live(None)
    }

    /// Where the listeners are bound.
    pub fn addresses(&self) -> BTreeMap<String, SocketAddr> {
        locked(&self.listeners).as_ref().map(Listeners::addresses).unwrap_or_default()
    }

    /// Stops accepting, for good.
    pub fn close(&self) {
        *locked(&self.listeners) = None;
    }

    /// How the last reload went.
    pub fn last(&self) -> Last {
        locked(&self.last).clone()
    }

    /// Reads everything again. On any fault the present configuration stays live. Blocks: files are read and names
    /// resolved, so it is not for a thread that serves.
    pub fn reload(&self, why: &'static str) -> Result<(), String> {
        let _turn = locked(&self.turn);
        let _runtime = self.runtime.enter();
        // Looked at before anything is read: what changes from now on asks for another reload.
        let before = self.look();
        let what = self.what(&before);
        let result = guarded(|| self.attempt());
        if result.is_err() {
            self.edge.shared.discard();
        }
        self.edge.shared.release();
        self.remember(before, result.is_ok());
        let word = if result.is_ok() { "ok" } else { "failed" };
        self.edge.shared.metrics.reloads.with_label_values(&[what, word]).inc();
        let faults: Vec<String> = result.as_ref().err().into_iter().flatten().map(Fault::to_string).collect();
        let text = faults.join("\n");
        *locked(&self.last) = Last { ok: faults.is_empty(), why, faults, ..Last::default() };
        if result.is_err() {
            tracing::error!(why, what, "reload refused, the last good configuration stays live:\n{text}");
            return Err(text);
        }
        tracing::info!(why, what, revision = self.edge.plan.load().revision, "configuration is live");
        Ok(())
    }

    fn attempt(&self) -> Result<(), Vec<Fault>> {
        let loaded = match load::load(&self.path) {
            Ok(l) => l,
            Err(faults) => {
                locked(&self.known).tried = Files::of_unreadable(&self.path);
                return Err(faults);
            }
        };
        locked(&self.known).tried = Files::of(&self.path, &loaded);
        let plan = compile(&loaded, &self.path, &self.edge.shared)?;
        let warnings = loaded.sources.locate(plan.warnings.clone());
        self.go_live(Some(Arc::new(plan))).map_err(|f| loaded.sources.locate(f))?;
        for (name, _) in fixed(&loaded.config).iter().filter(|f| !self.fixed.contains(f)) {
            tracing::warn!(setting = name, "changed, but that takes effect only with a restart");
        }
        for w in warnings {
            tracing::warn!("{w}");
        }
        Ok(())
    }

    /// Puts a plan in the place of the present one (or, at the start, only binds that one): new sockets are bound but do
    /// not accept, the plan is swapped, then they do. No request sees a plan that is taken back.
    fn go_live(&self, plan: Option<Arc<Plan>>) -> Result<(), Vec<Fault>> {
        let mut listeners = locked(&self.listeners);
        let Some(listeners) = listeners.as_mut() else {
            return Err(vec![Fault::at("", "the gateway is stopping")]);
        };
        let prepared = match &plan {
            Some(p) => listeners.prepare(&wanted(p))?,
            None => listeners.prepare(&wanted(&self.edge.plan.load()))?,
        };
        self.edge.ports.store(Arc::new(prepared.ports()));
        let before = plan.map(|p| self.edge.plan.swap(p));
        listeners.commit(prepared);
        self.edge.shared.commit(before.as_ref());
        let now = i64::try_from(self.edge.shared.clock.unix_secs()).unwrap_or(i64::MAX);
        self.edge.shared.metrics.config_live_since.set(now);
        Ok(())
    }

    /// Whether the script alone differs from what is live.
    fn what(&self, now: &Snapshot) -> &'static str {
        let known = locked(&self.known);
        let changed = now.changed_since(&known.live_look);
        let script_only = !changed.is_empty() && changed.iter().all(|f| known.live.script.as_ref() == Some(f));
        if script_only { "policy" } else { "config" }
    }

    fn remember(&self, mut look: Snapshot, live: bool) {
        let mut known = locked(&self.known);
        look.learn(known.live.and(&known.tried).look());
        if live {
            known.live = known.tried.clone();
            known.live_look = look.clone();
        }
        known.tried_look = look;
        drop(known);
        // The watcher has other folders to watch now.
        if let Some(wake) = self.wake.get() {
            let _ = wake.try_send(());
        }
    }

    /// Drops what no plan uses any more, unless a reload is under way. Blocks.
    pub fn tidy(&self) {
        if let Ok(_turn) = self.turn.try_lock() {
            self.edge.shared.release();
        }
    }

    /// Whom to wake after an attempt.
    pub fn wake_with(&self, wake: SyncSender<()>) {
        // Only one watcher is ever started.
        let _ = self.wake.set(wake);
    }

    fn watched(&self) -> Files {
        let known = locked(&self.known);
        known.live.and(&known.tried)
    }

    /// How the files look now.
    pub fn look(&self) -> Snapshot {
        self.watched().look()
    }

    /// Whether a file has changed since the last attempt.
    pub fn changed(&self) -> bool {
        let now = self.look();
        !now.changed_since(&locked(&self.known).tried_look).is_empty()
    }

    /// The folders to watch.
    pub fn folders(&self) -> BTreeSet<PathBuf> {
        let files = self.watched();
        let seen = files.look();
        files.folders(&seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_fault_of_the_reload() {
        let fault = guarded(|| -> Result<(), _> { panic!("no runtime") }).unwrap_err();
        assert!(fault[0].to_string().contains("no runtime"), "{}", fault[0]);
        assert_eq!(guarded(|| Ok(7)).unwrap(), 7);
    }

    #[test]
    fn what_only_a_restart_changes_is_known() {
        let mut c = Config::default();
        let before = fixed(&c);
        c.server.idle_timeout = crate::base::units::Dur::secs(7);
        c.server.threads = 3;
        let changed: Vec<_> = fixed(&c).into_iter().filter(|f| !before.contains(f)).map(|f| f.0).collect();
        assert_eq!(changed.len(), 2, "{changed:?}");
    }
}
