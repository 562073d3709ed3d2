//! The client's address, from the connection and from what trusted proxies say.

use http::HeaderMap;
use ipnet::IpNet;
use std::net::IpAddr;

/// Most hops looked at.
const HOPS_MAX: usize = 32;

/// Whether `ip` is in one of the networks.
pub fn trusted(ip: IpAddr, networks: &[IpNet]) -> bool {
    let ip = canonical(ip);
    networks.iter().any(|n| n.contains(&ip))
}

/// IPv4 addresses mapped into IPv6 are IPv4 addresses.
pub fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// The client's address: the rightmost hop of `X-Forwarded-For` that is not a trusted proxy, provided that the
/// connection itself comes from one; else the connection's own address.
pub fn address(peer: IpAddr, headers: &HeaderMap, networks: &[IpNet]) -> IpAddr {
    let mut best = canonical(peer);
    if !trusted(best, networks) {
        return best;
    }
    let fields: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok()).collect();
    for hop in fields.iter().rev().flat_map(|f| f.rsplit(',')).take(HOPS_MAX) {
        match parse_hop(hop.trim()) {
            Some(ip) => best = ip,
            None => break,
        }
        if !trusted(best, networks) {
            break;
        }
    }
    best
}

/// An address with or without a port and brackets.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let ip = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|s| s.ip()))
        .or_else(|| text.trim_matches(['[', ']']).parse().ok())?;
    Some(canonical(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, xff: &[&str]) -> String {
        let nets = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let headers = xff
            .iter()
            .map(|v| (http::HeaderName::from_static("x-forwarded-for"), http::HeaderValue::from_str(v).unwrap()))
            .collect();
        address(peer.parse().unwrap(), &headers, &nets).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(client("192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 203.0.113.9, 10.0.0.2"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["6.6.6.6", "203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["6.6.6.6, garbage, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client("::ffff:10.0.0.1", &["[2001:db8::7]:443"]), "2001:db8::7");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }
}
