//! When something went wrong underway: a clear answer that names no secret, and a word for the log.

use super::ctx::Ctx;
use super::reply;
use crate::base::reply::Reply;
use crate::base::source::Source;
use http::StatusCode;
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::{FailToProxy, Session};

/// Status and reason for an error; status 0 when nobody is left to answer.
fn classify(e: &Error) -> (u16, &'static str) {
    use ErrorType::{
        ConnectError, ConnectNoRoute, ConnectRefused, ConnectTimedout, ConnectionClosed, HTTPStatus, InvalidHTTPHeader,
        ReadError, ReadTimedout, TLSHandshakeFailure, TLSHandshakeTimedout, WriteError, WriteTimedout,
    };
    match (e.esource(), e.etype()) {
        (_, HTTPStatus(413)) => (413, "body_too_large"),
        (_, HTTPStatus(504)) => (504, "only_if_cached"),
        (ErrorSource::Downstream, ConnectionClosed | ReadError | WriteError) => (0, "client_gone"),
        (ErrorSource::Downstream, ReadTimedout) => (408, "client_too_slow"),
        (ErrorSource::Downstream, WriteTimedout) => (0, "client_too_slow"),
        (ErrorSource::Downstream, _) => (400, "bad_request"),
        (_, ConnectTimedout | TLSHandshakeTimedout) => (504, "origin_connect_timeout"),
        (ErrorSource::Upstream, ReadTimedout | WriteTimedout) => (504, "origin_timeout"),
        (_, ConnectRefused | ConnectError | ConnectNoRoute) => (502, "origin_unreachable"),
        (_, TLSHandshakeFailure | ErrorType::InvalidCert) => (502, "origin_tls"),
        (ErrorSource::Upstream, InvalidHTTPHeader) => (502, "origin_garbage"),
        (ErrorSource::Upstream, ConnectionClosed | ReadError) => (502, "origin_cut"),
        (ErrorSource::Upstream, _) => (502, "origin_failed"),
        (_, HTTPStatus(code)) => (*code, "gateway_error"),
        _ => (500, "internal_error"),
    }
}

/// Answers for a request that could not be carried out.
pub async fn fail(session: &mut Session, e: &Error, ctx: &mut Ctx) -> FailToProxy {
    let (status, reason) = classify(e);
    ctx.error.get_or_insert_with(|| format!("{:?}: {}", e.etype(), e.root_etype().as_str()));
    // An interim answer promises a final one; a change of protocols is the last word of this one.
    let last = |r: &pingora::http::ResponseHeader| r.status.as_u16() == 101 || !r.status.is_informational();
    let answered = session.response_written().is_some_and(last);
    if !answered || ctx.reason.is_empty() {
        ctx.reason = reason;
    }
    if answered || status == 0 {
        return FailToProxy { error_code: status, can_reuse_downstream: false };
    }
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = format!("{status} {}: {reason}\n", code.canonical_reason().unwrap_or("Error"));
    let mut answer = Reply::text(code, Source::Gateway, text).because(reason);
    if status == 503 || status == 504 || status == 502 {
        answer = answer.with(http::header::CACHE_CONTROL, "no-store");
    }
    session.set_keepalive(None);
    if let Err(error) = reply::send(session, ctx, answer).await {
        tracing::debug!(%error, "could not answer");
    }
    FailToProxy { error_code: status, can_reuse_downstream: false }
}
