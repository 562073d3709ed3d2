//! Signatures, held against those that botocore 1.44 makes of the same requests at the same moment.

use super::*;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use std::time::{Duration, UNIX_EPOCH};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn signed(base: &str, path: &str, body: &str, token: Option<&str>, more: &[(&'static str, &'static str)]) -> HeaderMap {
    let url = BaseUrl::parse(base).unwrap();
    let token = token.map(Secret::new);
    let signer = Signer::new("eu-central-1", &Secret::new("AKIDEXAMPLE"), &Secret::new(SECRET), token.as_ref());
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("user-agent", HeaderValue::from_static("not signed"));
    for (name, value) in more {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    // 2026-01-01T00:00:00Z
    let now = UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    let path = format!("{}{path}", url.path);
    signer.sign((&url, &path), &mut headers, body.as_bytes(), now).unwrap();
    headers
}

fn authorization(headers: &HeaderMap) -> &str {
    let text = headers[AUTHORIZATION].to_str().unwrap();
    text.strip_prefix("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/eu-central-1/bedrock/aws4_request, ").unwrap()
}

#[test]
fn a_request_is_signed_as_botocore_signs_it() {
    let base = "https://bedrock-runtime.eu-central-1.amazonaws.com";
    let path = "/model/anthropic.claude-3-5-sonnet-20240620-v1%3A0/converse";
    let headers = signed(base, path, r#"{"messages":[]}"#, None, &[]);
    assert_eq!(
        authorization(&headers),
        "SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date, \
         Signature=5be2ef6d66166b9f445efff00276976a68df698a97aa4155fab39e3f6b74d624"
    );
    assert_eq!(headers["x-amz-date"], "20260101T000000Z");
    assert_eq!(headers["x-amz-content-sha256"], "5e4ce7b36ba37b78a5d5f9fd08e6b7b54ba6879d651aa46ec9e1d6fa24ebe30a");
    // The scheme's own port is not sent and therefore not signed.
    let with_port = signed(&format!("{base}:443"), path, r#"{"messages":[]}"#, None, &[]);
    assert_eq!(authorization(&with_port), authorization(&headers));
}

#[test]
fn the_slashes_and_colons_of_an_arn_are_signed_as_botocore_signs_them_and_so_is_a_session_token() {
    let headers = signed(
        "https://bedrock-runtime.eu-central-1.amazonaws.com",
        "/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A123456789012%3Aapplication-inference-profile%2Fabc/converse-stream",
        r#"{"messages":[{"role":"user","content":[{"text":"Grüße"}]}]}"#,
        Some("a+token/with=signs"),
        &[],
    );
    assert_eq!(
        authorization(&headers),
        "SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token, \
         Signature=37f31035878ba8bb620db3221765288bc7cd377662c86eefd978c3e0b4a08138"
    );
    assert_eq!(headers["x-amz-security-token"], "a+token/with=signs");
}

#[test]
fn another_port_a_path_prefix_and_further_amz_fields_are_signed_as_botocore_signs_them() {
    let more = [("x-amz-extra", "  two   blanks ")];
    let headers = signed("http://127.0.0.1:8088/prefix", "/model/m/converse", "{}", None, &more);
    assert_eq!(
        authorization(&headers),
        "SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-extra, \
         Signature=44745cb62d913b7b07661df0d833ba44fd415895cc7bdf0502c26cc9969fe1d7"
    );
}

#[test]
fn what_is_secret_is_marked_so_and_the_key_stands_nowhere() {
    let headers = signed("http://h", "/model/m/converse", "{}", Some("canary"), &[]);
    assert!(headers[AUTHORIZATION].is_sensitive() && headers["x-amz-security-token"].is_sensitive());
    assert!(!format!("{headers:?}").contains("canary"), "{headers:?}");
    assert!(headers.values().all(|v| !v.to_str().unwrap().contains(SECRET)));
}

#[test]
fn a_field_that_is_no_text_is_an_error_and_not_an_unsigned_request() {
    let url = BaseUrl::parse("http://h").unwrap();
    let signer = Signer::new("r", &Secret::new("a"), &Secret::new("b"), None);
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-odd", HeaderValue::from_bytes(b"\xff").unwrap());
    assert_eq!(signer.sign((&url, "/x"), &mut headers, b"", UNIX_EPOCH), Err(Unsignable));
    assert!(!headers.contains_key(AUTHORIZATION));
}
