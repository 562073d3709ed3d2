//! One group of origin servers: round robin over all addresses, a connection refused passes to the next, and the server
//! that refused it is left out for a while.

use super::resolve;
use crate::base::clock::Clock;
use crate::base::units::Dur;
use crate::config::upstream::{Upstream, UpstreamProtocol};
use arc_swap::ArcSwap;
use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How many requests share one HTTP/2 connection to a server.
const H2_STREAMS_MAX: usize = 100;
/// How long a server is left out after it could not be connected to.
const REST: Duration = Duration::from_secs(2);
/// Most servers tried for one request.
pub const TRIES_MAX: usize = 3;

/// The servers tried for one request so far.
#[derive(Debug, Default)]
pub struct Tries {
    turn: usize,
    count: usize,
    tried: [Option<SocketAddr>; TRIES_MAX],
}

impl Tries {
    /// How many there were.
    pub fn count(&self) -> usize {
        self.count
    }

    fn had(&self, member: &Member) -> bool {
        self.tried.contains(&Some(member.address))
    }

    fn note(&mut self, member: &Member) {
        if let Some(place) = self.tried.get_mut(self.count) {
            *place = Some(member.address);
        }
        self.count += 1;
    }
}

/// A group of origin servers.
pub struct Pool {
    name: String,
    config: Upstream,
    members: ArcSwap<Vec<Member>>,
    turn: AtomicUsize,
    clock: Clock,
}

/// One address of a server, with its peer made in advance.
#[derive(Debug)]
struct Member {
    address: SocketAddr,
    peer: HttpPeer,
    /// Left out until then, in milliseconds of the pool's clock; 0 when it is not.
    rests_until: AtomicU64,
}

impl Member {
    fn new(config: &Upstream, server: &str, address: SocketAddr) -> Self {
        Member { address, peer: peer(config, server, address), rests_until: AtomicU64::new(0) }
    }

    fn rests(&self, now: u64) -> bool {
        self.rests_until.load(Ordering::Relaxed) > now
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("name", &self.name).field("servers", &self.config.servers).finish_non_exhaustive()
    }
}

impl Pool {
    /// Resolves the servers of a group. Each fault comes with the index of its server.
    pub fn new(name: &str, config: &Upstream, clock: Clock) -> Result<Self, Vec<(usize, String)>> {
        let (members, faults) = members(config);
        if !faults.is_empty() {
            return Err(faults);
        }
        let members = ArcSwap::from_pointee(members);
        Ok(Pool { name: name.to_owned(), config: config.clone(), members, turn: AtomicUsize::new(0), clock })
    }

    /// The group's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many addresses there are.
    pub fn len(&self) -> usize {
        self.members.load().len()
    }

    /// Whether there is no address (a configuration without servers is refused).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether some server is a name that may come to mean other addresses.
    pub fn has_names(&self) -> bool {
        self.config.servers.iter().any(|s| resolve::is_name(s))
    }

    /// Resolves the names again; a name that cannot be resolved now leaves everything as it is. Blocks.
    pub fn refresh(&self) {
        let (members, faults) = members(&self.config);
        if let Some((_, error)) = faults.first() {
            tracing::warn!(upstream = self.name, error, "keeping the addresses known so far");
            return;
        }
        let known: Vec<SocketAddr> = self.members.load().iter().map(|m| m.address).collect();
        if !members.iter().map(|m| m.address).eq(known) {
            tracing::info!(upstream = self.name, addresses = members.len(), "addresses changed");
            self.members.store(Arc::new(members));
        }
    }

    /// The next server for a request. Each request takes one turn; its further tries go to servers that it has not
    /// tried, whatever other requests do meanwhile. Servers at rest come last.
    pub fn next(&self, tries: &mut Tries) -> Option<HttpPeer> {
        let members = self.members.load();
        if tries.count == 0 {
            tries.turn = self.turn.fetch_add(1, Ordering::Relaxed);
        }
        let now = self.now();
        let fresh = |m: &&Member| !tries.had(m);
        let chosen = nth(&members, tries.turn, |m| fresh(m) && !m.rests(now))
            .or_else(|| nth(&members, tries.turn, |m| fresh(m)))
            .or_else(|| nth(&members, tries.turn.wrapping_add(tries.count), |_| true))?;
        tries.note(chosen);
        Some(chosen.peer.clone())
    }

    /// A server could not be connected to: it is left out for a while, unless no other is left.
    pub fn failed(&self, address: SocketAddr) {
        let until = self.now().saturating_add(millis(REST));
        for m in self.members.load().iter().filter(|m| m.address == address) {
            m.rests_until.store(until, Ordering::Relaxed);
        }
    }

    fn now(&self) -> u64 {
        millis(self.clock.elapsed())
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// Of the members that are `good`, the one whose turn it is.
fn nth(members: &[Member], turn: usize, good: impl Fn(&&Member) -> bool) -> Option<&Member> {
    let at = turn.checked_rem(members.iter().filter(&good).count())?;
    members.iter().filter(&good).nth(at)
}

fn members(config: &Upstream) -> (Vec<Member>, Vec<(usize, String)>) {
    let (mut members, mut faults) = (Vec::new(), Vec::new());
    for (i, server) in config.servers.iter().enumerate() {
        match resolve::lookup(server) {
            Ok(found) => members.extend(found.into_iter().map(|a| Member::new(config, server, a))),
            Err(e) => faults.push((i, e)),
        }
    }
    if config.servers.is_empty() {
        faults.push((0, "name at least one server".to_owned()));
    }
    (members, faults)
}

fn peer(config: &Upstream, server: &str, address: SocketAddr) -> HttpPeer {
    let host = server.rsplit_once(':').map_or(server, |(h, _)| h).trim_matches(['[', ']']);
    let sni = match &config.tls {
        Some(t) => t.sni.clone().unwrap_or_else(|| host.to_owned()),
        None => String::new(),
    };
    let mut peer = HttpPeer::new(address, config.tls.is_some(), sni);
    let o = &mut peer.options;
    let t = &config.timeouts;
    let some = |d: Dur| Some(d.0);
    o.connection_timeout = some(t.connect);
    o.total_connection_timeout = some(t.connect);
    o.read_timeout = some(t.read);
    o.write_timeout = some(t.write);
    o.idle_timeout = some(config.keepalive);
    o.max_h2_streams = H2_STREAMS_MAX;
    if let Some(tls) = &config.tls {
        o.verify_cert = tls.verify;
        o.verify_hostname = tls.verify;
    }
    o.alpn = match config.protocol {
        UpstreamProtocol::H1 => ALPN::H1,
        UpstreamProtocol::H2 => ALPN::H2,
    };
    peer
}

#[cfg(test)]
mod tests;
