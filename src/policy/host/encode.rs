//! Encodings of the policy library: hex, base64url, percent, JSON.

use super::refuse;
use crate::base::ids;
use crate::policy::engine::{ITEMS_MAX, STRING_BYTES_MAX};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rhai::{Array, Dynamic, Engine, EvalAltResult, Map};
use serde_json::{Number, Value};

/// Deeper values are refused: conversion is recursive.
const DEPTH_MAX: usize = 16;

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("hex_encode", |text: &str| ids::hex(text.as_bytes()));
    engine.register_fn("hex_decode", |text: &str| or_unit(hex_decode(text)));
    engine.register_fn("base64url_encode", |text: &str| URL_SAFE_NO_PAD.encode(text));
    engine.register_fn("base64url_decode", |text: &str| {
        or_unit(URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok().and_then(|b| String::from_utf8(b).ok()))
    });
    engine.register_fn("url_encode", |text: &str| url_encode(text));
    engine.register_fn("url_decode", |text: &str| or_unit(url_decode(text)));
    engine.register_fn("parse_json", parse_json);
    engine.register_fn("to_json", |value: Map| to_json(Dynamic::from_map(value)));
    engine.register_fn("to_json", to_json);
}

/// A missing answer is `()` in the script.
pub(super) fn or_unit<T: Into<Dynamic>>(value: Option<T>) -> Dynamic {
    value.map_or(Dynamic::UNIT, Into::into)
}

fn hex_decode(text: &str) -> Option<String> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    String::from_utf8(pairs.iter().map(|[high, low]| high << 4 | low).collect()).ok()
}

fn url_encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, b| {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push('%');
            out.push_str(&ids::hex(&[b]).to_ascii_uppercase());
        }
        out
    })
}

/// Percent-decodes; `None` when an escape is broken or the result is not UTF-8.
pub(super) fn url_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        out.push(digit(bytes.next()?)? << 4 | digit(bytes.next()?)?);
    }
    String::from_utf8(out).ok()
}

fn parse_json(text: &str) -> Result<Dynamic, Box<EvalAltResult>> {
    let value = serde_json::from_str(text).map_err(|e| refuse(format!("parse_json: {e}")))?;
    from_json(&value).ok_or_else(|| refuse("parse_json: too large or too deep a value"))
}

fn to_json(value: Dynamic) -> Result<String, Box<EvalAltResult>> {
    as_json(&value, DEPTH_MAX).map(|v| v.to_string()).ok_or_else(|| refuse("to_json: no JSON form, or too deep"))
}

/// A JSON value in the script's form; `None` when it is beyond the script's limits.
pub(in crate::policy) fn from_json(value: &Value) -> Option<Dynamic> {
    let mut items = ITEMS_MAX;
    convert(value, DEPTH_MAX, &mut items)
}

fn convert(value: &Value, depth: usize, items: &mut usize) -> Option<Dynamic> {
    *items = items.checked_sub(1)?;
    let deeper = depth.checked_sub(1)?;
    Some(match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(b) => Dynamic::from_bool(*b),
        Value::Number(n) => match n.as_i64() {
            Some(i) => Dynamic::from_int(i),
            None => Dynamic::from_float(n.as_f64()?),
        },
        Value::String(s) if s.len() > STRING_BYTES_MAX => return None,
        Value::String(s) => Dynamic::from(s.clone()),
        Value::Array(list) => {
            let list: Option<Array> = list.iter().map(|v| convert(v, deeper, items)).collect();
            Dynamic::from_array(list?)
        }
        Value::Object(map) => {
            let map: Option<Map> =
                map.iter().map(|(k, v)| Some((k.as_str().into(), convert(v, deeper, items)?))).collect();
            Dynamic::from_map(map?)
        }
    })
}

fn as_json(value: &Dynamic, depth: usize) -> Option<Value> {
    let deeper = depth.checked_sub(1)?;
    if value.is_unit() {
        return Some(Value::Null);
    }
    if let Ok(b) = value.as_bool() {
        return Some(Value::Bool(b));
    }
    if let Ok(i) = value.as_int() {
        return Some(Value::from(i));
    }
    if let Ok(f) = value.as_float() {
        return Number::from_f64(f).map(Value::Number);
    }
    if let Ok(c) = value.as_char() {
        return Some(Value::from(c.to_string()));
    }
    if let Ok(s) = value.as_immutable_string_ref() {
        return Some(Value::from(s.as_str()));
    }
    if let Ok(list) = value.as_array_ref() {
        return list.iter().map(|v| as_json(v, deeper)).collect::<Option<Vec<_>>>().map(Value::Array);
    }
    let map = value.as_map_ref().ok()?;
    map.iter().map(|(k, v)| Some((k.to_string(), as_json(v, deeper)?))).collect::<Option<_>>().map(Value::Object)
}
