//! Which query parameters join the cache key.

use super::Fault;
use crate::config::cache::QueryParts;
use std::borrow::Cow;

/// A name pattern in which `*` stands for any characters, and nothing else is special.
#[derive(Clone, Debug)]
pub struct Glob(String);

impl Glob {
    /// Whether the whole of `name` matches. Linear time: each literal piece is looked for once, left to right.
    pub fn matches(&self, name: &str) -> bool {
        let mut pieces = self.0.split('*');
        let Some(mut rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let mut pieces = pieces.peekable();
        if pieces.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                return rest.ends_with(piece);
            }
            match rest.find(piece) {
                Some(at) => rest = rest.get(at + piece.len()..).unwrap_or(""),
                None => return false,
            }
        }
        true
    }
}

/// A pattern of `include`: as it is written, and as it is told from others by the origin that tells least apart.
#[derive(Clone, Debug)]
struct Included {
    plain: Glob,
    folded: Glob,
}

impl Included {
    fn new(pattern: &str) -> Self {
        Included { plain: Glob(pattern.to_owned()), folded: Glob(folded(pattern, true)) }
    }

    fn matches(&self, name: &str, folded: &str) -> bool {
        self.plain.matches(name) || self.folded.matches(folded)
    }
}

/// The compiled form of `key.query`.
#[derive(Clone, Debug, Default)]
pub struct QueryRules {
    exclude: Vec<Glob>,
    include: Option<Vec<Included>>,
    sort: bool,
}

impl QueryRules {
    /// Checks and compiles; `at` is the path of the section in the YAML.
    pub fn compile(parts: &QueryParts, faults: &mut Vec<Fault>) -> Self {
        let mut check = |list: &[String], key: &str| {
            for (i, p) in list.iter().enumerate().filter(|(_, p)| p.is_empty()) {
                faults.push(Fault::new(format!("key.query.{key}[{i}]"), format!("{p:?} matches no parameter name")));
            }
        };
        check(&parts.exclude, "exclude");
        check(parts.include.as_deref().unwrap_or_default(), "include");
        QueryRules {
            exclude: parts.exclude.iter().cloned().map(Glob).collect(),
            include: parts.include.as_ref().map(|l| l.iter().map(|p| Included::new(p)).collect()),
            sort: parts.sort,
        }
    }

    /// The same rules with another list of parameters that join the key.
    pub fn only(&self, names: &[String]) -> Self {
        QueryRules { include: Some(names.iter().map(|n| Included::new(n)).collect()), ..self.clone() }
    }

    fn is_plain(&self) -> bool {
        self.exclude.is_empty() && self.include.is_none() && !self.sort
    }

    /// The query as it stands in the key. Applying it twice gives the same as once.
    pub fn apply<'a>(&self, query: Option<&'a [u8]>) -> Option<Cow<'a, [u8]>> {
        let query = query?;
        // Some origins also split at `;`: to them `utm_x=1;id=5` has an `id`, and the order of pairs is another one. Such
        // a query joins the key as it is written, whatever the rules say.
        if self.is_plain() || query.contains(&b';') {
            return Some(Cow::Borrowed(query));
        }
        let mut pairs: Vec<&[u8]> = query.split(|b| *b == b'&').filter(|p| !p.is_empty() && self.keeps(p)).collect();
        if self.sort {
            // Stable, and by what origins read: repeated parameters keep their order, which origins do tell apart, in
            // whatever spelling they are repeated (`id=1&%69d=2`).
            pairs.sort_by_cached_key(|p| folded(&decoded(name(p)), false));
        }
        (!pairs.is_empty()).then(|| Cow::Owned(pairs.join(&b'&')))
    }

    fn keeps(&self, pair: &[u8]) -> bool {
        let name = decoded(name(pair));
        let included = self.include.as_ref().is_none_or(|list| {
            let folded = folded(&name, false);
            list.iter().any(|g| g.matches(&name, &folded))
        });
        included && !self.exclude.iter().any(|g| g.matches(&name))
    }
}

/// A name as the origin sees it that tells least apart: letter case (ASP.NET), `a.b` and `a b` for `a_b`, `a[x]` and
/// what follows a NUL for `a`, spaces before it (PHP). In a pattern the stars stay.
fn folded(name: &str, pattern: bool) -> String {
    let name = name.trim_start_matches(' ');
    // A bracket or a NUL at the start ends nothing.
    let end = name.char_indices().skip(1).find(|(_, c)| matches!(c, '[' | '\0')).map_or(name.len(), |(at, _)| at);
    let fold = |c: char| match c {
        '*' if pattern => '*',
        c if c.is_alphanumeric() => c.to_ascii_lowercase(),
        _ => '_',
    };
    name.get(..end).unwrap_or(name).chars().map(fold).collect()
}

fn name(pair: &[u8]) -> &[u8] {
    pair.split(|b| *b == b'=').next().unwrap_or(pair)
}

/// The name as the origin will read it: an `include: [id]` that did not see `%69d` would let one client fill the cache
/// with an answer to a parameter that is not in the key.
fn decoded(name: &[u8]) -> Cow<'_, str> {
    if !name.iter().any(|b| matches!(b, b'%' | b'+')) {
        return String::from_utf8_lossy(name);
    }
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'%', [hi, lo, after @ ..]) => match (hex(*hi), hex(*lo)) {
                (Some(h), Some(l)) => {
                    out.push(h * 16 + l);
                    rest = after;
                }
                _ => out.push(first),
            },
            (b'+', _) => out.push(b' '),
            _ => out.push(first),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}
