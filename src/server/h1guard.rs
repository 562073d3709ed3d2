//! The strict reader of HTTP/1 request heads (RFC 9112): what it lets through has one meaning only, for us, for
//! Pingora and for any origin behind us. Everything else is refused before a parser of messages sees it.

use crate::base::authority::{number, valid_authority};
use bytes::{BufMut, BytesMut};

/// Most header fields of a request.
pub const FIELDS_MAX: usize = 100;
/// Longest request target.
const TARGET_BYTES_MAX: usize = 16 * 1024;
/// Longest method name.
const METHOD_BYTES_MAX: usize = 32;

/// Why a request head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not a request line as RFC 9112 §3 has it.
    RequestLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// A target of a form that the method does not take, or with bytes that a target cannot have (RFC 9112 §3.2).
    Target,
    /// The target is longer than we take.
    TargetTooLong,
    /// TRACE, TRACK or CONNECT.
    Method,
    /// A header line with white space before the colon, a fold, a bad byte or a bare LF (RFC 9112 §5).
    FieldLine,
    /// More fields or bytes than we take.
    HeaderTooLarge,
    /// Host missing, twice, malformed, or not the target's authority (RFC 9112 §3.2).
    Host,
    /// Content-Length repeated or no number (RFC 9112 §6.3).
    ContentLength,
    /// Transfer-Encoding that is not just `chunked`, on HTTP/1.0, or beside Content-Length (RFC 9112 §6.1).
    TransferEncoding,
    /// Expect other than `100-continue` (RFC 9110 §10.1.1).
    Expect,
    /// Upgrade together with a body: the origin and we could disagree where it ends.
    UpgradeWithBody,
}

impl Refusal {
    /// The status it is answered with.
    pub fn status(self) -> u16 {
        match self {
            Refusal::Version => 505,
            Refusal::TargetTooLong => 414,
            Refusal::Method => 405,
            Refusal::HeaderTooLarge => 431,
            Refusal::Expect => 417,
            _ => 400,
        }
    }

    /// The word for log and metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::RequestLine => "bad_request_line",
            Refusal::Version => "bad_version",
            Refusal::Target => "bad_target",
            Refusal::TargetTooLong => "target_too_long",
            Refusal::Method => "method_not_allowed",
            Refusal::FieldLine => "bad_field_line",
            Refusal::HeaderTooLarge => "header_too_large",
            Refusal::Host => "bad_host",
            Refusal::ContentLength => "bad_content_length",
            Refusal::TransferEncoding => "bad_transfer_encoding",
            Refusal::Expect => "bad_expect",
            Refusal::UpgradeWithBody => "upgrade_with_body",
        }
    }
}

/// How the body of a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// After so many bytes; 0 when there is none.
    Length(u64),
    /// Chunked.
    Chunked,
    /// The connection stops being HTTP when the origin agrees (websockets).
    Upgrade,
}

/// A head that may pass.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// How its body ends.
    pub body: BodyKind,
    /// The bytes to hand on when they differ from those received (an absolute-form target made origin-form).
    pub rewritten: Option<BytesMut>,
}

/// Where the head in `buf` ends (after its empty line), if it is all there. `from` is where to go on searching.
pub fn end_of_head(buf: &[u8], from: usize) -> Option<usize> {
    let start = from.saturating_sub(3);
    let hay = buf.get(start..)?;
    // A head with bare LF line ends is complete too: it has to be seen to be refused.
    let mut i = 0;
    while let Some(p) = hay.get(i..)?.iter().position(|b| *b == b'\n') {
        let at = i + p;
        match (hay.get(at + 1), hay.get(at + 2)) {
            (Some(b'\n'), _) => return Some(start + at + 2),
            (Some(b'\r'), Some(b'\n')) => return Some(start + at + 3),
            _ => i = at + 1,
        }
    }
    None
}

#[derive(Default)]
struct Fields<'a> {
    count: usize,
    host: Option<&'a [u8]>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    websocket: bool,
}

/// Judges a whole head, empty line included.
pub fn inspect(head: &[u8]) -> Result<Head, Refusal> {
    let (line, rest) = cut_line(head).ok_or(Refusal::RequestLine)?;
    let (method, target, http11) = request_line(line)?;
    let mut f = Fields::default();
    let mut left = rest;
    loop {
        let (line, next) = cut_line(left).ok_or(Refusal::FieldLine)?;
        if line.is_empty() {
            break;
        }
        field(line, http11, &mut f)?;
        left = next;
    }
    let origin_target = check_target(method, target, &f, http11)?;
    if f.chunked && f.length.is_some() {
        return Err(Refusal::TransferEncoding);
    }
    let has_body = f.chunked || f.length.is_some_and(|n| n > 0);
    if f.upgrade && f.websocket && has_body {
        return Err(Refusal::UpgradeWithBody);
    }
    let body = match (f.chunked, f.upgrade && f.websocket) {
        (true, _) => BodyKind::Chunked,
        (_, true) => BodyKind::Upgrade,
        _ => BodyKind::Length(f.length.unwrap_or(0)),
    };
    let rewritten = origin_target.map(|path| {
        let mut b = BytesMut::with_capacity(head.len());
        b.put_slice(method);
        b.put_slice(b" ");
        b.put_slice(path);
        b.put_slice(if http11 { b" HTTP/1.1\r\n" } else { b" HTTP/1.0\r\n" });
        b.put_slice(rest);
        b
    });
    Ok(Head { body, rewritten })
}

/// Splits off a line that ends in CRLF and has no other CR or LF.
fn cut_line(buf: &[u8]) -> Option<(&[u8], &[u8])> {
    let lf = buf.iter().position(|b| *b == b'\n')?;
    let line = buf.get(..lf)?.strip_suffix(b"\r")?;
    if line.contains(&b'\r') {
        return None;
    }
    Some((line, buf.get(lf + 1..)?))
}

fn request_line(line: &[u8]) -> Result<(&[u8], &[u8], bool), Refusal> {
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::RequestLine);
    };
    if method.is_empty() || method.len() > METHOD_BYTES_MAX || !method.iter().all(|b| is_token(*b)) {
        return Err(Refusal::RequestLine);
    }
    let http11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        v if v.len() == 8 && v.starts_with(b"HTTP/") => return Err(Refusal::Version),
        _ => return Err(Refusal::RequestLine),
    };
    if matches!(method, b"TRACE" | b"TRACK" | b"CONNECT") {
        return Err(Refusal::Method);
    }
    if target.len() > TARGET_BYTES_MAX {
        return Err(Refusal::TargetTooLong);
    }
    Ok((method, target, http11))
}

/// Checks target and Host together; gives the origin form when the target came in absolute form.
fn check_target<'a>(
    method: &[u8],
    target: &'a [u8],
    f: &Fields<'_>,
    http11: bool,
) -> Result<Option<&'a [u8]>, Refusal> {
    if target.iter().any(|b| *b <= b' ' || *b >= 0x7f || matches!(b, b'#' | b'\\' | b'"' | b'<' | b'>')) {
        return Err(Refusal::Target);
    }
    match f.host {
        None if http11 => return Err(Refusal::Host),
        Some(h) if !valid_authority(h) => return Err(Refusal::Host),
        _ => {}
    }
    if target.first() == Some(&b'/') {
        return Ok(None);
    }
    if target == b"*" {
        return if method == b"OPTIONS" { Ok(None) } else { Err(Refusal::Target) };
    }
    let lower = target.get(..8.min(target.len())).unwrap_or_default().to_ascii_lowercase();
    let rest = if lower.starts_with(b"http://") {
        target.get(7..)
    } else if lower == b"https://" {
        target.get(8..)
    } else {
        None
    }
    .ok_or(Refusal::Target)?;
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || !f.host.is_some_and(|h| h.eq_ignore_ascii_case(authority)) {
        return Err(Refusal::Host);
    }
    match path.first() {
        None => Ok(Some(b"/")),
        Some(b'/') => Ok(Some(path)),
        _ => Err(Refusal::Target),
    }
}

fn field<'a>(line: &'a [u8], http11: bool, f: &mut Fields<'a>) -> Result<(), Refusal> {
    f.count += 1;
    if f.count > FIELDS_MAX {
        return Err(Refusal::HeaderTooLarge);
    }
    let colon = line.iter().position(|b| *b == b':').ok_or(Refusal::FieldLine)?;
    let (name, value) = (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default());
    if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
        return Err(Refusal::FieldLine);
    }
    if value.iter().any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f) {
        return Err(Refusal::FieldLine);
    }
    let value = value.trim_ascii();
    match name.len() {
        4 if name.eq_ignore_ascii_case(b"host") && f.host.replace(value).is_some() => {
            return Err(Refusal::Host);
        }
        6 if name.eq_ignore_ascii_case(b"expect") && !value.eq_ignore_ascii_case(b"100-continue") => {
            return Err(Refusal::Expect);
        }
        7 if name.eq_ignore_ascii_case(b"upgrade") => f.websocket |= value.eq_ignore_ascii_case(b"websocket"),
        10 if name.eq_ignore_ascii_case(b"connection") => {
            f.upgrade |= value.split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
        }
        14 if name.eq_ignore_ascii_case(b"content-length")
            && f.length.replace(number(value).ok_or(Refusal::ContentLength)?).is_some() =>
        {
            return Err(Refusal::ContentLength);
        }
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
            if !http11 || f.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::TransferEncoding);
            }
            f.chunked = true;
        }
        // Some servers read names with an underscore as if it were a hyphen: such a twin of a framing field is refused.
        14 | 17 if is_underscored_framing(name) => return Err(Refusal::FieldLine),
        _ => {}
    }
    Ok(())
}

fn is_underscored_framing(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"content_length") || name.eq_ignore_ascii_case(b"transfer_encoding")
}

/// RFC 9110 §5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests;
