//! The semantic cache behind the pipeline's seam.

use super::seam::{self, SemanticLookup};
use super::semantic::{Query, SemanticCache, StoredAnswer, Ticket};
use async_trait::async_trait;
use std::sync::Arc;

/// A semantic cache that the pipeline can ask.
pub struct Shared(pub Arc<SemanticCache>);

struct Place {
    cache: Arc<SemanticCache>,
    ticket: Ticket,
}

impl Shared {
    fn place(&self, ticket: Ticket) -> Box<dyn seam::Ticket> {
        Box::new(Place { cache: Arc::clone(&self.0), ticket })
    }
}

#[async_trait]
impl SemanticLookup for Shared {
    async fn lookup(&self, q: &seam::Query) -> seam::Lookup {
        use super::semantic::Lookup;
        match self.0.lookup(&cache_form(q)).await {
            Lookup::Hit(h) => {
                seam::Lookup::Hit(seam::Hit { answer: pipeline_form(h.answer), score: h.score, age: h.age, id: h.id })
            }
            Lookup::Miss(ticket) => seam::Lookup::Miss(self.place(ticket)),
            Lookup::Bypass(why) => seam::Lookup::Bypass(why.as_str()),
        }
    }

    async fn ticket(&self, q: &seam::Query) -> Result<Box<dyn seam::Ticket>, &'static str> {
        self.0.ticket(&cache_form(q)).await.map(|t| self.place(t)).map_err(|why| why.as_str())
    }
}

#[async_trait]
impl seam::Ticket for Place {
    async fn store(self: Box<Self>, a: seam::Answer) {
        let answer = StoredAnswer {
            body: a.body,
            model: a.model,
            prompt_tokens: a.prompt_tokens,
            completion_tokens: a.completion_tokens,
            cost_nano_usd: a.cost_nano_usd,
            seconds: a.seconds,
        };
        self.cache.store(self.ticket, answer).await;
    }
}

fn cache_form(q: &seam::Query) -> Query {
    Query {
        partition: q.partition,
        tenant: q.tenant.clone(),
        model: q.model.clone(),
        text: q.text.clone(),
        threshold: q.threshold,
        ttl: q.ttl,
    }
}

fn pipeline_form(a: StoredAnswer) -> seam::Answer {
    seam::Answer {
        body: a.body,
        model: a.model,
        prompt_tokens: a.prompt_tokens,
        completion_tokens: a.completion_tokens,
        cost_nano_usd: a.cost_nano_usd,
        seconds: a.seconds,
    }
}
