//! What the YAML says: serde structs, nothing resolved, nothing opened.

pub mod ai;
pub mod auth;
pub mod bots;
pub mod cache;
pub mod policy;
pub mod secret;
pub mod semantic;
