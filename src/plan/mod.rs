//! The map: the compiled configuration.
pub mod router;
