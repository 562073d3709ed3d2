//! Hash functions of the policy library.

use crate::base::ids;
use rhai::Engine;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("sha256", |text: &str| ids::hex(&Sha256::digest(text.as_bytes())));
    engine.register_fn("hmac_sha256", |key: &str, text: &str| ids::hex(&hmac_sha256(key.as_bytes(), text.as_bytes())));
    engine.register_fn("xxh3", |text: &str| format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes())));
    engine.register_fn("constant_eq", |a: &str, b: &str| bool::from(a.as_bytes().ct_eq(b.as_bytes())));
    engine.register_fn("uuid", || uuid::Uuid::new_v4().to_string());
}

/// HMAC (RFC 2104) over SHA-256, whose block is 64 bytes.
fn hmac_sha256(key: &[u8], text: &[u8]) -> [u8; 32] {
    let short = if key.len() > 64 { Sha256::digest(key).to_vec() } else { key.to_vec() };
    let pad = |with: u8| -> Vec<u8> {
        short.iter().copied().chain(std::iter::repeat(0)).take(64).map(|b| b ^ with).collect()
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc4231_cases_1_2_and_6_hmac_sha256() {
        let hex = |k: &[u8], t: &[u8]| ids::hex(&hmac_sha256(k, t));
        assert_eq!(hex(&[0x0b; 20], b"Hi There"), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        assert_eq!(
            hex(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First"),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }
}
