//! TLS and HTTP/2 for tests: certificates made on the spot, clients that see what was negotiated.

use super::client::Client;
use super::soon;
use bytes::Bytes;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A self-signed certificate.
pub struct Certificate {
    /// What a client must trust.
    pub der: CertificateDer<'static>,
}

impl Certificate {
    /// Makes one for `hosts` and writes `<name>.crt` and `<name>.key` into `dir`.
    pub fn write(dir: &Path, name: &str, hosts: &[&str]) -> Certificate {
        let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(hosts).unwrap();
        std::fs::write(dir.join(format!("{name}.crt")), made.cert.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
        Certificate { der: made.cert.der().clone() }
    }
}

/// A TLS connection to `address` that asks for `host`, trusts only `trusted` and offers `alpn`; the fault when refused.
pub async fn try_tls(
    address: SocketAddr,
    host: &str,
    trusted: &[&Certificate],
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.der.clone()).unwrap();
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from(host.to_owned()).unwrap();
    soon("the TLS handshake", TlsConnector::from(Arc::new(config)).connect(name, socket)).await
}

/// As above, refused means a failed test.
pub async fn tls(address: SocketAddr, host: &str, trusted: &[&Certificate], alpn: &[&str]) -> TlsStream<TcpStream> {
    try_tls(address, host, trusted, alpn).await.unwrap_or_else(|fault| panic!("TLS for {host}: {fault}"))
}

/// An HTTP/1.1 client over TLS.
pub async fn https(address: SocketAddr, host: &str, trusted: &Certificate) -> Client {
    Client::over(tls(address, host, &[trusted], &["http/1.1"]).await)
}

/// One HTTP/2 connection.
pub struct H2 {
    sender: h2::client::SendRequest<Bytes>,
}

/// An answer over HTTP/2.
pub struct H2Response {
    /// Status and header fields.
    pub head: http::response::Parts,
    /// The body.
    pub body: Vec<u8>,
    /// The trailer fields.
    pub trailers: Option<http::HeaderMap>,
}

impl H2 {
    /// On a stream on which HTTP/2 was agreed (or is known).
    pub async fn over(wire: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> H2 {
        let (sender, connection) = soon("the HTTP/2 handshake", h2::client::handshake(wire)).await.unwrap();
        tokio::spawn(async move {
            let _ = connection.await;
        });
        H2 { sender }
    }

    /// Without TLS, by prior knowledge.
    pub async fn clear(address: SocketAddr) -> H2 {
        H2::over(TcpStream::connect(address).await.unwrap()).await
    }

    /// One request with a whole body.
    pub async fn ask(&self, request: http::Request<()>, body: &[u8]) -> H2Response {
        let mut sender = soon("room for a stream", self.sender.clone().ready()).await.unwrap();
        let (response, mut stream) = sender.send_request(request, body.is_empty()).unwrap();
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body), true).unwrap();
        }
        let (head, mut incoming) = soon("an HTTP/2 answer", response).await.unwrap().into_parts();
        let mut whole = Vec::new();
        while let Some(piece) = soon("an HTTP/2 body", incoming.data()).await {
            let piece = piece.unwrap();
            incoming.flow_control().release_capacity(piece.len()).unwrap();
            whole.extend_from_slice(&piece);
        }
        let trailers = soon("HTTP/2 trailers", incoming.trailers()).await.unwrap();
        H2Response { head, body: whole, trailers }
    }

    /// `GET`.
    pub async fn get(&self, url: &str) -> H2Response {
        self.ask(http::Request::get(url).body(()).unwrap(), b"").await
    }
}
