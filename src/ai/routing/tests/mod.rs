//! Tests of the pure parts: orders, breaker, pace, budget, hints, causes, and the walk over a catalogue.

mod parts;
mod walking;
