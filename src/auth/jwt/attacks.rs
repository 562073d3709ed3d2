//! Drill D28: tokens that are meant to get past a verifier.

use super::*;
use crate::auth::testkit::*;
use crate::config::auth::Auth;
use serde_json::json;

fn verifier(clock: &Clock) -> JwtVerifier {
    let keys = ["rsa RS256", "p256 ES256", "ed25519 EdDSA"].map(|pair| {
        let (name, algorithm) = pair.split_once(' ').unwrap();
        json!({ "public_key": format!("file:{}", path(&format!("{name}.pub.pem"))), "algorithm": algorithm, "kid": name })
    });
    let auth: Auth = serde_json::from_value(json!({ "jwt": { "keys": keys } })).unwrap();
    JwtVerifier::new("main", auth.jwt.as_ref().unwrap(), clock.clone(), None).unwrap()
}

fn claims(clock: &Clock) -> String {
    claims_for(clock, 600).to_string()
}

/// A good ES256 signature over a header of one's own making.
fn signed(clock: &Clock, header: &str) -> Result<Arc<Claims>, JwtError> {
    verifier(clock).verify(&token_of(header, &claims(clock), Algorithm::ES256, Some("p256")))
}

#[test]
fn the_honest_token_of_these_tests_is_accepted() {
    let clock = Clock::manual();
    assert!(signed(&clock, r#"{"alg":"ES256","kid":"p256"}"#).is_ok());
}

#[test]
fn alg_none_in_any_spelling() {
    let clock = Clock::manual();
    let v = verifier(&clock);
    for alg in ["none", "None", "NONE", "nOnE", "", " none", "none\\u0000", "null"] {
        let message = format!("{}.{}", b64(format!(r#"{{"alg":"{alg}"}}"#)), b64(claims(&clock)));
        for signature in ["", "AA", "bm9uZQ"] {
            let got = v.verify(&format!("{message}.{signature}")).unwrap_err();
            assert_eq!(got, JwtError::Algorithm, "{alg:?}");
        }
        assert_eq!(v.verify(&message).unwrap_err(), JwtError::Malformed, "two parts");
    }
    for header in [r#"{"alg":null}"#, r#"{"alg":["ES256"]}"#, r#"{"alg":0}"#, "{}", r#"{"ALG":"ES256"}"#] {
        assert_eq!(signed(&clock, header).unwrap_err(), JwtError::Malformed, "{header}");
    }
}

#[test]
fn rs256_to_hs256_confusion_with_the_public_key_as_secret() {
    let clock = Clock::manual();
    let v = verifier(&clock);
    let pem = fixture("rsa.pub.pem");
    for secret in [pem.as_bytes(), pem.trim().as_bytes()] {
        for kid in ["", r#","kid":"rsa""#] {
            let message = format!("{}.{}", b64(format!(r#"{{"alg":"HS256"{kid}}}"#)), b64(claims(&clock)));
            let key = jsonwebtoken::EncodingKey::from_secret(secret);
            let provider = &jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
            let mac = (provider.signer_factory)(&jsonwebtoken::Algorithm::HS256, &key).unwrap();
            let token = format!("{message}.{}", b64(mac.try_sign(message.as_bytes()).unwrap()));
            assert_eq!(v.verify(&token).unwrap_err(), JwtError::Algorithm);
        }
    }
}

#[test]
fn a_key_does_not_lend_itself_to_another_algorithm() {
    let clock = Clock::manual();
    let v = verifier(&clock);
    for a in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS512] {
        let t = token(a, Some("rsa"), &claims_for(&clock, 60));
        assert_eq!(v.verify(&t).unwrap_err(), JwtError::Algorithm, "{a:?}");
    }
    // The kid of one key with the algorithm of another.
    let t = token(Algorithm::ES256, Some("rsa"), &claims_for(&clock, 60));
    assert_eq!(v.verify(&t).unwrap_err(), JwtError::Algorithm);
}

#[test]
fn a_kid_is_only_ever_compared() {
    let clock = Clock::manual();
    for kid in [
        "../../../../dev/null",
        "/dev/null",
        "' UNION SELECT 'x'; --",
        "p256\\u0000",
        "P256",
        "",
        "file:///etc/passwd",
        "http://evil.example/k",
        "${jndi:ldap://x}",
        "| id",
    ] {
        let got = signed(&clock, &format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#)).unwrap_err();
        assert_eq!(got, JwtError::UnknownKid, "{kid}");
    }
    for kid in ["1", "null", r#"["p256"]"#, r#"{"p256":1}"#] {
        let got = signed(&clock, &format!(r#"{{"alg":"ES256","kid":{kid}}}"#)).unwrap_err();
        assert_eq!(got, JwtError::Malformed, "{kid}");
    }
    let long = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "p".repeat(300));
    assert_eq!(signed(&clock, &long).unwrap_err(), JwtError::Malformed);
}

#[test]
fn keys_brought_along_by_the_token_are_not_used() {
    let clock = Clock::manual();
    let v = verifier(&clock);
    let own = jwk("p256b", Some("p256"));
    for extra in [
        format!(r#""jwk":{own}"#),
        r#""jku":"https://evil.example/jwks.json""#.to_owned(),
        r#""x5u":"https://evil.example/c.pem""#.to_owned(),
        r#""x5c":["AAAA"]"#.to_owned(),
    ] {
        let header = format!(r#"{{"alg":"ES256","kid":"p256",{extra}}}"#);
        let forged = token_of(&header, &claims(&clock), Algorithm::ES256, Some("p256b"));
        assert_eq!(v.verify(&forged).unwrap_err(), JwtError::BadSignature, "{extra}");
        assert!(signed(&clock, &header).is_ok(), "ignored, not obeyed");
    }
}

#[test]
fn rfc7515_4_1_11_crit_is_refused() {
    let clock = Clock::manual();
    for crit in [r#"["exp"]"#, r#"["b64"],"b64":false"#, "[]", "null", "\"x\""] {
        let got = signed(&clock, &format!(r#"{{"alg":"ES256","kid":"p256","crit":{crit}}}"#)).unwrap_err();
        assert_eq!(got, JwtError::Malformed, "{crit}");
    }
}

#[test]
fn empty_zero_and_odd_signatures() {
    let clock = Clock::manual();
    let v = verifier(&clock);
    for (alg, len) in [("ES256", 64), ("RS256", 256), ("EdDSA", 64)] {
        let message = format!("{}.{}", b64(format!(r#"{{"alg":"{alg}"}}"#)), b64(claims(&clock)));
        for signature in [vec![], vec![0; len], vec![0; 1], vec![0xff; len], vec![0; len * 2], vec![1; 4096]] {
            let got = v.verify(&format!("{message}.{}", b64(&signature))).unwrap_err();
            assert_eq!(got, JwtError::BadSignature, "{alg} {}", signature.len());
        }
    }
}

#[test]
fn every_changed_bit_breaks_the_token() {
    let clock = Clock::manual();
    let v = verifier(&clock);
    let good = token(Algorithm::EdDSA, Some("ed25519"), &claims_for(&clock, 600));
    assert!(v.verify(&good).is_ok());
    for i in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
        let bad = String::from_utf8(bytes).unwrap();
        assert!(v.verify(&bad).is_err(), "at {i}");
    }
    for bad in [format!("{good}="), format!("{good}A"), format!("{good}."), format!(" {good}"), format!("{good}\n")] {
        assert!(v.verify(&bad).is_err(), "{bad}");
    }
}

#[test]
fn a_megabyte_is_refused_before_any_work() {
    let clock = Clock::manual();
    let v = verifier(&clock);
    let huge = token_of(
        r#"{"alg":"ES256"}"#,
        &json!({ "x": "y".repeat(1 << 20) }).to_string(),
        Algorithm::ES256,
        Some("p256"),
    );
    let began = std::time::Instant::now();
    for _ in 0..1000 {
        assert_eq!(v.verify(&huge).unwrap_err(), JwtError::Malformed);
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let just = token_of(
        r#"{"alg":"ES256"}"#,
        &json!({ "exp": clock.unix_secs() + 60, "x": "y".repeat(12_000) }).to_string(),
        Algorithm::ES256,
        Some("p256"),
    );
    assert!(just.len() <= TOKEN_BYTES_MAX && v.verify(&just).is_ok());
}

#[test]
fn duplicate_names_in_header_or_claims() {
    let clock = Clock::manual();
    let v = verifier(&clock);
    for header in [
        r#"{"alg":"ES256","alg":"ES256"}"#,
        r#"{"alg":"none","alg":"ES256"}"#,
        r#"{"alg":"ES256","\u0061lg":"HS256"}"#,
        r#"{"alg":"ES256","kid":"p256","kid":"rsa"}"#,
        r#"{"alg":"ES256"} "#,
        r#"{"alg":"ES256"}{}"#,
        r#"["alg","ES256"]"#,
    ] {
        let got = signed(&clock, header);
        // White space around one object is JSON all the same.
        assert_eq!(got.is_ok(), header.ends_with(' '), "{header}");
    }
    let exp = clock.unix_secs() + 60;
    for claims in [
        format!(r#"{{"exp":{exp},"sub":"a","sub":"admin"}}"#),
        format!(r#"{{"exp":1,"exp":{exp}}}"#),
        format!(r#"{{"exp":{exp},"x":{{"a":1,"a":2}}}}"#),
        format!(r#"[{exp}]"#),
        "null".to_owned(),
        String::new(),
    ] {
        let t = token_of(r#"{"alg":"ES256"}"#, &claims, Algorithm::ES256, Some("p256"));
        assert_eq!(v.verify(&t).unwrap_err(), JwtError::Malformed, "{claims}");
    }
}

#[test]
fn shapes_that_are_no_token() {
    let v = verifier(&Clock::manual());
    assert_eq!(v.verify("").unwrap_err(), JwtError::Missing);
    for bad in
        [".", "..", "...", "a.b", "a.b.c.d", "a.b.c.d.e", "\u{1F980}.\u{1F980}.\u{1F980}", "e30.e30.e30", "!!.e30.AA"]
    {
        assert_eq!(v.verify(bad).unwrap_err(), JwtError::Malformed, "{bad}");
    }
}

#[test]
fn any_text_is_survived_and_refused() {
    let v = verifier(&Clock::manual());
    proptest::proptest!(|(text in "\\PC{0,200}", head in "[A-Za-z0-9_.-]{0,200}")| {
        proptest::prop_assert!(v.verify(&text).is_err());
        proptest::prop_assert!(v.verify(&head).is_err());
    });
}
