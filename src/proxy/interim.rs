//! Interim answers (1xx) of an origin, passed on as they come.

use super::ctx::Ctx;
use http::{StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

/// Most interim answers that one request is passed.
const INTERIM_MAX: u32 = 8;

/// Passes an interim answer on at once where the cache takes part: what the origin sends in one go with its final header
/// would be dropped there, for the final header then comes out of the store. RFC 9110 §15.2: HTTP/1.0 knows none.
/// HTTP/2 clients get none, for Pingora has no way to send them.
pub async fn pass_on(session: &mut Session, resp: &ResponseHeader, ctx: &mut Ctx) -> pingora::Result<()> {
    let interim = resp.status.is_informational()
        && !matches!(resp.status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS);
    if interim && session.req_header().version == Version::HTTP_10 {
        // RFC 9110 §15.2: not to a client of HTTP/1.0, which would take it for the answer.
        session.as_downstream_mut().set_ignore_info_resp(true);
        return Ok(());
    }
    if !interim || !session.cache.enabled() || ctx.background || session.req_header().version != Version::HTTP_11 {
        return Ok(());
    }
    // From now on this is the only way for them, so that none is sent twice.
    session.as_downstream_mut().set_ignore_info_resp(false);
    ctx.interim += 1;
    let sent = if ctx.interim <= INTERIM_MAX && session.response_written().is_none_or(|r| r.status.is_informational()) {
        session.as_downstream_mut().write_response_header_ref(resp).await
    } else {
        Ok(())
    };
    session.as_downstream_mut().set_ignore_info_resp(true);
    sent.map_err(|e| e.into_down())
}
