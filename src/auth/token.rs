//! The parts of a token and the rules its claims must keep; no keys, no clock of its own.

use super::{Claims, JwtError};
use crate::base::strict_json;
use crate::config::auth::Algorithm;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// How deep a token's header and claims may nest.
const DEPTH_MAX: u8 = 16;

/// The longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;
/// The longest key id, in bytes.
const KID_BYTES_MAX: usize = 256;
/// Beyond this a JSON number is no exact integer (2^53).
const NUMERIC_DATE_MAX: u64 = 1 << 53;

/// A token taken apart; nothing in it is believed yet.
pub struct Parts<'a> {
    /// What the header says of the algorithm. It is compared, never obeyed.
    pub algorithm: Algorithm,
    /// Which key the header asks for.
    pub kid: Option<String>,
    /// What is signed.
    pub message: &'a [u8],
    /// The signature.
    pub signature: Vec<u8>,
    payload: &'a str,
}

impl<'a> Parts<'a> {
    /// Splits a compact JWS (RFC 7515 §7.1) and reads its header.
    pub fn split(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(JwtError::Malformed);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(JwtError::Malformed)?;
        if payload.contains('.') {
            return Err(JwtError::Malformed);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwtError::Malformed)?;
        let (algorithm, kid) = read_header(&decode(header)?)?;
        Ok(Parts { algorithm, kid, message: message.as_bytes(), signature, payload })
    }

    /// The claims. To be called once the signature holds.
    pub fn claims(&self) -> Result<Map<String, Value>, JwtError> {
        decode(self.payload)
    }
}

fn decode(part: &str) -> Result<Map<String, Value>, JwtError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed)?;
    strict_json::object(&bytes, DEPTH_MAX).ok_or(JwtError::Malformed)
}

/// Only `alg` and `kid` are read. `jku`, `jwk`, `x5u` and `x5c` would let a token bring its own key; `crit` names
/// extensions that must be understood (RFC 7515 §4.1.11), and we understand none.
fn read_header(header: &Map<String, Value>) -> Result<(Algorithm, Option<String>), JwtError> {
    if header.contains_key("crit") {
        return Err(JwtError::Malformed);
    }
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= KID_BYTES_MAX => Some(kid.clone()),
        Some(_) => return Err(JwtError::Malformed),
    };
    let name = header.get("alg").and_then(Value::as_str).ok_or(JwtError::Malformed)?;
    Ok((Algorithm::from_name(name).ok_or(JwtError::Algorithm)?, kid))
}

/// When a token is valid, in seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// `exp`, rounded down.
    pub exp: u64,
    /// `nbf`, rounded up.
    pub nbf: Option<u64>,
}

impl Times {
    /// Reads `exp` (required here) and `nbf`; both must be JSON numbers.
    pub fn read(claims: &Map<String, Value>) -> Result<Self, JwtError> {
        let exp = claims.get("exp").and_then(|v| date(v, f64::floor)).ok_or(JwtError::Malformed)?;
        let nbf = match claims.get("nbf") {
            None => None,
            Some(v) => Some(date(v, f64::ceil).ok_or(JwtError::Malformed)?),
        };
        Ok(Times { exp, nbf })
    }

    /// Whether `now` lies within, give or take `leeway` (RFC 7519 §4.1.4, §4.1.5).
    pub fn check(self, now: u64, leeway: u64) -> Result<(), JwtError> {
        if now >= self.exp.saturating_add(leeway) {
            return Err(JwtError::Expired);
        }
        match self.nbf {
            Some(nbf) if now.saturating_add(leeway) < nbf => Err(JwtError::NotYetValid),
            _ => Ok(()),
        }
    }
}

/// A NumericDate (RFC 7519 §2): seconds since the epoch, perhaps with a fraction. A string is none.
fn date(v: &Value, round: fn(f64) -> f64) -> Option<u64> {
    if let Some(n) = v.as_u64() {
        return (n <= NUMERIC_DATE_MAX).then_some(n);
    }
    let n = round(v.as_number()?.as_f64()?);
    if !(0.0..=NUMERIC_DATE_MAX as f64).contains(&n) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be within 0..=2^53 above")]
    Some(n as u64)
}

/// What the configuration demands of the claims.
#[derive(Debug)]
pub struct Rules {
    /// `iss`, to the letter.
    pub issuer: Option<String>,
    /// Acceptable `aud` values; empty: not checked.
    pub audience: Vec<String>,
    /// A claim that must name the tenant; `None`: `sub` where there is one.
    pub tenant_claim: Option<String>,
    /// In seconds.
    pub leeway: u64,
}

impl Rules {
    /// Judges the claims of a token whose signature holds.
    pub fn judge(&self, claims: Map<String, Value>, now: u64) -> Result<(Claims, Times), JwtError> {
        let times = Times::read(&claims)?;
        times.check(now, self.leeway)?;
        if let Some(want) = &self.issuer {
            match claims.get("iss") {
                Some(Value::String(iss)) if iss == want => {}
                _ => return Err(JwtError::WrongIssuer),
            }
        }
        self.check_audience(claims.get("aud"))?;
        let sub = match claims.get("sub") {
            None => None,
            Some(Value::String(s)) => Some(s.clone()),
            Some(_) => return Err(JwtError::Malformed),
        };
        let tenant = match &self.tenant_claim {
            None => sub.clone(),
            Some(name) => Some(tenant(claims.get(name.as_str())).ok_or(JwtError::MissingClaim)?),
        };
        Ok((Claims { sub, tenant, exp: times.exp, json: Value::Object(claims) }, times))
    }

    /// RFC 7519 §4.1.3: a string or an array of strings.
    fn check_audience(&self, aud: Option<&Value>) -> Result<(), JwtError> {
        let ours = |v: &str| self.audience.iter().any(|a| a == v);
        let named = match aud {
            None => false,
            Some(Value::String(v)) => ours(v),
            Some(Value::Array(list)) => {
                let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
                texts.ok_or(JwtError::Malformed)?.into_iter().any(ours)
            }
            Some(_) => return Err(JwtError::Malformed),
        };
        if named || self.audience.is_empty() { Ok(()) } else { Err(JwtError::WrongAudience) }
    }
}

/// A tenant is named by a string that is not empty, or by an integer.
fn tenant(v: Option<&Value>) -> Option<String> {
    match v? {
        Value::String(s) if !s.is_empty() => Some(s.clone()),
        Value::Number(n) if n.is_u64() || n.is_i64() => Some(n.to_string()),
        _ => None,
    }
}
