//! `Cache-Control` read without regular expressions (RFC 9111 §5.2), and its targeted form (RFC 9213).

use http::{HeaderMap, HeaderName, header};

/// A delta-seconds argument (RFC 9111 §1.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delta {
    /// The directive is not there.
    #[default]
    Absent,
    /// Seconds; values above 2^31-1 are held as that.
    Secs(u32),
    /// There, but no number, or there twice with different values.
    Invalid,
}

impl Delta {
    /// The number, if there is a valid one.
    pub fn secs(self) -> Option<u32> {
        match self {
            Delta::Secs(s) => Some(s),
            _ => None,
        }
    }

    /// Adds another occurrence of the same directive.
    fn and(self, new: Delta) -> Delta {
        match (self, new) {
            (Delta::Absent, n) => n,
            (Delta::Secs(a), Delta::Secs(b)) if a == b => self,
            _ => Delta::Invalid,
        }
    }
}

/// The argument of `private` and `no-cache`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fields {
    /// The directive is not there.
    #[default]
    Absent,
    /// It concerns the whole response.
    All,
    /// It concerns these fields only.
    Names(Vec<HeaderName>),
}

impl Fields {
    fn add(&mut self, arg: Option<&str>) {
        let Some(names) = arg.and_then(field_names) else {
            // Without a readable list of names the whole response is meant: the careful reading.
            *self = Fields::All;
            return;
        };
        match self {
            Fields::Absent => *self = Fields::Names(names),
            Fields::All => {}
            Fields::Names(have) => have.extend(names),
        }
    }
}

fn field_names(list: &str) -> Option<Vec<HeaderName>> {
    let names: Option<Vec<_>> =
        list.split(',').map(str::trim).filter(|n| !n.is_empty()).map(|n| n.parse().ok()).collect();
    names.filter(|n| !n.is_empty())
}

/// The directives of a request or a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// `max-age`.
    pub max_age: Delta,
    /// `s-maxage`.
    pub s_maxage: Delta,
    /// `stale-while-revalidate` (RFC 5861).
    pub stale_while_revalidate: Delta,
    /// `stale-if-error` (RFC 5861).
    pub stale_if_error: Delta,
    /// `min-fresh` (requests).
    pub min_fresh: Delta,
    /// `max-stale` (requests); without an argument it is the greatest number.
    pub max_stale: Delta,
    /// `no-cache`.
    pub no_cache: Fields,
    /// `private`.
    pub private: Fields,
    /// The directives without an argument.
    pub flags: Flags,
}

/// Directives that are there or not; arguments given to them are ignored (RFC 9111 §5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// `no-store`.
    pub const NO_STORE: u8 = 1;
    /// `public`.
    pub const PUBLIC: u8 = 2;
    /// `must-revalidate`.
    pub const MUST_REVALIDATE: u8 = 4;
    /// `proxy-revalidate`.
    pub const PROXY_REVALIDATE: u8 = 8;
    /// `must-understand`.
    pub const MUST_UNDERSTAND: u8 = 16;
    /// `no-transform`.
    pub const NO_TRANSFORM: u8 = 32;
    /// `only-if-cached` (requests).
    pub const ONLY_IF_CACHED: u8 = 64;

    /// Whether the directive is there.
    pub fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }
}

impl CacheControl {
    /// Reads all `Cache-Control` lines of a message. Never fails: what cannot be read is taken the careful way.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut cc = CacheControl::default();
        for line in headers.get_all(header::CACHE_CONTROL) {
            cc.read_line(&String::from_utf8_lossy(line.as_bytes()));
        }
        cc
    }

    /// Reads one line.
    pub fn read_line(&mut self, line: &str) {
        let mut rest = line;
        while let Some((name, arg, after)) = next_directive(rest) {
            self.set(&name.to_ascii_lowercase(), arg.as_deref());
            rest = after;
        }
    }

    pub(super) fn set(&mut self, name: &str, arg: Option<&str>) {
        let flag = |f: u8| Flags(f);
        let on = match name {
            "max-age" => return self.max_age = self.max_age.and(delta(arg)),
            "s-maxage" => return self.s_maxage = self.s_maxage.and(delta(arg)),
            "stale-while-revalidate" => {
                return self.stale_while_revalidate = self.stale_while_revalidate.and(delta(arg));
            }
            "stale-if-error" => return self.stale_if_error = self.stale_if_error.and(delta(arg)),
            "min-fresh" => return self.min_fresh = self.min_fresh.and(delta(arg)),
            "max-stale" => {
                let d = if arg.is_none() { Delta::Secs(SECS_MAX) } else { delta(arg) };
                return self.max_stale = self.max_stale.and(d);
            }
            "no-cache" => return self.no_cache.add(arg),
            "private" => return self.private.add(arg),
            "no-store" => flag(Flags::NO_STORE),
            "public" => flag(Flags::PUBLIC),
            "must-revalidate" => flag(Flags::MUST_REVALIDATE),
            "proxy-revalidate" => flag(Flags::PROXY_REVALIDATE),
            "must-understand" => flag(Flags::MUST_UNDERSTAND),
            "no-transform" => flag(Flags::NO_TRANSFORM),
            "only-if-cached" => flag(Flags::ONLY_IF_CACHED),
            _ => return,
        };
        self.flags.0 |= on.0;
    }

    /// Whether the flag directive is there.
    pub fn has(&self, flag: u8) -> bool {
        self.flags.has(flag)
    }
}

/// RFC 9111 §1.2.2: what is greater counts as this.
pub const SECS_MAX: u32 = 2_147_483_647;

/// A delta-seconds value; the quoted form is taken too (§5.2: recipients ought to accept both forms).
fn delta(arg: Option<&str>) -> Delta {
    let Some(digits) = arg else { return Delta::Invalid };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Delta::Invalid;
    }
    Delta::Secs(digits.parse::<u32>().unwrap_or(SECS_MAX).min(SECS_MAX))
}

/// Takes the next `name[=value]` off a comma-separated list; the argument comes without its quotes.
pub(super) fn next_directive(text: &str) -> Option<(&str, Option<String>, &str)> {
    let text = text.trim_start_matches([',', ' ', '\t']);
    if text.is_empty() {
        return None;
    }
    let end = text.find([',', '=']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let Some(value) = rest.strip_prefix('=') else {
        return Some((name.trim_end(), None, rest));
    };
    if let Some(quoted) = value.strip_prefix('"') {
        let (arg, after) = unquote(quoted);
        // Anything between the closing quote and the comma makes the value unreadable.
        let cut = after.find(',').unwrap_or(after.len());
        let (junk, after) = after.split_at(cut);
        let arg = if junk.trim().is_empty() { arg } else { format!("{arg}{junk}") };
        return Some((name, Some(arg), after));
    }
    let cut = value.find(',').unwrap_or(value.len());
    let (arg, after) = value.split_at(cut);
    Some((name, Some(arg.trim_end().to_owned()), after))
}

/// The text up to the closing quote with escapes undone (RFC 9110 §5.6.4), and what follows the quote.
fn unquote(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (out, text.get(at + 1..).unwrap_or("")),
            '\\' => out.extend(chars.next().map(|(_, c)| c)),
            c => out.push(c),
        }
    }
    (out, "")
}

#[cfg(test)]
mod tests;
