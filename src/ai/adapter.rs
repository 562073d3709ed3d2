//! The semantic cache behind the pipeline's seam.

use super::seam::{self, Answer, Query, SemanticLookup};
use super::semantic::{self, SemanticCache};
use async_trait::async_trait;
use std::sync::Arc;

/// A semantic cache that the pipeline can ask.
pub struct Shared(pub Arc<SemanticCache>);

struct Place {
    cache: Arc<SemanticCache>,
    ticket: semantic::Ticket,
}

impl Shared {
    fn place(&self, ticket: semantic::Ticket) -> Box<dyn seam::Ticket> {
        Box::new(Place { cache: Arc::clone(&self.0), ticket })
    }
}

#[async_trait]
impl SemanticLookup for Shared {
    async fn lookup(&self, q: &Query) -> seam::Lookup {
        match self.0.lookup(q).await {
            semantic::Lookup::Hit(hit) => seam::Lookup::Hit(hit),
            semantic::Lookup::Miss(ticket) => seam::Lookup::Miss(self.place(ticket)),
            semantic::Lookup::Bypass(why) => seam::Lookup::Bypass(why.as_str()),
        }
    }

    async fn ticket(&self, q: &Query) -> Result<Box<dyn seam::Ticket>, &'static str> {
        self.0.ticket(q).await.map(|t| self.place(t)).map_err(|why| why.as_str())
    }
}

#[async_trait]
impl seam::Ticket for Place {
    async fn store(self: Box<Self>, answer: Answer) {
        self.cache.store(self.ticket, answer).await;
    }
}
