//! What a hook may decide: a closed set of typed directives per hook. The spine carries them out.

use crate::base::reply::Reply;
use crate::base::source::Source;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::time::Duration;

/// Key and value pairs for the access log and the decision trace.
pub type Notes = Vec<(String, String)>;

/// One change to a header. Names and values are already valid, and never hop-by-hop or framing fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderOp {
    /// Replaces every value of the field.
    Set(HeaderName, HeaderValue),
    /// Removes the field.
    Remove(HeaderName),
}

impl HeaderOp {
    /// Carries it out.
    pub fn apply(&self, headers: &mut HeaderMap) {
        match self {
            HeaderOp::Set(name, value) => {
                headers.insert(name.clone(), value.clone());
            }
            HeaderOp::Remove(name) => {
                headers.remove(name);
            }
        }
    }
}

/// A refusal, not yet rendered: AI routes show it as an OpenAI-shaped error, others as plain text.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// 400 to 599.
    pub status: StatusCode,
    /// For the client.
    pub message: String,
    /// Header fields to send along (`WWW-Authenticate` of `unauthorized`, and what `set_header` added).
    pub headers: HeaderMap,
    /// `policy_deny` or `policy_unauthorized`.
    pub reason: &'static str,
    /// For the log.
    pub notes: Notes,
}

impl Refusal {
    /// The plain text form.
    pub fn into_reply(self) -> Reply {
        let mut reply = Reply::text(self.status, Source::Policy, self.message).because(self.reason);
        reply.headers.extend(self.headers);
        reply
    }
}

/// A whole answer that the script gave.
#[derive(Debug)]
pub struct Answer {
    /// The answer; its source is `policy`, its reason `policy_respond` or `policy_redirect`.
    pub reply: Reply,
    /// For the log.
    pub notes: Notes,
}

/// What `on_request` decided.
#[derive(Debug)]
pub enum RequestDecision {
    /// Go on, with these directives.
    Continue(RequestDirectives),
    /// Refuse.
    Refuse(Refusal),
    /// Answer at once.
    Reply(Box<Answer>),
}

/// May this request use the HTTP cache?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// As the route says.
    #[default]
    Default,
    /// Neither read nor written.
    Pass,
}

/// How a request goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// Use of the HTTP cache.
    pub cache: CacheUse,
    /// Another upstream than the route's.
    pub upstream: Option<String>,
    /// Names and values that join the cache key.
    pub vary: Vec<(String, String)>,
    /// The query parameters that join the cache key, instead of those that the route lists; `*` stands for any characters.
    pub key_query: Option<Vec<String>>,
    /// For the log.
    pub notes: Notes,
    /// Changes to the request as the upstream sees it.
    pub request_headers: Vec<HeaderOp>,
    /// Changes to the answer as the client sees it.
    pub response_headers: Vec<HeaderOp>,
}

/// What `on_prompt` decided.
#[derive(Debug)]
pub enum PromptDecision {
    /// Go on, with these directives.
    Continue(PromptDirectives),
    /// Refuse.
    Refuse(Refusal),
}

/// Which caches of model answers a call may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AiCache {
    /// None.
    None,
    /// The exact one.
    Exact,
    /// The exact one, then the semantic one.
    Semantic,
}

/// How a model call goes on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptDirectives {
    /// Caches to use; `None` means as the route says. It cannot give a route a cache that it does not have.
    pub cache: Option<AiCache>,
    /// The tier to use.
    pub tier: Option<String>,
    /// The model to use; it wins over the tier.
    pub model: Option<String>,
    /// Least similarity of a semantic hit, 0 to 1. It may only tighten: the higher of this and the configured one counts.
    pub threshold: Option<f32>,
    /// How long a new answer may be kept.
    pub ttl: Option<Duration>,
    /// The guards to use instead of the route's, as far as the route allows.
    pub guard: Option<String>,
    /// For the log.
    pub notes: Notes,
}

/// May the answer be stored?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storing {
    /// As the rules of HTTP and the route say.
    #[default]
    Default,
    /// No.
    Never,
}

/// What `on_origin_response` decided about the stored form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginResponseDirectives {
    /// May it be stored?
    pub store: Storing,
    /// How long it is fresh, instead of what the origin says.
    pub ttl: Option<Duration>,
    /// How long after that it may be served while a new one is fetched.
    pub stale_while_revalidate: Option<Duration>,
    /// How long after that it may be served when the origin fails.
    pub stale_if_error: Option<Duration>,
    /// Tags to purge by.
    pub tags: Vec<String>,
    /// Changes to the stored header.
    pub headers: Vec<HeaderOp>,
    /// For the log.
    pub notes: Notes,
}

/// What `on_response` decided about the sent form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// Changes to the sent header.
    pub headers: Vec<HeaderOp>,
    /// For the log.
    pub notes: Notes,
}

/// A tag to purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPurge {
    /// The tag.
    pub tag: String,
    /// Stale instead of void.
    pub soft: bool,
}

/// What `on_log` decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogDirectives {
    /// Write the line, leave it out, or (`None`) as the configured sampling says.
    pub keep: Option<bool>,
    /// Tags to purge in the HTTP caches.
    pub purges: Vec<TagPurge>,
    /// For the log.
    pub notes: Notes,
}
