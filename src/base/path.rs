//! The path that routes are matched on: one spelling for all spellings of a path, so that no rule is walked around.

use std::borrow::Cow;

/// A path that has no single meaning: it climbs above the root, hides a NUL or a dot segment behind an encoded slash or a
/// parameter, or has a percent sign that is no escape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPath;

/// Normalises a path (RFC 3986 §6.2.2): percent-encoded unreserved characters decoded, dot segments removed.
/// The result is what the origin gets too. Encoded slashes stay encoded.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, BadPath> {
    let bytes = path.as_bytes();
    let odd = bytes.contains(&b'%') || bytes.windows(2).any(|w| w == b"/.");
    if !odd {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(path)?;
    if hides_dots(&decoded) {
        return Err(BadPath);
    }
    if !decoded.contains("/.") {
        return Ok(if decoded == path { Cow::Borrowed(path) } else { Cow::Owned(decoded) });
    }
    Ok(Cow::Owned(remove_dots(&decoded)?))
}

/// Dot segments that only some origins see: `..%2f`, `..%5c`, `..;x`.
fn hides_dots(path: &str) -> bool {
    let parts = |s: &str| -> bool {
        // What is left of a segment before a parameter, where the segment is more than the plain dots.
        let name = s.split(';').next().unwrap_or(s);
        matches!(name, "." | "..") && name != s
    };
    if path.split('/').any(parts) {
        return true;
    }
    let opened = path.replace("%2F", "/").replace("%5C", "/");
    let dots = |p: &str| p.split('/').filter(|s| matches!(s.split(';').next(), Some("." | ".."))).count();
    dots(&opened) != dots(path)
}

/// The form that routes see: runs of slashes count as one, because most origins read them so.
pub fn merge_slashes(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn decode_unreserved(path: &str) -> Result<String, BadPath> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(i) = rest.find('%') {
        let (before, escape) = rest.split_at(i);
        out.push_str(before);
        let value = escape.get(1..3).and_then(|h| u8::from_str_radix(h, 16).ok());
        match value {
            Some(0) => return Err(BadPath),
            Some(b) if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => out.push(char::from(b)),
            Some(_) => out.push_str(&escape.get(..3).unwrap_or_default().to_ascii_uppercase()),
            // Kept, it could form a new escape with what is decoded after it.
            None => return Err(BadPath),
        }
        rest = escape.get(3..).unwrap_or_default();
    }
    out.push_str(rest);
    Ok(out)
}

/// RFC 3986 §5.2.4.
fn remove_dots(path: &str) -> Result<String, BadPath> {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(s) = segments.next() {
        let last = segments.peek().is_none();
        match s {
            "." | ".." => {
                if s == ".." && kept.pop().is_none() {
                    return Err(BadPath);
                }
                if last {
                    kept.push("");
                }
            }
            s => kept.push(s),
        }
    }
    Ok(format!("/{}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3986_6_2_2_one_form_for_all_spellings() {
        for (from, to) in [
            ("/a/b", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/a/%2e%2e/c", "/c"),
            ("/%61ccount/", "/account/"),
            ("/a%2fb", "/a%2Fb"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/..."),
        ] {
            assert_eq!(normalise(from).unwrap(), to, "{from}");
        }
        for bad in [
            "/..",
            "/a/../../b",
            "/%2e%2e/x",
            "/a%00",
            "/100%",
            "/pub/%2%65%2%65/x",
            "/a/..%2fb",
            "/a/..%5cb",
            "/a/..;/b",
            "/a/%2e%2e;x=1/b",
        ] {
            assert_eq!(normalise(bad), Err(BadPath), "{bad}");
        }
        assert_eq!(merge_slashes("//a///b/"), "/a/b/");
    }

    proptest::proptest! {
        #[test]
        fn a_normal_form_is_final_and_has_no_dots(p in "/[a-c./%2eEfF05cC;]{0,24}") {
            if let Ok(once) = normalise(&p) {
                let twice = normalise(&once);
                proptest::prop_assert_eq!(twice.as_deref(), Ok(&*once), "{}", p);
                proptest::prop_assert!(!once.split('/').any(|s| s == ".." || s == "."), "{} {}", p, once);
            }
        }
    }
}
