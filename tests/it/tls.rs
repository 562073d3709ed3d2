//! TLS at the door: the right certificate by name, HTTP/2 by ALPN, certificates replaced while running.

use crate::harness::edge::{Edge, Setup};
use crate::harness::secure::{Certificate, H2, https, tls, try_tls};
use crate::harness::wait_until;
use tokio_rustls::rustls::pki_types::CertificateDer;

const YAML: &str = "
version: 1
server: { threads: 2, admin: { listen: \"127.0.0.1:0\" } }
listeners:
  web: { address: \"127.0.0.1:0\", redirect_to_https: true }
  safe: { address: \"127.0.0.1:0\", tls: { certificates: [shop, blog] } }
certificates:
  shop: { cert: \"$DIR/shop.crt\", key: \"$DIR/shop.key\" }
  blog: { cert: \"$DIR/blog.crt\", key: \"$DIR/blog.key\" }
routes: [ { respond: { body: ok } } ]
";

async fn secure() -> (Edge, Certificate, Certificate) {
    let dir = tempfile::tempdir().unwrap();
    let shop = Certificate::write(dir.path(), "shop", &["shop.test", "*.shop.test"]);
    let blog = Certificate::write(dir.path(), "blog", &["blog.test"]);
    let edge = Setup::bare(YAML).start_in(dir).await.unwrap_or_else(|fault| panic!("{fault:#}"));
    (edge, shop, blog)
}

async fn shown(edge: &Edge, host: &str, trusted: &[&Certificate]) -> CertificateDer<'static> {
    let stream = tls(edge.at("safe"), host, trusted, &[]).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_asked_for_chooses_the_certificate() {
    let (edge, shop, blog) = secure().await;
    let both = [&shop, &blog];
    assert_eq!(shown(&edge, "shop.test", &both).await, shop.der);
    assert_eq!(shown(&edge, "cdn.shop.test", &both).await, shop.der);
    assert_eq!(shown(&edge, "blog.test", &both).await, blog.der);
    assert!(try_tls(edge.at("safe"), "other.test", &both, &[]).await.is_err(), "no certificate is for other.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_and_http2_are_agreed_by_alpn() {
    let (edge, shop, _) = secure().await;
    let answer = https(edge.at("safe"), "shop.test", &shop).await.ask("GET", "/", &[("Host", "shop.test")], b"").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    let stream = tls(edge.at("safe"), "shop.test", &[&shop], &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let answer = H2::over(stream).await.get("https://shop.test/").await;
    assert_eq!((answer.head.status.as_u16(), answer.body.as_slice()), (200, &b"ok"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn clear_text_is_sent_to_https() {
    let (edge, _, _) = secure().await;
    let answer = edge.ask("GET", "/a?b=1", &[("Host", "shop.test")], b"").await;
    assert!([301, 308].contains(&answer.status), "{answer:?}");
    assert!(answer.header("location").starts_with("https://shop.test"), "{answer:?}");
    assert!(answer.header("location").ends_with("/a?b=1"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_by_a_reload_and_open_connections_stay() {
    let (edge, shop, blog) = secure().await;
    let mut open = https(edge.at("safe"), "shop.test", &shop).await;
    assert_eq!(open.ask("GET", "/", &[("Host", "shop.test")], b"").await.status, 200);
    let renewed = Certificate::write(edge.path("").as_path(), "shop", &["shop.test"]);
    crate::harness::client::post(edge.admin(), "/reload", &[], &serde_json::json!({})).await;
    wait_until("the new certificate", async || {
        shown(&edge, "shop.test", &[&shop, &renewed, &blog]).await == renewed.der
    })
    .await;
    assert_eq!(open.ask("GET", "/", &[("Host", "shop.test")], b"").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_is_named_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    Certificate::write(dir.path(), "shop", &["shop.test"]);
    let fault = Setup::bare(YAML).start_in(dir).await.err().expect("blog.crt is missing");
    assert!(format!("{fault:#}").contains("blog.crt"), "{fault:#}");
}
