//! Time, chance and telling; and the functions of Rhai that must not work inside a gateway.

use super::refuse;
use crate::base::clock::Clock;
use rhai::{Engine, EvalAltResult, FLOAT, INT};

pub(super) fn register(engine: &mut Engine, clock: &Clock) {
    let wall = clock.clone();
    engine.register_fn("now", move || INT::try_from(wall.unix_secs()).unwrap_or(INT::MAX));
    engine.register_fn("random", random);
    engine.register_fn("log", |text: &str| tracing::info!(target: "policy", text = %one_line(text), "script"));
    // Disabling the symbol does not stop a call through a function pointer; a function of our own in front does.
    engine.register_fn("sleep", |_: INT| no_waiting());
    engine.register_fn("sleep", |_: FLOAT| no_waiting());
    engine.on_print(|text| tracing::info!(target: "policy", text = %one_line(text), "script"));
    engine
        .on_debug(|text, _, at| tracing::debug!(target: "policy", text = %one_line(text), line = at.line(), "script"));
}

fn no_waiting() -> Result<(), Box<EvalAltResult>> {
    Err(refuse("sleep: a hook must not wait"))
}

/// A script's text cannot forge a second log line.
fn one_line(text: &str) -> String {
    text.chars().take(1000).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The upper 53 bits of a hashed random UUID (its own bits are not all random), as a share of one.
fn random() -> FLOAT {
    let bits = xxhash_rust::xxh3::xxh3_64(uuid::Uuid::new_v4().as_bytes()) >> 11;
    bits as FLOAT / (1u64 << 53) as FLOAT
}
