//! Names of servers to addresses: resolved when the configuration is compiled, again in the background, never while a
//! request waits.

use std::net::{SocketAddr, ToSocketAddrs};

/// Most addresses taken for one name.
const ADDRESSES_MAX: usize = 64;

/// `host:port` -> addresses. Blocks on the system's resolver for names, not for address literals.
pub fn lookup(server: &str) -> Result<Vec<SocketAddr>, String> {
    if let Ok(a) = server.parse::<SocketAddr>() {
        return Ok(vec![a]);
    }
    if !server.rsplit_once(':').is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok_and(|p| p > 0)) {
        return Err(format!("{server:?} is not host:port"));
    }
    let found: Vec<SocketAddr> =
        server.to_socket_addrs().map_err(|e| format!("cannot resolve {server:?}: {e}"))?.take(ADDRESSES_MAX).collect();
    if found.is_empty() { Err(format!("{server:?} has no address")) } else { Ok(found) }
}

/// Whether a server is written as a name that has to be resolved again from time to time.
pub fn is_name(server: &str) -> bool {
    server.parse::<SocketAddr>().is_err()
}
