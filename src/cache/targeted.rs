//! Targeted cache control: `CDN-Cache-Control`, a Structured Fields dictionary (RFC 9213, RFC 9651 §3.2), and its
//! forerunner `Surrogate-Control` (Edge Architecture Specification, §2.2).

use super::cc::{self, CacheControl, Delta};
use http::HeaderMap;

/// The fields this gateway is a target of, most specific first (RFC 9213 §2.2).
const TARGET_LIST: [&str; 1] = ["cdn-cache-control"];

/// The directives of the first targeted field that is there, not empty and valid; then `Cache-Control` and `Expires`
/// must not be used (RFC 9213 §2.2). A field that does not parse is as if it were not there. `Surrogate-Control` comes
/// after `CDN-Cache-Control`, for that one is a standard.
pub fn of(headers: &HeaderMap) -> Option<CacheControl> {
    targeted(headers).or_else(|| surrogate(headers))
}

fn targeted(headers: &HeaderMap) -> Option<CacheControl> {
    TARGET_LIST.iter().find_map(|name| {
        let mut lines = headers.get_all(*name).iter();
        let mut text = lines.next()?.to_str().ok()?.to_owned();
        for line in lines {
            text.push(',');
            text.push_str(line.to_str().ok()?);
        }
        dictionary(text.trim_matches(' '))
    })
}

/// `max-age=60+30, no-store, content="ESI/1.0", max-age=5;other`: the part after the plus is a time to serve stale
/// while a fresh answer is fetched, and what names a surrogate is not for us, who have no name. `None` where nothing in
/// it is about caching.
fn surrogate(headers: &HeaderMap) -> Option<CacheControl> {
    let mut found = CacheControl::default();
    for line in headers.get_all("surrogate-control") {
        let line = line.to_str().ok()?;
        let mut rest = line;
        while let Some((name, arg, after)) = cc::next_directive(rest) {
            rest = after;
            let arg = arg.as_deref();
            if name.contains(';') || arg.is_some_and(|a| a.contains(';')) {
                continue;
            }
            match (name.to_ascii_lowercase().as_str(), arg.and_then(|a| a.split_once('+'))) {
                ("max-age", Some((fresh, stale))) => {
                    found.set("max-age", Some(fresh));
                    found.set("stale-while-revalidate", Some(stale));
                }
                // Whether we are near the origin or far from it, nobody told us: then the careful reading.
                ("no-store-remote", _) => found.set("no-store", None),
                (name, _) => found.set(name, arg),
            }
        }
    }
    // §2.2: its lifetime is its own; shared caches and their directives are another field's business.
    found.s_maxage = Delta::Absent;
    (found != CacheControl::default()).then_some(found)
}

fn dictionary(text: &str) -> Option<CacheControl> {
    if text.is_empty() {
        return None;
    }
    let mut cc = CacheControl::default();
    let mut seen: Vec<(&str, Item)> = Vec::new();
    let mut rest = text;
    loop {
        let (key, after) = key(rest)?;
        let (item, after) = match after.strip_prefix('=') {
            Some(value) => item(value)?,
            None => (Item::Bool(true), after),
        };
        let after = parameters(after)?;
        // The last one of a repeated key counts (RFC 9651 §4.2.2).
        seen.retain(|(k, _)| *k != key);
        seen.push((key, item));
        let after = after.trim_start_matches([' ', '\t']);
        if after.is_empty() {
            break;
        }
        rest = after.strip_prefix(',')?.trim_start_matches([' ', '\t']);
    }
    for (key, item) in seen {
        apply(&mut cc, key, item);
    }
    Some(cc)
}

/// A value of the wrong type makes its directive void (RFC 9213 §2.1).
fn apply(cc: &mut CacheControl, key: &str, item: Item) {
    let wants_number = matches!(key, "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error");
    match item {
        Item::Int(n) if wants_number => cc.set(key, Some(&n)),
        Item::Text(t) if matches!(key, "private" | "no-cache") => cc.set(key, Some(&t)),
        Item::Bool(true) if !wants_number => cc.set(key, None),
        _ => {}
    }
}

enum Item {
    Int(String),
    Text(String),
    Bool(bool),
    Other,
}

fn key(text: &str) -> Option<(&str, &str)> {
    let first = text.chars().next()?;
    if !(first.is_ascii_lowercase() || first == '*') {
        return None;
    }
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.' | '*');
    let end = text.find(|c| !ok(c)).unwrap_or(text.len());
    Some(text.split_at(end))
}

fn item(text: &str) -> Option<(Item, &str)> {
    let first = text.chars().next()?;
    match first {
        '?' => match text.get(1..2)? {
            "1" => Some((Item::Bool(true), text.get(2..)?)),
            "0" => Some((Item::Bool(false), text.get(2..)?)),
            _ => None,
        },
        '"' => string(text.get(1..)?).map(|(s, rest)| (Item::Text(s), rest)),
        '-' | '0'..='9' => number(text),
        c if c.is_ascii_alphabetic() || c == '*' => {
            let ok = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(c);
            let end = text.find(|c| !ok(c)).unwrap_or(text.len());
            Some((Item::Other, text.get(end..)?))
        }
        _ => None,
    }
}

fn number(text: &str) -> Option<(Item, &str)> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (int, rest) = digits.split_at(end);
    if int.is_empty() || int.len() > 15 {
        return None;
    }
    if let Some(fraction) = rest.strip_prefix('.') {
        let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
        return ((1..=3).contains(&end) && int.len() <= 12).then_some((Item::Other, fraction.get(end..)?));
    }
    let item = if sign.is_empty() { Item::Int(int.to_owned()) } else { Item::Other };
    Some((item, rest))
}

fn string(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, text.get(at + 1..)?)),
            '\\' => out.push(chars.next().map(|(_, c)| c).filter(|c| matches!(c, '"' | '\\'))?),
            ' '..='~' => out.push(c),
            _ => return None,
        }
    }
    None
}

/// Parameters mean nothing here but must be well formed.
fn parameters(mut text: &str) -> Option<&str> {
    while let Some(rest) = text.strip_prefix(';') {
        let (_, after) = key(rest.trim_start_matches(' '))?;
        text = match after.strip_prefix('=') {
            Some(value) => item(value)?.1,
            None => after,
        };
    }
    Some(text)
}
