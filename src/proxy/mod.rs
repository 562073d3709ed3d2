//! The spine: one request from top to bottom, one file for each station. Each hook of Pingora is one call.

pub mod accept;
pub mod ai;
pub mod cache;
pub mod coding;
pub mod ctx;
pub mod early_hints;
pub mod express;
pub mod fail;
pub mod interim;
mod ledger;
pub mod limits;
pub mod log;
pub mod mcp;
pub mod passthrough;
pub mod policy;
pub mod purge;
pub mod reply;
pub mod request;
pub mod response;
pub mod upstream;

use crate::base::ids::Ids;
use crate::base::source::Source;
use crate::observe::metrics::RouteMetrics;
use crate::plan::Plan;
use crate::plan::shared::Shared;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use ctx::Ctx;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_cache::key::HashBinary;
use pingora_cache::{CacheKey, CacheMeta, ForcedFreshness, HitHandler, RespCacheable};
use pingora_proxy::{FailToProxy, ProxyHttp, RangeType, Session};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// All that Pingora holds: the present plan, and what outlives plans.
pub struct Edge {
    /// The present plan; a request pins the one it started with.
    pub plan: ArcSwap<Plan>,
    /// What outlives it.
    pub shared: Arc<Shared>,
    /// Which listener has which port.
    pub ports: ArcSwap<BTreeMap<u16, String>>,
    /// Metrics of requests that no route took.
    pub unrouted: RouteMetrics,
    /// A sequence that spreads evenly, for sampling.
    pub dice: AtomicU32,
    /// Where request ids come from.
    pub ids: Ids,
}

impl Edge {
    /// An edge over a first plan.
    pub fn new(plan: Arc<Plan>, shared: Arc<Shared>) -> Self {
        let unrouted = shared.metrics.route("none");
        let ports = ArcSwap::from_pointee(BTreeMap::new());
        Edge { plan: ArcSwap::new(plan), shared, ports, unrouted, dice: AtomicU32::new(0), ids: Ids::default() }
    }

    /// Whether the listener with this port sends every request to https.
    fn redirects(&self, port: Option<u16>, plan: &Plan) -> bool {
        if !plan.listeners.values().any(|l| l.redirect_to_https) {
            return false;
        }
        let ports = self.ports.load();
        let name = port.and_then(|p| ports.get(&p));
        name.and_then(|n| plan.listeners.get(n)).is_some_and(|l| l.redirect_to_https)
    }
}

/// Pingora's view of an edge.
pub struct Spine(pub Arc<Edge>);

#[async_trait]
impl ProxyHttp for Spine {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::new(self.0.plan.load_full())
    }

    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        // Not Pingora's own compression: it ignores q-values and buffers event streams.
        modules.add_module(Box::new(coding::Builder));
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        accept::accept(&self.0, session, ctx);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        request::handle(&self.0, session, ctx).await
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if ctx.line.is_some() {
            return passthrough::check(ctx);
        }
        ctx.body_bytes += body.as_ref().map_or(0, |b| b.len() as u64);
        let max = ctx.route.as_ref().and_then(|r| r.body_bytes_max);
        if max.is_some_and(|m| ctx.body_bytes > m) {
            return Err(Error::explain(ErrorType::HTTPStatus(413), "request body too large"));
        }
        Ok(())
    }

    fn request_cache_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        cache::enable(session, ctx);
        Ok(())
    }

    fn cache_key_callback(&self, session: &Session, ctx: &mut Ctx) -> Result<CacheKey> {
        cache::key(session, ctx)
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        meta: &CacheMeta,
        _: &mut HitHandler,
        _: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<ForcedFreshness>> {
        Ok(cache::judge(session, meta, ctx))
    }

    async fn proxy_upstream_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        let may = cache::may_ask_origin(session, ctx)?;
        early_hints::send(session, ctx).await;
        Ok(may)
    }

    fn response_cache_filter(&self, session: &Session, resp: &ResponseHeader, ctx: &mut Ctx) -> Result<RespCacheable> {
        cache::may_store(session, resp, ctx)
    }

    fn cache_vary_filter(&self, meta: &CacheMeta, _: &mut Ctx, req: &RequestHeader) -> Option<HashBinary> {
        cache::vary(meta, req)
    }

    fn cache_not_modified_filter(&self, session: &Session, resp: &ResponseHeader, _: &mut Ctx) -> Result<bool> {
        Ok(cache::not_modified(session, resp))
    }

    fn range_header_filter(&self, session: &mut Session, resp: &mut ResponseHeader, _: &mut Ctx) -> RangeType {
        cache::range(session, resp)
    }

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        upstream::peer(ctx)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        req: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        upstream::request(session, req, ctx)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        resp: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if ctx.line.is_some() {
            ctx.source = Source::Provider;
            return passthrough::opened(resp);
        }
        ctx.source = Source::Origin;
        response::clean(resp);
        interim::pass_on(session, resp, ctx).await?;
        cache::invalidate(session, resp, ctx);
        cache::from_origin(resp, ctx)
    }

    async fn response_filter(&self, session: &mut Session, resp: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
        cache::as_it_was(session, ctx);
        cache::tell(session, resp, ctx)?;
        coding::response(session, resp, ctx)?;
        response::plain_end(session, resp);
        response::finish(resp, ctx)
    }

    async fn response_trailer_filter(&self, _: &mut Session, _: &mut HeaderMap, _: &mut Ctx) -> Result<Option<Bytes>> {
        Ok(None)
    }

    fn fail_to_connect(&self, _: &mut Session, _: &HttpPeer, ctx: &mut Ctx, mut e: Box<Error>) -> Box<Error> {
        e.set_retry(upstream::refused(ctx));
        e
    }

    fn should_serve_stale(&self, session: &mut Session, ctx: &mut Ctx, error: Option<&Error>) -> bool {
        cache::may_be_stale(session, ctx, error)
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Ctx) -> FailToProxy {
        fail::fail(session, e, ctx).await
    }

    fn suppress_error_log(&self, _: &Session, _: &Ctx, _: &Error) -> bool {
        // The access log and the metrics say it, once, with the reason.
        true
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut Ctx) {
        log::of_session(&self.0, session, ctx);
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        _: &mut Option<Bytes>,
        _: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        passthrough::check(ctx).map(|()| None)
    }
}
