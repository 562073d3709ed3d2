//! The MCP station: judges the head, reads the message, and has the organ answer while it watches for the client
//! leaving.

use super::ai::{read_body, tenant};
use super::ctx::Ctx;
use super::reply;
use crate::base::reply::Reply;
use crate::base::source::Source;
use crate::mcp::record::Record;
use crate::mcp::{Asking, BODY_BYTES_MAX, Mcp};
use bytes::Bytes;
use http::{Method, StatusCode};
use pingora_proxy::Session;
use std::sync::Arc;

/// Answers a request on an MCP route. An error when the client left meanwhile.
pub async fn answer(mcp: &Mcp, session: &mut Session, ctx: &mut Ctx) -> pingora::Result<Reply> {
    let req = session.req_header();
    let (method, headers) = (req.method.clone(), req.headers.clone());
    let path = ctx.path(req.uri.path()).into_owned();
    let server = match mcp.admit(&method, &path, &headers) {
        Ok(server) => server,
        Err(reply) => {
            // What is left of the body is not worth reading.
            session.set_keepalive(None);
            return Ok(*reply);
        }
    };
    let own = ctx.route.as_ref().and_then(|r| r.body_bytes_max);
    let bytes_max = own.map_or(BODY_BYTES_MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let body = match method {
        Method::POST => read_body(session, bytes_max, ctx.plan.io_timeout).await?,
        _ => Some(Bytes::new()),
    };
    let Some(body) = body else {
        session.set_keepalive(None);
        let text = format!("the message is larger than the limit of {bytes_max} bytes (max_body)\n");
        return Ok(Reply::text(StatusCode::PAYLOAD_TOO_LARGE, Source::Gateway, text).because("body_too_large"));
    };
    let tenant = tenant(ctx, session.req_header());
    let record = Arc::new(Record::default());
    ctx.mcp = Some(Arc::clone(&record));
    let asking = Asking { method: &method, headers: &headers, body, tenant: &tenant };
    tokio::select! {
        biased;
        reply = mcp.answer(server, asking, &record) => Ok(reply),
        gone = reply::client_gone(session) => {
            ctx.reason = "client_gone";
            ctx.source = Source::Gateway;
            Err(gone)
        }
    }
}
