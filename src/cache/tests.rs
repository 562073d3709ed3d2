//! Tests of the cache by RFC clause.
