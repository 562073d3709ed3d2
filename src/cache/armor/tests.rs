//! Tests of the protections: what a client may not make the cache store.

use super::super::{Directives, RouteCache};
use super::*;
use crate::config::cache as config;
use pingora::http::ResponseHeader;
use std::time::{Duration, SystemTime};

struct Case<'a> {
    route: &'a str,
    target: &'a str,
    asked: &'a [(&'static str, &'a str)],
    status: u16,
    answer: &'a [(&'static str, &'a str)],
}

impl Case<'_> {
    fn check(&self) -> Result<(), NoStore> {
        let route = serde_yaml::from_str::<config::RouteCache>(self.route).unwrap();
        let route = RouteCache::compile(&route).unwrap().unwrap();
        let mut header = ResponseHeader::build(self.status, None).unwrap();
        for (n, v) in self.answer {
            header.append_header(*n, *v).unwrap();
        }
        let mut headers = HeaderMap::new();
        for (n, v) in self.asked {
            headers.append(*n, v.parse().unwrap());
        }
        let script = Directives::default();
        let answer = Answer {
            header: &header,
            authorized: false,
            plain: true,
            now: SystemTime::UNIX_EPOCH,
            waited: Duration::ZERO,
            route: &route,
            script: &script,
            object_bytes_max: 1000,
        };
        check(&Asked { target: self.target.as_bytes(), headers: &headers }, &answer)
    }
}

fn page(target: &str, answer: &[(&'static str, &str)]) -> Result<(), NoStore> {
    Case { route: "true", target, asked: &[], status: 200, answer }.check()
}

const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");

#[test]
fn a_page_under_the_name_of_a_file_is_refused_however_the_name_is_attached() {
    for target in [
        "/account/x.css",
        "/account/x.CSS?v=1",
        "/account/x.css/",
        "/account;x.css",
        "/account;jsessionid=1.png",
        "/account/x.css;a=b",
        "/account%3Bx.js",
        "/account%0Ax.png",
        "/account%00x.woff2",
        "/account%2Fx.css",
        "/account%252Fx.css",
        "/account%23x.jpg",
        "/account%3Fx.pdf",
        "/account%5Cx.ico",
    ] {
        assert_eq!(page(target, &[HTML]), Err(NoStore::Deception), "{target}");
        assert_eq!(page(target, &[]), Err(NoStore::Deception), "{target}: no type at all");
        assert_eq!(page(target, &[("content-type", "application/octet-stream")]), Ok(()), "{target}");
    }
    for target in ["/account", "/v1.2/account", "/account/x.php", "/css/", "/x.css/account", "/?x.css", "/a.b%2Fc"] {
        assert_eq!(page(target, &[HTML]), Ok(()), "{target}");
    }
}

#[test]
fn a_file_of_its_own_kind_is_stored() {
    for (target, media) in [
        ("/x.css", "text/css"),
        ("/x.js", "application/javascript"),
        ("/x.mjs", "text/javascript; charset=utf-8"),
        ("/x.jpg", "image/webp"),
        ("/x.gif", "video/mp4"),
        ("/x.woff2", "font/woff2"),
        ("/x.eot", "application/vnd.ms-fontobject"),
        ("/x.zip", "application/zip"),
        ("/x.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("/x.pdf", "Application/PDF"),
        ("/x.csv", "text/csv"),
        ("/robots.txt", "text/plain"),
    ] {
        assert_eq!(page(target, &[("content-type", media)]), Ok(()), "{target} {media}");
    }
    for (target, media) in [("/x.js", "application/json"), ("/x.zip", "application/json"), ("/x.css", "text/plain")] {
        assert_eq!(page(target, &[("content-type", media)]), Err(NoStore::Deception), "{target} {media}");
    }
}

#[test]
fn the_origins_word_for_shared_caches_beats_the_armor_and_max_age_does_not() {
    for cc in ["public", "s-maxage=60", "public, max-age=1"] {
        assert_eq!(page("/wiki/File:x.jpg", &[HTML, ("cache-control", cc)]), Ok(()), "{cc}");
    }
    assert_eq!(page("/x.jpg", &[HTML, ("cdn-cache-control", "max-age=9")]), Ok(()));
    assert_eq!(page("/x.jpg", &[HTML, ("cache-control", "max-age=9")]), Err(NoStore::Deception));
    let off = Case { route: "{ deception_armor: false }", target: "/x.css", asked: &[], status: 200, answer: &[HTML] };
    assert_eq!(off.check(), Ok(()));
}

#[test]
fn an_error_page_for_a_missing_file_is_refused_only_with_cookies() {
    let case = Case { route: "true", target: "/x.css", asked: &[], status: 404, answer: &[HTML] };
    assert_eq!(case.check(), Ok(()));
    assert_eq!(Case { asked: &[("cookie", "a=1")], ..case }.check(), Err(NoStore::Deception));
}

#[test]
fn the_routes_own_ttl_does_not_keep_a_page_of_a_session() {
    let case = Case {
        route: "{ ttl: { default: 5m } }",
        target: "/account",
        asked: &[("cookie", "_ga=1; PHPSESSID=abc")],
        status: 200,
        answer: &[HTML],
    };
    assert_eq!(case.check(), Err(NoStore::SessionCookie));
    for name in ["connect.sid", "sid", "wordpress_logged_in_1", "csrftoken", "auth0", "JSESSIONID"] {
        let cookie = format!("x=1; {name}=1");
        assert_eq!(Case { asked: &[("cookie", &cookie)], ..case }.check(), Err(NoStore::SessionCookie), "{name}");
    }
    assert_eq!(Case { asked: &[("cookie", "_ga=1; lang=de")], ..case }.check(), Ok(()));
    assert_eq!(Case { route: "true", ..case }.check(), Ok(()), "the origin's own times decide");
    assert_eq!(Case { answer: &[HTML, ("cache-control", "max-age=9")], ..case }.check(), Ok(()));
    assert_eq!(Case { answer: &[HTML, ("vary", "Cookie")], ..case }.check(), Ok(()));
    assert_eq!(Case { answer: &[("content-type", "image/png")], ..case }.check(), Ok(()));
    let keyed = "{ ttl: { default: 5m }, key: { cookies: [PHPSESSID] } }";
    assert_eq!(Case { route: keyed, ..case }.check(), Ok(()));
}

#[test]
fn an_error_in_answer_to_an_oversized_header_is_refused() {
    let long = "x".repeat(FIELD_BYTES_MAX);
    let half = "x".repeat(3000);
    let case = Case { route: "true", target: "/", asked: &[("x-a", &long)], status: 404, answer: &[] };
    assert_eq!(case.check(), Err(NoStore::OversizedRequest));
    assert_eq!(
        Case { status: 503, answer: &[("cache-control", "public")], ..case }.check(),
        Err(NoStore::OversizedRequest)
    );
    assert_eq!(Case { status: 200, ..case }.check(), Ok(()));
    let many: &[(&str, &str)] = &[("x-a", &half), ("x-b", &half), ("x-c", &half)];
    assert_eq!(Case { asked: many, ..case }.check(), Err(NoStore::OversizedRequest));
    assert_eq!(Case { asked: &[("x-a", &half)], ..case }.check(), Ok(()));
}

#[test]
fn method_overrides_are_seen_in_any_spelling() {
    for name in ["X-HTTP-Method-Override", "x-http-method", "X-Method-Override", "x_http_method_override"] {
        let mut headers = HeaderMap::new();
        headers.insert(http::HeaderName::try_from(name).unwrap(), "DELETE".parse().unwrap());
        assert!(overrides_method(&headers), "{name}");
    }
    let mut headers = HeaderMap::new();
    headers.insert("x-http-methods", "DELETE".parse().unwrap());
    assert!(!overrides_method(&headers));
}
