//! Bearer tokens at the door: who gets through, who does not, and that nothing is learnt from a refusal.

use crate::harness::client::Response;
use crate::harness::edge::{Edge, Setup};
use crate::harness::origin::{Origin, reply};
use crate::harness::token::{AUTH, SECRET, bearer, claims, now, signed, signed_as};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::Algorithm;
use serde_json::json;

async fn guarded(origin: &Origin) -> Edge {
    let routes = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 16MiB } } }
routes:
  - { match: { path: /private/* }, upstream: app, cache: true, auth: main }
  - { upstream: app }
";
    let yaml = format!("{AUTH}{routes}");
    Setup::new(&yaml).put("ORIGIN", origin.address).file("secret", SECRET).start().await
}

async fn with_token(edge: &Edge, token: &str) -> Response {
    edge.ask("GET", "/private/", &[("Authorization", &format!("Bearer {token}"))], b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_gets_through_and_none_does_not() {
    let origin = Origin::fixed("inside").await;
    let edge = guarded(&origin).await;
    let without = edge.get("/private/").await;
    assert_eq!((without.status, without.source()), (401, "auth"), "{without:?}");
    assert!(without.header("www-authenticate").starts_with("Bearer"), "rfc6750_3: {without:?}");
    assert_eq!(origin.hits(), 0);
    let with = edge.ask("GET", "/private/", &[("Authorization", &bearer("ada"))], b"").await;
    assert_eq!((with.status, with.text().as_str()), (200, "inside"));
    assert_eq!(edge.get("/public").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_lie_are_refused() {
    let origin = Origin::fixed("inside").await;
    let edge = guarded(&origin).await;
    let mut expired = claims("ada");
    expired["exp"] = json!(now() - 3600);
    let mut early = claims("ada");
    early["nbf"] = json!(now() + 3600);
    let mut issuer = claims("ada");
    issuer["iss"] = json!("elsewhere");
    let mut audience = claims("ada");
    audience["aud"] = json!("other");
    let encode = |v: &serde_json::Value| BASE64.encode(v.to_string());
    let none = format!("{}.{}.", encode(&json!({ "alg": "none", "typ": "JWT" })), encode(&claims("ada")));
    let good = signed(&claims("ada"));
    let flipped = format!("{}A", good.strip_suffix(good.chars().last().unwrap()).unwrap());
    let mut parts = good.split('.');
    let (head, _, signature) = (parts.next().unwrap(), parts.next(), parts.next().unwrap());
    let swapped = format!("{head}.{}.{signature}", encode(&claims("mallory")));
    for (what, token) in [
        ("expired", signed(&expired)),
        ("not yet valid", signed(&early)),
        ("of another issuer", signed(&issuer)),
        ("for another audience", signed(&audience)),
        (
            "signed with another secret",
            signed_as(&claims("ada"), Algorithm::HS256, "another secret, as long as the real one is"),
        ),
        ("signed by another algorithm", signed_as(&claims("ada"), Algorithm::HS512, SECRET)),
        ("without a signature", none),
        ("with a changed signature", if flipped == good { format!("{good}A") } else { flipped }),
        ("with changed claims", swapped),
        ("empty", String::new()),
        ("long", "a".repeat(10_000)),
    ] {
        let answer = with_token(&edge, &token).await;
        assert_eq!((answer.status, answer.source()), (401, "auth"), "a token {what} got {answer:?}");
        assert!(!answer.text().contains(SECRET));
    }
    assert_eq!(origin.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_answer_is_never_given_to_one_without_a_token() {
    let origin = Origin::start(|_| reply(200, &[("cache-control", "public, max-age=60")], "inside")).await;
    let edge = guarded(&origin).await;
    for _ in 0..2 {
        assert_eq!(edge.ask("GET", "/private/", &[("Authorization", &bearer("ada"))], b"").await.status, 200);
    }
    assert_eq!(edge.get("/private/").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_symmetric_key_in_a_public_key_set_is_not_believed() {
    let key = BASE64.encode(SECRET);
    let jwks = Origin::start(move |_| {
        let keys = json!({ "keys": [{ "kty": "oct", "k": key, "alg": "HS256", "use": "sig" }] });
        reply(200, &[("content-type", "application/json")], keys.to_string())
    })
    .await;
    let yaml = "
auth: { main: { jwt: { jwks_url: \"http://$JWKS/keys\", issuer: tests, audience: shop } } }
routes: [ { auth: main, respond: { body: inside } } ]
";
    // Symmetric keys have no place in a public key set: the set is read, the key is not believed.
    let edge = Setup::new(yaml).put("JWKS", jwks.address).start().await;
    let answer = with_token(&edge, &signed(&claims("ada"))).await;
    assert!([401, 503].contains(&answer.status), "rfc8725_3_1_symmetric_key_from_jwks: {answer:?}");
}
