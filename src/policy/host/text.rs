//! Text functions of the policy library that need a bound which Rhai's own lack.

use super::refuse;
use crate::policy::engine::STRING_BYTES_MAX;
use rhai::{Engine, EvalAltResult, ImmutableString};

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("replace", |text: &mut ImmutableString, old: &str, new: &str| replace(text, old, new));
    engine.register_fn("replace", |text: &mut ImmutableString, old: char, new: &str| {
        replace(text, old.encode_utf8(&mut [0; 4]), new)
    });
    engine.register_fn("replace", |text: &mut ImmutableString, old: &str, new: char| {
        replace(text, old, new.encode_utf8(&mut [0; 4]))
    });
    engine.register_fn("replace", |text: &mut ImmutableString, old: char, new: char| {
        replace(text, old.encode_utf8(&mut [0; 4]), new.encode_utf8(&mut [0; 4]))
    });
}

/// Rhai checks the size of a string after the fact, and 16 KiB of `a`, each replaced by 16 KiB, would be 256 MiB first.
fn replace(text: &mut ImmutableString, old: &str, new: &str) -> Result<(), Box<EvalAltResult>> {
    let found = text.matches(old).count();
    let after = text.len().saturating_add(found.saturating_mul(new.len()));
    if after.saturating_sub(found.saturating_mul(old.len())) > STRING_BYTES_MAX {
        return Err(refuse(format!("replace: the result is longer than {STRING_BYTES_MAX} bytes")));
    }
    *text = text.replace(old, new).into();
    Ok(())
}
