//! The AI station: reads the body, asks `on_prompt`, and has the organ answer while it watches for the client leaving.

use super::ctx::Ctx;
use super::{limits, policy, reply};
use crate::ai::call::CallRecord;
use crate::ai::caller::Caller;
use crate::ai::dialect::{Dialect, anthropic, gemini};
use crate::ai::error::AiError;
use crate::ai::headers::CacheMode;
use crate::ai::prompt::{self, Operation, Prompt};
use crate::ai::{AiDirectives, Context, Gateway, tokens};
use crate::auth::identity::Identity;
use crate::base::ids;
use crate::base::reply::Reply;
use crate::base::source::Source;
use crate::config::ai::AiRoute;
use crate::policy::decision::{AiCache, PromptDecision, Refusal};
use crate::policy::facts::PromptFacts;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, header};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::Duration;

/// What an AI route needs.
pub struct Station<'a> {
    /// The organ.
    pub gateway: &'a Gateway,
    /// The route's options.
    pub options: &'a Arc<AiRoute>,
    /// Largest body.
    pub body_bytes_max: usize,
}

/// Answers a model call. An error when the client left meanwhile: everything it had set going is cancelled, and the
/// record tells how far it had come.
pub async fn answer(s: Station<'_>, session: &mut Session, ctx: &mut Ctx) -> pingora::Result<Reply> {
    let (prompt, directives) = match prepare(&s, session, ctx).await? {
        Ok(x) => x,
        Err(reply) => return Ok(*reply),
    };
    if !ctx.taken.is_empty() && prompt.operation.is_billed() {
        // Without it there is nothing to reserve for, and weighing a prompt is work.
        if let Err(reply) = limits::reserve(ctx, &tokens::reserve(&prompt)) {
            return Ok(*reply);
        }
    }
    let context = context(&s, session, ctx);
    // Known before the answer is: a client that leaves must not take the traces of its call with it.
    let record = Arc::new(CallRecord::default());
    ctx.call = Some(Arc::clone(&record));
    tokio::select! {
        biased;
        reply = s.gateway.answer(prompt, &directives, &context, record) => Ok(reply),
        gone = reply::client_gone(session) => {
            ctx.reason = "client_gone";
            ctx.source = Source::Gateway;
            Err(gone)
        }
    }
}

/// What surrounds a request.
pub fn context(s: &Station<'_>, session: &Session, ctx: &Ctx) -> Context {
    Context {
        route: ctx.route_name().to_owned(),
        options: Arc::clone(s.options),
        tenant: tenant(ctx, session.req_header()),
        caller: caller(ctx),
        policy: ctx.plan.policy_revision.clone(),
        headers: session.req_header().headers.clone(),
    }
}

type Prepared = Result<(Prompt, AiDirectives), Box<Reply>>;

async fn prepare(s: &Station<'_>, session: &mut Session, ctx: &mut Ctx) -> pingora::Result<Prepared> {
    let req = session.req_header();
    let path = ctx.path(req.uri.path()).into_owned();
    let dialect = ctx.dialect;
    let refuse = |e: &AiError| Ok(Err(Box::new(e.reply(dialect))));
    let known = Operation::of(&req.method, &path);
    let operation = match known.and_then(|o| gemini::deliverable(o, req.uri.query()).map(|()| o)) {
        Ok(o) => o,
        Err(e) => return refuse(&e),
    };
    let Some(body) = read_body(session, s.body_bytes_max, ctx.plan.io_timeout).await? else {
        // What is left of the body is not worth reading.
        session.set_keepalive(None);
        return refuse(&AiError::TooLarge { bytes_max: s.body_bytes_max });
    };
    let model = prompt::model_in(&path);
    let mut prompt = match prompt::parse_at(operation, model.clone(), body, s.body_bytes_max) {
        Ok(p) => p,
        Err(e) => return refuse(&e),
    };
    match operation {
        Operation::Models | Operation::Model | Operation::Pass(_) => {
            prompt.dialect = dialect;
            prompt.facts.model = model.unwrap_or_default();
            Ok(Ok((prompt, AiDirectives::default())))
        }
        // A count sends the prompt to a provider, too: what must not go there must not be counted there.
        _ => Ok(decide(prompt, ctx)),
    }
}

/// Asks `on_prompt`. For embeddings `semantic` means `exact`: there is nothing similar about two vectors' texts.
fn decide(prompt: Prompt, ctx: &mut Ctx) -> Prepared {
    let directives = directives(ctx, prompt.dialect, || facts(&prompt))?;
    Ok((prompt, directives))
}

/// Asks `on_prompt` about these facts.
pub fn directives(
    ctx: &mut Ctx,
    dialect: Dialect,
    facts: impl FnOnce() -> PromptFacts,
) -> Result<AiDirectives, Box<Reply>> {
    match policy::on_prompt(ctx, facts) {
        Ok(PromptDecision::Continue(d)) => {
            ctx.notes.extend(d.notes);
            let cache = d.cache.map(|c| match c {
                AiCache::None => CacheMode::None,
                AiCache::Exact => CacheMode::Exact,
                AiCache::Semantic => CacheMode::Semantic,
            });
            let (tier, model, threshold, ttl, guard) = (d.tier, d.model, d.threshold, d.ttl, d.guard);
            Ok(AiDirectives { cache, tier, model, threshold, ttl, guard })
        }
        Ok(PromptDecision::Refuse(r)) => {
            ctx.notes.extend(r.notes.clone());
            Err(Box::new(refusal(r, dialect)))
        }
        Err(reply) => Err(reply),
    }
}

/// A refusal of the script in the shape that the client understands.
pub fn refusal(r: Refusal, dialect: Dialect) -> Reply {
    let body = dialect.own_error(r.status, &r.message, r.reason);
    let mut reply = Reply::json(r.status, Source::Policy, &body).because(r.reason);
    reply.headers.extend(r.headers);
    reply
}

/// Memory taken for a body on its announcement alone.
const BODY_BYTES_AT_FIRST: usize = 64 * 1024;

/// The whole body, or `None` when it is larger than allowed. A client that pauses longer than `pause` is given up.
pub async fn read_body(session: &mut Session, bytes_max: usize, pause: Duration) -> pingora::Result<Option<Bytes>> {
    let declared = session.req_header().headers.get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if declared.is_some_and(|n| n > bytes_max) {
        return Ok(None);
    }
    if session.req_header().headers.contains_key(header::EXPECT) {
        session.downstream_session.write_continue_response().await?;
    }
    let mut whole = BytesMut::with_capacity(declared.unwrap_or_default().min(BODY_BYTES_AT_FIRST));
    while let Some(piece) = next_piece(session, pause).await? {
        if whole.len() + piece.len() > bytes_max {
            return Ok(None);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(Some(whole.freeze()))
}

/// The next piece of a body, `None` at its end. Pingora's own read timeout does nothing on HTTP/2.
pub async fn next_piece(session: &mut Session, pause: Duration) -> pingora::Result<Option<Bytes>> {
    match tokio::time::timeout(pause, session.read_request_body()).await {
        Ok(read) => read,
        Err(_) => Err(Error::explain(ErrorType::ReadTimedout, "request body").into_down()),
    }
}

/// Whose answers these are: the verified subject, else the credentials that the client showed, else nobody's.
/// Only a digest is kept, so that no key stands in a cache key or a log.
pub fn tenant(ctx: &Ctx, req: &RequestHeader) -> String {
    let named = |kind: &str, name: &str| ids::hex(&ids::sha256_parts([kind.as_bytes(), name.as_bytes()]));
    match &ctx.user {
        Some(Identity::User(claims)) => {
            return match claims.tenant.as_deref() {
                Some(name) => named("tenant", name),
                // Verified, but nameless: the claims as a whole are who it is.
                None => named("claims", &claims.json.to_string()),
            };
        }
        Some(Identity::Key(key)) => {
            let (kind, name) = key.tenant();
            return named(&format!("virtual {kind}"), name);
        }
        None => {}
    }
    let fields = [header::AUTHORIZATION, anthropic::API_KEY, gemini::API_KEY];
    let in_fields = fields.iter().find_map(|name| req.headers.get(name)).map(HeaderValue::as_bytes);
    match in_fields.or_else(|| gemini::key_in(req.uri.query()).map(str::as_bytes)) {
        Some(key) => ids::hex(&ids::sha256_parts([b"key".as_slice(), key])),
        None => "anonymous".to_owned(),
    }
}

/// Who calls, as far as models and money are concerned.
fn caller(ctx: &Ctx) -> Caller {
    match &ctx.user {
        None => Caller::default(),
        Some(Identity::User(claims)) => {
            let user = claims.sub.as_deref().or(claims.tenant.as_deref()).map(Arc::from);
            Caller { user, ..Caller::default() }
        }
        Some(Identity::Key(key)) => Caller {
            key: Some(Arc::clone(&key.name)),
            team: key.team.clone(),
            user: None,
            grants: key.grants().cloned().collect(),
        },
    }
}

fn facts(p: &Prompt) -> PromptFacts {
    let f = &p.facts;
    PromptFacts {
        text: f.text.clone(),
        system: f.system.clone(),
        model: f.model.clone(),
        // The last user turn's for chat, all of the input's for embeddings.
        chars: if p.operation != Operation::Embeddings { f.text.chars().count() } else { f.chars },
        chars_in_all: f.chars,
        parts: f.parts,
        structured: p.is_structured(),
        turns: f.turns,
        tools: f.tools,
        messages: f.messages,
        stream: f.stream,
        temperature: f.temperature,
        max_tokens: f.max_tokens,
        ..PromptFacts::default()
    }
}
