//! What no client may make this cache store: errors that its own odd header provoked (cache poisoning), and pages dressed
//! up as files (web cache deception).

use super::cc::{CacheControl, Flags};
use super::rules::{Answer, NoStore};
use super::{targeted, vary};
use crate::config::cache::Ttl;
use http::{HeaderMap, StatusCode, header};
use std::borrow::Cow;

/// Fields by which a client makes some origins act as if the method were another one.
pub const METHOD_OVERRIDES: [&str; 4] = ["x-http-method-override", "x-http-method", "x-method-override", "x-method"];

/// A longer field, in bytes, may be more than the origin takes though we take it.
const FIELD_BYTES_MAX: usize = 4 << 10;
/// The same for a whole header.
const HEADER_BYTES_MAX: usize = 8 << 10;

/// Whether the request asks for another method than it has.
pub fn overrides_method(headers: &HeaderMap) -> bool {
    // All of them begin alike: one pass, which most fields leave at their first letter.
    headers.keys().any(|n| {
        let n = n.as_str();
        let twin = || n.contains('_') && METHOD_OVERRIDES.contains(&n.replace('_', "-").as_str());
        n.starts_with('x') && (METHOD_OVERRIDES.contains(&n) || twin())
    })
}

/// The part of a request that an answer may owe its form to.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Path and query.
    pub target: &'a [u8],
    /// Its header.
    pub headers: &'a HeaderMap,
}

/// Whether the answer may be stored, as far as the client's part in it goes.
pub fn check(asked: &Asked<'_>, answer: &Answer<'_>) -> Result<(), NoStore> {
    let status = answer.header.status;
    if (status.is_client_error() || status.is_server_error()) && oversized(asked.headers) {
        return Err(NoStore::OversizedRequest);
    }
    if !answer.route.deception_armor || meant_for_all(answer) {
        return Ok(());
    }
    if is_disguised(asked, answer) {
        return Err(NoStore::Deception);
    }
    if only_the_route_keeps(answer) && is_personal(asked, answer) {
        return Err(NoStore::SessionCookie);
    }
    Ok(())
}

fn oversized(headers: &HeaderMap) -> bool {
    let mut total = 0;
    headers.iter().any(|(name, value)| {
        let bytes = name.as_str().len() + value.len();
        total += bytes;
        bytes > FIELD_BYTES_MAX || total > HEADER_BYTES_MAX
    })
}

fn directives(headers: &HeaderMap) -> CacheControl {
    targeted::of(headers).unwrap_or_else(|| CacheControl::of(headers))
}

/// The origin's own word that any client may have this answer. A mere `max-age` is not: browsers are told it too.
pub fn meant_for_all(answer: &Answer<'_>) -> bool {
    let headers = &answer.header.headers;
    let cc = directives(headers);
    cc.has(Flags::PUBLIC) || cc.s_maxage.secs().is_some() || targeted::of(headers).is_some()
}

/// The origin says nothing about how long; the route's table does.
fn only_the_route_keeps(answer: &Answer<'_>) -> bool {
    let headers = &answer.header.headers;
    let table = &answer.route.ttl;
    let ttl = table.by_status.get(&answer.header.status.as_u16()).copied().unwrap_or(table.default);
    let silent = directives(headers).max_age.secs().is_none() && !headers.contains_key(header::EXPIRES);
    matches!(ttl, Ttl::Fixed(_)) && answer.script.ttl.is_none() && silent
}

/// Whether the request comes with a session that neither key nor `Vary` tells from others.
pub fn has_session(asked: &Asked<'_>, answer: &Answer<'_>) -> bool {
    let session = cookie_names(asked.headers).any(|n| is_session(&n) && !answer.route.key.has_cookie(&n));
    session && !vary::names(&answer.header.headers).contains(&header::COOKIE)
}

/// A document for a client that has a session, where nothing in key or `Vary` tells sessions apart.
pub fn is_personal(asked: &Asked<'_>, answer: &Answer<'_>) -> bool {
    let headers = &answer.header.headers;
    let session = cookie_names(asked.headers).any(|n| is_session(&n) && !answer.route.key.has_cookie(&n));
    let varies = || vary::names(headers).contains(&header::COOKIE);
    answer.route.deception_armor && session && is_document(media_type(headers).as_deref()) && !varies()
}

fn cookie_names(headers: &HeaderMap) -> impl Iterator<Item = Cow<'_, str>> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.flat_map(|l| l.as_bytes().split(|b| *b == b';'));
    pairs.map(|p| String::from_utf8_lossy(p.split(|b| *b == b'=').next().unwrap_or(p).trim_ascii()))
}

/// Parts of the names that frameworks give the cookies of a session (`PHPSESSID`, `connect.sid`, `wordpress_logged_in_x`).
const SESSION_WORDS: [&str; 10] =
    ["sess", "auth", "token", "jwt", "login", "logged_in", "identity", "remember", "csrf", "xsrf"];

fn is_session(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "sid" || name.ends_with(".sid") || name.ends_with("_sid") || SESSION_WORDS.iter().any(|w| name.contains(w))
}

/// `text/html; charset=utf-8` to `text/html`.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase())
}

/// Types of what is written for its reader, as pages and data of applications are; what says nothing may be one.
fn is_document(media: Option<&str>) -> bool {
    media.is_none_or(|m| {
        matches!(m, "text/html" | "text/plain" | "application/json" | "application/xhtml+xml" | "text/xml")
            || m == "application/xml"
            || m.ends_with("+json")
    })
}

/// The URL names a kind of file, and the answer is none of that kind. Redirects and errors rarely are: they count only
/// where the request carried cookies, for then they may tell something about its sender.
fn is_disguised(asked: &Asked<'_>, answer: &Answer<'_>) -> bool {
    let status = answer.header.status;
    if !status.is_success() && !asked.headers.contains_key(header::COOKIE) || status == StatusCode::NO_CONTENT {
        return false;
    }
    let Some(kinds) = kinds(asked.target) else { return false };
    let media = media_type(&answer.header.headers);
    !media.is_some_and(|m| kinds.iter().all(|k| k.fits(&m)))
}

/// A kind of static file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Style,
    Script,
    Image,
    Media,
    Font,
    Binary,
    Pdf,
    Text,
}

impl Kind {
    fn of(extension: &str) -> Option<Kind> {
        Some(match extension {
            "css" => Kind::Style,
            "js" | "mjs" => Kind::Script,
            "png" | "jpg" | "jpeg" | "gif" | "webp" | "avif" | "svg" | "ico" | "bmp" | "tif" | "tiff" => Kind::Image,
            "mp3" | "mp4" | "m4a" | "m4v" | "webm" | "ogg" | "wav" | "flac" | "avi" | "mov" | "mkv" => Kind::Media,
            "woff" | "woff2" | "ttf" | "otf" | "eot" => Kind::Font,
            "zip" | "gz" | "tgz" | "bz2" | "7z" | "rar" | "tar" | "exe" | "dmg" | "iso" | "jar" | "apk" | "bin"
            | "class" | "swf" | "doc" | "docx" | "xls" | "xlsx" | "ppt" | "pptx" => Kind::Binary,
            "pdf" | "ps" => Kind::Pdf,
            "txt" | "csv" => Kind::Text,
            _ => return None,
        })
    }

    /// Whether a media type is of this kind. `application/octet-stream` is of all: a browser saves it, it shows nothing.
    fn fits(self, media: &str) -> bool {
        let (main, sub) = media.split_once('/').unwrap_or((media, ""));
        // One format is often sent where another one is named (a WebP for `.jpg`, a video for `.gif`).
        media == "application/octet-stream"
            || match self {
                Kind::Style => media == "text/css",
                Kind::Script => sub.ends_with("javascript") || sub.ends_with("ecmascript"),
                Kind::Image | Kind::Media => matches!(main, "image" | "audio" | "video") || media == "application/ogg",
                Kind::Font => main == "font" || sub.contains("font"),
                Kind::Binary => main == "application" && !is_document(Some(media)),
                Kind::Pdf => matches!(media, "application/pdf" | "application/postscript"),
                Kind::Text => matches!(media, "text/plain" | "text/csv"),
            }
    }
}

/// The kinds of file that the last segment of a path may name to somebody: also before or after a parameter, a line end,
/// a query mark or a slash in disguise (`/account;x.css`, `/account%0ax.css`, `/account%252fx.css`).
fn kinds(target: &[u8]) -> Option<Vec<Kind>> {
    let path = target.split(|b| *b == b'?').next().unwrap_or(target);
    let last = path.split(|b| *b == b'/').rfind(|s| !s.is_empty())?;
    if !last.contains(&b'.') && !last.contains(&b'%') {
        return None;
    }
    // Twice, for origins and proxies that do it twice.
    let opened = decoded(&decoded(last));
    let pieces = opened.split(|b| matches!(b, b'/' | b'\\' | b';' | b'?' | b'#' | b'&' | b',' | 0..=b' '));
    let extension = |p: &[u8]| {
        let after_dot = p.iter().rposition(|b| *b == b'.').and_then(|at| p.get(at + 1..))?;
        Some(String::from_utf8_lossy(after_dot).to_ascii_lowercase())
    };
    let found: Vec<Kind> = pieces.filter_map(extension).filter_map(|e| Kind::of(&e)).collect();
    (!found.is_empty()).then_some(found)
}

/// Percent escapes opened; what is none stays.
fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if let (b'%', [hi, lo, after @ ..]) = (first, tail)
            && let (Some(h), Some(l)) = (digit(*hi), digit(*lo))
        {
            out.push(h * 16 + l);
            rest = after;
        } else {
            out.push(first);
        }
    }
    out
}

#[cfg(test)]
mod tests;
