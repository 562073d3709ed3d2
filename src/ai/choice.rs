//! The choice of the models that may answer a prompt.

use super::catalog::{AUTO, Catalog, Model, Provider};
use super::dialect::Dialect;
use super::error::AiError;
use crate::config::ai::{AiRoute, Hedge, Strategy};
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

impl Catalog {
    /// Decides who may answer. The script's model or tier wins over the client's; the client's must be allowed on
    /// the route.
    pub fn choose(&self, asked: &str, script: Option<&str>, route: &AiRoute) -> Result<Choice, AiError> {
        let name = match (script, asked) {
            (Some(name), _) => name,
            (None, AUTO) => route.tier.as_deref().ok_or_else(|| {
                AiError::NoModel(format!("this route has no tier for the model \"auto\"; {}", self.offer(route)))
            })?,
            (None, name) => {
                let allowed = route.models.is_empty() || route.models.iter().any(|m| m == name);
                if !allowed || !self.knows(name) {
                    return Err(self.no_model(name, route));
                }
                name
            }
        };
        let first = self.stage(name).ok_or_else(|| self.no_model(name, route))?;
        let fallback = route.fallback.iter().filter(|t| *t != name).filter_map(|t| self.stage(t)).collect();
        Ok(Choice { name: name.to_owned(), first, fallback })
    }

    /// The models of a tier.
    pub fn tier(&self, name: &str) -> Option<Stage> {
        self.tiers.get(name).cloned()
    }

    /// A model or a tier as one step of a choice.
    pub fn stage(&self, name: &str) -> Option<Stage> {
        let alone = |m: &Arc<Model>| Stage { models: vec![m.clone()], weights: vec![1], ..Stage::default() };
        self.tiers.get(name).cloned().or_else(|| self.models.get(name).map(alone))
    }
}
