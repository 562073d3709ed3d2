//! The verbs: what a hook can decide, each refused outside the hooks that the table names.

use super::{allowed, hooks_of, refuse};
use crate::base::units::Dur;
use crate::policy::decision::{AiCache, HeaderOp, TagPurge};
use crate::policy::draft::{Draft, Ending, Step};
use crate::policy::hook::Hooks;
use http::{HeaderName, HeaderValue, StatusCode};
use rhai::{Array, Dynamic, Engine, EvalAltResult, FLOAT, INT, ImmutableString};
use std::time::Duration;

type Done<T> = Result<T, Box<EvalAltResult>>;

/// Bytes of a note's value, of a value that joins the cache key, of a tag.
const VALUE_BYTES_MAX: usize = 1024;
/// Bytes of a note's key and of a name that joins the cache key.
const NAME_BYTES_MAX: usize = 64;

/// Query parameters that a script may name for the cache key.
const PARAMETERS_MAX: usize = 64;

/// Hop-by-hop (RFC 9110 §7.6.1) and framing fields, and `Host`: the gateway's own business.
const OWN_FIELDS: [&str; 10] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

pub(super) fn register(engine: &mut Engine) {
    engine.register_type_with_name::<Draft>("decision");
    starting(engine);
    headers(engine);
    for_requests(engine);
    for_prompts(engine);
    for_storing(engine);
}

/// Registers a verb that starts a decision; it is refused outside its hooks.
fn start0(engine: &mut Engine, name: &'static str, make: fn() -> Draft) {
    let hooks = hooks_of(name);
    engine.register_fn(name, move || allowed(name, hooks).map(|()| make()));
}

/// Registers a step without an argument.
fn step0(engine: &mut Engine, name: &'static str, make: fn() -> Step) {
    let hooks = hooks_of(name);
    engine.register_fn(name, move |d: &mut Draft| add(d, name, hooks, || Ok(make())));
}

/// Registers a step with one text.
fn step1(engine: &mut Engine, name: &'static str, make: fn(ImmutableString) -> Result<Step, String>) {
    let hooks = hooks_of(name);
    engine.register_fn(name, move |d: &mut Draft, a: ImmutableString| add(d, name, hooks, || make(a)));
}

/// Registers a step with a name and a value; a value of `()` changes nothing.
fn step2(engine: &mut Engine, name: &'static str, make: fn(&str, String) -> Result<Step, String>) {
    let hooks = hooks_of(name);
    engine.register_fn(name, move |d: &mut Draft, key: ImmutableString, value: Dynamic| {
        allowed(name, hooks)?;
        match plain(&value) {
            Some(value) => add(d, name, hooks, || make(&key, value)),
            None if value.is_unit() => Ok(d.clone()),
            None => Err(refuse(format!("{name}: the value is {}, not text or a number", value.type_name()))),
        }
    });
}

fn add(d: &mut Draft, name: &'static str, hooks: Hooks, make: impl FnOnce() -> Result<Step, String>) -> Done<Draft> {
    allowed(name, hooks)?;
    let step = make().map_err(|why| refuse(format!("{name}: {why}")))?;
    d.push(step).map_err(|why| refuse(format!("{name}: {why}")))?;
    Ok(d.clone())
}

fn starting(engine: &mut Engine) {
    start0(engine, "next", Draft::default);
    start0(engine, "pass", || Draft::starting(Step::Pass));
    start0(engine, "keep", || Draft::starting(Step::Keep(true)));
    start0(engine, "skip", || Draft::starting(Step::Keep(false)));
    let hooks = hooks_of("deny");
    engine.register_fn("deny", move |status: INT, message: ImmutableString| -> Done<Draft> {
        allowed("deny", hooks)?;
        Ok(Draft::ending(Ending::Deny { status: status_in("deny", status, 400, 599)?, message }))
    });
    let hooks = hooks_of("respond");
    engine.register_fn("respond", move |status: INT, body: ImmutableString| -> Done<Draft> {
        allowed("respond", hooks)?;
        respond(status, body, HeaderValue::from_static("text/plain; charset=utf-8"))
    });
    engine.register_fn("respond", move |status: INT, body: ImmutableString, kind: &str| -> Done<Draft> {
        allowed("respond", hooks)?;
        respond(status, body, field_value(kind).map_err(|why| refuse(format!("respond: {why}")))?)
    });
    let hooks = hooks_of("redirect");
    engine.register_fn("redirect", move |status: INT, url: &str| -> Done<Draft> {
        allowed("redirect", hooks)?;
        redirect(status, url)
    });
    let hooks = hooks_of("unauthorized");
    engine.register_fn("unauthorized", move |scheme: &str| -> Done<Draft> {
        allowed("unauthorized", hooks)?;
        let challenge = field_value(scheme).map_err(|why| refuse(format!("unauthorized: {why}")))?;
        Ok(Draft::ending(Ending::Unauthorized { challenge }))
    });
}

fn respond(status: INT, body: ImmutableString, content_type: HeaderValue) -> Done<Draft> {
    let status = status_in("respond", status, 200, 599)?;
    if !body.is_empty() && matches!(status.as_u16(), 204 | 205 | 304) {
        return Err(refuse(format!("respond: a {} answer has no body", status.as_u16())));
    }
    Ok(Draft::ending(Ending::Respond { status, body, content_type }))
}

fn redirect(status: INT, url: &str) -> Done<Draft> {
    let status = status_in("redirect", status, 301, 308)?;
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Err(refuse("redirect: the status must be 301, 302, 303, 307 or 308"));
    }
    let location = field_value(url).map_err(|why| refuse(format!("redirect: {why}")))?;
    Ok(Draft::ending(Ending::Redirect { status, location }))
}

fn headers(engine: &mut Engine) {
    step2(engine, "set_header", |n, v| Ok(Step::Header(HeaderOp::Set(field_name(n)?, field_value(&v)?))));
    step1(engine, "remove_header", |n| Ok(Step::Header(HeaderOp::Remove(field_name(&n)?))));
    step2(engine, "set_request_header", |n, v| {
        Ok(Step::RequestHeader(HeaderOp::Set(field_name(n)?, field_value(&v)?)))
    });
    step1(engine, "remove_request_header", |n| Ok(Step::RequestHeader(HeaderOp::Remove(field_name(&n)?))));
    step2(engine, "note", |k, v| Ok(Step::Note(key(k)?, bounded(v)?)));
}

fn for_requests(engine: &mut Engine) {
    step1(engine, "upstream", |n| Ok(Step::Upstream(n)));
    step2(engine, "vary_on", |k, v| Ok(Step::Vary(key(k)?, bounded(v)?)));
    let hooks = hooks_of("key_query");
    engine.register_fn("key_query", move |d: &mut Draft, names: Array| {
        add(d, "key_query", hooks, || parameters(names).map(Step::KeyQuery))
    });
}

fn for_prompts(engine: &mut Engine) {
    step0(engine, "exact", || Step::Cache(AiCache::Exact));
    step0(engine, "semantic", || Step::Cache(AiCache::Semantic));
    step1(engine, "tier", |n| Ok(Step::Tier(n)));
    step1(engine, "model", |n| Ok(Step::Model(n)));
    step1(engine, "guard", |n| Ok(Step::Guard(n)));
    let hooks = hooks_of("threshold");
    engine.register_fn("threshold", move |d: &mut Draft, x: FLOAT| {
        add(d, "threshold", hooks, || {
            if !(0.0..=1.0).contains(&x) {
                return Err(format!("{x} is not within 0.0 to 1.0"));
            }
            #[expect(clippy::cast_possible_truncation, reason = "within 0..=1; losing digits is meant")]
            Ok(Step::Threshold(x as f32))
        })
    });
}

fn for_storing(engine: &mut Engine) {
    step1(engine, "ttl", |t| Ok(Step::Ttl(time(&t)?)));
    step1(engine, "stale_while_revalidate", |t| Ok(Step::StaleWhileRevalidate(time(&t)?)));
    step1(engine, "stale_if_error", |t| Ok(Step::StaleIfError(time(&t)?)));
    step1(engine, "tag", |t| tag(&t).map(|()| Step::Tag(t)));
    step0(engine, "no_store", || Step::NoStore);
    step1(engine, "purge_tag", |t| tag(&t).map(|()| Step::PurgeTag(TagPurge { tag: t.into(), soft: false })));
    step2(engine, "purge_tag", |t, how| {
        tag(t)?;
        let soft = match how.as_str() {
            "soft" => true,
            "hard" => false,
            other => return Err(format!("{other:?} is neither \"soft\" nor \"hard\"")),
        };
        Ok(Step::PurgeTag(TagPurge { tag: t.to_owned(), soft }))
    });
}

/// The text of a value that has an obvious one.
fn plain(value: &Dynamic) -> Option<String> {
    let simple = value.is_string() || value.is_int() || value.is_bool() || value.is_float() || value.is_char();
    simple.then(|| value.to_string())
}

fn status_in(verb: &str, status: INT, low: u16, high: u16) -> Done<StatusCode> {
    let code =
        u16::try_from(status).ok().filter(|s| (low..=high).contains(s)).and_then(|s| StatusCode::from_u16(s).ok());
    code.ok_or_else(|| refuse(format!("{verb}: status {status} is not within {low} to {high}")))
}

fn field_name(name: &str) -> Result<HeaderName, String> {
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no field name"))?;
    if OWN_FIELDS.contains(&parsed.as_str()) {
        return Err(format!("{name} is the gateway's own business and cannot be changed"));
    }
    Ok(parsed)
}

fn field_value(value: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(value).map_err(|_| "a header value is visible ASCII without line breaks".to_owned())
}

fn key(name: &str) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(good) {
        return Err(format!("a key is 1 to {NAME_BYTES_MAX} of the characters a-z A-Z 0-9 _ - ."));
    }
    Ok(name.to_owned())
}

/// Names of query parameters.
fn parameters(names: Array) -> Result<Vec<String>, String> {
    if names.len() > PARAMETERS_MAX {
        return Err(format!("at most {PARAMETERS_MAX} names"));
    }
    let name = |n: Dynamic| match n.into_string() {
        Ok(n) if !n.is_empty() && n.len() <= NAME_BYTES_MAX => Ok(n),
        _ => Err(format!("a name is a text of 1 to {NAME_BYTES_MAX} bytes")),
    };
    names.into_iter().map(name).collect()
}

fn bounded(value: String) -> Result<String, String> {
    if value.len() > VALUE_BYTES_MAX {
        Err(format!("the value is longer than {VALUE_BYTES_MAX} bytes"))
    } else {
        Ok(value)
    }
}

/// Tags travel in header lists, separated by commas and spaces.
fn tag(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > VALUE_BYTES_MAX || !name.bytes().all(|b| b.is_ascii_graphic() && b != b',') {
        return Err(format!("a tag is 1 to {VALUE_BYTES_MAX} visible ASCII characters without comma or space"));
    }
    Ok(())
}

fn time(text: &str) -> Result<Duration, String> {
    text.parse::<Dur>().map(|d| d.0).map_err(|e| e.to_string())
}
