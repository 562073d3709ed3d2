//! Canonical JSON: one text for every spelling of the same value (sorted keys, no white space, normalised numbers),
//! so that its SHA-256 can be a cache key.

use serde_json::{Number, Value};

/// Above this, not every whole number is a 64-bit float.
const EXACT_WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Appends the canonical text of `v`.
pub fn write(v: &Value, out: &mut String) {
    match v {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => number(n, out),
        Value::String(s) => string(s, out),
        Value::Array(all) => {
            out.push('[');
            for (i, item) in all.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => object(map.iter().map(|(k, v)| (k.as_str(), v)), out),
    }
}

/// Appends an object made of `members`, in key order whatever the order given.
pub fn object<'a>(members: impl Iterator<Item = (&'a str, &'a Value)>, out: &mut String) {
    let mut sorted: Vec<_> = members.collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    out.push('{');
    for (i, (key, value)) in sorted.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        string(key, out);
        out.push(':');
        write(value, out);
    }
    out.push('}');
}

/// Whole numbers print as such however they were written (`1`, `1.0`, `1e0`, `-0`).
fn number(n: &Number, out: &mut String) {
    use std::fmt::Write;
    // Writing to a String cannot fail.
    let _ = match (n.as_i64(), n.as_u64(), n.as_f64()) {
        (Some(i), _, _) => write!(out, "{i}"),
        (None, Some(u), _) => write!(out, "{u}"),
        (None, None, Some(f)) if f.fract() == 0.0 && f.abs() < EXACT_WHOLE_MAX => write!(out, "{:.0}", f + 0.0),
        (None, None, Some(f)) => write!(out, "{f:e}"),
        (None, None, None) => write!(out, "{n}"),
    };
}

fn string(s: &str, out: &mut String) {
    use std::fmt::Write;
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
