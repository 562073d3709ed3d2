//! The operators' door: metrics, status, purge, reload, budgets and keys, on a port of its own.

pub mod ai_purge;
pub mod money;
pub mod purge;
pub mod status;
pub mod usage;

use crate::config::secret::Secret;
use crate::proxy::Edge;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use status::Last;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Largest body of an admin call.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What there is, beside `/healthz`.
const PATHS: [&str; 9] = [
    "/metrics",
    "/status",
    "/purge",
    "/reload",
    "/ai/usage",
    "/ai/purge",
    "/ai/budgets",
    "/ai/budgets/reset",
    "/ai/keys",
];

/// Reloads; the error lists the faults.
pub type ReloadFn = Box<dyn Fn() -> Result<(), String> + Send + Sync>;
/// How the last reload went.
pub type StatusFn = Box<dyn Fn() -> Last + Send + Sync>;

/// The admin application.
pub struct Admin {
    edge: Arc<Edge>,
    token: Option<Secret>,
    reload: Arc<ReloadFn>,
    last: StatusFn,
}

/// An answer of the admin port.
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Media type.
    pub content_type: &'static str,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// A JSON answer.
    pub fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        Answer { status, content_type: "application/json", body: value.to_string().into() }
    }

    fn error(status: StatusCode, message: &str) -> Self {
        Answer::json(status, &serde_json::json!({ "error": message }))
    }
}

impl Admin {
    /// The door to an edge.
    pub fn new(edge: Arc<Edge>, token: Option<Secret>, reload: ReloadFn, last: StatusFn) -> Self {
        Admin { edge, token, reload: Arc::new(reload), last }
    }

    async fn answer(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: Option<Bytes>) -> Answer {
        let path = uri.path();
        if path == "/healthz" {
            return Answer { status: StatusCode::OK, content_type: "text/plain", body: Bytes::from_static(b"ok\n") };
        }
        if !self.allowed(headers) {
            return Answer::error(StatusCode::UNAUTHORIZED, "send the token: Authorization: Bearer …");
        }
        if self.token.is_none() && from_a_web_page(method, headers) {
            return Answer::error(
                StatusCode::FORBIDDEN,
                "not for web pages: without a token, calls come from tools only",
            );
        }
        let Some(body) = body else { return Answer::error(StatusCode::PAYLOAD_TOO_LARGE, "body larger than 1 MiB") };
        match (method, path) {
            (&Method::GET, "/metrics") => self.metrics(),
            (&Method::GET, "/status") => Answer::json(StatusCode::OK, &status::status(&self.edge, &(self.last)())),
            (&Method::GET, "/ai/usage") => usage::usage(&self.edge, uri.query().unwrap_or("")),
            (&Method::POST, "/purge") => purge::purge(&self.edge, &body).await,
            (&Method::POST, "/ai/purge") => ai_purge::purge(&self.edge, &body).await,
            (&Method::POST, "/reload") => self.reload().await,
            (&Method::GET, "/ai/budgets") => Answer::json(StatusCode::OK, &money::budgets(&self.edge)),
            (&Method::POST, "/ai/budgets/reset") => money::reset(&self.edge, &body),
            (&Method::GET, "/ai/keys") => Answer::json(StatusCode::OK, &money::keys(&self.edge)),
            (_, path) if PATHS.contains(&path) => Answer::error(
                StatusCode::METHOD_NOT_ALLOWED,
                "POST /purge, /ai/purge, /reload and /ai/budgets/reset; GET everything else",
            ),
            _ => Answer::error(StatusCode::NOT_FOUND, &format!("there is /healthz, {}", PATHS.join(", "))),
        }
    }

    fn allowed(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let shown = headers.get(header::AUTHORIZATION).and_then(|v| v.as_bytes().strip_prefix(b"Bearer "));
        shown.is_some_and(|s| s.ct_eq(token.expose().as_bytes()).into())
    }

    fn metrics(&self) -> Answer {
        status::refresh_gauges(&self.edge);
        let body = self.edge.shared.metrics.render().into();
        Answer { status: StatusCode::OK, content_type: "text/plain; version=0.0.4", body }
    }

    async fn reload(&self) -> Answer {
        let reload = Arc::clone(&self.reload);
        match tokio::task::spawn_blocking(move || reload()).await {
            Ok(Ok(())) => Answer::json(StatusCode::OK, &serde_json::json!({ "ok": true })),
            Ok(Err(faults)) => {
                let list: Vec<&str> = faults.lines().collect();
                Answer::json(StatusCode::UNPROCESSABLE_ENTITY, &serde_json::json!({ "ok": false, "faults": list }))
            }
            Err(_) => Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "the reload ended unexpectedly; see the log"),
        }
    }
}

#[async_trait]
impl HttpServerApp for Admin {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !matches!(session.read_request().await, Ok(true)) {
            return None;
        }
        let body = read_body(&mut session).await?;
        let req = session.req_header();
        let (method, uri, headers) = (req.method.clone(), req.uri.clone(), req.headers.clone());
        let answer = self.answer(&method, &uri, &headers, body).await;
        if *shutdown.borrow() {
            session.set_keepalive(None);
        }
        write(&mut session, answer).await.ok()?;
        let settings = HttpPersistentSettings::for_session(&session);
        let reusable = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
    }
}

/// A page that an operator happens to look at must not reach the port on their own machine: browsers send `Origin` with
/// whatever may change something, and say with `Sec-Fetch-Site` (Fetch Metadata) who asks.
fn from_a_web_page(method: &Method, headers: &HeaderMap) -> bool {
    let foreign = headers.get("sec-fetch-site").is_some_and(|v| v != "same-origin" && v != "none");
    headers.contains_key(header::ORIGIN) || (method != Method::GET && foreign)
}

/// The body; the inner `None` when it is too large, the outer when the client is gone.
async fn read_body(session: &mut ServerSession) -> Option<Option<Bytes>> {
    let mut all = BytesMut::new();
    while let Some(piece) = session.read_request_body().await.ok()? {
        all.extend_from_slice(&piece);
        if all.len() > BODY_BYTES_MAX {
            session.set_keepalive(None);
            return Some(None);
        }
    }
    Some(Some(all.freeze()))
}

async fn write(session: &mut ServerSession, a: Answer) -> pingora::Result<()> {
    let mut head = ResponseHeader::build(a.status, Some(4))?;
    head.insert_header(header::CONTENT_TYPE, a.content_type)?;
    head.insert_header(header::CONTENT_LENGTH, a.body.len())?;
    head.insert_header(header::CACHE_CONTROL, "no-store")?;
    session.write_response_header(Box::new(head)).await?;
    session.write_response_body(a.body, true).await
}
