//! Heads read as values, and what is left after a write.

use super::*;

fn head(text: &str) -> Option<(RequestHeader, bool)> {
    read(text.as_bytes())
}

#[test]
fn rfc9112_9_3_persistence_follows_version_and_connection() {
    for (text, keeps) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", false),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
    ] {
        assert_eq!(head(text).unwrap().1, keeps, "{text}");
    }
}

#[test]
fn what_needs_a_session_is_left_alone() {
    for text in [
        "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GETX / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection: close\r\n\r\n",
    ] {
        assert!(head(text).is_none(), "{text}");
    }
}

#[test]
fn every_field_line_is_there_with_its_value() {
    let (req, _) = head("HEAD /a?b=c HTTP/1.1\r\nHost: A.test\r\nX: 1\r\nx:  2 \r\nCookie: ä\r\n\r\n").unwrap();
    assert_eq!((req.method.as_str(), req.uri.path(), req.uri.query()), ("HEAD", "/a", Some("b=c")));
    assert_eq!(req.raw_path(), b"/a?b=c");
    let all: Vec<_> = req.headers.get_all("x").iter().map(|v| v.as_bytes()).collect();
    assert_eq!(all, [b"1", b"2"]);
    assert_eq!(req.headers.len(), 4);
}

#[test]
fn what_is_left_is_what_was_not_written() {
    let body = [Bytes::from_static(b"one"), Bytes::from_static(b""), Bytes::from_static(b"three")];
    let whole = b"headonethree";
    for step in 1..=whole.len() {
        let mut left = Left { head: b"head", first: Bytes::new(), body: &body };
        let (mut out, mut of_body) = (Vec::new(), 0);
        while !left.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
            let n = left.pieces(&mut pieces);
            let all: Vec<u8> = pieces[..n].iter().flat_map(|p| p.to_vec()).collect();
            let taken = step.min(all.len());
            out.extend_from_slice(&all[..taken]);
            of_body += left.advance(taken);
        }
        assert_eq!((out.as_slice(), of_body), (&whole[..], 8), "by {step}");
    }
}
