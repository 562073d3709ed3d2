//! The verifier of one `auth:` entry: finds the token, checks it, remembers what it checked.

use super::extract::Places;
use super::jwks::{self, Jwks, JwksSource};
use super::keys::{Found, Key, KeySet};
use super::token::{Parts, Rules, TOKEN_BYTES_MAX, Times};
use super::{AuthError, Claims, Fault, JwtError};
use crate::base::clock::Clock;
use crate::config::auth::{Algorithm, Jwt};
use http::HeaderMap;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod tests;

/// How long a request waits for a refresh of the key set that its own unknown `kid` asked for.
const REFRESH_WAIT: Duration = Duration::from_secs(2);
/// The most leeway that makes sense.
const LEEWAY_MAX: Duration = Duration::from_secs(600);
/// What remembered tokens may weigh together, in bytes.
const REMEMBERED_BYTES_MAX: u64 = 16 << 20;

/// Compiled once from `auth:`; shared by all requests.
pub struct JwtVerifier {
    name: String,
    places: Places,
    rules: Rules,
    /// `None`: whatever the key allows.
    algorithms: Option<Vec<Algorithm>>,
    keys: Keys,
    clock: Clock,
    /// By SHA-256 of the whole token: a prefix as the key is how one user becomes another (CVE-2026-35030).
    remembered: moka::sync::Cache<[u8; 32], Arc<Remembered>>,
}

enum Keys {
    Written(Arc<KeySet>),
    Published(Arc<Jwks>),
}

struct Remembered {
    claims: Arc<Claims>,
    times: Times,
    generation: u64,
    weight: u32,
}

/// A refusal, and whether fresher keys could change it.
struct Refused {
    error: JwtError,
    ask_for_keys: bool,
}

impl From<JwtError> for Refused {
    fn from(error: JwtError) -> Self {
        Refused { error, ask_for_keys: false }
    }
}

impl JwtVerifier {
    /// Compiles the entry `name`. `source` fetches `jwks_url`; its background task starts here when called within a
    /// tokio runtime, else with the first token.
    pub fn new(name: &str, config: &Jwt, clock: Clock, source: Option<Arc<dyn JwksSource>>) -> Result<Self, AuthError> {
        let jwks = source.map(|source| Jwks::start(source, clock.clone()));
        Self::with_jwks(name, config, clock, jwks)
    }

    /// Like [`JwtVerifier::new`], with a key set that outlives the configuration (see [`jwks::JwksPool`]).
    pub fn with_jwks(name: &str, config: &Jwt, clock: Clock, jwks: Option<Arc<Jwks>>) -> Result<Self, AuthError> {
        let fail = |place: String, fault| AuthError { name: name.to_owned(), place, fault };
        let keys = match (&config.jwks_url, config.keys.is_empty()) {
            (Some(url), true) => {
                jwks::check_url(url, config.jwks_allow_http).map_err(|f| fail(".jwks_url".into(), f))?;
                Keys::Published(jwks.ok_or_else(|| fail(".jwks_url".into(), Fault::Value("nothing can fetch it")))?)
            }
            (None, false) => {
                let list = config.keys.iter().enumerate().map(|(i, key)| {
                    Key::configured(key).map_err(|(field, fault)| fail(format!(".keys[{i}]{field}"), fault))
                });
                Keys::Written(Arc::new(KeySet::new(list.collect::<Result<_, _>>()?, 0)))
            }
            _ => return Err(fail(String::new(), Fault::KeysOrUrl)),
        };
        check_algorithms(config, &keys).map_err(|fault| fail(".algorithms".into(), fault))?;
        let rules = rules(config).map_err(|(place, fault)| fail(place.into(), fault))?;
        let places = Places::new(&config.token_from).map_err(|(p, fault)| fail(format!(".token_from{p}"), fault))?;
        let remembered = moka::sync::Cache::builder()
            .max_capacity(REMEMBERED_BYTES_MAX)
            .weigher(|_, r: &Arc<Remembered>| r.weight)
            .build();
        Ok(JwtVerifier {
            name: name.into(),
            places,
            rules,
            algorithms: config.algorithms.clone(),
            keys,
            clock,
            remembered,
        })
    }

    /// The entry's name, which is also the realm of its challenges.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether tokens can be judged at all: false until a published key set has been fetched once.
    pub fn ready(&self) -> bool {
        self.current().is_some()
    }

    /// The published key set, for `admin /status`; `None` when the keys are written in the configuration.
    pub fn jwks(&self) -> Option<&Arc<Jwks>> {
        match &self.keys {
            Keys::Published(jwks) => Some(jwks),
            Keys::Written(_) => None,
        }
    }

    /// The request's token, if there is one.
    pub fn extract<'a>(&self, headers: &'a HeaderMap, query: Option<&'a str>) -> Option<Cow<'a, str>> {
        self.places.find(headers, query)
    }

    /// Judges a token now, with the keys at hand. An unknown `kid` asks for fresher keys in the background.
    pub fn verify(&self, token: &str) -> Result<Arc<Claims>, JwtError> {
        self.judge(token).map_err(|refused| {
            if let (true, Keys::Published(jwks)) = (refused.ask_for_keys, &self.keys) {
                // Nobody waits: the receiver is dropped, the fetch goes on.
                drop(jwks.refresh());
            }
            refused.error
        })
    }

    /// Like [`JwtVerifier::verify`], but where fresher keys could help and may be fetched now, waits for them (≤ 2 s).
    pub async fn verify_wait(&self, token: &str) -> Result<Arc<Claims>, JwtError> {
        let refused = match self.judge(token) {
            Ok(claims) => return Ok(claims),
            Err(refused) => refused,
        };
        let (true, Keys::Published(jwks)) = (refused.ask_for_keys, &self.keys) else {
            return Err(refused.error);
        };
        if let Some(mut fetched) = jwks.refresh() {
            // Either outcome leads to the same question: what do the keys say now?
            let _ = tokio::time::timeout(REFRESH_WAIT, fetched.changed()).await;
        }
        self.judge(token).map_err(|refused| refused.error)
    }

    fn current(&self) -> Option<Arc<KeySet>> {
        match &self.keys {
            Keys::Written(set) => Some(set.clone()),
            Keys::Published(jwks) => jwks.current(),
        }
    }

    fn judge(&self, token: &str) -> Result<Arc<Claims>, Refused> {
        if token.is_empty() {
            return Err(JwtError::Missing.into());
        }
        // Before hashing: nobody makes us digest a megabyte.
        if token.len() > TOKEN_BYTES_MAX {
            return Err(JwtError::Malformed.into());
        }
        let keys = self.current().ok_or(Refused { error: JwtError::KeysUnavailable, ask_for_keys: true })?;
        let id: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let now = self.clock.unix_secs();
        if let Some(r) = self.remembered.get(&id) {
            // Never past `exp`, not even by the leeway: there the whole check decides.
            if r.generation == keys.generation && r.times.check(now, 0).is_ok() {
                return Ok(r.claims.clone());
            }
            self.remembered.invalidate(&id);
        }
        let (claims, times) = self.check(token, &keys, now)?;
        let claims = Arc::new(claims);
        // Parsed claims take a few times the bytes of their text.
        let weight = u32::try_from(token.len() * 4 + 512).unwrap_or(u32::MAX);
        let entry = Remembered { claims: claims.clone(), times, generation: keys.generation, weight };
        self.remembered.insert(id, Arc::new(entry));
        Ok(claims)
    }

    fn check(&self, token: &str, keys: &KeySet, now: u64) -> Result<(Claims, Times), Refused> {
        let parts = Parts::split(token)?;
        if self.algorithms.as_ref().is_some_and(|list| !list.contains(&parts.algorithm)) {
            return Err(JwtError::Algorithm.into());
        }
        let refresh = |error| Refused { error, ask_for_keys: true };
        match keys.find(parts.kid.as_deref(), parts.algorithm) {
            Found::Nothing => return Err(refresh(JwtError::UnknownKid)),
            Found::WrongAlgorithm => return Err(JwtError::Algorithm.into()),
            Found::Try(list) => {
                let holds = |k: &&Key| k.verifies(parts.algorithm, parts.message, &parts.signature);
                let Some(_) = list.iter().find(|k| holds(k)) else {
                    // A key without an id may have been replaced without our noticing.
                    let ask_for_keys = list.iter().any(|k| !k.has_id()) || parts.kid.is_none();
                    return Err(Refused { error: JwtError::BadSignature, ask_for_keys });
                };
            }
        }
        Ok(self.rules.judge(parts.claims()?, now)?)
    }
}

/// An accepted algorithm that no written key is for is a mistake worth telling.
fn check_algorithms(config: &Jwt, keys: &Keys) -> Result<(), Fault> {
    let Some(list) = &config.algorithms else { return Ok(()) };
    if list.is_empty() {
        return Err(Fault::Value("the list is empty, so no token could ever be accepted"));
    }
    let hmac = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
    let idle = list.iter().find(|a| match keys {
        Keys::Written(set) => !set.has(**a),
        Keys::Published(_) => hmac.contains(a),
    });
    idle.map_or(Ok(()), |a| Err(Fault::Unfit { algorithm: a.as_str() }))
}

fn rules(config: &Jwt) -> Result<Rules, (&'static str, Fault)> {
    if config.leeway.0 > LEEWAY_MAX {
        return Err((".leeway", Fault::Value("at most 10m")));
    }
    let audience = config.audience.as_ref().map(|a| a.values().to_vec());
    if audience.as_ref().is_some_and(|a| a.is_empty() || a.iter().any(String::is_empty)) {
        return Err((".audience", Fault::Value("an empty audience would never match")));
    }
    if config.tenant_claim.as_ref().is_some_and(String::is_empty) {
        return Err((".tenant_claim", Fault::Value("a claim has a name")));
    }
    Ok(Rules {
        issuer: config.issuer.clone(),
        audience: audience.unwrap_or_default(),
        tenant_claim: config.tenant_claim.clone(),
        leeway: config.leeway.0.as_secs(),
    })
}
