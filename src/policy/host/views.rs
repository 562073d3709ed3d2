//! The facts as a script sees them: cheap handles whose properties are read when asked for.

use super::encode::{from_json, or_unit, url_decode};
use super::refuse;
use crate::policy::engine::STRING_BYTES_MAX;
use crate::policy::facts::{BotView, LogFacts, PromptFacts, RequestFacts, ResponseFacts};
use http::HeaderMap;
use http::header::COOKIE;
use rhai::{Array, Dynamic, Engine, EvalAltResult, FLOAT, INT, ImmutableString, Map};
use std::sync::{Arc, OnceLock};

/// `req`.
#[derive(Clone)]
pub(in crate::policy) struct Req(pub(in crate::policy) Arc<RequestFacts>);
/// `prompt`.
#[derive(Clone)]
pub(in crate::policy) struct Prompt(pub(in crate::policy) Arc<PromptFacts>);
/// `resp`.
#[derive(Clone)]
pub(in crate::policy) struct Resp(pub(in crate::policy) Arc<ResponseFacts>);
/// `entry`.
#[derive(Clone)]
pub(in crate::policy) struct LogEntry(pub(in crate::policy) Arc<LogFacts>);
/// `req.bot`.
#[derive(Clone)]
struct Bot(Arc<BotView>);

/// Arms of one experiment.
const ARMS_MAX: usize = 32;

pub(super) fn register(engine: &mut Engine) {
    engine
        .register_type_with_name::<Req>("req")
        .register_type_with_name::<Bot>("bot")
        .register_type_with_name::<Prompt>("prompt")
        .register_type_with_name::<Resp>("resp")
        .register_type_with_name::<LogEntry>("entry");
    request_properties(engine);
    request_questions(engine);
    bot(engine);
    prompt(engine);
    response(engine);
    log_entry(engine);
}

fn request_properties(engine: &mut Engine) {
    engine
        .register_get("id", |r: &mut Req| text(&r.0.id))
        .register_get("method", |r: &mut Req| kept(&r.0.memo.method, r.0.method.as_str()))
        .register_get("scheme", |r: &mut Req| text(r.0.scheme))
        .register_get("host", |r: &mut Req| kept(&r.0.memo.host, &r.0.host))
        .register_get("path", |r: &mut Req| kept(&r.0.memo.path, &r.0.path))
        .register_get("query", |r: &mut Req| text(&r.0.query))
        .register_get("ip", |r: &mut Req| r.0.ip.to_string())
        .register_get("tls", |r: &mut Req| r.0.tls)
        .register_get("http_version", |r: &mut Req| text(r.0.http_version))
        .register_get("route", |r: &mut Req| text(&r.0.route))
        .register_get("user", |r: &mut Req| made_once(&r.0.memo.user, &r.0.user))
        .register_get("key", |r: &mut Req| made_once(&r.0.memo.key, &r.0.key))
        .register_get("bot", |r: &mut Req| Bot(Arc::clone(r.0.bot())));
}

fn request_questions(engine: &mut Engine) {
    engine
        .register_fn("header", |r: &mut Req, name: &str| header(&r.0.headers, name))
        .register_fn("cookie", |r: &mut Req, name: &str| or_unit(cookie(&r.0.headers, name).map(|v| text(&v))))
        .register_fn("query_param", |r: &mut Req, name: &str| or_unit(query_param(&r.0.query, name).map(|v| text(&v))))
        .register_fn("jwt", |r: &mut Req, name: &str| r.0.claims(name, claims))
        .register_fn("bucket", |r: &mut Req, experiment: &str, arms: Map| bucket(&r.0, experiment, arms))
        .register_fn("arm", |r: &mut Req, experiment: &str| or_unit(r.0.arm(experiment)))
        .register_fn("note", |r: &mut Req, key: &str| or_unit(r.0.note(key)));
}

fn bot(engine: &mut Engine) {
    engine
        .register_get("kind", |b: &mut Bot| text(&b.0.kind))
        .register_get("name", |b: &mut Bot| text(&b.0.name))
        .register_get("declared", |b: &mut Bot| b.0.declared)
        .register_get("verified", |b: &mut Bot| b.0.verified)
        .register_get("score", |b: &mut Bot| INT::from(b.0.score))
        .register_get("reasons", |b: &mut Bot| -> Array { b.0.reasons.iter().map(|r| text(r).into()).collect() });
}

fn prompt(engine: &mut Engine) {
    engine
        .register_get("text", |p: &mut Prompt| text(&p.0.text))
        .register_get("system", |p: &mut Prompt| text(&p.0.system))
        .register_get("model", |p: &mut Prompt| text(&p.0.model))
        .register_get("chars", |p: &mut Prompt| int(p.0.chars))
        .register_get("complexity", |p: &mut Prompt| -> FLOAT { p.0.complexity() })
        .register_get("turns", |p: &mut Prompt| int(p.0.turns))
        .register_get("tools", |p: &mut Prompt| int(p.0.tools))
        .register_get("messages", |p: &mut Prompt| int(p.0.messages))
        .register_get("stream", |p: &mut Prompt| p.0.stream)
        .register_get("temperature", |p: &mut Prompt| p.0.temperature.unwrap_or(1.0))
        .register_get("max_tokens", |p: &mut Prompt| or_unit(p.0.max_tokens.map(int)));
}

fn response(engine: &mut Engine) {
    engine
        .register_get("status", |r: &mut Resp| INT::from(r.0.status))
        .register_get("age", |r: &mut Resp| int(r.0.age.unwrap_or_default().as_secs()))
        .register_get("source", |r: &mut Resp| text(r.0.source.as_str()))
        .register_get("cache", |r: &mut Resp| text(r.0.cache))
        .register_fn("header", |r: &mut Resp, name: &str| header(&r.0.headers, name));
}

fn log_entry(engine: &mut Engine) {
    engine
        .register_get("duration_ms", |e: &mut LogEntry| -> FLOAT { e.0.duration.as_secs_f64() * 1000.0 })
        .register_get("bytes", |e: &mut LogEntry| int(e.0.bytes))
        .register_get("source", |e: &mut LogEntry| text(e.0.source.as_str()))
        .register_get("reason", |e: &mut LogEntry| text(e.0.reason))
        .register_get("cost_usd", |e: &mut LogEntry| e.0.cost.usd())
        .register_get("tokens", |e: &mut LogEntry| int(e.0.tokens));
}

/// Cut at the script's string limit: a client must not make a script fail by sending something long.
fn text(s: &str) -> ImmutableString {
    s.get(..s.floor_char_boundary(STRING_BYTES_MAX)).unwrap_or_default().into()
}

/// The same, made once per request because scripts read it again and again.
fn kept(cell: &OnceLock<ImmutableString>, s: &str) -> ImmutableString {
    cell.get_or_init(|| text(s)).clone()
}

fn int(n: impl TryInto<INT>) -> INT {
    n.try_into().unwrap_or(INT::MAX)
}

/// RFC 9110 §5.3: several lines of one field are one value, joined by a comma.
fn header(headers: &HeaderMap, name: &str) -> Dynamic {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Dynamic::UNIT };
    let first = String::from_utf8_lossy(first.as_bytes());
    let Some(second) = values.next() else { return text(&first).into() };
    let mut joined = first.into_owned();
    for value in std::iter::once(second).chain(values) {
        joined.push_str(", ");
        joined.push_str(&String::from_utf8_lossy(value.as_bytes()));
    }
    text(&joined).into()
}

/// RFC 6265 §5.4 in reverse: the first cookie of that name.
fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|v| v.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(n, _)| *n == name).map(|(_, value)| value.trim_matches('"').to_owned())
}

/// The first parameter of that name, as an HTML form encodes it. A broken escape counts as absent.
fn query_param(query: &str, name: &str) -> Option<String> {
    let plain = |s: &str| url_decode(&s.replace('+', " "));
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(n, _)| plain(n).as_deref() == Some(name)).and_then(|(_, value)| plain(value))
}

fn made_once(cell: &OnceLock<Dynamic>, value: &Option<serde_json::Value>) -> Result<Dynamic, Box<EvalAltResult>> {
    if let Some(known) = cell.get() {
        return Ok(known.clone());
    }
    let made = claims(value.clone())?;
    Ok(cell.get_or_init(|| made).clone())
}

fn claims(value: Option<serde_json::Value>) -> Result<Dynamic, Box<EvalAltResult>> {
    let Some(value) = value else { return Ok(Dynamic::UNIT) };
    from_json(&value).ok_or_else(|| refuse("the claims are too large for a script"))
}

fn bucket(req: &RequestFacts, experiment: &str, arms: Map) -> Result<String, Box<EvalAltResult>> {
    let weight = |name: &str, v: &Dynamic| {
        v.as_int().ok().and_then(|w| u32::try_from(w).ok()).ok_or_else(|| {
            refuse(format!("bucket {experiment:?}: the weight of {name:?} must be a whole number, 0 or more"))
        })
    };
    let arms: Vec<(String, u32)> =
        arms.iter().map(|(n, v)| Ok((n.to_string(), weight(n, v)?))).collect::<Result<_, Box<EvalAltResult>>>()?;
    if arms.len() > ARMS_MAX || arms.iter().all(|(_, w)| *w == 0) {
        return Err(refuse(format!("bucket {experiment:?}: give 1 to {ARMS_MAX} arms, one with a weight above 0")));
    }
    Ok(req.assign(experiment, &arms))
}
