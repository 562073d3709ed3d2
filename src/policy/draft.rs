//! The decision object that a script builds, and how it becomes a hook's typed decision.

use super::decision::{
    AiCache, Answer, CacheUse, HeaderOp, LogDirectives, Notes, OriginResponseDirectives, PromptDecision,
    PromptDirectives, Refusal, RequestDecision, RequestDirectives, ResponseDirectives, Storing, TagPurge,
};
use crate::base::reply::{Body, Reply};
use crate::base::source::Source;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rhai::ImmutableString;
use std::time::Duration;

/// More than any script needs; keeps a loop over `.note` from growing without bound.
const STEPS_MAX: usize = 64;

/// A decision in the making. A value, as everything in Rhai: a chained call changes it and gives a copy.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    ending: Option<Ending>,
    steps: Vec<Step>,
}

/// How a request ends without going on.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    Deny { status: StatusCode, message: ImmutableString },
    Unauthorized { challenge: HeaderValue },
    Respond { status: StatusCode, body: ImmutableString, content_type: HeaderValue },
    Redirect { status: StatusCode, location: HeaderValue },
}

/// One thing decided.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Pass,
    Upstream(ImmutableString),
    Vary(String, String),
    KeyQuery(Vec<String>),
    Note(String, String),
    RequestHeader(HeaderOp),
    Header(HeaderOp),
    Cache(AiCache),
    Tier(ImmutableString),
    Model(ImmutableString),
    Threshold(f32),
    Ttl(Duration),
    Guard(ImmutableString),
    StaleWhileRevalidate(Duration),
    StaleIfError(Duration),
    Tag(ImmutableString),
    NoStore,
    Keep(bool),
    PurgeTag(TagPurge),
}

impl Draft {
    /// A decision to end here.
    pub(super) fn ending(ending: Ending) -> Self {
        Draft { ending: Some(ending), steps: Vec::new() }
    }

    /// A decision to go on that starts with `step`.
    pub(super) fn starting(step: Step) -> Self {
        Draft { ending: None, steps: vec![step] }
    }

    /// Adds a step; the text says why it cannot be added.
    pub(super) fn push(&mut self, step: Step) -> Result<(), String> {
        if self.ending.is_some() && !matches!(step, Step::Note(..) | Step::Header(_)) {
            return Err("only .note, .set_header and .remove_header can follow an answer".to_owned());
        }
        if self.steps.len() >= STEPS_MAX {
            return Err(format!("a decision has at most {STEPS_MAX} steps"));
        }
        self.steps.push(step);
        Ok(())
    }

    /// As the decision of `on_request`.
    pub(super) fn into_request(self) -> RequestDecision {
        let Some(ending) = self.ending else {
            return RequestDecision::Continue(request_directives(self.steps));
        };
        let (notes, ops) = notes_and_headers(self.steps);
        match refuse(ending, notes, &ops) {
            Ok(refusal) => RequestDecision::Refuse(refusal),
            Err((ending, notes)) => RequestDecision::Reply(Box::new(Answer { reply: reply(ending, &ops), notes })),
        }
    }

    /// As the decision of `on_prompt`.
    pub(super) fn into_prompt(self) -> PromptDecision {
        let Some(ending) = self.ending else {
            return PromptDecision::Continue(prompt_directives(self.steps));
        };
        let (notes, ops) = notes_and_headers(self.steps);
        match refuse(ending, notes, &ops) {
            Ok(refusal) => PromptDecision::Refuse(refusal),
            // The other endings are not among this hook's verbs.
            Err((_, notes)) => PromptDecision::Continue(PromptDirectives { notes, ..Default::default() }),
        }
    }

    /// As the decision of `on_origin_response`.
    pub(super) fn into_origin_response(self) -> OriginResponseDirectives {
        let mut d = OriginResponseDirectives::default();
        for step in self.steps {
            match step {
                Step::NoStore => d.store = Storing::Never,
                Step::Ttl(t) => d.ttl = Some(t),
                Step::StaleWhileRevalidate(t) => d.stale_while_revalidate = Some(t),
                Step::StaleIfError(t) => d.stale_if_error = Some(t),
                Step::Tag(t) => d.tags.push(t.into()),
                Step::Header(op) => d.headers.push(op),
                Step::Note(k, v) => d.notes.push((k, v)),
                _ => {}
            }
        }
        d
    }

    /// As the decision of `on_response`.
    pub(super) fn into_response(self) -> ResponseDirectives {
        let (notes, headers) = notes_and_headers(self.steps);
        ResponseDirectives { headers, notes }
    }

    /// As the decision of `on_log`.
    pub(super) fn into_log(self) -> LogDirectives {
        let keep = self.steps.iter().rev().find_map(|s| if let Step::Keep(k) = s { Some(*k) } else { None });
        let purge = |s: &Step| if let Step::PurgeTag(p) = s { Some(p.clone()) } else { None };
        let purges = self.steps.iter().filter_map(purge).collect();
        LogDirectives { keep, purges, notes: notes_and_headers(self.steps).0 }
    }
}

fn notes_and_headers(steps: Vec<Step>) -> (Notes, Vec<HeaderOp>) {
    let (mut notes, mut ops) = (Notes::new(), Vec::new());
    for step in steps {
        match step {
            Step::Note(k, v) => notes.push((k, v)),
            Step::Header(op) => ops.push(op),
            _ => {}
        }
    }
    (notes, ops)
}

fn request_directives(steps: Vec<Step>) -> RequestDirectives {
    let mut d = RequestDirectives::default();
    for step in steps {
        match step {
            Step::Pass => d.cache = CacheUse::Pass,
            Step::Upstream(name) => d.upstream = Some(name.into()),
            Step::Vary(k, v) => {
                d.vary.retain(|(known, _)| *known != k);
                d.vary.push((k, v));
            }
            Step::KeyQuery(names) => d.key_query = Some(names),
            Step::Note(k, v) => d.notes.push((k, v)),
            Step::RequestHeader(op) => d.request_headers.push(op),
            Step::Header(op) => d.response_headers.push(op),
            _ => {}
        }
    }
    d
}

fn prompt_directives(steps: Vec<Step>) -> PromptDirectives {
    let mut d = PromptDirectives::default();
    for step in steps {
        match step {
            Step::Pass => d.cache = Some(AiCache::None),
            Step::Cache(c) => d.cache = Some(c),
            Step::Tier(t) => d.tier = Some(t.into()),
            Step::Model(m) => d.model = Some(m.into()),
            Step::Guard(g) => d.guard = Some(g.into()),
            Step::Threshold(t) => d.threshold = Some(t),
            Step::Ttl(t) => d.ttl = Some(t),
            Step::Note(k, v) => d.notes.push((k, v)),
            _ => {}
        }
    }
    d
}

/// The refusal that this ending is; other endings come back.
fn refuse(ending: Ending, notes: Notes, ops: &[HeaderOp]) -> Result<Refusal, (Ending, Notes)> {
    let mut headers = HeaderMap::new();
    let (status, message, reason) = match ending {
        Ending::Deny { status, message } => (status, message.into(), "policy_deny"),
        Ending::Unauthorized { challenge } => {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
            (StatusCode::UNAUTHORIZED, "authentication is required".to_owned(), "policy_unauthorized")
        }
        other => return Err((other, notes)),
    };
    ops.iter().for_each(|op| op.apply(&mut headers));
    Ok(Refusal { status, message, headers, reason, notes })
}

fn reply(ending: Ending, ops: &[HeaderOp]) -> Reply {
    let mut reply = match ending {
        Ending::Respond { status, body, content_type } => {
            let mut r = Reply::new(status, Source::Policy).because("policy_respond");
            if !body.is_empty() {
                r.headers.insert(header::CONTENT_TYPE, content_type);
                r.body = Body::Full(Bytes::copy_from_slice(body.as_bytes()));
            }
            r
        }
        Ending::Redirect { status, location } => {
            let mut r = Reply::new(status, Source::Policy).because("policy_redirect");
            r.headers.insert(header::LOCATION, location);
            r
        }
        Ending::Deny { status, message } => {
            Reply::text(status, Source::Policy, message.as_str()).because("policy_deny")
        }
        Ending::Unauthorized { challenge } => {
            let mut r = Reply::new(StatusCode::UNAUTHORIZED, Source::Policy).because("policy_unauthorized");
            r.headers.insert(header::WWW_AUTHENTICATE, challenge);
            r
        }
    };
    ops.iter().for_each(|op| op.apply(&mut reply.headers));
    reply
}
