//! The section's say in where a prompt goes: the tier that its complexity asks for, and marks for providers' caches.

use super::catalog::AUTO;
use super::prefix::Prefix;
use super::prompt::Prompt;
use super::{AiDirectives, Context, Gateway, bond, score};
use crate::config::ai::{Ai, AiRoute, Auto, CompatHeaders, PromptCache, Sticky};

/// What the section says.
#[derive(Clone, Debug, Default)]
pub struct Steering {
    /// Which tier a prompt gets.
    pub auto: Option<Auto>,
    /// What is kept with its model, unless the route has its own.
    pub sticky: Option<Sticky>,
    /// Whether prefixes are marked, unless the route has its own.
    pub prompt_cache: Option<PromptCache>,
    /// Whose header fields answers bear.
    pub compat: Vec<CompatHeaders>,
}

impl Steering {
    /// What this section says.
    pub fn of(ai: &Ai) -> Steering {
        Steering {
            auto: ai.auto.clone(),
            sticky: ai.sticky,
            prompt_cache: ai.prompt_cache,
            compat: ai.compat_headers.clone(),
        }
    }
}

impl Gateway {
    /// The script's model or tier, or the one that the prompt's complexity asks for, with that complexity.
    pub(super) fn decided<'a>(
        &'a self,
        prompt: &Prompt,
        directives: &'a AiDirectives,
        route: &AiRoute,
    ) -> (Option<&'a str>, Option<f64>) {
        let script = directives.model.as_deref().or(directives.tier.as_deref());
        let left = match script {
            Some(name) => name == AUTO,
            None => prompt.facts.model == AUTO && route.tier.as_deref() == Some(AUTO),
        };
        let Some(auto) = self.steering.auto.as_ref().filter(|_| left) else { return (script, None) };
        let complexity = score::complexity(&prompt.signals());
        (pick(auto, complexity), Some(complexity))
    }

    /// What is to be marked in this prompt, if anything.
    pub(super) fn prefix(&self, prompt: &Prompt, context: &Context) -> Option<Prefix> {
        let rule = context.options.prompt_cache.or(self.steering.prompt_cache).filter(|r| r.auto)?;
        prompt.operation.is_chat().then(|| Prefix { rule, name: bond::prefix_name(prompt, &context.tenant) })
    }
}

fn pick(auto: &Auto, complexity: f64) -> Option<&str> {
    let step = auto.tiers.iter().find(|s| s.below.is_none_or(|below| complexity < below));
    step.or(auto.tiers.last()).map(|s| s.tier.as_str())
}
