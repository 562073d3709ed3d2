//! Listening sockets: bound at start and on reload, each with an accept loop under a limit on open connections. A change
//! is first prepared (everything is bound, nothing accepts), then committed, which cannot fail.

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

/// Gives the rules of a listener as they are now; `None` when the present plan does not know it. The number is the limit
/// on connections.
pub type RulesNow = Arc<dyn Fn(&str) -> Option<(Rules, usize)> + Send + Sync>;

/// A bound socket and its accept loop.
#[derive(Debug)]
struct Bound {
    place: Seat,
    task: Loop,
}

/// An accept loop; it ends with its owner.
#[derive(Debug)]
struct Loop(JoinHandle<()>);

/// A listening socket: the address asked for, the one it has, and itself.
#[derive(Debug, Clone)]
struct Seat {
    wanted: String,
    local: SocketAddr,
    socket: Arc<TcpListener>,
}

/// A change of listeners that is ready to be made: every socket is bound.
#[derive(Debug)]
pub struct Prepared(BTreeMap<String, Seat>);

impl Prepared {
    /// Which listener will have which port.
    pub fn ports(&self) -> BTreeMap<u16, String> {
        self.0.iter().map(|(name, p)| (p.local.port(), name.clone())).collect()
    }
}

/// All listening sockets of one application.
pub struct Listeners<A> {
    server: Server<A>,
    rules: RulesNow,
    open: Arc<Open>,
    bound: BTreeMap<String, Bound>,
}

fn resolve(address: &str) -> Result<SocketAddr, String> {
    let found = address.to_socket_addrs().map_err(|e| format!("{address:?} is not host:port ({e})"))?.next();
    found.ok_or_else(|| format!("{address:?} has no address"))
}

/// Binds one address.
pub fn bind(address: &str) -> Result<std::net::TcpListener, String> {
    let resolved = resolve(address)?;
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

impl Seat {
    fn bind(address: &str) -> Result<Self, String> {
        let socket = TcpListener::from_std(bind(address)?).map_err(|e| format!("cannot listen on {address}: {e}"))?;
        let local = socket.local_addr().map_err(|e| format!("cannot listen on {address}: {e}"))?;
        Ok(Seat { wanted: address.to_owned(), local, socket: Arc::new(socket) })
    }

    /// Whether this socket is what `address` asks for.
    fn serves(&self, address: &str) -> bool {
        self.wanted == address || resolve(address).is_ok_and(|a| a.port() != 0 && a == self.local)
    }
}

impl<A> Listeners<A>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    /// No socket yet.
    pub fn new(server: Server<A>, rules: RulesNow, open: Arc<Open>) -> Self {
        Listeners { server, rules, open, bound: BTreeMap::new() }
    }

    /// Makes the bound sockets those of `wanted` (name, address). Nothing changes when something cannot be bound.
    pub fn set(&mut self, wanted: &[(String, String)]) -> Result<(), Vec<Fault>> {
        let prepared = self.prepare(wanted)?;
        self.commit(prepared);
        Ok(())
    }

    /// Binds what is new. Sockets that are bound already are taken over, whatever the name of their listener: it may be
    /// renamed, or two may swap their addresses. Needs a runtime around it.
    pub fn prepare(&self, wanted: &[(String, String)]) -> Result<Prepared, Vec<Fault>> {
        let mut ready: BTreeMap<String, Seat> = BTreeMap::new();
        // A listener that keeps its address keeps its socket, before another one may claim it.
        for (name, address) in wanted {
            if let Some(b) = self.bound.get(name).filter(|b| b.place.serves(address)) {
                ready.insert(name.clone(), Seat { wanted: address.clone(), ..b.place.clone() });
            }
        }
        let mut faults = Vec::new();
        for (name, address) in wanted {
            if ready.contains_key(name) {
                continue;
            }
            let free = |p: &&Seat| !ready.values().any(|r| r.local == p.local);
            let there = self.bound.values().map(|b| &b.place).filter(free).find(|p| p.serves(address));
            let place = match there {
                Some(p) => Ok(Seat { wanted: address.clone(), ..p.clone() }),
                None => Seat::bind(address).map_err(|e| self.explain(address, e)),
            };
            match place {
                Ok(p) => drop(ready.insert(name.clone(), p)),
                Err(e) => faults.push(Fault::at(format!("listeners.{name}.address"), e)),
            }
        }
        if faults.is_empty() { Ok(Prepared(ready)) } else { Err(faults) }
    }

    /// A port that cannot be bound may be our own, on another address that covers it.
    fn explain(&self, address: &str, error: String) -> String {
        let port = resolve(address).map_or(0, |a| a.port());
        match self.bound.iter().find(|(_, b)| port != 0 && b.place.local.port() == port) {
            Some((name, b)) => {
                let at = b.place.local;
                format!("{error}; listener {name} has it at {at}: this change needs another port or a restart")
            }
            None => error,
        }
    }

    /// Makes the change: accepts on what is new, closes what is gone. Needs a runtime around it.
    pub fn commit(&mut self, prepared: Prepared) {
        let mut before = std::mem::take(&mut self.bound);
        for (name, place) in prepared.0 {
            let same = before.remove(&name).filter(|b| Arc::ptr_eq(&b.place.socket, &place.socket));
            // An accept loop that ended by itself is none.
            let bound = match same.filter(|b| !b.task.0.is_finished()) {
                Some(b) => Bound { place, task: b.task },
                None => {
                    tracing::info!(listener = name, address = %place.local, "listening");
                    let task = Loop(tokio::spawn(self.accept(&name, &place.socket)));
                    Bound { place, task }
                }
            };
            self.bound.insert(name, bound);
        }
    }

    fn accept(&self, name: &str, socket: &Arc<TcpListener>) -> impl Future<Output = ()> + Send + use<A> {
        let (server, rules, open) = (self.server.clone(), Arc::clone(&self.rules), Arc::clone(&self.open));
        accept(name.to_owned(), Arc::clone(socket), server, rules, open)
    }

    /// Where each listener is bound.
    pub fn addresses(&self) -> BTreeMap<String, SocketAddr> {
        self.bound.iter().map(|(n, b)| (n.clone(), b.place.local)).collect()
    }

    /// Stops accepting; connections already accepted go on.
    pub fn close(&mut self) {
        self.bound.clear();
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn accept<A>(name: String, listener: Arc<TcpListener>, server: Server<A>, rules: RulesNow, open: Arc<Open>)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let metrics: Arc<Metrics> = Arc::clone(&server.metrics);
    let (count, gauge) =
        (metrics.accepted.with_label_values(&[&name]), metrics.connections.with_label_values(&[&name]));
    let mut failing = false;
    let Some(mut known) = rules(&name) else { return };
    loop {
        let place = open.enter(known.1).await;
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
        // Rules are read after the accept: a reload reaches the very next connection. When the plan has just lost this
        // listener, the loop is about to be ended: what it accepts until then is served as before.
        known = rules(&name).unwrap_or(known);
        let now = known.0.clone();
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
