//! Listening sockets: bound at start and on reload, each with an accept loop under a limit on open connections.

use super::conn::Server;
use crate::config::error::Fault;
use crate::observe::metrics::Metrics;
use crate::plan::listener::Rules;
use pingora::apps::HttpServerApp;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Connections that the kernel keeps until we accept them.
const BACKLOG: i32 = 4096;
/// Pause after accept failed (out of file descriptors): connections wait in the kernel meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Counts open client connections over all listeners.
#[derive(Debug, Default)]
pub struct Open {
    now: AtomicUsize,
    freed: Notify,
}

/// One open connection; dropping it frees its place.
pub struct Place(Arc<Open>);

impl Open {
    /// Connections open now.
    pub fn count(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    async fn enter(self: &Arc<Self>, max: usize) -> Place {
        loop {
            let freed = self.freed.notified();
            if self.now.load(Ordering::Relaxed) < max {
                break;
            }
            freed.await;
        }
        self.now.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(self))
    }

    /// Resolves when no connection is open.
    pub async fn none_left(&self) {
        loop {
            let freed = self.freed.notified();
            if self.count() == 0 {
                return;
            }
            freed.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify_waiters();
    }
}

/// Gives the rules of a listener as they are now; `None` when it is to be closed. The number is the limit on connections.
pub type RulesNow = Arc<dyn Fn(&str) -> Option<(Rules, usize)> + Send + Sync>;

/// A bound socket and its accept loop.
#[derive(Debug)]
struct Bound {
    wanted: String,
    local: SocketAddr,
    task: JoinHandle<()>,
}

/// All listening sockets of one application.
pub struct Listeners<A> {
    server: Server<A>,
    rules: RulesNow,
    open: Arc<Open>,
    bound: BTreeMap<String, Bound>,
}

/// Binds one address.
pub fn bind(address: &str) -> Result<std::net::TcpListener, String> {
    let resolved = address
        .to_socket_addrs()
        .map_err(|e| format!("{address:?} is not host:port ({e})"))?
        .next()
        .ok_or_else(|| format!("{address:?} has no address"))?;
    let open = || -> std::io::Result<std::net::TcpListener> {
        let s = Socket::new(Domain::for_address(resolved), Type::STREAM, Some(Protocol::TCP))?;
        s.set_reuse_address(true)?;
        s.set_nonblocking(true)?;
        s.bind(&resolved.into())?;
        s.listen(BACKLOG)?;
        Ok(s.into())
    };
    open().map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => format!("cannot listen on {address}: the port is in use by another program"),
        std::io::ErrorKind::PermissionDenied => {
            format!("cannot listen on {address}: not permitted (ports below 1024 need CAP_NET_BIND_SERVICE)")
        }
        _ => format!("cannot listen on {address}: {e}"),
    })
}

impl<A> Listeners<A>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    /// No socket yet.
    pub fn new(server: Server<A>, rules: RulesNow, open: Arc<Open>) -> Self {
        Listeners { server, rules, open, bound: BTreeMap::new() }
    }

    /// Makes the bound sockets those of `wanted` (name, address): binds what is new, closes what is gone, leaves the
    /// rest alone. Nothing changes when something cannot be bound.
    pub fn set(&mut self, wanted: &[(String, String)]) -> Result<(), Vec<Fault>> {
        let (mut fresh, mut faults) = (Vec::new(), Vec::new());
        for (name, address) in wanted {
            if self.bound.get(name).is_some_and(|b| b.wanted == *address) {
                continue;
            }
            match bind(address).and_then(|l| TcpListener::from_std(l).map_err(|e| e.to_string())) {
                Ok(l) => fresh.push((name.clone(), address.clone(), l)),
                Err(e) => faults.push(Fault::at(format!("listeners.{name}.address"), e)),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        self.bound.retain(|name, b| {
            let keep = wanted.iter().any(|(n, a)| n == name && *a == b.wanted);
            if !keep {
                b.task.abort();
            }
            keep
        });
        for (name, address, listener) in fresh {
            let Ok(local) = listener.local_addr() else { continue };
            tracing::info!(listener = name, address = %local, "listening");
            let task = tokio::spawn(accept(
                name.clone(),
                listener,
                self.server.clone(),
                Arc::clone(&self.rules),
                Arc::clone(&self.open),
            ));
            self.bound.insert(name, Bound { wanted: address, local, task });
        }
        Ok(())
    }

    /// Where each listener is bound.
    pub fn addresses(&self) -> BTreeMap<String, SocketAddr> {
        self.bound.iter().map(|(n, b)| (n.clone(), b.local)).collect()
    }

    /// Stops accepting; connections already accepted go on.
    pub fn close(&mut self) {
        for b in self.bound.values() {
            b.task.abort();
        }
        self.bound.clear();
    }
}

async fn accept<A>(name: String, listener: TcpListener, server: Server<A>, rules: RulesNow, open: Arc<Open>)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let metrics: Arc<Metrics> = Arc::clone(&server.metrics);
    let (count, gauge) =
        (metrics.accepted.with_label_values(&[&name]), metrics.connections.with_label_values(&[&name]));
    let mut failing = false;
    loop {
        let Some((_, max)) = rules(&name) else { return };
        let place = open.enter(max).await;
        let (tcp, peer) = match listener.accept().await {
            Ok(x) => x,
            Err(error) => {
                if !failing {
                    tracing::error!(listener = name, %error, "cannot accept connections");
                }
                failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if failing {
            tracing::info!(listener = name, "accepting connections again");
            failing = false;
        }
        // Rules are read after the accept: a reload reaches the very next connection.
        let Some((now, _)) = rules(&name) else { return };
        count.inc();
        gauge.inc();
        let (server, gauge) = (server.clone(), gauge.clone());
        tokio::spawn(async move {
            server.serve(tcp, peer, now).await;
            gauge.dec();
            drop(place);
        });
    }
}
