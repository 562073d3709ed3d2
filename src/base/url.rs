//! Base URLs of upstreams and providers, taken apart once when the configuration is compiled.

/// An `http://` or `https://` base URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    /// `https`.
    pub tls: bool,
    /// Host name or address literal, without brackets.
    pub host: String,
    /// Port, defaulted from the scheme.
    pub port: u16,
    /// Path prefix without a trailing slash; empty for the root.
    pub path: String,
}

/// Why a text is no base URL.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UrlError {
    /// Neither `http://` nor `https://`.
    #[error("{0:?} must start with http:// or https://")]
    Scheme(String),
    /// No host, user info, a query, or a bad port.
    #[error("{0:?} is not a base URL (scheme://host[:port][/path])")]
    Shape(String),
}

impl BaseUrl {
    /// Parses `scheme://host[:port][/path]`.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let shape = || UrlError::Shape(text.to_owned());
        let uri: http::Uri = text.parse().map_err(|_| shape())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(UrlError::Scheme(text.to_owned())),
        };
        let authority = uri.authority().ok_or_else(shape)?;
        if authority.as_str().contains('@') || uri.query().is_some() || uri.host().unwrap_or("").is_empty() {
            return Err(shape());
        }
        let port = match authority.port_u16() {
            Some(p) if p > 0 => p,
            None if authority.as_str() == authority.host() => {
                if tls {
                    443
                } else {
                    80
                }
            }
            _ => return Err(shape()),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Ok(BaseUrl { tls, host, port, path: uri.path().trim_end_matches('/').to_owned() })
    }

    /// The `Host` field's value: the port is left out when it is the scheme's own.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

/// A text with its percent-escapes decoded (RFC 3986 §2.1); `None` where they spell no UTF-8.
pub fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        let code = code.filter(|_| *first == b'%').and_then(|h| u8::from_str_radix(h, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints_authority() {
        let u = BaseUrl::parse("https://API.example.com/v1/").unwrap();
        assert_eq!((u.tls, u.host.as_str(), u.port, u.path.as_str()), (true, "api.example.com", 443, "/v1"));
        assert_eq!(u.authority(), "api.example.com");
        let v6 = BaseUrl::parse("http://[::1]:8080").unwrap();
        assert_eq!(v6.authority(), "[::1]:8080");
    }

    #[test]
    fn refuses_what_is_no_base_url() {
        for bad in ["ftp://x", "x", "http://", "http://u:p@h", "http://h?x=1", "http://h:99999", "http://h:0"] {
            assert!(BaseUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
