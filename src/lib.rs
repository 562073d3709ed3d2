//! Sluicegate: one binary in front of your apps and your models. This page is the code map.
//!
//! **Bird's eye.** One *spine* ([`proxy`]: a request from top to bottom, one file for each station), *organs*
//! ([`ab`], [`ai`], [`auth`], [`bot`], [`cache`], [`compress`], [`limit`], [`mcp`], [`upstream`]: each whole in itself,
//! strangers to each other), one *brain* ([`policy`]: a Rhai script reads facts and returns a decision), one *map*
//! ([`plan`]: the compiled configuration, immutable, swapped whole).
//!
//! **The path of a request.**
//! ```text
//! socket -> server/listen (limits) -> server/conn (PROXY header, TLS, deadlines) -> server/h1guard (strict heads)
//!   -> proxy/express    a plain fresh hit of an open route: the same stations over values, answered before there is a
//!                       session (server/express writes HTTP/1, server/h2 HTTP/2); everything else goes on:
//!   -> proxy/accept     pin the plan, client address, normalise
//!   -> proxy/request    route -> body limit -> limits -> auth -> policy -> dispatch: the order of everything, one function
//!        respond, redirect, policy, auth  -> Reply -> proxy/reply
//!        ai                               -> proxy/ai -> ai::Gateway::answer -> Reply -> proxy/reply
//!           images, audio, files ...      -> proxy/passthrough -> ai::Gateway::pass -> Reply -> proxy/reply
//!           realtime                      -> proxy/passthrough -> on through Pingora, to a provider
//!        mcp                              -> proxy/mcp -> mcp::Mcp::answer -> Reply -> proxy/reply
//!        upstream                         -> proxy/cache (hot hit) or on through Pingora:
//!   -> proxy/cache      key, look-up, may it be stored
//!   -> proxy/upstream   which server, what it is told
//!   -> proxy/coding     which coding the client gets
//!   -> proxy/response   what is stripped, what is added
//!   -> proxy/fail       when something went wrong
//!   -> proxy/log        the only recorder of metrics and log lines
//! ```
//!
//! **Invariants.**
//! - A module imports only from lines above its own in the list below; `tests/it/tidy.rs` checks it.
//! - Below [`proxy`] nothing touches a Pingora session: modules take values and return values.
//! - A request sees one [`plan::Plan`] from its first line to its log entry; a reload changes none under way.
//! - What must outlive a reload (caches, keys, limits, spending, metrics) lives in [`plan::shared::Shared`] and
//!   nowhere else.
//! - Nothing parses, compiles a regular expression or resolves a name while a request waits.
//! - There is no `unsafe` and no mutable global state; the one process-wide thing is the ONNX Runtime environment,
//!   of which the library itself allows only one.

// words everyone uses
pub mod base;
// what the YAML says
pub mod config;
// how we tell
pub mod observe;
// the one outbound HTTP client; small numbers that outlive the process
pub mod fetch;
pub mod kv;
// the organs
pub mod ab;
pub mod ai;
pub mod auth;
pub mod bot;
pub mod cache;
pub mod compress;
pub mod limit;
pub mod mcp;
pub mod upstream;
// the brain
pub mod policy;
// the map
pub mod plan;
// the spine
pub mod proxy;
// the operators' door
pub mod admin;
// sockets, reload, signals
pub mod server;
// commands
pub mod cli;
