//! The one outbound HTTP client: pooled connections over Pingora's connector (HTTP/1.1, and HTTP/2 by ALPN over TLS),
//! every time limited, no redirects followed, the body pulled piece by piece.

mod body;
mod dns;
mod error;
mod upload;

pub use body::Fetched;
pub use error::{FetchError, Stage};
pub use upload::Upload;

use crate::base::url::BaseUrl;
use bytes::Bytes;
use http::{HeaderMap, Method, Uri, header};
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::ALPN;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{BError, RetryType};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How many idle connections are kept over all hosts.
const IDLE_CONNECTIONS_MAX: usize = 256;
/// How long an idle connection is kept; most servers close theirs after 60 to 75 seconds.
const IDLE_FOR: Duration = Duration::from_secs(50);
/// Streams that share one HTTP/2 connection.
const H2_STREAMS_MAX: usize = 64;
/// Response header limits: bytes of names and values, and fields.
const HEADER_BYTES_MAX: usize = 64 << 10;
const HEADER_FIELDS_MAX: usize = 128;
/// Informational (1xx) answers accepted before the real one.
const INFORMATIONAL_MAX: usize = 8;
/// Addresses of one host that are tried before giving up.
const ADDRESSES_MAX: usize = 3;

/// Where a call goes and how long each part may take.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Scheme, host, port and path prefix.
    pub url: BaseUrl,
    /// Limit for name look-up, connection and TLS handshake, per address.
    pub connect: Duration,
    /// Limit from the request to the complete response header.
    pub first_byte: Duration,
    /// Limit for each pause within the body.
    pub between_bytes: Duration,
}

/// The client. Clones share connections and the name cache.
#[derive(Clone)]
pub struct Fetcher {
    inner: Arc<Inner>,
}

struct Inner {
    connector: Arc<Connector>,
    dns: dns::Dns,
}

/// How a request's body is framed.
#[derive(Clone, Copy)]
enum Framing {
    /// By its length.
    Length(u64),
    /// In chunks; HTTP/2 frames it itself.
    Chunked,
}

/// One request, ready to be sent more than once.
struct Order {
    head: RequestHeader,
    body: Bytes,
}

impl Default for Fetcher {
    fn default() -> Self {
        Fetcher::new()
    }
}

impl Fetcher {
    /// A client with an empty pool that trusts the system's certificate authorities.
    pub fn new() -> Fetcher {
        let options = ConnectorOptions::new(IDLE_CONNECTIONS_MAX);
        let connector = Arc::new(Connector::new(Some(options)));
        Fetcher { inner: Arc::new(Inner { connector, dns: dns::Dns::default() }) }
    }

    /// Sends a request (`path_and_query` is appended to the endpoint's path) and waits for the response header.
    /// A pooled connection that dies before any byte of the answer is replaced once by a fresh one.
    #[expect(clippy::too_many_arguments, reason = "the parts of one request; a struct would only rename them")]
    pub async fn send(
        &self,
        ep: &Endpoint,
        method: Method,
        path_and_query: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Fetched, FetchError> {
        let framing = Framing::Length(u64::try_from(body.len()).unwrap_or(u64::MAX));
        let order = Order { head: request_head(ep, method, path_and_query, headers, framing)?, body };
        let addresses = self.addresses(ep).await?;
        let mut fresh_only = false;
        loop {
            let (session, peer, reused) = self.session(ep, &addresses, fresh_only).await?;
            let exchange = timeout(ep.first_byte, exchange(session, &order, ep));
            let answered = exchange.await.unwrap_or(Err((FetchError::Timeout(Stage::FirstByte), false)));
            match answered {
                Ok(session) => return Fetched::new(session, peer, self.inner.connector.clone(), ep.between_bytes),
                Err((_, true)) if reused => fresh_only = true,
                Err((e, _)) => return Err(e),
            }
        }
    }

    /// The addresses of an endpoint, never none: for connections that somebody else makes, too.
    pub async fn addresses(&self, ep: &Endpoint) -> Result<Vec<SocketAddr>, FetchError> {
        let found = timeout(ep.connect, self.inner.dns.resolve(&ep.url.host, ep.url.port)).await;
        found.map_err(|_| FetchError::Timeout(Stage::Connect))?
    }

    /// A connection to the first address that takes one; the flag says whether it has served before.
    async fn session(
        &self,
        ep: &Endpoint,
        addresses: &[SocketAddr],
        fresh_only: bool,
    ) -> Result<(HttpSession, HttpPeer, bool), FetchError> {
        let mut last = FetchError::Resolve(ep.url.host.clone());
        for address in addresses.iter().take(ADDRESSES_MAX) {
            let peer = peer(ep, *address, fresh_only);
            match timeout(ep.connect, self.inner.connector.get_http_session(&peer)).await {
                Ok(Ok((session, reused))) => return Ok((session, peer, reused)),
                Ok(Err(e)) => last = FetchError::connecting(&e),
                Err(_) => last = FetchError::Timeout(Stage::Connect),
            }
        }
        Err(last)
    }
}

/// Describes one address to Pingora. Addresses are always given as such: Pingora itself resolves synchronously.
fn peer(ep: &Endpoint, address: SocketAddr, fresh: bool) -> HttpPeer {
    let sni = if ep.url.tls { ep.url.host.clone() } else { String::new() };
    let mut peer = HttpPeer::new(address, ep.url.tls, sni);
    if fresh {
        // A key of its own keeps this request off every pooled connection.
        peer.group_key = uuid::Uuid::new_v4().as_u64_pair().0;
    }
    let o = &mut peer.options;
    o.connection_timeout = Some(ep.connect);
    o.total_connection_timeout = Some(ep.connect);
    o.read_timeout = Some(ep.between_bytes);
    o.write_timeout = Some(ep.first_byte);
    o.idle_timeout = Some(IDLE_FOR);
    o.max_h2_streams = H2_STREAMS_MAX;
    o.alpn = if ep.url.tls { ALPN::H2H1 } else { ALPN::H1 };
    peer
}

fn request_head(
    ep: &Endpoint,
    method: Method,
    path_and_query: &str,
    headers: HeaderMap,
    framing: Framing,
) -> Result<RequestHeader, FetchError> {
    let bad = |e: &dyn std::fmt::Display| FetchError::Request(e.to_string());
    let target = format!("{}{}", ep.url.path, path_and_query);
    let target = if target.starts_with('/') { target } else { format!("/{target}") };
    let uri: Uri = target.parse().map_err(|e: http::uri::InvalidUri| bad(&e))?;
    let mut head =
        RequestHeader::build(method.clone(), target.as_bytes(), Some(headers.len() + 2)).map_err(|e| bad(&e))?;
    head.set_uri(uri);
    head.insert_header(header::HOST, ep.url.authority()).map_err(|e| bad(&e))?;
    for (name, value) in &headers {
        if !is_framing(name) {
            head.append_header(name.clone(), value.clone()).map_err(|e| bad(&e))?;
        }
    }
    match framing {
        Framing::Length(0) if method != Method::POST && method != Method::PUT => Ok(()),
        Framing::Length(n) => head.insert_header(header::CONTENT_LENGTH, n),
        Framing::Chunked => head.insert_header(header::TRANSFER_ENCODING, "chunked"),
    }
    .map_err(|e| bad(&e))?;
    Ok(head)
}

/// Fields that this client alone sets.
fn is_framing(name: &header::HeaderName) -> bool {
    *name == header::HOST
        || *name == header::CONTENT_LENGTH
        || *name == header::TRANSFER_ENCODING
        || *name == header::CONNECTION
        || *name == header::UPGRADE
}

/// Sends the request and reads up to the final response header. The flag of an error says whether the connection
/// died before a single byte of the answer, so that a pooled one may be replaced.
async fn exchange(mut s: HttpSession, order: &Order, ep: &Endpoint) -> Result<HttpSession, (FetchError, bool)> {
    s.set_read_timeout(Some(ep.first_byte));
    s.set_write_timeout(Some(ep.first_byte));
    let early = write(&mut s, order).await.err();
    if matches!(early, Some(FetchError::Protocol(_) | FetchError::Timeout(_))) {
        return Err((early.unwrap_or(FetchError::Cut), false));
    }
    // A server may answer (401, 413) and close before it has read the body: its answer counts, not our failed write.
    answer_header(&mut s, ep).await.map(|()| s)
}

/// Reads up to the final response header, and the flag as above.
async fn answer_header(s: &mut HttpSession, ep: &Endpoint) -> Result<(), (FetchError, bool)> {
    for _ in 0..=INFORMATIONAL_MAX {
        if let Err(e) = s.read_response_header().await {
            return Err((FetchError::talking(&e, Stage::FirstByte), untouched(&e)));
        }
        let head = s.response_header().ok_or((FetchError::Cut, false))?;
        if head.status.as_u16() == 101 {
            return Err((FetchError::Protocol("unasked protocol switch".to_owned()), false));
        }
        if !head.status.is_informational() {
            let limit = header_within_limits(&head.headers).map_err(|e| (e, false));
            s.set_read_timeout(Some(ep.between_bytes));
            return limit;
        }
    }
    Err((FetchError::Protocol("too many informational answers".to_owned()), false))
}

/// Whether the connection ended before a single byte of the answer. Pingora marks such errors, but marks those with
/// a part of the header read as well and tells the two apart only in its text; `reused_connection_*` tests hold it
/// to that text.
fn untouched(e: &BError) -> bool {
    match e.retry {
        RetryType::ReusedOnly => e.to_string().contains("bytes already read: 0"),
        RetryType::Decided(again) => again,
    }
}

async fn write(s: &mut HttpSession, order: &Order) -> Result<(), FetchError> {
    let sent = async {
        s.write_request_header(Box::new(order.head.clone())).await?;
        if !order.body.is_empty() {
            s.write_request_body(order.body.clone(), true).await?;
        }
        s.finish_request_body().await
    };
    sent.await.map_err(|e| FetchError::talking(&e, Stage::FirstByte))
}

fn header_within_limits(headers: &HeaderMap) -> Result<(), FetchError> {
    let bytes: usize = headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 4).sum();
    if bytes > HEADER_BYTES_MAX || headers.len() > HEADER_FIELDS_MAX {
        return Err(FetchError::TooLarge { bytes_max: HEADER_BYTES_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod upload_tests;
