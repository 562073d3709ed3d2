//! What honest tokens may and may not do; faults of the configuration.

use super::*;
use crate::auth::testkit::*;
use crate::config::auth::Auth;
use serde_json::{Value, json};
use std::io::Write;

/// Compiles the `jwt:` block; `SECRET` stands for a file with the shared secret, `PUB(x)` for a fixture.
fn compile(yaml: &str, clock: &Clock) -> Result<JwtVerifier, AuthError> {
    let mut secret = tempfile::NamedTempFile::new().unwrap();
    secret.write_all(SECRET.as_bytes()).unwrap();
    let yaml = yaml.replace("SECRET", &format!("file:{}", secret.path().display()));
    let yaml = yaml.replace("PUB/", &format!("file:{}", path("")));
    let auth: Auth = serde_yaml::from_str(&format!("jwt: {{ {yaml} }}")).unwrap();
    JwtVerifier::new("main", auth.jwt.as_ref().unwrap(), clock.clone(), None)
}

const HS: &str = "keys: [ { secret: 'SECRET', algorithm: HS256 } ]";

fn hs(extra: &str) -> (JwtVerifier, Clock) {
    let clock = Clock::manual();
    (compile(&format!("{HS}, {extra}"), &clock).unwrap(), clock)
}

fn hs_verify(v: &JwtVerifier, claims: &Value) -> Result<Arc<Claims>, JwtError> {
    v.verify(&token(Algorithm::HS256, None, claims))
}

#[test]
fn every_algorithm_round_trips_and_fits_only_its_own_key() {
    let clock = Clock::manual();
    let tokens = Algorithm::ALL.map(|b| (b, token(b, None, &claims_for(&clock, 600))));
    for a in Algorithm::ALL {
        let key = match fixture_name(a) {
            None => "secret: 'SECRET'".to_owned(),
            Some(n) => format!("public_key: 'PUB/{n}.pub.pem'"),
        };
        let v = compile(&format!("keys: [ {{ {key}, algorithm: {} }} ]", a.as_str()), &clock).unwrap();
        for (b, token) in &tokens {
            let got = v.verify(token);
            if a == *b {
                assert_eq!(got.unwrap().sub.as_deref(), Some("alice"), "{a:?}");
            } else {
                assert_eq!(got.unwrap_err(), JwtError::Algorithm, "{a:?} <- {b:?}");
            }
        }
    }
}

#[test]
fn another_key_of_the_same_kind_does_not_verify() {
    let clock = Clock::manual();
    let v = compile("keys: [ { public_key: 'PUB/p256.pub.pem', algorithm: ES256 } ]", &clock).unwrap();
    let foreign = token_by(Algorithm::ES256, Some("p256b"), None, &claims_for(&clock, 60));
    assert_eq!(v.verify(&foreign).unwrap_err(), JwtError::BadSignature);
}

#[test]
fn the_kid_chooses_among_keys_and_keys_without_one_serve_all() {
    let clock = Clock::manual();
    let two = "keys: [ { public_key: 'PUB/p256.pub.pem', algorithm: ES256, kid: a },
                       { public_key: 'PUB/p256b.pub.pem', algorithm: ES256, kid: b } ]";
    let v = compile(two, &clock).unwrap();
    let by = |name, kid| token_by(Algorithm::ES256, Some(name), kid, &claims_for(&clock, 60));
    assert!(v.verify(&by("p256", Some("a"))).is_ok());
    assert!(v.verify(&by("p256b", Some("b"))).is_ok());
    assert!(v.verify(&by("p256b", None)).is_ok(), "no kid: all keys are tried");
    assert_eq!(v.verify(&by("p256", Some("b"))).unwrap_err(), JwtError::BadSignature);
    assert_eq!(v.verify(&by("p256", Some("c"))).unwrap_err(), JwtError::UnknownKid);
    let one = compile("keys: [ { public_key: 'PUB/p256.pub.pem', algorithm: ES256 } ]", &clock).unwrap();
    assert!(one.verify(&by("p256", Some("anything"))).is_ok());
}

#[test]
fn rfc7519_4_1_4_exp_with_leeway() {
    let (v, clock) = hs("leeway: 30s");
    let t = token(Algorithm::HS256, None, &claims_for(&clock, 100));
    assert!(v.verify(&t).is_ok());
    clock.advance(Duration::from_secs(110));
    assert!(v.verify(&t).is_ok(), "within the leeway");
    clock.advance(Duration::from_secs(25));
    assert_eq!(v.verify(&t).unwrap_err(), JwtError::Expired, "a remembered token ends too");
    assert_eq!(hs_verify(&v, &claims_for(&clock, 0)).unwrap().sub.as_deref(), Some("alice"));
    let now = clock.unix_secs();
    assert_eq!(hs_verify(&v, &json!({ "exp": now - 31 })).unwrap_err(), JwtError::Expired);
}

#[test]
fn rfc7519_4_1_5_nbf_with_leeway() {
    let (v, clock) = hs("leeway: 30s");
    let now = clock.unix_secs();
    let with_nbf = |nbf: Value| json!({ "exp": now + 3600, "nbf": nbf });
    assert!(hs_verify(&v, &with_nbf(json!(now + 20))).is_ok());
    assert!(hs_verify(&v, &with_nbf(json!(now as f64 - 0.5))).is_ok());
    let later = token(Algorithm::HS256, None, &with_nbf(json!(now + 100)));
    assert_eq!(v.verify(&later).unwrap_err(), JwtError::NotYetValid);
    clock.advance(Duration::from_secs(80));
    assert!(v.verify(&later).is_ok());
    assert_eq!(hs_verify(&v, &with_nbf(json!("1"))).unwrap_err(), JwtError::Malformed);
}

#[test]
fn dates_must_be_numbers_a_string_is_a_type_confusion() {
    let (v, clock) = hs("issuer: x");
    let exp = clock.unix_secs() + 60;
    for bad in
        [json!(exp.to_string()), json!(null), json!([exp]), json!({ "v": exp }), json!(-1), json!(true), json!(1e300)]
    {
        assert_eq!(hs_verify(&v, &json!({ "exp": bad, "iss": "x" })).unwrap_err(), JwtError::Malformed, "{bad}");
    }
    assert_eq!(hs_verify(&v, &json!({ "iss": "x" })).unwrap_err(), JwtError::Malformed, "exp is required");
    assert_eq!(hs_verify(&v, &json!({ "iss": "x", "exp": exp as f64 + 0.5 })).unwrap().exp, exp);
}

#[test]
fn rfc7519_4_1_1_issuer_to_the_letter() {
    let (v, clock) = hs("issuer: 'https://id.example.com/'");
    let exp = clock.unix_secs() + 60;
    assert!(hs_verify(&v, &json!({ "exp": exp, "iss": "https://id.example.com/" })).is_ok());
    for iss in [
        json!("https://id.example.com"),
        json!("HTTPS://ID.example.com/"),
        json!(["https://id.example.com/"]),
        json!(null),
    ] {
        assert_eq!(hs_verify(&v, &json!({ "exp": exp, "iss": iss })).unwrap_err(), JwtError::WrongIssuer, "{iss}");
    }
    assert_eq!(hs_verify(&v, &json!({ "exp": exp })).unwrap_err(), JwtError::WrongIssuer);
}

#[test]
fn rfc7519_4_1_3_audience_string_or_list() {
    let (v, clock) = hs("audience: [shop, api]");
    let exp = clock.unix_secs() + 60;
    for aud in [json!("shop"), json!("api"), json!(["x", "api"])] {
        assert!(hs_verify(&v, &json!({ "exp": exp, "aud": aud })).is_ok(), "{aud}");
    }
    for aud in [json!("Shop"), json!("shop "), json!("shopapi"), json!([]), json!(["x"])] {
        assert_eq!(hs_verify(&v, &json!({ "exp": exp, "aud": aud })).unwrap_err(), JwtError::WrongAudience, "{aud}");
    }
    for aud in [json!({ "shop": 1 }), json!(["shop", 1]), json!(null), json!(true)] {
        assert_eq!(hs_verify(&v, &json!({ "exp": exp, "aud": aud })).unwrap_err(), JwtError::Malformed, "{aud}");
    }
    assert_eq!(hs_verify(&v, &json!({ "exp": exp })).unwrap_err(), JwtError::WrongAudience);
}

#[test]
fn the_tenant_is_sub_or_the_claim_that_was_demanded() {
    let (v, clock) = hs("leeway: 0s");
    let exp = clock.unix_secs() + 60;
    assert_eq!(hs_verify(&v, &json!({ "exp": exp, "sub": "a" })).unwrap().tenant.as_deref(), Some("a"));
    assert_eq!(hs_verify(&v, &json!({ "exp": exp })).unwrap().tenant, None);
    assert_eq!(hs_verify(&v, &json!({ "exp": exp, "sub": 7 })).unwrap_err(), JwtError::Malformed);
    let (v, clock) = hs("tenant_claim: 'https://x.example/org'");
    let exp = clock.unix_secs() + 60;
    let with = |org: Value| hs_verify(&v, &json!({ "exp": exp, "sub": "a", "https://x.example/org": org }));
    assert_eq!(with(json!("acme")).unwrap().tenant.as_deref(), Some("acme"));
    assert_eq!(with(json!(42)).unwrap().tenant.as_deref(), Some("42"));
    for bad in [json!(""), json!(null), json!(["acme"]), json!(1.5)] {
        assert_eq!(with(bad).unwrap_err(), JwtError::MissingClaim);
    }
    assert_eq!(hs_verify(&v, &json!({ "exp": exp, "sub": "a" })).unwrap_err(), JwtError::MissingClaim);
}

#[test]
fn the_second_look_at_a_token_is_the_same_claims() {
    let (v, clock) = hs("leeway: 0s");
    let t = token(Algorithm::HS256, None, &json!({ "exp": clock.unix_secs() + 60, "sub": "a", "roles": ["x", "y"] }));
    let first = v.verify(&t).unwrap();
    assert!(Arc::ptr_eq(&first, &v.verify(&t).unwrap()));
    assert_eq!(first.json["roles"][1], "y");
    // A token that begins and ends alike is another token.
    let other =
        token(Algorithm::HS256, None, &json!({ "exp": clock.unix_secs() + 60, "sub": "b", "roles": ["x", "y"] }));
    assert_eq!(v.verify(&other).unwrap().sub.as_deref(), Some("b"));
}

#[test]
fn faults_of_the_configuration_name_place_and_remedy() {
    let clock = Clock::manual();
    let fault = |yaml: &str| compile(yaml, &clock).err().map(|e| e.to_string()).unwrap_or_default();
    let es = |file: &str, a: &str| format!("keys: [ {{ public_key: 'PUB/{file}', algorithm: {a} }} ]");
    for (yaml, want) in [
        ("issuer: x".to_owned(), "auth.main.jwt: give exactly one of keys and jwks_url"),
        (format!("{HS}, jwks_url: 'https://x/'"), "give exactly one of keys and jwks_url"),
        ("keys: [ { algorithm: HS256 } ]".into(), "auth.main.jwt.keys[0]: give exactly one of secret and public_key"),
        ("keys: [ { secret: 'env:SG_UNSET_1', algorithm: HS256 } ]".into(), ".keys[0].secret: environment variable"),
        ("keys: [ { secret: 'SECRET', algorithm: ES256 } ]".into(), ".keys[0].algorithm: ES256 does not go"),
        (es("p256.pub.pem", "HS256"), ".keys[0].algorithm: HS256 does not go"),
        (es("p256.pub.pem", "ES384"), ".keys[0].public_key: ES384 does not go"),
        (es("p384.pub.pem", "ES256"), "ES256 does not go"),
        (es("rsa.pub.pem", "EdDSA"), "EdDSA does not go"),
        (es("ed25519.pub.pem", "RS256"), "RS256 does not go"),
        (es("rsa1024.pub.pem", "RS256"), "2048 to 4096 bits"),
        (es("rsa.key.pem", "RS256"), "private key"),
        (es("../../../Cargo.toml", "RS256"), "not a public key in PEM form"),
        (format!("{HS}, algorithms: [HS256, RS256]"), "auth.main.jwt.algorithms: RS256 does not go"),
        (format!("{HS}, algorithms: []"), ".algorithms: the list is empty"),
        (format!("{HS}, leeway: 11m"), ".leeway: at most 10m"),
        (format!("{HS}, audience: []"), ".audience: an empty audience"),
        (format!("{HS}, tenant_claim: ''"), ".tenant_claim: a claim has a name"),
        (format!("{HS}, token_from: {{ header: 'a b' }}"), ".token_from.header: not the name"),
        ("jwks_url: 'https://id.example.com/x'".into(), ".jwks_url: nothing can fetch it"),
        ("jwks_url: 'http://id.example.com/x'".into(), "use https, or set jwks_allow_http"),
        ("jwks_url: 'ftp://id.example.com/x'".into(), "must start with http"),
    ] {
        let got = fault(&yaml);
        assert!(got.contains(want), "{yaml}: {got}");
    }
}

#[test]
fn a_secret_shorter_than_the_hash_is_refused_without_showing_it() {
    let mut short = tempfile::NamedTempFile::new().unwrap();
    short.write_all(b"canary-canary-canary").unwrap();
    let yaml = format!("keys: [ {{ secret: 'file:{}', algorithm: HS256 }} ]", short.path().display());
    let e = compile(&yaml, &Clock::manual()).err().unwrap();
    assert!(e.to_string().contains("20 bytes; HS256 needs at least 32"), "{e}");
    assert!(!format!("{e} {e:?}").contains("canary"));
}
