//! Who asks: bearer tokens (JWT, RFC 7519) verified against local keys or an issuer's published key set, or virtual keys
//! ([`apikey`]). [`identity::Rule`] is whichever of the two a route names.
//!
//! [`jwt::JwtVerifier`] is compiled once per `auth:` entry and is pure but for its caches; [`jwks::Jwks`] owns the one
//! background task that fetches a key set. A token never chooses how it is checked: the key fixes the algorithm, and
//! header fields that point at keys (`jku`, `x5u`, `jwk`) are not even read.

use crate::config::secret::SecretError;
use http::StatusCode;
use std::fmt;

pub mod apikey;
mod extract;
pub mod identity;
pub mod jwks;
pub mod jwt;
mod keys;
mod token;

#[cfg(test)]
mod testkit;

/// What a verified token says.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// All claims, an object.
    pub json: serde_json::Value,
    /// `sub`: whom the token speaks for.
    pub sub: Option<String>,
    /// The tenant (see `tenant_claim`); caches and budgets are kept apart by it.
    pub tenant: Option<String>,
    /// `exp`: when the token ends, in seconds since the Unix epoch.
    pub exp: u64,
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JwtError {
    /// The request has no token.
    Missing,
    /// Not three parts of base64url JSON, too long, a duplicate key, a claim of the wrong type, a `crit` header.
    Malformed,
    /// Not signed by a key we hold.
    BadSignature,
    /// `exp` has passed.
    Expired,
    /// `nbf` lies ahead.
    NotYetValid,
    /// `iss` is not the issuer we trust.
    WrongIssuer,
    /// `aud` does not name us.
    WrongAudience,
    /// The tenant claim that the configuration demands is absent.
    MissingClaim,
    /// No key has this `kid`.
    UnknownKid,
    /// The algorithm is not one that the key is for.
    Algorithm,
    /// The issuer's keys were never fetched, or are older than the grace: our fault, not the client's.
    KeysUnavailable,
}

impl JwtError {
    /// Every reason, for metric registration.
    pub const ALL: [JwtError; 11] = [
        JwtError::Missing,
        JwtError::Malformed,
        JwtError::BadSignature,
        JwtError::Expired,
        JwtError::NotYetValid,
        JwtError::WrongIssuer,
        JwtError::WrongAudience,
        JwtError::MissingClaim,
        JwtError::UnknownKid,
        JwtError::Algorithm,
        JwtError::KeysUnavailable,
    ];

    /// The one spelling used in logs, metrics and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            JwtError::Missing => "jwt_missing",
            JwtError::Malformed => "jwt_malformed",
            JwtError::BadSignature => "jwt_bad_signature",
            JwtError::Expired => "jwt_expired",
            JwtError::NotYetValid => "jwt_not_yet_valid",
            JwtError::WrongIssuer => "jwt_wrong_issuer",
            JwtError::WrongAudience => "jwt_wrong_audience",
            JwtError::MissingClaim => "jwt_missing_claim",
            JwtError::UnknownKid => "jwt_unknown_kid",
            JwtError::Algorithm => "jwt_algorithm",
            JwtError::KeysUnavailable => "jwt_keys_unavailable",
        }
    }

    /// The status to refuse with: 401, or 503 where the token could not be judged for lack of keys.
    pub fn status(self) -> StatusCode {
        match self {
            JwtError::KeysUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// What is wrong, for the client's developer; `None` where RFC 6750 §3.1 wants no error code.
    fn description(self) -> Option<&'static str> {
        Some(match self {
            JwtError::Missing | JwtError::KeysUnavailable => return None,
            JwtError::Malformed => "the token is malformed",
            JwtError::BadSignature => "the signature does not verify",
            JwtError::Expired => "the token has expired",
            JwtError::NotYetValid => "the token is not valid yet",
            JwtError::WrongIssuer => "the issuer is not trusted",
            JwtError::WrongAudience => "the token is for another audience",
            JwtError::MissingClaim => "a required claim is missing",
            JwtError::UnknownKid => "no key with this kid is known",
            JwtError::Algorithm => "the algorithm is not accepted",
        })
    }

    /// The `WWW-Authenticate` value of the refusal (RFC 6750 §3); a request without any token gets no error code.
    pub fn www_authenticate(self, realm: &str) -> String {
        let realm = quotable(realm);
        match self.description() {
            None => format!("Bearer realm=\"{realm}\""),
            Some(text) => {
                format!("Bearer realm=\"{realm}\", error=\"invalid_token\", error_description=\"{text}\"")
            }
        }
    }
}

/// What of a name can stand in a quoted string of a header.
fn quotable(name: &str) -> String {
    name.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect()
}

impl fmt::Display for JwtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A fault in an `auth:` entry, with its place in the configuration.
#[derive(Debug, thiserror::Error)]
#[error("auth.{name}.jwt{place}: {fault}")]
pub struct AuthError {
    /// The entry's name.
    pub name: String,
    /// The path below it, such as `.keys[1].secret`; empty for the entry itself.
    pub place: String,
    /// What is wrong there.
    pub fault: Fault,
}

/// What can be wrong with an `auth:` entry.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Keys both written and fetched, or neither.
    #[error("give exactly one of keys and jwks_url")]
    KeysOrUrl,
    /// A key of two kinds, or of none.
    #[error("give exactly one of secret and public_key")]
    KeyForm,
    /// The key's text cannot be had.
    #[error("{0}")]
    Secret(#[from] SecretError),
    /// A secret that can be guessed.
    #[error("the secret has {have} bytes; {algorithm} needs at least {need} (RFC 7518 section 3.2)")]
    ShortSecret {
        /// What was found, in bytes.
        have: usize,
        /// What is needed, in bytes.
        need: usize,
        /// For which algorithm.
        algorithm: &'static str,
    },
    /// Not a usable public key.
    #[error("{0}")]
    PublicKey(&'static str),
    /// A key and an algorithm that do not go together.
    #[error("{algorithm} does not go with this key")]
    Unfit {
        /// The algorithm as written.
        algorithm: &'static str,
    },
    /// An address that keys cannot safely be fetched from.
    #[error("{0}")]
    Url(String),
    /// Any other value that makes no sense.
    #[error("{0}")]
    Value(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6750_3_challenges() {
        assert_eq!(JwtError::Missing.www_authenticate("main"), "Bearer realm=\"main\"");
        assert_eq!(
            JwtError::Expired.www_authenticate("main"),
            "Bearer realm=\"main\", error=\"invalid_token\", error_description=\"the token has expired\""
        );
        assert_eq!(JwtError::Missing.www_authenticate("a\"\\\r\nX: y"), "Bearer realm=\"aX: y\"");
        for e in JwtError::ALL {
            assert!(http::HeaderValue::from_str(&e.www_authenticate("m")).is_ok());
        }
    }

    #[test]
    fn only_missing_keys_are_our_fault() {
        let ours: Vec<_> = JwtError::ALL.into_iter().filter(|e| e.status() != StatusCode::UNAUTHORIZED).collect();
        assert_eq!(ours, [JwtError::KeysUnavailable]);
    }
}
