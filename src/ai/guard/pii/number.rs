//! Numbers that name people: accounts, cards, tax and insurance numbers, addresses of machines, phones.

use super::{before, isolated, sums};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// The beginning of an IBAN; the country says how far it goes.
pub const IBAN: &str = r"[A-Za-z]{2}[0-9]{2} ?[A-Za-z0-9]";
/// Digits that a card may begin with, with single blanks or hyphens between.
pub const CARD: &str = r"[2-6](?:[ -]?[0-9]){12,18}";
/// Nine digits, grouped or not.
pub const SSN: &str = r"[0-9]{3}(?:-[0-9]{2}-| [0-9]{2} |[0-9]{2})[0-9]{4}";
/// Eleven digits, grouped or not.
pub const TAX_ID: &str = r"[1-9][0-9](?: ?[0-9]{3}){3}";
/// Four numbers.
pub const V4: &str = r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}";
/// Groups of hexadecimal digits.
pub const V6: &str = r"[0-9A-Fa-f]{3,4}(?::[0-9A-Fa-f]{0,4}){2,7}";
/// Digits with the marks that people write between them.
pub const PHONE: &str = r"(?:\+|\()?[0-9](?:[ ()./\x{a0}-]{0,2}[0-9]){5,19}";

/// Words before a number that say that it is none of a person's.
const COUNTED: [&str; 20] = [
    "order", "invoice", "ticket", "case", "tracking", "isbn", "issn", "sku", "part", "serial", "version", "build",
    "ref", "article", "item", "bestell", "rechnung", "auftrag", "artikel", "commit",
];
/// Words before dotted numbers that are no address.
const VERSIONS: [&str; 9] = ["version", "ver.", "release", "firmware", "build", "section", "chapter", "rev", "§"];
/// Words before a phone number.
const PHONES: [&str; 14] = [
    "phone",
    "tel",
    "mobil",
    "cell",
    "fax",
    "call",
    "handy",
    "whatsapp",
    "sms",
    "reach me",
    "ring",
    "rufnummer",
    "tél",
    "number is",
];
/// Words before a social security number.
const SSNS: [&str; 3] = ["ssn", "social security", "social-security"];
/// Words before a German tax id.
const TAX_IDS: [&str; 8] = ["steuer", "idnr", "id-nr", "identifikationsnummer", "tax id", "tax-id", "tin", "taxpayer"];
/// Numbers that were printed in advertisements and are nobody's.
const VOID_SSNS: [&str; 3] = ["078051120", "219099999", "123456789"];

fn near(text: &str, at: usize, bytes: usize, words: &[&str]) -> bool {
    let context = before(text, at, bytes);
    words.iter().any(|w| context.contains(w))
}

fn digits(text: &str) -> Vec<u8> {
    text.bytes().filter(u8::is_ascii_digit).map(|b| b - b'0').collect()
}

/// Country, length and check digits, with single blanks anywhere between.
pub fn iban(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let country = text.get(at.start..at.start + 2)?.to_ascii_uppercase();
    let length = sums::iban_length(&country)?;
    let (mut compact, mut end, mut blank) = (String::new(), at.start, false);
    for (i, c) in text.get(at.start..)?.char_indices() {
        if c.is_ascii_alphanumeric() {
            compact.push(c.to_ascii_uppercase());
            (end, blank) = (at.start + i + 1, false);
        } else if c == ' ' && !blank {
            blank = true;
        } else {
            break;
        }
        if compact.len() == length {
            break;
        }
    }
    let at = at.start..end;
    (compact.len() == length && sums::iban(&compact) && isolated(text, &at)).then_some(at)
}

/// The issuers' lengths by the first digits (ISO/IEC 7812).
fn card_lengths(number: &[u8]) -> &'static [usize] {
    let head = number.iter().take(4).fold(0u32, |n, d| n * 10 + u32::from(*d));
    match head {
        4000..=4999 => &[19, 16, 13],
        5100..=5599 | 2221..=2720 => &[16],
        3400..=3499 | 3700..=3799 => &[15],
        3000..=3059 | 3600..=3699 | 3800..=3899 => &[14],
        3528..=3589 => &[16],
        6011 | 6440..=6599 | 6200..=6299 => &[19, 16],
        5000..=5099 | 5600..=5899 | 6300..=6399 | 6700..=6799 => &[16],
        _ => &[],
    }
}

/// Issuer, length, grouping and Luhn's sum.
pub fn card(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let all = text.get(at.clone()).filter(|_| !text.get(..at.start).is_some_and(|t| t.ends_with('+')))?;
    let places: Vec<usize> = all.bytes().enumerate().filter(|(_, b)| b.is_ascii_digit()).map(|(i, _)| i).collect();
    let number = digits(all);
    card_lengths(&number).iter().find_map(|n| {
        let end = places.get(n.checked_sub(1)?)? + 1;
        let at = at.start..at.start + end;
        let (own, number) = (all.get(..end)?, number.get(..*n)?);
        let next = all.as_bytes().get(end);
        let ends = !next.is_some_and(|b| b.is_ascii_digit() || *b == b'-');
        let varied = number.iter().any(|d| Some(d) != number.first());
        let good = ends && varied && grouped(own) && sums::luhn(number);
        (good && isolated(text, &at)).then_some(at)
    })
}

/// Groups as on cards (4-4-4-4, 4-6-5, 4-6-4), or none.
fn grouped(number: &str) -> bool {
    let mark = if number.contains(' ') { ' ' } else { '-' };
    if number.contains(' ') && number.contains('-') {
        return false;
    }
    let lengths: Vec<usize> = number.split(mark).map(str::len).collect();
    match lengths.as_slice() {
        [_] | [4, 6, 4 | 5] => true,
        [all @ .., last] => all.iter().all(|n| *n == 4) && (1..=4).contains(last),
        [] => false,
    }
}

/// The area, group and serial numbers that are given out; nine digits in a row only where a word says what they are.
pub fn ssn(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let own = text.get(at.clone())?;
    let bare = digits(own);
    let (area, group, serial) = (bare.get(..3)?, bare.get(3..5)?, bare.get(5..)?);
    let given = *area != [0, 0, 0] && *area != [6, 6, 6] && *area.first()? != 9;
    let given = given && *group != [0, 0] && *serial != [0, 0, 0, 0];
    let void = VOID_SSNS.contains(&own.replace(['-', ' '], "").as_str());
    let said = near(text, at.start, 32, &SSNS);
    let shaped = own.contains('-') && !near(text, at.start, 20, &COUNTED);
    (given && !void && (said || shaped) && isolated(text, &at)).then_some(at)
}

/// The check digit and the odd rule about repeated digits; ungrouped only where a word says what it is.
pub fn tax_id(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let own = text.get(at.clone())?;
    let shaped = own.matches(' ').count() == 3 && !near(text, at.start, 20, &COUNTED);
    let said = shaped || near(text, at.start, 48, &TAX_IDS);
    (said && sums::tax_id(&digits(own)) && isolated(text, &at)).then_some(at)
}

/// An IPv4 address that could be somebody's.
pub fn v4(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let ip: Ipv4Addr = text.get(at.clone())?.parse().ok()?;
    let somebody = !ip.is_unspecified() && !ip.is_loopback() && !ip.is_broadcast() && !ip.is_multicast();
    let address = isolated_address(text, &at) && !near(text, at.start, 16, &VERSIONS);
    (somebody && address).then_some(at)
}

/// As for numbers, but a slash may follow: the length of a prefix.
fn isolated_address(text: &str, at: &Range<usize>) -> bool {
    let slash = text.get(at.end..).is_some_and(|t| t.starts_with('/'));
    isolated(text, at) || (slash && isolated(text, &(at.start..text.len())))
}

/// An IPv6 address: it parses, and its first group is one that is given out.
pub fn v6(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let own = text.get(at.clone())?;
    let ip: Ipv6Addr = own.parse().ok()?;
    let first = ip.segments().first().copied()?;
    // Global unicast, unique local, link local; paths of programming languages (`dead::beef`) begin otherwise.
    let given = matches!(first, 0x2000..=0x3fff | 0xfc00..=0xfdff | 0xfe80..=0xfebf);
    let tail = text.get(at.end..)?.chars().next();
    let joined = tail.is_some_and(|c| c == ':' || c.is_ascii_alphanumeric() || c == '.');
    let left = text.get(..at.start)?.chars().next_back();
    let led = left.is_some_and(|c| c == ':' || c.is_ascii_alphanumeric());
    (given && !joined && !led && !IpAddr::V6(ip).is_loopback()).then_some(at)
}

/// International with a plus sign; North American by shape; any other where a word says so.
pub fn phone(text: &str, at: Range<usize>) -> Option<Range<usize>> {
    let own = text.get(at.clone())?;
    let most = match own.as_bytes() {
        [b'+', b'1' | b'7', ..] => 11,
        [b'+', ..] => 15,
        _ => usize::MAX,
    };
    let at = at.start..at.start + cut(own, most)?;
    let own = text.get(at.clone())?;
    let bare = digits(own);
    let good = match own.strip_prefix('+') {
        Some(_) => (8..=15).contains(&bare.len()) && *bare.first()? != 0,
        None if north_american(own, &bare) => !near(text, at.start, 20, &COUNTED),
        None => (7..=15).contains(&bare.len()) && near(text, at.start, 24, &PHONES) && !dated(own),
    };
    (good && isolated(text, &at)).then_some(at)
}

/// The end of the last group with which the number has no more digits than `most`.
fn cut(own: &str, most: usize) -> Option<usize> {
    let (mut count, mut end) = (0, None);
    let mut bytes = own.bytes().enumerate().peekable();
    while let Some((i, b)) = bytes.next() {
        count += usize::from(b.is_ascii_digit());
        let group_ends = b.is_ascii_digit() && !bytes.peek().is_some_and(|(_, b)| b.is_ascii_digit());
        if group_ends && count <= most {
            end = Some(i + 1);
        }
    }
    end
}

/// `(212) 555-0123`, `212-555-0123`, `1-212-555-0123`: area codes and exchanges begin with 2 to 9.
fn north_american(own: &str, bare: &[u8]) -> bool {
    let groups: Vec<usize> = own.split(|c: char| !c.is_ascii_digit()).filter(|g| !g.is_empty()).map(str::len).collect();
    let local = match (groups.as_slice(), bare.first()) {
        ([3, 3, 4], _) => bare,
        ([1, 3, 3, 4], Some(1)) => bare.get(1..).unwrap_or_default(),
        _ => return false,
    };
    let starts = |at: usize| local.get(at).is_some_and(|d| *d >= 2);
    starts(0) && starts(3)
}

/// `2026-11-21 10:00` and the like.
fn dated(own: &str) -> bool {
    let mut groups = own.split(['-', '/', '.', ' ']);
    let year = |g: Option<&str>| g.is_some_and(|g| g.len() == 4 && (g.starts_with("19") || g.starts_with("20")));
    let two = |g: Option<&str>| g.is_some_and(|g| g.len() == 2);
    year(groups.next()) && two(groups.next()) && two(groups.next())
}
