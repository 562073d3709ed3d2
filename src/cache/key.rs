//! The cache key: what must be equal for two requests to share a stored answer.

use super::Fault;
use super::query::QueryRules;
use crate::config::cache::KeyParts;
use http::{HeaderMap, HeaderName, header};
use pingora_cache::CacheKey;
use pingora_cache::key::{HashBinary, hash_key};
use std::fmt;

/// The compiled form of a route's `key`.
#[derive(Clone, Debug, Default)]
pub struct KeyRules {
    query: QueryRules,
    headers: Vec<HeaderName>,
    cookies: Vec<String>,
}

impl KeyRules {
    /// Checks and compiles.
    pub fn compile(parts: &KeyParts, faults: &mut Vec<Fault>) -> Self {
        let query = QueryRules::compile(&parts.query, faults);
        let mut headers = Vec::new();
        for (i, name) in parts.headers.iter().enumerate() {
            match name.parse() {
                Ok(n) => headers.push(n),
                Err(_) => faults.push(Fault::new(format!("key.headers[{i}]"), format!("{name:?} is no field name"))),
            }
        }
        for (i, name) in parts.cookies.iter().enumerate() {
            if name.is_empty() || name.contains(['=', ';', ' ', '"', ',']) {
                faults.push(Fault::new(format!("key.cookies[{i}]"), format!("{name:?} is no cookie name")));
            }
        }
        KeyRules { query, headers, cookies: parts.cookies.clone() }
    }
}

/// A longer key, in bytes, is not worth its room: the request goes past the cache.
pub const KEY_BYTES_MAX: usize = 16 << 10;

impl KeyRules {
    /// The same rules with another list of query parameters that join the key.
    pub fn only(&self, names: &[String]) -> Self {
        KeyRules { query: self.query.only(names), ..self.clone() }
    }

    /// Whether the value of this cookie joins the key.
    pub fn has_cookie(&self, name: &str) -> bool {
        self.cookies.iter().any(|c| c == name)
    }
}

/// Where a request goes, after the front door has checked it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// `https`.
    pub tls: bool,
    /// Host without port; letter case does not matter.
    pub host: &'a str,
    /// Port from the authority, or the scheme's own.
    pub port: u16,
    /// Path as it is sent to the origin.
    pub path: &'a [u8],
    /// Query without the question mark; `None` where there is no question mark.
    pub query: Option<&'a [u8]>,
}

impl<'a> Place<'a> {
    /// From the authority (`Host` or `:authority`) and the request target (`/path?query`).
    pub fn of(tls: bool, authority: &'a str, target: &'a [u8]) -> Self {
        let (host, port) = split_port(authority);
        let (path, query) = match target.iter().position(|b| *b == b'?') {
            Some(at) => (target.get(..at).unwrap_or(target), target.get(at + 1..)),
            None => (target, None),
        };
        let path: &[u8] = if path.is_empty() { b"/" } else { path };
        Place { tls, host, port: port.unwrap_or(if tls { 443 } else { 80 }), path, query }
    }
}

/// `[::1]:8080` to `[::1]` and 8080; an empty or unreadable port counts as none, for the front door refuses those.
fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

/// A cache key. The first half of its hash names the URL alone, the second half everything, so that a purge by URL
/// finds all that hang on it; the framed bytes are kept with the object and compared, so that a collision of hashes can
/// only ever cost a hit.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    framed: Vec<u8>,
    url_bytes: usize,
    hash: HashBinary,
}

/// Values that the policy script lets the answer vary on: name and value.
pub type VaryOn<'a> = &'a [(String, String)];

impl Key {
    /// The key of a request.
    pub fn of(place: &Place<'_>, rules: &KeyRules, headers: &HeaderMap, vary: VaryOn<'_>) -> Self {
        let mut framed = url_frame(place, &rules.query);
        let url_bytes = framed.len();
        let mut vary: Vec<_> = vary.iter().collect();
        vary.sort();
        for (name, value) in vary {
            frame(&mut framed, b'p', name.as_bytes());
            frame(&mut framed, b'=', value.as_bytes());
        }
        for name in &rules.headers {
            frame(&mut framed, b'h', name.as_str().as_bytes());
            headers.get_all(name).iter().for_each(|v| frame(&mut framed, b'=', v.as_bytes()));
        }
        for name in &rules.cookies {
            frame(&mut framed, b'c', name.as_bytes());
            cookies(headers, name).for_each(|v| frame(&mut framed, b'=', v));
        }
        Key::framed(framed, url_bytes)
    }

    /// The key that all keys of a URL begin with.
    pub fn of_url(place: &Place<'_>, rules: &KeyRules) -> Self {
        let framed = url_frame(place, &rules.query);
        let url_bytes = framed.len();
        Key::framed(framed, url_bytes)
    }

    fn framed(framed: Vec<u8>, url_bytes: usize) -> Self {
        let mut hash = hash_key(&framed);
        if url_bytes < framed.len() {
            let url = hash_key(framed.get(..url_bytes).unwrap_or(&framed));
            hash.iter_mut().zip(url).take(GROUP_BYTES).for_each(|(h, u)| *h = u);
        }
        Key { framed, url_bytes, hash }
    }

    /// The 128-bit name.
    pub fn hash(&self) -> &HashBinary {
        &self.hash
    }

    /// All parts, length-framed.
    pub fn bytes(&self) -> &[u8] {
        &self.framed
    }

    /// The parts that come from the URL; a prefix of [`Key::bytes`].
    pub fn url_bytes(&self) -> &[u8] {
        self.framed.get(..self.url_bytes).unwrap_or(&self.framed)
    }

    /// Pingora's form; its hash is set, so that Pingora does not compute it again at each look-up and lock.
    pub fn to_pingora(&self) -> CacheKey {
        let mut key = CacheKey::new(self.framed.clone(), "");
        key.set_primary_bin_override(self.hash);
        key
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", readable(&self.framed))
    }
}

/// How many leading bytes of a key's hash name the URL.
const GROUP_BYTES: usize = 8;

/// The part of a key's hash that all keys of one URL share.
pub fn group_of(hash: &HashBinary) -> u64 {
    let (head, _) = hash.split_at(GROUP_BYTES);
    head.iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// A stored key for people: `https://shop.example.com:443/a?b=1 p:arm=red`.
pub fn readable(framed: &[u8]) -> String {
    let mut out = String::new();
    let mut rest = framed;
    while let Some((tag, part, after)) = next_frame(rest) {
        let text = String::from_utf8_lossy(part);
        match tag {
            b's' => out.push_str(&text),
            b'o' => out.push_str(&format!("://{text}")),
            b':' => out.push_str(&format!(":{}", part.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)))),
            b'p' | b'h' | b'c' => out.push_str(&format!(" {}:{text}", char::from(tag))),
            b'=' => out.push_str(&format!("={text}")),
            _ => out.push_str(&text),
        }
        rest = after;
    }
    out
}

fn next_frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    Some((*tag, part, rest))
}

fn url_frame(place: &Place<'_>, query: &QueryRules) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + place.host.len() + place.path.len() + place.query.map_or(0, <[u8]>::len));
    frame(&mut out, b's', if place.tls { b"https" } else { b"http" });
    frame(&mut out, b'o', place.host.to_ascii_lowercase().trim_end_matches('.').as_bytes());
    frame(&mut out, b':', &place.port.to_be_bytes());
    frame(&mut out, b'/', place.path);
    match query.apply(place.query) {
        // The question mark is part of the frame: `/a?` and `/a` may be two resources.
        Some(q) => frame(&mut out, b'?', &[b"?", q.as_ref()].concat()),
        None => frame(&mut out, b'?', b""),
    }
    out
}

fn frame(out: &mut Vec<u8>, tag: u8, part: &[u8]) {
    // A part beyond 4 GiB cannot come through the header limits.
    let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
    out.push(tag);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(part);
}

/// The values of the cookie `name`, in order.
fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b';'))
        .filter_map(move |pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests;
