//! The limits station: requests before anything is asked, tokens once a prompt is known, corrected when it is over.

use super::Edge;
use super::ctx::Ctx;
use crate::ai::tokens::Estimate;
use crate::base::reply::Reply;
use crate::base::source::Source;
use crate::config::apikey::Grant;
use crate::config::limit::LimitKey;
use crate::limit::{Quota, Rate, Refused, Taken, What, fields};
use crate::plan::{Handler, Route};
use http::{StatusCode, header};
use pingora::http::ResponseHeader;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What keys' and teams' own limits are counted by.
const MINUTE: Duration = Duration::from_secs(60);

type Stop = Box<Reply>;

/// Limits by address and route: counted before anybody is known, so that guessing at keys is limited, too.
pub fn of_strangers(edge: &Edge, ctx: &mut Ctx, route: &Route) -> Result<(), Stop> {
    take(edge, ctx, route, |key| matches!(key, LimitKey::ClientIp | LimitKey::Route))
}

/// Limits by key, team and user, and those that keys and teams bring themselves.
pub fn of_known(edge: &Edge, ctx: &mut Ctx, route: &Route) -> Result<(), Stop> {
    take(edge, ctx, route, |key| !matches!(key, LimitKey::ClientIp | LimitKey::Route))?;
    let Some(key) = ctx.user.as_ref().and_then(|u| u.key()).cloned() else { return Ok(()) };
    own(edge, ctx, ("key", &key.name), &key.grant)?;
    match key.team.as_ref().zip(key.team_grant.as_ref()) {
        Some((team, grant)) => own(edge, ctx, ("team", team), grant),
        None => Ok(()),
    }
}

fn take(edge: &Edge, ctx: &mut Ctx, route: &Route, which: impl Fn(LimitKey) -> bool) -> Result<(), Stop> {
    // A refresh in the background is the gateway's own wish; its client has been counted.
    if ctx.background {
        return Ok(());
    }
    for limit in route.limits.iter().filter(|l| which(l.key)) {
        let subject = subject(ctx, limit.key);
        let taken = edge.shared.limiter.take(&limit.name, &subject, &limit.quota);
        add(ctx, taken)?;
    }
    Ok(())
}

fn own(edge: &Edge, ctx: &mut Ctx, (kind, name): (&str, &Arc<str>), grant: &Grant) -> Result<(), Stop> {
    let rate = |n: u64| Rate { count: n, period: MINUTE, burst: n };
    let quota = Quota { requests: grant.rpm.map(rate), tokens: grant.tpm.map(rate), concurrency: grant.concurrency };
    if quota == Quota::default() || ctx.background {
        return Ok(());
    }
    let taken = edge.shared.limiter.take(&kind.into(), name, &quota);
    add(ctx, taken)
}

fn add(ctx: &mut Ctx, taken: Result<Taken, Refused>) -> Result<(), Stop> {
    match taken {
        Ok(taken) => {
            ctx.taken.push(taken);
            Ok(())
        }
        Err(refused) => {
            // What others have let through has not taken place.
            ctx.taken.drain(..).for_each(Taken::give_back);
            Err(refuse(ctx, &refused))
        }
    }
}

/// Whose requests are counted together. The names of a kind begin alike, so that a user cannot pass for a key.
fn subject(ctx: &Ctx, key: LimitKey) -> String {
    let known = ctx.user.as_ref();
    let key_name = || known.and_then(|u| u.key()).map_or(String::new(), |k| format!("key:{}", k.name));
    match key {
        LimitKey::ApiKey => key_name(),
        LimitKey::Team => {
            let team = known.and_then(|u| u.key()).and_then(|k| k.team.as_ref());
            team.map_or_else(key_name, |t| format!("team:{t}"))
        }
        LimitKey::User => format!("user:{}", known.and_then(|u| u.name()).unwrap_or_default()),
        LimitKey::ClientIp => network(ctx.client),
        LimitKey::Route => format!("route:{}", ctx.route_name()),
    }
}

/// A subscriber of IPv6 has at least a /64 to itself.
fn network(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// Takes the tokens of a prompt by estimate.
pub fn reserve(ctx: &mut Ctx, estimate: &Estimate) -> Result<(), Stop> {
    let mut taken = std::mem::take(&mut ctx.taken);
    let refused = taken.iter_mut().find_map(|t| t.reserve(estimate.total()).err());
    let result = refused.map_or(Ok(()), |r| {
        // Of the others, those that had reserved give it back; the request itself has been one.
        taken.iter_mut().for_each(|t| t.settle(0));
        Err(refuse(ctx, &r))
    });
    ctx.taken = taken;
    result
}

/// The request is over: its tokens are what the provider counted. Where it was asked and did not tell, the estimate
/// stands; where nobody was asked, nothing was used.
pub fn settle(ctx: &mut Ctx) {
    if ctx.taken.is_empty() {
        return;
    }
    let used = ctx.call.as_ref().map(|c| c.read()).map_or(Some(0), |call| match call.usage {
        Some(usage) => Some(usage.input().saturating_add(usage.output())),
        None if call.attempts.iter().any(|a| matches!(a.outcome, "ok" | "client_gone")) => None,
        None => Some(0),
    });
    if let Some(used) = used {
        ctx.taken.iter_mut().for_each(|t| t.settle(used));
    }
    ctx.taken.clear();
}

/// Adds where the client stands.
pub fn tell(resp: &mut ResponseHeader, ctx: &Ctx) -> pingora::Result<()> {
    if ctx.taken.is_empty() || resp.headers.contains_key(&fields::LIMIT) {
        return Ok(());
    }
    let standings: Vec<_> = ctx.taken.iter().flat_map(Taken::standings).collect();
    if let Some((policy, limit)) = fields::values(&standings) {
        resp.insert_header(fields::POLICY, policy)?;
        resp.insert_header(fields::LIMIT, limit)?;
    }
    Ok(())
}

fn refuse(ctx: &Ctx, refused: &Refused) -> Stop {
    let (status, reason) = (StatusCode::TOO_MANY_REQUESTS, refused.what.as_str());
    let seconds = fields::seconds(refused.retry_after).max(1);
    let what = match refused.what {
        What::Requests => "requests",
        What::Tokens => "tokens",
        What::Concurrency => "requests at once",
    };
    let text = format!("too many {what} (limit {:?}); try again in {seconds} s", refused.rule);
    let on_ai = matches!(ctx.route.as_deref().map(|r| &r.handler), Some(Handler::Ai(_)));
    let reply = if on_ai {
        Reply::json(status, Source::Gateway, &ctx.dialect.own_error(status, &text, reason))
    } else {
        Reply::text(status, Source::Gateway, format!("{text}\n"))
    };
    let mut reply = reply.because(reason).with(header::RETRY_AFTER, &seconds.to_string());
    if let Some((policy, limit)) = fields::values(std::slice::from_ref(&refused.standing)) {
        reply.headers.insert(fields::POLICY, policy);
        reply.headers.insert(fields::LIMIT, limit);
    }
    Box::new(reply)
}
