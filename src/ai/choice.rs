//! What was decided on: the models that may answer a prompt, step by step.

use super::catalog::{Model, Provider};
use super::dialect::Dialect;
use crate::config::ai::{Hedge, Strategy};
use std::sync::Arc;

/// One step of a choice: models that may answer.
#[derive(Clone, Default)]
pub struct Stage {
    /// The tier they belong to, if any.
    pub tier: Option<String>,
    /// The models, as configured.
    pub models: Vec<Arc<Model>>,
    /// Their weights.
    pub weights: Vec<u32>,
    /// In which order they are asked.
    pub strategy: Strategy,
    /// When a second one is asked beside the first.
    pub hedge: Option<Hedge>,
}

/// What was decided on: the chosen stage first, then the fallbacks.
#[derive(Clone)]
pub struct Choice {
    /// The model's or tier's name.
    pub name: String,
    /// The chosen models.
    pub first: Stage,
    /// Fallback tiers, tried when all of the chosen models fail.
    pub fallback: Vec<Stage>,
}

impl Stage {
    /// Leaves out the models that are not wanted, with their weights.
    pub fn retain(&mut self, wanted: impl Fn(&Arc<Model>) -> bool) {
        let kept = self.models.drain(..).zip(self.weights.drain(..)).filter(|(m, _)| wanted(m));
        let (models, weights) = kept.unzip();
        (self.models, self.weights) = (models, weights);
    }
}

impl Choice {
    /// The name with the models behind it, for cache keys: a tier with other models is another target.
    pub fn fingerprint(&self) -> String {
        let model = |m: &Arc<Model>| {
            let Provider { name, digest, .. } = &*m.provider;
            // What only a translation reads changes only the answers of providers that may need one.
            let asked = match m.provider.dialect {
                Dialect::Openai | Dialect::Completions if m.provider.responses => "/+responses".to_owned(),
                Dialect::Openai | Dialect::Completions => String::new(),
                Dialect::Responses => "/responses".to_owned(),
                Dialect::Gemini => "/gemini".to_owned(),
                Dialect::Bedrock => format!("/bedrock/{:?}", m.thinking),
                Dialect::Anthropic => format!("/anthropic/{}/{:?}", m.max_tokens, m.thinking),
            };
            format!("{:?}={:?}@{name:?}#{digest}{asked}", m.name, m.upstream)
        };
        let models: Vec<String> = self.first.models.iter().map(model).collect();
        format!("{:?}:[{}]", self.name, models.join(","))
    }
}
