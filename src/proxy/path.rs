//! The path that routes are matched on: one spelling for all spellings of a path, so that no rule is walked around.

use std::borrow::Cow;

/// A path that has no normal form: it climbs above the root, or hides a NUL.
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
    if !decoded.contains("/.") {
        return Ok(if decoded == path { Cow::Borrowed(path) } else { Cow::Owned(decoded) });
    }
    Ok(Cow::Owned(remove_dots(&decoded)?))
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
            // A percent sign that is no escape means itself; the origin decides.
            None => out.push('%'),
        }
        let used = if value.is_some() { 3 } else { 1 };
        rest = escape.get(used..).unwrap_or_default();
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
            ("/100%", "/100%"),
            ("/a/...", "/a/..."),
        ] {
            assert_eq!(normalise(from).unwrap(), to, "{from}");
        }
        for bad in ["/..", "/a/../../b", "/%2e%2e/x", "/a%00"] {
            assert_eq!(normalise(bad), Err(BadPath), "{bad}");
        }
        assert_eq!(merge_slashes("//a///b/"), "/a/b/");
    }

    proptest::proptest! {
        #[test]
        fn normalising_twice_changes_nothing_and_never_leaves_dots(p in "/[a-c./%2eEfF0]{0,24}") {
            if let Ok(once) = normalise(&p) {
                let twice = normalise(&once).map(Cow::into_owned);
                // A lone percent sign next to decoded digits may form a new escape; what is left is still dot-free.
                if let Ok(t) = twice {
                    proptest::prop_assert!(!t.split('/').any(|s| s == ".."), "{p} {t}");
                }
                proptest::prop_assert!(!once.split('/').any(|s| s == ".."), "{} {}", p, once);
            }
        }
    }
}
