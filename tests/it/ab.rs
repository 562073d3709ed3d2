//! Experiments: arms that stick, weights that hold, one cached object per arm.

use crate::harness::edge::{Edge, Setup};
use crate::harness::origin::{Origin, reply};
use std::collections::BTreeMap;

const YAML: &str = "
server: { threads: 2, trusted_proxies: [127.0.0.0/8], admin: { listen: \"127.0.0.1:0\" } }
listeners: { web: { address: \"127.0.0.1:0\" } }
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 16MiB } } }
policy: { script: policy.rhai }
routes: [ { upstream: app, cache: true, policy: true } ]
";
const SCRIPT: &str = r#"
fn on_request(req) {
    let arm = req.bucket("checkout", #{ control: 75, candidate: 25 });
    next().vary_on("checkout", arm).set_request_header("x-arm", arm)
}
fn on_response(req, resp) { next().set_header("x-arm", req.arm("checkout")) }
"#;

async fn experiment() -> (Origin, Edge) {
    let origin = Origin::start(|seen| {
        reply(200, &[("cache-control", "max-age=60")], format!("page for {}", seen.header("x-arm")))
    })
    .await;
    let edge = Setup::bare(YAML).put("ORIGIN", origin.address).file("policy.rhai", SCRIPT).start().await;
    (origin, edge)
}

async fn visit(edge: &Edge, address: &str) -> (String, String) {
    let answer = edge.ask("GET", "/", &[("X-Forwarded-For", address)], b"").await;
    (answer.header("x-arm").to_owned(), answer.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arm_sticks_to_its_visitor_and_the_weights_hold() {
    let (origin, edge) = experiment().await;
    let mut arms: BTreeMap<String, usize> = BTreeMap::new();
    for visitor in 0..200 {
        let address = format!("203.0.{}.{}", visitor / 100, visitor % 100);
        let (arm, page) = visit(&edge, &address).await;
        assert_eq!(page, format!("page for {arm}"), "the cache mixed the arms up");
        assert_eq!(visit(&edge, &address).await.0, arm, "visitor {address} changed sides");
        *arms.entry(arm).or_default() += 1;
    }
    let candidates = arms["candidate"];
    assert!((25..=75).contains(&candidates), "a quarter of 200 visitors: {arms:?}");
    assert_eq!(origin.hits(), 2, "one object for each arm");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_wins_over_the_address() {
    let (_origin, edge) = experiment().await;
    let first = edge.ask("GET", "/", &[("X-Forwarded-For", "203.0.113.1")], b"").await;
    let cookie = first.header("set-cookie").split(';').next().unwrap_or("").to_owned();
    assert!(!cookie.is_empty(), "a sticky cookie: {first:?}");
    for last in 0..40 {
        let fields = [("X-Forwarded-For", format!("198.51.100.{last}")), ("Cookie", cookie.clone())];
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let answer = edge.ask("GET", "/", &fields, b"").await;
        assert_eq!(answer.header("x-arm"), first.header("x-arm"), "moved by its address");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_cookie_of_the_gateway_is_never_stored() {
    let (_origin, edge) = experiment().await;
    let cookie = async |address: &str| {
        let answer = edge.ask("GET", "/", &[("X-Forwarded-For", address)], b"").await;
        answer.header("set-cookie").to_owned()
    };
    let mut seen = std::collections::BTreeSet::new();
    for last in 0..20 {
        let given = cookie(&format!("192.0.2.{last}")).await;
        assert!(seen.insert(given.clone()), "two visitors got the cookie {given}");
    }
}
