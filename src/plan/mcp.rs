//! The MCP servers of a route: tokens resolved, limits and kept results taken over from the plan before.

use super::shared::Shared;
use crate::config::mcp::{McpAuth, McpRoute};
use crate::mcp::{Fault, Mcp, State};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Makes a route's servers; faults are relative to its `mcp:` block.
pub fn make(route: &str, config: &McpRoute, shared: &Shared) -> Result<Mcp, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut keys = BTreeMap::new();
    for (name, server) in &config.servers {
        let Some(McpAuth::Own(own)) = &server.auth else { continue };
        match own.bearer.resolve() {
            Ok(key) => drop(keys.insert(name.clone(), key)),
            Err(e) => {
                faults.push(Fault { path: format!("servers.{name}.auth.bearer"), message: e.to_string() });
            }
        }
    }
    let servers: Vec<_> = config.servers.iter().map(|(name, s)| (name, &s.url, &s.tools)).collect();
    let made_of = (&config.rate_limit, &config.cache, servers);
    let make = || Ok::<_, std::convert::Infallible>(Arc::new(State::new(config, &shared.clock)));
    let Ok(state) = shared.mcp.get(route, &made_of, make);
    match Mcp::compile(config, &keys, state, shared.fetcher.clone()) {
        Ok(mcp) if faults.is_empty() => Ok(mcp),
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more);
            Err(faults)
        }
    }
}
