//! The order of everything that happens before an origin or a model is asked: refusals, route, body limit, limits,
//! auth, limits of whom that found, policy, dispatch. It is fixed here, so that no configuration can put auth behind a cache.

use super::ctx::Ctx;
use super::{Edge, ai, cache, limits, mcp, passthrough, policy, purge, reply};
use crate::ai::dialect::Dialect;
use crate::auth::identity::Rule;
use crate::base::reply::Reply;
use crate::base::source::Source;
use crate::bot;
use crate::plan::router::Target;
use crate::plan::{Handler, Route};
use http::{StatusCode, header};
use pingora::http::RequestHeader;
use pingora_proxy::Session;
use std::sync::Arc;

/// Handles a request; true when it has been answered.
pub async fn handle(edge: &Edge, session: &mut Session, ctx: &mut Ctx) -> pingora::Result<bool> {
    if let Err(answer) = stations(edge, session, ctx).await {
        reply::send(session, ctx, *answer).await?;
        return Ok(true);
    }
    let Some(route) = ctx.route.clone() else { return Ok(false) };
    match &route.handler {
        Handler::Proxy(_) => cache::serve_hot(session, ctx, &route).await,
        Handler::Ai(options) => {
            let Some(gateway) = ctx.plan.ai.clone() else { return Ok(false) };
            let body_bytes_max =
                route.body_bytes_max.map_or(ctx.plan.ai_body_bytes_max, |n| usize::try_from(n).unwrap_or(usize::MAX));
            let station = ai::Station { gateway: &gateway, options, body_bytes_max };
            let answer = match passthrough::place(session, ctx) {
                Some(place) => passthrough::answer(&station, place, session, ctx).await?,
                None => Some(ai::answer(station, session, ctx).await?),
            };
            let Some(answer) = answer else { return Ok(false) };
            reply::send(session, ctx, answer).await?;
            Ok(true)
        }
        Handler::Mcp(mcp) => {
            let answer = mcp::answer(mcp, session, ctx).await?;
            reply::send(session, ctx, answer).await?;
            Ok(true)
        }
        Handler::Respond { status, content_type, body, precoded } => {
            let mut answer = Reply::full(*status, Source::Static, "", body.clone());
            answer.headers.insert(header::CONTENT_TYPE, content_type.clone());
            answer.extensions.insert(Arc::clone(precoded));
            reply::send(session, ctx, answer).await?;
            Ok(true)
        }
        Handler::Redirect { status, to } => {
            let uri = &session.req_header().uri;
            let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
            let target = to.replace("{path}", uri.path()).replace("{query}", &query).replace("{host}", &ctx.authority);
            reply::send(session, ctx, redirect(*status, &target)).await?;
            Ok(true)
        }
    }
}

type Stop = Box<Reply>;

async fn stations(edge: &Edge, session: &mut Session, ctx: &mut Ctx) -> Result<(), Stop> {
    if let Some((status, reason)) = ctx.refused {
        session.set_keepalive(None);
        return Err(plain(status, reason));
    }
    if wants_https(edge, ctx) {
        return Err(to_https(session, ctx));
    }
    let Some(route) = route(session.req_header(), ctx) else { return Err(plain(404, "no_route")) };
    purge::method(session, ctx, &route).await?;
    body_limit(session, &route)?;
    limits::of_strangers(edge, ctx, &route)?;
    // A refresh in the background carries its client's credentials: with them, and only with them, the script decides
    // as it did for the client.
    if let Some(rule) = &route.auth {
        authenticate(rule, session, ctx).await?;
    }
    limits::of_known(edge, ctx, &route)?;
    if route.policy.is_some() {
        let verified = verify_bot(session, ctx).await;
        policy::on_request(verified, session, ctx).await?;
    }
    Ok(())
}

fn plain(status: u16, reason: &'static str) -> Stop {
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    Box::new(Reply::text(code, Source::Gateway, format!("{reason}\n")).because(reason))
}

fn redirect(status: StatusCode, target: &str) -> Reply {
    Reply::new(status, Source::Static).with(header::LOCATION, target)
}

/// Whether the client is sent to https first.
pub fn wants_https(edge: &Edge, ctx: &Ctx) -> bool {
    !ctx.tls && edge.redirects(ctx.port, &ctx.plan)
}

fn to_https(session: &Session, ctx: &Ctx) -> Stop {
    let uri = &session.req_header().uri;
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let target = format!("https://{}{path}", ctx.host());
    Box::new(redirect(StatusCode::PERMANENT_REDIRECT, &target).because("redirect_to_https"))
}

/// The route that takes a request; it is kept in `ctx` too.
pub fn route(req: &RequestHeader, ctx: &mut Ctx) -> Option<Arc<Route>> {
    let path = ctx.path(req.uri.path());
    let target =
        Target { host: ctx.host(), path: &path, query: req.uri.query(), method: &req.method, headers: &req.headers };
    let route = ctx.plan.router.route(&target).and_then(|i| ctx.plan.routes.get(i)).cloned();
    let to_models = matches!(route.as_deref().map(|r| &r.handler), Some(Handler::Ai(_)));
    let dialect = if to_models { Dialect::of_client(&path, &req.headers) } else { Dialect::default() };
    drop(path);
    ctx.dialect = dialect;
    ctx.route.clone_from(&route);
    route
}

fn body_limit(session: &mut Session, route: &Route) -> Result<(), Stop> {
    let declared = session.req_header().headers.get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
    match (&route.handler, route.body_bytes_max) {
        // The AI station answers in its own form.
        (Handler::Proxy(_), Some(max)) if declared > max => {
            session.set_keepalive(None);
            Err(plain(413, "body_too_large"))
        }
        _ => Ok(()),
    }
}

async fn authenticate(rule: &Rule, session: &Session, ctx: &mut Ctx) -> Result<(), Stop> {
    let req = session.req_header();
    match rule.identify(&req.headers, req.uri.query()).await {
        Ok(identity) => {
            ctx.user = Some(identity);
            Ok(())
        }
        Err(e) => {
            let on_ai = matches!(ctx.route.as_deref().map(|r| &r.handler), Some(Handler::Ai(_)));
            let reply = if on_ai {
                Reply::json(e.status, Source::Auth, &ctx.dialect.own_error(e.status, &e.text, e.reason))
            } else {
                Reply::text(e.status, Source::Auth, format!("{}\n", e.text))
            };
            Err(Box::new(reply.because(e.reason).with(header::WWW_AUTHENTICATE, &e.challenge)))
        }
    }
}

/// Forward-confirmed reverse DNS for clients that say they are a known bot, where the operator asked for it.
async fn verify_bot(session: &Session, ctx: &Ctx) -> Option<bool> {
    let dns = ctx.plan.bots_dns.as_ref()?;
    let ua = session.req_header().headers.get(header::USER_AGENT)?.to_str().ok()?;
    let agent = match ctx.plan.bots.find(ua)? {
        bot::lists::Listed::Agent(a) | bot::lists::Listed::Deny(Some(a)) => a,
        _ => return None,
    };
    dns.verify(ctx.client, &agent).await
}
