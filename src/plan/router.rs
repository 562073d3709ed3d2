//! Which route takes a request: host, path, method, header and query; the most specific wins, `priority` above all.

use crate::config::error::Fault;
use crate::config::route::Match;
use http::{HeaderMap, HeaderName, Method};
use regex::Regex;
use std::cmp::Reverse;
use std::collections::HashMap;

/// What the router looks at.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Host without port, in lower case.
    pub host: &'a str,
    /// Path, normalised.
    pub path: &'a str,
    /// Query without `?`.
    pub query: Option<&'a str>,
    /// Method.
    pub method: &'a Method,
    /// Header fields.
    pub headers: &'a HeaderMap,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostRule {
    Exact(String),
    /// `.example.com` for `*.example.com`.
    Below(String),
    Any,
}

#[derive(Debug, Clone)]
enum PathRule {
    Exact(String),
    Regex(Regex),
    /// `/x/` for `/x/*`.
    Prefix(String),
}

impl PathRule {
    fn text(&self) -> &str {
        match self {
            PathRule::Exact(p) | PathRule::Prefix(p) => p,
            PathRule::Regex(r) => r.as_str(),
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    route: usize,
    host: HostRule,
    path: PathRule,
    methods: Vec<Method>,
    headers: Vec<(HeaderName, Option<String>)>,
    query: Vec<(String, Option<String>)>,
    priority: i32,
}

/// All routes, in the order in which they are tried.
#[derive(Debug, Default)]
pub struct Router {
    entries: Vec<Entry>,
    /// Entries that can take a host that some entry names exactly.
    by_host: HashMap<String, Vec<usize>>,
    /// Entries that can take any other host.
    other: Vec<usize>,
}

impl Router {
    /// Compiles the matches; `matches[i]` belongs to route `i`. The second part are warnings about ambiguous pairs.
    pub fn compile(matches: &[(&Match, i32)]) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        let (mut entries, mut faults) = (Vec::new(), Vec::new());
        for (i, (m, priority)) in matches.iter().enumerate() {
            match expand(m, i, *priority) {
                Ok(e) => entries.extend(e),
                Err(f) => faults.extend(f),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        entries.sort_by_key(rank);
        let warnings = ambiguous(&entries);
        let mut r = Router { entries, ..Router::default() };
        r.index();
        Ok((r, warnings))
    }

    fn index(&mut self) {
        for e in &self.entries {
            if let HostRule::Exact(h) = &e.host {
                self.by_host.entry(h.clone()).or_default();
            }
        }
        for (i, e) in self.entries.iter().enumerate() {
            for (host, list) in &mut self.by_host {
                if e.takes_host(host) {
                    list.push(i);
                }
            }
            if !matches!(e.host, HostRule::Exact(_)) {
                self.other.push(i);
            }
        }
    }

    /// The route for a request.
    pub fn route(&self, t: &Target<'_>) -> Option<usize> {
        let list = self.by_host.get(t.host).unwrap_or(&self.other);
        list.iter().filter_map(|i| self.entries.get(*i)).find(|e| e.takes(t)).map(|e| e.route)
    }
}

impl Entry {
    fn takes_host(&self, host: &str) -> bool {
        match &self.host {
            HostRule::Any => true,
            HostRule::Exact(h) => h == host,
            HostRule::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }

    fn takes(&self, t: &Target<'_>) -> bool {
        let path = match &self.path {
            PathRule::Exact(p) => p == t.path,
            PathRule::Prefix(p) => t.path.starts_with(p.as_str()),
            PathRule::Regex(r) => r.is_match(t.path),
        };
        path && self.takes_host(t.host)
            && (self.methods.is_empty() || self.methods.contains(t.method))
            && self.headers.iter().all(|(n, v)| match v {
                None => t.headers.contains_key(n),
                Some(v) => t.headers.get_all(n).iter().any(|h| h.as_bytes() == v.as_bytes()),
            })
            && self.query.iter().all(|(n, v)| has_parameter(t.query.unwrap_or(""), n, v.as_deref()))
    }

    fn conditions(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len() + self.query.len()
    }
}

/// Whether a query has a parameter, as the origin will read it: percent-decoded, `+` for a space.
fn has_parameter(query: &str, name: &str, value: Option<&str>) -> bool {
    query.split('&').any(|pair| {
        let (n, v) = pair.split_once('=').unwrap_or((pair, ""));
        decoded(n).eq(name.bytes()) && value.is_none_or(|want| decoded(v).eq(want.bytes()))
    })
}

/// The bytes that a part of a query stands for; a `%` without two hex digits stands for itself.
fn decoded(text: &str) -> impl Iterator<Item = u8> + '_ {
    let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let (byte, after) = match rest {
            [b'%', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high)? << 4 | hex(*low)?, after)
            }
            [b'+', after @ ..] => (b' ', after),
            [b, after @ ..] => (*b, after),
            [] => return None,
        };
        rest = after;
        Some(byte)
    })
}

/// Priority, host (kind, length), path (kind, length), further conditions, place in the file.
type Rank = (Reverse<i32>, (u8, Reverse<usize>), (u8, Reverse<usize>), Reverse<usize>, usize);

/// Lower is tried first.
fn rank(e: &Entry) -> Rank {
    let (host_kind, host_len) = match &e.host {
        HostRule::Exact(_) => (0, 0),
        HostRule::Below(s) => (1, s.len()),
        HostRule::Any => (2, 0),
    };
    let (path_kind, path_len) = match &e.path {
        PathRule::Exact(_) => (0, 0),
        PathRule::Regex(r) => (1, r.as_str().len()),
        PathRule::Prefix(p) => (2, p.len()),
    };
    let (host, path) = ((host_kind, Reverse(host_len)), (path_kind, Reverse(path_len)));
    (Reverse(e.priority), host, path, Reverse(e.conditions()), e.route)
}

fn expand(m: &Match, route: usize, priority: i32) -> Result<Vec<Entry>, Vec<Fault>> {
    let at = |key: &str| format!("routes[{route}].match.{key}");
    let mut faults = Vec::new();
    let mut hosts: Vec<HostRule> =
        m.host.as_slice().iter().filter_map(|h| keep(host(h), at("host"), &mut faults)).collect();
    let mut paths: Vec<PathRule> =
        m.path.as_slice().iter().filter_map(|p| keep(path(p), at("path"), &mut faults)).collect();
    if let Some(text) = &m.path_regex {
        let compiled = Regex::new(&format!("^(?:{text})$")).map_err(|e| e.to_string());
        paths.extend(keep(compiled.map(PathRule::Regex), at("path_regex"), &mut faults));
    }
    if hosts.is_empty() {
        hosts.push(HostRule::Any);
    }
    if paths.is_empty() {
        paths.push(PathRule::Prefix("/".to_owned()));
    }
    let methods: Vec<Method> =
        m.method.as_slice().iter().filter_map(|x| keep(method(x), at("method"), &mut faults)).collect();
    let any = |v: &String| (v != "*").then(|| v.clone());
    let headers = m
        .headers
        .iter()
        .filter_map(|(n, v)| {
            let name = HeaderName::try_from(n.as_str()).map_err(|_| format!("{n:?} is no header name"));
            keep(name, at("headers"), &mut faults).map(|n| (n, any(v)))
        })
        .collect::<Vec<_>>();
    let query: Vec<_> = m.query.iter().map(|(n, v)| (n.clone(), any(v))).collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut out = Vec::new();
    for h in &hosts {
        for p in &paths {
            let (methods, headers, query) = (methods.clone(), headers.clone(), query.clone());
            out.push(Entry { route, host: h.clone(), path: p.clone(), methods, headers, query, priority });
        }
    }
    Ok(out)
}

fn keep<T>(r: Result<T, String>, at: String, faults: &mut Vec<Fault>) -> Option<T> {
    r.map_err(|e| faults.push(Fault::at(at, e))).ok()
}

fn host(text: &str) -> Result<HostRule, String> {
    let lower = text.to_ascii_lowercase();
    let (rule, name) = match lower.strip_prefix("*.") {
        Some(rest) => (HostRule::Below(format!(".{rest}")), rest),
        None if lower == "*" => return Ok(HostRule::Any),
        None => (HostRule::Exact(lower.clone()), lower.as_str()),
    };
    let ok = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c));
    if ok { Ok(rule) } else { Err(format!("{text:?} is no host name (write shop.example.com or *.example.com)")) }
}

fn path(text: &str) -> Result<PathRule, String> {
    let bad = || format!("{text:?} is no path (write /x for exactly that, /x/* for all below)");
    if !text.starts_with('/') {
        return Err(bad());
    }
    match text.strip_suffix('*') {
        Some(p) if p.contains('*') => Err(bad()),
        Some(p) if p.ends_with('/') => Ok(PathRule::Prefix(p.to_owned())),
        Some(_) => Err(bad()),
        None if text.contains('*') => Err(bad()),
        None => Ok(PathRule::Exact(text.to_owned())),
    }
}

fn method(text: &str) -> Result<Method, String> {
    if text != text.to_ascii_uppercase() {
        return Err(format!("methods are written in capitals: {:?}", text.to_ascii_uppercase()));
    }
    Method::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is no method"))
}

/// Pairs that only their order in the file tells apart.
fn ambiguous(sorted: &[Entry]) -> Vec<Fault> {
    let same = |a: &Entry, b: &Entry| {
        let (ra, rb) = (rank(a), rank(b));
        (ra.0, ra.1, ra.2, ra.3) == (rb.0, rb.1, rb.2, rb.3)
            && a.host == b.host
            && a.path.text() == b.path.text()
            && a.route != b.route
            && overlap(a, b)
    };
    sorted
        .windows(2)
        .filter_map(|w| match w {
            [a, b] if same(a, b) => Some((a, b)),
            _ => None,
        })
        .map(|(a, b)| {
            let text = format!(
                "can take the same requests as routes[{}], which comes first; add a condition or a priority",
                a.route
            );
            Fault::at(format!("routes[{}].match", b.route), text)
        })
        .collect()
}

/// Whether a request could meet the further conditions of both.
fn overlap(a: &Entry, b: &Entry) -> bool {
    let methods = a.methods.is_empty() || b.methods.is_empty() || a.methods.iter().any(|m| b.methods.contains(m));
    let clash = |x: &[(String, Option<String>)], y: &[(String, Option<String>)]| {
        x.iter().any(|(n, v)| y.iter().any(|(m, w)| n == m && v.is_some() && w.is_some() && v != w))
    };
    let texts =
        |h: &[(HeaderName, Option<String>)]| h.iter().map(|(n, v)| (n.to_string(), v.clone())).collect::<Vec<_>>();
    methods && !clash(&a.query, &b.query) && !clash(&texts(&a.headers), &texts(&b.headers))
}

#[cfg(test)]
mod tests;
