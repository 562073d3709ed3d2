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

/// The compiled form of `key.query`.
#[derive(Clone, Debug, Default)]
pub struct QueryRules {
    exclude: Vec<Glob>,
    include: Option<Vec<Glob>>,
    sort: bool,
}

impl QueryRules {
    /// Checks and compiles; `at` is the path of the section in the YAML.
    pub fn compile(parts: &QueryParts, faults: &mut Vec<Fault>) -> Self {
        let mut globs = |list: &[String], key: &str| -> Vec<Glob> {
            for (i, p) in list.iter().enumerate().filter(|(_, p)| p.is_empty()) {
                faults.push(Fault::new(format!("key.query.{key}[{i}]"), format!("{p:?} matches no parameter name")));
            }
            list.iter().cloned().map(Glob).collect()
        };
        QueryRules {
            exclude: globs(&parts.exclude, "exclude"),
            include: parts.include.as_ref().map(|l| globs(l, "include")),
            sort: parts.sort,
        }
    }

    fn is_plain(&self) -> bool {
        self.exclude.is_empty() && self.include.is_none() && !self.sort
    }

    /// The query as it stands in the key. Applying it twice gives the same as once.
    pub fn apply<'a>(&self, query: Option<&'a [u8]>) -> Option<Cow<'a, [u8]>> {
        let query = query?;
        if self.is_plain() {
            return Some(Cow::Borrowed(query));
        }
        let mut pairs: Vec<&[u8]> = query.split(|b| *b == b'&').filter(|p| !p.is_empty() && self.keeps(p)).collect();
        if self.sort {
            // Stable, so that repeated parameters keep their order, which origins do tell apart.
            pairs.sort_by(|a, b| name(a).cmp(name(b)));
        }
        (!pairs.is_empty()).then(|| Cow::Owned(pairs.join(&b'&')))
    }

    fn keeps(&self, pair: &[u8]) -> bool {
        // Some origins also split at `;`: `utm_x=1;id=5` must not smuggle `id` past the key.
        if pair.contains(&b';') {
            return true;
        }
        let name = decoded(name(pair));
        let included = self.include.as_ref().is_none_or(|list| list.iter().any(|g| g.matches(&name)));
        included && !self.exclude.iter().any(|g| g.matches(&name))
    }
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
