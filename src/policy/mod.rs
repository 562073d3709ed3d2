//! The policy brain: a Rhai script whose hooks look at facts and return decisions. Pure, synchronous, bounded.
//!
//! `Policy::load` compiles a script and checks everything that can be checked without a request: names, verbs, arity,
//! patterns. A `Policy` is immutable and shared by all threads; a reload makes a new one. What must wait (embedding,
//! a model, a subrequest) is ordered by the decision and done by the spine.

mod call;
mod check;
pub mod decision;
mod draft;
mod dropped;
mod engine;
pub mod facts;
mod fault;
pub mod hook;
pub mod host;
mod load;
mod survey;

use crate::base::clock::Clock;
use decision::{LogDirectives, OriginResponseDirectives, PromptDecision, RequestDecision, ResponseDirectives};
use draft::Draft;
pub use engine::Limits;
use engine::Sandbox;
use facts::{LogFacts, PromptFacts, RequestFacts, ResponseFacts};
pub use fault::{Failure, PolicyError, PolicyFault};
use hook::{Hook, Hooks};
use host::views::{LogEntry, Prompt, Req, Resp};
use rhai::AST;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Names that a script may mention, as the plan knows them.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Model tiers. When there are neither tiers nor models, no hook can meet a prompt, and neither is checked: the
    /// shipped policy loads in a gateway without an AI section.
    pub tiers: BTreeSet<String>,
    /// Models.
    pub models: BTreeSet<String>,
    /// Sets of guards.
    pub guards: BTreeSet<String>,
    /// Upstreams.
    pub upstreams: BTreeSet<String>,
    /// Auth rules that give claims.
    pub auth: BTreeSet<String>,
}

/// A loaded script.
#[derive(Debug)]
pub struct Policy {
    name: String,
    hooks: Hooks,
    /// Where each hook is defined, as `script:line:column`.
    places: BTreeMap<Hook, String>,
    sandbox: Sandbox,
    ast: AST,
}

impl Policy {
    /// Compiles and checks a script; reports every fault at once. `name` is how faults call the script (its path).
    pub fn load(
        source: &str,
        name: &str,
        names: &Names,
        limits: &Limits,
        clock: &Clock,
    ) -> Result<Policy, Vec<PolicyFault>> {
        load::load(source, name, names, (*limits, clock))
    }

    /// Does the script define this hook? A hook that is not defined costs nothing: do not make facts for it.
    pub fn has(&self, hook: Hook) -> bool {
        self.hooks.has(hook)
    }

    /// The hooks that the script defines.
    pub fn hooks(&self) -> Hooks {
        self.hooks
    }

    /// The script's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// After routing, limits and auth; before any cache.
    pub fn on_request(&self, req: &Arc<RequestFacts>) -> Result<RequestDecision, PolicyError> {
        let decision = self.decide(Hook::OnRequest, || (Req(Arc::clone(req)),))?.into_request();
        req.keep_notes(match &decision {
            RequestDecision::Continue(d) => &d.notes,
            RequestDecision::Refuse(r) => &r.notes,
            RequestDecision::Reply(a) => &a.notes,
        });
        Ok(decision)
    }

    /// One model call, before its caches.
    pub fn on_prompt(&self, req: &Arc<RequestFacts>, prompt: &Arc<PromptFacts>) -> Result<PromptDecision, PolicyError> {
        let args = || (Req(Arc::clone(req)), Prompt(Arc::clone(prompt)));
        let decision = self.decide(Hook::OnPrompt, args)?.into_prompt();
        req.keep_notes(match &decision {
            PromptDecision::Continue(d) => &d.notes,
            PromptDecision::Refuse(r) => &r.notes,
        });
        Ok(decision)
    }

    /// The origin's answer in the form that is stored.
    pub fn on_origin_response(
        &self,
        req: &Arc<RequestFacts>,
        resp: &Arc<ResponseFacts>,
    ) -> Result<OriginResponseDirectives, PolicyError> {
        let args = || (Req(Arc::clone(req)), Resp(Arc::clone(resp)));
        let decision = self.decide(Hook::OnOriginResponse, args)?.into_origin_response();
        req.keep_notes(&decision.notes);
        Ok(decision)
    }

    /// The answer in the form that is sent, cache hits included.
    pub fn on_response(
        &self,
        req: &Arc<RequestFacts>,
        resp: &Arc<ResponseFacts>,
    ) -> Result<ResponseDirectives, PolicyError> {
        let args = || (Req(Arc::clone(req)), Resp(Arc::clone(resp)));
        let decision = self.decide(Hook::OnResponse, args)?.into_response();
        req.keep_notes(&decision.notes);
        Ok(decision)
    }

    /// After the answer, before the access log line.
    pub fn on_log(
        &self,
        req: &Arc<RequestFacts>,
        resp: &Arc<ResponseFacts>,
        entry: &Arc<LogFacts>,
    ) -> Result<LogDirectives, PolicyError> {
        let args = || (Req(Arc::clone(req)), Resp(Arc::clone(resp)), LogEntry(Arc::clone(entry)));
        Ok(self.decide(Hook::OnLog, args)?.into_log())
    }

    /// Calls a hook, if it is defined. A hook that returns nothing decides nothing.
    fn decide<A: rhai::FuncArgs>(&self, hook: Hook, args: impl FnOnce() -> A) -> Result<Draft, PolicyError> {
        if !self.has(hook) {
            return Ok(Draft::default());
        }
        // Rhai drops the position of some errors; the hook's own is better than none.
        let place = || self.places.get(&hook).unwrap_or(&self.name).clone();
        let value = self.sandbox.call(&self.name, &self.ast, hook, args()).map_err(|mut e| {
            if e.place == self.name {
                e.place = place();
            }
            e
        })?;
        let value = value.flatten();
        if value.is_unit() {
            return Ok(Draft::default());
        }
        let what = self.sandbox.engine.map_type_name(value.type_name()).to_owned();
        value.try_cast::<Draft>().ok_or_else(|| PolicyError {
            failure: Failure::BadReturn,
            hook,
            place: place(),
            message: format!("returned {what}, not a decision such as next()"),
        })
    }
}

#[cfg(test)]
mod tests;
