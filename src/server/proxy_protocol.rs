//! PROXY protocol, versions 1 and 2 (the HAProxy specification): who really connected.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest version 1 line, CRLF included.
const V1_BYTES_MAX: usize = 107;
/// Longest version 2 header that is taken, TLVs included.
const V2_BYTES_MAX: usize = 4096;

/// What stands in front of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not all there yet.
    More,
    /// The header took so many bytes; addresses are absent for health checks (`LOCAL`, `UNKNOWN`).
    Done(usize, Option<(SocketAddr, SocketAddr)>),
    /// Not a PROXY protocol header.
    Bad,
}

/// Reads the header at the start of `buf`; the addresses are source and destination.
pub fn parse(buf: &[u8]) -> Parsed {
    let probe = buf.len().min(V2_SIGNATURE.len());
    if buf.get(..probe) == V2_SIGNATURE.get(..probe) && !buf.is_empty() {
        return if probe == V2_SIGNATURE.len() { v2(buf) } else { Parsed::More };
    }
    let probe = buf.len().min(6);
    if buf.get(..probe) != b"PROXY ".get(..probe) {
        return Parsed::Bad;
    }
    match buf.iter().take(V1_BYTES_MAX).position(|b| *b == b'\n') {
        Some(lf) => v1(buf.get(..=lf).unwrap_or_default()).unwrap_or(Parsed::Bad),
        None if buf.len() < V1_BYTES_MAX => Parsed::More,
        None => Parsed::Bad,
    }
}

fn v1(line: &[u8]) -> Option<Parsed> {
    let text = std::str::from_utf8(line.strip_suffix(b"\r\n")?).ok()?;
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Some(Parsed::Done(line.len(), None)),
        ["PROXY", family @ ("TCP4" | "TCP6"), src, dst, sport, dport] => {
            let (src, dst): (IpAddr, IpAddr) = (src.parse().ok()?, dst.parse().ok()?);
            if src.is_ipv4() != (*family == "TCP4") || dst.is_ipv4() != src.is_ipv4() {
                return None;
            }
            let pair = (SocketAddr::new(src, sport.parse().ok()?), SocketAddr::new(dst, dport.parse().ok()?));
            Some(Parsed::Done(line.len(), Some(pair)))
        }
        _ => None,
    }
}

fn v2(buf: &[u8]) -> Parsed {
    let (Some(version), Some(family), Some(len)) = (buf.get(12), buf.get(13), be16(buf, 14)) else {
        return Parsed::More;
    };
    let total = 16 + usize::from(len);
    if version >> 4 != 2 || total > V2_BYTES_MAX {
        return Parsed::Bad;
    }
    let Some(body) = buf.get(16..total) else { return Parsed::More };
    match (version & 0xf, family >> 4) {
        (0, _) => Parsed::Done(total, None),
        (1, 1) => v2_addresses(body, total, 4),
        (1, 2) => v2_addresses(body, total, 16),
        (1, _) => Parsed::Done(total, None),
        _ => Parsed::Bad,
    }
}

fn v2_addresses(body: &[u8], total: usize, size: usize) -> Parsed {
    let pair = || {
        let src = SocketAddr::new(address(body.get(..size)?)?, be16(body, 2 * size)?);
        let dst = SocketAddr::new(address(body.get(size..2 * size)?)?, be16(body, 2 * size + 2)?);
        Some((src, dst))
    };
    pair().map_or(Parsed::Bad, |p| Parsed::Done(total, Some(p)))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}

fn be16(buf: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*buf.get(at)?, *buf.get(at + 1)?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_lines() {
        let line = b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\nGET";
        let pair = ("192.0.2.7:5000".parse().unwrap(), "192.0.2.1:443".parse().unwrap());
        assert_eq!(parse(line), Parsed::Done(line.len() - 3, Some(pair)));
        assert_eq!(parse(b"PROXY UNKNOWN\r\n"), Parsed::Done(15, None));
        assert_eq!(parse(b"PROX"), Parsed::More);
        for bad in
            [&b"GET / HTTP/1.1\r\n"[..], b"PROXY TCP4 ::1 ::1 1 2\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n"]
        {
            assert_eq!(parse(bad), Parsed::Bad);
        }
        assert_eq!(parse(&[b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat()), Parsed::Bad);
    }

    #[test]
    fn version_2_headers_at_every_cut() {
        let mut h = V2_SIGNATURE.to_vec();
        h.extend([0x21, 0x11, 0, 15, 192, 0, 2, 7, 192, 0, 2, 1, 0x13, 0x88, 1, 0xbb, 4, 0, 0]);
        for cut in 1..h.len() {
            assert_eq!(parse(&h[..cut]), Parsed::More, "{cut}");
        }
        let pair = ("192.0.2.7:5000".parse().unwrap(), "192.0.2.1:443".parse().unwrap());
        assert_eq!(parse(&h), Parsed::Done(h.len(), Some(pair)));
        h[12] = 0x20;
        assert_eq!(parse(&h), Parsed::Done(h.len(), None));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(b in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            parse(&b);
            parse(&[V2_SIGNATURE.as_slice(), &b].concat());
        }
    }
}
