//! For tests: keys from the fixtures, tokens signed with them, a key set that counts how often it is fetched.

use super::jwks::JwksSource;
use crate::base::clock::Clock;
use crate::config::auth::Algorithm;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Long enough for every HMAC.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The path of a fixture.
pub fn path(file: &str) -> String {
    format!("{}/tests/fixtures/auth/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// A fixture's text.
pub fn fixture(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap()
}

/// Base64url without padding.
pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The fixture that goes with an algorithm; `None` for HMAC.
pub fn fixture_name(a: Algorithm) -> Option<&'static str> {
    match a {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => None,
        Algorithm::ES256 => Some("p256"),
        Algorithm::ES384 => Some("p384"),
        Algorithm::EdDSA => Some("ed25519"),
        _ => Some("rsa"),
    }
}

/// Signs `message` under `algorithm` with the private key of fixture `name` (HMAC: the shared secret).
pub fn signature(algorithm: Algorithm, name: Option<&str>, message: &[u8]) -> Vec<u8> {
    let pem = name.map(|n| fixture(&format!("{n}.key.pem"))).unwrap_or_default();
    let key = match (name, algorithm) {
        (None, _) => EncodingKey::from_secret(SECRET.as_bytes()),
        (_, Algorithm::ES256 | Algorithm::ES384) => EncodingKey::from_ec_pem(pem.as_bytes()).unwrap(),
        (_, Algorithm::EdDSA) => EncodingKey::from_ed_pem(pem.as_bytes()).unwrap(),
        _ => EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
    };
    let native = algorithm.as_str().parse().unwrap();
    (DEFAULT_PROVIDER.signer_factory)(&native, &key).unwrap().try_sign(message).unwrap()
}

/// A token of these very texts, signed under `algorithm` whatever the header says.
pub fn token_of(header: &str, claims: &str, algorithm: Algorithm, name: Option<&str>) -> String {
    let message = format!("{}.{}", b64(header), b64(claims));
    let signature = signature(algorithm, name, message.as_bytes());
    format!("{message}.{}", b64(signature))
}

/// An honest token, with the fixture that fits the algorithm.
pub fn token(algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
    token_by(algorithm, fixture_name(algorithm), kid, claims)
}

/// An honest token by the key of fixture `name`.
pub fn token_by(algorithm: Algorithm, name: Option<&str>, kid: Option<&str>, claims: &Value) -> String {
    let mut header = json!({ "alg": algorithm.as_str(), "typ": "JWT" });
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    token_of(&header.to_string(), &claims.to_string(), algorithm, name)
}

/// Claims that end in `secs` seconds.
pub fn claims_for(clock: &Clock, secs: u64) -> Value {
    json!({ "sub": "alice", "exp": clock.unix_secs() + secs })
}

/// The JWK of fixture `name`.
pub fn jwk(name: &str, kid: Option<&str>) -> Value {
    let pem = fixture(&format!("{name}.pub.pem"));
    let pem = pem.as_bytes();
    let bytes = |key: DecodingKey| key.try_get_as_bytes().unwrap().to_vec();
    let mut jwk = match name {
        "ed25519" => {
            json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(bytes(DecodingKey::from_ed_pem(pem).unwrap())) })
        }
        "rsa" | "rsa1024" => {
            let der = bytes(DecodingKey::from_rsa_pem(pem).unwrap());
            let (n, e) = (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(&der).unwrap();
            json!({ "kty": "RSA", "n": b64(n), "e": b64(e) })
        }
        _ => {
            let point = bytes(DecodingKey::from_ec_pem(pem).unwrap());
            let (x, y) = point[1..].split_at((point.len() - 1) / 2);
            let crv = if x.len() == 48 { "P-384" } else { "P-256" };
            json!({ "kty": "EC", "crv": crv, "x": b64(x), "y": b64(y), "use": "sig" })
        }
    };
    if let Some(kid) = kid {
        jwk["kid"] = kid.into();
    }
    jwk
}

/// A key set of these keys.
pub fn jwks(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// A source whose answer can be changed, and which counts.
pub struct FakeSource {
    answer: Mutex<Result<Bytes, String>>,
    /// Fetches so far.
    pub fetched: AtomicUsize,
    delay: Duration,
}

impl FakeSource {
    /// A source that answers at once.
    pub fn new(answer: impl Into<String>) -> Self {
        FakeSource::slow(answer, Duration::ZERO)
    }

    /// A source that takes its time.
    pub fn slow(answer: impl Into<String>, delay: Duration) -> Self {
        FakeSource { answer: Mutex::new(Ok(answer.into().into())), fetched: AtomicUsize::new(0), delay }
    }

    /// Changes the document.
    pub fn set(&self, answer: impl Into<String>) {
        *self.answer.lock().unwrap() = Ok(answer.into().into());
    }

    /// From now on it fails.
    pub fn break_down(&self) {
        *self.answer.lock().unwrap() = Err("connection refused".into());
    }

    /// Fetches so far.
    pub fn count(&self) -> usize {
        self.fetched.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl JwksSource for FakeSource {
    async fn fetch(&self) -> Result<Bytes, String> {
        self.fetched.fetch_add(1, Ordering::SeqCst);
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        self.answer.lock().unwrap().clone()
    }
}
