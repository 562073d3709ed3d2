//! `routes:` which request goes where, and with what options.

use super::{ai::AiRoute, cache::RouteCache, compress::Compress, mcp::McpRoute, policy::OnError};
use crate::base::units::Size;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One rule: a match, exactly one action (`upstream`, `ai`, `mcp`, `respond` or `redirect`), and options.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Name in logs and metrics; default: `route-` and the position.
    #[serde(default)]
    pub name: Option<String>,
    /// Which requests; nothing given matches all.
    #[serde(default, rename = "match")]
    pub matches: Match,
    /// Higher wins over specificity.
    #[serde(default)]
    pub priority: i32,
    /// Action: proxy to this upstream.
    #[serde(default)]
    pub upstream: Option<String>,
    /// Action: model calls.
    #[serde(default)]
    pub ai: Option<AiRoute>,
    /// Action: servers of the Model Context Protocol.
    #[serde(default)]
    pub mcp: Option<McpRoute>,
    /// Action: a fixed answer.
    #[serde(default)]
    pub respond: Option<Respond>,
    /// Action: a redirect.
    #[serde(default)]
    pub redirect: Option<Redirect>,
    /// Name from `auth`: only clients with valid credentials get through.
    #[serde(default)]
    pub auth: Option<String>,
    /// Names from `rate_limits`, one or a list: what they limit is refused with 429 before anything is asked.
    #[serde(default)]
    pub rate_limit: OneOrMany,
    /// HTTP cache, for `upstream` routes.
    #[serde(default)]
    pub cache: Option<RouteCache>,
    /// Code answers for clients that take it (`Accept-Encoding`), for `upstream`, `ai` and `respond` routes: `true`, or a
    /// list such as `[zstd, br, gzip]`, or a map. With `cache` the origin is asked for plain answers only, so that one
    /// object is stored for all codings.
    #[serde(default)]
    pub compress: Option<Compress>,
    /// Send `103 Early Hints` with the `Link` fields (preload, modulepreload, preconnect) that a page had last time, while
    /// the origin is asked again; for `upstream` routes with a `cache`, to browsers that navigate over HTTP/1.1.
    #[serde(default)]
    pub early_hints: bool,
    /// Ask the policy script.
    #[serde(default)]
    pub policy: RoutePolicy,
    /// Header fields to change.
    #[serde(default)]
    pub headers: Headers,
    /// Largest request body; a larger one is answered 413. Default: no limit for `upstream`, 8MiB for `ai`, 4MiB
    /// for `mcp`.
    #[serde(default)]
    pub max_body: Option<Size>,
}

/// Which requests a route takes; all given conditions must hold.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// Host names: exact, or `*.example.com` for any name below.
    pub host: OneOrMany,
    /// Paths: `/x` exactly, `/x/*` everything below (and `/x/` itself), `/*` all.
    pub path: OneOrMany,
    /// A regular expression (linear time) that must match the whole path.
    pub path_regex: Option<String>,
    /// Methods.
    pub method: OneOrMany,
    /// Header fields and their exact values; `*` for any value.
    pub headers: BTreeMap<String, String>,
    /// Query parameters and their exact values; `*` for any value.
    pub query: BTreeMap<String, String>,
}

/// One text or a list of them.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        OneOrMany::Many(Vec::new())
    }
}

impl OneOrMany {
    /// All of them.
    pub fn as_slice(&self) -> &[String] {
        match self {
            OneOrMany::One(s) => std::slice::from_ref(s),
            OneOrMany::Many(v) => v,
        }
    }
}

/// A fixed answer.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Respond {
    /// Status code.
    #[serde(default = "ok")]
    pub status: u16,
    /// Body text.
    #[serde(default)]
    pub body: String,
    /// Media type.
    #[serde(default = "plain")]
    pub content_type: String,
}

fn ok() -> u16 {
    200
}

fn plain() -> String {
    "text/plain; charset=utf-8".to_owned()
}

/// A redirect.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// Target. `{path}` and `{query}` (with its `?`) stand for those of the request, `{host}` for its host.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "found")]
    pub status: u16,
}

fn found() -> u16 {
    302
}

/// Whether the policy script is asked.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RoutePolicy {
    /// `true` or `false`.
    Switch(bool),
    /// Asked, with its own rule for errors of the script.
    On(RoutePolicyOn),
}

/// Options of an asked policy.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoutePolicyOn {
    /// What happens to a request when the script fails.
    pub on_error: OnError,
}

impl Default for RoutePolicy {
    fn default() -> Self {
        RoutePolicy::Switch(false)
    }
}

/// Changes to header fields, on the way to the origin and on the way to the client.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Headers {
    /// Of the request that the origin gets.
    pub request: HeaderChange,
    /// Of the answer that the client gets.
    pub response: HeaderChange,
}

/// Changes to header fields.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderChange {
    /// Fields to set, replacing what is there.
    pub set: BTreeMap<String, String>,
    /// Fields to remove.
    pub remove: Vec<String>,
}
