//! Which caches take part in a call, decided once before anything is asked.

use super::call::CacheOutcome;
use super::catalog::Choice;
use super::collapse::InFlight;
use super::error::AiError;
use super::exact::{ExactCache, Stored};
use super::filings::Filings;
use super::guard::Guarded;
use super::headers::{CacheMode, ClientWish};
use super::key::{self, Key, Scope};
use super::prompt::Prompt;
use super::provider;
use super::seam::{Query, SemanticLookup, unfit};
use super::{AiDirectives, AnswerCache, Context, Semantic};
use crate::base::ids::{hex, sha256_parts};
use std::sync::Arc;
use std::time::Duration;

/// The part that the caches play in a call.
pub struct CachePlan {
    /// The request's key, unless no cache takes part.
    pub key: Option<Key>,
    /// The semantic cache and what to ask it, or under which question to file the answer of a refresh.
    pub semantic: Option<(Arc<dyn SemanticLookup>, Query)>,
    /// The calls in flight to join.
    pub collapse: Option<(Arc<InFlight>, Key)>,
    /// Where filings of the answer are counted.
    pub filings: Filings,
    /// The client wants a fresh answer: nothing stored is served, but the answer replaces what is stored.
    pub refresh: bool,
    /// What the record says unless a cache answers.
    pub outcome: CacheOutcome,
    /// Why a cache takes no part; empty otherwise.
    pub reason: &'static str,
    exact: Option<Arc<ExactCache>>,
    ttl: Option<Duration>,
}

impl CachePlan {
    /// Decides from the route's cache, the script's directives and the client's wish, the narrowest of which wins.
    pub fn make(
        prompt: &Prompt,
        directives: &AiDirectives,
        context: &Context,
        (choice, guarded): (&Choice, Option<&Guarded>),
        cache: Option<&Arc<AnswerCache>>,
    ) -> Result<CachePlan, AiError> {
        let wish = ClientWish::read(&context.headers)?;
        let Some(cache) = cache else { return Ok(CachePlan::bypass("no_cache")) };
        if prompt.operation.is_count() {
            return Ok(CachePlan::bypass("count_tokens"));
        }
        if prompt.dialect.wire().is_stateful(&prompt.fields) {
            return Ok(CachePlan::bypass("stateful"));
        }
        let script = directives.cache.unwrap_or(CacheMode::Semantic);
        let client = wish.at_most.unwrap_or(CacheMode::Semantic);
        if script == CacheMode::None {
            return Ok(CachePlan::bypass("policy"));
        }
        if client == CacheMode::None {
            return Ok(CachePlan::bypass("client"));
        }
        let (fingerprint, beta) = (choice.fingerprint(), provider::beta(&context.headers));
        // What was answered under other guards was not looked at by these.
        let rules = guarded.map_or_else(|| context.policy.clone(), |g| format!("{}+{}", context.policy, g.digest()));
        let scope =
            Scope { tenant: &context.tenant, route: &context.route, policy: &rules, target: &fingerprint, beta: &beta };
        let key = key::exact(prompt, &scope);
        let mut plan = CachePlan::bypass("");
        plan.outcome = if wish.refresh { CacheOutcome::Refresh } else { CacheOutcome::Miss };
        (plan.key, plan.exact, plan.ttl, plan.refresh) = (Some(key), cache.exact.clone(), directives.ttl, wish.refresh);
        plan.filings = cache.in_flight.filings.clone();
        plan.collapse = (!wish.refresh).then(|| (cache.in_flight.clone(), key));
        let wanted = script.min(client) == CacheMode::Semantic && prompt.operation.is_chat();
        match cache
            .semantic
            .as_ref()
            .filter(|_| wanted)
            .map(|s| (s, unfit(prompt).or_else(|| guarded.and_then(Guarded::unfit))))
        {
            Some((_, Some(reason))) => plan.reason = reason,
            Some((semantic, None)) => {
                let query = query(prompt, directives, &scope, semantic);
                plan.semantic = Some((semantic.cache.clone(), Query { model: choice.name.clone(), ..query }));
            }
            None => {}
        }
        Ok(plan)
    }

    fn bypass(reason: &'static str) -> CachePlan {
        CachePlan {
            key: None,
            semantic: None,
            collapse: None,
            filings: Filings::default(),
            outcome: CacheOutcome::Bypass,
            reason,
            exact: None,
            refresh: false,
            ttl: None,
        }
    }

    /// The stored answer to an equal request, with its age.
    pub fn exact_for_reading(&self) -> Option<(Arc<Stored>, Duration)> {
        if self.refresh {
            return None;
        }
        self.exact.as_ref()?.get(self.key.as_ref()?)
    }

    /// Where the exact cache wants the answer.
    pub fn place(&self) -> Option<(Key, Arc<ExactCache>, Option<Duration>)> {
        Some((self.key?, self.exact.clone()?, self.ttl))
    }
}

fn query(prompt: &Prompt, directives: &AiDirectives, scope: &Scope<'_>, semantic: &Semantic) -> Query {
    let tenant = if semantic.tenants_share { "" } else { scope.tenant };
    let scope = Scope { tenant, ..scope.clone() };
    Query {
        partition: key::partition(prompt, &scope),
        tenant: hex(&sha256_parts([tenant.as_bytes()])),
        model: String::new(),
        text: prompt.facts.text.clone(),
        // A script may ask for more similarity than the operator configured, never for less.
        threshold: directives.threshold.map_or(semantic.threshold, |t| t.max(semantic.threshold)),
        ttl: directives.ttl.unwrap_or(semantic.ttl),
    }
}
