//! `sluicegate purge`: asks a running gateway's admin port to purge.

use super::{complain, say};
use crate::base::url::BaseUrl;
use crate::config::secret::SecretRef;
use crate::fetch::{Endpoint, Fetcher};
use anyhow::Context;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

/// Longest answer read, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Wishes of one call to the admin port.
const BATCH: usize = 1000;

/// Bytes of one call; the port takes 1 MiB.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// The gateway was not reached, or did not answer as one.
const NOT_REACHED: u8 = 3;

/// What to purge, and where. Exit code 0: purged; 1: the gateway refused or failed; 2: wrong usage; 3: not reached.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// URLs to purge with all their variants: https://host/path.
    #[arg(required_unless_present_any = ["tags", "prefixes", "hosts", "all"])]
    urls: Vec<String>,
    /// Tags to purge.
    #[arg(long = "tag", value_name = "TAG", num_args = 1..)]
    tags: Vec<String>,
    /// Prefixes to purge: https://host/folder/, or host/folder/ for both schemes.
    #[arg(long = "prefix", value_name = "PREFIX")]
    prefixes: Vec<String>,
    /// Hosts to purge.
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Purge everything.
    #[arg(long)]
    all: bool,
    /// Make stale instead of removing: stale windows and revalidation still help.
    #[arg(long)]
    soft: bool,
    /// Only in this cache.
    #[arg(long, value_name = "NAME")]
    store: Option<String>,
    /// The gateway's admin port.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    admin: String,
    /// Where the admin token is: env:NAME or file:/path [default: env:SLUICEGATE_ADMIN_TOKEN, if set].
    #[arg(long, value_name = "SECRET")]
    token: Option<String>,
}

/// Sends every wish, in as many calls as it takes.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let url = BaseUrl::parse(&args.admin).context("--admin")?;
    let wait = Duration::from_secs(30);
    let endpoint = Endpoint { url, connect: Duration::from_secs(5), first_byte: wait, between_bytes: wait };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(token) = token(&args)? {
        headers.insert(header::AUTHORIZATION, token);
    }
    let fetcher = Fetcher::new();
    let calls = calls(wishes(&args));
    let many = calls.len() > 1;
    for (i, body) in calls.into_iter().enumerate() {
        let (status, answer) = match call(&fetcher, &endpoint, headers.clone(), body).await {
            Ok(answered) => answered,
            Err(e) => {
                complain(&format!("{}: {e}", args.admin));
                return Ok(ExitCode::from(NOT_REACHED));
            }
        };
        if status != StatusCode::OK {
            let said = answer.get("error").and_then(Value::as_str).unwrap_or("no reason given");
            let done =
                if i > 0 { format!(" (the first {} wishes were carried out)", i * BATCH) } else { String::new() };
            complain(&format!("{}: {} {said}{done}", args.admin, status.as_u16()));
            return Ok(ExitCode::FAILURE);
        }
        tell(&answer, args.soft, many)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn token(args: &Args) -> anyhow::Result<Option<HeaderValue>> {
    const NAME: &str = "env:SLUICEGATE_ADMIN_TOKEN";
    let secret = match &args.token {
        Some(text) => SecretRef::new(text.as_str()).resolve().context("--token")?,
        None => match SecretRef::new(NAME).resolve() {
            Ok(secret) => secret,
            Err(_) => return Ok(None),
        },
    };
    let mut value = HeaderValue::from_str(&format!("Bearer {}", secret.expose())).context("the token")?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn wishes(args: &Args) -> Vec<Value> {
    let named = |key: &'static str, list: &[String]| -> Vec<Value> {
        list.iter().map(|text| json!({ key: text, "soft": args.soft })).collect()
    };
    let mut out = [
        named("url", &args.urls),
        named("tag", &args.tags),
        named("prefix", &args.prefixes),
        named("host", &args.hosts),
    ]
    .concat();
    if args.all {
        out.push(json!({ "all": true, "soft": args.soft }));
    }
    if let Some(store) = &args.store {
        out.iter_mut().filter_map(Value::as_object_mut).for_each(|w| drop(w.insert("store".to_owned(), json!(store))));
    }
    out
}

/// Bodies that the admin port takes: one wish by itself, so that its faults have no index, else batches.
fn calls(mut wishes: Vec<Value>) -> Vec<String> {
    if wishes.len() == 1 {
        return wishes.pop().iter().map(Value::to_string).collect();
    }
    wishes.chunks(BATCH).map(|part| json!({ "purges": part }).to_string()).collect()
}

async fn call(
    fetcher: &Fetcher,
    endpoint: &Endpoint,
    headers: HeaderMap,
    body: String,
) -> anyhow::Result<(StatusCode, Value)> {
    anyhow::ensure!(body.len() <= BATCH_BYTES_MAX, "more than 1 MiB of wishes in one call; purge in smaller parts");
    let answer = fetcher.send(endpoint, Method::POST, "/purge", headers, body.into()).await?;
    let status = answer.status;
    let body = answer.bytes(ANSWER_BYTES_MAX).await?;
    let value = serde_json::from_slice(&body).with_context(|| format!("status {} without JSON", status.as_u16()))?;
    Ok((status, value))
}

fn tell(answer: &Value, soft: bool, many: bool) -> anyhow::Result<()> {
    let kinds = answer.get("purged").and_then(Value::as_object);
    let parts: Vec<String> = kinds.into_iter().flatten().map(|(kind, n)| format!("{n} {kind}")).collect();
    let stores = answer.get("stores").and_then(Value::as_object);
    let places: Vec<String> = stores
        .into_iter()
        .flatten()
        .map(|(name, s)| format!("{name} (generation {})", s.get("generation").unwrap_or(&Value::Null)))
        .collect();
    let how = if soft { "purged softly" } else { "purged" };
    let more = if many { " …" } else { "" };
    let places = if places.is_empty() { "nowhere: no route caches".to_owned() } else { places.join(", ") };
    say(&format!("{how}: {} in {places}{more}", parts.join(", ")))
}
