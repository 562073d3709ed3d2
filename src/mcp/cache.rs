//! Results of tools that only read, kept for a while: by server, tool, arguments and tenant.

use crate::base::canonical_json;
use crate::base::clock::Clock;
use crate::base::ids::sha256_parts;
use crate::config::mcp::McpCache;
use moka::sync::Cache;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Bytes that an entry takes beside its result.
const ENTRY_OVERHEAD_BYTES: usize = 256;

/// A digest of everything that changes a result.
pub type Key = [u8; 32];

#[derive(Clone)]
struct Entry {
    result: Arc<Value>,
    bytes: usize,
    until: Duration,
}

/// The cache. It outlives reloads.
pub struct Results {
    config: McpCache,
    clock: Clock,
    entries: Cache<Key, Entry>,
}

impl Results {
    /// An empty cache.
    pub fn new(config: &McpCache, clock: Clock) -> Self {
        let weigh = |_: &Key, e: &Entry| u32::try_from(e.bytes + ENTRY_OVERHEAD_BYTES).unwrap_or(u32::MAX);
        let entries = Cache::builder().max_capacity(config.size.0).weigher(weigh).build();
        Results { config: config.clone(), clock, entries }
    }

    /// How long a tool's results are kept; `None` when they are not.
    pub fn ttl(&self, tool: &str, read_only: bool) -> Option<Duration> {
        let named = self.config.tools.get(tool);
        let ttl = named.or(self.config.read_only.as_ref().filter(|_| read_only))?;
        Some(ttl.0).filter(|t| !t.is_zero())
    }

    /// A fresh result.
    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        let entry = self.entries.get(key)?;
        (self.clock.elapsed() < entry.until).then_some(entry.result)
    }

    /// Keeps a result.
    pub fn put(&self, key: Key, result: &Value, ttl: Duration) {
        let bytes = result.to_string().len();
        let until = self.clock.elapsed().saturating_add(ttl);
        self.entries.insert(key, Entry { result: Arc::new(result.clone()), bytes, until });
    }
}

/// Whose call it is: of which server, with which credentials.
pub struct Whose<'a> {
    /// The server's name and URL, as one text.
    pub server: &'a str,
    /// The revision of the protocol: results differ in form.
    pub version: &'a [u8],
    /// The tenant, as a digest or a word.
    pub tenant: &'a str,
    /// The client's credentials where the server gets them: it may answer each client differently.
    pub credentials: &'a [u8],
}

/// The key of a call. Of its parameters `_meta` (progress tokens) changes no result.
pub fn key(whose: &Whose<'_>, params: &serde_json::Map<String, Value>) -> Key {
    let mut text = String::new();
    let members = params.iter().filter(|(name, _)| *name != "_meta").map(|(name, value)| (name.as_str(), value));
    canonical_json::object(members, &mut text);
    let Whose { server, version, tenant, credentials } = *whose;
    sha256_parts([server.as_bytes(), version, tenant.as_bytes(), credentials, text.as_bytes()])
}
