//! Who a client was found to be, by whichever rule, and why one is not let in.

use super::apikey::{Key, KeyRule};
use super::jwt::JwtVerifier;
use super::{Claims, JwtError};
use http::{HeaderMap, HeaderName, StatusCode};
use std::sync::Arc;

/// A verified client.
#[derive(Debug, Clone)]
pub enum Identity {
    /// By a token.
    User(Arc<Claims>),
    /// By a virtual key.
    Key(Arc<Key>),
}

/// One `auth:` entry, compiled.
pub enum Rule {
    /// Bearer tokens.
    Jwt(Arc<JwtVerifier>),
    /// Virtual keys.
    Key(Arc<KeyRule>),
}

/// A client that is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// The status to refuse with.
    pub status: StatusCode,
    /// The one word for log, metric and header.
    pub reason: &'static str,
    /// What is wrong, for the client's developer.
    pub text: String,
    /// `WWW-Authenticate` of the refusal.
    pub challenge: String,
}

impl Identity {
    /// How logs call the client: a token's subject, a key's name.
    pub fn name(&self) -> Option<&str> {
        match self {
            Identity::User(claims) => claims.sub.as_deref(),
            Identity::Key(key) => Some(&key.name),
        }
    }

    /// The claims, where a token was shown.
    pub fn claims(&self) -> Option<&Arc<Claims>> {
        match self {
            Identity::User(claims) => Some(claims),
            Identity::Key(_) => None,
        }
    }

    /// The key, where one was shown.
    pub fn key(&self) -> Option<&Arc<Key>> {
        match self {
            Identity::User(_) => None,
            Identity::Key(key) => Some(key),
        }
    }
}

impl Rule {
    /// Judges what a request shows. Waits where an issuer's keys have to be fetched first.
    pub async fn identify(&self, headers: &HeaderMap, query: Option<&str>) -> Result<Identity, Denied> {
        match self {
            Rule::Jwt(rule) => {
                let judged = match rule.extract(headers, query) {
                    Some(token) => rule.verify_wait(&token).await,
                    None => Err(JwtError::Missing),
                };
                judged.map(Identity::User).map_err(|e| Denied {
                    status: e.status(),
                    reason: e.as_str(),
                    text: e.to_string(),
                    challenge: e.www_authenticate(rule.name()),
                })
            }
            Rule::Key(rule) => rule.verify(headers).map(Identity::Key).map_err(|e| Denied {
                status: e.status(),
                reason: e.as_str(),
                text: e.to_string(),
                challenge: e.www_authenticate(rule.name()),
            }),
        }
    }

    /// The rule for tokens, if it is one.
    pub fn jwt(&self) -> Option<&Arc<JwtVerifier>> {
        match self {
            Rule::Jwt(rule) => Some(rule),
            Rule::Key(_) => None,
        }
    }

    /// The rule for keys, if it is one.
    pub fn keys(&self) -> Option<&Arc<KeyRule>> {
        match self {
            Rule::Jwt(_) => None,
            Rule::Key(rule) => Some(rule),
        }
    }

    /// Whether it can judge now.
    pub fn ready(&self) -> bool {
        self.jwt().is_none_or(|rule| rule.ready())
    }

    /// The field in which a request carries a secret between the client and the gateway: nobody behind it may see that.
    pub fn kept_field(&self, headers: &HeaderMap) -> Option<HeaderName> {
        self.keys()?.shown(headers).map(|(field, _)| field.clone())
    }
}
