//! Sockets, TLS, reload, signals: boot in order.

pub mod conn;
pub mod h1guard;
pub mod io;
pub mod plain;
pub mod proxy_protocol;
pub mod tls;
