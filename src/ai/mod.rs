//! (to be written)

pub mod embed;
pub mod semantic;
pub mod vector;
