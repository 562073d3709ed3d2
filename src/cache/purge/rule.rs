//! What can be purged: one rule for each wish, in the spelling under which objects are filed.

use super::super::key::{Key, KeyRules, Place, UrlParts};
use super::PurgeError;
use crate::base::authority::valid_authority;
use http::Uri;

/// What a rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Everything in the store.
    All,
    /// Every URL of a host, whatever scheme and port.
    Host,
    /// Every URL whose path begins so.
    Prefix,
    /// All variants of one URL.
    Url,
    /// Everything that carries a tag.
    Tag,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 5] = [Kind::All, Kind::Host, Kind::Prefix, Kind::Url, Kind::Tag];

    /// The one spelling for log, metric and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::All => "all",
            Kind::Host => "host",
            Kind::Prefix => "prefix",
            Kind::Url => "url",
            Kind::Tag => "tag",
        }
    }

    /// The byte that stands for it in memory and on disk.
    pub(super) fn code(self) -> u8 {
        match self {
            Kind::All => b'A',
            Kind::Host => b'H',
            Kind::Prefix => b'P',
            Kind::Url => b'U',
            Kind::Tag => b'T',
        }
    }

    pub(super) fn of_code(code: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.code() == code)
    }
}

/// One purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it names.
    pub kind: Kind,
    /// The name, in the spelling under which objects are looked up.
    pub bytes: Box<[u8]>,
    /// What it concerns becomes stale instead of void.
    pub soft: bool,
}

/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 1024;

/// Longest prefix, in bytes.
const PREFIX_BYTES_MAX: usize = 2048;

/// Between a tag and the host it is limited to; no field value can hold it.
pub(super) const TAG_HOST: u8 = 0;

impl Rule {
    fn new(kind: Kind, bytes: impl Into<Box<[u8]>>, soft: bool) -> Self {
        Rule { kind, bytes: bytes.into(), soft }
    }

    /// Everything.
    pub fn all(soft: bool) -> Self {
        Rule::new(Kind::All, [], soft)
    }

    /// Every URL of a host. A port is refused, for the rule would not heed it.
    pub fn host(host: &str, soft: bool) -> Result<Self, PurgeError> {
        let bad = || PurgeError::Host(host.to_owned());
        let name = host.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let port = name.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        if name.is_empty() || port || !valid_authority(name.as_bytes()) {
            return Err(bad());
        }
        Ok(Rule::new(Kind::Host, name.as_bytes(), soft))
    }

    /// Every URL that begins so: `https://host/path`, or `host/path` for both schemes. What follows is compared byte by
    /// byte with normalised paths (RFC 3986 §6.2.2), so `/a` concerns `/ab` too; end it with a slash for a folder.
    pub fn prefix(prefix: &str, soft: bool) -> Result<Self, PurgeError> {
        let bad = || PurgeError::Prefix(prefix.to_owned());
        let (scheme, rest) = match prefix.split_once("://") {
            Some((s, rest)) if s.eq_ignore_ascii_case("http") || s.eq_ignore_ascii_case("https") => {
                (s.to_ascii_lowercase(), rest)
            }
            Some(_) => return Err(bad()),
            None => (String::new(), prefix.strip_prefix("//").unwrap_or(prefix)),
        };
        let at = rest.find('/').ok_or_else(bad)?;
        let (authority, path) = rest.split_at(at);
        let odd = |b: u8| b <= b' ' || b >= 0x7f || matches!(b, b'?' | b'#');
        if prefix.len() > PREFIX_BYTES_MAX || path.bytes().any(odd) || !valid_authority(authority.as_bytes()) {
            return Err(bad());
        }
        let path = crate::base::path::normalise(path).map_err(|_| bad())?;
        let tls = scheme == "https";
        let place = Place::of(tls, authority, path.as_bytes());
        let host = place.host.to_ascii_lowercase();
        let host = host.trim_end_matches('.');
        if host.is_empty() {
            return Err(bad());
        }
        // Without a scheme, both default ports mean "no port".
        let given = authority.len() > place.host.len();
        let own = if given { place.port } else { default_port(tls) };
        let plain = if scheme.is_empty() { matches!(own, 80 | 443) } else { own == default_port(tls) };
        let port = if plain { String::new() } else { format!(":{own}") };
        let colon = if scheme.is_empty() { "" } else { ":" };
        let text = format!("{scheme}{colon}//{host}{port}{path}");
        Ok(Rule::new(Kind::Prefix, text.into_bytes(), soft))
    }

    /// Everything that carries this tag, compared byte by byte.
    pub fn tag(tag: &str, soft: bool) -> Result<Self, PurgeError> {
        let odd = |b: u8| b <= b' ' || b == 0x7f;
        if tag.is_empty() || tag.len() > TAG_BYTES_MAX || tag.bytes().any(odd) {
            return Err(PurgeError::Tag(tag.chars().take(64).collect()));
        }
        Ok(Rule::new(Kind::Tag, tag.as_bytes(), soft))
    }

    /// The same within one host only: for those who may purge a host but not its neighbours.
    pub fn tag_of_host(tag: &str, host: &str, soft: bool) -> Result<Self, PurgeError> {
        let (tag, host) = (Rule::tag(tag, soft)?, Rule::host(host, soft)?);
        Ok(Rule::new(Kind::Tag, tag_of_host(&tag.bytes, &host.bytes), soft))
    }

    /// All variants of a URL under the key rules of the route that serves it: they say which query parameters count. A
    /// fragment is refused, for it never reaches a server.
    pub fn url(url: &str, rules: &KeyRules, soft: bool) -> Result<Self, PurgeError> {
        Ok(Rule::of_key(&key_of(url, rules)?, soft))
    }

    /// All variants of the URL of a key.
    pub fn of_key(key: &Key, soft: bool) -> Self {
        Rule::new(Kind::Url, key.url_bytes(), soft)
    }
}

pub(super) fn tag_of_host(tag: &[u8], host: &[u8]) -> Vec<u8> {
    [tag, &[TAG_HOST], host].concat()
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// The text that prefix rules are compared with: `https://host/path`, the port only where it is not the scheme's own.
pub(super) fn prefix_text(url: &UrlParts<'_>) -> Vec<u8> {
    let port = if url.port == default_port(url.scheme == b"https") { String::new() } else { format!(":{}", url.port) };
    [url.scheme, b"://", url.host, port.as_bytes(), url.path].concat()
}

/// Where the path begins in such a text, with or without a scheme.
pub(super) fn path_start(text: &[u8]) -> Option<usize> {
    let host = text.windows(2).position(|w| w == b"//")? + 2;
    Some(host + text.get(host..)?.iter().position(|b| *b == b'/')?)
}

/// The host in such a text, without port.
pub(super) fn prefix_host(text: &[u8]) -> Option<&[u8]> {
    let from = text.windows(2).position(|w| w == b"//")? + 2;
    let authority = text.get(from..path_start(text)?)?;
    let port = authority.iter().rposition(|b| *b == b':').filter(|at| !authority.iter().skip(*at).any(|b| *b == b']'));
    authority.get(..port.unwrap_or(authority.len()))
}

/// The key all objects of a URL share.
pub fn key_of(url: &str, rules: &KeyRules) -> Result<Key, PurgeError> {
    let bad = || PurgeError::Url(url.to_owned());
    if url.contains('#') {
        return Err(bad());
    }
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(bad()),
    };
    let authority = uri.authority().filter(|a| !a.as_str().contains('@') && !a.host().is_empty()).ok_or_else(bad)?;
    // The spelling under which requests are filed.
    let path = crate::base::path::normalise(uri.path()).map_err(|_| bad())?;
    let target = uri.query().map_or_else(|| path.to_string(), |q| format!("{path}?{q}"));
    Ok(Key::of_url(&Place::of(tls, authority.as_str(), target.as_bytes()), rules))
}
