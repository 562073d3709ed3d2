//! AWS Signature Version 4, checked from the documents and not with the code that signs.

use super::asked::Read;
use crate::harness::origin::Seen;
use sha2::{Digest, Sha256};

/// The access key that the gateway is given.
pub const ACCESS_KEY: &str = "AKIDEXAMPLE";
/// The secret that belongs to it.
pub const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// The region.
pub const REGION: &str = "eu-central-1";

/// Checks the signature of a request for Bedrock.
pub fn check(seen: &Seen) -> Read<()> {
    let date = seen.header("x-amz-date");
    let day = date.get(..8).ok_or("x-amz-date is required")?;
    let given = seen.header("authorization");
    let rest = given.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("authorization must be AWS4-HMAC-SHA256")?;
    let part = |name: &str| {
        let found = rest.split(',').find_map(|p| p.trim().strip_prefix(name)?.strip_prefix('='));
        found.ok_or_else(|| format!("authorization: no {name}"))
    };
    let scope = format!("{day}/{REGION}/bedrock/aws4_request");
    if part("Credential")? != format!("{ACCESS_KEY}/{scope}") {
        return Err(format!("authorization: credential {given}"));
    }
    let names = part("SignedHeaders")?;
    for name in ["host", "x-amz-date"] {
        if !names.split(';').any(|n| n == name) {
            return Err(format!("authorization: {name} must be signed"));
        }
    }
    let fields: String = names.split(';').map(|n| format!("{n}:{}\n", seen.header(n))).collect();
    // The path is encoded once more for every service but S3.
    let path = seen.target.replace('%', "%25");
    let body = hex(&Sha256::digest(&seen.body));
    let canonical = format!("{}\n{path}\n\n{fields}\n{names}\n{body}", seen.method);
    let hashed = hex(&Sha256::digest(canonical.as_bytes()));
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}");
    let first = format!("AWS4{SECRET_KEY}").into_bytes();
    let key = [day, REGION, "bedrock", "aws4_request"].iter().fold(first, |key, word| hmac(&key, word.as_bytes()));
    let want = hex(&hmac(&key, to_sign.as_bytes()));
    if part("Signature")? == want { Ok(()) } else { Err("the signature does not match".to_owned()) }
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |byte: u8| block.map(|b| b ^ byte).to_vec();
    let inner = Sha256::digest([padded(0x36), message.to_vec()].concat());
    Sha256::digest([padded(0x5c), inner.to_vec()].concat()).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// RFC 4231, test case 2.
#[test]
fn the_keyed_hash_is_that_of_the_standard() {
    let want = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(hex(&hmac(b"Jefe", b"what do ya want for nothing?")), want);
}
