//! Virtual keys: names for secrets that clients show. Only SHA-256 digests are known here. What a request shows is
//! hashed first and looked up by its digest, so that no comparison depends on how much of a secret was guessed; the
//! digest found is then compared in constant time.
//!
//! No slow hash (bcrypt, Argon2) is needed: those protect passwords, which people choose. A key made by
//! [`generate`] has 244 random bits.

mod store;

#[cfg(test)]
mod tests;

use super::extract;
use crate::base::clock::Clock;
use crate::base::ids::hex;
use crate::config::apikey::{Grant, Tenant};
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use subtle::ConstantTimeEq;

pub use store::StoreFault;

/// The longest key that is looked at, in bytes.
const KEY_BYTES_MAX: usize = 1024;
/// What keys made here begin with, so that people and secret scanners know them.
const PREFIX: &str = "slg-";
/// What a hash in the file begins with.
const ALGORITHM: &str = "sha256:";
/// Where clients of the large providers put their keys.
const USUAL: [HeaderName; 4] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("api-key"),
];

type Digest = [u8; 32];

/// A key that is known.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: Arc<str>,
    /// Its team.
    pub team: Option<Arc<str>>,
    /// What it may.
    pub grant: Arc<Grant>,
    /// What its team may.
    pub team_grant: Option<Arc<Grant>>,
    /// What the policy script sees, an object.
    pub metadata: Value,
    /// When it ends, in seconds since 1970.
    pub expires: Option<u64>,
    /// Whether it is refused.
    pub disabled: bool,
    /// When the key that it replaces ends, in seconds since 1970.
    pub previous_until: Option<u64>,
    /// Among whom cached answers are shared.
    tenant: Tenant,
}

/// Why a key is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum KeyError {
    /// The request shows none, or the same field twice.
    #[error("no API key: send it as Authorization: Bearer, or in the field that your client library uses")]
    Missing,
    /// Nobody has it.
    #[error("the API key is not known")]
    Unknown,
    /// Its time is over, or it was replaced.
    #[error("the API key has expired")]
    Expired,
    /// It was switched off.
    #[error("the API key is disabled")]
    Disabled,
}

/// One `auth:` entry with keys.
pub struct KeyRule {
    name: String,
    places: Vec<HeaderName>,
    slots: HashMap<Digest, Slot>,
    keys: Vec<Arc<Key>>,
    clock: Clock,
}

/// What a digest stands for.
struct Slot {
    digest: Digest,
    key: Arc<Key>,
    /// When this digest ends, in seconds since 1970: of a key that was replaced.
    until: Option<u64>,
}

impl KeyError {
    /// The one spelling used in logs, metrics and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyError::Missing => "key_missing",
            KeyError::Unknown => "key_unknown",
            KeyError::Expired => "key_expired",
            KeyError::Disabled => "key_disabled",
        }
    }

    /// The status to refuse with.
    pub fn status(self) -> StatusCode {
        StatusCode::UNAUTHORIZED
    }

    /// The `WWW-Authenticate` value of the refusal (RFC 6750 §3).
    pub fn www_authenticate(self, realm: &str) -> String {
        let realm = super::quotable(realm);
        match self {
            KeyError::Missing => format!("Bearer realm=\"{realm}\""),
            _ => format!("Bearer realm=\"{realm}\", error=\"invalid_token\", error_description=\"{self}\""),
        }
    }
}

impl Key {
    /// Among whom answers are shared: a kind and a name, so that a key and a team of one name differ.
    pub fn tenant(&self) -> (&'static str, &str) {
        match (&self.team, self.tenant) {
            (Some(team), Tenant::Team) => ("team", team),
            _ => ("key", &self.name),
        }
    }

    /// What the policy script sees.
    pub fn told(&self) -> Value {
        serde_json::json!({ "name": &*self.name, "team": self.team.as_deref(), "metadata": self.metadata })
    }

    /// What the key and its team may; both must allow.
    pub fn grants(&self) -> impl Iterator<Item = &Arc<Grant>> {
        std::iter::once(&self.grant).chain(&self.team_grant)
    }
}

impl KeyRule {
    /// The entry's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All keys, by name.
    pub fn keys(&self) -> &[Arc<Key>] {
        &self.keys
    }

    /// The field that carries the key, and the key. Nobody behind the gateway may see it.
    pub fn shown<'a>(&self, headers: &'a HeaderMap) -> Option<(&HeaderName, &'a str)> {
        self.places.iter().find_map(|n| Some((n, extract::header(headers, n)?)))
    }

    /// The key that a request shows.
    pub fn verify(&self, headers: &HeaderMap) -> Result<Arc<Key>, KeyError> {
        let (_, shown) = self.shown(headers).ok_or(KeyError::Missing)?;
        if shown.len() > KEY_BYTES_MAX {
            return Err(KeyError::Unknown);
        }
        let digest = digest(shown);
        let slot = self.slots.get(&digest).filter(|s| bool::from(s.digest.ct_eq(&digest)));
        let slot = slot.ok_or(KeyError::Unknown)?;
        let now = self.clock.unix_secs();
        let over = |until: Option<u64>| until.is_some_and(|u| now >= u);
        match &slot.key {
            key if key.disabled => Err(KeyError::Disabled),
            key if over(key.expires) || over(slot.until) => Err(KeyError::Expired),
            key => Ok(Arc::clone(key)),
        }
    }
}

fn digest(key: &str) -> Digest {
    Sha256::digest(key.as_bytes()).into()
}

/// The hash of a key as the file has it.
pub fn hash(key: &str) -> String {
    format!("{ALGORITHM}{}", hex(&digest(key)))
}

/// A new key: 244 random bits of the system's generator, in hex.
pub fn generate() -> String {
    format!("{PREFIX}{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}
