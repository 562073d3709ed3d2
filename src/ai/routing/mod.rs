//! Which model is asked, when it is left alone, and what is asked instead. What decides is pure and takes the time as a
//! value: the order in a tier ([`strategy`]), the breaker of a model ([`breaker`]), its pace ([`pace`]), the budget of
//! extra calls ([`purse`]), a provider's wish to be left alone ([`hints`]), what a failure means ([`cause`]). [`board`]
//! keeps what is known of each model over reloads; [`walk`] leads one request from model to model.

pub mod board;
pub mod breaker;
pub mod cause;
pub mod dice;
pub mod hints;
pub mod pace;
pub mod purse;
pub mod strategy;
pub mod walk;

#[cfg(test)]
mod tests;

use super::catalog::{Catalog, Model, Provider};
use crate::base::clock::Clock;
use crate::base::ids::{hex, sha256_parts};
use crate::config::ai::{Ai, AiRoute, FallbackOn, Health, Retry, Streaming};
use board::{Board, Rules, Standing};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The routing of one gateway: its models' standings, and the rules that routes may change.
pub struct Routing {
    /// What is known of all models.
    pub board: Arc<Board>,
    /// By which rules their health is judged.
    pub rules: Rules,
    /// Unless the route has its own.
    pub retry: Retry,
    /// Unless the route has its own.
    pub streaming: Streaming,
    standings: BTreeMap<String, Arc<Standing>>,
}

/// The rules of one route.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// When the same model is asked again.
    pub retry: Retry,
    /// After which failures another is asked.
    pub fallback_on: &'a [FallbackOn],
}

impl Routing {
    /// The routing of a catalogue on this board.
    pub fn new(catalog: &Catalog, board: Arc<Board>, ai: &Ai, clock: Clock) -> Routing {
        let stand = |m: &Arc<Model>| {
            let (provider, model) = ids(m);
            (m.name.clone(), board.standing((&provider, &model), (&m.provider.name, &m.name)))
        };
        let standings = catalog.models().map(stand).collect();
        let rules = Rules { health: ai.health, clock };
        Routing { board, rules, retry: ai.retry, streaming: ai.stream, standings }
    }

    /// The routing of a catalogue on a board of its own, with every rule at its default.
    pub fn alone(catalog: &Catalog, clock: Clock) -> Routing {
        Routing::new(catalog, Arc::default(), &Ai::default(), clock)
    }

    /// How a model of the catalogue stands.
    pub fn standing(&self, model: &Model) -> Option<&Arc<Standing>> {
        self.standings.get(&model.name)
    }

    /// The rules of a route.
    pub fn way<'a>(&self, route: &'a AiRoute) -> Way<'a> {
        let fallback_on = route.fallback_on.as_deref().unwrap_or(&FallbackOn::DEFAULT);
        Way { retry: route.retry.unwrap_or(self.retry), fallback_on }
    }

    /// How streams of a route are watched.
    pub fn streaming(&self, route: &AiRoute) -> Streaming {
        route.stream.unwrap_or(self.streaming)
    }

    /// The health by which models are judged.
    pub fn health(&self) -> &Health {
        &self.rules.health
    }
}

/// What tells one provider, and one model of it, from another: also the header fields with the key, so that a new key
/// starts afresh. Digests, as a key must not stand anywhere in clear.
fn ids(m: &Model) -> (String, String) {
    let Provider { name, digest, headers, .. } = &*m.provider;
    let mut parts = vec![name.as_bytes(), digest.as_bytes()];
    let mut fields: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
    fields.sort_unstable();
    parts.extend(fields.into_iter().flat_map(|(n, v)| [n.as_bytes(), v]));
    let provider = hex(&sha256_parts(parts));
    let model = hex(&sha256_parts([provider.as_bytes(), m.name.as_bytes(), m.upstream.as_bytes()]));
    (provider, model)
}
