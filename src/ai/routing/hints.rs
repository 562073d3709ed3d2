//! When a provider that refuses for now wants to be asked again: `Retry-After`, OpenAI's and Anthropic's fields, and
//! Google's `RetryInfo` in the body.

use http::{HeaderMap, header};
use serde_json::Value;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The kinds of limit that the providers count.
const LIMITS: [&str; 4] = ["requests", "tokens", "input-tokens", "output-tokens"];

/// The wish in the answer's header or body; the plainest statement wins. Nothing, if there is none.
pub fn retry_after(headers: &HeaderMap, body: Option<&Value>, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    let ms = || text("retry-after-ms")?.parse::<f64>().ok().and_then(|ms| seconds(ms / 1e3));
    let standard = || plain(text(header::RETRY_AFTER.as_str())?, now);
    ms().or_else(standard).or_else(|| body.and_then(retry_info)).or_else(|| resets(&text, now))
}

fn seconds(s: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(s).ok()
}

/// Seconds (some send fractions) or an HTTP date (RFC 9110 §10.2.3).
fn plain(text: &str, now: SystemTime) -> Option<Duration> {
    let until = |at: SystemTime| at.duration_since(now).unwrap_or_default();
    text.parse::<f64>().ok().and_then(seconds).or_else(|| httpdate::parse_http_date(text).ok().map(until))
}

/// `google.rpc.RetryInfo`, whose delay is written `3.5s`.
fn retry_info(body: &Value) -> Option<Duration> {
    let details = body.pointer("/error/details")?.as_array()?;
    let delay = details.iter().find_map(|d| d.get("retryDelay")?.as_str())?;
    seconds(delay.strip_suffix('s')?.parse().ok()?)
}

/// The latest reset among the limits of which nothing remains.
fn resets<'a>(text: &impl Fn(&str) -> Option<&'a str>, now: SystemTime) -> Option<Duration> {
    let mut latest = None;
    for limit in LIMITS {
        let spent = |name: String| text(&name) == Some("0");
        if spent(format!("x-ratelimit-remaining-{limit}")) {
            latest =
                latest.max(text(&format!("x-ratelimit-reset-{limit}")).and_then(|t| span(t).or_else(|| plain(t, now))));
        }
        if spent(format!("anthropic-ratelimit-{limit}-remaining")) {
            latest = latest.max(text(&format!("anthropic-ratelimit-{limit}-reset")).and_then(|t| moment(t, now)));
        }
    }
    latest
}

/// OpenAI's spans: `20ms`, `6m0s`, `1h2m3.5s`.
fn span(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let units = [("ms", 1e-3), ("h", 3600.0), ("m", 60.0), ("s", 1.0), ("d", 86_400.0)];
        let (unit, scale) = units.into_iter().find(|(unit, _)| after.starts_with(unit))?;
        total += number.parse::<f64>().ok()? * scale;
        rest = after.strip_prefix(unit)?;
    }
    (!text.is_empty()).then(|| seconds(total))?
}

/// Anthropic's moments (RFC 3339).
fn moment(text: &str, now: SystemTime) -> Option<Duration> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(SystemTime::from(at).duration_since(now).unwrap_or_default())
}
