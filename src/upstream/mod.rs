//! Origin servers: groups, whose turn it is, and the Pingora peer for it.

pub mod pool;
pub mod resolve;
