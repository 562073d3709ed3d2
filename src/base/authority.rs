//! The grammar of authorities (`host[:port]`), strict: real host names and address literals only.

/// Digits only, and no more of them than a length can have.
pub fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// `uri-host [":" port]` (RFC 9110 §7.2) with the characters that real host names and address literals have.
pub fn valid_authority(host: &[u8]) -> bool {
    let (name, port) = if let Some(rest) = host.strip_prefix(b"[") {
        let Some(end) = rest.iter().position(|b| *b == b']') else { return false };
        let (addr, tail) = rest.split_at(end);
        let ok = std::str::from_utf8(addr).is_ok_and(|a| a.parse::<std::net::Ipv6Addr>().is_ok());
        let tail = tail.get(1..).unwrap_or_default();
        if !ok || !(tail.is_empty() || tail.first() == Some(&b':')) {
            return false;
        }
        (b"v6".as_slice(), tail.get(1..))
    } else {
        match host.iter().position(|b| *b == b':') {
            Some(i) => (host.get(..i).unwrap_or_default(), host.get(i + 1..)),
            None => (host, None),
        }
    };
    let port_ok =
        port.is_none_or(|p| p.is_empty() || (p.len() <= 5 && number(p).is_some_and(|n| (1..=65535).contains(&n))));
    let name_ok = !name.is_empty()
        && name.len() <= 255
        && name.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(b))
        && !name.starts_with(b".")
        && !name.windows(2).any(|w| w == b"..");
    port_ok && name_ok
}
