//! Content codings as clients, origins and the store see them.

mod store;

use crate::harness::client::{Client, Response, request};
use crate::harness::edge::{Edge, Setup};
use crate::harness::llm::{Llm, answer_text, chat, streamed};
use crate::harness::origin::{Origin, Seen, Step, chunk, chunked, gate, reply};
use crate::harness::secure::H2;
use std::io::Read;

const ROUTES: &str = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 32MiB } } }
routes:
  - { match: { path: /plain/* }, upstream: app, compress: true }
  - match: { path: /page }
    respond: { body: \"$PAGE\", content_type: text/html }
    compress: [br, gzip]
  - { upstream: app, cache: true, compress: true }
";
const FRESH: (&str, &str) = ("cache-control", "max-age=60");
const TEXT: (&str, &str) = ("content-type", "text/css");
const TAG: (&str, &str) = ("etag", "\"v1\"");
const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

fn text() -> String {
    (0..2000).map(|i| format!(".class-{i} {{ color: red }}\n")).collect()
}

async fn edge_for(origin: &Origin) -> Edge {
    let page = "<p>all work and no play</p>".repeat(100);
    Setup::new(ROUTES).put("ORIGIN", origin.address).put("PAGE", page).start().await
}

async fn styles() -> Origin {
    Origin::start(|_| reply(200, &[FRESH, TEXT, TAG], text())).await
}

async fn ask(edge: &Edge, method: &str, target: &str, coding: &str) -> Response {
    edge.ask(method, target, &[("Accept-Encoding", coding)], b"").await
}

fn decoded(coding: &str, body: &[u8]) -> String {
    let mut out = String::new();
    let read = match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_string(&mut out),
        "br" => brotli::Decompressor::new(body, 4096).read_to_string(&mut out),
        "zstd" => zstd::stream::read::Decoder::new(body).unwrap().read_to_string(&mut out),
        _ => panic!("no coding {coding:?}"),
    };
    read.unwrap_or_else(|e| panic!("{coding}: {e}"));
    out
}

#[track_caller]
fn is_coded(answer: &Response, coding: &str, want: &str) {
    assert_eq!((answer.status, answer.header("content-encoding"), answer.complete), (200, coding, true), "{answer:?}");
    assert!(answer.body.len() < want.len() / 2, "{} of {}", answer.body.len(), want.len());
    assert_eq!(decoded(coding, &answer.body), want);
    assert_eq!((answer.header("vary"), answer.count("vary")), ("Accept-Encoding", 1), "{:?}", answer.headers);
    assert_eq!(answer.count("accept-ranges"), 0, "{:?}", answer.headers);
}

#[track_caller]
fn is_plain(answer: &Response, want: &str) {
    assert_eq!((answer.status, answer.count("content-encoding"), answer.complete), (200, 0, true), "{answer:?}");
    assert_eq!(answer.text(), want);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_13_1_2_a_client_with_the_coded_form_gets_304() {
    let origin = styles().await;
    let edge = edge_for(&origin).await;
    ask(&edge, "GET", "/", "gzip").await;
    for tag in ["W/\"v1\"", "\"v1\""] {
        let same = edge.ask("GET", "/", &[("Accept-Encoding", "gzip"), ("If-None-Match", tag)], b"").await;
        assert_eq!((same.status, same.header("etag"), same.header("vary")), (304, "W/\"v1\"", "Accept-Encoding"));
        assert_eq!((same.count("content-encoding"), same.source()), (0, "http_cache"));
    }
    let plain = edge.ask("GET", "/", &[("If-None-Match", "W/\"v1\"")], b"").await;
    assert_eq!((plain.status, plain.header("etag"), plain.header("vary")), (304, "\"v1\"", "Accept-Encoding"));
    assert_eq!(origin.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9111_4_3_3_an_origins_304_names_the_form_that_the_client_has() {
    let origin = Origin::start(|seen| {
        if seen.header("if-none-match").contains("\"v1\"") {
            reply(304, &[TAG], "")
        } else {
            reply(200, &[TEXT, TAG], text())
        }
    })
    .await;
    let edge = edge_for(&origin).await;
    let first = ask(&edge, "GET", "/plain/a", "br").await;
    is_coded(&first, "br", &text());
    let tag = first.header("etag").to_owned();
    let same = edge.ask("GET", "/plain/a", &[("Accept-Encoding", "br"), ("If-None-Match", &tag)], b"").await;
    assert_eq!((same.status, same.header("etag"), same.header("vary")), (304, "W/\"v1\"", "Accept-Encoding"));
    let strong = edge.ask("GET", "/plain/a", &[("If-None-Match", "\"v1\"")], b"").await;
    assert_eq!((strong.status, strong.header("etag")), (304, "\"v1\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_9_3_2_head_says_what_get_says() {
    let origin = styles().await;
    let edge = edge_for(&origin).await;
    ask(&edge, "GET", "/", "br").await;
    let mut client = Client::connect(edge.web()).await;
    let fields = [("Accept-Encoding", "br")];
    let head = client.ask("HEAD", "/", &fields, b"").await;
    let get = client.ask("GET", "/", &fields, b"").await;
    for name in ["content-encoding", "content-length", "etag", "vary", "content-type"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
        assert_ne!(get.header(name), "", "{name}");
    }
    is_coded(&get, "br", &text());
    // A miss, and a route without a cache: there the length of the coded form is not known.
    for target in ["/other", "/plain/a"] {
        let head = client.ask("HEAD", target, &fields, b"").await;
        let said = (head.status, head.header("content-encoding"), head.header("etag"), head.count("content-length"));
        assert_eq!(said, (200, "br", "W/\"v1\"", 0), "{target}");
    }
    is_coded(&client.ask("GET", "/plain/a", &fields, b"").await, "br", &text());
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_14_a_range_is_cut_from_the_plain_form() {
    let origin = styles().await;
    let edge = edge_for(&origin).await;
    ask(&edge, "GET", "/", "gzip").await;
    let ranged = |extra: Option<(&'static str, &'static str)>| {
        let mut fields = vec![("Accept-Encoding", "gzip"), ("Range", "bytes=2-6")];
        fields.extend(extra);
        let edge = &edge;
        async move { edge.ask("GET", "/", &fields, b"").await }
    };
    for extra in [None, Some(("If-Range", "\"v1\""))] {
        let part = ranged(extra).await;
        assert_eq!((part.status, part.text().as_str(), part.count("content-encoding")), (206, &text()[2..=6], 0));
        assert_eq!((part.header("etag"), part.header("vary")), ("\"v1\"", "Accept-Encoding"));
    }
    // Half of the coded form cannot be completed with bytes of the plain one (§13.1.5: weak tags never match).
    let whole = ranged(Some(("If-Range", "W/\"v1\""))).await;
    is_plain(&whole, &text());
    assert_eq!(origin.hits(), 1);
}

fn by_path(seen: &Seen) -> Vec<Step> {
    let path = seen.target.trim_start_matches("/plain");
    let fields: Vec<(&str, &str)> = match path {
        "/no-transform" => vec![("cache-control", "max-age=60, no-transform"), TEXT],
        "/image" => vec![FRESH, ("content-type", "image/png")],
        "/typeless" => vec![FRESH],
        "/events" => vec![FRESH, ("content-type", "text/event-stream")],
        "/coded" => vec![FRESH, TEXT, ("content-encoding", "br")],
        "/short" => return reply(200, &[FRESH, TEXT], "short"),
        "/empty" => return reply(204, &[FRESH, TEXT], ""),
        "/part" => return reply(206, &[TEXT, ("content-range", "bytes 0-1/2")], text()),
        _ => vec![FRESH, TEXT],
    };
    reply(200, &fields, text())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gains_nothing_or_must_not_be_touched_is_left_alone() {
    let origin = Origin::start(by_path).await;
    let edge = edge_for(&origin).await;
    for base in ["", "/plain"] {
        for path in ["/no-transform", "/image", "/typeless", "/events", "/coded", "/short", "/empty", "/part"] {
            // A miss and a hit.
            for _ in 0..2 {
                let answer = ask(&edge, "GET", &format!("{base}{path}"), "gzip, br, zstd").await;
                let coding = if path == "/coded" { "br" } else { "" };
                assert_eq!((answer.header("content-encoding"), answer.header("vary")), (coding, ""), "{base}{path}");
                let body = match path {
                    "/short" => "short".to_owned(),
                    "/empty" => String::new(),
                    _ => text(),
                };
                assert!(answer.complete && answer.text() == body, "{base}{path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pausing_origin_has_sent_so_far_goes_out_at_once() {
    let door = gate();
    let opened = door.clone();
    let origin = Origin::start(move |_| {
        vec![chunked(200, &[FRESH, TEXT]), chunk("first line\n"), Step::Wait(door.clone()), chunk("last"), chunk("")]
    })
    .await;
    let edge = edge_for(&origin).await;
    for target in ["/stored", "/plain/passed"] {
        let mut client = Client::connect(edge.web()).await;
        client.send(request("GET", target, &[("Accept-Encoding", "gzip")], b"")).await;
        let head = client.head().await.unwrap();
        assert_eq!((head.header("content-encoding"), head.header("transfer-encoding")), ("gzip", "chunked"));
        let mut wire = Vec::new();
        let mut so_far = Vec::new();
        // The origin has not sent its last line, and will not before this one is here.
        while so_far != b"first line\n" {
            wire.extend(client.chunk().await.unwrap());
            so_far.clear();
            let mut byte = [0];
            let mut decoder = flate2::read::GzDecoder::new(&wire[..]);
            while let Ok(1) = decoder.read(&mut byte) {
                so_far.push(byte[0]);
            }
        }
        opened.add_permits(1);
        loop {
            let piece = client.chunk().await.expect("a clean end");
            if piece.is_empty() {
                break;
            }
            wire.extend(piece);
        }
        assert_eq!(decoded("gzip", &wire), "first line\nlast");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_the_origin_cuts_never_looks_whole() {
    let origin = Origin::start(|_| vec![chunked(200, &[TEXT]), chunk(text()), Step::Cut]).await;
    let edge = edge_for(&origin).await;
    for target in ["/a", "/plain/a"] {
        let answer = ask(&edge, "GET", target, "gzip").await;
        assert!(!answer.complete, "{target}");
        let mut out = Vec::new();
        assert!(flate2::read::GzDecoder::new(&answer.body[..]).read_to_end(&mut out).is_err(), "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_gets_the_same_codings() {
    let origin = styles().await;
    let edge = edge_for(&origin).await;
    let h2 = H2::clear(edge.web()).await;
    for (i, target) in ["/a", "/a", "/plain/a"].iter().enumerate() {
        let request = http::Request::get(format!("http://test{target}")).header("accept-encoding", "br");
        let answer = h2.ask(request.body(()).unwrap(), b"").await;
        assert_eq!(answer.head.headers["content-encoding"], "br", "{i}");
        assert_eq!(decoded("br", &answer.body), text(), "{i}");
    }
    assert_eq!(origin.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_gets_the_plain_form() {
    let origin = styles().await;
    let edge = edge_for(&origin).await;
    for target in ["/a", "/a", "/plain/a", "/page"] {
        let mut client = Client::connect(edge.web()).await;
        client.send(format!("GET {target} HTTP/1.0\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n")).await;
        let answer = client.response(false).await;
        assert_eq!((answer.status, answer.count("content-encoding")), (200, 0), "{target}");
        assert_eq!(answer.header("vary"), "Accept-Encoding", "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_answer_is_coded_by_preference() {
    let origin = styles().await;
    let edge = edge_for(&origin).await;
    let page = "<p>all work and no play</p>".repeat(100);
    for (asked, coding) in [("gzip, br, zstd", "br"), ("gzip", "gzip"), ("gzip;q=1, br;q=0.9", "gzip"), ("*", "br")] {
        let answer = ask(&edge, "GET", "/page", asked).await;
        is_coded(&answer, coding, &page);
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());
        let head = ask(&edge, "HEAD", "/page", asked).await;
        assert_eq!(head.header("content-length"), answer.body.len().to_string());
    }
    is_plain(&ask(&edge, "GET", "/page", "zstd").await, &page);
}

#[tokio::test(flavor = "multi_thread")]
async fn uncached_and_unsafe_requests_leave_the_choice_to_the_origin() {
    let origin = Origin::start(|seen| reply(200, &[TEXT, ("x-asked", seen.header("accept-encoding"))], text())).await;
    let edge = edge_for(&origin).await;
    for (method, target) in [("GET", "/plain/a"), ("POST", "/form")] {
        let answer = ask(&edge, method, target, "br, gzip;q=0.5").await;
        is_coded(&answer, "br", &text());
        assert_eq!(answer.header("x-asked"), "br, gzip;q=0.5", "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vary_survives_what_the_operator_sets() {
    let origin = styles().await;
    let yaml = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 32MiB } } }
routes: [ { upstream: app, cache: true, compress: [gzip], headers: { response: { set: { vary: Origin } } } } ]
";
    let edge = Setup::new(yaml).put("ORIGIN", origin.address).start().await;
    for coding in ["gzip", "gzip", "identity"] {
        let answer = ask(&edge, "GET", "/", coding).await;
        let vary: Vec<_> = answer.headers.iter().filter(|(n, _)| n == "vary").map(|(_, v)| v.as_str()).collect();
        assert_eq!(vary, ["Origin", "Accept-Encoding"], "{coding}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_in_compress_are_named() {
    let yaml = "
upstreams: { app: { servers: [\"127.0.0.1:1\"] } }
routes:
  - { match: { path: /a }, upstream: app, compress: [zstd, gzp] }
  - { match: { path: /b }, redirect: { to: /a }, compress: true }
  - { match: { path: /c }, upstream: app, early_hints: true }
";
    let said = format!("{:#}", Setup::new(yaml).try_start().await.err().expect("a fault"));
    for piece in ["routes[0].compress[1]", "did you mean \"gzip\"", "routes[1].compress", "routes[2].early_hints"] {
        assert!(said.contains(piece), "missing {piece:?} in:\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ai_answer_in_one_piece_is_coded_and_its_events_are_not() {
    let said = "one two three ".repeat(300);
    let llm = Llm::saying(&said).await;
    let yaml = "
ai:
  providers: { one: { dialect: openai, base_url: \"$ONE\" } }
  models: { first: { provider: one, model: first-1 } }
  tiers: { standard: [first] }
routes: [ { match: { path: /v1/* }, ai: { tier: standard }, compress: [gzip] } ]
";
    let edge = Setup::new(yaml).put("ONE", llm.url()).start().await;
    let fields = [("Accept-Encoding", "gzip")];
    let whole = edge.post("/v1/chat/completions", &fields, &chat("auto", "hello")).await;
    assert_eq!((whole.header("content-encoding"), whole.header("vary")), ("gzip", "Accept-Encoding"), "{whole:?}");
    assert_eq!(whole.header("content-length"), whole.body.len().to_string());
    let json: serde_json::Value = serde_json::from_str(&decoded("gzip", &whole.body)).unwrap();
    assert_eq!(answer_text(&json).trim(), said.trim());
    let events = edge.post("/v1/chat/completions", &fields, &streamed("auto", "hello")).await;
    assert_eq!((events.count("content-encoding"), events.count("vary")), (0, 0), "{:?}", events.headers);
    assert_eq!(events.streamed_text().trim(), said.trim());
}
