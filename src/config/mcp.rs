//! A route's `mcp:` action: servers of the Model Context Protocol behind the gateway.

use super::ai::Timeouts;
use super::secret::SecretRef;
use crate::base::units::{Dur, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Servers of the Model Context Protocol (streamable HTTP), with rules for their tools. With one server the route's
/// path is the server; with several the path's last segment names the server (`/mcp/docs`).
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpRoute {
    /// Servers by name.
    pub servers: BTreeMap<String, McpServer>,
    /// Values of `Origin` that are let in. Browsers send that field, other clients do not: without an entry here a web
    /// page cannot reach the servers, not even by DNS rebinding.
    #[serde(default)]
    pub origins: Vec<String>,
    /// How many tool calls one tenant may make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<McpRateLimit>,
    /// Results of tools that only read are kept for a while, for each tenant apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<McpCache>,
    /// The largest JSON answer of a server (an event of a stream may have 4MiB).
    #[serde(default = "max_answer")]
    pub max_answer: Size,
}

/// One server.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpServer {
    /// Its endpoint, such as `https://docs.example.com/mcp`.
    pub url: String,
    /// With which credentials it is asked. The client's own are never forwarded unless this says `passthrough`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<McpAuth>,
    /// Further request header fields; use `auth` for secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Which tools clients see and may call.
    #[serde(default)]
    pub tools: McpTools,
    /// Time limits of one request.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// The longest pause within a stream that a client listens to (`GET`).
    #[serde(default = "idle")]
    pub idle: Dur,
}

/// With which credentials a server is asked.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum McpAuth {
    /// The gateway's own.
    Own(McpOwn),
    /// The client's.
    Client(McpClient),
}

/// The gateway's own credentials.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpOwn {
    /// A token, sent as `Authorization: Bearer`.
    pub bearer: SecretRef,
}

/// The client's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum McpClient {
    /// The client's `Authorization` is forwarded.
    Passthrough,
}

/// Which tools clients see and may call. A pattern may have `*` for any letters.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct McpTools {
    /// Names and patterns of the tools that are open; left out, all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// Names and patterns of tools that are not, whatever `allow` says.
    pub deny: Vec<String>,
}

/// So many tool calls in so much time, for each tenant apart; evenly spread, with all of them at once at the start.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpRateLimit {
    /// Tool calls.
    #[schemars(range(min = 1))]
    pub calls: u32,
    /// The time.
    pub per: Dur,
}

/// Results that are kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpCache {
    /// How long the results of these tools are kept, by the tool's name.
    #[serde(default)]
    pub tools: BTreeMap<String, Dur>,
    /// How long the results of other tools are kept that their server marks as `readOnlyHint`; left out, they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<Dur>,
    /// Memory for results; the least used go first.
    #[serde(default = "cache_size")]
    pub size: Size,
}

fn max_answer() -> Size {
    Size::mib(16)
}

fn cache_size() -> Size {
    Size::mib(16)
}

fn idle() -> Dur {
    Dur::secs(600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_example_parses_and_defaults_fill_in() {
        let route: McpRoute = serde_yaml::from_str(
            "
servers:
  docs: { url: 'http://docs/mcp', auth: { bearer: env:DOCS }, tools: { allow: [search, 'read_*'], deny: [] } }
  mail: { url: 'http://mail/mcp', auth: passthrough }
rate_limit: { calls: 60, per: 1m }
cache: { tools: { search: 60s } }",
        )
        .unwrap();
        assert!(matches!(route.servers["mail"].auth, Some(McpAuth::Client(McpClient::Passthrough))));
        assert!(matches!(route.servers["docs"].auth, Some(McpAuth::Own(_))));
        assert_eq!((route.max_answer, route.servers["docs"].idle), (Size::mib(16), Dur::secs(600)));
        assert_eq!(route.cache.unwrap().size, Size::mib(16));
    }

    #[test]
    fn unknown_keys_are_refused() {
        for bad in
            ["{ servrs: {} }", "{ servers: { a: { url: x, auth: pass } } }", "{ servers: { a: { url: x, tool: {} } } }"]
        {
            assert!(serde_yaml::from_str::<McpRoute>(bad).is_err(), "{bad}");
        }
    }
}
