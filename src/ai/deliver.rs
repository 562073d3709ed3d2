//! The end of the way: a model's answer, or the refusal after the last try, as the client's reply.

use super::provider::Opened;
use super::reach::Reached;
use super::settle::{Files, Settle};
use super::stream::{LiveStream, Sight};
use super::verdict::Failure;
use super::{Run, dialect};
use crate::base::reply::{Body, Reply};
use crate::base::source::Source;
use http::{HeaderValue, StatusCode, header};

impl Run<'_> {
    /// The answer on its way to the client, and into the caches.
    pub(super) fn deliver(&self, reached: Reached, files: Files) -> Reply {
        let Reached { opened, model, tier, stand_in, asked, pass } = reached;
        let stand_in = stand_in || self.turned;
        self.record.note(|c| {
            (c.model, c.provider) = (Some(model.name.clone()), Some(model.provider.name.clone()));
            c.tier.clone_from(&tier);
        });
        let (record, clock, started) = (self.record.clone(), self.gateway.clock.clone(), self.started);
        let spoken = self.prompt.dialect;
        let provider = model.provider.speaks(spoken);
        let pass = Some(pass);
        let settle = Settle { record, files, model, dialect: spoken, tier, stand_in, clock, started, asked, pass };
        let mut reply = Reply::new(StatusCode::OK, Source::Provider).because(self.reason());
        let facts = &self.prompt.facts;
        match opened {
            Opened::Whole { headers, body, json, usage, dropped } => {
                self.record.note(|c| (c.dropped, c.guard) = (dropped, self.guard_report()));
                // What is stored is the JSON, also where the client gets a stream or its own values put back.
                let kept = facts.stream || self.guarded.is_some();
                let whole = if kept { json.to_string().into() } else { body.clone() };
                settle.complete(usage, Some((&json, whole)));
                (reply.headers, reply.body) = (headers, Body::Full(body));
            }
            Opened::Live { headers, live, dropped } => {
                self.record.note(|c| (c.dropped, c.guard) = (dropped, self.guard_report()));
                reply.headers = headers;
                let wanted = dialect::Wanted { created: self.gateway.clock.unix_secs(), usage: facts.wants_usage };
                let watch = self.gateway.routing.streaming(&self.context.options);
                let sight = Sight { wanted, watch, guarded: self.guarded.clone() };
                reply.body = Body::Stream(Box::new(LiveStream::new(*live, settle, provider, sight)));
            }
        }
        set_media_type(&mut reply, facts.stream);
        self.dressed(reply, None)
    }

    /// The refusal after the last try.
    pub(super) fn give_up(&self, failure: Failure) -> Reply {
        let reply = failure.told(self.prompt.dialect);
        self.dressed(reply, None)
    }

    fn reason(&self) -> &'static str {
        let call = self.record.read();
        if call.cache_reason.is_empty() { call.cache.as_str() } else { call.cache_reason }
    }
}

/// What every answer to a model call says about itself.
pub(super) fn set_media_type(reply: &mut Reply, stream: bool) {
    let kind = if stream { "text/event-stream; charset=utf-8" } else { "application/json" };
    reply.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // Shared caches in front must not keep what was made for one caller.
    reply.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
}
