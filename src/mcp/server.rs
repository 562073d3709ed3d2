//! One server, ready to be asked: where it is, with which credentials, which of its tools are open.

use super::tools::Rules;
use super::{METHOD, NAME, SESSION, VERSION};
use crate::base::ids::{hex, sha256_parts};
use crate::base::url::BaseUrl;
use crate::config::mcp::{McpAuth, McpClient, McpRoute, McpServer};
use crate::config::secret::Secret;
use crate::fetch::Endpoint;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

/// The longest value of a client's field that is forwarded.
const VALUE_BYTES_MAX: usize = 1024;
/// The client's fields that are forwarded.
const FORWARDED: [HeaderName; 6] =
    [header::ACCEPT, SESSION, VERSION, METHOD, NAME, HeaderName::from_static("last-event-id")];
/// Fields that repeat arguments of a tool (2026-07-28), and how many of them are forwarded.
const PARAMETERS: &str = "mcp-param-";
const PARAMETERS_MAX: usize = 32;
/// What every client takes (2025-06-18, "Sending Messages to the Server").
const ACCEPT: &str = "application/json, text/event-stream";

/// A fault in a route's `mcp:` block, with its place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The path within the block, such as `servers.docs.url`.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// A server.
pub struct Server {
    /// Its name in the configuration.
    pub name: String,
    /// Where it takes messages.
    pub endpoint: Endpoint,
    /// The same for streams that a client listens to, whose pauses may be longer.
    pub listening: Endpoint,
    /// What follows the URL's path: a slash, where the URL ends in one.
    pub path_end: &'static str,
    /// Which tools are open.
    pub rules: Rules,
    /// Whether the client's own credentials are forwarded.
    pub passes_credentials: bool,
    /// Name and URL as a digest, for cache keys.
    pub digest: String,
    headers: HeaderMap,
}

/// Faults of the block itself.
pub fn check(config: &McpRoute) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |path: &str, message: &str| {
        faults.push(Fault { path: path.to_owned(), message: message.to_owned() });
    };
    if config.servers.is_empty() {
        fault("servers", "name at least one server");
    }
    if config.rate_limit.as_ref().is_some_and(|r| r.calls == 0 || r.per.0.is_zero()) {
        fault("rate_limit", "at least one call in a time longer than 0");
    }
    if config.cache.as_ref().is_some_and(|c| c.tools.is_empty() && c.read_only.is_none()) {
        fault("cache", "keeps nothing: give tools or read_only");
    }
    if config.max_answer.0 == 0 {
        fault("max_answer", "must be larger than 0");
    }
    faults
}

impl Server {
    /// Compiles a server; all faults are reported together.
    pub fn compile(name: &str, config: &McpServer, key: Option<&Secret>) -> Result<Server, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut fault =
            |key: &str, message: String| faults.push(Fault { path: format!("servers.{name}.{key}"), message });
        let url = BaseUrl::parse(&config.url).map_err(|e| fault("url", e.to_string())).ok();
        let mut headers = fields(config, &mut fault);
        if let Some(key) = key {
            match HeaderValue::from_str(&format!("Bearer {}", key.expose())) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    headers.insert(header::AUTHORIZATION, value);
                }
                Err(_) => fault("auth.bearer", "the token has characters that no header may carry".to_owned()),
            }
        }
        let rules = Rules::compile(&config.tools);
        let rules =
            rules.map_err(|list| list.into_iter().for_each(|b| fault(&format!("tools.{}", b.place), b.message)));
        let t = &config.timeouts;
        let limits = [t.connect.0, t.first_byte.0, t.between_bytes.0, config.idle.0];
        if limits.iter().any(std::time::Duration::is_zero) {
            fault("timeouts", "a time limit must be longer than 0".to_owned());
        }
        let (Some(url), Ok(rules), true) = (url, rules, faults.is_empty()) else { return Err(faults) };
        let endpoint =
            Endpoint { url, connect: t.connect.0, first_byte: t.first_byte.0, between_bytes: t.between_bytes.0 };
        let listening = Endpoint { between_bytes: config.idle.0, ..endpoint.clone() };
        Ok(Server {
            name: name.to_owned(),
            listening,
            path_end: if config.url.ends_with('/') && !endpoint.url.path.is_empty() { "/" } else { "" },
            endpoint,
            rules,
            passes_credentials: matches!(config.auth, Some(McpAuth::Client(McpClient::Passthrough))),
            digest: hex(&sha256_parts([name.as_bytes(), config.url.as_bytes()])),
            headers,
        })
    }

    /// The request's fields: of the client's only what belongs to the protocol.
    pub fn request_headers(&self, method: &Method, client: &HeaderMap) -> HeaderMap {
        let mut out = HeaderMap::new();
        out.insert(header::ACCEPT, HeaderValue::from_static(ACCEPT));
        for name in FORWARDED {
            let value = client.get(&name).filter(|v| v.len() <= VALUE_BYTES_MAX);
            out.extend(value.map(|v| (name, v.clone())));
        }
        let repeated = client.iter().filter(|(n, v)| n.as_str().starts_with(PARAMETERS) && v.len() <= VALUE_BYTES_MAX);
        out.extend(repeated.take(PARAMETERS_MAX).map(|(n, v)| (n.clone(), v.clone())));
        if *method == Method::POST {
            out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        out.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        out.insert(header::USER_AGENT, HeaderValue::from_static(concat!("sluicegate/", env!("CARGO_PKG_VERSION"))));
        if self.passes_credentials {
            out.extend(client.get(header::AUTHORIZATION).map(|v| (header::AUTHORIZATION, v.clone())));
        }
        out.extend(self.headers.iter().map(|(n, v)| (n.clone(), v.clone())));
        out
    }
}

/// The configured fields.
fn fields(config: &McpServer, fault: &mut impl FnMut(&str, String)) -> HeaderMap {
    let mut out = HeaderMap::new();
    for (name, value) in &config.headers {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => drop(out.insert(name, value)),
            (Err(_), _) => fault(&format!("headers.{name}"), "this is no valid header name".to_owned()),
            (_, Err(_)) => fault(&format!("headers.{name}"), "this is no valid header value".to_owned()),
        }
    }
    out
}
