//! Commands. (The others are being written.)

pub mod demo;
