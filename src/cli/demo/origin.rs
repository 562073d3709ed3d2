//! The demo's origin app: pages, a small API and pictures, with cache headers as a careful app would send them.

use super::png;
use super::serve::{Asked, Site};
use crate::base::clock::Clock;
use crate::base::ids;
use crate::base::reply::{Body, Reply};
use crate::base::source::Source;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// How many requests this app has answered so far: a cached answer keeps the number it was stored with.
const HITS: HeaderName = HeaderName::from_static("x-origin-hits");

/// The pages under `/blog/`: slug, title, text.
const POSTS: [(&str, &str, &str); 3] = [
    ("why-caches-matter", "Why caches matter", "The fastest request is the one that never leaves the building."),
    (
        "tea-for-teams",
        "Tea for teams",
        "A pot is shared, a cup is not: what belongs to whom decides what may be cached.",
    ),
    ("slow-models", "Slow models, fast answers", "Nobody asks a question that nobody has asked before."),
];

/// The products of `/api/products`: id, name, price in cents.
const PRODUCTS: [(u32, &str, u32); 3] =
    [(1, "Kettle, 1 litre", 3900), (2, "Teapot, cast iron", 6400), (3, "Cups, set of four", 2800)];

/// The app.
pub struct Origin {
    clock: Clock,
    started: SystemTime,
    hits: AtomicU64,
}

/// How an answer may be kept, in the words of `Cache-Control`.
struct Page {
    content_type: &'static str,
    cache_control: &'static str,
    body: Bytes,
}

#[async_trait]
impl Site for Origin {
    async fn answer(&self, asked: Asked) -> Reply {
        let hits = self.hits.fetch_add(1, Ordering::Relaxed) + 1;
        let reply = match (&asked.method, asked.path.as_str()) {
            (&Method::POST, "/api/echo") => echo(&asked),
            (&Method::GET | &Method::HEAD, path) => match self.page(path, &asked) {
                Some(page) => self.conditional(page, &asked),
                None => Reply::full(StatusCode::NOT_FOUND, Source::Origin, HTML, html("Not found", "No such page.")),
            },
            _ => Reply::text(StatusCode::METHOD_NOT_ALLOWED, Source::Origin, "GET, HEAD, or POST /api/echo\n")
                .with(header::ALLOW, "GET, HEAD"),
        };
        reply.with(HITS, &hits.to_string())
    }
}

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const PUBLIC: &str = "public, max-age=60";
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
const PRIVATE: &str = "private, no-store";

impl Origin {
    /// The app, its pages last modified now.
    pub fn new(clock: Clock) -> Self {
        Origin { started: clock.now(), clock, hits: AtomicU64::new(0) }
    }

    fn page(&self, path: &str, asked: &Asked) -> Option<Page> {
        let page = |content_type, cache_control, body: Bytes| Some(Page { content_type, cache_control, body });
        match path {
            "/" => page(HTML, PUBLIC, home()),
            "/blog/" => page(HTML, PUBLIC, blog_index()),
            "/shop" => page(HTML, PRIVATE, shop(asked.header("x-arm"))),
            "/account/" => page(HTML, PRIVATE, account(asked.header("x-user"))),
            "/api/time" => page(JSON, "no-store", json!({ "unix": self.clock.unix_secs() }).to_string().into()),
            "/api/products" => page(JSON, "public, max-age=30", products()),
            "/robots.txt" => {
                page("text/plain; charset=utf-8", PUBLIC, Bytes::from_static(b"User-agent: GPTBot\nDisallow: /\n"))
            }
            "/healthz" => page("text/plain; charset=utf-8", "no-store", Bytes::from_static(b"ok\n")),
            _ => match path.strip_prefix("/blog/") {
                Some(slug) => page(HTML, PUBLIC, post(slug)?),
                None => page("image/png", IMMUTABLE, image(path)?),
            },
        }
    }

    /// RFC 9110 §13: `304` when the client's copy is still the current one.
    fn conditional(&self, page: Page, asked: &Asked) -> Reply {
        let digest = ids::hex(&ids::sha256_parts([page.body.as_ref()]));
        let etag = format!("\"{}\"", digest.get(..16).unwrap_or(&digest));
        let modified = httpdate::fmt_http_date(self.started);
        let same = match asked.header("if-none-match") {
            "" => asked.header("if-modified-since") == modified,
            tags => tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag || tag.trim() == "*"),
        };
        let storable = !page.cache_control.contains("no-store");
        let mut reply = Reply::new(StatusCode::OK, Source::Origin);
        reply.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(page.content_type));
        reply.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(page.cache_control));
        reply = reply.with(header::DATE, &httpdate::fmt_http_date(self.clock.now()));
        if storable {
            reply = reply.with(header::ETAG, &etag).with(header::LAST_MODIFIED, &modified);
        }
        if storable && same {
            reply.status = StatusCode::NOT_MODIFIED;
        } else {
            reply.body = Body::Full(page.body);
        }
        reply
    }
}

fn html(title: &str, body: &str) -> Bytes {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )
    .into()
}

fn home() -> Bytes {
    html(
        "The Tea Shop",
        "<p><img src=\"/img/leaf.png\" width=\"64\" alt=\"\"> Kettles, pots and cups.</p>\n\
         <p><a href=\"/blog/\">Blog</a> · <a href=\"/shop\">Shop</a> · <a href=\"/account/\">Your account</a></p>",
    )
}

fn blog_index() -> Bytes {
    let items: String =
        POSTS.iter().map(|(slug, title, _)| format!("<li><a href=\"/blog/{slug}\">{title}</a></li>\n")).collect();
    html("Blog", &format!("<ul>\n{items}</ul>"))
}

fn post(slug: &str) -> Option<Bytes> {
    let (_, title, text) = POSTS.iter().find(|(known, _, _)| *known == slug)?;
    Some(html(title, &format!("<p>{text}</p>")))
}

/// What the gateway tells the app about the visitor arrives as header fields; they are escaped like any input.
fn escaped(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.@ ".contains(*c)).take(80).collect()
}

fn shop(arm: &str) -> Bytes {
    let arm = if arm.is_empty() { "control".to_owned() } else { escaped(arm) };
    html("Shop", &format!("<p>You see the <b>{arm}</b> checkout.</p>"))
}

fn account(user: &str) -> Bytes {
    let user = if user.is_empty() { "there".to_owned() } else { escaped(user) };
    html("Your account", &format!("<p>Hello, {user}.</p>"))
}

fn products() -> Bytes {
    let list: Vec<_> = PRODUCTS
        .iter()
        .map(|(id, name, cents)| json!({ "id": id, "name": name, "price": { "cents": cents, "currency": "EUR" } }))
        .collect();
    json!({ "products": list }).to_string().into()
}

/// `/img/<name>.png`: every name has a picture, made from the name.
fn image(path: &str) -> Option<Bytes> {
    let name = path.strip_prefix("/img/")?.strip_suffix(".png")?;
    let known = !name.is_empty() && name.len() <= 40 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let seed = name.bytes().fold(7_u32, |seed, byte| (seed * 31 + u32::from(byte)) % 65_521);
    known.then(|| png::picture(96, seed))
}

fn echo(asked: &Asked) -> Reply {
    let mut reply = Reply::new(StatusCode::OK, Source::Origin);
    if let Some(kind) = asked.headers.get(header::CONTENT_TYPE) {
        reply.headers.insert(header::CONTENT_TYPE, kind.clone());
    }
    reply.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply.body = Body::Full(asked.body.clone());
    reply
}
