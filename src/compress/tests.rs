//! Tests of the codings: negotiation by table, what may be coded, headers, and every encoder against a decoder.

use super::encoder::{Effort, encoder};
use super::whole::{Precoded, encode};
use super::{Choice, Head, RouteCompress, choose, header as coded, may_code, negotiate};
use crate::base::coding::Coding::{self, Br, Gzip, Zstd};
use crate::config::compress as config;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use pingora::http::ResponseHeader;
use proptest::prelude::*;
use std::io::Read;

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let pairs = fields.iter().map(|(n, v)| (n.parse::<HeaderName>().unwrap(), HeaderValue::from_str(v).unwrap()));
    let mut map = HeaderMap::new();
    pairs.for_each(|(n, v)| {
        map.append(n, v);
    });
    map
}

fn rule(yaml: &str) -> Result<Option<RouteCompress>, Vec<String>> {
    let wanted: config::Compress = serde_yaml::from_str(yaml).unwrap();
    RouteCompress::compile(&wanted).map_err(|l| l.into_iter().map(|f| format!("{}: {}", f.path, f.why)).collect())
}

fn usual() -> RouteCompress {
    rule("true").unwrap().unwrap()
}

#[test]
fn rfc9110_12_5_3_negotiation() {
    const ALL: [Coding; 3] = Coding::ALL;
    let cases: &[(&str, &[Coding], Option<Coding>)] = &[
        ("gzip", &ALL, Some(Gzip)),
        ("gzip, deflate, br, zstd", &ALL, Some(Zstd)),
        ("gzip, deflate, br, zstd", &[Br, Gzip], Some(Br)),
        ("gzip;q=1.0, br;q=0.9", &ALL, Some(Gzip)),
        ("gzip;q=0.001, br;q=0", &ALL, Some(Gzip)),
        ("GZIP", &ALL, Some(Gzip)),
        ("x-gzip", &ALL, Some(Gzip)),
        ("gzip;q=0, x-gzip", &ALL, Some(Gzip)),
        ("gzip;q=0", &ALL, None),
        ("gzip;q=0.000, *", &ALL, Some(Zstd)),
        ("zstd;q=0, br;q=0, *;q=0.5", &ALL, Some(Gzip)),
        ("*", &ALL, Some(Zstd)),
        ("*", &[Gzip], Some(Gzip)),
        ("*;q=0", &ALL, None),
        ("*;q=0, gzip", &ALL, Some(Gzip)),
        ("identity", &ALL, None),
        ("identity;q=0", &ALL, None),
        ("identity;q=0, gzip;q=0.1", &ALL, Some(Gzip)),
        ("identity, gzip;q=0.5", &ALL, None),
        ("identity;q=0.5, gzip;q=0.5", &ALL, Some(Gzip)),
        ("identity;q=0.5, gzip;q=0.4", &ALL, None),
        ("", &ALL, None),
        (" , ,gzip", &ALL, Some(Gzip)),
        ("gzip ; q = 0.5 , br ; Q=0.6", &ALL, Some(Br)),
        ("deflate, compress", &ALL, None),
        // Weights that are none: the member is passed over.
        ("gzip;q=2, br;q=0.1", &ALL, Some(Br)),
        ("gzip;q=0.5555", &ALL, None),
        ("gzip;q=-1", &ALL, None),
        ("gzip;q=", &ALL, None),
        ("gzip;q=1.001", &ALL, None),
        ("gzip;q=1.", &ALL, Some(Gzip)),
        ("gzip;foo=bar;q=0", &ALL, None),
        ("br", &[Gzip], None),
        ("gzip", &[], None),
    ];
    for (field, offered, want) in cases {
        assert_eq!(negotiate::best(&map(&[("accept-encoding", field)]), offered), *want, "{field:?} of {offered:?}");
    }
    assert_eq!(negotiate::best(&HeaderMap::new(), &ALL), None, "nothing said");
    let two_lines = map(&[("accept-encoding", "gzip;q=0.5"), ("accept-encoding", "br")]);
    assert_eq!(negotiate::best(&two_lines, &ALL), Some(Br));
}

#[test]
fn what_may_be_coded() {
    let may = |status: u16, fields: &[(&str, &str)]| {
        may_code(&usual(), &Head::of(StatusCode::from_u16(status).unwrap(), &map(fields)))
    };
    let json = ("content-type", "Application/JSON; charset=utf-8");
    assert!(may(200, &[json]) && may(404, &[json]) && may(200, &[json, ("content-length", "1024")]));
    assert!(!may(200, &[json, ("content-length", "1023")]), "too short");
    for status in [103, 204, 205, 206, 304, 416] {
        assert!(!may(status, &[json]), "{status}");
    }
    assert!(!may(200, &[json, ("content-encoding", "gzip")]));
    assert!(!may(200, &[json, ("content-range", "bytes 0-1/2")]));
    assert!(!may(200, &[json, ("cache-control", "max-age=60"), ("cache-control", "public,No-Transform")]));
    assert!(may(200, &[json, ("cache-control", "max-age=60")]) && !may(200, &[]));
    for yes in [
        "text/html",
        "text/css",
        "application/ld+json",
        "image/svg+xml",
        "font/ttf",
        "application/wasm",
        "TEXT/JAVASCRIPT ; x=y",
    ] {
        assert!(may(200, &[("content-type", yes)]), "{yes}");
    }
    for no in [
        "text/event-stream",
        "Text/Event-Stream; charset=utf-8",
        "image/png",
        "video/mp4",
        "application/zip",
        "font/woff2",
        "application/octet-stream",
        "application/grpc",
        "",
        ";",
    ] {
        assert!(!may(200, &[("content-type", no)]), "{no}");
    }
}

#[test]
fn rules_are_checked_and_faults_name_their_place() {
    assert_eq!(rule("false").unwrap().map(|r| r.codings), None);
    assert_eq!(usual().codings, [Zstd, Br, Gzip]);
    assert_eq!(rule("[gzip, br]").unwrap().unwrap().codings, [Gzip, Br]);
    let own = rule("{ codings: [br], min_size: 10B, types: [application/*, '*+foo', text/x] }").unwrap().unwrap();
    assert_eq!((own.codings.as_slice(), own.body_bytes_min), (&[Br][..], 10));
    assert!(own.types.have(b"application/zip") && own.types.have(b"a/b+FOO") && own.types.have(b"text/X"));
    assert!(!own.types.have(b"text/html") && !own.types.have(b"text/xy"));
    assert_eq!(
        rule("[zstd, gzp, zstd]").unwrap_err(),
        ["[1]: no coding \"gzp\"; did you mean \"gzip\"?", "[2]: \"zstd\" stands twice"]
    );
    assert_eq!(rule("[]").unwrap_err().len(), 1);
    let bad = rule("{ codings: [brotli], types: [text, '*', '*/*', text/event-stream, 'a/b;c=d', a/b/c, '*json'] }");
    let bad = bad.unwrap_err();
    assert_eq!(bad.len(), 8, "{bad:?}");
    assert!(bad[0].starts_with(".codings[0]: ") && bad[1].starts_with(".types[0]: "), "{bad:?}");
    assert!(serde_yaml::from_str::<config::Compress>("{ codecs: [br] }").is_err());
}

#[test]
fn a_range_and_http_1_0_get_the_plain_form_but_are_told_that_it_varies() {
    let answer = map(&[("content-type", "text/html")]);
    let answer = Head::of(StatusCode::OK, &answer);
    let plain = Choice { varies: true, coding: None };
    let asks = [("accept-encoding", "gzip")];
    let with_range = [asks[0], ("range", "bytes=0-1")];
    assert_eq!(choose(&map(&asks), Version::HTTP_2, &usual(), &answer).coding, Some(Gzip));
    assert_eq!(choose(&map(&with_range), Version::HTTP_11, &usual(), &answer), plain);
    assert_eq!(choose(&map(&asks), Version::HTTP_10, &usual(), &answer), plain);
    assert_eq!(choose(&map(&[]), Version::HTTP_11, &usual(), &answer), plain);
    let image = map(&[("content-type", "image/png")]);
    assert_eq!(choose(&map(&asks), Version::HTTP_11, &usual(), &Head::of(StatusCode::OK, &image)), Choice::default());
}

fn head(fields: &[(&str, &str)]) -> ResponseHeader {
    let mut head = ResponseHeader::build(200, None).unwrap();
    for (n, v) in &map(fields) {
        head.append_header(n.clone(), v.clone()).unwrap();
    }
    head
}

#[test]
fn rfc9110_8_8_3_3_a_coded_form_has_a_weak_tag_and_no_word_about_the_plain_bytes() {
    let mut h = head(&[
        ("etag", "\"v1\""),
        ("content-length", "9"),
        ("accept-ranges", "bytes"),
        ("content-digest", "sha-256=:a:"),
        ("repr-digest", "sha-256=:a:"),
        ("digest", "sha-256=a"),
        ("content-md5", "a"),
        ("content-type", "text/css"),
    ]);
    coded::coded(&mut h, Br, Some(5));
    let mut left: Vec<_> = h.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    left.sort();
    let want =
        [("content-encoding", "br"), ("content-length", "5"), ("content-type", "text/css"), ("etag", "W/\"v1\"")];
    assert_eq!(left, want);
    coded::weaken(&mut h);
    assert_eq!(h.headers.get("etag").unwrap(), "W/\"v1\"", "weak once is weak enough");
}

#[test]
fn rfc9110_12_5_5_vary_gains_and_loses_accept_encoding() {
    let vary = |h: &ResponseHeader| {
        h.headers.get_all(header::VARY).iter().map(|v| v.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut h = head(&[("vary", "Origin")]);
    coded::vary(&mut h);
    coded::vary(&mut h);
    assert_eq!(vary(&h), ["Origin", "Accept-Encoding"]);
    let mut star = head(&[("vary", "*")]);
    coded::vary(&mut star);
    assert_eq!(vary(&star), ["*"]);
    let mut h = head(&[("vary", "accept-encoding, Origin"), ("vary", "Accept")]);
    coded::unvary(&mut h);
    assert_eq!(vary(&h), ["Origin, Accept"]);
    let mut alone = head(&[("vary", "Accept-Encoding")]);
    coded::unvary(&mut alone);
    assert_eq!(vary(&alone), [""; 0]);
}

#[test]
fn a_client_that_names_the_weak_tag_has_a_coded_form() {
    let answer = head(&[("etag", "\"v1\"")]);
    let has = |line: &str| coded::client_has_weak(&map(&[("if-none-match", line)]), &answer);
    assert!(has("W/\"v1\"") && has("\"v0\", W/\"v1\""));
    assert!(!has("\"v1\"") && !has("W/\"v12\"") && !has("*"));
}

fn decode(coding: Coding, data: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    match coding {
        Gzip => flate2::read::GzDecoder::new(data).read_to_end(&mut out)?,
        Br => brotli::Decompressor::new(data, 4096).read_to_end(&mut out)?,
        Zstd => zstd::stream::read::Decoder::new(data)?.read_to_end(&mut out)?,
    };
    Ok(out)
}

/// What a decoder has of a body that is not at its end.
fn decode_so_far(coding: Coding, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut reader: Box<dyn Read> = match coding {
        Gzip => Box::new(flate2::read::GzDecoder::new(data)),
        Br => Box::new(brotli::Decompressor::new(data, 4096)),
        Zstd => Box::new(zstd::stream::read::Decoder::new(data).unwrap()),
    };
    let mut piece = [0; 4096];
    while let Ok(n @ 1..) = reader.read(&mut piece) {
        out.extend_from_slice(&piece[..n]);
    }
    out
}

#[test]
fn after_a_flush_all_that_went_in_can_be_decoded() {
    for coding in Coding::ALL {
        let mut encoder = encoder(coding, Effort::Sent, None).unwrap();
        let mut wire = Vec::new();
        let mut plain = Vec::new();
        for line in ["first line\n", "second line\n", "x", "fourth\n"] {
            plain.extend_from_slice(line.as_bytes());
            wire.extend_from_slice(&encoder.push(line.as_bytes(), true).unwrap());
            assert_eq!(decode_so_far(coding, &wire), plain, "{coding}");
        }
        wire.extend_from_slice(&encoder.finish().unwrap());
        assert_eq!(decode(coding, &wire).unwrap(), plain, "{coding}");
    }
}

#[test]
fn long_bodies_come_out_as_they_go_in_and_stay_within_the_window() {
    // 12 MiB with repeats nearer and farther than any window.
    let block: Vec<u8> = (0..300_000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 20).to_le_bytes()).collect();
    for coding in Coding::ALL {
        let mut encoder = encoder(coding, Effort::Sent, None).unwrap();
        let mut wire = Vec::new();
        for _ in 0..10 {
            for piece in block.chunks(65_536) {
                let ready = encoder.push(piece, false).unwrap();
                assert!(ready.len() < 4 << 20, "{coding} hoards");
                wire.extend_from_slice(&ready);
            }
        }
        wire.extend_from_slice(&encoder.finish().unwrap());
        assert_eq!(decode(coding, &wire).unwrap(), block.repeat(10), "{coding}");
    }
}

#[test]
fn whole_bodies_are_kept_where_a_tenth_is_saved() {
    let text = Bytes::from("all work and no play ".repeat(500));
    let precoded = Precoded::of(&text, &[Gzip, Br]);
    for coding in Coding::ALL {
        let made = encode(coding, Effort::Kept, &[text.slice(..5000), text.slice(5000..)]).unwrap().unwrap().concat();
        assert!(made.len() < 300, "{coding}: {}", made.len());
        assert_eq!(decode(coding, &made).unwrap(), text);
        let body = precoded.get(coding).map(|b| decode(coding, b).unwrap());
        assert_eq!(body, (coding != Zstd).then(|| text.to_vec()));
        let packed = Bytes::from(encode(Zstd, Effort::Kept, std::slice::from_ref(&text)).unwrap().unwrap().concat());
        assert_eq!(encode(coding, Effort::Kept, &[packed]).unwrap(), None, "{coding}: packed already");
        assert_eq!(encode(coding, Effort::Kept, &[]).unwrap(), None, "{coding}: nothing");
    }
}

fn pieces() -> impl Strategy<Value = Vec<(Vec<u8>, bool)>> {
    let text = proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), any::<u8>()], 0..3000);
    let run = (any::<u8>(), 0..70_000usize).prop_map(|(b, n)| vec![b; n]);
    let noise = proptest::collection::vec(any::<u8>(), 0..3000);
    proptest::collection::vec((prop_oneof![text, run, noise], any::<bool>()), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn decoding_gives_back_what_was_coded_however_it_came(pieces in pieces(), known in any::<bool>(), kept in any::<bool>()) {
        let plain: Vec<u8> = pieces.iter().flat_map(|(p, _)| p.clone()).collect();
        for coding in Coding::ALL {
            let mut encoder = encoder(coding, if kept { Effort::Kept } else { Effort::Sent }, known.then_some(plain.len() as u64)).unwrap();
            let mut wire = Vec::new();
            for (piece, flush) in &pieces {
                wire.extend_from_slice(&encoder.push(piece, *flush).unwrap());
            }
            wire.extend_from_slice(&encoder.finish().unwrap());
            prop_assert_eq!(&decode(coding, &wire).unwrap(), &plain, "{}", coding);
        }
    }

    #[test]
    fn negotiation_takes_any_bytes(line in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut request = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(&line) {
            request.insert(header::ACCEPT_ENCODING, value);
        }
        negotiate::best(&request, &Coding::ALL);
    }
}
