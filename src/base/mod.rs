//! Words everyone uses: units, time, identifiers, the reply. No I/O.

pub mod authority;
pub mod canonical_json;
pub mod client;
pub mod clock;
pub mod coding;
pub mod ids;
pub mod path;
pub mod reply;
pub mod source;
pub mod sse;
pub mod strict_json;
pub mod units;
pub mod url;
