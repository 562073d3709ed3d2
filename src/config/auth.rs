//! `auth:`: named ways to know who asks: bearer tokens (JWT, RFC 7519), or virtual keys.

use super::apikey::ApiKey;
use super::secret::SecretRef;
use crate::base::units::Dur;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One named way to authenticate, as a route or the policy script refers to it. Exactly one of `jwt` and `api_key` is
/// given.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Bearer tokens signed by an issuer you trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// Virtual keys that you give to clients of the AI gateway, or of anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKey>,
}

/// Which tokens are believed. Exactly one of `keys` and `jwks_url` is given.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// Signature algorithms that are accepted. Default: all that fit the keys. The token never chooses: its `alg` is
    /// only compared with what the key allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithms: Option<Vec<Algorithm>>,
    /// Keys written here, when there is no `jwks_url`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<JwtKey>,
    /// Where the issuer publishes its keys (JWK Set, RFC 7517 §5); `https`, or `http` on a loopback address. Fetched in
    /// the background, kept up to 24 h through an outage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// Allows plain `http` for `jwks_url` beyond loopback. Whoever can change that traffic can forge tokens.
    #[serde(default)]
    pub jwks_allow_http: bool,
    /// What the `iss` claim must be, to the letter. Default: not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What the `aud` claim must contain: one value, or a list of which one suffices. Default: not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<Audience>,
    /// How far the issuer's clock may be from ours when `exp` and `nbf` are checked; at most 10m.
    #[serde(default = "leeway")]
    pub leeway: Dur,
    /// Where the token stands in a request.
    #[serde(default)]
    pub token_from: TokenFrom,
    /// The top-level claim (a string or an integer) that names the tenant: caches and budgets are kept apart by it.
    /// When written here, a token without it is refused. Default: `sub`, where the token has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_claim: Option<String>,
}

/// A key written in the configuration: exactly one of `secret` and `public_key`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtKey {
    /// The shared secret of HS256, HS384 or HS512; at least as long as the hash (32, 48, 64 bytes; RFC 7518 §3.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
    /// A public key in PEM form (`BEGIN PUBLIC KEY` or `BEGIN RSA PUBLIC KEY`), as `file:/path/key.pem` or `env:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<SecretRef>,
    /// The one algorithm that this key is used with.
    pub algorithm: Algorithm,
    /// The key's id. A key without one is tried for every token of its algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
}

/// Signature algorithms (RFC 7518 §3.1, RFC 8037 §3.1). `none` is not among them and cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

/// One audience, or several of which one suffices.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Audience {
    /// One value.
    One(String),
    /// Any of these values.
    Any(Vec<String>),
}

/// Where the token stands in a request; the places are tried in the order header, cookie, query.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenFrom {
    /// A header field. `authorization` must have the scheme `Bearer`; any other field may hold the bare token.
    /// `null` takes no header.
    #[serde(default = "authorization")]
    pub header: Option<String>,
    /// A cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// A query parameter. Tokens in URLs end up in logs and histories: only where a client can do nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

impl Default for TokenFrom {
    fn default() -> Self {
        TokenFrom { header: authorization(), cookie: None, query: None }
    }
}

fn leeway() -> Dur {
    Dur::secs(60)
}

fn authorization() -> Option<String> {
    Some("authorization".to_owned())
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Algorithm; 12] = [
        Algorithm::HS256,
        Algorithm::HS384,
        Algorithm::HS512,
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ];

    /// The name as it stands in a token's `alg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::HS256 => "HS256",
            Algorithm::HS384 => "HS384",
            Algorithm::HS512 => "HS512",
            Algorithm::RS256 => "RS256",
            Algorithm::RS384 => "RS384",
            Algorithm::RS512 => "RS512",
            Algorithm::PS256 => "PS256",
            Algorithm::PS384 => "PS384",
            Algorithm::PS512 => "PS512",
            Algorithm::ES256 => "ES256",
            Algorithm::ES384 => "ES384",
            Algorithm::EdDSA => "EdDSA",
        }
    }

    /// From a token's or a key's `alg`, to the letter; `Ed25519` (RFC 9864 §2.2) is the newer name of `EdDSA`.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Algorithm::EdDSA);
        }
        Algorithm::ALL.into_iter().find(|a| a.as_str() == name)
    }
}

impl Audience {
    /// The accepted values.
    pub fn values(&self) -> &[String] {
        match self {
            Audience::One(v) => std::slice::from_ref(v),
            Audience::Any(v) => v,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<Auth, String> {
        serde_yaml::from_str(yaml).map_err(|e| e.to_string())
    }

    #[test]
    fn the_short_form_has_sound_defaults() {
        let a = parse("jwt: { jwks_url: 'https://id.example.com/jwks.json', audience: shop }").unwrap().jwt.unwrap();
        assert_eq!(a.leeway, Dur::secs(60));
        assert_eq!(a.token_from.header.as_deref(), Some("authorization"));
        assert_eq!(a.audience.unwrap().values(), ["shop"]);
        assert!(a.keys.is_empty() && a.algorithms.is_none() && a.tenant_claim.is_none());
    }

    #[test]
    fn the_long_form_parses_and_survives_a_round_trip() {
        let yaml = "
jwt:
  algorithms: [HS256, ES256, EdDSA]
  keys:
    - { secret: 'env:JWT_SECRET', algorithm: HS256, kid: a }
    - { public_key: 'file:/etc/keys/es.pem', algorithm: ES256 }
  issuer: https://id.example.com/
  audience: [a, b]
  leeway: 5s
  token_from: { header: null, cookie: session, query: access_token }
  tenant_claim: org";
        let a = parse(yaml).unwrap();
        let again = parse(&serde_yaml::to_string(&a).unwrap()).unwrap().jwt.unwrap();
        assert_eq!(again.keys.len(), 2);
        assert_eq!(again.token_from.header, None);
        assert_eq!(again.audience.unwrap().values(), ["a", "b"]);
        assert_eq!(again.keys[1].algorithm, Algorithm::ES256);
    }

    #[test]
    fn unknown_keys_and_algorithms_are_errors() {
        assert!(parse("jwt: { jwks_uri: x }").unwrap_err().contains("jwks_uri"));
        assert!(parse("jwt: { algorithms: [none] }").unwrap_err().contains("none"));
        assert!(parse("jwt: { keys: [ { secret: 'env:X', algorithm: hs256 } ] }").is_err());
        assert!(parse("jwt: { token_from: { body: x } }").is_err());
    }

    #[test]
    fn algorithm_names_are_compared_to_the_letter() {
        for a in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(a.as_str()), Some(a));
        }
        for bad in ["none", "None", "nOnE", "", "hs256", "HS256 ", "ES512", "RSA-OAEP"] {
            assert_eq!(Algorithm::from_name(bad), None, "{bad}");
        }
        assert_eq!(Algorithm::from_name("Ed25519"), Some(Algorithm::EdDSA));
    }
}
