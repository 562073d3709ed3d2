//! One group of origin servers: round robin over all addresses, a connection refused passes to the next.

use super::resolve;
use crate::base::units::Dur;
use crate::config::upstream::{Upstream, UpstreamProtocol};
use arc_swap::ArcSwap;
use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many requests share one HTTP/2 connection to a server.
const H2_STREAMS_MAX: usize = 100;

/// A group of origin servers.
pub struct Pool {
    name: String,
    config: Upstream,
    members: ArcSwap<Vec<Member>>,
    turn: AtomicUsize,
}

/// One address of a server, with its peer made in advance.
#[derive(Debug)]
struct Member {
    address: SocketAddr,
    peer: HttpPeer,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("name", &self.name).field("servers", &self.config.servers).finish_non_exhaustive()
    }
}

impl Pool {
    /// Resolves the servers of a group. Each fault comes with the index of its server.
    pub fn new(name: &str, config: &Upstream) -> Result<Self, Vec<(usize, String)>> {
        let (members, faults) = members(config);
        if !faults.is_empty() {
            return Err(faults);
        }
        let members = ArcSwap::from_pointee(members);
        Ok(Pool { name: name.to_owned(), config: config.clone(), members, turn: AtomicUsize::new(0) })
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

    /// The next server's peer; `tried` counts the tries of this request, so that a retry goes elsewhere.
    pub fn pick(&self, tried: usize) -> Option<HttpPeer> {
        let members = self.members.load();
        let turn = match tried.checked_sub(1) {
            None => self.turn.fetch_add(1, Ordering::Relaxed),
            // The turn has moved on since the first try.
            Some(further) => self.turn.load(Ordering::Relaxed).wrapping_add(further),
        };
        let at = turn.checked_rem(members.len())?;
        members.get(at).map(|m| m.peer.clone())
    }
}

fn members(config: &Upstream) -> (Vec<Member>, Vec<(usize, String)>) {
    let (mut members, mut faults) = (Vec::new(), Vec::new());
    for (i, server) in config.servers.iter().enumerate() {
        match resolve::lookup(server) {
            Ok(found) => {
                members.extend(found.into_iter().map(|a| Member { address: a, peer: peer(config, server, a) }))
            }
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
mod tests {
    use super::*;

    fn config(servers: &[&str]) -> Upstream {
        serde_json::from_value(serde_json::json!({ "servers": servers })).unwrap()
    }

    #[test]
    fn takes_turns_and_a_retry_goes_elsewhere() {
        let p = Pool::new("a", &config(&["127.0.0.1:1001", "127.0.0.1:1002"])).unwrap();
        let port = |tried| p.pick(tried).unwrap()._address.as_inet().unwrap().port();
        assert_eq!([port(0), port(0), port(0)], [1001, 1002, 1001]);
        let first = port(0);
        assert_ne!(port(1), first);
    }

    #[test]
    fn faults_name_the_server() {
        let e = Pool::new("a", &config(&["127.0.0.1:1001", "nonsense", "h:0"])).unwrap_err();
        assert_eq!(e.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(Pool::new("a", &config(&[])).unwrap_err()[0].1, "name at least one server");
    }
}
