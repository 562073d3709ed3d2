//! AWS Signature Version 4 over a request as it is about to be sent:
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use crate::base::url::BaseUrl;
use crate::config::ai::Aws;
use crate::config::secret::{Secret, SecretRef};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use std::time::SystemTime;

/// The service's name in signatures, whatever the host is called.
const SERVICE: &str = "bedrock";
/// What the names of the fields that AWS wants signed begin with; `host` and `content-type` are signed besides. Others
/// are not, so that a proxy in between may add to them.
const SIGNED: &str = "x-amz-";

/// Credentials of an AWS account, bound to a region. It has no `Debug`.
pub struct Signer {
    credentials: Credentials,
    region: String,
}

/// A request that cannot be signed, such as a header value that is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request cannot be signed")]
pub struct Unsignable;

impl Signer {
    /// With configured credentials, which are read here. An error is told with the name of the key that it is about.
    pub fn of(aws: &Aws) -> Result<Signer, (&'static str, String)> {
        let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if aws.region.is_empty() || !aws.region.chars().all(fit) {
            return Err(("region", format!("{:?} is no name of a region; write one like eu-central-1", aws.region)));
        }
        let read = |key, secret: &SecretRef| secret.resolve().map_err(|e| (key, e.to_string()));
        let (access, secret) = (read("access_key", &aws.access_key)?, read("secret_key", &aws.secret_key)?);
        let token = aws.session_token.as_ref().map(|t| read("session_token", t)).transpose()?;
        Ok(Signer::new(&aws.region, &access, &secret, token.as_ref()))
    }

    /// Signs for the region with a long-lived key pair, or with one lent for a time together with its session token.
    pub fn new(region: &str, access_key: &Secret, secret_key: &Secret, session_token: Option<&Secret>) -> Signer {
        let token = session_token.map(|t| t.expose().to_owned());
        let credentials = Credentials::new(access_key.expose(), secret_key.expose(), token, None, "configuration");
        Signer { credentials, region: region.to_owned() }
    }

    /// Adds the fields of the signature (`authorization`, `x-amz-date`, `x-amz-content-sha256`, with a session token
    /// `x-amz-security-token`) to the header of a `POST` with this body. The path is the whole one, in the form in which
    /// it is sent; the host is signed as [`BaseUrl::authority`] spells it, which is how it is sent.
    pub fn sign(
        &self,
        (url, path): (&BaseUrl, &str),
        headers: &mut HeaderMap,
        body: &[u8],
        now: SystemTime,
    ) -> Result<(), Unsignable> {
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = self.credentials.clone().into();
        let params = SigningParams::builder().identity(&identity).region(&self.region).name(SERVICE);
        let params = params.time(now).settings(settings).build().map_err(|_| Unsignable)?.into();
        let (scheme, authority) = (if url.tls { "https" } else { "http" }, url.authority());
        let mut signed = vec![("host", authority.as_str())];
        for (name, value) in headers.iter().filter(|(n, _)| **n == header::CONTENT_TYPE || is_amz(n)) {
            signed.push((name.as_str(), value.to_str().map_err(|_| Unsignable)?));
        }
        let uri = format!("{scheme}://{authority}{path}");
        let request = SignableRequest::new(Method::POST.as_str(), uri, signed.into_iter(), SignableBody::Bytes(body));
        let (instructions, _) = sign(request.map_err(|_| Unsignable)?, &params).map_err(|_| Unsignable)?.into_parts();
        for field in instructions.into_parts().0 {
            let mut value = HeaderValue::from_str(field.value()).map_err(|_| Unsignable)?;
            value.set_sensitive(field.sensitive() || field.name() == header::AUTHORIZATION.as_str());
            headers.insert(HeaderName::from_bytes(field.name().as_bytes()).map_err(|_| Unsignable)?, value);
        }
        Ok(())
    }
}

fn is_amz(name: &HeaderName) -> bool {
    name.as_str().starts_with(SIGNED)
}

#[cfg(test)]
mod tests;
