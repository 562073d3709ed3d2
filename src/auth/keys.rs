//! Verification keys: made from the configuration or from a JWK Set, each bound to its algorithms.

use super::Fault;
use crate::config::auth::{Algorithm, JwtKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm as Alg, DecodingKey};
use serde_json::{Map, Value};

/// Most keys of a set that are looked at.
const KEYS_MAX: usize = 64;
/// Most keys tried for one token, so that a token without `kid` cannot buy many signature checks.
const TRIES_MAX: usize = 8;
/// The modulus lengths that are neither weak (RFC 7518 §3.3) nor beyond what the verifier takes, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// The longest public exponent, in bytes.
const RSA_EXPONENT_BYTES_MAX: usize = 4;

/// A key and what it may verify.
pub struct Key {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// The keys of one issuer.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<Key>,
    /// Differs between any two sets that one holder had: what was verified under another set is verified again.
    pub generation: u64,
}

/// What a search for keys came to.
pub enum Found<'a> {
    /// Keys to try, of the right id and algorithm.
    Try(Vec<&'a Key>),
    /// Keys of that id, but for other algorithms.
    WrongAlgorithm,
    /// No key of that id.
    Nothing,
}

impl KeySet {
    /// A set of these keys.
    pub fn new(keys: Vec<Key>, generation: u64) -> Self {
        KeySet { keys, generation }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether any key may verify `algorithm`.
    pub fn has(&self, algorithm: Algorithm) -> bool {
        self.keys.iter().any(|k| k.algorithms.contains(&algorithm))
    }

    /// The keys for a token: those of its `kid` and those without one; all when the token names none.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        let fits = |k: &&Key| match (kid, k.kid.as_deref()) {
            (Some(want), Some(have)) => want == have,
            _ => true,
        };
        let mut of_kid = self.keys.iter().filter(fits).peekable();
        if of_kid.peek().is_none() {
            return Found::Nothing;
        }
        let list: Vec<_> = of_kid.filter(|k| k.algorithms.contains(&algorithm)).take(TRIES_MAX).collect();
        if list.is_empty() { Found::WrongAlgorithm } else { Found::Try(list) }
    }
}

impl Key {
    /// Reads a key of the configuration; a fault comes with the field it belongs to.
    pub fn configured(from: &JwtKey) -> Result<Self, (&'static str, Fault)> {
        let hmac = matches!(from.algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512);
        let unfit = || (".algorithm", Fault::Unfit { algorithm: from.algorithm.as_str() });
        let key = match (&from.secret, &from.public_key) {
            (Some(secret), None) => {
                let secret = secret.resolve().map_err(|e| (".secret", e.into()))?;
                if !hmac {
                    return Err(unfit());
                }
                hmac_key(secret.expose().as_bytes(), from.algorithm).map_err(|f| (".secret", f))?
            }
            (None, Some(public)) => {
                let pem = public.resolve().map_err(|e| (".public_key", e.into()))?;
                // An HMAC "keyed" with a public key is the classic confusion: everybody could sign.
                if hmac {
                    return Err(unfit());
                }
                public_key(pem.expose(), from.algorithm).map_err(|f| (".public_key", f))?
            }
            _ => return Err(("", Fault::KeyForm)),
        };
        Ok(Key { kid: from.kid.clone(), algorithms: vec![from.algorithm], key })
    }

    /// Whether the key has a `kid`.
    pub fn has_id(&self) -> bool {
        self.kid.is_some()
    }

    /// Whether `signature` over `message` is this key's under `algorithm`.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &Vec<u8>) -> bool {
        if !self.algorithms.contains(&algorithm) {
            return false;
        }
        (DEFAULT_PROVIDER.verifier_factory)(&native(algorithm), &self.key)
            .is_ok_and(|v| v.verify(message, signature).is_ok())
    }
}

/// A secret that is as long as the hash (RFC 7518 §3.2).
fn hmac_key(secret: &[u8], algorithm: Algorithm) -> Result<DecodingKey, Fault> {
    let need = match algorithm {
        Algorithm::HS512 => 64,
        Algorithm::HS384 => 48,
        _ => 32,
    };
    if secret.len() < need {
        return Err(Fault::ShortSecret { have: secret.len(), need, algorithm: algorithm.as_str() });
    }
    Ok(DecodingKey::from_secret(secret))
}

fn public_key(pem: &str, algorithm: Algorithm) -> Result<DecodingKey, Fault> {
    if pem.contains("PRIVATE KEY") {
        return Err(Fault::PublicKey(
            "this is a private key; only its public half belongs here (openssl pkey -pubout)",
        ));
    }
    if pem.contains("BEGIN CERTIFICATE") {
        return Err(Fault::PublicKey("this is a certificate; take its key out (openssl x509 -pubkey -noout)"));
    }
    if !pem.contains("BEGIN PUBLIC KEY") && !pem.contains("BEGIN RSA PUBLIC KEY") {
        return Err(Fault::PublicKey("not a public key in PEM form (BEGIN PUBLIC KEY)"));
    }
    let unfit = || Fault::Unfit { algorithm: algorithm.as_str() };
    let pem = pem.as_bytes();
    match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => {
            let key = DecodingKey::from_ec_pem(pem).map_err(|_| unfit())?;
            usable(key, algorithm).ok_or_else(unfit)
        }
        Algorithm::EdDSA => {
            let key = DecodingKey::from_ed_pem(pem).map_err(|_| unfit())?;
            ed_key(key.try_get_as_bytes().map_err(|_| unfit())?).ok_or_else(unfit)
        }
        _ => {
            let key = DecodingKey::from_rsa_pem(pem).map_err(|_| unfit())?;
            let der = key.try_get_as_bytes().map_err(|_| unfit())?;
            let (n, e) = (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(der).map_err(|_| unfit())?;
            rsa_key(&n, &e).ok_or(Fault::PublicKey("an RSA key must have 2048 to 4096 bits"))
        }
    }
}

fn rsa_key(n: &[u8], e: &[u8]) -> Option<DecodingKey> {
    let n = strip_zeros(n);
    let e = strip_zeros(e);
    let bits = n.len() * 8 - n.first().map_or(0, |b| usize::try_from(b.leading_zeros()).unwrap_or(0));
    let exponent_ok = e.len() <= RSA_EXPONENT_BYTES_MAX && e.last().is_some_and(|b| b % 2 == 1) && e != [1];
    (RSA_BITS.contains(&bits) && exponent_ok).then(|| DecodingKey::from_rsa_raw_components(n, e))
}

fn strip_zeros(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
    bytes.get(start..).unwrap_or_default()
}

/// The verifier slices the first 32 bytes without looking, so the length is checked here.
fn ed_key(x: &[u8]) -> Option<DecodingKey> {
    if x.len() != 32 {
        return None;
    }
    usable(DecodingKey::from_ed_der(x), Algorithm::EdDSA)
}

fn ec_key(x: &[u8], y: &[u8], algorithm: Algorithm) -> Option<DecodingKey> {
    let coordinate = if algorithm == Algorithm::ES384 { 48 } else { 32 };
    if x.len() != coordinate || y.len() != coordinate {
        return None;
    }
    usable(DecodingKey::from_ec_der(&[&[4], x, y].concat()), algorithm)
}

/// The key, if a verifier can be made of it (that is: the point lies on the curve).
fn usable(key: DecodingKey, algorithm: Algorithm) -> Option<DecodingKey> {
    let ok = (DEFAULT_PROVIDER.verifier_factory)(&native(algorithm), &key).is_ok();
    ok.then_some(key)
}

fn native(a: Algorithm) -> Alg {
    match a {
        Algorithm::HS256 => Alg::HS256,
        Algorithm::HS384 => Alg::HS384,
        Algorithm::HS512 => Alg::HS512,
        Algorithm::RS256 => Alg::RS256,
        Algorithm::RS384 => Alg::RS384,
        Algorithm::RS512 => Alg::RS512,
        Algorithm::PS256 => Alg::PS256,
        Algorithm::PS384 => Alg::PS384,
        Algorithm::PS512 => Alg::PS512,
        Algorithm::ES256 => Alg::ES256,
        Algorithm::ES384 => Alg::ES384,
        Algorithm::EdDSA => Alg::EdDSA,
    }
}

/// The usable keys of a JWK Set (RFC 7517 §5), or why the document is none. Keys of unknown types, for encryption,
/// too weak or off their curve are skipped, as §5 tells us to; so are symmetric keys, which cannot be public.
pub fn from_jwks(document: &[u8]) -> Result<Vec<Key>, &'static str> {
    let set: Value = serde_json::from_slice(document).map_err(|_| "not JSON")?;
    let list = set.get("keys").and_then(Value::as_array).ok_or("no `keys` array")?;
    let keys: Vec<Key> = list.iter().take(KEYS_MAX).filter_map(Value::as_object).filter_map(from_jwk).collect();
    if keys.is_empty() { Err("no usable signature key") } else { Ok(keys) }
}

fn from_jwk(jwk: &Map<String, Value>) -> Option<Key> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let number = |name: &str| text(name).and_then(|t| URL_SAFE_NO_PAD.decode(t.trim_end_matches('=')).ok());
    let for_signatures = text("use").is_none_or(|u| u == "sig")
        && jwk.get("key_ops").and_then(Value::as_array).is_none_or(|ops| ops.iter().any(|o| o == "verify"));
    if !for_signatures {
        return None;
    }
    let (key, fitting) = match (text("kty")?, text("crv")) {
        ("RSA", _) => (rsa_key(&number("n")?, &number("e")?)?, RSA_ALGORITHMS.as_slice()),
        ("EC", Some("P-256")) => (ec_key(&number("x")?, &number("y")?, Algorithm::ES256)?, &[Algorithm::ES256] as &[_]),
        ("EC", Some("P-384")) => (ec_key(&number("x")?, &number("y")?, Algorithm::ES384)?, &[Algorithm::ES384] as &[_]),
        ("OKP", Some("Ed25519")) => (ed_key(&number("x")?)?, &[Algorithm::EdDSA] as &[_]),
        _ => return None,
    };
    let algorithms = match jwk.get("alg") {
        None => fitting.to_vec(),
        Some(name) => vec![Algorithm::from_name(name.as_str()?).filter(|a| fitting.contains(a))?],
    };
    Some(Key { kid: text("kid").map(str::to_owned), algorithms, key })
}

const RSA_ALGORITHMS: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];
