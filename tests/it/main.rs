//! The integration tests: the whole gateway over real sockets, and the shape of the sources.

// In a test a panic is the report; the lint's own exception covers only functions marked as tests, not their helpers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod ab;
mod admin;
mod ai;
mod ai_cache;
mod ai_calls;
mod auth;
mod bots;
mod cdn;
mod compress;
mod conf;
mod conformance;
mod dialects;
mod disk;
mod early_hints;
mod express;
mod faults;
mod gemini;
mod guards;
mod harness;
mod holes;
mod holes_wire;
mod keys;
mod keys_api;
mod keys_state;
mod matrix;
mod mcp;
mod passthrough;
mod policy;
mod proxy;
mod purge;
mod purge_restart;
mod purge_ways;
mod readme;
mod realtime;
mod reload;
mod rfc;
mod sdk;
mod slow;
mod tidy;
mod tls;
mod upstreams;
mod waiting;
