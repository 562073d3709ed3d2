//! Header fields of an AI answer, and the request fields by which a client narrows the use of the caches.

pub mod aliases;
mod dress;
pub mod wish;

#[cfg(test)]
mod tests;

pub use dress::{dress, peers};
pub use wish::ClientWish;

/// How far the caches may be used, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheMode {
    /// Not at all.
    None,
    /// For equal requests.
    Exact,
    /// For equal requests and for the same question in other words.
    Semantic,
}
