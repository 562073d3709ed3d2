//! Sluicegate: the code map (completed as the house is built).

pub mod ab;
pub mod admin;
pub mod ai;
pub mod auth;
pub mod base;
pub mod bot;
pub mod cache;
pub mod cli;
pub mod config;
pub mod fetch;
pub mod observe;
pub mod plan;
pub mod policy;
pub mod proxy;
pub mod server;
pub mod upstream;
