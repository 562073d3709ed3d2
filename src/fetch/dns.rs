//! Host names to addresses: asynchronous, cached for a short while, the last good answer kept through an outage.

use super::error::FetchError;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::RwLock;
use std::time::{Duration, Instant};

/// How long an answer is used without asking again.
const TTL: Duration = Duration::from_secs(30);
/// How long an old answer may stand in when the resolver fails.
const STALE: Duration = Duration::from_secs(600);
/// How many names are remembered; they come from the configuration, so this is never reached in practice.
const NAMES_MAX: usize = 1024;

struct Known {
    addresses: Vec<SocketAddr>,
    since: Instant,
}

/// The resolver with its memory.
#[derive(Default)]
pub struct Dns {
    known: RwLock<HashMap<(String, u16), Known>>,
}

impl Dns {
    /// Every address of `host`, in the resolver's order; never empty.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, FetchError> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let key = (host.to_owned(), port);
        if let Some(fresh) = self.remembered(&key, TTL) {
            return Ok(fresh);
        }
        let found: Vec<SocketAddr> = match tokio::net::lookup_host((host, port)).await {
            Ok(all) => all.collect(),
            Err(_) => Vec::new(),
        };
        if found.is_empty() {
            return self.remembered(&key, STALE).ok_or_else(|| FetchError::Resolve(host.to_owned()));
        }
        self.remember(key, found.clone());
        Ok(found)
    }

    fn remembered(&self, key: &(String, u16), age_max: Duration) -> Option<Vec<SocketAddr>> {
        let known = self.known.read().ok()?;
        known.get(key).filter(|k| k.since.elapsed() < age_max).map(|k| k.addresses.clone())
    }

    fn remember(&self, key: (String, u16), addresses: Vec<SocketAddr>) {
        if let Ok(mut known) = self.known.write() {
            if known.len() >= NAMES_MAX {
                known.clear();
            }
            known.insert(key, Known { addresses, since: Instant::now() });
        }
    }
}
