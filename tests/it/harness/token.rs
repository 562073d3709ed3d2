//! Tokens for tests, signed with the secret that the tests' configurations name.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// The shared secret of every test gateway, long enough for HS512.
pub const SECRET: &str = "a-secret-that-only-the-tests-know-0123456789-0123456789-0123456789";

/// The `auth:` section that believes tokens signed with `SECRET`; its file stands beside the YAML as `secret`.
pub const AUTH: &str = "\
auth: { main: { jwt: { keys: [ { secret: \"file:$DIR/secret\", algorithm: HS256 } ], issuer: tests, audience: shop } } }
";

/// Seconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The claims of a good token for `subject`.
pub fn claims(subject: &str) -> Value {
    json!({ "sub": subject, "iss": "tests", "aud": "shop", "exp": now() + 600 })
}

/// A token signed with `SECRET` by HS256.
pub fn signed(claims: &Value) -> String {
    signed_as(claims, Algorithm::HS256, SECRET)
}

/// A token signed otherwise.
pub fn signed_as(claims: &Value, algorithm: Algorithm, secret: &str) -> String {
    encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

/// The `Authorization` value of a good token for `subject`.
pub fn bearer(subject: &str) -> String {
    format!("Bearer {}", signed(&claims(subject)))
}
