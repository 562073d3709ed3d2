//! Where a request carries its token.

use super::Fault;
use crate::config::auth::TokenFrom;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName};
use std::borrow::Cow;

/// The places to look, names checked once.
#[derive(Debug)]
pub struct Places {
    header: Option<HeaderName>,
    cookie: Option<String>,
    query: Option<String>,
}

impl Places {
    /// Checks the names; a fault comes with the key it belongs to.
    pub fn new(from: &TokenFrom) -> Result<Self, (&'static str, Fault)> {
        if from.header.is_none() && from.cookie.is_none() && from.query.is_none() {
            return Err(("", Fault::Value("no place to take the token from")));
        }
        let header = match &from.header {
            Some(name) => Some(
                HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| (".header", Fault::Value("not the name of a header field")))?,
            ),
            None => None,
        };
        let word = |s: &Option<String>| s.as_ref().is_none_or(|s| !s.is_empty() && s.bytes().all(is_token_byte));
        if !word(&from.cookie) {
            return Err((".cookie", Fault::Value("not the name of a cookie")));
        }
        if !word(&from.query) {
            return Err((".query", Fault::Value("a query parameter's name is made of letters, digits and -_.")));
        }
        Ok(Places { header, cookie: from.cookie.clone(), query: from.query.clone() })
    }

    /// The token: the first place that has exactly one. A field or parameter that stands twice is ambiguous (the app
    /// behind may read the other one), so it counts as absent.
    pub fn find<'a>(&self, headers: &'a HeaderMap, query: Option<&'a str>) -> Option<Cow<'a, str>> {
        let from_header = self.header.as_ref().and_then(|name| header(headers, name));
        let from_cookie = || self.cookie.as_deref().and_then(|name| cookie(headers, name));
        if let Some(token) = from_header.or_else(from_cookie) {
            return Some(Cow::Borrowed(token));
        }
        parameter(query?, self.query.as_deref()?)
    }
}

fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')
}

fn only<T>(mut found: impl Iterator<Item = T>) -> Option<T> {
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// The token of a field that stands once.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let value = only(headers.get_all(name).iter())?.to_str().ok()?.trim();
    let bearer = value
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim_start());
    let token = if *name == AUTHORIZATION { bearer? } else { bearer.unwrap_or(value) };
    (!token.is_empty()).then_some(token)
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    let values = pairs.filter_map(|p| p.trim().split_once('=')).filter(|(n, _)| *n == name).map(|(_, v)| v);
    only(values).map(|v| v.trim_matches('"')).filter(|v| !v.is_empty())
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let value = only(query.split('&').filter_map(|p| p.split_once('=')).filter(|(n, _)| *n == name))?.1;
    // A token is base64url and dots, which nobody needs to escape; a few clients escape the dots all the same.
    let value = if value.contains('%') { Cow::Owned(unescape_dots(value)) } else { Cow::Borrowed(value) };
    (!value.is_empty()).then_some(value)
}

fn unescape_dots(value: &str) -> String {
    value
        .replace("%2E", ".")
        .replace("%2e", ".")
        .replace("%2D", "-")
        .replace("%2d", "-")
        .replace("%5F", "_")
        .replace("%5f", "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn places(header: Option<&str>, cookie: Option<&str>, query: Option<&str>) -> Places {
        let own = |s: Option<&str>| s.map(str::to_owned);
        Places::new(&TokenFrom { header: own(header), cookie: own(cookie), query: own(query) }).unwrap()
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn rfc6750_2_1_authorization_needs_the_bearer_scheme() {
        let p = places(Some("authorization"), None, None);
        for (value, want) in [
            ("Bearer a.b.c", Some("a.b.c")),
            ("bearer  a.b.c ", Some("a.b.c")),
            ("Basic YTpi", None),
            ("a.b.c", None),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearera.b.c", None),
        ] {
            assert_eq!(p.find(&headers(&[("authorization", value)]), None).as_deref(), want, "{value}");
        }
        let twice = headers(&[("authorization", "Bearer a.b.c"), ("authorization", "Bearer d.e.f")]);
        assert_eq!(p.find(&twice, None), None);
    }

    #[test]
    fn another_header_may_hold_the_bare_token() {
        let p = places(Some("X-Token"), None, None);
        assert_eq!(p.find(&headers(&[("x-token", "a.b.c")]), None).as_deref(), Some("a.b.c"));
        assert_eq!(p.find(&headers(&[("x-token", "Bearer a.b.c")]), None).as_deref(), Some("a.b.c"));
        assert_eq!(p.find(&headers(&[("authorization", "Bearer a.b.c")]), None), None);
    }

    #[test]
    fn the_order_is_header_cookie_query() {
        let p = places(Some("authorization"), Some("sid"), Some("access_token"));
        let h = headers(&[("authorization", "Bearer h"), ("cookie", "a=1; sid=\"c\"; sidx=no")]);
        assert_eq!(p.find(&h, Some("access_token=q")).as_deref(), Some("h"));
        let h = headers(&[("authorization", "Basic x"), ("cookie", "a=1; sid=\"c\"; sidx=no")]);
        assert_eq!(p.find(&h, Some("access_token=q")).as_deref(), Some("c"));
        assert_eq!(p.find(&HeaderMap::new(), Some("x=1&access_token=q%2Er")).as_deref(), Some("q.r"));
        assert_eq!(p.find(&HeaderMap::new(), Some("access_token=a&access_token=b")), None);
        assert_eq!(p.find(&HeaderMap::new(), Some("access_token=")), None);
        assert_eq!(p.find(&headers(&[("cookie", "sid=a; sid=b")]), None), None);
    }

    #[test]
    fn names_are_checked_when_compiled() {
        let bad = |h: Option<&str>, c: Option<&str>, q: Option<&str>| {
            let own = |s: Option<&str>| s.map(str::to_owned);
            Places::new(&TokenFrom { header: own(h), cookie: own(c), query: own(q) }).unwrap_err().0
        };
        assert_eq!(bad(None, None, None), "");
        assert_eq!(bad(Some("a b"), None, None), ".header");
        assert_eq!(bad(None, Some("a;b"), None), ".cookie");
        assert_eq!(bad(None, None, Some("a=b")), ".query");
    }
}
