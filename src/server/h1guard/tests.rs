//! The clauses of RFC 9112 that keep two readers of one request from disagreeing.

use super::*;

fn judge(head: &str) -> Result<BodyKind, Refusal> {
    inspect(head.as_bytes()).map(|h| h.body)
}

fn with(fields: &str) -> Result<BodyKind, Refusal> {
    judge(&format!("POST /x HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n"))
}

#[test]
fn rfc9112_6_3_bodies_have_one_meaning() {
    assert_eq!(with(""), Ok(BodyKind::Length(0)));
    assert_eq!(with("Content-Length: 5\r\n"), Ok(BodyKind::Length(5)));
    assert_eq!(with("transfer-encoding: Chunked\r\n"), Ok(BodyKind::Chunked));
    for bad in ["5, 5", "+5", "-1", "0x5", "5 5", "", "99999999999999999999"] {
        assert_eq!(with(&format!("Content-Length: {bad}\r\n")), Err(Refusal::ContentLength), "{bad}");
    }
    assert_eq!(with("Content-Length: 5\r\nContent-Length: 5\r\n"), Err(Refusal::ContentLength));
    for bad in ["gzip, chunked", "chunked, chunked", "identity", "xchunked", "chunked;q=1", "chunked,"] {
        assert_eq!(with(&format!("Transfer-Encoding: {bad}\r\n")), Err(Refusal::TransferEncoding), "{bad}");
    }
    assert_eq!(with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), Err(Refusal::TransferEncoding));
    let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(judge(old), Err(Refusal::TransferEncoding));
}

#[test]
fn rfc9112_3_2_host_is_there_once_and_well_formed() {
    assert_eq!(judge("GET / HTTP/1.1\r\n\r\n"), Err(Refusal::Host));
    assert_eq!(judge("GET / HTTP/1.0\r\n\r\n"), Ok(BodyKind::Length(0)));
    assert_eq!(judge("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), Err(Refusal::Host));
    for bad in ["a b", "a/b", "a?b", "a#b", "a\\b", "a:x", "a:70000", "a@b", "", "[::1", "[zz]", "a..b", ".a", "a,b"] {
        assert_eq!(judge(&format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n")), Err(Refusal::Host), "{bad}");
    }
    for good in ["a", "a.example:8080", "[::1]:80", "127.0.0.1", "xn--bcher-kva.example.", "a_b", "a:"] {
        assert!(judge(&format!("GET / HTTP/1.1\r\nHost: {good}\r\n\r\n")).is_ok(), "{good}");
    }
}

#[test]
fn rfc9112_3_2_2_absolute_form_becomes_origin_form_when_it_agrees_with_host() {
    let h = inspect(b"GET http://a.example/p?q HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    assert_eq!(h.rewritten.unwrap(), &b"GET /p?q HTTP/1.1\r\nHost: a.example\r\n\r\n"[..]);
    assert_eq!(judge("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Refusal::Host));
    assert_eq!(judge("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Refusal::Target));
    assert_eq!(judge("GET * HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Refusal::Target));
    assert_eq!(judge("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(BodyKind::Length(0)));
    for bad in ["v", "@evil/v", "/a#b", "/a\u{1}b"] {
        assert_eq!(judge(&format!("GET {bad} HTTP/1.1\r\nHost: a\r\n\r\n")), Err(Refusal::Target), "{bad}");
    }
}

#[test]
fn rfc9112_5_field_lines_are_strict() {
    for bad in
        ["X : 1", " X: 1", "X\t: 1", "X", ": 1", "X: a\r\n b", "X: a\0b", "X: a\rb", "X(y): 1", "Content_Length: 3"]
    {
        assert_eq!(with(&format!("{bad}\r\n")), Err(Refusal::FieldLine), "{bad:?}");
    }
    assert_eq!(judge("GET / HTTP/1.1\nHost: a\n\n"), Err(Refusal::RequestLine));
    assert_eq!(judge("GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n"), Err(Refusal::FieldLine));
    let many: String = (0..101).map(|i| format!("x{i}: 1\r\n")).collect();
    assert_eq!(with(&many), Err(Refusal::HeaderTooLarge));
}

#[test]
fn request_lines_versions_and_methods() {
    for bad in ["GET  / HTTP/1.1", "GET / HTTP/1.1 ", "GET /", "G(T / HTTP/1.1", " GET / HTTP/1.1", "GET / http/1.1"] {
        assert_eq!(judge(&format!("{bad}\r\nHost: a\r\n\r\n")), Err(Refusal::RequestLine), "{bad:?}");
    }
    assert_eq!(judge("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), Err(Refusal::Version));
    assert_eq!(judge("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Refusal::Method));
    assert_eq!(with("Expect: y 100-continue\r\n"), Err(Refusal::Expect));
    assert_eq!(with("Expect: 100-Continue\r\n"), Ok(BodyKind::Length(0)));
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(17_000));
    assert_eq!(judge(&long), Err(Refusal::TargetTooLong));
}

#[test]
fn rfc9110_7_8_an_upgrade_has_no_body() {
    assert_eq!(with("Connection: Upgrade\r\nUpgrade: websocket\r\n"), Ok(BodyKind::Upgrade));
    assert_eq!(with("Connection: Upgrade\r\nUpgrade: h2c\r\n"), Ok(BodyKind::Length(0)));
    assert_eq!(
        with("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n"),
        Err(Refusal::UpgradeWithBody)
    );
}

#[test]
fn finds_the_end_of_a_head_wherever_the_reads_cut_it() {
    let all = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
    for cut in 0..=27 {
        for seen in 0..cut {
            assert_eq!(end_of_head(&all[..cut], seen).is_some(), cut == 27, "{cut} {seen}");
        }
    }
    assert_eq!(end_of_head(all, 0), Some(27));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = inspect(&bytes);
        let _ = end_of_head(&bytes, 0);
        let _ = valid_authority(&bytes);
    }
}
