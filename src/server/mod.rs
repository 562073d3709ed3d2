//! Sockets, TLS, reload, signals: boot in order. Everything a running gateway owns hangs on `Running`.

pub mod conn;
mod cork;
pub mod express;
pub mod files;
pub mod h1guard;
pub mod h2;
pub mod io;
pub mod listen;
pub mod plain;
pub mod proxy_protocol;
pub mod quiet;
pub mod reload;
pub mod signals;
pub mod watch;

use crate::admin::Admin;
use crate::ai::vector::Delete;
use crate::base::clock::Clock;
use crate::config::error::Fault;
use crate::config::listener::Protocol;
use crate::config::load::{self, Loaded};
use crate::observe::metrics::Metrics;
use crate::plan::compile::compile;
use crate::plan::listener::{Rules, rules};
use crate::plan::shared::Shared;
use crate::proxy::{Edge, Spine};
use anyhow::Context;
use conn::Server;
use listen::{Listeners, Open};
use pingora::apps::HttpServerOptions;
use pingora::protocols::http::v2::server::H2Options;
use pingora::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use reload::Reloader;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch as channel;

/// Bytes of an answer that a stream holds for its client, who takes them or not.
const H2_SEND_BYTES: usize = 256 << 10;
/// HTTP/2 streams that one client may have open on a connection.
const H2_STREAMS_MAX: u32 = 128;
/// HTTP/2 header lists of this size, uncompressed, are read in any case, in bytes: too large ones get their 431 from us.
const H2_HEADER_BYTES_MIN: u32 = 64 * 1024;

/// How long answers may take to be filed when the process leaves.
const FILING_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a cache's disk level may take to write what is queued when the process leaves.
const DISK_TIMEOUT: Duration = Duration::from_secs(5);

/// How to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time.
    pub clock: Clock,
    /// Reload when a file changes.
    pub watch: bool,
    /// Answer plain hits before a session is made; off only where the two ways are compared.
    pub express: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { clock: Clock::system(), watch: true, express: true }
    }
}

/// A configuration with faults.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Faulty(pub Vec<Fault>);

/// A running gateway.
pub struct Running {
    edge: Arc<Edge>,
    reloader: Arc<Reloader>,
    /// The operators' door, open until the very end.
    door: Option<Listeners<Admin>>,
    down: channel::Sender<bool>,
    open: Arc<Open>,
}

/// Starts a gateway on a configuration file.
pub async fn start(config: &Path, options: Options) -> anyhow::Result<Running> {
    let metrics = Metrics::new().context("metrics")?;
    let shared = Arc::new(Shared::new(Arc::clone(&metrics), options.clock.clone()));
    // Compiling reads files and resolves names: not the business of a thread that serves.
    let (loaded, plan) = {
        let (path, shared) = (config.to_owned(), Arc::clone(&shared));
        tokio::task::spawn_blocking(move || read(&path, &shared)).await.context("compile")??
    };
    for w in loaded.sources.locate(plan.warnings.clone()) {
        tracing::warn!("{w}");
    }
    let edge = Arc::new(Edge::new(Arc::new(plan), Arc::clone(&shared)));
    let (down, shutdown) = channel::channel(false);
    let open = Arc::new(Open::default());
    let lane = options.express.then(|| Arc::clone(&edge));
    let listeners = listeners(&edge, &loaded, (&shutdown, lane), &open);
    let reloader = Arc::new(Reloader::new(config.to_owned(), Arc::clone(&edge), listeners, &loaded));
    reloader.bind_now().map_err(|f| Faulty(loaded.sources.locate(f)))?;
    let door = open_admin(&loaded, &edge, &reloader, &shutdown)?;
    if options.watch {
        watch::start(&reloader)?;
    }
    reclaim(&edge, shutdown.clone());
    keep_house(&edge, &reloader, shutdown);
    Ok(Running { edge, reloader, door, down, open })
}

/// Loads and compiles.
pub fn read(path: &Path, shared: &Arc<Shared>) -> Result<(Loaded, crate::plan::Plan), Faulty> {
    let loaded = load::load(path).map_err(Faulty)?;
    let plan = compile(&loaded, path, shared).map_err(Faulty)?;
    Ok((loaded, plan))
}

type ProxyApp = HttpProxy<Spine>;

fn listeners(
    edge: &Arc<Edge>,
    loaded: &Loaded,
    (shutdown, express): (&channel::Receiver<bool>, Option<Arc<Edge>>),
    open: &Arc<Open>,
) -> Listeners<ProxyApp> {
    let conf = ServerConf { threads: threads(loaded.config.server.threads), max_retries: 4, ..ServerConf::default() };
    let mut app = HttpProxy::new(Spine(Arc::clone(edge)), Arc::new(conf));
    let mut h2 = H2Options::new();
    // HTTP/2 counts more for a field than the line that it would be; the station `accept` judges by `max_header_size`.
    let header_bytes = u32::try_from(loaded.config.server.max_header_size.0).unwrap_or(u32::MAX);
    h2.max_concurrent_streams(H2_STREAMS_MAX)
        .max_send_buffer_size(H2_SEND_BYTES)
        .max_header_list_size(header_bytes.saturating_mul(2).max(H2_HEADER_BYTES_MIN));
    app.h2_options = Some(h2);
    let mut server = HttpServerOptions::default();
    server.h2_idle_timeout = Some(loaded.config.server.idle_timeout.0);
    app.server_options = Some(server);
    app.handle_init_modules();
    let (metrics, shutdown) = (Arc::clone(&edge.shared.metrics), shutdown.clone());
    let server = Server { app: Arc::new(app), express, metrics, shutdown };
    let edge = Arc::clone(edge);
    let now = move |name: &str| {
        let plan = edge.plan.load();
        plan.listeners.get(name).map(|l| (l.rules.clone(), plan.connections_max))
    };
    Listeners::new(server, Arc::new(now), Arc::clone(open))
}

/// Worker threads for a setting of `server.threads`.
pub fn threads(setting: usize) -> usize {
    if setting > 0 { setting } else { std::thread::available_parallelism().map_or(1, usize::from) }
}

/// Connections that operators may have open; they get a door of their own, so that a full house does not shut them out.
const ADMIN_CONNECTIONS_MAX: usize = 64;

fn open_admin(
    loaded: &Loaded,
    edge: &Arc<Edge>,
    reloader: &Arc<Reloader>,
    shutdown: &channel::Receiver<bool>,
) -> anyhow::Result<Option<Listeners<Admin>>> {
    let Some(admin) = &loaded.config.server.admin else { return Ok(None) };
    let token = admin.token.as_ref().map(crate::config::secret::SecretRef::resolve).transpose()?;
    let reload: crate::admin::ReloadFn = {
        let reloader = Arc::downgrade(reloader);
        Box::new(move || reloader.upgrade().map_or_else(|| Err("stopping".to_owned()), |r| r.reload("admin")))
    };
    let status: crate::admin::StatusFn = {
        let reloader = Arc::downgrade(reloader);
        Box::new(move || reloader.upgrade().map(|r| r.last()).unwrap_or_default())
    };
    let app = Arc::new(Admin::new(Arc::clone(edge), token, reload, status));
    let metrics = Arc::clone(&edge.shared.metrics);
    let server = Server { app, express: None, metrics, shutdown: shutdown.clone() };
    let base: Rules = rules(&loaded.config, &[Protocol::H1]);
    let mut door = Listeners::new(
        server,
        Arc::new(move |_| Some((base.clone(), ADMIN_CONNECTIONS_MAX))),
        Arc::new(Open::default()),
    );
    door.set(&[("admin".to_owned(), admin.listen.clone())])
        .map_err(|f| Faulty(f.into_iter().map(|f| Fault::at("server.admin.listen", f.message)).collect()))?;
    Ok(Some(door))
}

/// What is done from time to time, away from any request: names of origin servers are resolved again, expired vectors
/// deleted, and what no plan uses any more is dropped.
fn keep_house(edge: &Arc<Edge>, reloader: &Arc<Reloader>, mut shutdown: channel::Receiver<bool>) {
    const EVERY: Duration = Duration::from_secs(30);
    const SWEEP_EVERY_ROUNDS: u64 = 10;
    let (edge, reloader) = (Arc::downgrade(edge), Arc::downgrade(reloader));
    tokio::spawn(async move {
        for round in 1_u64.. {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = shutdown.wait_for(|d| *d) => return,
            }
            let (Some(edge), Some(reloader)) = (edge.upgrade(), reloader.upgrade()) else { return };
            let plan = edge.plan.load_full();
            let work = move || {
                plan.pools.values().filter(|p| p.has_names()).for_each(|p| p.refresh());
                drop(plan);
                reloader.tidy();
            };
            // A resolver that panics ends this round, nothing else.
            let _ = tokio::task::spawn_blocking(work).await;
            if round.is_multiple_of(SWEEP_EVERY_ROUNDS) {
                sweep(&edge.shared).await;
            }
        }
    });
}

/// What purges have made void is thrown out of the HTTP caches, a part each second.
fn reclaim(edge: &Arc<Edge>, mut shutdown: channel::Receiver<bool>) {
    const EVERY: Duration = Duration::from_secs(1);
    let edge = Arc::downgrade(edge);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = shutdown.wait_for(|d| *d) => return,
            }
            let Some(edge) = edge.upgrade() else { return };
            for (name, store) in edge.shared.stores.all() {
                store.sweep().await;
                if !store.book().is_kept() {
                    continue;
                }
                let tidied = tokio::task::spawn_blocking(|| store.book().tidy()).await;
                if let Ok(Err(error)) = tidied {
                    tracing::error!(cache = name, %error, "the log of purges cannot be written");
                }
            }
        }
    });
}

async fn sweep(shared: &Shared) {
    for (name, store) in shared.vectors.all() {
        match store.delete(Delete::Expired(shared.clock.unix_secs())).await {
            Ok(0) => {}
            Ok(n) => tracing::debug!(store = name, entries = n, "expired entries deleted"),
            Err(error) => tracing::debug!(store = name, %error, "expired entries could not be deleted"),
        }
    }
}

/// Writes what the disk levels of the caches still have queued, and seals them.
async fn close_disks(shared: &Shared) {
    let retired = shared.disks.retired().into_iter().map(|disk| ("(no longer used)".to_owned(), disk));
    for (folder, disk) in shared.disks.all().into_iter().chain(retired) {
        if !disk.close(DISK_TIMEOUT).await {
            tracing::warn!(folder, "some objects could not be written to disk in time");
        }
    }
}

/// Writes what has been spent.
async fn close_books(shared: &Shared) {
    let books: Vec<_> = shared.books.all().into_iter().map(|(_, b)| b).chain(shared.books.retired()).collect();
    for book in books {
        let closed = tokio::task::spawn_blocking(move || book.kv().close(DISK_TIMEOUT)).await;
        if !closed.unwrap_or(false) {
            tracing::error!("what was spent last could not be written");
        }
    }
}

impl Running {
    /// Where a listener is bound.
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.reloader.addresses().get(listener).copied()
    }

    /// All listeners.
    pub fn addresses(&self) -> BTreeMap<String, SocketAddr> {
        self.reloader.addresses()
    }

    /// Where the admin port is bound.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.door.as_ref()?.addresses().get("admin").copied()
    }

    /// Files that a change of asks for a reload.
    pub fn files(&self) -> Vec<PathBuf> {
        self.edge.plan.load().files.clone()
    }

    /// Reloads now.
    pub fn reload(&self, why: &'static str) -> Result<(), String> {
        self.reloader.reload(why)
    }

    /// Opens the access log again, after a rotation.
    pub fn reopen_log(&self) {
        if let Some(log) = &self.edge.plan.load().log {
            log.reopen();
        }
    }

    /// Stops: accepts nothing more, lets requests in flight end (for at most the grace period), then leaves.
    pub async fn stop(mut self) {
        let plan = self.edge.plan.load_full();
        self.reloader.close();
        // Every connection task holds a receiver; none left is fine.
        let _ = self.down.send(true);
        if tokio::time::timeout(plan.grace, self.open.none_left()).await.is_err() {
            tracing::warn!(connections = self.open.count(), "grace period over: cutting what is left");
        }
        for (_, cache) in self.edge.shared.answers.all() {
            // Answers given a moment ago are still being filed.
            if tokio::time::timeout(FILING_TIMEOUT, cache.settled()).await.is_err() {
                tracing::warn!("some answers could not be filed in time");
            }
        }
        close_disks(&self.edge.shared).await;
        close_books(&self.edge.shared).await;
        let vectors = &self.edge.shared.vectors;
        let retired = vectors.retired().into_iter().map(|store| ("(no longer used)".to_owned(), store));
        for (name, store) in vectors.all().into_iter().chain(retired) {
            if let Err(error) = store.flush().await {
                tracing::error!(store = name, %error, "the last entries could not be written");
            }
        }
        if let Some(log) = &plan.log {
            log.flush();
        }
        if let Some(mut door) = self.door.take() {
            door.close();
        }
    }
}
