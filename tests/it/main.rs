//! The integration tests: the whole gateway over real sockets, and the shape of the sources.

mod tidy;
