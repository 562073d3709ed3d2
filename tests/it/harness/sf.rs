//! A strict reader of `Cache-Status` (RFC 9211 over RFC 9651): every answer that a test receives goes through it.

/// Panics unless the member is a valid one of ours.
pub fn check_cache_status(member: &str) {
    if let Err(why) = judge(member) {
        panic!("rfc9211_2_cache_status: {why}: {member:?}");
    }
}

#[derive(Debug, PartialEq)]
enum Bare {
    Bool,
    Int(i64),
    Token(String),
    Text(String),
}

fn judge(member: &str) -> Result<(), String> {
    let (name, mut rest) = bare(member)?;
    if name != Bare::Token("sluicegate".to_owned()) {
        return Err("not ours".to_owned());
    }
    let mut seen: Vec<(String, Bare)> = Vec::new();
    while let Some(after) = rest.strip_prefix(';') {
        let after = after.trim_start_matches(' ');
        let end = after.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.*".contains(c)));
        let (key, after) = after.split_at(end.unwrap_or(after.len()));
        if !key.starts_with(|c: char| c.is_ascii_lowercase() || c == '*') {
            return Err(format!("no key before {after:?}"));
        }
        let (value, after) = match after.strip_prefix('=') {
            Some(value) => bare(value)?,
            None => (Bare::Bool, after),
        };
        if seen.iter().any(|(k, _)| k == key) {
            return Err(format!("{key} twice"));
        }
        seen.push((key.to_owned(), value));
        rest = after;
    }
    if !rest.is_empty() {
        return Err(format!("left over: {rest:?}"));
    }
    meaning(&seen)
}

fn meaning(seen: &[(String, Bare)]) -> Result<(), String> {
    const FWD: [&str; 8] = ["bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"];
    let has = |name: &str| seen.iter().any(|(k, _)| k == name);
    for (key, value) in seen {
        let fits = match (key.as_str(), value) {
            ("hit" | "stored" | "collapsed", Bare::Bool) | ("ttl", Bare::Int(_)) | ("key", Bare::Text(_)) => true,
            ("fwd", Bare::Token(t)) => FWD.contains(&t.as_str()),
            ("fwd-status", Bare::Int(s)) => (100..600).contains(s),
            ("detail", Bare::Token(_) | Bare::Text(_)) => true,
            _ => false,
        };
        if !fits {
            return Err(format!("{key} is {value:?}"));
        }
    }
    if has("hit") == has("fwd") {
        return Err("exactly one of hit and fwd".to_owned());
    }
    if has("hit") && ["fwd-status", "stored", "collapsed"].iter().any(|k| has(k)) {
        return Err("a hit was not forwarded".to_owned());
    }
    Ok(())
}

fn bare(text: &str) -> Result<(Bare, &str), String> {
    let first = text.chars().next().ok_or("nothing where a value should be")?;
    if let Some(inner) = text.strip_prefix('"') {
        return string(inner);
    }
    let cut = |ok: fn(char) -> bool| text.split_at(text.find(|c| !ok(c)).unwrap_or(text.len()));
    if first == '-' || first.is_ascii_digit() {
        let (digits, rest) = cut(|c| c == '-' || c.is_ascii_digit());
        return digits.parse().map(|n| (Bare::Int(n), rest)).map_err(|e| format!("{digits}: {e}"));
    }
    if first.is_ascii_alphabetic() || first == '*' {
        let (token, rest) = cut(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(c));
        return Ok((Bare::Token(token.to_owned()), rest));
    }
    Err(format!("no value at {text:?}"))
}

fn string(inner: &str) -> Result<(Bare, &str), String> {
    let mut out = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Bare::Text(out), &inner[at + 1..])),
            '\\' => match chars.next() {
                Some((_, c @ ('"' | '\\'))) => out.push(c),
                other => return Err(format!("escape of {other:?}")),
            },
            ' '..='~' => out.push(c),
            _ => return Err(format!("{c:?} in a string")),
        }
    }
    Err("a string without end".to_owned())
}

#[test]
fn the_reader_is_strict() {
    for good in [
        "sluicegate; hit; ttl=-5; detail=stale_if_error",
        "sluicegate; fwd=uri-miss; fwd-status=200; ttl=9; stored; collapsed",
        r#"sluicegate; fwd=bypass; key="a\"b\\c""#,
    ] {
        check_cache_status(good);
    }
    for bad in [
        "",
        "other; hit",
        "sluicegate",
        "sluicegate; hit; fwd=stale",
        "sluicegate; hit; stored",
        "sluicegate; fwd=missed",
        "sluicegate; hit; ttl=x",
        "sluicegate; hit; detail=a b",
        "sluicegate; hit; key=\"a",
        "sluicegate; hit; key=\"\u{e9}\"",
        "sluicegate; hit; hit",
        "sluicegate; hit,",
        "sluicegate; Hit",
    ] {
        assert!(judge(bad).is_err(), "{bad:?}");
    }
}
