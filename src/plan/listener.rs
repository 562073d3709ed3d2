//! A listener, compiled: its limits and its TLS.

use super::tls;
use crate::config::Config;
use crate::config::error::Fault;
use crate::config::listener::Protocol;
use pingora::listeners::tls::Acceptor;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What every connection of a listener has in common; read anew for each connection, so that a reload reaches it.
#[derive(Clone)]
pub struct Rules {
    /// Total time for a request head, and for a TLS handshake.
    pub header_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Pause allowed inside a body or an answer.
    pub io_timeout: Duration,
    /// Largest head.
    pub header_bytes_max: usize,
    /// A PROXY protocol header comes first.
    pub proxy_protocol: bool,
    /// HTTP/1 is spoken.
    pub h1: bool,
    /// HTTP/2 is spoken.
    pub h2: bool,
    /// TLS is spoken.
    pub tls: Option<Arc<Acceptor>>,
}

/// A listener as compiled.
pub struct Listener {
    /// Where to listen.
    pub address: String,
    /// Rules for its connections.
    pub rules: Rules,
    /// Every request is sent to https.
    pub redirect_to_https: bool,
}

/// Compiles all listeners.
pub fn compile(c: &Config, base: &Path, faults: &mut Vec<Fault>) -> BTreeMap<String, Listener> {
    let mut out = BTreeMap::new();
    for (name, l) in &c.listeners {
        let path = format!("listeners.{name}");
        if l.protocols.is_empty() {
            faults.push(Fault::at(format!("{path}.protocols"), "name at least one of h1, h2"));
        }
        if l.redirect_to_https && l.tls.is_some() {
            faults.push(Fault::at(format!("{path}.redirect_to_https"), "this listener speaks TLS already"));
        }
        match tls::acceptor(l, &c.certificates, base, &path) {
            Err(f) => faults.extend(f),
            Ok(acceptor) => {
                let rules = Rules { tls: acceptor, proxy_protocol: l.proxy_protocol, ..rules(c, &l.protocols) };
                let listener = Listener { address: l.address.clone(), rules, redirect_to_https: l.redirect_to_https };
                out.insert(name.clone(), listener);
            }
        }
    }
    out
}

/// The process-wide limits as rules of a clear-text listener.
pub fn rules(c: &Config, protocols: &[Protocol]) -> Rules {
    let s = &c.server;
    Rules {
        header_timeout: s.header_timeout.0,
        idle_timeout: s.idle_timeout.0,
        io_timeout: s.io_timeout.0,
        header_bytes_max: s.max_header_size.as_usize(),
        proxy_protocol: false,
        h1: protocols.contains(&Protocol::H1),
        h2: protocols.contains(&Protocol::H2),
        tls: None,
    }
}
