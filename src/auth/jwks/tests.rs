//! Rotation, outage, rate limit and cold start, with a source that counts (drill D21). No sleeps: a manual clock, and
//! waiting for the end of the fetch that was due.

use super::*;
use crate::auth::JwtError;
use crate::auth::jwt::JwtVerifier;
use crate::auth::testkit::*;
use crate::config::auth::{Algorithm, Auth};
use serde_json::json;

struct Drill {
    clock: Clock,
    source: Arc<FakeSource>,
    verifier: JwtVerifier,
    ended: watch::Receiver<u64>,
}

impl Drill {
    fn new(source: FakeSource) -> Self {
        let (clock, source) = (Clock::manual(), Arc::new(source));
        let auth: Auth =
            serde_json::from_value(json!({ "jwt": { "jwks_url": "https://id.example.com/jwks" } })).unwrap();
        let verifier =
            JwtVerifier::new("main", auth.jwt.as_ref().unwrap(), clock.clone(), Some(source.clone())).unwrap();
        let ended = verifier.jwks().unwrap().inner.ended.subscribe();
        Drill { clock, source, verifier, ended }
    }

    /// A drill whose first fetch has ended.
    async fn started(source: FakeSource) -> Self {
        let mut d = Drill::new(source);
        d.fetches(1).await;
        d
    }

    /// Waits until `n` fetches have ended.
    async fn fetches(&mut self, n: u64) {
        let wait = self.ended.wait_for(|ended| *ended >= n);
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("no fetch").unwrap();
    }

    /// Moves the clock and lets the task look at it.
    fn advance(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
        self.verifier.jwks().unwrap().inner.wake.notify_one();
    }

    fn token(&self, name: &str, kid: Option<&str>) -> String {
        token_by(Algorithm::ES256, Some(name), kid, &claims_for(&self.clock, 900_000))
    }

    fn verify(&self, name: &str, kid: Option<&str>) -> Result<(), JwtError> {
        self.verifier.verify(&self.token(name, kid)).map(|_| ())
    }
}

fn set_a() -> String {
    jwks(&[jwk("p256", Some("a"))])
}

fn set_b() -> String {
    jwks(&[jwk("p256b", Some("b"))])
}

#[tokio::test]
async fn a_cold_start_fails_closed_and_a_waiting_request_is_served() {
    let mut d = Drill::new(FakeSource::slow(set_a(), Duration::from_millis(50)));
    assert!(!d.verifier.ready());
    assert_eq!(d.verify("p256", Some("a")), Err(JwtError::KeysUnavailable));
    let t = d.token("p256", Some("a"));
    assert!(d.verifier.verify_wait(&t).await.is_ok());
    d.fetches(1).await;
    assert!(d.verifier.ready());
    assert_eq!(d.source.count(), 1, "all of them shared one fetch");
}

#[tokio::test]
async fn a_new_kid_is_fetched_for_and_the_old_one_ends_with_its_key() {
    let mut d = Drill::started(FakeSource::new(set_a())).await;
    let old = d.token("p256", Some("a"));
    assert!(d.verifier.verify(&old).is_ok());
    d.source.set(set_b());
    d.clock.advance(Duration::from_secs(31));
    let new = d.token("p256b", Some("b"));
    assert!(d.verifier.verify_wait(&new).await.is_ok());
    assert_eq!(d.verifier.verify(&old).unwrap_err(), JwtError::UnknownKid, "remembered under a key that is gone");
    d.fetches(2).await;
    assert_eq!(d.source.count(), 2);
}

#[tokio::test]
async fn unknown_kids_buy_at_most_one_fetch_in_30_s() {
    let mut d = Drill::started(FakeSource::new(set_a())).await;
    for i in 0..200 {
        let kid = format!("forged-{i}");
        assert_eq!(d.verify("p256", Some(&kid)), Err(JwtError::UnknownKid));
        let t = d.token("p256", Some(&kid));
        assert_eq!(d.verifier.verify_wait(&t).await.unwrap_err(), JwtError::UnknownKid);
    }
    assert_eq!(d.source.count(), 1, "too soon after the first");
    // The wish was kept: it comes true when it may.
    d.advance(31);
    d.fetches(2).await;
    for i in 0..50 {
        let _ = d.verify("p256", Some(&i.to_string()));
    }
    tokio::task::yield_now().await;
    assert_eq!(d.source.count(), 2);
}

#[tokio::test]
async fn many_requests_wait_for_the_same_fetch() {
    let d = Drill::started(FakeSource::slow(set_a(), Duration::from_millis(30))).await;
    d.source.set(set_b());
    d.clock.advance(Duration::from_secs(31));
    let verifier = Arc::new(d.verifier);
    let t = token_by(Algorithm::ES256, Some("p256b"), Some("b"), &claims_for(&d.clock, 60));
    let all: Vec<_> = (0..32)
        .map(|_| {
            let (v, t) = (verifier.clone(), t.clone());
            tokio::spawn(async move { v.verify_wait(&t).await.is_ok() })
        })
        .collect();
    for one in all {
        assert!(one.await.unwrap());
    }
    assert_eq!(d.source.count(), 2);
}

#[tokio::test]
async fn keys_are_refreshed_of_themselves_every_ten_minutes() {
    let mut d = Drill::started(FakeSource::new(set_a())).await;
    d.advance(500);
    tokio::task::yield_now().await;
    assert_eq!(d.source.count(), 1, "not before nine minutes");
    d.source.set(set_b());
    d.advance(200);
    d.fetches(2).await;
    assert_eq!(d.verify("p256b", Some("b")), Ok(()));
}

#[tokio::test]
async fn an_outage_is_survived_for_24_h_and_no_longer() {
    let mut d = Drill::started(FakeSource::new(set_a())).await;
    d.source.break_down();
    d.advance(23 * 3600);
    d.fetches(2).await;
    assert_eq!(d.verify("p256", Some("a")), Ok(()));
    let jwks = d.verifier.jwks().unwrap().clone();
    assert_eq!(jwks.status().last_error.as_deref(), Some("connection refused"));
    assert!(jwks.status().age.unwrap() >= Duration::from_secs(23 * 3600));
    d.advance(3700);
    d.fetches(3).await;
    assert_eq!(d.verify("p256", Some("a")), Err(JwtError::KeysUnavailable));
    assert!(!d.verifier.ready());
    d.source.set(set_a());
    d.advance(60);
    d.fetches(4).await;
    assert_eq!(d.verify("p256", Some("a")), Ok(()));
    assert_eq!(jwks.status().last_error, None);
}

#[tokio::test]
async fn garbage_changes_nothing() {
    let mut d = Drill::started(FakeSource::new(set_a())).await;
    let huge = format!("{{\"keys\":[],\"x\":\"{}\"}}", "y".repeat(DOCUMENT_BYTES_MAX));
    let mut n = 1;
    for garbage in [
        "",
        "<html>",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":[]}"#,
        r#"{"keys":[1,{"kty":"oct","k":"AAAA"}]}"#,
        &huge,
    ] {
        d.source.set(garbage);
        // A set that is well is left alone for ten minutes; after a failure some 30 s are enough.
        d.advance(if n == 1 { 700 } else { 60 });
        n += 1;
        d.fetches(n).await;
        assert_eq!(d.verify("p256", Some("a")), Ok(()), "{garbage:.40}");
        assert!(d.verifier.jwks().unwrap().status().last_error.is_some());
    }
}

#[tokio::test]
async fn keys_without_kid_are_tried_and_looked_for_anew_when_they_fail() {
    let mut d = Drill::started(FakeSource::new(jwks(&[jwk("p256", None)]))).await;
    assert_eq!(d.verify("p256", None), Ok(()));
    assert_eq!(d.verify("p256b", None), Err(JwtError::BadSignature));
    d.source.set(jwks(&[jwk("p256b", None)]));
    d.advance(31);
    d.fetches(2).await;
    assert_eq!(d.verify("p256b", None), Ok(()));
    assert_eq!(d.verify("p256", None), Err(JwtError::BadSignature));
}

#[tokio::test]
async fn an_unchanged_set_keeps_what_was_verified() {
    let mut d = Drill::started(FakeSource::new(set_a())).await;
    let t = d.token("p256", Some("a"));
    let first = d.verifier.verify(&t).unwrap();
    d.advance(700);
    d.fetches(2).await;
    assert!(Arc::ptr_eq(&first, &d.verifier.verify(&t).unwrap()));
}

#[tokio::test]
async fn dropping_the_last_holder_stops_the_task() {
    let d = Drill::started(FakeSource::new(set_a())).await;
    let inner = Arc::downgrade(&d.verifier.jwks().unwrap().inner);
    drop((d.verifier, d.ended));
    let gone = async {
        while inner.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the task lives on");
}

#[test]
fn made_outside_a_runtime_it_starts_with_the_first_token() {
    let mut d = Drill::new(FakeSource::new(set_a()));
    assert_eq!(d.verify("p256", Some("a")), Err(JwtError::KeysUnavailable));
    assert_eq!(d.source.count(), 0);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let t = d.token("p256", Some("a"));
    runtime().block_on(async { d.verifier.verify_wait(&t).await.unwrap() });
    // That runtime is gone, and the task with it; the next token, known as it is, brings it back to life.
    d.source.set(set_b());
    d.clock.advance(Duration::from_secs(700));
    runtime().block_on(async {
        assert_eq!(d.verify("p256", Some("a")), Ok(()));
        d.fetches(2).await;
        assert_eq!(d.verify("p256b", Some("b")), Ok(()));
    });
}

#[tokio::test]
async fn a_reload_goes_on_with_the_keys_that_are_there() {
    let (pool, clock) = (JwksPool::default(), Clock::manual());
    let source = Arc::new(FakeSource::new(set_a()));
    let open = |url: &str| pool.get(url, &clock, || source.clone());
    let first = open("https://a/");
    assert!(Arc::ptr_eq(&first, &open("https://a/")));
    assert!(!Arc::ptr_eq(&first, &open("https://b/")));
    let before = Arc::as_ptr(&first);
    drop(first);
    let again = open("https://a/");
    assert!(Arc::as_ptr(&again) != before || again.status().keys == 0, "the pool keeps nothing alive");
}

#[test]
fn rfc7517_5_unusable_keys_are_skipped() {
    let with = |name: &str, field: &str, value: serde_json::Value| {
        let mut key = jwk(name, Some("x"));
        key[field] = value;
        key
    };
    let skipped = [
        json!({ "kty": "oct", "k": b64(SECRET), "alg": "HS256", "kid": "x" }),
        json!({ "kty": "new", "kid": "x" }),
        json!({ "kty": 1 }),
        with("p256", "use", json!("enc")),
        with("p256", "key_ops", json!(["encrypt"])),
        with("p256", "alg", json!("ES384")),
        with("p256", "alg", json!("HS256")),
        with("p256", "alg", json!(1)),
        with("p256", "crv", json!("P-521")),
        with("p256", "crv", json!("P-384")),
        with("p256", "y", json!(b64([1; 32]))),
        with("p256", "x", json!(b64([0; 31]))),
        with("ed25519", "x", json!(b64([1; 16]))),
        with("ed25519", "crv", json!("Ed448")),
        with("rsa", "e", json!(b64([1]))),
        with("rsa", "e", json!(b64([2]))),
        with("rsa", "e", json!("")),
        with("rsa", "n", json!("")),
        with("rsa", "n", json!(b64([0xff; 1024]))),
        with("rsa", "alg", json!("RSA-OAEP")),
        jwk("rsa1024", Some("x")),
    ];
    for key in &skipped {
        assert!(keys::from_jwks(jwks(std::slice::from_ref(key)).as_bytes()).is_err(), "{key}");
    }
    let mut all = skipped.to_vec();
    all.extend(["p256", "p384", "ed25519", "rsa"].map(|n| jwk(n, Some(n))));
    let set = KeySet::new(keys::from_jwks(jwks(&all).as_bytes()).unwrap(), 1);
    assert_eq!(set.len(), 4);
    assert!(!set.has(Algorithm::HS256) && set.has(Algorithm::PS512) && set.has(Algorithm::EdDSA));
}

#[tokio::test]
async fn every_public_algorithm_verifies_with_published_keys() {
    let all = ["p256", "p384", "ed25519", "rsa"].map(|n| jwk(n, Some(n)));
    let d = Drill::started(FakeSource::new(jwks(&all))).await;
    for a in Algorithm::ALL {
        let name = fixture_name(a);
        let got = d.verifier.verify(&token(a, name, &claims_for(&d.clock, 60)));
        assert_eq!(got.is_ok(), name.is_some(), "{a:?}");
    }
}

#[test]
fn addresses_of_key_sets() {
    let (base, target) = split_url("https://id.example.com:8443/a/jwks?p=x").unwrap();
    assert_eq!(
        (base.host.as_str(), base.port, base.path.as_str(), target.as_str()),
        ("id.example.com", 8443, "", "/a/jwks?p=x")
    );
    assert_eq!(split_url("https://id.example.com").unwrap().1, "/");
    for ok in ["https://id.example.com/", "http://127.0.0.1:9/x", "http://[::1]/x", "http://localhost/x"] {
        assert!(check_url(ok, false).is_ok(), "{ok}");
    }
    for bad in ["http://id.example.com/", "http://127.0.0.1.evil.example/", "/jwks", "id.example.com", "file:///x", ""]
    {
        assert!(check_url(bad, false).is_err(), "{bad}");
    }
    assert!(check_url("http://id.example.com/", true).is_ok());
}
